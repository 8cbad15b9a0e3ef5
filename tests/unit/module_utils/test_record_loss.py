# SPDX-License-Identifier: Apache-2.0
"""What is lost since the newest business record, from times as the engines write them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.record_loss import losses, moment

SYDNEY = ZoneInfo("Australia/Sydney")


def at(text):
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2026-11-21 10:00:00+00", "2026-11-21T10:00:00+00:00"),  # PostgreSQL with a zone
        ("2026-11-21 21:00:00.123456+11", "2026-11-21T10:00:00.123456+00:00"),
        ("2026-11-21 15:30:00+05:30", "2026-11-21T10:00:00+00:00"),
        ("2026-11-21 06:30:00-0330", "2026-11-21T10:00:00+00:00"),
        ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00+00:00"),
        ("2026-11-21 21:00:00", "2026-11-21T10:00:00+00:00"),  # without: the practice's own
        ("2026-06-21 20:00", "2026-06-21T10:00:00+00:00"),
        ("2026-11-21 21:00:00.5000", "2026-11-21T10:00:00.500000+00:00"),  # Firebird
        ("2026-11-21", "2026-11-20T13:00:00+00:00"),
        ("2026-04-05 02:30:00", "2026-04-04T15:30:00+00:00"),  # comes twice: the first, which loses more
        ("2026-10-04 02:30:00", "2026-10-03T16:30:00+00:00"),  # never comes
    ],
)
def test_moments(text, want):
    assert moment(text, SYDNEY) == at(want)


@pytest.mark.parametrize(
    "text", ["", "4711", "Smith", "2026-13-01", "2026-11-21 25:00", "10:00:00", "2026-11-21 10:00 BC"]
)
def test_what_is_no_time(text):
    assert moment(text, SYDNEY) is None


def test_losses_are_lengths_of_time_and_what_lies_ahead_tells_nothing():
    died = datetime(2026, 11, 21, 10, 15, tzinfo=UTC).timestamp()
    answers = {
        "newest_entry": "2026-11-21 10:00:00+00",
        "newest_appointment": "2026-12-24 10:00:00+00",
        "patients": "4711",
        "newest_letter": None,
    }
    assert losses(answers, died, SYDNEY) == {"newest_entry": 900.0, "newest_appointment": None}
