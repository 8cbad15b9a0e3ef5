# SPDX-License-Identifier: Apache-2.0
"""The ledger, with the real ssh-keygen: what it writes, and that every way of tampering is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import evidence
from ansible_collections.holdfast.practice.plugins.module_utils.evidence import (
    GENESIS,
    EvidenceError,
    Ledger,
    SigningKey,
    canonical,
    clocks,
    digest,
    head_of,
    main_verify,
    parse_heads,
    sealed,
    verify,
)

PRACTICE = "harbour-street"


def make_key(folder: Path, name: str) -> tuple[str, str]:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True)
    return (folder / name).read_text(), (folder / f"{name}.pub").read_text()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_key(folder, name) for name in ("own", "other")}


@pytest.fixture(scope="module")
def key(keys):
    return SigningKey(keys["own"][0])


@pytest.fixture
def signers(tmp_path, keys):
    path = tmp_path / "evidence_signers"
    path.write_text(f'# pinned\n{PRACTICE} namespaces="holdfast-evidence" {keys["own"][1]}')
    return str(path)


@pytest.fixture(scope="module")
def four(tmp_path_factory, key):
    """Four records, as they lie on disk."""
    ledger = Ledger(str(tmp_path_factory.mktemp("four")))
    for number in range(4):
        ledger.append(PRACTICE, "proof", {"verdict": "PASS", "n": number}, key, at=f"2026-11-21T20:3{number}:00Z")
    return ledger.lines()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "evidence"
    path.mkdir()
    return path


def put(folder: Path, lines: list[bytes]) -> str:
    (folder / "ledger.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return str(folder)


def rehash(entry: dict) -> bytes:
    """What somebody without the key can do: the hash made to fit again, the old signature kept."""
    return canonical({**entry, "hash": digest(entry["record"])})


def test_an_untouched_ledger_holds(folder, four, signers, capsys):
    result = verify(put(folder, four), signers)
    assert (result.ok, result.count, result.first, result.last) == (
        True,
        4,
        "2026-11-21T20:30:00Z",
        "2026-11-21T20:33:00Z",
    )
    assert main_verify(str(folder), signers) == 0
    assert "4 records" in capsys.readouterr().out


def test_records_follow_each_other(four):
    entries = [json.loads(line) for line in four]
    assert [entry["record"]["seq"] for entry in entries] == [1, 2, 3, 4]
    assert [entry["record"]["prev"] for entry in entries] == [GENESIS] + [entry["hash"] for entry in entries[:-1]]


def test_it_can_be_checked_with_ssh_keygen_alone(folder, four, signers):
    entry = json.loads(four[2])
    signature = folder / "sig"
    signature.write_text(f"-----BEGIN SSH SIGNATURE-----\n{entry['signature']}\n-----END SSH SIGNATURE-----\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", PRACTICE, "-n", "holdfast-evidence"]
    subprocess.run([*command, "-s", str(signature)], input=canonical(entry["record"]), check=True)


def regions(line: bytes) -> dict[str, range]:
    entry = json.loads(line)
    at = {name: line.index(entry[name].encode()) for name in ("hash", "signature")}
    record = line.index(canonical(entry["record"]))
    return {
        "hash": range(at["hash"], at["hash"] + 64),
        "record": range(record, record + len(canonical(entry["record"]))),
        "signature": range(at["signature"], at["signature"] + len(entry["signature"])),
        "frame": range(at["hash"]),
    }


@pytest.mark.parametrize("region", ["hash", "record", "signature", "frame"])
@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_flipped_byte_is_named_wherever_it_is(folder, four, signers, region, flip):
    places = regions(four[1])[region]
    for at in places[:: max(1, len(places) // 25)]:
        line = bytearray(four[1])
        line[at] ^= flip
        result = verify(put(folder, [four[0], bytes(line), *four[2:]]), signers)
        assert result.broken is not None, (region, at)
        assert result.broken.line == 2, (region, at)
        assert result.broken.check in ("unparsable", "hash", "chain", "signature", "unknown_signer", "practice")


def test_every_byte_of_a_signature_counts(folder, four, signers):
    """Base64 has spare bits at its end, and an SSHSIG has fields nobody looks at: none of them may be free."""
    for at in regions(four[3])["signature"]:
        line = bytearray(four[3])
        line[at] = ord("A") if line[at] != ord("A") else ord("B")
        assert verify(put(folder, [*four[:3], bytes(line)]), signers).broken.line == 4, at


def edited(line: bytes, **changes) -> dict:
    entry = json.loads(line)
    entry["record"] = {**entry["record"], **changes}
    return entry


def chained_without_key(lines: list[bytes], at: int) -> list[bytes]:
    """Edit a record, then make every later hash fit: all that is possible without the key."""
    out, prev = list(lines[:at]), json.loads(lines[at - 1])["hash"]
    for number, line in enumerate(lines[at:]):
        entry = json.loads(line)
        entry["record"]["prev"] = prev
        if number == 0:
            entry["record"]["body"]["verdict"] = "PASS!"
        out.append(rehash(entry))
        prev = json.loads(out[-1])["hash"]
    return out


TAMPERED = {
    "edited record, old hash": (
        lambda f, k: [f[0], canonical(edited(f[1], body={"verdict": "FAIL"})), *f[2:]],
        2,
        "hash",
    ),
    "edited record, new hash": (lambda f, k: [f[0], rehash(edited(f[1], body={})), *f[2:]], 2, "signature"),
    "last record edited, new hash": (lambda f, k: [*f[:3], rehash(edited(f[3], body={}))], 4, "signature"),
    "edited and chained without the key": (lambda f, k: chained_without_key(f, 2), 3, "signature"),
    "middle record removed": (lambda f, k: [f[0], *f[2:]], 2, "chain"),
    "first record removed": (lambda f, k: f[1:], 1, "chain"),
    "two records swapped": (lambda f, k: [f[0], f[2], f[1], f[3]], 2, "chain"),
    "a record twice": (lambda f, k: [f[0], f[1], f[1], *f[2:]], 3, "chain"),
    "last line cut short": (lambda f, k: [*f[:3], f[3][:-9]], 4, "unparsable"),
    "another spelling of the same record": (
        lambda f, k: [f[0], f[1].replace(b'"kind":', b'"kind": '), *f[2:]],
        2,
        "unparsable",
    ),
    "a key twice": (lambda f, k: [f[0], f[1].replace(b'{"hash":', b'{"hash":"","hash":'), *f[2:]], 2, "unparsable"),
    "empty line": (lambda f, k: [f[0], b"", *f[1:]], 2, "unparsable"),
    "nested beyond reason": (lambda f, k: [f[0], b"[" * 100_000, *f[1:]], 2, "unparsable"),
    "signed by another key that says so": (
        lambda f, k: [*f[:3], canonical(sealed({**json.loads(f[3])["record"], "signer": k.key_id}, k))],
        4,
        "unknown_signer",
    ),
    "signed by another key in the name of the pinned one": (
        lambda f, k: [*f[:3], canonical(sealed(json.loads(f[3])["record"], k))],
        4,
        "signature",
    ),
    "signature of another record": (
        lambda f, k: [*f[:3], canonical({**json.loads(f[3]), "signature": json.loads(f[2])["signature"]})],
        4,
        "signature",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_is_named(folder, four, signers, keys, how, capsys):
    tamper, line, check = TAMPERED[how]
    broken = verify(put(folder, tamper(four, SigningKey(keys["other"][0]))), signers).broken
    assert broken is not None
    assert (broken.line, broken.check) == (line, check)
    assert main_verify(str(folder), signers) == 1
    said = capsys.readouterr().out
    assert f"line {line}" in said
    assert check in said


def test_a_ledger_of_two_practices_is_refused(folder, four, signers, key):
    foreign = canonical(sealed({**json.loads(four[3])["record"], "practice": "mill-lane"}, key))
    assert verify(put(folder, [*four[:3], foreign]), signers).broken.check == "practice"
    assert verify(put(folder, four), signers, practice="mill-lane").broken.check == "practice"


def test_a_cut_off_end_shows_only_against_a_known_head(folder, four, signers):
    head = json.loads(four[3])["hash"]
    assert verify(put(folder, four[:3]), signers).ok
    assert verify(str(folder), signers, head=head).broken.check == "head"
    assert verify(put(folder, four), signers, head=head).ok


def test_zero_records_is_a_failure_and_bad_arguments_are_not_a_verdict(folder, four, signers, tmp_path, capsys):
    assert main_verify(str(folder), signers) == 1
    assert "zero" in capsys.readouterr().out
    assert main_verify(str(folder / "nowhere"), signers) == 3
    assert main_verify(put(folder, four), str(tmp_path / "nowhere")) == 3
    (tmp_path / "empty").write_text("# no key\n")
    assert main_verify(str(folder), str(tmp_path / "empty")) == 3


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ("", 1),
        ('namespaces="holdfast-evidence"', 1),
        ('namespaces="git,holdfast-evidence"', 1),
        ('namespaces="git"', 0),
        ('valid-after="20200101",namespaces="holdfast-evidence"', 1),
    ],
)
def test_signers_are_read_as_openssh_does(keys, options, known):
    assert len(evidence.parse_signers(f"a@b,c@d {options} {keys['own'][1]}")) == known


def test_a_key_that_had_expired_when_it_signed_is_not_accepted(folder, four, tmp_path, keys):
    for until, holds in (("20261121203100Z", False), ("20270101Z", True)):
        signers = tmp_path / until
        signers.write_text(f'{PRACTICE} valid-before="{until}" {keys["own"][1]}')
        assert verify(put(folder, four), str(signers)).ok is holds


@pytest.mark.parametrize("rest", [b'{"hash":"ab', b"\0\0\0\0", b"{}"])
def test_a_torn_line_is_moved_aside_and_the_next_record_says_so(folder, four, signers, key, rest):
    path = folder / "ledger.jsonl"
    put(folder, four[:2])
    path.write_bytes(path.read_bytes() + rest)
    assert verify(str(folder), signers).broken.line == 3
    entry = Ledger(str(folder)).append(PRACTICE, "proof", {"verdict": "PASS"}, key)
    gap = entry["record"]["gap"]
    assert (entry["record"]["seq"], gap["bytes"]) == (3, len(rest))
    assert (folder / gap["file"]).read_bytes() == rest
    result = verify(str(folder), signers)
    assert result.ok
    assert "gap" in result.notes[0]
    assert "gap" not in Ledger(str(folder)).append(PRACTICE, "proof", {}, key)["record"]


def test_a_crash_after_moving_aside_still_leaves_the_gap_noted(folder, four, key, monkeypatch):
    put(folder, four[:2])
    (folder / "ledger.jsonl").write_bytes((folder / "ledger.jsonl").read_bytes() + b"torn")
    ledger = Ledger(str(folder))
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_write", lambda self, line: (_ for _ in ()).throw(OSError("power")))
        with pytest.raises(OSError, match="power"):
            ledger.append(PRACTICE, "proof", {}, key)
    assert ledger.append(PRACTICE, "proof", {}, key)["record"]["gap"]["bytes"] == 4


def test_a_torn_first_record_leaves_a_ledger_that_can_begin(folder, key, signers):
    (folder / "ledger.jsonl").write_bytes(b'{"hash":')
    assert Ledger(str(folder)).append(PRACTICE, "proof", {}, key)["record"]["seq"] == 1
    assert verify(str(folder), signers).ok


def test_nothing_is_added_to_a_broken_ledger(folder, four, key):
    put(folder, [*four[:3], canonical(edited(four[3], body={}))])
    before = (folder / "ledger.jsonl").read_bytes()
    with pytest.raises(EvidenceError, match="Nothing is added"):
        Ledger(str(folder)).append(PRACTICE, "proof", {}, key)
    assert (folder / "ledger.jsonl").read_bytes() == before


def test_another_practice_is_refused(folder, four, key):
    put(folder, four)
    with pytest.raises(EvidenceError, match="ledger of practice harbour-street; refusing one of practice mill-lane"):
        Ledger(str(folder)).append("mill-lane", "proof", {}, key)


def test_a_record_longer_than_the_read_step_is_found_again(folder, key, signers):
    ledger = Ledger(str(folder))
    for _ in range(3):
        ledger.append(PRACTICE, "proof", {"x": "y" * 200_000}, key)
    assert verify(str(folder), signers).count == 3


def test_two_writers_do_not_tear_the_chain(folder, key, signers):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: Ledger(str(folder)).append(PRACTICE, "drill", {"n": n}, key), range(16)))
    assert verify(str(folder), signers).count == 16


@pytest.mark.parametrize("text", ["", "no key at all", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END"])
def test_a_bad_key_is_refused_without_being_shown(text):
    with pytest.raises(EvidenceError, match="evidence key cannot be read") as caught:
        SigningKey(text)
    assert "AAAA" not in str(caught.value)


def test_a_key_with_a_passphrase_is_refused_and_does_not_wait_for_one(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "word", "-f", str(tmp_path / "k")], check=True)
    with pytest.raises(EvidenceError, match="without a passphrase"):
        SigningKey((tmp_path / "k").read_text())


def test_canonical_form_has_one_spelling():
    assert canonical({"b": 1.5, "a": "\u00e9\n"}) == b'{"a":"\\u00e9\\n","b":1.5}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"a": float("nan")})


def told(kind, at, **row):
    rows = [{"host": "server1", "job": "documents", **row}]
    return {"record": {"kind": kind, "at": at, "body": {{"proof": "items", "backup": "jobs"}[kind]: rows}}}


PROOF = told("proof", "2026-11-21T10:00:00Z", arrived="2026-11-21T09:00:00Z", snapshots={"files": "f1", "oracle": "o1"})
BACKUP = told(
    "backup", "2026-11-21T12:00:00Z", finished="2026-11-21T11:00:00Z", snapshots={"files": "f2", "oracle": None}
)
FELL_BACK = told(
    "proof", "2026-11-21T13:00:00Z", arrived="2026-11-21T09:00:00Z", snapshots={"files": "f1", "oracle": "o1"}
)
AHEAD = told("backup", "2026-11-21T14:00:00Z", finished="2035-01-01T00:00:00Z", snapshots={"files": "f3"})
LATER = told("proof", "2026-11-21T16:00:00Z", arrived="2026-11-21T15:00:00Z", snapshots={"files": "f4"})
DRILL = {"record": {"kind": "drill", "at": "2026-11-21T17:00:00Z", "body": {"verdict": "PASS"}}}
NOTHING = told("proof", "2026-11-21T18:00:00Z", snapshots={})


@pytest.mark.parametrize(
    ("entries", "ids"),
    [
        ([PROOF, DRILL], ["f1", "o1"]),
        ([PROOF, BACKUP, DRILL], ["f2"]),
        ([PROOF, BACKUP, FELL_BACK, FELL_BACK], ["f2"]),  # a loss stays a loss, however often one asks
        ([PROOF, BACKUP, FELL_BACK, LATER], ["f4"]),  # until a newer run is there
        ([PROOF, AHEAD], ["f3"]),
        ([PROOF, AHEAD, LATER], ["f4"]),  # a clock in the future does not last
        ([PROOF, NOTHING], ["f1", "o1"]),
    ],
)
def test_the_newest_run_that_evidence_names_has_to_be_there(entries, ids):
    assert evidence.last_known(entries) == {"server1/documents": ids}


def test_a_long_ledger_is_checked_as_a_whole(folder, key, signers):
    ledger = Ledger(str(folder))
    entry = ledger.append(PRACTICE, "proof", {"n": 0}, key)
    lines = [canonical(entry)]
    for number in range(2, 101):
        record = {**entry["record"], "seq": number, "prev": entry["hash"]}
        entry = sealed(record, key)
        lines.append(canonical(entry))
    put(folder, lines)
    assert verify(str(folder), signers).count == 100


# --- which field, and what was published elsewhere -------------------------------------------------------------------


def flipped(line: bytes, field: str) -> bytes:
    entry = json.loads(line)
    if field == "record":
        entry["record"]["body"]["verdict"] = "FAIL"
    else:
        entry["hash"] = ("0" if entry["hash"][0] != "0" else "1") + entry["hash"][1:]
    return canonical(entry)


@pytest.mark.parametrize("field", ["record", "hash"])
def test_the_signature_tells_whether_the_record_or_its_hash_was_edited(folder, four, signers, field, capsys):
    broken = verify(put(folder, [four[0], flipped(four[1], field), *four[2:]]), signers).broken
    assert (broken.line, broken.check, broken.field) == (2, "hash", field)
    assert main_verify(str(folder), signers) == 1
    assert f"hash (field {field})" in capsys.readouterr().out


def heads_of(lines: list[bytes]) -> str:
    return "".join(head_of(json.loads(line)).line() + "\n" for line in lines)


def again(lines: list[bytes], key: SigningKey, start: int) -> list[bytes]:
    """What somebody who has the key can do: write history anew from a record on, whole in itself."""
    out, prev = list(lines[:start]), json.loads(lines[start - 1])["hash"] if start else GENESIS
    for line in lines[start:]:
        record = {**json.loads(line)["record"], "prev": prev, "body": {"verdict": "PASS", "better": True}}
        entry = sealed(record, key)
        prev = entry["hash"]
        out.append(canonical(entry))
    return out


@pytest.mark.parametrize(
    ("change", "seq"),
    [
        (lambda f, k: f, None),
        (lambda f, k: f[:3], 4),
        (lambda f, k: again(f, k, 0), 1),
        (lambda f, k: again(f, k, 2), 3),
        (lambda f, k: again(f[:3], k, 2), 3),
    ],
    ids=["whole", "cut off", "all anew", "anew from the third", "cut and anew"],
)
def test_a_history_written_anew_with_the_key_shows_against_published_heads(
    folder, four, signers, key, tmp_path, change, seq, capsys
):
    put(folder, change(four, key))
    assert verify(str(folder), signers).ok, "with the key, a chain of its own holds"
    kept = tmp_path / "heads.txt"
    kept.write_text(f"Subject: evidence\r\n\r\n> {heads_of(four)}".replace("\n", "\r\n"))
    code = main_verify(str(folder), signers, published=[str(kept)])
    said = capsys.readouterr().out
    assert code == (0 if seq is None else 1)
    assert ("4 published heads are in the chain" if seq is None else f"first broken: record {seq} at line") in said
    assert ("check failed: published" in said) is (seq is not None)


def test_published_heads_that_lag_are_a_note_and_none_is_a_failure(folder, four, signers, tmp_path, capsys):
    put(folder, four)
    kept = tmp_path / "heads.txt"
    kept.write_text(heads_of(four[:2]))
    assert main_verify(str(folder), signers, published=[str(kept)]) == 0
    assert "records from 3 to 4 were not published there yet" in capsys.readouterr().out
    kept.write_text(heads_of(four).replace(PRACTICE, "mill-lane"))
    assert main_verify(str(folder), signers, published=[str(kept)]) == 1
    assert "zero checked" in capsys.readouterr().out
    assert main_verify(str(folder), signers, published=[str(tmp_path / "nowhere")]) == 3
    (tmp_path / "many").mkdir()
    for number, line in enumerate(four):
        (tmp_path / f"many/{number}.eml").write_text(heads_of([line]))
    assert verify(str(folder), signers, published=evidence.read_heads(str(tmp_path / "many"))).published == 4


def test_a_head_is_read_only_whole(four):
    line = heads_of(four[:1]).strip()
    assert parse_heads(f"x {line}\n")[0].line() == line
    assert parse_heads(line[:-1]) == []
    assert parse_heads(f"{line}0") == []
    assert parse_heads(line.upper()) == []


# --- two clocks ------------------------------------------------------------------------------------------------------


def test_both_clocks_are_kept_and_a_skew_beyond_the_limit_is_named(folder, key, signers):
    seen = {
        "nas1": {"at": "2026-11-21T22:30:00Z", "skew_s": 7200.5},
        "nas2": {"at": "2026-11-21T20:30:30Z", "skew_s": 30.0},
        "nas3": None,
    }
    facts = {"clocks": clocks(seen)}
    entry = Ledger(str(folder)).append(PRACTICE, "proof", {}, key, at="2026-11-21T20:30:00Z", facts=facts)
    assert entry["record"]["clocks"]["seen"] == seen
    assert entry["record"]["clocks"]["skewed"] == ["nas1"]
    result = verify(str(folder), signers)
    assert result.ok
    assert result.notes == ("record 1: the clock of nas1 was 7200.5 s ahead of this one (limit 60 s)",)
    assert clocks({"nas1": {"at": "x", "skew_s": -60.1}})["skewed"] == ["nas1"]


# --- crashes, with real processes ------------------------------------------------------------------------------------

WRITER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import evidence
real = evidence.Ledger._write
def die(self, line):
    if sys.argv[4] == "written":
        real(self, line)
    elif sys.argv[4] == "half":
        with self.path.open("ab") as handle:
            handle.write(line[: len(line) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[4] != "whole":
    evidence.Ledger._write = die
key = evidence.SigningKey(open(sys.argv[3]).read())
for number in range(int(sys.argv[5])):
    evidence.Ledger(sys.argv[2]).append("harbour-street", "drill", {"n": number}, key)
"""


