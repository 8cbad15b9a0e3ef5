# SPDX-License-Identifier: Apache-2.0
"""The evidence ledger: canonical records, chained by hash, signed with an SSH key.

One line of ``ledger.jsonl`` is ``{"hash": ..., "record": {...}, "signature": ...}`` in canonical JSON. ``hash`` is the
BLAKE2b-256 of the canonical record, ``record.prev`` the hash of the record before it, ``signature`` the base64 body of
an SSHSIG over the canonical record. A stranger needs python3, ssh-keygen and the pinned public key to check a ledger.

Standard library only and free of Ansible: ``python3 evidence.py FOLDER SIGNERS`` verifies, wherever the file lies.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

NAMESPACE = "holdfast-evidence"
LEDGER = "ledger.jsonl"
GENESIS = "0" * 64
SCHEMA = 1
KINDS = ("proof", "drill", "backup", "retirement", "deletion", "kit_check")
_ARMOUR = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")
_SSHSIG = b"SSHSIG\x00\x00\x00\x01"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class EvidenceError(Exception):
    """The ledger cannot be written or read; the text says what was expected and what to do next."""


class Signer(NamedTuple):
    """One pinned key: the name it signs for and ``SHA256:...``, as ``ssh-keygen -l`` prints it."""

    principal: str
    key_id: str


@dataclass(frozen=True)
class Broken:
    """The first thing wrong in a ledger. ``check`` is one of unparsable, hash, chain, practice, unknown_signer,
    signature, head."""

    line: int
    seq: int | None
    kind: str | None
    check: str
    message: str


@dataclass(frozen=True)
class Verification:
    """What was checked: ``count`` whole records before ``broken`` (all of them when it is None)."""

    count: int
    first: str | None = None
    last: str | None = None
    head: str | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    broken: Broken | None = None

    @property
    def ok(self) -> bool:
        """Zero checked is a failure."""
        return self.broken is None and self.count > 0


# --- pure ------------------------------------------------------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """Return the one spelling of a JSON value: sorted keys, no spaces, ASCII; NaN is a ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def digest(value: Any) -> str:
    """BLAKE2b-256 of the canonical form, 64 hex digits."""
    return hashlib.blake2b(canonical(value), digest_size=32).hexdigest()


