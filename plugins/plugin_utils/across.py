# SPDX-License-Identifier: Apache-2.0
"""What no two practices may share: ids, host names, addresses, SSH host keys, places of copies, secrets.

Practices are looked at one after the other. Of each only small tuples are kept, in dictionaries, so that a thousand of them take
the time of reading them. Secrets are compared by hashes under a key that lives as long as the run.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import re
import secrets as random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import (
    NETWORK_DRIVERS,
    SSH_PORT,
    Address,
    Bucket,
    HostId,
    PracticeId,
    Url,
    Uuid,
    plain_address,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import (
    Document,
    KeyPath,
    Problem,
    described,
    dotted,
    is_secret_name,
    value_at,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import mapping, valid


class Kind(NamedTuple):
    """What is said of a thing that two practices share."""

    expected: str
    fix: str


KINDS = {
    "id": Kind("an id of its own", "write another id, or delete the copy of the folder"),
    "name": Kind("a name that no host of another practice has", "write a name that begins with the practice's id"),
    "address": Kind("an address of its own", "write the address of this practice's own machine"),
    "bucket": Kind("a bucket of its own", "make a bucket for this practice alone, and write its name"),
    "target": Kind("a place of its own", "write an account or a path for this practice alone"),
    "disk": Kind("a disk of its own", "write the UUID of this practice's own disk"),
    "heartbeat": Kind("an address of its own: one's good day would hide the other's silence", "make one, and write it"),
    "host key": Kind(
        "a machine of one practice only", "take it out of one of the two, or give the new machine new keys"
    ),
    "secret": Kind(
        "a secret of its own: one leak would open both",
        "delete it with: ansible-vault edit, and make a new one with: bin/holdfast secrets",
    ),
}


class Thing(NamedTuple):
    """Something of a practice that no other may have. key: what is compared; got: what a message says of it."""

    kind: str
    key: Any
    file: str
    line: int
    column: int
    path: str
    got: str
    fix: str = ""

    def problem(self, other: str) -> Problem:
        """Say that it is another practice's as well."""
        kind = KINDS[self.kind]
        got = f"{self.got}, also {other}"
        return Problem(self.file, self.line, self.column, self.path, got, kind.expected, self.fix or kind.fix)


@dataclass
class Neighbours:
    """What is known of the practices seen so far."""

    first: dict[tuple[str, Any], tuple[int, str]] = field(default_factory=dict)
    count: int = 0
    secret: bytes = field(default_factory=lambda: random.token_bytes(32), repr=False)

    def begin(self) -> None:
        """Go on to the next practice."""
        self.count += 1

    def compare(self, things: Iterable[Thing]) -> list[Problem]:
        """Compare what a practice has with all before it, and remember it."""
        found: dict[tuple[str, str], Problem] = {}
        for thing in things:
            other = self.other(thing.kind, thing.key, thing)
            if other:
                found.setdefault((thing.kind, thing.path), thing.problem(other))
        return list(found.values())

    def other(self, kind: str, key: Any, thing: Thing) -> str:
        """Say where another practice has this already, or nothing; remember it."""
        place = f"{thing.path} in {thing.file}" + (f":{thing.line}" if thing.line else "")
        owner, first = self.first.setdefault((kind, key), (self.count, place))
        return first if owner != self.count else ""

    def hash(self, content: str) -> bytes:
        """Hash a secret under this run's key."""
        return hmac.digest(self.secret, content.strip().encode(), "sha256")


# --- the document ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    """Takes things out of a document that may be wrong in places."""

    document: Document

    def at(self, leaf: Any, *path: str) -> Any:
        """Give the text at a key path, or None when there is none or it is wrong in itself."""
        value = value_at(self.document.data, path)
        return valid(leaf, value) if isinstance(value, str) and path not in self.document.hazards else None

    def below(self, *path: str) -> dict[str, Any]:
        return mapping(value_at(self.document.data, path))

    def thing(self, kind: str, key: Any, *path: str, fix: str = "") -> Thing:
        document, named = self.document, kind == "name"
        got = described(path[-1] if named else value_at(document.data, path))
        shown = "got a value (hidden)" if document.is_hidden(path) else got
        return Thing(kind, key, document.file, *document.mark(path, key=named), dotted(path), shown, fix)


def of_document(document: Document) -> Iterator[Thing]:
    """Collect what a document says; what is wrong in itself is left out."""
    read = _Read(document)
    practice = read.at(PracticeId, "practice", "id")
    if practice:
        yield read.thing("id", practice, "practice", "id")
    for name in read.below("hosts"):
        if valid(HostId, name):
            better = f"{practice}-{name}" if practice else ""
            yield read.thing("name", name, "hosts", name, fix=f"write {better}" if valid(HostId, better) else "")
        if address := read.at(Address, "hosts", name, "address"):
            yield read.thing("address", plain_address(address), "hosts", name, "address")
        # a carrier may serve several practices; a machine that may be erased is of one
        spare = value_at(document.data, ("hosts", name, "driver")) == "spare"
        if spare and (carrier := read.at(Address, "hosts", name, "on")):
            yield read.thing("address", plain_address(carrier), "hosts", name, "on")
    for name, ups in read.below("power").items():
        if address := ups_address(mapping(ups)):
            fix = "write the address of this practice's own UPS"
            yield read.thing("address", address, "power", name, "port", fix=fix)
    if heartbeat := read.at(Url, "alerts", "heartbeat"):
        yield read.thing("heartbeat", plain_url(heartbeat), "alerts", "heartbeat")
    yield from _copies(read)


