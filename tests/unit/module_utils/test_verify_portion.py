# SPDX-License-Identifier: Apache-2.0
"""Which portion of a repository is read: the one that waited longest, never an empty one, and all of them in time."""

from __future__ import annotations

import time

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import verify_portion
from ansible_collections.holdfast.practice.plugins.module_utils.verify_portion import (
    Portion,
    choose,
    history,
    overdue,
    packs_of,
    read_since,
)

NOW = 1_800_000_000.0
DAY = 86400.0


def utc(at):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def readings(first=NOW, **days_ago):
    portions = {name[1:].replace("_", "/"): utc(NOW - days * DAY) for name, days in days_ago.items()}
    return {"first": utc(first), "portions": portions}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(verify_portion, "PACKS_AT_ONCE", 2)


EVEN = [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("packs", "most", "read", "want"),
    [
        ([], 7, {}, Portion(1, 1, 0, 0)),
        ([9], 7, {}, Portion(1, 1, 1, 1)),
        (EVEN, 1, {}, Portion(1, 1, 8, 8)),
        (EVEN, 7, {}, Portion(1, 4, 2, 8)),  # never more portions than it takes
        (EVEN, 2, {}, Portion(1, 2, 4, 8)),  # never more than there is time for
        (EVEN, 4, readings(d1_4=1), Portion(2, 4, 2, 8)),
        (EVEN, 4, readings(d1_4=4, d2_4=3, d3_4=2, d4_4=1), Portion(1, 4, 2, 8)),
        (EVEN, 4, readings(d1_4=1, d2_4=3, d3_4=2, d4_4=5), Portion(4, 4, 2, 8)),
        (EVEN, 4, readings(d1_1=9, d1_4=2), Portion(2, 4, 2, 8)),  # it grew: what was read whole counts for each
        (EVEN, 4, readings(d1_2=2, d2_2=3), Portion(2, 4, 2, 8)),  # 2/2 was read before 1/2
        ([4, 4, 4, 4], 4, {}, Portion(1, 2, 4, 4)),
        ([5, 5, 5, 5], 4, {}, Portion(2, 2, 4, 4)),  # portion 1 is empty: it is nobody's turn
        ([5, 5, 5, 5], 4, readings(d2_2=1), Portion(2, 2, 4, 4)),
        ([1, 2] * 1000, 9999, {}, Portion(2, 256, 1000, 2000)),  # restic takes no more than 256
    ],
)
def test_whose_turn_it_is(packs, most, read, want):
    assert choose(packs, most, read) == want


@pytest.mark.parametrize("growth", [0, 3])
def test_in_two_rounds_everything_was_read_twice(growth):
    """Also while the repository grows and is divided otherwise."""
    packs, told, when = list(range(64)), {}, {}
    for day in range(28):
        packs += list(range(day, day + growth))
        portion = choose(packs, 14, told)
        now = NOW + day * DAY
        told = {"first": told.get("first", utc(now)), "portions": {**told.get("portions", {})}}
        told["portions"][f"{portion.number}/{portion.of}"] = utc(now)
        for byte in packs:
            if byte % portion.of == portion.number - 1:
                when.setdefault(byte, []).append(day)
    assert set(when) == set(packs)
    assert max(days[0] for days in when.values()) < 28
    if not growth:
        assert {len(days) for days in when.values()} == {2}


@pytest.mark.parametrize(
    ("portion", "read", "want"),
    [
        (Portion(1, 1, 8, 8), {}, NOW),
        (Portion(1, 2, 4, 8), {}, None),
        (Portion(1, 2, 4, 8), readings(d2_2=3), NOW - 3 * DAY),
        (Portion(1, 4, 2, 8), readings(d2_2=3), None),  # of portion 1/2 only half is read now
        (Portion(1, 4, 2, 8), readings(d2_2=3, d1_1=9), NOW - 9 * DAY),
    ],
)
def test_since_when_all_was_read(portion, read, want):
    assert read_since(EVEN, portion, read, NOW) == want


def test_bytes_without_packs_are_not_waited_for():
    assert read_since([0, 2, 4], Portion(1, 2, 3, 3), {}, NOW) == NOW


@pytest.mark.parametrize(
    ("since", "first", "late"),
    [
        (NOW - 3 * DAY, NOW - 90 * DAY, False),
        (NOW - 29 * DAY, NOW - 90 * DAY, True),
        (None, NOW - 27 * DAY, False),  # young: its time has not come
        (None, NOW - 29 * DAY, True),
    ],
)
def test_what_waits_longer_than_promised_is_said(since, first, late):
    found = overdue(since, readings(first), 28 * DAY, NOW)
    assert [(reason.code, reason.verdict) for reason in found] == ([("read_overdue", "INCONCLUSIVE")] if late else [])


def test_a_first_proof_is_late_for_nothing():
    assert overdue(None, {}, DAY, NOW) == []


def record(at, structure, host="server1", kind="proof"):
    return {"record": {"kind": kind, "at": at, "body": {"items": [{"host": host, "levels": {"structure": structure}}]}}}


def read_level(number=None, of=4, **changes):
    portion = {} if number is None else {"portion": {"number": number, "of": of}}
    return {"verdict": "PASS", "checked": 3, "reasons": [], **portion, **changes}


def test_what_the_evidence_tells_of_reading():
    late = [{"code": "read_overdue", "message": ""}]
    entries = [
        record("2026-01-01T00:00:00Z", read_level()),  # from before there were portions
        record("2026-01-02T00:00:00Z", read_level(2)),
        record("2026-01-03T00:00:00Z", read_level(3, verdict="FAIL", reasons=[{"code": "repository_damaged"}])),
        record("2026-01-03T00:00:00Z", read_level(4, verdict="INCONCLUSIVE", reasons=[{"code": "nas_unreachable"}])),
        record("2026-01-04T00:00:00Z", read_level(1, verdict="INCONCLUSIVE", reasons=late)),  # it was read all the same
        record("2026-01-05T00:00:00Z", read_level(2)),
        record("2026-01-05T00:00:00Z", read_level(1, checked=0)),
        record("2026-01-06T00:00:00Z", read_level(1, 1), host="desk1"),
        record("2026-01-07T00:00:00Z", read_level(1, 1), kind="drill"),
        {
            "record": {
                "kind": "proof",
                "at": "2026-01-08T00:00:00Z",
                "body": {"items": [{"host": "x", "levels": {}}, 3]},
            }
        },
    ]
    assert history(entries) == {
        "server1": {
            "first": "2026-01-01T00:00:00Z",
            "portions": {"1/1": "2026-01-01T00:00:00Z", "2/4": "2026-01-05T00:00:00Z", "1/4": "2026-01-04T00:00:00Z"},
        },
        "desk1": {"first": "2026-01-06T00:00:00Z", "portions": {"1/1": "2026-01-06T00:00:00Z"}},
    }


def test_packs_by_their_first_byte():
    assert packs_of(f"{'7f' * 32}\n{'0a' * 32}\nsomething else\n") == [0x7F, 0x0A]


@pytest.mark.parametrize(
    ("portion", "arguments", "words"),
    [
        (Portion(1, 1, 8, 8), ["--read-data"], "the whole repository"),
        (Portion(3, 7, 2, 8), ["--read-data-subset=3/7"], "portion 3 of 7 of the repository"),
    ],
)
def test_how_it_is_asked_for_and_said(portion, arguments, words):
    assert (portion.arguments(), portion.words()) == (arguments, words)
