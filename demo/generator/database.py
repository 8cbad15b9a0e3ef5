# SPDX-License-Identifier: Apache-2.0
"""clinic.sql: schema, COPY data, constraints. Made for `psql --single-transaction`: a load is whole or not at all."""

from __future__ import annotations

import datetime as dt
import pathlib
import random
from collections.abc import Iterable, Iterator
from zoneinfo import ZoneInfo

from .people import Patient, Practitioner

HERE = pathlib.Path(__file__).parent
ZONE = ZoneInfo("Australia/Sydney")
# Opening hours as minutes of the day, by weekday; on Sundays one doctor is on call by telephone.
HOURS = {**dict.fromkeys(range(5), (8 * 60, 18 * 60 + 30)), 5: (9 * 60, 12 * 60), 6: (10 * 60, 11 * 60 + 30)}
SLOT = 15
KINDS = ["consultation", "consultation", "consultation", "follow-up", "vaccination", "procedure", "health check"]
NOTES = [
    r"\N",
    r"\N",
    r"\N",
    "bring previous results",
    "fasting",
    "interpreter needed",
    "wheelchair access",
    "new patient",
]
FEES = (4285, 8210, 12170, 6500, 3900, 15400)


def _offset(day: dt.date) -> str:
    """UTC offset of the practice on a day, in PostgreSQL's spelling ("+11")."""
    delta = dt.datetime(day.year, day.month, day.day, 12, tzinfo=ZONE).utcoffset()
    assert delta is not None
    return f"{int(delta.total_seconds() // 3600):+03d}"


