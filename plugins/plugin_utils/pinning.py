# SPDX-License-Identifier: Apache-2.0
"""Read the SSH keys that hosts show, compare them with those that are pinned, and keep known_hosts.

A host shows its key, and proves that it owns it, before anybody logs in: reading needs no account. Only read_key and look speak
to the network; the rest is pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import logging
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import paramiko
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import CONTROL_NODE, SSH_PORT
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Practice, RestoreHost
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Problem, did_you_mean, show

KNOWN_HOSTS = "known_hosts"
CONNECT_S, HANDSHAKE_S = 5, 15
# What a key of known_hosts may be asked for by; the order is the order of preference for a host that has no pin yet
_ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")

# paramiko would print its own account of a failed connection, with a traceback
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class SilentError(Exception):
    """A host did not show a key; the message says why."""


@dataclass(frozen=True)
class Key:
    """A public host key."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """The fingerprint as ssh-keygen -l prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def family(self) -> str:
        """ED25519, ECDSA or RSA: the word that ssh-keygen puts behind a fingerprint, and that names the key's file."""
        return self.kind.removeprefix("ssh-").split("-")[0].upper()

    def __str__(self) -> str:
        return f"{self.fingerprint} ({self.family})"


@dataclass(frozen=True)
class Target:
    """A host that is spoken to over SSH."""

    name: str
    address: str
    port: int = SSH_PORT

    @property
    def known_as(self) -> tuple[str, ...]:
        """How known_hosts calls it: what ssh looks up, and for IPv6 the short form beside the written one."""
        names = [self.address.lower()]
        try:
            short = ipaddress.ip_address(self.address).compressed
        except ValueError:
            short = names[0]
        names += [short] if short not in names else []
        return tuple(name if self.port == SSH_PORT else f"[{name}]:{self.port}" for name in names)

    def __str__(self) -> str:
        return self.known_as[0]


@dataclass(frozen=True)
class Finding:
    """What came of one host: new (no pin yet), same, changed (another key than the pinned one) or silent (no key seen)."""

    target: Target
    state: Literal["new", "same", "changed", "silent"]
    key: Key | None = None
    pinned: tuple[Key, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Line:
    """A line of known_hosts; names is empty for what is not a plain entry (comments, markers), which stays as it is."""

    text: str
    names: tuple[str, ...] = ()
    key: Key | None = None
    rest: str = field(default="", compare=False)

    def is_of(self, target: Target) -> bool:
        """Say whether this entry speaks of a host, also when its name is hashed."""
        return any(_names(entry, target) for entry in self.names)


def targets(practice: Practice) -> list[Target]:
    """Give the hosts of a practice that are spoken to over SSH, in the document's order."""
    found = []
    for name, host in practice.hosts.items():
        if isinstance(host, RestoreHost):
            if host.on != CONTROL_NODE:
                found.append(Target(name, host.on, host.ssh_port))
        elif getattr(host, "os", "linux") == "linux":
            found.append(Target(name, host.address, host.ssh_port))
    return found


# --- known_hosts ----------------------------------------------------------------------------------------------------


def _names(entry: str, target: Target) -> bool:
    if not entry.startswith("|1|"):
        return entry.lower() in target.known_as
    try:
        return any(paramiko.HostKeys.hash_host(name, entry) == entry for name in target.known_as)
    except (ValueError, binascii.Error):
        return False


def parse(text: str) -> list[Line]:
    """Read known_hosts, line by line."""
    lines = []
    for line in text.splitlines():
        parts = line.split(None, 3)
        plain = len(parts) >= 3 and not line.startswith(("#", "@"))
        try:
            blob = base64.b64decode(parts[2], validate=True) if plain else b""
        except (ValueError, binascii.Error):
            blob = b""
        if blob:
            lines.append(Line(line, tuple(parts[0].split(",")), Key(parts[1], blob), " ".join(parts[1:])))
        else:
            lines.append(Line(line))
    return lines


def pins(lines: Iterable[Line], target: Target) -> tuple[Key, ...]:
    """Give the keys that are pinned for a host."""
    return tuple(line.key for line in lines if line.key and line.is_of(target))


def pinned(text: str, keys: Mapping[Target, Key]) -> str:
    """Give the text of known_hosts with these hosts' keys, and no other key for them; all other entries stay."""
    kept = []
    for line in parse(text):
        ours = [entry for entry in line.names if any(_names(entry, target) for target in keys)]
        others = [entry for entry in line.names if entry not in ours]
        if not ours:
            kept.append(line.text)
        elif others:
            kept.append(f"{','.join(others)} {line.rest}")
    for target, key in keys.items():
        kept.append(f"{','.join(target.known_as)} {key.kind} {base64.b64encode(key.blob).decode()} {target.name}")
    return "".join(f"{line}\n" for line in kept)


# --- the network ----------------------------------------------------------------------------------------------------


def read_key(target: Target, kinds: Sequence[str] = ()) -> Key:
    """Ask a host for its key, one of these kinds if it has one. Raises SilentError."""
    try:
        connection = socket.create_connection((target.address, target.port), timeout=CONNECT_S)
    except TimeoutError:
        raise SilentError(f"no answer within {CONNECT_S} s") from None
    except OSError as error:
        raise SilentError((error.strerror or str(error)).lower()) from None
    try:
        return _handshake(connection, [kind for kind in kinds if kind in _ALGORITHMS])
    except paramiko.ssh_exception.IncompatiblePeer:
        if not kinds:
            raise SilentError("it offers no kind of key that is known here (ed25519, ecdsa or rsa)") from None
    except (paramiko.SSHException, EOFError, OSError) as error:
        said = " ".join(str(error).split())
        raise SilentError(f"something answers, but not as SSH does ({said or 'the connection was cut'})") from None
    finally:
        connection.close()
    return read_key(target)


def _handshake(connection: socket.socket, kinds: Sequence[str]) -> Key:
    transport = paramiko.Transport(connection)
    try:
        wanted = [name for kind in kinds or _ALGORITHMS for name in _ALGORITHMS[kind]]
        transport.get_security_options().key_types = wanted
        transport.start_client(timeout=HANDSHAKE_S)
        key = transport.get_remote_server_key()
        return Key(key.get_name(), key.asbytes())
    finally:
        transport.close()


Reader = Callable[[Target, Sequence[str]], Key]


def look(wanted: Sequence[Target], text: str, read: Reader | None = None) -> list[Finding]:
    """Ask all hosts for their keys, side by side, and compare them with the text of known_hosts."""
    lines = parse(text)

    def one(target: Target) -> Finding:
        known = pins(lines, target)
        try:
            key = (read or read_key)(target, [each.kind for each in known])
        except SilentError as error:
            return Finding(target, "silent", None, known, str(error))
        return Finding(target, "new" if not known else "same" if key in known else "changed", key, known)

    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(one, wanted))


