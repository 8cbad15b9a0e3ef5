# SPDX-License-Identifier: Apache-2.0
"""How much work a restore would lose, told from the newest business records that it brings back. Pure.

A probe such as ``select max(recorded_at) from appointment`` was answered when the backup was made, and the restored copy
gives the same answer. From that time on, whatever the practice wrote is lost. Only lengths of time leave this file: the
time of a record is a value of a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo

# as the engines write a date or a time: any number of fraction digits, a zone as Z, +11 or +11:00, or none
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?\s?(?:(Z)|([+-])(\d\d):?(\d\d)?)?)?"
)


def losses(answers: Mapping[str, str | None], died: float, zone: tzinfo) -> dict[str, float | None]:
    """Seconds from the newest record to a host's end, by probe: {"newest_entry": 900.0, "newest_appointment": None}.

    answers: of the probes; those that are no time are left out. A record that lies ahead, such as an appointment, tells
    nothing of what is lost: None. died: epoch seconds. zone: of times that name none; of an hour that comes twice it is the
    first, so that no loss is made smaller than it may be.
    """
    found: dict[str, float | None] = {}
    for probe, answer in answers.items():
        at = moment(answer or "", zone)
        if at is not None:
            found[probe] = round(died - at, 3) if at <= died else None
    return found


def moment(text: str, zone: tzinfo) -> float | None:
    """Epoch seconds of a time as an engine writes it; None for anything else."""
    match = _TIME.fullmatch(text.strip())
    if not match:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    fraction = int((match.group(7) or "0").ljust(9, "0")) // 1000
    given: tzinfo = zone
    try:
        if match.group(8):
            given = timezone.utc
        elif match.group(9):
            away = timedelta(hours=int(match.group(10)), minutes=int(match.group(11) or 0))
            given = timezone(-away if match.group(9) == "-" else away)
        return datetime(year, month, day, hour, minute, second, fraction, given).timestamp()
    except (ValueError, OverflowError):
        return None
