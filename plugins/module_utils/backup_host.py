# SPDX-License-Identifier: Apache-2.0
"""What a host with a backup agent looks like: files, units, timers. Pure; the module backup_agent carries it out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils import canary, notice_host, restic_program, stamp
from ansible_collections.holdfast.practice.plugins.module_utils.agent_host import EXIT_DEFERRED
from ansible_collections.holdfast.practice.plugins.module_utils.agent_job import ITEM, NAME, SCHEMA, faults_of
from ansible_collections.holdfast.practice.plugins.module_utils.agent_repository import CREDENTIALS, pin_name
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import Database
from ansible_collections.holdfast.practice.plugins.module_utils.engines import ENGINES
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Dir, File, Unit, Wanted

ETC, LIB, STATE, CACHE = "/etc/holdfast", "/usr/lib/holdfast", "/var/lib/holdfast", "/var/cache/holdfast"
UNITS = "/etc/systemd/system"
PACKAGE = "holdfast_agent"
# folders of the agent's state that hold JOB.json
KEPT = ("status", "oracle", "cache", "running", "tripwires", "deferred", "unclean")
SERVICE = f"{UNITS}/holdfast-backup@.service"
SETTLE = f"{UNITS}/holdfast-settle@.service"
RESUME = "holdfast-resume.service"
ENGINE_CREDENTIALS = sorted({name for engine in ENGINES.values() for name in engine.credentials})
WATCHER = notice_host.Watcher(
    unit="holdfast-watch",
    title="Holdfast: tell by mail what became of the backups",
    owner="backup_agent",
    etc=ETC,
    credential=f"{ETC}/credentials/mail-password",
    command=f"{LIB}/agent watch",
    state="holdfast",
    runtime="holdfast",
    capabilities="",
)
# after a run that ended well, and after the one of settle, which writes the record of one that did not
WATCHED = {"holdfast-backup@": "OnSuccess={0}", "holdfast-settle@": "OnSuccess={0}\nOnFailure={0}"}
_TIMER = re.compile(rf"holdfast-backup@({NAME.pattern})\.timer")
_DROP_IN = re.compile(rf"holdfast-backup@({NAME.pattern})\.service\.d")
_JOB = re.compile(rf"({NAME.pattern})\.json")
_PIN = re.compile(rf"repository\.({ITEM.pattern})\.json")

LAUNCHER = f"""\
#!/usr/bin/python3 -IB
# Holdfast backup agent. Managed by Ansible.
import os
import sys

os.umask(0o077)
# a run would take longer to read the program than to find that no file changed
sys.dont_write_bytecode, sys.pycache_prefix = False, "{CACHE}/bytecode"
sys.path.insert(0, "{LIB}")
from {PACKAGE}.agent import main

sys.exit(main(sys.argv[1:]))
"""
COMMAND = "/usr/local/sbin/holdfast-agent"
COMMAND_TEXT = LAUNCHER.replace("agent import main", "agent_people import people").replace("main(", "people(")

# What the agent may do: read every file, become the database's user, end what it started, talk to the NAS.
# KillMode=mixed: the agent ends its children itself and still writes its record.
SERVICE_TEXT = f"""\
# Managed by Ansible (holdfast.practice.backup_agent)
[Unit]
Description=Holdfast backup of %i
Wants=network-online.target
After=network-online.target time-sync.target postgresql.service mariadb.service firebird4.0.service
OnFailure=holdfast-settle@%i.service
# a person who tries again after a failure is not to be refused for trying often
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={LIB}/agent run %i
# the time limit counts from the moment at which the job's turn has come
NotifyAccess=main
# deferred is no failure: OnFailure= stays quiet, and whoever waits for the start goes on waiting
Restart=no
RestartForceExitStatus={EXIT_DEFERRED}
RestartSec=60
RestartMode=direct
SyslogIdentifier=holdfast-backup
LoadCredential=repository-password:{ETC}/credentials/repository-password
LoadCredential=rest-username:{ETC}/credentials/rest-username
LoadCredential=rest-password:{ETC}/credentials/rest-password
KillMode=mixed
TimeoutStopSec=60
UMask=0077
Nice=15
CPUWeight=20
IOWeight=20
IOSchedulingClass=best-effort
IOSchedulingPriority=7
StateDirectory=holdfast
StateDirectoryMode=0700
CacheDirectory=holdfast
CacheDirectoryMode=0700
RuntimeDirectory=holdfast
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_SETUID CAP_SETGID CAP_KILL
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""