# --- judging --------------------------------------------------------------------------------------------------------


def expected(text: str, file: str, hosts: Sequence[str]) -> tuple[dict[str, str], list[Problem]]:
    """Read a list of expected fingerprints, a line for each host: HOST SHA256:... Returns what was read and what is wrong."""
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        got, wanted, fix = "", "HOST SHA256:...", ""
        if len(parts) != 2:
            got = f"got {show(line.strip())}"
        elif parts[0] not in hosts:
            got, wanted = f"got the host {show(parts[0])}", f"a host of this practice: {', '.join(hosts)}"
            fix = did_you_mean(parts[0], hosts)
        elif not _FINGERPRINT.fullmatch(parts[1]):
            got, wanted = f"got {show(parts[1])}", "a fingerprint as ssh-keygen -l prints it: SHA256: and 43 characters"
        elif parts[0] in found:
            got, wanted = f"a second line for {parts[0]}", "one line for each host"
        if got:
            problems.append(Problem(file, number, 1, "", got, wanted, fix))
        else:
            found[parts[0]] = parts[1]
    return found, problems


def twins(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Name hosts that show one and the same key: machines that were copied, each of which can pose as the other."""
    seen: dict[Key, str] = {}
    found = []
    for finding in findings:
        if finding.key:
            first = seen.setdefault(finding.key, finding.target.name)
            if first != finding.target.name:
                found.append((first, finding.target.name))
    return found


def table(findings: Sequence[Finding]) -> list[str]:
    """Write what was found, a line for each host."""
    name = max(len(finding.target.name) for finding in findings)
    place = max(len(str(finding.target)) for finding in findings)
    said = {"new": "", "same": "  as pinned", "changed": "  NOT the pinned key", "silent": ""}
    return [
        f"  {each.target.name:{name}}  {each.target!s:{place}}  {each.key or each.reason}{said[each.state]}"
        for each in findings
    ]


def alarm(finding: Finding, command: str) -> list[str]:
    """Say what a changed key means, and what to do. command: how to pin the new key, for when that is right."""
    target, key = finding.target, finding.key
    assert key is not None
    old = [f"  pinned  {each}" for each in finding.pinned]
    return [
        f"{target.name} ({target}) does not show the key that is pinned for it:",
        *old,
        f"  shown   {key}",
        f"Either {target.name} was installed anew, or another machine answers at its address. On {target.name}'s own console run",
        f"  {on_console(key)}",
        f"Only if that prints the fingerprint that is shown: {command}",
    ]


def on_console(key: Key) -> str:
    """Give the command that prints a key's fingerprint on the machine itself."""
    return f"ssh-keygen -lf /etc/ssh/ssh_host_{key.family.lower()}_key.pub"
