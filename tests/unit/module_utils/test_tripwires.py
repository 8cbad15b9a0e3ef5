"""What an encryptor does is seen, and what a practice does on its big days is not."""

from __future__ import annotations

import hashlib
import random
import zlib

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import canary, tripwires
from ansible_collections.holdfast.practice.plugins.module_utils.tripwires import ENTROPY, FINE, MAGIC, NOISE, Settings

NOISY = random.Random(1).randbytes(2048)
TEXT = b"Dear colleague, thank you for seeing this patient, who attended our rooms today.\r\n" * 30
DEFLATED = zlib.compress(NOISY)
HEADS = {
    "pdf": b"%PDF-1.7\n" + DEFLATED,
    "docx": b"PK\x03\x04" + DEFLATED,
    "jpg": b"\xff\xd8\xff\xe0" + NOISY,
    "png": b"\x89PNG\r\n\x1a\n" + NOISY,
    "gif": b"GIF89a" + NOISY,
    "tif": b"II*\0" + NOISY,
    "dcm": bytes(128) + b"DICM" + NOISY,
    "sqlite": b"SQLite format 3\0" + bytes(100),
    "doc": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + NOISY,
    "rtf": b"{\\rtf1\\ansi " + TEXT,
    "xml": b"<?xml version='1.0'?>" + TEXT,
    "hl7": b"MSH|^~\\&|" + TEXT,
    "txt": TEXT,
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_file_that_is_what_its_name_says_is_fine_and_an_encrypted_one_is_not(kind):
    assert tripwires.looks(kind, HEADS[kind]) == FINE
    assert tripwires.looks(kind, b"Salted__" + NOISY) == (ENTROPY if kind in tripwires.TEXT else MAGIC)


@pytest.mark.parametrize(
    ("kind", "head", "look"),
    [
        ("pdf", b"\0" * 2048, MAGIC),  # wiped
        ("pdf", b"\r\n\r\n%PDF-1.4", FINE),
        ("pdf", b"<html>not found</html>", MAGIC),
        ("jpg", HEADS["png"], FINE),  # another type under this name: sloppy, not encrypted
        ("docx", HEADS["doc"], FINE),  # Office's own encryption wraps the file in OLE
        ("xls", b"<table><tr><td>1</td></tr></table>", FINE),
        ("doc", HEADS["rtf"], FINE),
        ("dcm", b"\x08\0\x05\0" + NOISY, FINE),  # DICOM without its preamble
        ("pdf", b"", FINE),
        ("txt", b"", FINE),
        ("txt", NOISY[:100], FINE),  # too short to tell
        ("txt", NOISY[:300], ENTROPY),
        ("txt", "Überweisung für Frau Öztürk, 漢字仮名交じり文".encode() * 40, FINE),
        ("txt", TEXT.decode().encode("utf-16"), FINE),
        ("csv", bytes(random.Random(2).choices(b"0123456789;,\n", k=2048)), FINE),
        ("xml", bytes(random.Random(3).choices(b"ABCDEFGHabcdefgh0123456789+/" * 3, k=2048)), FINE),  # base64
        ("gz", NOISY, FINE),
        ("bak", NOISY, FINE),
        ("locked", NOISY, NOISE),
        ("", NOISY, NOISE),
        ("dat", HEADS["docx"], FINE),
        ("dat", TEXT, FINE),
    ],
)
def test_looks(kind, head, look):
    assert tripwires.looks(kind, head[:2048]) == look


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/a/b.PDF", "pdf"),
        ("/a/b.tar.gz", "gz"),
        ("/a.b/c", ""),
        ("/a/.profile", ""),
        ("/a/b.", ""),
        ("b.Docx", "docx"),
    ],
)
def test_ending(path, kind):
    assert tripwires.ending(path) == kind


