# SPDX-License-Identifier: Apache-2.0
"""Ransomware tripwires: does what came and changed since the last run look like a practice at work? Pure.

Nothing is read for this: the heads of new and changed files come from the pass that hashes them, unchanged files are not
opened. A practice's big days (an update, a batch of scans, folders moved by staff) change many files and leave each of
them what it is; an encryptor changes what they are. So no number of files is suspicious by itself, only what they became:

- ``magic``: files whose type is known do not begin as that type does, nor as any other;
- ``entropy``: files that hold text look random;
- ``rename``: files went, and their names came back with an unknown ending and other content;
- ``change``: a large part of the files changed or went, far more than on other days, and what came instead looks spoilt; or
  more than half of them went;
- ``canary``: a file that nobody has a reason to touch is missing or changed.

Every wire needs a least number of files and a share of those that it judges, and more than the ordinary days had.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

HEAD_BYTES = 2048
WIRES = ("canary", "magic", "change", "rename", "entropy")
SHARES = ("magic", "entropy", "rename", "change")
MAGIC, ENTROPY, NOISE, FINE = "magic", "entropy", "noise", ""
# as they are numbered where they are kept
LOOKS = (FINE, MAGIC, ENTROPY, NOISE)
HISTORY_RUNS = 30
EXAMPLES = 20
_RANDOM_BITS = 7.0
_RANDOM_LEAST = 256
_RANDOM_BYTES = 1024
_GONE_PERCENT = 50
# a day counts as beyond the ordinary ones when it has this many times what the largest of them had
_BEYOND = 1.5

_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_OLE = (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SQLITE = (b"SQLite format 3\0",)
# DICOM without its preamble begins with an element of group 2 or 8
_DICOM = (b"\x02\0", b"\x08\0")
_OTHERS = (
    b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"RIFF", b"ID3", b"OggS", b"fLaC",
    b"BM", b"%!PS", b"\x7fELF", b"MZ", b"PGDMP", b"\0\0\1\0", b"wOF", b"AT&TFORM", b"\0\0\0\x0cjP  ", b"II\xbc",
)  # fmt: skip

# How files of a type begin. Types that are compressed, or are whatever a program likes, are not judged by entropy.
TYPES: dict[str, tuple[bytes, ...]] = {
    "pdf": (b"%PDF-",), "docx": _ZIP, "docm": _ZIP, "dotx": _ZIP, "xlsx": _ZIP, "xlsm": _ZIP, "pptx": _ZIP, "zip": _ZIP,
    "odt": _ZIP, "ods": _ZIP, "odp": _ZIP, "jpg": (b"\xff\xd8\xff",), "jpeg": (b"\xff\xd8\xff",),
    "png": (b"\x89PNG\r\n\x1a\n",), "gif": (b"GIF8",), "tif": _TIFF, "tiff": _TIFF, "bmp": (b"BM",), "dcm": _DICOM,
    "sqlite": _SQLITE, "sqlite3": _SQLITE, "doc": _OLE, "dot": _OLE, "xls": _OLE, "ppt": _OLE, "msg": _OLE,
    "rtf": (b"{\\rtf",),
}  # fmt: skip
# types under whose name programs also write plain text
_ALSO_TEXT = frozenset(("doc", "dot", "xls", "rtf", "msg"))
TEXT = frozenset((
    "txt", "csv", "tsv", "xml", "xsl", "xsd", "html", "htm", "json", "hl7", "fhir", "gdt", "ldt", "bdt", "sql", "log",
    "md", "ini", "cfg", "conf", "yml", "yaml", "eml", "ics", "vcf", "svg",
))  # fmt: skip
# known, and rightly random: compressed, encrypted on purpose, or a vendor's own
DENSE = frozenset((
    "gz", "tgz", "bz2", "xz", "zst", "7z", "rar", "jar", "iso", "img", "vhd", "vhdx", "vmdk", "mp3", "mp4", "m4a", "mov",
    "avi", "mkv", "wav", "ogg", "webm", "webp", "heic", "jp2", "jls", "woff", "woff2", "bak", "dump", "dmp", "fbk", "gbk",
    "backup", "gpg", "pgp", "asc", "age", "p7m", "p7s", "p12", "pfx", "cer", "crt", "kdbx", "exe", "dll", "so", "msi",
    "cab", "apk",
))  # fmt: skip
_KNOWN = tuple({magic for magics in TYPES.values() for magic in magics if len(magic) > 2} | set(_OTHERS))


@dataclass(frozen=True)
class Settings:
    """What raises. Shares in percent of the files that a wire judges; ``least`` is the fewest files that raise at all."""

    canaries: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    least: int = 10
    magic: int = 20
    entropy: int = 20
    rename: int = 20
    change: int = 30


class Finding(NamedTuple):
    """A wire that went off; the message names no file."""

    code: str
    message: str


@dataclass(frozen=True)
class Figures:
    """A run in a few numbers. ``before``: files that there were; the rest is what happened to them since.

    moved: gone and new, same content, same ending. typed and wrong: of known types, and not beginning like it; text and
    random: holding text, and looking random; each for changed and for new files. renamed: gone and come back under an
    unknown ending. spoilt: wrong, random or, of unknown types, noise.
    """

    before: int = 0
    files: int = 0
    changed: int = 0
    new: int = 0
    gone: int = 0
    moved: int = 0
    renamed: int = 0
    spoilt: int = 0
    typed: tuple[int, int] = (0, 0)
    wrong: tuple[int, int] = (0, 0)
    text: tuple[int, int] = (0, 0)
    random: tuple[int, int] = (0, 0)

    def history(self, run: str) -> dict[str, Any]:
        """As it is kept."""
        return {
            "run": run,
            "files": self.files,
            "before": self.before,
            "changed": self.changed,
            "new": self.new,
            "gone": max(0, self.gone - self.moved),
            "renamed": self.renamed,
            "wrong": list(self.wrong),
            "random": list(self.random),
        }


def ending(path: str) -> str:
    """The ending of a file's name in lower case, without its dot; empty without one."""
    stem, dot, last = path[path.rfind("/") + 1 :].rpartition(".")
    return last.lower() if dot and stem else ""


