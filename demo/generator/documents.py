# SPDX-License-Identifier: Apache-2.0
"""Letters, reports, referrals and the spreadsheets of the desk, as real PDF, DOCX and XLSX files.

Office files are ZIP archives and the libraries stamp them with the clock, so each is packed again with a fixed date.
"""

from __future__ import annotations

import datetime as dt
import functools
import io
import random
import re
import zipfile
from xml.sax.saxutils import escape

from .people import Patient, Practitioner

PRACTICE = "Harbour Street Medical Centre (invented)"
OPENINGS = [
    "Thank you for asking me to see this patient, who attended our rooms.",
    "I reviewed this patient today together with the practice nurse.",
    "This patient was seen for a planned follow-up visit.",
    "The patient attended with a family member and gave the history below.",
]
FINDINGS = [
    "Blood pressure was 128/76 and the pulse regular at 68 beats per minute.",
    "The chest was clear and heart sounds were normal without added sounds.",
    "Range of movement has improved since the last visit and pain is now mild.",
    "The wound is healing well and the sutures were removed without difficulty.",
    "Laboratory results are within the expected range apart from a low vitamin D.",
    "Vision and hearing were tested and found unchanged since last year.",
    "The radiograph shows no fracture; soft tissues are unremarkable.",
    "Body weight is stable and the diet has become more varied.",
    "Sleep remains broken, chiefly because of the evening medicines.",
    "Vaccinations are complete according to the schedule.",
]
PLANS = [
    "I have not changed the medicines and suggest another visit in three months.",
    "Please continue physiotherapy twice a week for a further six weeks.",
    "A repeat blood test in four weeks would be sensible.",
    "We discussed smoking, exercise and the warning signs that need prompt attention.",
    "I would be grateful for your opinion and will see the patient again afterwards.",
    "No further visit is needed unless symptoms return.",
]
KIND_TITLES = {"letters": "Letter", "reports": "Report", "referrals": "Referral"}


def repack(blob: bytes, day: dt.date, replace: dict[str, bytes] | None = None) -> bytes:
    """Pack an Office file again, with one fixed date on every member and some members replaced.

    The date of saving that openpyxl and python-docx write into docProps/core.xml is replaced as well.
    """
    stamp = (max(day.year, 1980), day.month, day.day, 0, 0, 0)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(blob)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = (replace or {}).get(name)
            if content is None:
                content = source.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", f"{day}T00:00:00Z".encode(), content)
            member = zipfile.ZipInfo(name, stamp)
            member.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(member, content, compresslevel=6)
    return out.getvalue()


@functools.cache
def _docx_template() -> tuple[bytes, str]:
    """One letter made by python-docx, and its document.xml with @places@ to fill in."""
    import docx
    from docx.enum.style import WD_STYLE_TYPE
    from docx.shared import Pt

    document = docx.Document()
    # Nine tenths of the library's blank file are table styles nobody uses: a letter needs one.
    for style in list(document.styles):
        if style.type == WD_STYLE_TYPE.TABLE and style.name not in {"Normal Table", "Table Grid"}:
            style.element.getparent().remove(style.element)
    for key, relation in list(document.part.rels.items()):
        if relation.reltype.endswith("/stylesWithEffects"):
            del document.part.rels[key]
    document.core_properties.author = PRACTICE
    document.core_properties.title = "Letter"
    document.styles["Normal"].font.size = Pt(11)
    document.add_heading(PRACTICE, level=1)
    document.add_paragraph("1 Example Street, Sampleton NSW 0000 - telephone (02) 5550 0100")
    document.add_paragraph("@DATE@")
    document.add_heading("@TITLE@", level=2)
    table = document.add_table(rows=0, cols=2)
    table.style = "Table Grid"
    for label in ("Patient", "Born", "Record", "Address"):
        cells = table.add_row().cells
        cells[0].text, cells[1].text = label, f"@{label.upper()}@"
    document.add_paragraph()
    for number in range(4):
        document.add_paragraph(f"@TEXT{number}@")
    document.add_paragraph("With kind regards")
    document.add_paragraph("@AUTHOR@")
    blob = io.BytesIO()
    document.save(blob)
    with zipfile.ZipFile(io.BytesIO(blob.getvalue())) as archive:
        return blob.getvalue(), archive.read("word/document.xml").decode("utf-8")


def _paragraphs(rng: random.Random) -> list[str]:
    """Three to four paragraphs of harmless clinical prose."""
    body = [" ".join(rng.sample(FINDINGS, rng.randrange(2, 5))) for _ in range(2)]
    return [rng.choice(OPENINGS), *body, " ".join(rng.sample(PLANS, 2))]


def docx_letter(kind: str, patient: Patient, author: Practitioner, day: dt.date, rng: random.Random) -> bytes:
    """One DOCX letter."""
    blob, text = _docx_template()
    values = {
        "DATE": f"{day:%d %B %Y}",
        "TITLE": f"{KIND_TITLES[kind]} concerning {patient.name}",
        "PATIENT": patient.name,
        "BORN": f"{patient.born:%d %B %Y}",
        "RECORD": patient.record,
        "ADDRESS": f"{patient.address}, {patient.suburb}",
        "AUTHOR": f"{author.name}, {author.role}",
        **{f"TEXT{number}": paragraph for number, paragraph in enumerate(_paragraphs(rng))},
    }
    filled = re.sub("@([A-Z0-9]+)@", lambda match: escape(values[match.group(1)]), text)
    return repack(blob, day, {"word/document.xml": filled.encode("utf-8")})


