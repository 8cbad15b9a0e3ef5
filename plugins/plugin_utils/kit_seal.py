# SPDX-License-Identifier: Apache-2.0
"""Seal a recovery kit to its readers' keys, open it again, and keep it in the practice's folder.

What is sealed is a plain tar, so that `age -d -i KEY FILE | tar -x` opens it without any of our programs. Nothing in clear is
ever written to a disk here.
"""

from __future__ import annotations

import calendar
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage
from ansible_collections.holdfast.practice.plugins.plugin_utils.recovery_kit import FORMAT, KitError
from ansible_collections.holdfast.practice.plugins.plugin_utils.secrets import write

STATE = "state.json"
KIT = "kit.json"
LATEST = "latest.age"
_AGE = b"age-encryption.org/v1"


# --- seal and open ---------------------------------------------------------------------------------------------------


def keys(recipients: Sequence[Mapping[str, str]]) -> list[pyrage.x25519.Recipient]:
    """Read the readers' public keys; raises KitError for one that is no key (its checksum tells a slip of the pen)."""
    found = []
    for each in recipients:
        try:
            found.append(pyrage.x25519.Recipient.from_str(each["recipient"]))
        except pyrage.RecipientError:
            raise KitError(
                f"contacts.{each['role']}.recipient is not an age public key: {each['recipient']} fails its own checksum. "
                "Copy it again; `age-keygen -y KEYFILE` prints it."
            ) from None
    return found


def pack(folder: str, files: Mapping[str, bytes], made: str) -> bytes:
    """Put files into a tar below a folder, readable by their owner only."""
    at = calendar.timegm(time.strptime(made, "%Y-%m-%dT%H:%M:%SZ"))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        names = {folder} | {f"{folder}/{name.rpartition('/')[0]}" for name in files if "/" in name}
        for name in sorted(names):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o700, at
            tar.addfile(entry)
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode, entry.mtime = len(text), 0o600, at
            tar.addfile(entry, io.BytesIO(text))
    return out.getvalue()


def seal(folder: str, files: Mapping[str, bytes], made: str, recipients: Sequence[Mapping[str, str]]) -> bytes:
    """Encrypt the kit to every reader."""
    return bytes(pyrage.encrypt(pack(folder, files, made), keys(recipients)))


def identities(text: str, name: str) -> list[pyrage.x25519.Identity]:
    """Read an age key file; raises KitError without showing any of it. ``name`` is what messages call it."""
    if text.startswith((_AGE.decode(), "-----BEGIN AGE")):
        raise KitError(
            f"{name} is itself locked with a passphrase; unlock it on the way: "
            f"age -d {name} | bin/holdfast kit-check KIT --identity -"
        )
    lines = [line.strip() for line in text.splitlines()]
    found = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        try:
            found.append(pyrage.x25519.Identity.from_str(line))
        except pyrage.IdentityError:
            raise KitError(f"{name} is no age key file; expected lines that begin with AGE-SECRET-KEY-1") from None
    if not found:
        raise KitError(f"{name} holds no key; expected a line that begins with AGE-SECRET-KEY-1")
    return found


def unseal(sealed: bytes, keys_of_owner: Sequence[pyrage.x25519.Identity], name: str) -> dict[str, bytes]:
    """Open a sealed kit in memory: its files by name below the kit's folder. Raises KitError."""
    if not sealed.startswith(_AGE):
        raise KitError(f"{name} is not a sealed kit: expected a file encrypted with age")
    try:
        plain = bytes(pyrage.decrypt(sealed, keys_of_owner))
    except pyrage.DecryptError as error:
        if "No matching keys" in str(error):
            raise KitError(
                f"{name} is not sealed to this key; use the key of one of its readers (the page names them)"
            ) from None
        raise KitError(
            f"{name} is damaged: it cannot be decrypted; take another copy, and compare its SHA-256"
        ) from None
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            for entry in tar:
                stream = tar.extractfile(entry) if entry.isfile() else None
                if stream is not None:
                    files[entry.name.partition("/")[2]] = stream.read()
    except tarfile.TarError:
        raise KitError(f"{name} does not hold a recovery kit") from None
    if KIT not in files:
        raise KitError(f"{name} does not hold a recovery kit")
    return files


def read_kit(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """Read kit.json of an opened kit; raises KitError for one of another version."""
    try:
        kit = json.loads(files[KIT])
        known = kit["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        raise KitError(f"{name} holds a kit that cannot be read") from None
    if not known:
        raise KitError(
            f"{name} is a kit of format {kit['format']}, this Holdfast reads {FORMAT}; use the Holdfast it names"
        )
    found: dict[str, Any] = kit
    return found


# --- keep it in the practice's folder --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """What the folder says of the last kit: state (see save()), or why it is not whole."""

    state: Mapping[str, Any] | None
    why: str


def sha256(content: bytes) -> str:
    """SHA-256 as the page prints it."""
    return hashlib.sha256(content).hexdigest()


def look(folder: Path) -> Kept:
    """Look at the last kit and whether its sealed file is still what was written."""
    path = folder / STATE
    if not path.exists():
        return Kept(None, "there is none yet")
    try:
        state = json.loads(path.read_text("utf-8"))
        sealed = folder / state["page"]["file"]
        if state["format"] != FORMAT:
            return Kept(None, "the last one is of another version")
        if not sealed.is_file() or sha256(sealed.read_bytes()) != state["page"]["sha256"]:
            return Kept(state, f"{sealed.name} is gone or damaged")
    except (OSError, ValueError, KeyError, TypeError):
        return Kept(None, f"{STATE} cannot be read")
    return Kept(state, "")


def save(folder: Path, name: str, sealed: bytes, state: Mapping[str, Any]) -> None:
    """Write the sealed file, then what is said of it. state: {"format", "fingerprint", "facts", "page"}; it holds no secret."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    write(folder / name, sealed, 0o600)
    write(folder / STATE, (json.dumps(state, indent=1, ensure_ascii=False) + "\n").encode(), 0o600)
    link = folder / f".{LATEST}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    link.replace(folder / LATEST)