def looks(kind: str, head: bytes) -> str:
    """What is wrong with a file of this ending that begins so: MAGIC, ENTROPY, NOISE (of an unknown type) or FINE."""
    magics = TYPES.get(kind)
    if magics is not None:
        if not head or head.startswith(magics) or head.startswith(_KNOWN):
            return FINE
        if b"%PDF-" in head or head[128:132] == b"DICM" or head[4:8] == b"ftyp":
            return FINE
        return FINE if kind in _ALSO_TEXT and is_text(head) else MAGIC
    if kind in TEXT:
        return ENTROPY if looks_random(head) and not head.startswith(_KNOWN) else FINE
    if kind in DENSE or head.startswith(_KNOWN):
        return FINE
    return NOISE if looks_random(head) else FINE


def is_text(head: bytes) -> bool:
    """No control bytes but white space, or UTF-16 by its mark."""
    return head.startswith((b"\xff\xfe", b"\xfe\xff")) or not head.translate(None, _PRINTABLE)


_PRINTABLE = bytes(n for n in range(256) if n >= 32 or n in (9, 10, 12, 13, 27, 28, 11))


def looks_random(head: bytes) -> bool:
    """Entropy of seven bits a byte and more. Few different bytes settle it for most files without reckoning."""
    # of 256 random bytes some 162 differ, of 256 of a text less than half as many
    if len(head) < _RANDOM_LEAST or len(set(head[:_RANDOM_LEAST])) < 115:
        return False
    sample = head[:_RANDOM_BYTES]
    size = len(sample)
    bits = -sum(n / size * math.log2(n / size) for n in Counter(sample).values())
    return bits >= _RANDOM_BITS