def _copies(read: _Read) -> Iterator[Thing]:
    for name in read.below("copies", "removable", "disks"):
        if uuid := read.at(Uuid, "copies", "removable", "disks", name, "uuid"):
            yield read.thing("disk", uuid.lower(), "copies", "removable", "disks", name, "uuid")
    offsite = ("copies", "offsite")
    if bucket := read.at(Bucket, *offsite, "s3", "bucket"):
        endpoint = read.at(Url, *offsite, "s3", "endpoint")
        # with AWS, a bucket's name is the same bucket in the whole world
        yield read.thing("bucket", (plain_url(endpoint)[:2] if endpoint else None, bucket), *offsite, "s3", "bucket")
    if url := read.at(Url, *offsite, "rest", "url"):
        yield read.thing("target", plain_url(url), *offsite, "rest", "url")
    if host := read.at(Address, *offsite, "sftp", "host"):
        sftp = read.below(*offsite, "sftp")
        account = (plain_address(host), str(sftp.get("port", SSH_PORT)), str(sftp.get("user")))
        yield read.thing("target", (*account, str(sftp.get("path")).rstrip("/")), *offsite, "sftp", "path")


def plain_url(url: str) -> tuple[str, int, str]:
    """Take a checked URL apart into host, port and path, so that equal ones look equal."""
    parts = urlsplit(url)
    return plain_address(parts.hostname or ""), parts.port or 443, parts.path.rstrip("/")


def ups_address(ups: Mapping[str, Any]) -> str:
    """Give the network address in a UPS's port, or nothing for a UPS on a cable."""
    port = ups.get("port")
    if not isinstance(port, str):
        return ""
    bare = re.sub(r"^[a-z]+://", "", port)
    found = re.fullmatch(r"\[([^\]]+)\](?::\d+)?/?.*", bare) or re.fullmatch(r"([^:/]+)(?::\d+)?(?:/.*)?", bare)
    address = found[1] if found else bare
    try:
        return plain_address(str(ipaddress.ip_address(address)))
    except ValueError:
        known = ups.get("driver") in NETWORK_DRIVERS and valid(Address, address)
        return plain_address(address) if known else ""


# --- what lies beside it --------------------------------------------------------------------------------------------


def of_known_hosts(document: Document, text: str, file: str) -> Iterator[Thing]:
    """Collect the keys that are pinned for a practice's machines; an offsite provider's may be known to several."""
    sftp = mapping(value_at(document.data, ("copies", "offsite", "sftp")))
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if len(parts) < 3 or parts[0].startswith(("#", "@")):
            continue
        if all(_is_provider(name, sftp) for name in parts[0].split(",")):
            continue
        shown = "a hashed name" if parts[0].startswith("|") else parts[0]
        yield Thing("host key", (parts[1], parts[2]), file, number, 1, shown, f"got a key ({parts[1]})")


def _is_provider(name: str, sftp: Mapping[str, Any]) -> bool:
    """Say whether a name in known_hosts, plain or hashed, is that of the offsite copy's SFTP server."""
    host = str(sftp.get("host", "")).lower()
    names = (host, f"[{host}]:{sftp.get('port', SSH_PORT)}")
    if not name.startswith("|1|"):
        return name.lower() in names
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in name.split("|")[2:4])
    except ValueError:
        return False
    return any(hmac.digest(salt, each.encode(), "sha1") == digest for each in names)


def of_vault(vault: Mapping[str, Any], file: str, hashed: Callable[[str], bytes]) -> Iterator[Thing]:
    """Collect the secrets of a decrypted vault, as hashes: ours, and what else is called or looks like a secret."""
    for path, value in _texts(vault, ()):
        ours = str(path[0]).startswith("vault_") and path[0] != "vault_practice_id"
        if value.strip() and (ours or any(is_secret_name(str(part)) for part in path) or "PRIVATE KEY-----" in value):
            label = str(path[0]) + "".join(f"[{part}]" for part in path[1:])
            yield Thing("secret", hashed(value), file, 0, 0, label, "got a secret (hidden)")


def _texts(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, (*path, str(name)))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(each, (*path, index))
    elif path and isinstance(value, str):
        yield path, value


def of_key_file(document: Document, content: str, hashed: Callable[[str], bytes]) -> Thing:
    """Make the thing of a private key file, which practices may share though they had better not."""
    line, column = document.mark(("access", "key"))
    return Thing("key file", hashed(content), document.file, line, column, "access.key", "")
