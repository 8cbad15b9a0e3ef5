# SPDX-License-Identifier: Apache-2.0
"""The repository service on the NAS: accounts, certificate, unit and account folders (all pure).

Every account has its own folder, which is a subvolume of the pool with a limit of its own: rest-server's ``--max-size``
counts the whole server, so that one host could stop the backups of all others.
"""

from __future__ import annotations

import base64
import calendar
import os
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Change, Dir, File, Unit, Wanted

CONFIG = "/etc/holdfast-nas"
HTPASSWD = CONFIG + "/htpasswd"
CERTIFICATE = CONFIG + "/tls.pem"
KEY = CONFIG + "/tls.key"
SERVICE = "holdfast-rest-server.service"
UNIT_PATH = "/etc/systemd/system/" + SERVICE
DOOR = "holdfast-maintenance.service"
DOOR_PATH = "/run/systemd/system/" + DOOR
DOOR_FOLDER = "/run/holdfast-maintenance"
DOOR_HTPASSWD = DOOR_FOLDER + "/htpasswd"
LOCK_ALIVE_S = 660
PACKAGE_SERVICE = (
    "restic-rest-server.service"  # Debian's own, never used: it starts without TLS and without append-only
)
USER = "restic-rest-server"
FOLDER = "repositories"
FOLDER_MODE, ACCOUNT_MODE = 0o750, 0o700

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)B?", re.IGNORECASE)
_SMALLEST_QUOTA = 1024 * 1024


class RepositoryError(Exception):
    """The service cannot be had as asked; nothing was written."""


@dataclass(frozen=True)
class Account:
    """One host's account. ``quota`` in bytes, None for no limit."""

    name: str
    password_hash: str
    quota: int | None = None

    def __repr__(self) -> str:
        return f"Account({self.name!r}, quota={self.quota})"


@dataclass(frozen=True)
class FoundFolder:
    """An account's folder as found. ``kind``: subvolume, dir or other. ``limit``/``used`` in bytes."""

    kind: str
    mode: int = ACCOUNT_MODE
    owner: str = USER
    group: str = USER
    limit: int | None = None
    used: int | None = None