@dataclass
class Tally:
    """What the hashing pass saw. before: how many files there were after the last run."""

    before: int
    changed: int = 0
    new: int = 0
    typed: list[int] = field(default_factory=lambda: [0, 0])
    wrong: list[int] = field(default_factory=lambda: [0, 0])
    text: list[int] = field(default_factory=lambda: [0, 0])
    random: list[int] = field(default_factory=lambda: [0, 0])
    noise: int = 0
    examples: list[str] = field(default_factory=list)
    arrived: list[tuple[str, bytes, str]] = field(default_factory=list)

    def see(self, path: str, known: bytes | None, digest: bytes, head: bytes) -> str:
        """Count a file that was hashed; returns how it looks. A file that was only touched counts for nothing.

        known: its hash after the last run.
        """
        kind = ending(path)
        # what a type that nobody knows looks like only matters beside what there was before
        look = looks(kind, head) if self.before or kind in TYPES or kind in TEXT else FINE
        if known == digest:
            return look
        group = 0 if known else 1
        if known:
            self.changed += 1
        else:
            self.new += 1
            if self.before:
                self.arrived.append((path, digest, look))
        if kind in TYPES:
            self.typed[group] += 1
            self.wrong[group] += look == MAGIC
        elif kind in TEXT:
            self.text[group] += 1
            self.random[group] += look == ENTROPY
        else:
            self.noise += look == NOISE
        if look and len(self.examples) < EXAMPLES:
            self.examples.append(path)
        return look

    def figures(self, files: int, gone: Mapping[str, bytes]) -> Figures:
        """Sum up. files: how many there are now. gone: hashes of those from before that are really not there any more."""
        moved = renamed = 0
        contents = Counter((digest, ending(path)) for path, digest in gone.items())
        stems = {path.rpartition(".")[0] for path in gone}
        for path, digest, look in self.arrived if gone else ():
            kind, stem = ending(path), path.rpartition(".")[0]
            if contents.get((digest, kind), 0) > 0:
                contents[digest, kind] -= 1
                moved += 1
            elif stem in gone and kind not in TYPES and kind not in TEXT:
                renamed += gone[stem] != digest
            elif look == NOISE and kind and stem in stems:
                renamed += 1
        return Figures(
            before=self.before,
            files=files,
            changed=self.changed,
            new=self.new,
            gone=len(gone),
            moved=moved,
            renamed=renamed,
            spoilt=sum(self.wrong) + sum(self.random) + self.noise,
            typed=(self.typed[0], self.typed[1]),
            wrong=(self.wrong[0], self.wrong[1]),
            text=(self.text[0], self.text[1]),
            random=(self.random[0], self.random[1]),
        )


def judge(
    seen: Figures, history: Sequence[Mapping[str, Any]], settings: Settings, canaries: Sequence[int] = (0, 0, 0)
) -> list[Finding]:
    """Findings of a run. history: ``Figures.history`` of clean runs. canaries: how many there are, missing, changed."""
    found: list[Finding] = []
    wires = [wire for wire in WIRES if wire not in settings.disable]
    count, missing, changed = canaries
    if "canary" in wires and missing + changed:
        what = " and ".join(text for n, text in ((missing, f"{missing} missing"), (changed, f"{changed} changed")) if n)
        found.append(Finding("suspect_canary", f"of {count} canaries, files that nobody has a reason to touch, {what}"))
    if "magic" in wires:
        found += _of_groups("magic", seen.typed, seen.wrong, history, settings, "do not begin as their type does")
    if "change" in wires:
        found += _change(seen, history, settings)
    if "rename" in wires and _raises(seen.renamed, seen.changed + seen.new, settings.rename, settings.least):
        usual = max((_number(run.get("renamed")) for run in history), default=0)
        if seen.renamed > _BEYOND * usual:
            text = f"{seen.renamed} files went and came back with other content and an unknown ending"
            found.append(Finding("suspect_rename", f"{text} ({_limit(settings.rename, settings)} of what came)"))
    if "entropy" in wires:
        found += _of_groups("entropy", seen.text, seen.random, history, settings, "look random and not like text")
    return found


