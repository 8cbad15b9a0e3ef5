# SPDX-License-Identifier: Apache-2.0
"""Put the data set together: a plan of all files first, then their contents on two processes, then the archives."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import functools
import hashlib
import importlib.metadata
import io
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import tarfile
import unicodedata

from . import database, documents, images, people

HERE = pathlib.Path(__file__).parent
TARS = ("server1.tar", "desk1.tar")
FULL_TREE = ("clinic.sql", "documents", "images", "desk")
COUNTS = {"patient": 20_000, "appointment": 150_000, "document": 2_000, "image": 500, "desk": 40}
PRACTITIONERS = 12
# What writes the bytes: another version of one of these may write other ones.
LIBRARIES = ("faker", "fpdf2", "openpyxl", "pillow", "pydicom", "python-docx")


@functools.cache
def data_version() -> str:
    """Name of this generator: changes with its sources, its libraries' versions, and nothing else."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted([*HERE.glob("*.py"), *HERE.glob("*.sql")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for library in LIBRARIES:
        digest.update(f"{library}={importlib.metadata.version(library)}\0".encode())
    return digest.hexdigest()


def _count(kind: str, scale: float) -> int:
    return max(10, round(COUNTS[kind] * scale))


class _Scene:
    """Everything that is decided before any file is written; made from (seed, scale, today) alone, in every process."""

    def __init__(self, seed: int, scale: float, today: dt.date) -> None:
        self.seed, self.today = seed, today
        pools = people.draw_pools(seed)
        self.practitioners = people.draw_practitioners(pools, seed, PRACTITIONERS)
        self.patients = people.draw_patients(pools, seed, _count("patient", scale), PRACTITIONERS, today)
        rng = random.Random(f"{seed}:plan")
        self.letters = self._plan_documents(rng, _count("document", scale))
        self.images = self._plan_images(rng, _count("image", scale))

    def _plan_documents(self, rng: random.Random, count: int) -> list[tuple[int, int, int, str, str, dt.date]]:
        """(id, patient id, practitioner id, kind, path, day), oldest first; every twentieth is a monthly workbook."""
        plan = []
        for number in range(1, count + 1):
            day = self.today - dt.timedelta(days=1 + int(728 * (count - number) / count))
            patient = rng.choice(self.patients)
            kind = rng.choices(("letters", "reports", "referrals"), (65, 20, 15))[0]
            suffix = "docx" if rng.random() < 0.5 else "pdf"
            if number % 20 == 0:
                path = f"reports/{day:%Y}/Monthly figures {day:%Y-%m} no {number:05d}.xlsx"
                kind = "reports"
            elif kind == "letters":
                name = unicodedata.normalize("NFC", f"{patient.family}, {patient.given}")
                path = f"letters/{day:%Y}/{name} {day} {number:05d}.{suffix}"
            else:
                path = f"{kind}/{day:%Y}/{day:%Y%m%d}_{patient.record}_{number:05d}.{suffix}"
            plan.append((number, patient.id, rng.randrange(1, PRACTITIONERS + 1), kind, path, day))
        return plan

    def _plan_images(self, rng: random.Random, count: int) -> list[tuple[int, int, str, str, dt.datetime]]:
        """(id, patient id, path, view, time taken), oldest first; every twelfth is DICOM."""
        plan = []
        for number in range(1, count + 1):
            day = self.today - dt.timedelta(days=1 + int(728 * (count - number) / count))
            taken = dt.datetime(
                day.year, day.month, day.day, rng.randrange(9, 12), rng.randrange(60), rng.randrange(60)
            )
            view = rng.choice(tuple(images.VIEWS))
            suffix = "dcm" if number % 12 == 0 else "jpg"
            path = f"{day:%Y/%m}/{number:06d}.{suffix}"
            plan.append((number, rng.choice(self.patients).id, path, view, taken))
        return plan

    def document(self, index: int) -> tuple[str, bytes]:
        number, patient_id, practitioner_id, kind, path, day = self.letters[index]
        rng = random.Random(f"{self.seed}:document:{number}")
        if path.endswith(".xlsx"):
            return f"documents/{path}", documents.monthly_report(day, rng)
        make = documents.docx_letter if path.endswith(".docx") else documents.pdf_letter
        patient, author = self.patients[patient_id - 1], self.practitioners[practitioner_id - 1]
        return f"documents/{path}", make(kind, patient, author, day, rng)

    def image(self, index: int) -> tuple[str, bytes]:
        number, patient_id, path, view, taken = self.images[index]
        rng = random.Random(f"{self.seed}:image:{number}")
        patient = self.patients[patient_id - 1]
        if path.endswith(".dcm"):
            return f"images/{path}", images.dicom(view, number, patient, taken, self.seed, rng)
        return f"images/{path}", images.jpeg(view, f"{patient.record} {taken:%d.%m.%Y}", rng)


@functools.cache
def _scene(seed: int, scale: float, today: dt.date) -> _Scene:
    return _Scene(seed, scale, today)