def new_record(
    last: Mapping[str, Any] | None,
    practice: str,
    kind: str,
    body: Mapping[str, Any],
    at: str,
    signer: str,
    monotonic_ns: int | None = None,
    gap: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Say what the record after ``last`` (a ledger entry, or None for the first) looks like."""
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "seq": last["record"]["seq"] + 1 if last else 1,
        "prev": last["hash"] if last else GENESIS,
        "kind": kind,
        "practice": practice,
        "at": at,
        "signer": signer,
        "body": dict(body),
    }
    if monotonic_ns is not None:
        record["monotonic_ns"] = monotonic_ns
    if gap is not None:
        record["gap"] = dict(gap)
    return record


def parse_line(line: bytes) -> dict[str, Any]:
    """Return the entry a ledger line holds, or raise EvidenceError: any other spelling of the same JSON is refused."""
    try:
        entry = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        raise EvidenceError("not a JSON line") from None
    if not isinstance(entry, dict) or set(entry) != {"hash", "record", "signature"}:
        raise EvidenceError("not an entry of hash, record and signature")
    record = entry["record"]
    shape = {
        "schema": int,
        "seq": int,
        "prev": str,
        "kind": str,
        "practice": str,
        "at": str,
        "signer": str,
        "body": dict,
    }
    if not isinstance(record, dict) or any(type(record.get(key)) is not want for key, want in shape.items()):
        raise EvidenceError("the record lacks a field or has one of the wrong type")
    if record["schema"] != SCHEMA or not _TIME.fullmatch(record["at"]):
        raise EvidenceError("the record has an unknown schema or time format")
    if not isinstance(entry["hash"], str) or not isinstance(entry["signature"], str):
        raise EvidenceError("hash or signature is not text")
    try:
        spelt = canonical(entry)
    except ValueError:
        raise EvidenceError("the record holds a number that JSON has no word for") from None
    if spelt != line:
        raise EvidenceError("not in canonical form: the line was rewritten")
    return entry


def parse_signers(text: str) -> list[Signer]:
    """Read an OpenSSH allowed_signers file; keys pinned for another namespace are left out."""
    signers = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        for at, word in enumerate(words[1:-1], start=1):
            if re.fullmatch(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+", word):
                try:
                    blob = base64.b64decode(words[at + 1], validate=True)
                except (binascii.Error, ValueError):
                    break
                limit = re.search(r'namespaces="([^"]*)"', " ".join(words[1:at]))
                if limit is None or NAMESPACE in limit.group(1).split(","):
                    signers.append(Signer(words[0].split(",")[0], key_id_of(blob)))
                break
    return signers


def key_id_of(blob: bytes) -> str:
    """``SHA256:...`` of a public key blob."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def check_chain(
    lines: Sequence[bytes], known: Sequence[Signer], practice: str | None = None
) -> tuple[list[dict[str, Any]], Broken | None]:
    """Check all that needs no key: return the entries before the first break, and the break (or None)."""
    entries: list[dict[str, Any]] = []
    ids = {signer.key_id for signer in known}
    prev, owner = GENESIS, practice
    for number, line in enumerate(lines, start=1):
        seq: int | None = None
        kind: str | None = None
        try:
            entry = parse_line(line)
        except EvidenceError as error:
            return entries, Broken(number, seq, kind, "unparsable", str(error))
        record = entry["record"]
        seq, kind = record["seq"], record["kind"]
        owner = owner or record["practice"]
        if digest(record) != entry["hash"]:
            why = ("hash", "the record is not the one its hash was made of")
        elif record["prev"] != prev:
            why = ("chain", "it does not follow the record before it: one was removed, moved or put in")
        elif seq != number:
            why = ("chain", f"record number {number} was expected here, found {seq}")
        elif record["practice"] != owner:
            why = ("practice", f"the record belongs to practice {record['practice']}, expected {owner}")
        elif record["signer"] not in ids:
            why = ("unknown_signer", f"signed by {record['signer']}, which is not pinned in the signers file")
        elif _signature_blob(entry["signature"]) is None:
            why = ("signature", "the signature is not an SSHSIG in its one spelling")
        else:
            entries.append(entry)
            prev = entry["hash"]
            continue
        return entries, Broken(number, seq, kind, *why)
    return entries, None


def time_notes(entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Name what a reader should know though the chain holds: gaps after a crash, a clock that went back."""
    notes = []
    before = None
    for entry in entries:
        record = entry["record"]
        if "gap" in record:
            notes.append(f"record {record['seq']} notes a gap: a half-written line was moved aside before it")
        if before and record["at"] < before:
            notes.append(f"record {record['seq']} is dated before the one it follows (clock set back)")
        before = record["at"]
    return tuple(notes)


def last_known(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return, for each ``host/job``, the snapshots of the newest run that evidence names: they must still be there.

    Newest by the run's own time and not by the record's: a proof that had to fall back on an older run (because the
    newest was removed) must not make the loss forgotten at the next proof. The alarm ends with a newer run.
    """
    known: dict[str, tuple[str, list[str]]] = {}
    for entry in entries:
        record = entry["record"]
        rows = record["body"].get({"proof": "items", "backup": "jobs"}.get(record["kind"], ""))
        for row in rows if isinstance(rows, list) else []:
            if not isinstance(row, dict) or not isinstance(row.get("snapshots"), dict):
                continue
            ids = [str(value) for _part, value in sorted(row["snapshots"].items()) if value]
            # A host whose clock runs ahead cannot claim a run after the record that tells of it.
            at = min(str(row.get("arrived") or row.get("finished") or record["at"]), record["at"])
            name = f"{row.get('host')}/{row.get('job')}"
            if ids and at >= known.get(name, ("", []))[0]:
                known[name] = (at, ids)
    return {name: ids for name, (_at, ids) in known.items()}


def last_about(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give the newest record of what became of each host that left: {"retirement/desk1": {"seq", "at", "body"}}."""
    found = {}
    for record in (entry["record"] for entry in entries):
        if record["kind"] in ("retirement", "deletion"):
            about = {"seq": record["seq"], "at": record["at"], "body": record["body"]}
            found[f"{record['kind']}/{record['body'].get('host')}"] = about
    return found


def _signature_blob(text: str) -> bytes | None:
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # ssh-keygen takes version 0 for version 1, and base64 has spare bits at its end: one spelling counts, no other.
    return blob if base64.b64encode(blob).decode() == text and blob.startswith(_SSHSIG) else None


# --- ssh-keygen ------------------------------------------------------------------------------------------------------


@contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    """A file of this process's memory: it has no name to leak and is gone with the process, however that ends."""
    fd = os.memfd_create("holdfast", os.MFD_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        with os.fdopen(os.dup(fd), "wb") as handle:
            handle.write(content)
        yield fd
    finally:
        os.close(fd)


def _keygen(arguments: Sequence[str], stdin: bytes, fd: int) -> subprocess.CompletedProcess[bytes]:
    # SSH_ASKPASS_REQUIRE: a key with a passphrase is an error here, never a question to somebody's screen.
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "TZ": "UTC",
        "LC_ALL": "C",
        "SSH_ASKPASS_REQUIRE": "never",
    }
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments],
            input=stdin,
            pass_fds=[fd],
            capture_output=True,
            env=environment,
            check=False,
            timeout=60,
        )
    except OSError as error:
        raise EvidenceError(f"ssh-keygen cannot be run ({error.strerror}): install openssh-client") from error


