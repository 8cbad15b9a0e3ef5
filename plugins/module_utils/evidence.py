# SPDX-License-Identifier: Apache-2.0
"""The evidence ledger: canonical records, chained by hash, signed with an SSH key.

One line of ``ledger.jsonl`` is ``{"hash": ..., "record": {...}, "signature": ...}`` in canonical JSON. ``hash`` is the
BLAKE2b-256 of the canonical record, ``record.prev`` the hash of the record before it, ``signature`` the base64 body of
an SSHSIG over the canonical record. A stranger needs python3, ssh-keygen and the pinned public key to check a ledger.

What a crash leaves: a record that is being made is named in ``.pending.json`` until it is on disk. The next record takes
what it finds there, and a half-written line, into its ``gap``, so that nothing is lost without a trace.

Published heads: one line of text for each record, ``holdfast-head PRACTICE SEQ HASH AT``, kept where whoever has the ledger
and its key does not get at it. They show what a signature cannot: that history was written anew, or its end cut off.

Standard library only and free of Ansible: a copy of this one file verifies wherever it lies,
``python3 evidence.py FOLDER --signers FILE``.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

try:
    import fcntl
except ImportError:  # a stranger's machine that is no Unix: it verifies and never writes
    fcntl = None  # type: ignore[assignment]

NAMESPACE = "holdfast-evidence"
LEDGER = "ledger.jsonl"
GENESIS = "0" * 64
SCHEMA = 1
KINDS = ("proof", "drill", "backup", "retention", "retirement", "deletion", "kit_check", "break_glass", "sign_off")
# A clock that is further off than this is named: data loss is told from two clocks.
SKEW_LIMIT_S = 60
_ARMOUR = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")
_SSHSIG = b"SSHSIG\x00\x00\x00\x01"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
# Wherever it was kept, also quoted in a mail: only the line itself counts.
_HEAD = re.compile(r"holdfast-head ([a-z0-9-]+) (\d+) ([0-9a-f]{64}) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)(?!\S)")


class EvidenceError(Exception):
    """The ledger cannot be written or read; the text says what was expected and what to do next."""


class Signer(NamedTuple):
    """One pinned key: the name it signs for and ``SHA256:...``, as ``ssh-keygen -l`` prints it."""

    principal: str
    key_id: str


class Head(NamedTuple):
    """What is published of a record, so that nobody can take it back."""

    practice: str
    seq: int
    hash: str
    at: str

    def line(self) -> str:
        """The text that is published."""
        return f"holdfast-head {self.practice} {self.seq} {self.hash} {self.at}"


@dataclass(frozen=True)
class Broken:
    """The first thing wrong in a ledger. ``check`` is one of unparsable, hash, chain, practice, unknown_signer,
    signature, head, published; ``field`` the part of the entry that is not as it must be."""

    line: int
    seq: int | None
    kind: str | None
    check: str
    message: str
    field: str | None = None


@dataclass(frozen=True)
class Verification:
    """What was checked: ``count`` whole records before ``broken`` (all of them when it is None).

    ``published``: how many published heads were found in the chain; None when none were given to compare with.
    """

    count: int
    first: str | None = None
    last: str | None = None
    head: str | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    broken: Broken | None = None
    published: int | None = None

    @property
    def ok(self) -> bool:
        """Zero checked is a failure."""
        return self.broken is None and self.count > 0 and self.published != 0


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
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Say what the record after ``last`` (a ledger entry, or None for the first) looks like.

    facts: what is recorded beside the body: ``clocks`` (see clocks()) and ``run`` (with which options the play was run).
    """
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
    record.update(facts or {})
    return record