@pytest.fixture
def write(tmp_path, folder, keys):
    """Append in a process of its own: how it ends."""
    program = Path(evidence.__file__).parent
    (tmp_path / "writer.py").write_text(WRITER)
    (tmp_path / "key").write_text(keys["own"][0])

    def start(how: str, count: int = 1, environment: dict[str, str] | None = None, **options):
        command = [sys.executable, "-B", tmp_path / "writer.py", program, folder, tmp_path / "key", how, str(count)]
        return subprocess.Popen(command, env={**os.environ, **(environment or {})}, stderr=subprocess.PIPE, **options)

    return start


def sigkilled(process: subprocess.Popen) -> bool:
    process.communicate(timeout=60)
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("how", "lines", "gap"),
    [("unwritten", 1, {"lost"}), ("half", 2, {"lost", "bytes", "digest", "file"}), ("written", 2, None)],
)
def test_a_writer_that_is_killed_leaves_no_half_record_and_a_gap_that_is_noted(
    folder, key, signers, write, how, lines, gap
):
    Ledger(str(folder)).append(PRACTICE, "proof", {"verdict": "PASS"}, key)
    assert sigkilled(write(how))
    assert len(Ledger(str(folder)).lines()) == lines
    entry = Ledger(str(folder)).append(PRACTICE, "proof", {"verdict": "PASS"}, key)
    assert entry["record"]["seq"] == (3 if how == "written" else 2)
    assert set(entry["record"].get("gap", {})) == (gap or set())
    result = verify(str(folder), signers)
    assert result.ok
    assert any("a record of kind drill begun at" in note for note in result.notes) is (gap is not None)
    assert "gap" not in Ledger(str(folder)).append(PRACTICE, "proof", {}, key)["record"]