def _write_some(
    output: pathlib.Path, seed: int, scale: float, today: dt.date, kind: str, start: int, stop: int
) -> None:
    """Worker: write documents or images [start, stop)."""
    scene = _scene(seed, scale, today)
    make = scene.document if kind == "document" else scene.image
    for index in range(start, stop):
        path, content = make(index)
        target = output / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _pack(
    target: pathlib.Path, tree: pathlib.Path, parts: tuple[str, ...], owner: str, days: dict[str, dt.date]
) -> None:
    """Pack parts of the tree, sorted, owned by a named user; times are the days in the plan, never the clock's."""
    oldest = min(days.values())
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
        for part in parts:
            root = tree / part
            names = [root, *sorted(root.rglob("*"))] if root.is_dir() else [root]
            for path in names:
                name = path.relative_to(tree).as_posix()
                info = tarfile.TarInfo(name)
                day = days.get(name, oldest)
                info.mtime = int(dt.datetime(day.year, day.month, day.day, 3, tzinfo=dt.UTC).timestamp())
                info.uname = info.gname = owner
                info.uid = info.gid = 0
                if path.is_dir():
                    info.type, info.mode = tarfile.DIRTYPE, 0o750
                    archive.addfile(info)
                else:
                    content = path.read_bytes()
                    info.size, info.mode = len(content), 0o640
                    archive.addfile(info, io.BytesIO(content))


def build(
    output: pathlib.Path, today: dt.date, seed: int = 1, scale: float = 1.0, processes: int = 2
) -> dict[str, int]:
    """Write clinic.sql, documents/, images/, desk/, server1.tar, desk1.tar, VERSION and counts.json into `output`.

    `output` must be absent or empty. Returns the counts: rows per table, files and bytes.
    """
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise FileExistsError(f"{output}: expected an empty or absent folder; remove it or name another one")
    version = f"{data_version()}-{today}" + ("" if (seed, scale) == (1, 1.0) else f"-s{seed}-x{scale:g}")
    scene = _scene(seed, scale, today)
    # Interleaved small pieces keep both processes busy to the end; "fork" hands them the scene for nothing.
    pieces = [
        (output, seed, scale, today, kind, start, min(start + 50, len(plan)))
        for kind, plan in (("image", scene.images), ("document", scene.letters))
        for start in range(0, len(plan), 50)
    ]
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        jobs = [pool.submit(_write_some, *piece) for piece in pieces]
        rows = database.write_sql(
            output / "clinic.sql",
            version=version,
            today=today,
            seed=seed,
            practitioners=scene.practitioners,
            patients=scene.patients,
            appointment_count=_count("appointment", scale),
            images=[(i, who, path, images.VIEWS[view][0], taken) for i, who, path, view, taken in scene.images],
            letters=[letter for letter in scene.letters if not letter[4].endswith(".xlsx")],
        )
        days = {f"documents/{letter[4]}": letter[5] for letter in scene.letters}
        days |= {f"images/{image[2]}": image[4].date() for image in scene.images}
        days["clinic.sql"] = today - dt.timedelta(days=1)
        desk = documents.desk_files(scene.patients, seed, today, _count("desk", max(scale, 0.25)))
        for name, content, day in desk:
            target = output / "desk" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            days[f"desk/{name}"] = day
        for job in jobs:
            job.result()
    files = [path for part in FULL_TREE[1:] for path in (output / part).rglob("*") if path.is_file()]
    expected = len(scene.letters) + len(scene.images) + len(desk)
    if len(files) != expected:
        raise RuntimeError(f"{output}: planned {expected} files but {len(files)} are there: two share a name")
    _pack(output / "server1.tar", output, ("clinic.sql", "documents", "images"), "clinic", days)
    _pack(output / "desk1.tar", output, ("desk",), "reception", days)
    counts = {
        **rows,
        "documents": len(scene.letters),
        "images": len(scene.images),
        "desk_files": len(desk),
        "bytes": sum(path.stat().st_size for path in files),
    }
    (output / "counts.json").write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n")
    (output / "VERSION").write_text(version + "\n")
    return counts


def cached(cache: pathlib.Path, today: dt.date, seed: int = 1, scale: float = 1.0) -> pathlib.Path:
    """Return the folder in `cache` that holds the archives of this version and day; build it when it is not there.

    It appears whole (renamed into place) and older ones are removed afterwards, except other generators' of today.
    """
    cache.mkdir(parents=True, exist_ok=True)
    name = f"{data_version()}-{today}" + ("" if (seed, scale) == (1, 1.0) else f"-s{seed}-x{scale:g}")
    folder = cache / name
    if (folder / "VERSION").is_file():
        return folder
    work = cache / f".{name}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    try:
        build(work, today, seed, scale)
        for part in FULL_TREE:  # packed by now; the tree would only double the cache
            path = work / part
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        try:
            work.rename(folder)
        except OSError:
            if not (folder / "VERSION").is_file():  # else another run finished first, with the same bytes
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for other in cache.iterdir():
        if other != folder and str(today) not in other.name and (other / "VERSION").is_file():
            shutil.rmtree(other)
    return folder