class Practice:
    """Files with their content, and what a run makes of them."""

    def __init__(self, seed: int = 1, size: int = 1000) -> None:
        self.random = random.Random(seed)
        kinds = ["docx", "pdf", "jpg", "txt", "xml", "doc", "dcm"]
        self.files = {f"/srv/d/{n % 40}/letter {n}.{kinds[n % 7]}": self.like(kinds[n % 7]) for n in range(size)}
        self.before: dict[str, list] = {}
        self.history: list[dict] = []

    def like(self, kind: str) -> bytes:
        head = HEADS[kind]
        return head + b"%d" % self.random.getrandbits(64)

    def encrypt(self, paths, suffix=""):
        for path in list(paths):
            self.files[path + suffix] = b"Salted__" + self.random.randbytes(2048)
            if suffix:
                del self.files[path]

    def some(self, n, *kinds):
        return self.random.sample([p for p in sorted(self.files) if not kinds or tripwires.ending(p) in kinds], n)

    def run(self, settings: Settings | None = None, learn: bool = True) -> list[str]:
        tally = tripwires.Tally(len(self.before))
        now = {}
        for path, content in self.files.items():
            digest = hashlib.blake2b(content).digest()
            known = self.before.get(path)
            if known != digest:
                tally.see(path, known, digest, content[: tripwires.HEAD_BYTES])
            now[path] = digest
        gone = {path: digest for path, digest in self.before.items() if path not in now}
        figures = tally.figures(len(now), gone)
        found = tripwires.judge(figures, self.history, settings or Settings())
        self.before = now
        if not found and learn:
            self.history.append(figures.history("r"))
        return [finding.code for finding in found]


@pytest.fixture
def practice():
    practice = Practice()
    assert practice.run() == []
    assert practice.run() == []
    return practice


def edit(practice, paths):
    for path in paths:
        practice.files[path] = practice.like(tripwires.ending(path))


def move(practice, old, new):
    for path in [p for p in practice.files if p.startswith(old)]:
        practice.files[new + path[len(old) :]] = practice.files.pop(path)


def scans(practice, n):
    for each in range(n):
        practice.files[f"/srv/d/scans/new {each}.jpg"] = practice.like("jpg")


def convert(practice, old, new):
    for path in practice.some(100, old):
        practice.files[path[: -len(old)] + new] = practice.like(new)
        del practice.files[path]


def strange(practice, n):
    """A vendor's own files, which no table knows and which are rightly random."""
    for each in range(n):
        practice.files[f"/srv/d/vendor/{each}.xyz"] = practice.random.randbytes(2048)