def test_every_one_of_several_lost_records_is_noted(folder, key, signers, write):
    assert sigkilled(write("unwritten"))
    assert sigkilled(write("unwritten"))
    entry = Ledger(str(folder)).append(PRACTICE, "proof", {}, key)
    assert (entry["record"]["seq"], len(entry["record"]["gap"]["lost"])) == (1, 2)
    assert verify(str(folder), signers).ok


def test_killed_while_ssh_keygen_signs(folder, key, signers, write, tmp_path):
    real = shutil.which("ssh-keygen")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh-keygen").write_text(f'#!/bin/sh\n[ "$2" = sign ] && kill -9 $PPID\nexec {real} "$@"\n')
    (tmp_path / "bin/ssh-keygen").chmod(0o755)
    assert sigkilled(write("whole", environment={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}))
    assert Ledger(str(folder)).lines() == []
    assert Ledger(str(folder)).append(PRACTICE, "proof", {}, key)["record"]["gap"]["lost"][0]["kind"] == "drill"
    assert verify(str(folder), signers).ok


def test_a_pending_note_that_is_itself_damaged_still_is_a_gap(folder, key):
    (folder / ".pending.json").write_text("[{")
    assert Ledger(str(folder)).append(PRACTICE, "proof", {}, key)["record"]["gap"]["lost"][0]["kind"] == "unknown"


