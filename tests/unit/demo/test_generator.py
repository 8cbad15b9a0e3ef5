# SPDX-License-Identifier: Apache-2.0
"""The example practice's data: the same bytes every time, consistent with itself, and files that really open."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile

import pytest
from ansible_collections.holdfast.practice.demo import generator
from ansible_collections.holdfast.practice.demo.generator import database

TODAY = dt.date(2026, 11, 21)  # a Saturday: tomorrow the practice is closed but for the doctor on call
SCALE = 0.05
GENERATE = pathlib.Path(generator.__file__).resolve().parents[1] / "generate.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("demo") / "one"
    generator.build(folder, TODAY, scale=SCALE)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("demo") / "small"
    generator.build(folder, TODAY, scale=0.01)
    return folder


def copied(folder: pathlib.Path, table: str) -> list[dict[str, str | None]]:
    """Read a table's COPY block as PostgreSQL would."""
    text = (folder / "clinic.sql").read_text(encoding="utf-8")
    found = re.search(rf"\nCOPY {table} \(([^)]*)\) FROM stdin;\n(.*?)\\\.\n", text, re.DOTALL)
    assert found, table
    rows = csv.reader(io.StringIO(found[2]), delimiter="\t", quoting=csv.QUOTE_NONE)
    names = found[1].split(", ")
    return [dict(zip(names, (None if v == r"\N" else v for v in row), strict=True)) for row in rows]


def at(text: str | None) -> dt.datetime:
    assert text is not None
    return dt.datetime.fromisoformat(text + ":00")