ORDINARY = {
    "nothing": lambda p: None,
    "a batch of scans": lambda p: scans(p, 3000),
    "an update rewrites everything": lambda p: edit(p, list(p.files)),
    "a third of the texts edited": lambda p: edit(p, p.some(60, "txt", "xml")),
    "a folder renamed": lambda p: move(p, "/srv/d/3/", "/srv/d/three/"),
    "everything moved below a folder": lambda p: move(p, "/srv/d/", "/srv/d/all/"),
    "letters turned into PDF": lambda p: convert(p, "doc", "pdf"),
    "some deleted": lambda p: [p.files.pop(path) for path in p.some(300)],
    "nine broken": lambda p: p.encrypt(p.some(9)),
    "a vendor's folder comes": lambda p: strange(p, 400),
    "an import of text": lambda p: p.files.update({f"/srv/d/in/{n}.hl7": p.like("hl7") for n in range(900)}),
    "a big day in every way": lambda p: (
        scans(p, 2000), edit(p, p.some(300)), move(p, "/srv/d/5/", "/srv/d/five/"), p.encrypt(p.some(5, "txt")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("day", ORDINARY)
def test_an_ordinary_day_raises_nothing(practice, day):
    before = dict(practice.files)
    ORDINARY[day](practice)
    assert day == "nothing" or practice.files != before
    assert practice.run() == []


@pytest.mark.parametrize(
    ("crime", "codes"),
    [
        (lambda p: p.encrypt(p.files), {"suspect_magic", "suspect_entropy", "suspect_change"}),
        (lambda p: p.encrypt(p.files, ".locked"), {"suspect_rename", "suspect_change"}),
        (lambda p: p.encrypt(p.some(40, "pdf", "jpg")), {"suspect_magic"}),
        (lambda p: p.encrypt(p.some(40, "txt")), {"suspect_entropy"}),
        (lambda p: p.encrypt(p.some(40), ".crypt"), {"suspect_rename"}),
        # the same on a day with many new scans
        (lambda p: (scans(p, 3000), p.encrypt(p.some(40, "pdf", "docx"))), {"suspect_magic"}),
        # names made anew, endings lost
        (lambda p: [p.files.update({f"/srv/d/{p.random.getrandbits(64):x}": p.random.randbytes(2048)}) or
                    p.files.pop(path) for path in p.some(500)], {"suspect_change"}),
        (lambda p: [p.files.pop(path) for path in p.some(600)], {"suspect_change"}),
        (lambda p: [p.files.update({path: b"\0" * 3000}) for path in p.some(50, "docx", "pdf")], {"suspect_magic"}),
        # ending replaced instead of added
        (lambda p: [p.files.update({path.rpartition(".")[0] + ".lckd": p.random.randbytes(2048)}) or
                    p.files.pop(path) for path in p.some(50)], {"suspect_rename"}),
    ],
)  # fmt: skip
def test_what_an_encryptor_does_is_seen(practice, crime, codes):
    crime(practice)
    assert set(practice.run()) == codes


def test_a_first_backup_of_encrypted_files_is_suspect():
    practice = Practice()
    practice.encrypt(practice.files)
    assert set(practice.run()) == {"suspect_magic", "suspect_entropy"}


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        (Settings(disable=("magic", "change")), {"suspect_entropy"}),
        (Settings(disable=("canary", "magic", "change", "rename", "entropy")), set()),
        (Settings(least=5000), set()),
        (Settings(magic=100, entropy=100, change=100), {"suspect_magic", "suspect_entropy", "suspect_change"}),
    ],
)
def test_settings_are_obeyed(practice, settings, codes):
    practice.encrypt(practice.files)
    assert set(practice.run(settings)) == codes


def test_a_practice_whose_files_are_always_odd_is_odd_once(practice):
    """What a person cleared is in the history; from then on only more than that raises."""
    for day in range(5):
        for n in range(40):
            practice.files[f"/srv/d/sealed/{day} {n}.pdf"] = practice.random.randbytes(2048)
        found = practice.run()
        assert found == (["suspect_magic"] if day == 0 else [])
        if found:
            practice.history.append({"wrong": [0, 40]})
    practice.encrypt(practice.some(70, "docx"))
    assert practice.run() == ["suspect_magic"]


def test_damaged_history_is_no_reason_to_fail(practice):
    practice.history[:] = [{}, {"before": None, "wrong": None, "random": None, "renamed": "x"}]
    practice.encrypt(practice.files)
    assert "suspect_magic" in practice.run()


def test_a_message_names_no_file(practice):
    practice.encrypt(practice.files)
    found = tripwires.Tally(len(practice.before))
    for path, content in practice.files.items():
        found.see(path, practice.before[path], b"other", content[:2048])
    findings = tripwires.judge(found.figures(len(practice.files), {}), [], Settings(), (2, 1, 1))
    assert len(findings) == 4
    for finding in findings:
        assert "letter" not in finding.message
        assert "/srv" not in finding.message
    assert findings[0].message.endswith("1 missing and 1 changed")
    assert len(found.examples) == tripwires.EXAMPLES


def test_a_canary_never_becomes_another_one():
    """Its bytes are on the disks of practices: a change here would make every one of them suspect."""
    made = canary.content("harbour-street", "server1", "/srv/clinic/documents/x.pdf")
    assert hashlib.sha256(made).hexdigest() == "48c09b64453b9232f9110ee0a1b14419a35cf2fe1c0effa2d2148702c7d33b21"
    assert made != canary.content("harbour-street", "server2", "/srv/clinic/documents/x.pdf")
    assert tripwires.looks("pdf", made[:2048]) == FINE
    table = made.rindex(b"xref\n", 0, made.rindex(b"startxref"))
    assert int(made.split()[-2]) == table
    assert b"Please do not change, move or delete this file." in made[:400]