def test_writers_of_several_processes_and_one_that_is_killed_among_them(folder, signers, write):
    writers = [write("whole", 6) for _ in range(3)]
    assert sigkilled(write("unwritten"))
    for writer in writers:
        assert writer.communicate(timeout=120)[1] == b""
        assert writer.returncode == 0
    result = verify(str(folder), signers)
    noted = [note for note in result.notes if "never came" in note]
    pending = (folder / ".pending.json").exists()
    assert (result.ok, result.count) == (True, 18)
    assert len(noted) == (0 if pending else 1)


def test_a_full_disk_leaves_the_ledger_as_it_was(folder, key, signers, write):
    import resource

    Ledger(str(folder)).append(PRACTICE, "proof", {}, key)
    before = (folder / "ledger.jsonl").read_bytes()

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, len(before) + 100))

    full = write("whole", preexec_fn=small)
    said = full.communicate(timeout=60)[1].decode()
    assert full.returncode == 1
    assert "took only a part of the record, which was not written" in said
    assert (folder / "ledger.jsonl").read_bytes() == before
    assert verify(str(folder), signers).ok
    assert Ledger(str(folder)).append(PRACTICE, "proof", {}, key)["record"]["gap"]["lost"][0]["kind"] == "drill"


# --- a stranger's machine --------------------------------------------------------------------------------------------