# A unit of its own and not ExecStopPost: what kills a whole service kills that with it, and no record is written.
SETTLE_TEXT = f"""\
# Managed by Ansible (holdfast.practice.backup_agent)
[Unit]
Description=Holdfast: record of a backup of %i that was killed
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={LIB}/agent settle %i
SyslogIdentifier=holdfast-backup
UMask=0077
RuntimeDirectory=holdfast
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={STATE}
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
"""

RESUME_TEXT = f"""\
# Managed by Ansible (holdfast.practice.backup_agent)
[Unit]
Description=Holdfast: start again the backups that the last shutdown cut off

[Service]
Type=oneshot
ExecStart={LIB}/agent resume
SyslogIdentifier=holdfast-backup
UMask=0077
RuntimeDirectory=holdfast
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={STATE}
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX

[Install]
WantedBy=multi-user.target
"""


BOOT = f"{UNITS}/holdfast-boot.service"
# Early, and so stopped late: after the databases have been.
BOOT_TEXT = f"""\
# Managed by Ansible (holdfast.practice.backup_agent)
[Unit]
Description=Holdfast: was this machine stopped in good order
DefaultDependencies=no
RequiresMountsFor={STATE}
After=local-fs.target systemd-remount-fs.service
Before=basic.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={LIB}/agent booted
ExecStop={LIB}/agent stopping
SyslogIdentifier=holdfast-backup
UMask=0077
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={STATE}
ProtectHome=yes
PrivateDevices=yes
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX

[Install]
WantedBy=basic.target
"""


class BackupHostError(Exception):
    """The wanted state makes no sense; the text lists every fault."""


def calendars(job: Mapping[str, Any], timezone: str) -> list[str]:
    """OnCalendar expressions of a job; the practice's time zone is added where an expression names none."""
    zone = re.compile(r".* (UTC|[A-Z][A-Za-z_]+/[A-Za-z_/+-]+)")
    return [text if zone.fullmatch(text) else f"{text} {timezone}" for text in job["calendar"]]


def pin_file(store: str = "") -> str:
    """Where the repository of a store is pinned; of the one in the house without a name."""
    return f"{ETC}/{pin_name(store)}"


def stores_found(names: Iterable[str]) -> list[str]:
    """Stores of copies that a host has something of, from the names of files in /etc/holdfast."""
    return sorted(m.group(1) for name in names for m in [_PIN.fullmatch(name)] if m)


def job_content(
    job: Mapping[str, Any],
    practice: str,
    host: str,
    repository: Mapping[str, str],
    stores: Mapping[str, Mapping[str, Any]],
    timezone: str,
) -> dict[str, Any]:
    """A job as the agent reads it: the entry without what was not given, and who it belongs to."""
    if job.get("copy"):
        to = str(job["copy"]["to"])
        if to not in stores:
            raise BackupHostError(
                f"job {job.get('name')}: copy.to {to!r}: expected one of the copies: {', '.join(stores) or 'there are none'}"
            )
        job = {**job, "copy": {**job["copy"], "from": repository["url"]}}
        for key in ("paths", "exclude", "must_have", "min_files"):
            job.pop(key, None)
        repository = stores[to]
    return {
        **_given(job),
        "schema": SCHEMA,
        "practice": practice,
        "host": host,
        "timezone": timezone,
        "repository": {"url": repository["url"], "username": repository["username"]},
    }