@dataclass(frozen=True)
class Certificate:
    """The validity of a certificate, in seconds since the epoch."""

    not_before: int
    not_after: int

    def days_left(self, now: float) -> int:
        """Count whole days until it expires; negative afterwards."""
        return int((self.not_after - now) // 86400)


def parse_size(text: str) -> int:
    """Read a size such as ``200GiB``, ``1.5T`` or ``500 MB`` as bytes. A bare letter is binary, as in btrfs."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise RepositoryError(f'quota "{text}": expected a size such as 200GiB')
    number, letter, binary = match.groups()
    base = 1000 if not binary and text.strip()[-1:] in "bB" and letter else 1024
    size = int(float(number) * base ** " KMGTP".index(letter.upper() or " "))
    if size < _SMALLEST_QUOTA:
        raise RepositoryError(f'quota "{text}": expected 1MiB or more; leave it out for no limit')
    return size


def accounts_of(rows: Sequence[Mapping[str, str | None]]) -> list[Account]:
    """Read the accounts option; raises RepositoryError that names the account, never its hash."""
    accounts: list[Account] = []
    for row in rows:
        name, password_hash, quota = str(row["name"]), str(row["password_hash"]), row.get("quota")
        if not _NAME.fullmatch(name):
            raise RepositoryError(
                f'account "{name}": expected a name of small letters, digits, dashes and underscores, at most 63'
            )
        if name in (a.name for a in accounts):
            raise RepositoryError(f'account "{name}" is named twice; every host has one')
        match = _BCRYPT.fullmatch(password_hash)
        if not match:
            raise RepositoryError(
                f'account "{name}": its password_hash is no bcrypt hash ($2b$...); make it with the filter '
                "holdfast.practice.bcrypt_hash"
            )
        try:
            accounts.append(Account(name, password_hash, parse_size(quota) if quota else None))
        except RepositoryError as error:
            raise RepositoryError(f'account "{name}": {error}') from error
    return accounts


def render_htpasswd(accounts: Sequence[Account]) -> bytes:
    """Write the password file, in the order of names so that a reordered list changes nothing."""
    return "".join(f"{a.name}:{a.password_hash}\n" for a in sorted(accounts, key=lambda a: a.name)).encode()


def check_listen(listen: str) -> None:
    """Raise RepositoryError unless ``listen`` is an address and a port."""
    host, _colon, port = listen.rpartition(":")
    if not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", host) or not port.isdigit() or not 0 < int(port) < 65536:
        raise RepositoryError(f'listen "{listen}": expected ADDRESS:PORT, such as 192.0.2.11:8000')


def check_root(root: str) -> None:
    """Raise RepositoryError unless ``root`` is a plain absolute path that a unit file can carry."""
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", root) or ".." in root.split("/"):
        raise RepositoryError(
            f'root "{root}": expected a plain absolute path (letters, digits and _.- between slashes)'
        )


# --- certificate ------------------------------------------------------------------------------------------------------


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Read one DER element's header: (tag, start of content, end of content)."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[start : start + count], "big"), start + count
    if start + length > len(data):
        raise ValueError("cut short")
    return tag, start, start + length


def _moment(tag: int, text: str) -> int:
    if tag == 0x17:  # UTCTime: two digits, 50 to 99 mean 19xx
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))


def parse_certificate(pem: str) -> Certificate:
    """Read when the first certificate of a PEM text is valid; raises RepositoryError when there is none."""
    match = re.search(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", pem, re.DOTALL)
    try:
        if not match:
            raise ValueError("no BEGIN CERTIFICATE line")
        der = base64.b64decode("".join(match.group(1).split()), validate=True)
        _tag, at, _end = _element(der, 0)  # Certificate
        _tag, at, _end = _element(der, at)  # tbsCertificate
        tag, start, end = _element(der, at)
        if tag != 0xA0:  # no version: a certificate of version 1
            end = at
        for _skip in ("serial number", "signature algorithm", "issuer"):
            _tag, start, end = _element(der, end)
        _tag, start, end = _element(der, end)  # validity
        first_tag, first, first_end = _element(der, start)
        last_tag, last, last_end = _element(der, first_end)
        return Certificate(
            _moment(first_tag, der[first:first_end].decode("ascii")),
            _moment(last_tag, der[last:last_end].decode("ascii")),
        )
    except (ValueError, IndexError) as error:
        raise RepositoryError(f"certificate: not a certificate in PEM form ({error})") from error


def check_certificate(certificate: Certificate, now: float) -> None:
    """Raise RepositoryError, with the date, when a certificate is not valid now."""
    if now > certificate.not_after:
        raise RepositoryError(
            f"certificate: expired on {day_of(certificate.not_after)}; every client would refuse the NAS. Make "
            "a new one "
            f"(bin/holdfast secrets), then run again"
        )
    if now < certificate.not_before:
        raise RepositoryError(
            f"certificate: not valid before {day_of(certificate.not_before)}; is the clock of this host right?"
        )


def day_of(moment: float) -> str:
    """Write a moment as its day, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def check_pair(certificate: str, key: str) -> None:
    """Raise RepositoryError when the key is not the certificate's; nothing touches a disk."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _memory(certificate) as first, _memory(key) as second:
        try:
            context.load_cert_chain(first.name, second.name, password=lambda: b"")
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise RepositoryError(
                f"key: it does not belong to the certificate, or cannot be read ({reason}); make both anew "
                "(bin/holdfast secrets)"
            ) from error


class _memory:  # noqa: N801 - used like a function
    """A file in memory only, with a name that OpenSSL can open."""

    def __init__(self, text: str) -> None:
        self._handle = os.memfd_create("holdfast")
        os.write(self._handle, text.encode())
        self.name = f"/proc/self/fd/{self._handle}"

    def __enter__(self) -> _memory:
        return self

    def __exit__(self, *_problem: object) -> None:
        os.close(self._handle)


# --- service ----------------------------------------------------------------------------------------------------------


def render_unit(root: str, listen: str) -> str:
    """Write the unit. The pool must be mounted, or the service would fill the NAS's system disk."""
    folder = f"{root}/{FOLDER}"
    return f"""# Holdfast: the repository service. Written by nas_repository.
[Unit]
Description=Holdfast repository service (restic rest-server, append-only)
RequiresMountsFor={root}
AssertPathIsMountPoint={root}
Wants=network-online.target
After=network-online.target
# the address may be late, and a killed server must come back: no limit on tries
StartLimitIntervalSec=0

[Service]
User={USER}
Group={USER}
# half uploads of a killed server; none is being written when this runs. Sealed folders are not entered: they are root's
ExecStartPre=/usr/bin/find -P {folder} -type d ! -executable -prune -o -type f -name *.rest-server-temp* \\
  -exec /usr/bin/rm -f -- {{}} +
ExecStart=/usr/bin/restic-rest-server --path {folder} --listen {listen} --append-only --private-repos \\
  --tls --tls-cert {CERTIFICATE} --tls-key {KEY} --htpasswd-file {HTPASSWD} --log -
# of every request the journal keeps those that were refused or failed: somebody tried what no backup does. 404 is how a
# client asks whether there is something
LogFilterPatterns=~HTTP/[0-9.]+" ([123][0-9][0-9]|404)
# the password file is read again on HUP, without disturbing an upload
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=2
# it would wait for the upload of a client that is gone; one that is there tries again
TimeoutStopSec=15
{_sandbox(folder)}

[Install]
WantedBy=multi-user.target
"""


def render_door(root: str, listen: str, account: str, limit_s: int) -> str:
    """Write the unit of the way in for maintenance: one account's repository, with the right to erase, for a limited time.

    Beside the service it would let a client write while objects are removed, so each stops the other. However this one ends,
    the service comes back.
    """
    folder = f"{root}/{FOLDER}"
    return f"""# Holdfast: maintenance of one repository. Written by nas_maintenance; gone afterwards, or with the next boot.
[Unit]
Description=Holdfast maintenance of the repository of {account}
RequiresMountsFor={root}
AssertPathIsMountPoint={root}
Conflicts={SERVICE}
After={SERVICE}

[Service]
User={USER}
Group={USER}
ExecStart=/usr/bin/restic-rest-server --path {folder} --listen {listen} --private-repos \\
  --tls --tls-cert {CERTIFICATE} --tls-key {KEY} --htpasswd-file {DOOR_HTPASSWD} --log -
ExecStopPost=+/usr/bin/systemctl start --no-block {SERVICE}
LogFilterPatterns=~HTTP/[0-9.]+" ([123][0-9][0-9]|404)
RuntimeMaxSec={limit_s}
TimeoutStopSec=15
{_sandbox(f"{folder}/{account}")}
"""


def door(account: Account, root: str, listen: str, limit_s: int) -> Wanted:
    """The way in for maintenance, open."""
    return Wanted(
        dirs=[Dir(DOOR_FOLDER, 0o750, "root", USER)],
        files=[
            File(DOOR_HTPASSWD, render_htpasswd([account]), 0o640, "root", USER, secret=True),
            File(DOOR_PATH, render_door(root, listen, account.name, limit_s).encode()),
        ],
        units=[Unit(DOOR, enabled=None)],
    )


def door_closed() -> Wanted:
    """The way in for maintenance, closed: nothing is left of it, and the service is there."""
    return Wanted(
        dirs=[Dir(DOOR_FOLDER, absent=True)],
        files=[File(DOOR_HTPASSWD, None, secret=True), File(DOOR_PATH, None)],
        units=[Unit(DOOR, enabled=None, active=False), Unit(SERVICE, enabled=None)],
    )


def locks_in_use(locks: Mapping[str, float], now: float) -> int:
    """Count the locks whose client is at work: it writes each anew every five minutes. {id: arrival}. Pure."""
    return sum(now - at < LOCK_ALIVE_S for at in locks.values())


def door_listen(listen: str) -> str:
    """Where the way in for maintenance answers: one port further. Clients must not meet it where they look for the service."""
    host, _colon, port = listen.rpartition(":")
    return f"{host}:{int(port) + 1}"


def _sandbox(writes: str) -> str:
    return f"""UMask=0077

AmbientCapabilities=
CapabilityBoundingSet=
IPAccounting=true
KeyringMode=private
LockPersonality=true
MemoryDenyWriteExecute=true
NoNewPrivileges=true
PrivateDevices=true
PrivateTmp=true
PrivateUsers=true
ProcSubset=pid
ProtectClock=true
ProtectControlGroups=true
ProtectHome=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectProc=invisible
ProtectSystem=strict
ReadWritePaths={writes}
RemoveIPC=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM"""


def config_files(accounts: Sequence[Account], root: str, listen: str, certificate: str, key: str) -> list[File]:
    """Give the files of the service."""
    return [
        File(HTPASSWD, render_htpasswd(accounts), 0o640, "root", USER, secret=True),
        File(CERTIFICATE, certificate.encode(), 0o640, "root", USER),
        File(KEY, key.encode(), 0o640, "root", USER, secret=True),
        File(UNIT_PATH, render_unit(root, listen).encode()),
    ]


def absent_files() -> list[File]:
    """Give the same files as unwanted."""
    return [File(path, None, secret=path in (KEY, HTPASSWD)) for path in (HTPASSWD, CERTIFICATE, KEY, UNIT_PATH)]


def config_folder(absent: bool = False) -> Dir:
    """Give the folder of the configuration."""
    return Dir(CONFIG, 0o750, "root", USER, absent)


def units(present: bool) -> list[Unit]:
    """Give the units. The service is there twice: a new certificate restarts it, a new password only reloads it."""
    package = Unit(PACKAGE_SERVICE, enabled=False, active=False)
    if not present:
        return [package, Unit(SERVICE, enabled=False, active=False)]
    return [
        package,
        Unit(SERVICE, restart_when=(UNIT_PATH, CERTIFICATE, KEY)),
        Unit(SERVICE, enabled=None, restart_when=(HTPASSWD,), reload=True),
    ]


def without_repeats(changes: Sequence[Change]) -> list[Change]:
    """Drop steps that the double entry of the service makes twice, and a reload of what (re)starts anyway. Pure."""
    fresh = {c.target for c in changes if c.verb in ("start", "restart")}
    kept: list[Change] = []
    for change in changes:
        repeated = (change.verb, change.target) in ((k.verb, k.target) for k in kept)
        if not repeated and not (change.verb == "reload" and change.target in fresh):
            kept.append(change)
    return kept


def repaired(changes: Sequence[Change]) -> list[str]:
    """Name the paths whose owner or mode had drifted. Pure."""
    return [c.target for c in changes if c.verb == "chmod"]


# --- account folders --------------------------------------------------------------------------------------------------


def plan_folders(have: Mapping[str, FoundFolder], accounts: Sequence[Account], folder: str) -> list[Change]:
    """Say what must happen for every account to have its folder and limit. Folders of others are left alone. Pure.

    Verbs: subvolume, chmod, unseal (an orphan whose account is back), limit. ``want`` of a limit is the Account.
    """
    changes: list[Change] = []
    for account in sorted(accounts, key=lambda a: a.name):
        path, found = f"{folder}/{account.name}", have.get(account.name)
        wanted = Dir(path, ACCOUNT_MODE, USER, USER)
        if found is None:
            changes.append(Change("subvolume", path, "missing", wanted))
        elif found.kind != "subvolume":
            raise RepositoryError(
                f"{path}: expected a subvolume of the pool, found "
                f"{'a plain folder' if found.kind == 'dir' else 'something else'}; "
                f"no limit can hold for it. Move it away and run again"
            )
        elif (found.mode, found.owner, found.group) != (wanted.mode, wanted.owner, wanted.group):
            verb, why = ("unseal", "its account is back") if is_sealed(found) else ("chmod", "owner or mode")
            changes.append(Change(verb, path, why, wanted, found))
        if (found.limit if found else None) != account.quota:
            why = "no limit" if account.quota is None else f"{account.quota} bytes"
            changes.append(Change("limit", path, why, account))
    return changes


def is_sealed(found: FoundFolder) -> bool:
    """Say whether only root can enter a folder: how an orphan is kept. Pure."""
    return (found.mode, found.owner, found.group) == (ACCOUNT_MODE, "root", "root")


def plan_seals(have: Mapping[str, FoundFolder], accounts: Sequence[Account], folder: str) -> list[Change]:
    """Close the folders without an account to everybody but root, the service included; their data is kept. Pure."""
    named = {a.name for a in accounts}
    return [
        Change("seal", f"{folder}/{name}", "no account any more", Dir(f"{folder}/{name}", ACCOUNT_MODE), found)
        for name, found in sorted(have.items())
        if name not in named and found.kind in ("dir", "subvolume") and not is_sealed(found)
    ]


def orphans(
    have: Mapping[str, FoundFolder],
    accounts: Sequence[Account],
    folder: str,
    arrivals: Mapping[str, Mapping[str, float]],
) -> list[dict[str, Any]]:
    """Describe the folders without an account: their data stays until a person decides. Pure.

    arrivals: {name: {snapshot id: arrival in seconds since the epoch}}.
    """
    found = []
    for name in sorted(set(have) - {a.name for a in accounts}):
        times = list(arrivals.get(name, {}).values())
        found.append(
            {
                "name": name,
                "path": f"{folder}/{name}",
                "bytes": have[name].used,
                "snapshots": len(times),
                "newest": moment_of(max(times)) if times else None,
            }
        )
    return found


def moment_of(moment: float) -> str:
    """Write a moment in UTC, as in 2026-11-21T10:00:03Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def summary(have: Mapping[str, FoundFolder], accounts: Sequence[Account], folder: str) -> dict[str, dict[str, object]]:
    """Give {account: {"path", "quota", "used"}} for the module's result; sizes in bytes. Pure."""
    return {
        a.name: {"path": f"{folder}/{a.name}", "quota": a.quota, "used": have[a.name].used if a.name in have else 0}
        for a in accounts
    }


def account_names(htpasswd: str) -> list[str]:
    """Name the accounts of a password file. Pure."""
    return [line.split(":", 1)[0] for line in htpasswd.splitlines() if ":" in line]


def deletion_problem(name: str, found: FoundFolder | None, accounts: Sequence[str], path: str) -> str | None:
    """Say why an orphan's folder may not be deleted, or None. A folder that is gone already is no problem. Pure."""
    if not _NAME.fullmatch(name):
        return f'"{name}": expected the name of a host: small letters, digits, dashes and underscores, at most 63'
    if name in accounts:
        return (
            f"{path}: {name} still has an account here, so this is no orphan; retire the host first "
            f"(bin/holdfast retire, then playbooks/retire_host.yml)"
        )
    if found is not None and found.kind != "subvolume":
        return f"{path}: expected a subvolume of the pool, found something else; look at it and remove it by hand"
    return None