def test_a_copy_of_the_one_file_verifies_without_anything_of_ours(folder, four, signers, tmp_path):
    put(folder, four)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(evidence.__file__, elsewhere / "verify.py")
    (elsewhere / "heads").write_text(heads_of(four))
    command = [sys.executable, "-I", "-S", elsewhere / "verify.py", folder, "--signers", signers]
    done = subprocess.run(
        [*command, "--published", elsewhere / "heads"], cwd="/", env={"PATH": os.defpath}, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    put(folder, [four[0], *four[2:]])
    done = subprocess.run(command, cwd="/", env={"PATH": os.defpath}, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"record 3 at line 2, kind proof\n  check failed: chain (field prev)" in done.stdout
    assert subprocess.run(command[:-2], env={"PATH": os.defpath}, capture_output=True, check=False).returncode == 3


def test_what_maintenance_has_to_know_of_its_earlier_runs():
    """Keys as they were seen last; what was accepted once stays accepted."""

    def entry(kind, **body):
        return {"record": {"kind": kind, "at": "2026-11-26T20:00:00Z", "body": body}}

    entries = [
        entry("retention", hosts={"server1": {"key_ids": ["a"]}, "desk1": {"key_ids": ["d"]}}, accepted=["11111111"]),
        entry("proof", hosts={"server1": {"key_ids": ["forged"]}}, accepted=["22222222"]),
        entry(
            "retention",
            hosts={"server1": {"key_ids": ["a", "b"]}, "desk1": {"verdict": "INCONCLUSIVE"}},
            accepted=["33333333"],
        ),
    ]
    assert evidence.maintained(entries) == {
        "key_ids": {"server1": ["a", "b"], "desk1": ["d"]},
        "accepted": ["11111111", "33333333"],
    }
    assert evidence.maintained([]) == {"key_ids": {}, "accepted": []}