def clocks(seen: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """Say what other machines' clocks said: {"limit_s", "seen": {NAME: {"at", "skew_s"} or None}, "skewed": [NAME]}.

    seen: by machine ``at`` and ``skew_s``, seconds by which it is ahead of this one; None for one that did not answer.
    """
    rows = {name: {"at": str(each["at"]), "skew_s": each["skew_s"]} if each else None for name, each in seen.items()}
    skewed = sorted(name for name, row in rows.items() if row and abs(row["skew_s"]) > SKEW_LIMIT_S)
    return {"limit_s": SKEW_LIMIT_S, "seen": rows, "skewed": skewed}


def head_of(entry: Mapping[str, Any]) -> Head:
    """What to publish of an entry."""
    record = entry["record"]
    return Head(record["practice"], record["seq"], entry["hash"], record["at"])


def parse_heads(text: str, practice: str | None = None) -> list[Head]:
    """Find the published heads in a text of any kind, in their order; those of other practices are left out."""
    # a mail as it was saved breaks long lines with a "=" that is not part of them
    text = re.sub(r"=\r?\n", "", text)
    found = [Head(match[1], int(match[2]), match[3], match[4]) for match in _HEAD.finditer(text)]
    return [head for head in found if practice in (None, head.practice)]


def missing_heads(have: Sequence[Head], want: Sequence[Head]) -> list[Head]:
    """Say which heads are to be appended where ``have`` is published; want: those of the whole ledger.

    Raises EvidenceError when what is published is not the history of this ledger: that is said, and nothing is put over it.
    """
    known = {head.seq: head for head in want}
    for head in have:
        mine = known.get(head.seq)
        if mine != head:
            what = f"is {mine.hash[:16]}... of {mine.at}" if mine else "is not there"
            raise EvidenceError(
                f"record {head.seq} was published as {head.hash[:16]}... of {head.at}, and {what} in this ledger: it was written "
                "anew or cut off since. Nothing was published. Keep both as they are, find out who did that, and see "
                "bin/holdfast verify-evidence --published"
            )
    published = {head.seq for head in have}
    return [head for head in want if head.seq not in published]


def check_heads(entries: Sequence[Mapping[str, Any]], heads: Sequence[Head]) -> Broken | None:
    """Look for every published head in a chain that holds by itself; the first record that is another is named."""
    for head in sorted(heads, key=lambda head: head.seq):
        if head.seq > len(entries):
            message = f"record {head.seq} was published at {head.at} and is gone: the end was cut off"
            return Broken(len(entries) + 1, head.seq, None, "published", message, "seq")
        entry = entries[head.seq - 1] if head.seq > 0 else None
        if entry is None or (entry["hash"], entry["record"]["at"]) != (head.hash, head.at):
            message = f"{head.hash[:16]}... of {head.at} was published for it: history was written anew"
            kind = entry["record"]["kind"] if entry else None
            return Broken(head.seq, head.seq, kind, "published", message, "hash")
    return None


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
            why = ("hash", "the record is not the one its hash was made of", "record")
        elif record["prev"] != prev:
            why = ("chain", "it does not follow the record before it: one was removed, moved or put in", "prev")
        elif seq != number:
            why = ("chain", f"record number {number} was expected here, found {seq}", "seq")
        elif record["practice"] != owner:
            why = ("practice", f"the record belongs to practice {record['practice']}, expected {owner}", "practice")
        elif record["signer"] not in ids:
            why = ("unknown_signer", f"signed by {record['signer']}, which is not pinned in the signers file", "signer")
        elif _signature_blob(entry["signature"]) is None:
            why = ("signature", "the signature is not an SSHSIG in its one spelling", "signature")
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
            notes += [f"record {record['seq']} notes a gap: {words}" for words in gap_words(record["gap"])]
        notes += [f"record {record['seq']}: {words}" for words in run_words(record.get("run", {}))]
        skewed = record.get("clocks", {}).get("skewed") or []
        for name in skewed:
            by, limit = record["clocks"]["seen"][name]["skew_s"], record["clocks"]["limit_s"]
            ahead = "ahead of" if by > 0 else "behind"
            notes.append(
                f"record {record['seq']}: the clock of {name} was {abs(by)} s {ahead} this one (limit {limit} s)"
            )
        if before and record["at"] < before:
            notes.append(f"record {record['seq']} is dated before the one it follows (clock set back)")
        before = record["at"]
    return tuple(notes)


def gap_words(gap: Mapping[str, Any]) -> list[str]:
    """Say a record's gap."""
    words = ["a half-written line was moved aside before it"] if "file" in gap else []
    return words + [f"a record of kind {lost['kind']} begun at {lost['at']} never came" for lost in gap.get("lost", ())]


def run_words(run: Mapping[str, Any]) -> list[str]:
    """Say with which options a play was run that leave something out."""
    said = {"tags": "only with the tags", "skip_tags": "without the tags", "limit": "only on"}
    return [f"run {words} {run[name]}" for name, words in said.items() if run.get(name)]


def last_known(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return, for each ``host/job``, the snapshots of the newest run that evidence names: they must still be there.

    Newest by the run's own time and not by the record's: a proof that had to fall back on an older run (because the
    newest was removed) must not make the loss forgotten at the next proof. The alarm ends with a newer run. What retention
    removed, and said so, is not missed.
    """
    gone = removed(entries)
    known: dict[str, tuple[str, list[str]]] = {}
    for entry in entries:
        record = entry["record"]
        rows = record["body"].get({"proof": "items", "backup": "jobs"}.get(record["kind"], ""))
        for row in rows if isinstance(rows, list) else []:
            if not isinstance(row, dict) or not isinstance(row.get("snapshots"), dict):
                continue
            ids = [str(value) for _part, value in sorted(row["snapshots"].items()) if value and value not in gone]
            # A host whose clock runs ahead cannot claim a run after the record that tells of it.
            at = min(str(row.get("arrived") or row.get("finished") or record["at"]), record["at"])
            name = f"{row.get('host')}/{row.get('job')}"
            if ids and at >= known.get(name, ("", []))[0]:
                known[name] = (at, ids)
    return {name: ids for name, (_at, ids) in known.items()}


def removed(entries: Sequence[Mapping[str, Any]]) -> set[str]:
    """Snapshots that retention removed: records of kind "retention" name them as {"removed": [{"snapshots": [ids]}]}.

    Whatever prunes has to write one, or the proof after it says that snapshots vanished.
    """
    rows = [
        row
        for record in (entry["record"] for entry in entries)
        if record["kind"] == "retention"
        for row in record["body"].get("removed") or []
    ]
    return {str(each) for row in rows if isinstance(row, Mapping) for each in row.get("snapshots") or []}


def maintained(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What maintenance has to know of its earlier runs: {"key_ids": {host: [ids seen last]}, "accepted": [heads of ids]}."""
    keys: dict[str, list[str]] = {}
    accepted: dict[str, None] = {}
    for body in (entry["record"]["body"] for entry in entries if entry["record"]["kind"] == "retention"):
        keys |= {host: row["key_ids"] for host, row in (body.get("hosts") or {}).items() if row.get("key_ids")}
        accepted |= dict.fromkeys(body.get("accepted") or ())
    return {"key_ids": keys, "accepted": list(accepted)}


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


def _keygen(arguments: Sequence[str], stdin: bytes, *fds: int) -> subprocess.CompletedProcess[bytes]:
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
            pass_fds=fds,
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
    # A signature is no secret: a plain file does, also where there is no /proc.
    with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
        file = Path(folder) / "signature"
        file.write_bytes(armoured)
        options = ["-f", signers_file, "-I", principal, "-n", NAMESPACE, "-O", "verify-time=" + moment, "-s", str(file)]
        answer = _keygen(["-Y", "verify", *options], canonical(record))
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
        self._pending = self.folder / ".pending.json"

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
        facts: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Sign and append one record; return its entry ``{"hash", "record", "signature"}``."""
        at = at or utc_now()
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
            lost = self._lost(last)
            if lost:
                gap = {**(gap or {}), "lost": lost}
            record = new_record(last, practice, kind, body, at, key.key_id, monotonic_ns, gap, facts)
            self._note_pending([*lost, {"at": at, "kind": kind, "seq": record["seq"]}])
            entry = sealed(record, key)
            self._write(canonical(entry) + b"\n")
            self._pending.unlink()
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

    def _lost(self, last: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Records that were begun by writers that are dead, and that are not in the ledger. Called with the lock held."""
        try:
            noted = json.loads(self._pending.read_text(encoding="ascii"))
        except FileNotFoundError:
            return []
        except ValueError:  # cut short itself: that something was begun is all that is known
            noted = [{"at": utc_now(), "kind": "unknown", "seq": sys.maxsize}]
        seq = last["record"]["seq"] if last else 0
        return [each for each in noted if each["seq"] > seq]

    def _note_pending(self, noted: Sequence[Mapping[str, Any]]) -> None:
        # beside and then in place: a full disk must not take away what an earlier crash left
        fresh = self.folder / ".pending.new"
        with fresh.open("wb") as handle:
            handle.write(canonical(list(noted)))
            handle.flush()
            os.fsync(handle.fileno())
        fresh.replace(self._pending)
        self._sync_folder()

    def _write(self, line: bytes) -> None:
        """Append a line whole, or leave the ledger as it was."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        with os.fdopen(fd, "wb", buffering=0) as handle:
            before = os.fstat(fd).st_size
            try:
                if handle.write(line) != len(line):
                    raise EvidenceError(
                        f"{self.path}: the disk took only a part of the record, which was not written; free some space, "
                        "run again"
                    )
                os.fsync(fd)
            except (OSError, EvidenceError):
                os.ftruncate(fd, before)
                raise
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


def verify(
    folder: str,
    signers_file: str,
    practice: str | None = None,
    head: str | None = None,
    published: Sequence[Head] | None = None,
) -> Verification:
    """Check every record; the first break in ledger order is the one named.

    ``head`` is the hash of a record known from elsewhere (a report), ``published`` are heads that were kept elsewhere: each
    must be in the chain. Without them nobody can see that records were cut off the end, or all of them written anew by
    somebody who has the key. Raises EvidenceError when there is nothing to read.
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
        why = "the pinned key did not sign this record"
        broken = Broken(first + 1, record["seq"], record["kind"], "signature", why, "signature")
        entries = entries[:first]
    elif broken is not None and broken.check == "hash":
        broken = _which_side(broken, parse_line(lines[broken.line - 1]), signers_file, known)
    if broken is None and head is not None and head not in [entry["hash"] for entry in entries]:
        why = f"the known record {head[:16]}... is gone: the end was cut off"
        broken = Broken(len(lines), None, None, "head", why)
    owner = practice or (entries[0]["record"]["practice"] if entries else None)
    mine = None if published is None else [one for one in published if one.practice == owner]
    if broken is None and mine:
        broken = check_heads(entries, mine)
    return Verification(
        count=len(entries),
        first=entries[0]["record"]["at"] if entries else None,
        last=entries[-1]["record"]["at"] if entries else None,
        head=entries[-1]["hash"] if entries else None,
        kinds=_counted(entries),
        notes=time_notes(entries) + _unpublished(len(entries), mine),
        broken=broken,
        published=None if mine is None else len(mine),
    )


def _which_side(broken: Broken, entry: Mapping[str, Any], signers_file: str, known: Sequence[Signer]) -> Broken:
    """Tell which of record and hash was touched: the signature is over the record."""
    named = entry["record"]["signer"] in {signer.key_id for signer in known}
    if named and _signature_blob(entry["signature"]) and signature_holds(entry, signers_file, known):
        return replace(broken, field="hash", message="the hash is not that of its record, which is as it was signed")
    return broken


def _counted(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for entry in entries:
        kinds[entry["record"]["kind"]] = kinds.get(entry["record"]["kind"], 0) + 1
    return kinds


def _unpublished(count: int, heads: Sequence[Head] | None) -> tuple[str, ...]:
    """Say how far what was published reaches."""
    newest = max((head.seq for head in heads or ()), default=count)
    return (f"records from {newest + 1} to {count} were not published there yet",) if newest < count else ()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main_verify(
    folder: str,
    signers: str,
    practice: str | None = None,
    head: str | None = None,
    published: Sequence[str] = (),
) -> int:
    """Print the result for people. Return 0 when every record holds, 1 when not (or there is none), 3 for bad input."""
    try:
        heads = [found for file in published for found in read_heads(file)] if published else None
        result = verify(folder, signers, practice, head, heads)
    except EvidenceError as error:
        sys.stderr.write(f"verify-evidence: {error}\n")
        return 3
    ledger = Path(folder) / LEDGER
    if result.broken is not None:
        broken = result.broken
        name = f"record {broken.seq}" if broken.seq is not None else "record"
        kind = f", kind {broken.kind}" if broken.kind else ""
        field = f" (field {broken.field})" if broken.field else ""
        _say(f"FAIL {ledger}")
        _say(f"  first broken: {name} at line {broken.line}{kind}")
        _say(f"  check failed: {broken.check}{field}: {broken.message}")
        if broken.check == "published":
            _say(f"  {result.count} records hold by themselves: whoever wrote them anew had the key")
        else:
            _say(f"  {result.count} records before it hold; nothing after it counts")
        return 1
    if not result.ok:
        _say(f"FAIL {ledger}")
        if result.count:
            _say("  no published head of this practice in what was given: zero checked is a failure")
        else:
            _say("  no record: zero checked is a failure")
        return 1
    _say(f"ok {ledger}")
    _say(f"  {result.count} records from {result.first} to {result.last}")
    _say("  " + ", ".join(f"{count} {kind}" for kind, count in sorted(result.kinds.items())))
    _say(f"  hashes, chain and signatures hold; head {result.head}")
    if result.published is not None:
        _say(f"  {result.published} published heads are in the chain")
    for note in result.notes:
        _say(f"  note: {note}")
    return 0


def read_heads(file: str) -> list[Head]:
    """Read the published heads that a file holds, or every file of a folder, whatever else is in it. Raises EvidenceError."""
    place = Path(file)
    try:
        files = sorted(each for each in place.iterdir() if each.is_file()) if place.is_dir() else [place]
        return [head for each in files for head in parse_heads(each.read_bytes().decode("utf-8", "replace"))]
    except OSError as error:
        raise EvidenceError(
            f"{file} cannot be read: expected a file or folder of published heads ({error.strerror})"
        ) from error


def main(arguments: Sequence[str], program: str = "evidence.py") -> int:
    """Verify as the command line says; returns the exit code."""
    text = "Verify a folder of evidence against a pinned key. Needs only Python 3.9 and ssh-keygen."
    parser = argparse.ArgumentParser(prog=program, description=text)
    parser.add_argument("folder", metavar="FOLDER", help="the folder that holds ledger.jsonl")
    parser.add_argument("--signers", metavar="FILE", required=True, help="the pinned public keys (evidence_signers)")
    parser.add_argument("--practice", metavar="ID", help="accept records of this practice only")
    parser.add_argument("--head", metavar="HASH", help="the hash of a record that is known to have been there")
    help_text = "heads that were published elsewhere (holdfast-head ...): each must be in the chain; may be repeated"
    parser.add_argument("--published", metavar="FILE", action="append", default=[], help=help_text)
    try:
        options = parser.parse_args(list(arguments))
    except SystemExit as end:  # argparse's own code for a wrong command line is 2, which stands for INCONCLUSIVE here
        return 3 if end.code else 0
    return main_verify(options.folder, options.signers, options.practice, options.head, options.published)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