def _slots(today: dt.date, practitioners: int) -> list[tuple[int, int, int]]:
    """All (day number, practitioner, minute) of two years that end with tomorrow; day 0 is the first one."""
    slots = []
    first = today - dt.timedelta(days=730)
    for number in range(732):
        weekday = (first + dt.timedelta(days=number)).weekday()
        opens, closes = HOURS[weekday]
        staff = {5: max(1, practitioners // 2), 6: 1}.get(weekday, practitioners)
        slots += [(number, who, minute) for minute in range(opens, closes, SLOT) for who in range(1, staff + 1)]
    return slots


def appointments(
    patients: int, practitioners: int, count: int, seed: int, today: dt.date
) -> tuple[list[str], list[tuple[int, dt.date]]]:
    """Return COPY rows in order of time, and (appointment id, day) of the completed ones, which are invoiced.

    Tomorrow always has one, and nothing was recorded later than the last minute of yesterday, so the data is never
    ahead of the clock, whatever hour of `today` it is loaded at.
    """
    rng = random.Random(f"{seed}:appointment")
    slots = _slots(today, practitioners)
    last = next(slot for slot in reversed(slots) if slot[1] == 1)
    chosen = rng.sample(slots, min(count, len(slots)) - 1)
    taken = set(chosen)
    chosen.append(last if last not in taken else next(slot for slot in slots if slot not in taken))
    chosen.sort()
    first = today - dt.timedelta(days=730)
    today_number = 730
    days = [first + dt.timedelta(days=number) for number in range(-61, 732)]
    text = [(day.isoformat(), _offset(day)) for day in days]  # index: day number + 61
    rows: list[str] = []
    completed: list[tuple[int, dt.date]] = []
    draw, below = rng.random, rng.randrange
    for number, (day, who, minute) in enumerate(chosen, start=1):
        date, offset = text[day + 61]
        # Booked up to sixty days ahead. Today's and tomorrow's were booked yesterday at the latest.
        booked = min(day - int(60 * draw() ** 3), today_number - 1)
        online = draw() < 0.3
        entry = below(0, 1440) if online else below(8 * 60, 18 * 60 + 25)
        if number == len(chosen):
            booked, entry = today_number - 1, 1438  # the newest entry: last night, on line
        elif booked == day:
            entry = min(entry, max(minute - 1, 0))
        booked_date, booked_offset = text[booked + 61]
        if day >= today_number:
            status = "booked"
        else:
            chance = draw()
            status = "completed" if chance < 0.9 else "cancelled" if chance < 0.96 else "no_show"
            if chance < 0.9:
                completed.append((number, days[day + 61]))
        patient = 1 + int(patients * draw() ** 1.4)
        kind = "telephone" if days[day + 61].weekday() == 6 else KINDS[below(0, 7)]
        length = SLOT if draw() < 0.8 else 10
        rows.append(
            f"{number}\t{patient}\t{who}\t{date} {minute // 60:02d}:{minute % 60:02d}:00{offset}\t{length}\t{kind}\t"
            f"{status}\t{NOTES[below(0, 8)]}\t"
            f"{booked_date} {entry // 60:02d}:{entry % 60:02d}:{number % 60:02d}{booked_offset}"
        )
    return rows, completed


def invoices(completed: list[tuple[int, dt.date]], seed: int, today: dt.date) -> Iterator[str]:
    """One invoice for two of five completed appointments (the rest is billed directly); late ones are unpaid."""
    rng = random.Random(f"{seed}:invoice")
    number = 0
    for appointment, day in completed:
        if rng.random() >= 0.4:
            continue
        number += 1
        paid = day + dt.timedelta(days=int(40 * rng.random() ** 2))
        settled = paid < today and rng.random() < 0.97
        yield f"{number}\t{appointment}\t{day}\t{rng.choice(FEES)}\t{paid if settled else chr(92) + 'N'}"


def _copy(table: str, columns: str, rows: Iterable[str]) -> Iterator[str]:
    yield f"\nCOPY {table} ({columns}) FROM stdin;\n"
    lines = list(rows)
    if lines:
        yield "\n".join(lines)
        yield "\n"
    yield "\\.\n"


def write_sql(
    path: pathlib.Path,
    *,
    version: str,
    today: dt.date,
    seed: int,
    practitioners: list[Practitioner],
    patients: list[Patient],
    appointment_count: int,
    images: list[tuple[int, int, str, str, dt.datetime]],
    letters: list[tuple[int, int, int, str, str, dt.date]],
) -> dict[str, int]:
    """Write clinic.sql and return {table: rows}.

    images: (id, patient id, path, modality, time taken in the practice's zone); letters: (id, patient id, practitioner
    id, kind, path below documents/, day). No value holds a tab, a newline or a backslash: COPY needs no escaping.
    """
    visits, completed = appointments(len(patients), len(practitioners), appointment_count, seed, today)
    bills = list(invoices(completed, seed, today))
    tables: dict[str, tuple[str, list[str]]] = {
        "practitioner": (
            "id, name, role, provider_number",
            [f"{p.id}\t{p.name}\t{p.role}\t{p.provider}" for p in practitioners],
        ),
        "patient": (
            (
                "id, record_number, family_name, given_name, born, sex, address, suburb, phone, email, registered,"
                " usual_practitioner"
            ),
            [
                f"{p.id}\t{p.record}\t{p.family}\t{p.given}\t{p.born}\t{p.sex}\t{p.address}\t{p.suburb}\t{p.phone}\t"
                f"{p.email}\t{p.registered}\t{p.practitioner}"
                for p in patients
            ],
        ),
        "appointment": (
            "id, patient_id, practitioner_id, starts, minutes, kind, status, note, recorded_at",
            visits,
        ),
        "invoice": ("id, appointment_id, issued, amount_cents, paid", bills),
        "image": (
            "id, patient_id, path, modality, taken",
            [
                f"{i}\t{who}\t{name}\t{kind}\t{at:%Y-%m-%d %H:%M:%S}{_offset(at.date())}"
                for i, who, name, kind, at in images
            ],
        ),
        "letter": (
            "id, patient_id, practitioner_id, kind, path, written",
            [f"{i}\t{who}\t{by}\t{kind}\t{name}\t{day}" for i, who, by, kind, name, day in letters],
        ),
    }
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.write(
            "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\nSET client_min_messages = warning;\n"
        )
        out.write("SET LOCAL synchronous_commit = off;\nSET LOCAL maintenance_work_mem = '128MB';\n")
        # Whatever half a load left behind goes first; in one transaction with the load itself.
        out.write("DROP SCHEMA IF EXISTS public CASCADE;\nCREATE SCHEMA public;\nSET LOCAL search_path = public;\n\n")
        out.write((HERE / "schema.sql").read_text(encoding="utf-8"))
        for table, (columns, rows) in tables.items():
            out.writelines(_copy(table, columns, rows))
        out.write("\n")
        out.write((HERE / "constraints.sql").read_text(encoding="utf-8"))
        for table in ("patient", "appointment", "invoice", "image", "letter"):
            out.write(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {max(1, len(tables[table][1]))});\n")
        out.write(f"SELECT setval('patient_record_seq', {len(patients)});\n")
        out.write(f"INSERT INTO data_set (version) VALUES ('{version}');\n")  # noqa: S608 - a name of our own making
    return {table: len(rows) for table, (_, rows) in tables.items()}