def _refuse_key(step: str, answer: subprocess.CompletedProcess[bytes]) -> EvidenceError:
    reason = answer.stderr.decode(errors="replace").strip().splitlines()
    reason_text = re.sub(r"/proc/self/fd/\d+", "the key", reason[0]) if reason else "no message"
    return EvidenceError(
        f"The evidence key cannot {step}: {reason_text}. Expected an OpenSSH private key without a passphrase "
        "(vault_evidence_key); `bin/holdfast secrets` makes one."
    )


class SigningKey:
    """A private key as text. It reaches ssh-keygen through a memory file, never a disk or an argument."""

    def __init__(self, text: str) -> None:
        self._content = (text.strip() + "\n").encode()
        with _memory_file(self._content) as fd:
            answer = _keygen(["-y", "-P", "", "-f", f"/proc/self/fd/{fd}"], b"", fd)
        if answer.returncode != 0:
            raise _refuse_key("be read", answer)
        self.key_id = key_id_of(base64.b64decode(answer.stdout.split()[1]))

    def sign(self, content: bytes) -> str:
        """Return the base64 body of an SSHSIG over ``content``."""
        with _memory_file(self._content) as fd:
            answer = _keygen(["-Y", "sign", "-q", "-n", NAMESPACE, "-f", f"/proc/self/fd/{fd}"], content, fd)
        if answer.returncode != 0:
            raise _refuse_key("sign", answer)
        lines = answer.stdout.decode().split()
        return "".join(line for line in lines if re.fullmatch(r"[A-Za-z0-9+/=]+", line) and len(line) > 9)


def signature_holds(entry: Mapping[str, Any], signers_file: str, known: Sequence[Signer]) -> bool:
    """Ask ssh-keygen whether the pinned key named in the record signed it. One process, about 5 ms."""
    record = entry["record"]
    principal = next(signer.principal for signer in known if signer.key_id == record["signer"])
    body = entry["signature"]
    wrapped = [body[at : at + 70] for at in range(0, len(body), 70)]
    armoured = "\n".join([_ARMOUR[0], *wrapped, _ARMOUR[1], ""]).encode()
    # The key must have been valid when the record was made; _keygen sets TZ=UTC, so the time needs no suffix.
    moment = re.sub(r"\D", "", record["at"])
    with _memory_file(armoured) as fd:
        answer = _keygen(
            [
                "-Y",
                "verify",
                "-f",
                signers_file,
                "-I",
                principal,
                "-n",
                NAMESPACE,
                "-O",
                "verify-time=" + moment,
                "-s",
                f"/proc/self/fd/{fd}",
            ],
            canonical(record),
            fd,
        )
    return answer.returncode == 0 and record["signer"].encode() in answer.stdout