def files(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    found = sorted(folder.rglob(pattern))
    assert found, pattern
    return found


def test_the_same_arguments_give_the_same_bytes(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    generator.build(tmp_path / "two", TODAY, scale=SCALE, processes=1)
    names = [path.relative_to(data) for path in data.rglob("*") if path.is_file()]
    assert len(names) == len([path for path in (tmp_path / "two").rglob("*") if path.is_file()]) > 120
    assert [str(name) for name in names if (data / name).read_bytes() != (tmp_path / "two" / name).read_bytes()] == []


@pytest.mark.parametrize(("today", "seed"), [(TODAY + dt.timedelta(days=1), 1), (TODAY, 2)])
def test_another_day_or_seed_gives_other_data(
    small: pathlib.Path, tmp_path: pathlib.Path, today: dt.date, seed: int
) -> None:
    generator.build(tmp_path / "other", today, seed, 0.01)
    for name in ("VERSION", "clinic.sql", "server1.tar", "desk1.tar"):
        assert (small / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_counts(data: pathlib.Path) -> None:
    counts = json.loads((data / "counts.json").read_text())
    assert counts["patient"] == 1000
    assert counts["appointment"] == 7500
    assert counts["documents"] == len([p for p in (data / "documents").rglob("*") if p.is_file()]) == 100
    assert counts["images"] == counts["image"] == len([p for p in (data / "images").rglob("*") if p.is_file()]) == 25
    assert counts["desk_files"] == len([p for p in (data / "desk").rglob("*") if p.is_file()]) >= 10
    for table in ("practitioner", "patient", "appointment", "invoice", "image", "letter"):
        assert counts[table] == len(copied(data, table)), table


def test_every_image_and_letter_row_has_its_file_and_no_file_is_without_row(data: pathlib.Path) -> None:
    rows = [row["path"] for row in copied(data, "image")]
    assert sorted(map(str, rows)) == sorted(
        p.relative_to(data / "images").as_posix() for p in (data / "images").rglob("*") if p.is_file()
    )
    letters = {str(row["path"]) for row in copied(data, "letter")}
    there = {p.relative_to(data / "documents").as_posix() for p in (data / "documents").rglob("*") if p.is_file()}
    assert letters == {name for name in there if not name.endswith(".xlsx")}


def test_foreign_keys_and_unique_keys_hold(data: pathlib.Path) -> None:
    patients = {row["id"] for row in copied(data, "patient")}
    staff = {row["id"] for row in copied(data, "practitioner")}
    visits = copied(data, "appointment")
    ids = {row["id"] for row in visits}
    assert {row["patient_id"] for row in visits} <= patients
    assert {row["practitioner_id"] for row in visits} <= staff
    assert len({(row["practitioner_id"], row["starts"]) for row in visits}) == len(visits)
    assert {row["patient_id"] for table in ("image", "letter") for row in copied(data, table)} <= patients
    billed = [row["appointment_id"] for row in copied(data, "invoice")]
    assert set(billed) <= ids
    assert len(set(billed)) == len(billed)


@pytest.mark.parametrize("today", [TODAY + dt.timedelta(days=n) for n in range(7)] + [dt.date(2026, 10, 4)])
def test_appointments_reach_tomorrow_in_opening_hours_and_none_was_recorded_ahead_of_time(today: dt.date) -> None:
    rows, completed = database.appointments(200, 12, 1500, 7, today)
    assert len(rows) == 1500
    cells = [row.split("\t") for row in rows]
    starts = [at(row[3]) for row in cells]
    assert max(start.date() for start in starts) == today + dt.timedelta(days=1)
    assert min(starts).date() < today - dt.timedelta(days=700)
    for start, row in zip(starts, cells, strict=True):
        opens, closes = database.HOURS[start.weekday()]
        assert opens <= start.hour * 60 + start.minute < closes
        assert (row[6] == "booked") == (start.date() >= today)
        assert at(row[8]) <= start
    midnight = dt.datetime(today.year, today.month, today.day, tzinfo=database.ZONE)
    newest = max(at(row[8]) for row in cells)
    assert midnight - dt.timedelta(minutes=5) < newest < midnight
    assert 0 < len(completed) < 1500
    assert max(day for _, day in completed) < today


def test_jpegs_open_whole(data: pathlib.Path) -> None:
    from PIL import Image

    for path in files(data / "images", "*.jpg"):
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "JPEG"
            assert min(picture.size) >= 600
            darkest, brightest = picture.getextrema()
            assert isinstance(darkest, int)
            assert isinstance(brightest, int)
            assert brightest - darkest > 150


def test_dicoms_open_and_name_a_patient_of_the_database(data: pathlib.Path) -> None:
    import pydicom

    records = {row["record_number"] for row in copied(data, "patient")}
    uids = set()
    for path in files(data / "images", "*.dcm"):
        read = pydicom.dcmread(path)
        assert read.PatientID in records
        assert len(read.PixelData) == read.Rows * read.Columns * 2
        assert max(read.PixelData[1::2]) < 16  # 12 bits stored
        uids.add(read.SOPInstanceUID)
    assert len(uids) == len(files(data / "images", "*.dcm"))


def test_word_and_excel_files_open(data: pathlib.Path) -> None:
    import docx
    import openpyxl

    for path in files(data, "*.docx"):
        text = "\n".join(paragraph.text for paragraph in docx.Document(str(path)).paragraphs)
        assert "invented" in text
        assert "@" not in text
    for path in files(data, "*.xlsx"):
        assert openpyxl.load_workbook(path).worksheets[0].max_row > 10


def test_pdfs_are_whole(data: pathlib.Path) -> None:
    for path in files(data / "documents", "*.pdf"):
        content = path.read_bytes()
        assert content.startswith(b"%PDF-1.")
        assert content.rstrip().endswith(b"%%EOF")
        start = int(content.rsplit(b"startxref", 1)[1].split()[0])
        assert content[start : start + 4] == b"xref"


def test_names_are_awkward_enough(data: pathlib.Path) -> None:
    names = [path.name for path in (data / "documents").rglob("*") if path.is_file()]
    assert any(" " in name for name in names)
    assert any(not name.isascii() for name in names)
    desk = [path.name for path in (data / "desk").rglob("*")]
    assert any("'" in name for name in desk)
    assert any("ü" in name for name in desk)


def test_archives_hold_the_tree_with_the_owners_and_no_time_ahead(data: pathlib.Path) -> None:
    for name, owner, parts in (
        ("server1.tar", "clinic", ("clinic.sql", "documents", "images")),
        ("desk1.tar", "reception", ("desk",)),
    ):
        with tarfile.open(data / name) as archive:
            members = archive.getmembers()
            expected = sum(1 for part in parts for p in [data / part, *(data / part).rglob("*")])
            assert len(members) == expected
            assert {member.uname for member in members} == {owner}
            assert max(member.mtime for member in members) < dt.datetime(2026, 11, 21, tzinfo=dt.UTC).timestamp()


def test_an_occupied_folder_is_refused(data: pathlib.Path) -> None:
    with pytest.raises(FileExistsError, match="expected an empty or absent folder"):
        generator.build(data, TODAY, scale=SCALE)


def test_the_cache_is_used_renewed_and_cleared(tmp_path: pathlib.Path) -> None:
    def run(day: dt.date) -> pathlib.Path:
        command = [sys.executable, str(GENERATE), "--cache", str(tmp_path), "--today", str(day), "--scale", "0.01"]
        return pathlib.Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())

    first = run(TODAY)
    assert {path.name for path in first.iterdir()} == {"server1.tar", "desk1.tar", "VERSION", "counts.json"}
    stamp = (first / "server1.tar").stat()
    assert run(TODAY) == first
    assert (first / "server1.tar").stat().st_ino == stamp.st_ino
    (tmp_path / "somebody else's").mkdir()
    second = run(TODAY + dt.timedelta(days=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([second.name, "somebody else's"])


def test_a_generator_that_fails_leaves_nothing_half_done(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "write_sql", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        generator.cached(tmp_path, TODAY, scale=0.01)
    assert list(tmp_path.iterdir()) == []
