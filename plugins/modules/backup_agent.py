#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: backup_agent
short_description: Own the backup agent of a host
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
description:
  - Puts the agent program, its jobs, credentials, pinned certificate, service and one timer for each job on a host.
  - Jobs that are not listed any more are removed; a run of theirs that is under way is stopped.
  - Creates the host's repository once, and pins its id. A pinned repository that vanished or became another one is
    refused, never replaced.
  - Asks the NAS for its certificate, the account and the repository before anything is written, so that a mistake
    leaves the host as it was.
  - Gives the agent an account of its own in MariaDB and PostgreSQL where a job needs one, with the right to read and without
    a password (unix_socket, peer), and takes it away when none does. In PostgreSQL (14 or later) it is no superuser
    and can change nothing.
  - Gives it one in Firebird likewise, with a password that is made on the host and stays there, and a role in each database
    that is backed up.
  - Refuses a host that carries another practice's stamp.
attributes:
  check_mode:
    description: Reports what would change without touching the host. A NAS that does not answer yet is a warning.
    support: full
  diff_mode:
    description: Shows files and steps; credentials are hidden.
    support: full
options:
  practice:
    description: Id of the practice that the host belongs to.
    type: str
    required: true
  host:
    description: Name of the host in the practice document.
    type: str
    required: true
  timezone:
    description: Time zone of calendar expressions that name none.
    type: str
    default: UTC
  repository:
    description: Where the host's repository is. Required to be present.
    type: dict
    suboptions:
      url:
        description: Address, as V(rest:https://ADDRESS:PORT/ACCOUNT/).
        type: str
        required: true
      username:
        description: The host's account on the NAS.
        type: str
        required: true
      certificate:
        description: The certificate of the NAS in PEM form; it is pinned.
        type: str
        required: true
  repository_password:
    description: Password that encrypts the repository. The NAS never sees it. Required to be present.
    type: str
  rest_password:
    description: Password of the host's account on the NAS. Required to be present.
    type: str
  restic_sha256:
    description:
      - The sha256 of V(/usr/lib/holdfast/restic.source), a restic as it was shipped (the program, or its bz2), that the role put
        there. It is checked, unpacked, asked for its version and put in place as V(/usr/lib/holdfast/restic), which the
        agent uses before the distribution's.
      - Left out, the distribution's is used, and what was put in place before goes.
    type: str
  jobs:
    description: What to back up and when.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the job, part of the names of its units.
        type: str
        required: true
      item:
        description: Name of the protected item in the practice document.
        type: str
        required: true
      class:
        description: How much the item matters; recorded only.
        type: str
      calendar:
        description: When to run, as systemd calendar expressions.
        type: list
        elements: str
        required: true
      spread_s:
        description: Start at a moment within so many seconds, always the same one on this host.
        type: int
        default: 0
      time_limit_s:
        description: Stop a run after so many seconds; V(0) is no limit.
        type: int
        default: 0
      deadline_s:
        description:
          - So many seconds after its last good run a job counts as late, and is told by mail; V(0) is never.
          - Needs O(mail).
        type: int
        default: 0
      database:
        description: A database to dump, with what to note about it.
        type: dict
        suboptions:
          engine:
            description: Its engine.
            type: str
            choices: [postgresql, mariadb, sqlite, firebird, command, pickup]
            required: true
          name:
            description: Its name, for V(postgresql) and V(mariadb).
            type: str
          path:
            description: Its file, for V(sqlite) and V(firebird); the folder of its backup files, for V(pickup).
            type: str
          dump:
            description:
              - For V(command), program (an absolute path) and arguments that write a dump to standard output.
              - It is kept when it ends with 0 and has written something. What it says on standard error goes to the journal.
            type: list
            elements: str
          user:
            description: For V(command), the user without privileges that it runs as; V(holdfast) when left out.
            type: str
          end_marker:
            description: For V(command), how the last line of a whole dump begins.
            type: str
          pattern:
            description: For V(pickup), which files in O(jobs[].database.path) are backups, such as V(*.bak).
            type: str
          max_age_s:
            description: For V(pickup), how old the newest file may be; a day and two hours when left out.
            type: int
          min_size:
            description: For V(pickup), fewest bytes of the newest file.
            type: int
          wait_s:
            description: For V(pickup), how long to wait for a file that is still being written; ten minutes when left out.
            type: int
          check:
            description: For V(command) and V(pickup), what tries a restored dump in a proof, V({dump}) being its path.
            type: list
            elements: str
          images:
            description: Image files that the database lists; they are backed up with it.
            type: dict
            suboptions:
              query:
                description: SELECT of one column with their paths, absolute or below O(jobs[].database.images.root).
                type: str
                required: true
              root:
                description: Folder that holds them.
                type: str
                required: true
          probes:
            description: Name and SELECT of a single value, such as the newest entry.
            type: dict
            default: {}
      paths:
        description: Folders and files to back up.
        type: list
        elements: str
        default: []
      exclude:
        description: Patterns to leave out, as restic reads them.
        type: list
        elements: str
        default: []
      must_have:
        description: Files and folders without which a backup is refused; a folder must not be empty.
        type: list
        elements: str
        default: []
      min_files:
        description: Fewest files of O(jobs[].paths) that make a backup.
        type: int
        default: 1
      hooks:
        description:
          - Programs that run before the backup, after it, and when it failed; outside of the agent's sandbox, as their user.
          - The environment has E(HOLDFAST_JOB), E(HOLDFAST_PRACTICE), E(HOLDFAST_HOST), E(HOLDFAST_RUN) and E(HOLDFAST_STATE).
        type: dict
        suboptions:
          before:
            description: Where it fails, nothing is backed up.
            type: dict
            suboptions:
              run:
                description: A program by its absolute path, and its arguments. No shell.
                type: list
                elements: str
                required: true
              limit_s:
                description: It is ended, with all that it started, after so many seconds.
                type: int
                default: 300
              user:
                description: The user whom it runs as.
                type: str
                default: root
          after:
            description: Runs whenever before has, also after a stop.
            type: dict
            suboptions:
              run:
                description: A program by its absolute path, and its arguments. No shell.
                type: list
                elements: str
                required: true
              limit_s:
                description: It is ended, with all that it started, after so many seconds.
                type: int
                default: 300
              user:
                description: The user whom it runs as.
                type: str
                default: root
          on_failure:
            description: Runs when the run FAILED.
            type: dict
            suboptions:
              run:
                description: A program by its absolute path, and its arguments. No shell.
                type: list
                elements: str
                required: true
              limit_s:
                description: It is ended, with all that it started, after so many seconds.
                type: int
                default: 300
              user:
                description: The user whom it runs as.
                type: str
                default: root
      power:
        description: The UPSs that feed this host. While mains are out no run begins, and one under way is ended and begun again.
        type: dict
        suboptions:
          monitors:
            description: Each as V(UPS@ADDRESS), or V(UPS@ADDRESS:PORT).
            type: list
            elements: str
            required: true
          min_supplies:
            description: How many of them the host needs to run.
            type: int
            default: 1
      min_size:
        description: Fewest bytes of O(jobs[].paths), or of the database's dump, that make a backup.
        type: int
        default: 0
      mounts:
        description:
          - Paths that must be mount points, before anything is read and at the end.
          - Left out, those that the job's data lay on at its last good run must be there again.
        type: list
        elements: str
      window:
        description: When the job may run, as V(20:00-06:00) in O(timezone). A start outside of it waits until it opens.
        type: str
      at_window_end:
        description: What happens to a run that is not through when the window ends. V(stop) is meant when it is left out.
        type: str
        choices: [stop, throttle]
      throttle:
        description: Bits a second that a run may send after the end of its window, with O(jobs[].at_window_end=throttle).
        type: int
      limits:
        description: 'Bits a second by time of day, as V({"08:00-18:00": 2000000}); the lowest that is in force counts.'
        type: dict
      dump_limit_s:
        description: Stop a dump that takes longer; 0 is no limit of its own.
        type: int
        default: 0
      nice:
        description: The job's priority, 0 to 19; 15 when left out.
        type: int
      io_class:
        description: How the job's reading and writing is scheduled; V(best-effort) when left out.
        type: str
        choices: [best-effort, idle]
      stay_awake:
        description: Keep the machine from falling asleep during a run, where logind is there.
        type: bool
        default: false
      copy:
        description:
          - Copy the runs of another job into one of O(copies) instead of backing up anything.
          - The job's name is that of the other job, a dot and that of the copy, as in C(documents.offsite).
        type: dict
        suboptions:
          of:
            description: The job whose runs are copied.
            type: str
            required: true
          to:
            description: The name of one of O(copies).
            type: str
            required: true
      tripwires:
        description:
          - What makes a run suspect of harmful software. It is stored, held and INCOMPLETE until C(holdfast-agent clear).
          - Shares are in percent of the new or changed files that a wire judges, O(jobs[].tripwires.change) of all files.
        type: dict
        suboptions:
          canaries:
            description:
              - PDF files of our own to lay, each below one of O(jobs[].paths). A missing or changed one makes a run suspect.
              - Never written over what is not ours, nor over one that was changed. Taken away again when unchanged.
            type: list
            elements: str
            default: []
          disable:
            description: Wires to switch off.
            type: list
            elements: str
            choices: [canary, magic, change, rename, entropy]
            default: []
          least:
            description: Fewest files that raise a wire.
            type: int
            default: 10
          magic:
            description: Files of a known type that do not begin as it does.
            type: int
            default: 20
          entropy:
            description: Text files that look random.
            type: int
            default: 20
          rename:
            description: Files that went and came back with other content and an unknown ending.
            type: int
            default: 20
          change:
            description: Files that changed or went, where what came in their place looks spoilt.
            type: int
            default: 30
  copies:
    description:
      - Further repositories of this host, such as one in another place. Each gets its own credentials, certificate and pin.
      - Where the server of one does not answer, a warning says so and everything else is done.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the copy is called.
        type: str
        required: true
      url:
        description: Address as restic writes it, C(rest:https://ADDRESS:PORT/ACCOUNT/).
        type: str
        required: true
      username:
        description: Account on that server.
        type: str
        required: true
      certificate:
        description: The server's certificate (PEM); no other is accepted.
        type: str
        required: true
      repository_password:
        description: Password that encrypts this repository.
        type: str
        required: true
      rest_password:
        description: Password of the account.
        type: str
        required: true
  mail:
    description:
      - How the host tells by mail of jobs that are not OK or late. Left out, it tells nobody, and nothing of it is there.
      - TLS comes first and the certificate is always verified; no login and no mail without both.
    type: dict
    suboptions:
      practice_name:
        description: Name of the practice, for the mail's subject.
        type: str
        required: true
      relay:
        description: Address of the mail server.
        type: str
        required: true
      port:
        description: Its port.
        type: int
        default: 587
      tls:
        description: V(starttls), or V(tls) from the first byte (port 465).
        type: str
        choices: [starttls, tls]
        default: starttls
      sender:
        description: Address that the mail comes from.
        type: str
        required: true
      to:
        description: Addresses that it goes to.
        type: list
        elements: str
        required: true
      user:
        description: Login at the mail server; needs O(mail_password).
        type: str
      ca:
        description: PEM of the certificate to trust for the mail server, and no other; left out, those of the system.
        type: str
  mail_password:
    description: Password of O(mail.user).
    type: str
  state:
    description:
      - With V(absent) units, jobs, credentials, status records, caches and the agent are removed.
      - The repository on the NAS and the practice's stamp stay.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Back up the documents of a server every evening
  holdfast.practice.backup_agent:
    practice: harbour-street
    host: server1
    timezone: Australia/Sydney
    repository:
      url: rest:https://192.0.2.11:8000/server1/
      username: server1
      certificate: "{{ lookup('ansible.builtin.file', 'nas1.pem') }}"
    repository_password: "{{ vault_repository_passwords['server1'] }}"
    rest_password: "{{ vault_rest_passwords['server1'] }}"
    jobs:
      - name: documents
        item: documents
        calendar: ["*-*-* 21:00:00"]
        spread_s: 300
        time_limit_s: 7200
        paths: [/srv/clinic/documents]
        must_have: [/srv/clinic/documents/letters]

- name: Remove the agent, keep the repository
  holdfast.practice.backup_agent:
    practice: harbour-street
    host: server1
    state: absent
"""

RETURN = r"""
repository:
  description: The repository's id, and whether it was (or in check mode would be) created by this run.
  returned: when state is present
  type: dict
  sample: {id: 1f0c..., created: false}
copies:
  description: Id of each copy's repository; none while its server has not answered yet.
  returned: when state is present
  type: dict
  sample: {offsite: 2ab4...}
jobs:
  description: Names of the jobs that the host has now.
  returned: always
  type: list
  elements: str
changes:
  description: One line for every step taken, or that would be taken in check mode.
  returned: always
  type: list
  elements: str
"""

import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import (
    agent,
    agent_advice,
    agent_beside,
    agent_boot,
    agent_browse,
    agent_copy,
    agent_files,
    agent_gate,
    agent_hooks,
    agent_host,
    agent_job,
    agent_latch,
    agent_link,
    agent_mounts,
    agent_notice,
    agent_oracle,
    agent_outcome,
    agent_people,
    agent_progress,
    agent_repository,
    agent_restore,
    agent_resume,
    agent_run,
    agent_runs,
    agent_snapshots,
    agent_start,
    agent_status,
    agent_throttle,
    agent_tripwires,
    agent_turn,
    agent_watch,
    agent_window,
    backup_host,
    backup_nas,
    canary,
    database_engine,
    database_oracle,
    dump_pipe,
    engine_command,
    engine_firebird,
    engine_mariadb,
    engine_pickup,
    engine_postgresql,
    engine_sqlite,
    engine_stream,
    engines,
    firebird_account,
    firebird_oracle,
    mail_send,
    mariadb_oracle,
    notice,
    notice_host,
    nut,
    piped_dump,
    postgresql_access,
    postgresql_catalogue,
    postgresql_oracle,
    restic,
    restic_program,
    sqlite_door,
    sqlite_oracle,
    stamp,
    system_account,
    tripwires,
)
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import (
    Change,
    File,
    HostState,
    HostStateError,
    Wanted,
    describe,
    diff_of,
    look_at,
    plan,
)

PROGRAM = (
    agent,
    agent_advice,
    agent_beside,
    agent_boot,
    agent_browse,
    agent_copy,
    agent_files,
    agent_gate,
    agent_hooks,
    agent_host,
    agent_job,
    agent_latch,
    agent_link,
    agent_mounts,
    agent_notice,
    agent_oracle,
    agent_outcome,
    agent_people,
    agent_progress,
    agent_restore,
    agent_resume,
    agent_repository,
    agent_run,
    agent_runs,
    agent_snapshots,
    agent_start,
    agent_status,
    agent_throttle,
    agent_tripwires,
    agent_turn,
    agent_watch,
    agent_window,
    backup_nas,
    canary,
    database_engine,
    database_oracle,
    dump_pipe,
    engine_command,
    engine_firebird,
    engine_mariadb,
    engine_pickup,
    engine_postgresql,
    engine_sqlite,
    engine_stream,
    engines,
    firebird_oracle,
    mail_send,
    mariadb_oracle,
    notice,
    nut,
    piped_dump,
    postgresql_access,
    postgresql_catalogue,
    postgresql_oracle,
    restic,
    sqlite_door,
    sqlite_oracle,
    tripwires,
)
REQUIRED = ("repository", "repository_password", "rest_password")
# what may be so because the NAS is not set up yet: in check mode only a warning
NOT_YET = ("nas_unreachable", "rest_login_refused", "rest_forbidden", "certificate_mismatch", "restic_missing")


class RefusedError(Exception):
    """The host or the NAS is not as it must be; nothing was written."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def source_of(module: ModuleType) -> str:
    """Text of a module, also out of the archive in which Ansible sends it."""
    loader: Any = sys.modules[module.__name__].__loader__
    text = loader.get_source(module.__name__)
    if not text:
        raise RefusedError("no_source", f"{module.__name__}: its source did not come along")
    return str(text)


def program() -> dict[str, str]:
    """The agent's files: {name: text}."""
    return {module.__name__.rsplit(".", 1)[-1] + ".py": source_of(module) for module in PROGRAM}


def names_in(folder: str) -> list[str]:
    """Names in a folder; none when there is no such folder."""
    try:
        return sorted(path.name for path in Path(folder).iterdir())
    except FileNotFoundError:
        return []


def engines_found(jobs: Sequence[str]) -> list[str]:
    """Database engines of the jobs that the host has; what cannot be read has none."""
    found = [agent_host.read_json(Path(f"{backup_host.ETC}/jobs/{name}.json")) or {} for name in jobs]
    return [str((job.get("database") or {}).get("engine")) for job in found]


def pinned_id(store: str = "") -> str | None:
    """The repository id that this host knows; store: of a copy."""
    pin = backup_host.pin_file(store)
    try:
        return str(json.loads(Path(pin).read_text(encoding="ascii"))["id"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        message = f"{pin} is damaged ({error}). It names the one repository that this host may use"
        raise RefusedError("pin_damaged", f"{message}: write the id of the last status record into it") from error


class Door:
    """A repository as this host reaches it, before anything of ours is on the host.

    store: {name, url, username, certificate, repository_password, rest_password}, the name empty for the one in the house.
    own: the folder of a restic that is to be used instead of the distribution's. not_yet: reasons that check mode forgives.
    """

    def __init__(
        self,
        module: AnsibleModule,
        folder: str,
        store: Mapping[str, str],
        own: str | None = None,
        not_yet: Sequence[str] = NOT_YET,
    ) -> None:
        self.module, self.store, self.own, self.not_yet = module, store, own, not_yet
        self.sight: dict[str, str] | None = None
        self.pin = backup_host.pin_file(store["name"])
        place = Path(folder) / f"store-{store['name']}"
        place.mkdir(mode=0o700)
        self.cafile = self._put(place / "server.pem", store["certificate"])
        repository = restic.Repository(
            url=store["url"],
            password_file=self._put(place / "password", store["repository_password"]),
            cacert=self.cafile,
        )
        self.restic = restic.Restic(self._run, repository, store["username"], store["rest_password"])

    @staticmethod
    def _put(path: Path, text: str) -> str:
        path.touch(mode=0o600)
        path.write_text(text.strip() + "\n", encoding="utf-8")
        return str(path)

    def _run(self, argv: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
        environ = {**env, "PATH": restic_program.path_of(env, self.own)}
        try:
            found: tuple[int, str, str] = self.module.run_command(
                list(argv), environ_update=environ, handle_exceptions=False, expand_user_and_vars=False
            )
        except FileNotFoundError:
            return 127, "", "not installed"
        except OSError as error:
            return 126, "", str(error)
        return found

    def identify(self, pinned: str | None) -> str | None:
        """Id of the repository, None when it is to be created. Raises what must stop the play."""
        self.restic.version()
        url = self.store["url"]
        config = self._config()
        if config is None and not pinned:
            return None
        if config is None and pinned:
            raise RefusedError(
                "repository_vanished",
                f"{url}: known repository vanished. This host has backed up into repository {pinned[:8]}, and the NAS "
                f"has none there now. A new one would hide the loss: restore the repository folder on the NAS from "
                f"another copy, or, when the loss is accepted, remove {self.pin} and run again",
            )
        found = self.restic.id()
        if pinned and found != pinned:
            raise RefusedError(
                "repository_changed",
                f"{url}: expected repository {pinned[:8]}, which is pinned on this host, found {found[:8]}. Find out "
                f"who replaced it; when that was right, remove {self.pin} and run again",
            )
        self.sight = agent_repository.sight(found, config or b"")
        return found

    def create(self, source: Door | None) -> str:
        """Create the repository; one for copies cuts files where its source does, or nothing would be the same twice."""
        self.restic.init(source.restic if source else None)
        found = self.restic.id()
        self.sight = agent_repository.sight(found, self._config() or b"")
        return found

    def _config(self) -> bytes | None:
        store = self.store
        return backup_nas.config(store["url"], self.cafile, store["username"], store["rest_password"])


def own_restic(module: AnsibleModule) -> tuple[bytes | None, bool]:
    """The restic that is wanted instead of the distribution's (None: that one), and whether it has yet to come (check mode)."""
    wanted = module.params["restic_sha256"]
    if not wanted:
        return None, False
    program = content_of(restic_program.PROGRAM)
    note = content_of(restic_program.NOTE)
    if program is not None and restic_program.in_place(
        note.decode("utf-8", "replace") if note else None, program, wanted
    ):
        return program, False
    shipped = content_of(restic_program.SHIPPED)
    if module.check_mode and (shipped is None or restic_program.sha256(shipped) != wanted):
        return None, True
    if shipped is None:
        raise RefusedError("restic_missing", f"{restic_program.SHIPPED} is not there: the role puts it there first")
    return restic_program.program_of(shipped, wanted, platform.machine()), False


def lay_out(folder: str, program: bytes) -> str:
    """Put the restic that is wanted where it can be asked before it is put in place; that folder."""
    path = Path(folder) / "restic"
    path.write_bytes(program)
    path.chmod(0o700)
    return folder


def content_of(path: str) -> bytes | None:
    """Content of a file; None when there is none."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def repository_id(module: AnsibleModule, door: Door, source: Door | None = None) -> tuple[str | None, bool]:
    """Id of a repository and whether it is (or would be) new. Creates it when it may; source: where a copy comes from.

    None: the server of a copy did not answer. That holds up nothing in the house, and the copy's own state tells of it.
    """
    url = door.store["url"]
    pinned = pinned_id(door.store["name"])
    try:
        found = door.identify(pinned)
        if found is None and not module.check_mode:
            return door.create(source), True
    except (restic.ResticError, backup_nas.NasError) as error:
        if module.check_mode and error.code in door.not_yet:
            module.warn(f"{url}: not checked, as in check mode it may not be set up yet: {error.message}")
            return pinned or "(not known before the NAS answers)", pinned is None
        if source and error.code == "nas_unreachable":
            module.warn(
                f"{url}: the copy {door.store['name']} is not checked: {error.message}; run site.yml again when it answers"
            )
            return pinned, False
        raise RefusedError(error.code, f"{url}: {error.message}") from error
    return found or "(given when it is created)", found is None


def check_calendars(module: AnsibleModule) -> None:
    """Ask systemd whether every expression will ever come."""
    for job in module.params["jobs"]:
        for text in backup_host.calendars(job, module.params["timezone"]):
            code, out, err = module.run_command(["systemd-analyze", "calendar", "--iterations=1", "--", text])
            if code != 0 or "Next elapse: never" in " ".join(out.split()):
                why = (err or out).strip().splitlines()[-1:] or ["it never comes"]
                raise RefusedError("calendar_invalid", f"job {job['name']}: calendar {text!r}: {why[0]}")


def failed_units(module: AnsibleModule, names: Sequence[str], watched: bool) -> list[Change]:
    """Forget failures of units that are about to go, or systemd would list them for ever."""
    patterns = ["holdfast-backup@*.service", "holdfast-watch.service"]
    code, out, err = module.run_command(["systemctl", "list-units", "--failed", "--plain", "--no-legend", *patterns])
    if code != 0:
        raise HostStateError(f"systemctl list-units failed ({code}): {err.strip()}")
    failed = [line.split()[0] for line in out.splitlines() if line.split()]
    wanted = [f"holdfast-backup@{name}.service" for name in names] + ([] if watched else ["holdfast-watch.service"])
    return [Change("reset-failed", name, "it goes") for name in failed if name in wanted]


def secrets_of(given: Mapping[str, str]) -> dict[str, str]:
    """The two passwords of a store, by the names of their files."""
    return {"repository-password": given["repository_password"], "rest-password": given["rest_password"]}


def canaries(
    jobs: Sequence[Mapping[str, Any]], params: Mapping[str, Any], found_jobs: Sequence[str]
) -> tuple[list[File], list[str]]:
    """Canaries to lay and to take away, and what to warn of."""
    want = backup_host.canaries_of({**job, "practice": params["practice"], "host": params["host"]} for job in jobs)
    here = [json_of(f"{backup_host.ETC}/jobs/{name}.json") for name in found_jobs]
    old = backup_host.canaries_of(job for job in here if job.get("practice") and job.get("host"))
    known = [json_of(f"{backup_host.STATE}/tripwires/{name}.json").get("canaries") for name in found_jobs]
    seen = {path for each in known if isinstance(each, list) for path in each}
    found = {}
    for path in (*want, *old):
        folder = look_at(str(Path(path).parent), read=False)
        there = look_at(path) if folder and folder.kind == "dir" else None
        if there is not None and there.kind != "file":
            raise RefusedError(
                "canary_taken", f"{path}: expected a file or nothing, found a {there.kind}; move it away"
            )
        owner, group = (folder.owner, folder.group) if folder and folder.kind == "dir" else (None, None)
        found[path] = backup_host.Place(there.content if there else None, owner, group, path in seen)
    return backup_host.plan_canaries(want, old, found)


def json_of(path: str) -> dict[str, Any]:
    """An object of the agent's; empty when there is none that can be read."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def firebird_files(jobs: Sequence[str]) -> list[str]:
    """Databases of Firebird that the host's jobs back up until now; what is no job any more is passed over."""
    found = []
    for name in jobs:
        job = agent_host.read_json(agent_host.Places().job(name)) or {}
        database = job.get("database") or {}
        if database.get("engine") == "firebird":
            found.append(str(database["path"]))
    return found


def converge(module: AnsibleModule) -> dict[str, Any]:
    """Gather, plan, apply; returns what the module returns."""
    params = module.params
    stamp.check(params["practice"], params["host"])
    found_jobs = backup_host.jobs_found(names_in(f"{backup_host.ETC}/jobs"), names_in(backup_host.UNITS))
    result: dict[str, Any] = {}
    present = params["state"] == "present"
    fresh: list[str] = []
    found_stores = backup_host.stores_found(names_in(backup_host.ETC))
    databases = [job["database"] for job in (params["jobs"] if present else []) if job.get("database")]
    fdbs = [each["path"] for each in databases if each["engine"] == "firebird"]
    firebird = firebird_account.FirebirdAccount(module.run_command, f"{backup_host.ETC}/credentials")
    secret = firebird.secret(fdbs)
    if present:
        stores = {copy["name"]: {**copy, "secrets": secrets_of(copy), "id": None} for copy in params["copies"]}
        who = (params["practice"], params["host"], params["repository"], stores, params["timezone"])
        backup_host.check_jobs([backup_host.job_content(job, *who) for job in params["jobs"]])
        check_calendars(module)
        program_wanted, to_come = own_restic(module)
        not_yet = (*NOT_YET, "restic_too_old") if to_come else NOT_YET
        watch = backup_host.unwatched()
        if params["mail"]:
            watch = backup_host.watched(
                params["mail"], params["practice"], params["host"], params["timezone"], params["mail_password"]
            )
        with tempfile.TemporaryDirectory(dir=module.tmpdir) as folder:
            own = lay_out(folder, program_wanted) if program_wanted is not None else None
            place = {"name": "", **params["repository"], **{key: params[key] for key in REQUIRED[1:]}}
            house = Door(module, folder, place, own, not_yet)
            known, created = repository_id(module, house)
            result["repository"] = {"id": known, "created": created}
            doors = {"": house}
            for name, copy in stores.items():
                doors[name] = Door(module, folder, copy, own, not_yet)
                copy["id"], new = repository_id(module, doors[name], house)
                fresh += [copy["url"]] if new else []
            sights = {name: door.sight for name, door in doors.items() if door.sight}
            result["copies"] = {name: copy["id"] for name, copy in stores.items()}
        want = backup_host.wanted(
            params["practice"],
            params["host"],
            params["timezone"],
            params["repository"],
            {**secrets_of(params), **secret},
            params["jobs"],
            program(),
            str(known),
            found_jobs,
            stores,
            found_stores,
            restic_program.files(program_wanted or b"", params["restic_sha256"]) if params["restic_sha256"] else (),
            watch,
        )
        fresh = [params["repository"]["url"], *fresh] if created else fresh
    else:
        want = backup_host.unwanted(found_jobs, program(), found_stores)
    files, told = canaries(params["jobs"] if present else [], params, found_jobs)
    for text in told:
        module.warn(text)
    old = backup_host.stale(program(), names_in(f"{backup_host.LIB}/{backup_host.PACKAGE}"))
    want = Wanted(want.dirs, [*old, *want.files, *files], want.units)
    state = HostState(module.run_command)
    kept = [job["name"] for job in params["jobs"]] if present else []
    changes = plan(state.gather(want), want)
    changes += failed_units(module, [name for name in found_jobs if name not in kept], present and bool(params["mail"]))
    account = system_account.Accounts(module.run_command)
    accounts = account.plan(databases, engines_found(found_jobs))
    logins = firebird.plan(fdbs, firebird_files(found_jobs), secret)
    diff = diff_of([*changes, *accounts, *logins])
    steps = describe([*changes, *accounts, *logins])
    steps = [*(f"init {url} (no repository yet)" for url in fresh), *steps]
    drop_cache = not present and Path(backup_host.CACHE).is_dir()
    if drop_cache:
        steps.append(f"remove {backup_host.CACHE} (not wanted)")
    if not module.check_mode:
        # the accounts come before the first run and go after the last one
        if present:
            account.apply(accounts)
            account.check(databases)
            firebird.apply()
        state.apply(changes)
        if present:
            make_ready(module, sights, any(c.target.startswith(backup_host.LIB) for c in changes))
        else:
            account.apply(accounts)
            firebird.apply()
        if drop_cache:
            shutil.rmtree(backup_host.CACHE)
    return {**result, "changed": bool(steps), "diff": diff, "changes": steps, "jobs": kept}


def make_ready(module: AnsibleModule, sights: Mapping[str, Mapping[str, str]], new_program: bool) -> None:
    """Do once what the first run would have to: know the repositories, and read the program, which shows that it starts here."""
    agent_repository.remember(agent_host.Places(), sights)
    if new_program:
        code, _out, err = module.run_command([backup_host.COMMAND, "--help"])
        if code != 0:
            last = err.strip().splitlines()[-1:] or ["it says nothing"]
            raise RefusedError(
                "agent_broken", f"{backup_host.COMMAND} does not start with this host's Python: {last[0]}"
            )


def main() -> None:
    """Entry of the module."""
    images = {"query": {"type": "str", "required": True}, "root": {"type": "str", "required": True}}
    database = {
        "engine": {
            "type": "str",
            "choices": ["postgresql", "mariadb", "sqlite", "firebird", "command", "pickup"],
            "required": True,
        },
        "name": {"type": "str"},
        "path": {"type": "str"},
        **{key: {"type": "list", "elements": "str"} for key in ("dump", "check")},
        **{key: {"type": "str"} for key in ("user", "end_marker", "pattern")},
        **{key: {"type": "int"} for key in ("max_age_s", "min_size", "wait_s")},
        "images": {"type": "dict", "options": images},
        "probes": {"type": "dict", "default": {}},
    }
    wires = {
        "canaries": {"type": "list", "elements": "str", "default": []},
        "disable": {"type": "list", "elements": "str", "choices": list(tripwires.WIRES), "default": []},
        "least": {"type": "int", "default": tripwires.Settings.least},
        **{name: {"type": "int", "default": getattr(tripwires.Settings, name)} for name in tripwires.SHARES},
    }
    job = {
        "name": {"type": "str", "required": True},
        "item": {"type": "str", "required": True},
        "class": {"type": "str"},
        "calendar": {"type": "list", "elements": "str", "required": True},
        "spread_s": {"type": "int", "default": 0},
        "time_limit_s": {"type": "int", "default": 0},
        "deadline_s": {"type": "int", "default": 0},
        "database": {"type": "dict", "options": database},
        "paths": {"type": "list", "elements": "str", "default": []},
        "exclude": {"type": "list", "elements": "str", "default": []},
        "must_have": {"type": "list", "elements": "str", "default": []},
        "min_files": {"type": "int", "default": 1},
        "min_size": {"type": "int", "default": 0},
        "mounts": {"type": "list", "elements": "str"},
        "window": {"type": "str"},
        "at_window_end": {"type": "str", "choices": ["stop", "throttle"]},
        "throttle": {"type": "int"},
        "limits": {"type": "dict"},
        "dump_limit_s": {"type": "int", "default": 0},
        "nice": {"type": "int"},
        "io_class": {"type": "str", "choices": ["best-effort", "idle"]},
        "stay_awake": {"type": "bool", "default": False},
        "copy": {"type": "dict", "options": {name: {"type": "str", "required": True} for name in ("of", "to")}},
        "tripwires": {"type": "dict", "options": wires},
    }
    hook = {
        "type": "dict",
        "options": {
            "run": {"type": "list", "elements": "str", "required": True},
            "limit_s": {"type": "int", "default": 300},
            "user": {"type": "str", "default": "root"},
        },
    }
    job["hooks"] = {"type": "dict", "options": {"before": hook, "after": hook, "on_failure": hook}}
    job["power"] = {
        "type": "dict",
        "options": {
            "monitors": {"type": "list", "elements": "str", "required": True},
            "min_supplies": {"type": "int", "default": 1},
        },
    }
    repository = {name: {"type": "str", "required": True} for name in ("url", "username", "certificate")}
    password = {"type": "str", "required": True, "no_log": True}
    store = {
        "name": {"type": "str", "required": True},
        **repository,
        "repository_password": password,
        "rest_password": password,
    }
    mail = {
        "practice_name": {"type": "str", "required": True},
        "relay": {"type": "str", "required": True},
        "port": {"type": "int", "default": 587},
        "tls": {"type": "str", "choices": ["starttls", "tls"], "default": "starttls"},
        "sender": {"type": "str", "required": True},
        "to": {"type": "list", "elements": "str", "required": True},
        "user": {"type": "str"},
        "ca": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "timezone": {"type": "str", "default": "UTC"},
            "repository": {"type": "dict", "options": repository},
            "copies": {"type": "list", "elements": "dict", "default": [], "options": store},
            "repository_password": {"type": "str", "no_log": True},
            "rest_password": {"type": "str", "no_log": True},
            "restic_sha256": {"type": "str"},
            "jobs": {"type": "list", "elements": "dict", "default": [], "options": job},
            "mail": {"type": "dict", "options": mail},
            "mail_password": {"type": "str", "no_log": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", REQUIRED)],
        supports_check_mode=True,
    )
    who = f"practice {module.params['practice']}, host {module.params['host']}"
    try:
        result = converge(module)
    except RefusedError as error:
        module.fail_json(msg=f"{who}: {error}", code=error.code)
    except restic_program.ProgramError as error:
        module.fail_json(msg=f"{who}: {error}", code=error.code)
    except (
        stamp.StampError,
        HostStateError,
        backup_host.BackupHostError,
        notice_host.NoticeError,
        ValueError,
    ) as error:
        module.fail_json(msg=f"{who}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