def _latin(text: str) -> str:
    """The PDF core fonts know Latin-1 only; what they lack becomes a question mark, as on many a practice's printer."""
    return text.encode("latin-1", "replace").decode("latin-1")


def pdf_letter(kind: str, patient: Patient, author: Practitioner, day: dt.date, rng: random.Random) -> bytes:
    """One PDF letter."""
    import fpdf

    pdf = fpdf.FPDF(format="A4")
    pdf.set_creation_date(dt.datetime(day.year, day.month, day.day, 12, tzinfo=dt.UTC))
    pdf.set_title(f"{KIND_TITLES[kind]} {patient.record}")
    pdf.add_page()
    pdf.set_fill_color(20, 80, 110)
    pdf.rect(0, 0, 210, 8, style="F")
    pdf.set_font("helvetica", "B", 16)
    pdf.set_y(16)
    pdf.cell(0, 8, PRACTICE, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=10)
    lines = [
        "1 Example Street, Sampleton NSW 0000 - telephone (02) 5550 0100",
        f"{day:%d %B %Y}",
        f"{KIND_TITLES[kind]} concerning {patient.name}, born {patient.born:%d %B %Y}, record {patient.record}",
        *_paragraphs(rng),
        "With kind regards",
        f"{author.name}, {author.role}",
    ]
    for line in lines:
        pdf.multi_cell(0, 5.5, _latin(line), new_x="LMARGIN", new_y="NEXT")
        pdf.ln(3)
    return bytes(pdf.output())


def xlsx_sheet(title: str, header: list[str], rows: list[list[str | int | float | dt.date]], day: dt.date) -> bytes:
    """One XLSX workbook with one sheet and a row of sums where a column is numeric."""
    import openpyxl
    from openpyxl.styles import Font

    book = openpyxl.Workbook()
    book.properties.creator = PRACTICE
    sheet = book.active
    assert sheet is not None
    sheet.title = title[:31]
    sheet.append(header)
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    for row in rows:
        sheet.append(row)
    for number, value in enumerate(rows[0] if rows else [], start=1):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            letter = chr(64 + number)
            sheet[f"{letter}{len(rows) + 2}"] = f"=SUM({letter}2:{letter}{len(rows) + 1})"
    blob = io.BytesIO()
    book.save(blob)
    return repack(blob.getvalue(), day)


def monthly_report(day: dt.date, rng: random.Random) -> bytes:
    """A workbook such as practices make for their accountant."""
    rows: list[list[str | int | float | dt.date]] = [
        [rng.randrange(5, 60), round(rng.uniform(400, 6500), 2), dt.date(day.year, day.month, number).isoformat()]
        for number in range(1, 29)
    ]
    return xlsx_sheet(f"{day:%Y-%m}", ["Visits", "Billed", "Day"], rows, day)


def desk_files(pool: list[Patient], seed: int, today: dt.date, count: int) -> list[tuple[str, bytes, dt.date]]:
    """What gathers on a reception desk's computer: (path, content, day it was last changed)."""
    files: list[tuple[str, bytes, dt.date]] = []
    for number in range(count):
        rng = random.Random(f"{seed}:desk:{number}")
        day = today - dt.timedelta(days=1 + int(400 * rng.random() ** 2))
        kind = number % 5
        if kind == 0:
            rows: list[list[str | int | float | dt.date]] = [
                [rng.choice(("Mon", "Tue", "Wed", "Thu", "Fri")), rng.choice(pool).given, rng.randrange(4, 9)]
                for _ in range(15)
            ]
            week = day.isocalendar().week
            name = f"Rosters/Roster week {week:02d} (v{number // 5 + 1}).xlsx"
            files.append((name, xlsx_sheet("Roster", ["Day", "Who", "Hours"], rows, day), day))
        elif kind == 1:
            rows = [
                [f"{day - dt.timedelta(days=back)}", rng.choice(("Stamps", "Coffee", "Parking", "Flowers")), back * 1.5]
                for back in range(1, 25)
            ]
            name = f"Petty cash {day:%Y-%m} - copy {number:02d}.xlsx"
            files.append((name, xlsx_sheet("Petty cash", ["Day", "What", "Amount"], rows, day), day))
        elif kind == 2:
            lines = [
                f"{rng.choice(pool).name}: {rng.choice(('call back', 'send script', 'new address'))}" for _ in range(12)
            ]
            files.append((f"Notes/call-backs {day} {number:02d}.txt", ("\r\n".join(lines) + "\r\n").encode(), day))
        elif kind == 3:
            author = Practitioner(1, "Reception", "front desk", "-")
            content = docx_letter("letters", rng.choice(pool), author, day, rng)
            files.append((f"Brief für O'Connor & Söhne {number:02d}.docx", content, day))
        else:
            lines = ["name;phone;note", *(f"{p.name};{p.phone};recall" for p in rng.sample(pool, min(20, len(pool))))]
            files.append(
                (
                    f"Recalls/recall list {day:%B %Y} {number:02d}.csv",
                    ("\r\n".join(lines) + "\r\n").encode("utf-8-sig"),
                    day,
                )
            )
    return files