# --- the ledger on disk ----------------------------------------------------------------------------------------------


def utc_now() -> str:
    """The wall clock as ``2026-11-21T20:30:12Z``."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Ledger:
    """``ledger.jsonl`` in a folder. Appending holds a lock, and a record is on disk whole or counts for nothing."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.path = self.folder / LEDGER

    def lines(self) -> list[bytes]:
        """Return all lines, a torn last one included; no ledger is no lines."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return content.splitlines() if content.endswith(b"\n") else [*content.split(b"\n")]

    def last(self) -> dict[str, Any] | None:
        """Return the newest whole entry, or raise EvidenceError when it is not what was written."""
        whole = self._tail()[0]
        return _sound(whole, self.path) if whole else None

    def entries(self) -> list[dict[str, Any]]:
        """Return the whole entries, unverified beyond their form; raise EvidenceError at a broken one."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return [_sound(line, self.path) for line in content.split(b"\n")[:-1]]

    def append(
        self,
        practice: str,
        kind: str,
        body: Mapping[str, Any],
        key: SigningKey,
        at: str | None = None,
        monotonic_ns: int | None = None,
    ) -> dict[str, Any]:
        """Sign and append one record; return its entry ``{"hash", "record", "signature"}``."""
        self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        with self._locked():
            whole, torn = self._tail()
            last = _sound(whole, self.path) if whole else None
            if last and last["record"]["practice"] != practice:
                raise EvidenceError(
                    f"{self.path} is the ledger of practice {last['record']['practice']}; refusing one of practice "
                    f"{practice}. Check practice_evidence_dir."
                )
            gap = self._move_aside(torn, last)
            entry = sealed(new_record(last, practice, kind, body, at or utc_now(), key.key_id, monotonic_ns, gap), key)
            self._write(canonical(entry) + b"\n")
        return entry

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.folder / ".ledger.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _tail(self) -> tuple[bytes, bytes]:
        """Return the last whole line and what follows it (b"" unless a write was cut short)."""
        try:
            handle = self.path.open("rb")
        except FileNotFoundError:
            return b"", b""
        with handle:
            size = handle.seek(0, os.SEEK_END)
            tail = b""
            while size and tail.count(b"\n") < 2:
                step = min(size, 1 << 16)
                size -= step
                handle.seek(size)
                tail = handle.read(step) + tail
        whole, newline, torn = tail.rpartition(b"\n")
        return (whole.rpartition(b"\n")[2], torn) if newline else (b"", tail)

    def _move_aside(self, torn: bytes, last: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Keep a torn line in a file of its own; return the gap that the record after it has to note.

        The file is named after the record before the gap, so that a crash right here loses nothing: the next append
        finds the file again.
        """
        aside = self.folder / f"torn-{(last['hash'] if last else GENESIS)[:16]}.bin"
        if torn:
            fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            with os.fdopen(fd, "wb") as handle:
                handle.write(torn)
                handle.flush()
                os.fsync(handle.fileno())
            self._sync_folder()
            with self.path.open("r+b") as handle:
                handle.truncate(os.fstat(handle.fileno()).st_size - len(torn))
                os.fsync(handle.fileno())
        if not aside.exists():
            return None
        content = aside.read_bytes()
        return {
            "bytes": len(content),
            "digest": hashlib.blake2b(content, digest_size=32).hexdigest(),
            "file": aside.name,
        }

    def _write(self, line: bytes) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        with os.fdopen(fd, "wb", buffering=0) as handle:
            if handle.write(line) != len(line):
                raise EvidenceError(f"{self.path}: the disk took only a part of the record; free some space, run again")
            os.fsync(handle.fileno())
        self._sync_folder()

    def _sync_folder(self) -> None:
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def sealed(record: Mapping[str, Any], key: SigningKey) -> dict[str, Any]:
    """Return the ledger entry of a record: with its hash and signature."""
    return {"record": dict(record), "hash": digest(record), "signature": key.sign(canonical(record))}


def _sound(line: bytes, path: Path) -> dict[str, Any]:
    try:
        entry = parse_line(line)
        if digest(entry["record"]) != entry["hash"]:
            raise EvidenceError(f"record {entry['record']['seq']} is not the one its hash was made of")
    except EvidenceError as error:
        raise EvidenceError(
            f"{path}: {error}. Nothing is added to a broken ledger: run "
            f"`bin/holdfast verify-evidence {path.parent}`, keep the folder as it is for whoever looks into it, and "
            "start a new one."
        ) from None
    return entry


# --- verification ----------------------------------------------------------------------------------------------------


def verify(folder: str, signers_file: str, practice: str | None = None, head: str | None = None) -> Verification:
    """Check every record; the first break in ledger order is the one named.

    ``head`` is the hash of a record known from elsewhere (a report, an offsite copy): it must be in the chain. Without
    it nobody can see that records were cut off the end. Raises EvidenceError when there is nothing to read.
    """
    path = Path(folder)
    if not path.is_dir():
        raise EvidenceError(f"{folder} is not a folder: expected the evidence folder of a practice")
    try:
        known = parse_signers(Path(signers_file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EvidenceError(f"{signers_file} cannot be read: expected the pinned signers ({error})") from error
    if not known:
        raise EvidenceError(f"{signers_file} pins no key for {NAMESPACE}: expected an allowed_signers file")
    lines = Ledger(folder).lines()
    entries, broken = check_chain(lines, known, practice)
    with ThreadPoolExecutor(max_workers=min(32, 2 * (os.cpu_count() or 1))) as pool:
        holds = list(pool.map(lambda entry: signature_holds(entry, signers_file, known), entries))
    if False in holds:
        first = holds.index(False)
        record = entries[first]["record"]
        broken = Broken(
            first + 1, record["seq"], record["kind"], "signature", "the pinned key did not sign this record"
        )
        entries = entries[:first]
    if broken is None and head is not None and head not in [entry["hash"] for entry in entries]:
        broken = Broken(len(lines), None, None, "head", f"the known record {head[:16]}... is gone: the end was cut off")
    kinds: dict[str, int] = {}
    for entry in entries:
        kinds[entry["record"]["kind"]] = kinds.get(entry["record"]["kind"], 0) + 1
    return Verification(
        count=len(entries),
        first=entries[0]["record"]["at"] if entries else None,
        last=entries[-1]["record"]["at"] if entries else None,
        head=entries[-1]["hash"] if entries else None,
        kinds=kinds,
        notes=time_notes(entries),
        broken=broken,
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main_verify(folder: str, signers: str, practice: str | None = None, head: str | None = None) -> int:
    """Print the result for people. Return 0 when every record holds, 1 when not (or there is none), 3 for bad input."""
    try:
        result = verify(folder, signers, practice, head)
    except EvidenceError as error:
        sys.stderr.write(f"verify-evidence: {error}\n")
        return 3
    ledger = Path(folder) / LEDGER
    if result.broken is not None:
        broken = result.broken
        name = f"record {broken.seq}" if broken.seq is not None else "record"
        kind = f", kind {broken.kind}" if broken.kind else ""
        _say(f"FAIL {ledger}")
        _say(f"  first broken: {name} at line {broken.line}{kind}")
        _say(f"  check failed: {broken.check}: {broken.message}")
        _say(f"  {result.count} records before it hold; nothing after it counts")
        return 1
    if not result.ok:
        _say(f"FAIL {ledger}\n  no record: zero checked is a failure")
        return 1
    _say(f"ok {ledger}")
    _say(f"  {result.count} records from {result.first} to {result.last}")
    _say("  " + ", ".join(f"{count} {kind}" for kind, count in sorted(result.kinds.items())))
    _say(f"  hashes, chain and signatures hold; head {result.head}")
    for note in result.notes:
        _say(f"  note: {note}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python3 evidence.py FOLDER SIGNERS\n")
        sys.exit(3)
    sys.exit(main_verify(sys.argv[1], sys.argv[2]))