def _raises(bad: int, judged: int, percent: int, least: int) -> bool:
    return bad >= least and bad * 100 >= judged * percent


def _limit(percent: int, settings: Settings) -> str:
    return f"limit {percent} %, at least {settings.least} files"


def _of_groups(
    wire: str,
    judged: Sequence[int],
    bad: Sequence[int],
    history: Sequence[Mapping[str, Any]],
    settings: Settings,
    what: str,
) -> list[Finding]:
    """Changed and new files apart: many good new ones must not hide that those which were there are spoilt."""
    percent = int(getattr(settings, wire))
    key = "wrong" if wire == "magic" else "random"
    parts = []
    for group, name in enumerate(("changed", "new")):
        usual = max((_number((run.get(key) or (0, 0))[group]) for run in history), default=0)
        if _raises(bad[group], judged[group], percent, settings.least) and bad[group] > _BEYOND * usual:
            parts.append(f"{bad[group]} of {judged[group]} {name} files")
    if not parts:
        return []
    return [Finding(f"suspect_{wire}", f"{' and '.join(parts)} {what} ({_limit(percent, settings)})")]


def _change(seen: Figures, history: Sequence[Mapping[str, Any]], settings: Settings) -> list[Finding]:
    if not seen.before:
        return []
    gone = max(0, seen.gone - seen.moved)
    hit = seen.changed + gone
    usual = max((_share(run) for run in history), default=0.0)
    share = hit * 100 / seen.before
    if hit < settings.least or share < settings.change or share <= min(_BEYOND * usual, 99):
        return []
    text = f"{seen.changed} of {seen.before} files changed and {gone} went"
    if _raises(seen.spoilt, seen.changed + seen.new - seen.moved, settings.change, settings.least):
        limit = _limit(settings.change, settings)
        return [Finding("suspect_change", f"{text}, and {seen.spoilt} of those that are there look spoilt ({limit})")]
    if gone * 100 >= seen.before * _GONE_PERCENT:
        return [Finding("suspect_change", f"{text}: were they deleted on purpose?")]
    return []


def _share(run: Mapping[str, Any]) -> float:
    before = _number(run.get("before"))
    return 100 * (_number(run.get("changed")) + _number(run.get("gone"))) / before if before else 0.0


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def types_of(entries: Iterable[tuple[str, str]], judged: Sequence[str]) -> dict[str, dict[str, int]]:
    """Counts of (path, look) of all files: {ending: {"files", "wrong"}}. judged: MAGIC or ENTROPY or both."""
    counts: dict[str, list[int]] = {}
    for path, look in entries:
        kind = ending(path)
        if is_judged(kind, judged):
            found = counts.setdefault(kind, [0, 0])
            found[0] += 1
            found[1] += look in judged
    return {kind: {"files": files, "wrong": wrong} for kind, (files, wrong) in sorted(counts.items())}


def is_judged(kind: str, judged: Sequence[str]) -> bool:
    """Are files of this ending judged by their beginning? judged: MAGIC or ENTROPY or both."""
    return (MAGIC in judged and kind in TYPES) or (ENTROPY in judged and kind in TEXT)


def wrong_looks(looks: Mapping[tuple[str, str], int], judged: Sequence[str]) -> tuple[int, int]:
    """(files, wrong) among {(ending, look): files}."""
    known = {each: files for each, files in looks.items() if is_judged(each[0], judged)}
    return sum(known.values()), sum(files for (_kind, look), files in known.items() if look in judged)


def wrong_in(types: Mapping[str, Mapping[str, int]]) -> tuple[int, int]:
    """(files, wrong) of ``types_of``, added up."""
    return sum(each["files"] for each in types.values()), sum(each["wrong"] for each in types.values())