def _given(value: Any) -> Any:
    """Without the keys that are None: options that nobody set."""
    return {k: _given(v) for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value


def check_jobs(jobs: Sequence[Mapping[str, Any]]) -> None:
    """Raise BackupHostError with every fault of every job."""
    names = [str(job.get("name")) for job in jobs]
    faults = [f"job {name}: named twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for job in jobs:
        faults += [f"job {job.get('name')}: {fault}" for fault in faults_of(job)]
        if not job.get("calendar"):
            faults.append(f"job {job.get('name')}: calendar is empty, it would never run")
    if faults:
        raise BackupHostError("; ".join(faults))


def timer_text(job: Mapping[str, Any], timezone: str) -> str:
    """Timer of a job. The delay is spread over hosts and stays the same for each; a missed run is caught up."""
    lines = [
        "# Managed by Ansible (holdfast.practice.backup_agent)",
        "[Unit]",
        f"Description=Holdfast: when to back up {job['name']}",
        "",
        "[Timer]",
        *(f"OnCalendar={text}" for text in calendars(job, timezone)),
        "Persistent=true",
        f"RandomizedDelaySec={int(job.get('spread_s') or 0)}",
        "FixedRandomDelay=true",
        "AccuracySec=1min",
        "",
        "[Install]",
        "WantedBy=timers.target",
        "",
    ]
    return "\n".join(lines)


def limit_text(job: Mapping[str, Any]) -> str:
    """Drop-in with what is this job's own: its time limit, its priority, and what its database needs."""
    limit = int(job.get("time_limit_s") or 0)
    lines = [
        "# Managed by Ansible (holdfast.practice.backup_agent)",
        "[Service]",
        f"TimeoutStartSec={limit or 'infinity'}",
    ]
    if job.get("copy"):
        lines += [_load(f"{job['copy']['to']}.{name}") for name in CREDENTIALS]
    lines += [f"Nice={int(job['nice'])}"] if job.get("nice") is not None else []
    lines += [f"IOSchedulingClass={job['io_class']}"] if job.get("io_class") else []
    database = job.get("database")
    if database:
        found = Database(database["engine"], database.get("name"), database.get("path"))
        needed = ENGINES[found.engine].credentials
        lines += [_load(name) for name in needed]
        lines += [f"ReadWritePaths={unit_quoted('-' + path)}" for path in ENGINES[found.engine].writable(found)]
    return "\n".join(lines) + "\n"


def _load(name: str) -> str:
    return f"LoadCredential={name}:{ETC}/credentials/{name}"


def unit_quoted(text: str) -> str:
    """One word of a systemd unit: quoted, without its specifiers."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def pin_text(repository_id: str) -> str:
    """Content of the file that pins the repository."""
    return json.dumps({"id": repository_id}) + "\n"


def jobs_found(job_files: Iterable[str], unit_files: Iterable[str]) -> list[str]:
    """Names of jobs that a host has something of, from the names of files in the two folders."""
    found = {m.group(1) for name in job_files for m in [_JOB.fullmatch(name)] if m}
    for name in unit_files:
        match = _TIMER.fullmatch(name) or _DROP_IN.fullmatch(name)
        if match:
            found.add(match.group(1))
    return sorted(found)


def stale(program: Iterable[str], found: Iterable[str]) -> list[File]:
    """Files of an earlier version of the agent. found: names in its folder."""
    return [File(f"{LIB}/{PACKAGE}/{name}", None) for name in sorted(set(found) - set(program)) if name.endswith(".py")]


@dataclass(frozen=True)
class Place:
    """Where a canary lies or is to lie. content: None when there is nothing; owner, group: of its folder, None without one."""

    content: bytes | None
    owner: str | None
    group: str | None
    seen: bool = False


def canaries_of(jobs: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """Canaries that job files ask for: {path: content}."""
    return {
        path: canary.content(job["practice"], job["host"], path)
        for job in jobs
        for path in (job.get("tripwires") or {}).get("canaries") or ()
    }


def plan_canaries(
    want: Mapping[str, bytes], old: Mapping[str, bytes], found: Mapping[str, Place]
) -> tuple[list[File], list[str]]:
    """Canaries to lay and to take away, and what has to be told.

    old: what the jobs on the host asked for until now. found: every path of both. A canary that an agent has seen and
    that is not as it was is evidence: it is left until a person clears it. Nothing that is not ours is written over.
    """
    files: list[File] = []
    told: list[str] = []
    for path, content in want.items():
        place = found[path]
        if place.content == content:
            continue
        if place.seen:
            how = "missing" if place.content is None else "changed"
            told.append(
                f"{path}: this canary is {how}; it is left so until somebody has looked: holdfast-agent clear JOB"
            )
        elif place.content is not None:
            text = "there is another file where a canary is to be; move it away, or name another path in tripwires.canaries"
            raise BackupHostError(f"{path}: {text}")
        elif place.owner is None or place.group is None:
            told.append(f"{path}: there is no such folder yet, so no canary is laid; run again when there is")
        else:
            files.append(File(path, content, 0o644, place.owner, place.group))
    for path, content in old.items():
        place = found[path]
        if path not in want and place.content == content:
            files.append(File(path, None))
        elif path not in want and place.content is not None:
            told.append(f"{path}: this canary is not needed any more, and left there because it was changed")
    return files, told


def _drop_in(name: str) -> str:
    return f"{UNITS}/holdfast-backup@{name}.service.d"


def wanted(
    practice: str,
    host: str,
    timezone: str,
    repository: Mapping[str, str],
    secrets: Mapping[str, str],
    jobs: Sequence[Mapping[str, Any]],
    program: Mapping[str, str],
    repository_id: str,
    found_jobs: Sequence[str],
    stores: Mapping[str, Mapping[str, Any]],
    found_stores: Sequence[str],
    own_restic: Sequence[File] = (),
    watch: Wanted = Wanted(),  # noqa: B008 - frozen
) -> Wanted:
    """The whole domain.

    repository: url, username, certificate (PEM). secrets: repository-password, rest-password, of engines. program: {file name:
    text}.
    found_jobs: names that the host has something of; those that are not wanted are removed. stores: of copies, {name: {url,
    username, certificate, secrets, id (None while it is not known)}}. found_stores: as found_jobs. watch:
    what watched() or unwatched() gives.
    """
    names = [str(job["name"]) for job in jobs]
    dirs: list[Dir] = [
        stamp.folder(),
        Dir(f"{ETC}/jobs", 0o700),
        Dir(f"{ETC}/credentials", 0o700),
        Dir(LIB, 0o755),
        Dir(f"{LIB}/{PACKAGE}", 0o755),
        Dir(STATE, 0o700),
        *(Dir(_drop_in(name), 0o755) for name in names),
    ]
    credentials = {**dict.fromkeys(ENGINE_CREDENTIALS), **secrets, "rest-username": repository["username"]}
    files: list[File] = [
        stamp.wanted(practice, host),
        File(f"{ETC}/nas.pem", repository["certificate"].strip().encode() + b"\n", 0o644),
        *(
            File(f"{ETC}/credentials/{name}", None if value is None else value.encode() + b"\n", 0o600, secret=True)
            for name, value in sorted(credentials.items())
        ),
        File(pin_file(), pin_text(repository_id).encode(), 0o600),
        *(file for name, store in stores.items() for file in _store_files(name, store)),
        *(file for name in found_stores if name not in stores for file in _store_gone(name)),
        File(f"{LIB}/agent", LAUNCHER.encode(), 0o755),
        File(COMMAND, COMMAND_TEXT.encode(), 0o755),
        *(own_restic or restic_program.gone()),
        *(File(f"{LIB}/{PACKAGE}/{name}", text.encode(), 0o644) for name, text in sorted(program.items())),
        File(SERVICE, SERVICE_TEXT.encode(), 0o644),
        File(SETTLE, SETTLE_TEXT.encode(), 0o644),
        File(f"{UNITS}/{RESUME}", RESUME_TEXT.encode(), 0o644),
        File(BOOT, BOOT_TEXT.encode(), 0o644),
    ]
    # RESUME runs at boot, and only then
    units = [Unit(RESUME, True, None), Unit("holdfast-boot.service", True, True, (BOOT,))]
    for job in jobs:
        content = job_content(job, practice, host, repository, stores, timezone)
        timer = f"{UNITS}/holdfast-backup@{job['name']}.timer"
        files += [
            File(f"{ETC}/jobs/{job['name']}.json", _pretty(content), 0o600),
            File(f"{_drop_in(job['name'])}/limit.conf", limit_text(job).encode(), 0o644),
            File(timer, timer_text(job, timezone).encode(), 0o644),
        ]
        units.append(Unit(f"holdfast-backup@{job['name']}.timer", True, True, (timer,)))
    gone = _without([name for name in found_jobs if name not in names])
    return Wanted(
        [*dirs, *gone.dirs, *watch.dirs], [*files, *gone.files, *watch.files], [*units, *gone.units, *watch.units]
    )


def _watch_drop_in(template: str) -> str:
    return f"{UNITS}/{template}.service.d"


def watched(mail: Mapping[str, Any], practice: str, host: str, timezone: str, password: str | None) -> Wanted:
    """The watch over the jobs: settings of mail, its unit and timer, and its start after every run. Raises NoticeError."""
    own = notice_host.wanted(WATCHER, mail, practice, host, timezone, password)
    head = "# Managed by Ansible (holdfast.practice.backup_agent)\n[Unit]\n"
    texts = {name: head + text.format(f"{WATCHER.unit}.service") + "\n" for name, text in WATCHED.items()}
    dirs = [Dir(_watch_drop_in(name), 0o755) for name in WATCHED]
    files = [File(f"{_watch_drop_in(name)}/watch.conf", text.encode(), 0o644) for name, text in texts.items()]
    return Wanted(dirs, [*own.files, *files], own.units)


def unwatched() -> Wanted:
    """The same, gone."""
    own = notice_host.unwanted(WATCHER, f"{STATE}/notices/memory.json")
    files = [File(f"{_watch_drop_in(name)}/watch.conf", None) for name in WATCHED]
    return Wanted(
        [*own.dirs, *(Dir(_watch_drop_in(name), absent=True) for name in WATCHED)], [*own.files, *files], own.units
    )


def _store_files(name: str, store: Mapping[str, Any]) -> list[File]:
    secrets = {**store["secrets"], "rest-username": store["username"]}
    pin = [File(pin_file(name), pin_text(store["id"]).encode(), 0o600)] if store["id"] else []
    return [
        File(f"{ETC}/{name}.pem", store["certificate"].strip().encode() + b"\n", 0o644),
        *(
            File(f"{ETC}/credentials/{name}.{key}", value.encode() + b"\n", 0o600, secret=True)
            for key, value in sorted(secrets.items())
        ),
        *pin,
    ]


def _store_gone(name: str) -> list[File]:
    return [
        File(f"{ETC}/{name}.pem", None),
        *(File(f"{ETC}/credentials/{name}.{key}", None, secret=True) for key in CREDENTIALS),
        File(pin_file(name), None),
    ]


def unwanted(found_jobs: Sequence[str], program: Iterable[str], found_stores: Sequence[str]) -> Wanted:
    """The domain when the agent is to go. The stamp stays (others may live here), and so does the repository."""
    gone = _without(found_jobs)
    watch = unwatched()
    files: list[File] = [
        *gone.files,
        *watch.files,
        *(File(f"{ETC}/credentials/{name}", None, secret=True) for name in (*CREDENTIALS, *ENGINE_CREDENTIALS)),
        *(file for name in found_stores for file in _store_gone(name)),
        File(f"{ETC}/nas.pem", None),
        File(pin_file(), None),
        File(f"{STATE}/repositories.json", None),
        File(SERVICE, None),
        File(SETTLE, None),
        File(f"{UNITS}/{RESUME}", None),
        File(BOOT, None),
        File(f"{STATE}/boot.json", None),
        File(f"{LIB}/agent", None),
        File(COMMAND, None),
        *restic_program.gone(),
        *(File(f"{LIB}/{PACKAGE}/{name}", None) for name in sorted(program)),
    ]
    dirs: list[Dir] = [
        *(Dir(path, absent=True) for path in (f"{ETC}/jobs", f"{ETC}/credentials", LIB, f"{LIB}/{PACKAGE}", STATE)),
        *(Dir(f"{STATE}/{name}", absent=True) for name in KEPT),
        *gone.dirs,
        *watch.dirs,
    ]
    boot = Unit("holdfast-boot.service", False, False)
    return Wanted(dirs, files, [Unit(RESUME, False, False), *gone.units, *watch.units, boot])


def _without(names: Sequence[str]) -> Wanted:
    """Everything of these jobs, absent. A run under way is stopped."""
    dirs: list[Dir] = []
    files: list[File] = []
    units: list[Unit] = []
    for name in names:
        timer = f"holdfast-backup@{name}.timer"
        units += [
            Unit(f"holdfast-backup@{name}.service", None, False),
            Unit(timer, False, False),
        ]
        files += [
            File(f"{ETC}/jobs/{name}.json", None),
            File(f"{_drop_in(name)}/limit.conf", None),
            File(f"{UNITS}/{timer}", None),
            File(f"/var/lib/systemd/timers/stamp-{timer}", None),
            *(File(f"{STATE}/{folder}/{name}.json", None, secret=True) for folder in KEPT),
        ]
        dirs.append(Dir(_drop_in(name), absent=True))
    return Wanted(dirs, files, units)


def _pretty(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=True, indent=1, sort_keys=True) + "\n").encode("ascii")
