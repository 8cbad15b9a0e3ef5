# SPDX-License-Identifier: Apache-2.0
"""Canaries: files among a practice's own that nobody has a reason to touch. Pure.

A canary is an ordinary PDF for programs, and for people it says what it is. Its content follows from whose it is and
where it lies, so that its hash is known without keeping it. ``content`` must never give other bytes for the same words:
every canary out there would count as changed. A new form needs a new function beside it.
"""

from __future__ import annotations

import hashlib

from .agent_files import HASH_BYTES


def content(practice: str, host: str, path: str) -> bytes:
    """The bytes of the canary at this path: a PDF of one page, about 8 KiB."""
    mark = hashlib.blake2b(
        "\0".join((practice, host, path)).encode("utf-8", "surrogateescape"), digest_size=16
    ).hexdigest()
    lines = (
        "Please do not change, move or delete this file.",
        "",
        "It belongs to the backup of this computer (Holdfast).",
        "Every backup looks whether it is still as it was. Nobody has a reason to",
        "touch it, so when it changes, harmful software may be changing files.",
        "It holds nothing else and no patient's data.",
        "",
        f"Mark: {mark}",
    )
    shown = "".join(f"({line}) Tj T*\n" for line in lines)
    # as large as a short letter: some harmful software leaves small files alone
    padding = "".join(f"% {hashlib.blake2b(f'{mark}{n}'.encode(), digest_size=30).hexdigest()}\n" for n in range(112))
    stream = f"BT /F1 12 Tf 18 TL 60 780 Td\n{shown}ET\n{padding}"
    page = (
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
    )
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        page,
        f"<< /Length {len(stream)} >>\nstream\n{stream}endstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    # said once more where somebody who opens it as text sees it first
    text, places = "%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + "".join(f"% {line}\n" for line in lines), []
    for number, each in enumerate(objects, start=1):
        places.append(len(text))
        text += f"{number} 0 obj\n{each}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    text += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    text += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{text.rindex('xref')}\n%%EOF\n"
    return text.encode("latin-1")


def digest(practice: str, host: str, path: str) -> str:
    """Its hash, as in a manifest."""
    return hashlib.blake2b(content(practice, host, path), digest_size=HASH_BYTES).hexdigest()
