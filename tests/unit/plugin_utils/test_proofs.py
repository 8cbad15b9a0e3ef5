# SPDX-License-Identifier: Apache-2.0
from datetime import date, timedelta
from itertools import pairwise

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.holdfast.practice.plugins.filter.proof_rows import proof_rows
from ansible_collections.holdfast.practice.plugins.filter.proofs_due import proofs_due
from ansible_collections.holdfast.practice.plugins.plugin_utils.proofs import due, turn

YEAR = [date(2026, 1, 1) + timedelta(days=number) for number in range(365)]


def days_of(name, often):
    turns = {each: turn(how, "practice", each) for each, how in often.items()}
    items = [{"item": each} for each in often]
    return [day for day in YEAR if {"item": name} in due(items, turns, day)]


def test_a_turn_depends_on_names_alone():
    assert turn("weekly", "a", "b", "c") == turn("weekly", "a", "b", "c")
    assert turn("daily", "a") == "daily"


def test_turns_are_spread():
    assert {turn("weekly", str(number)) for number in range(100)} == {"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
    assert {turn("monthly", str(number)) for number in range(1000)} == {str(day) for day in range(1, 29)}


@pytest.mark.parametrize(("often", "longest"), [("daily", 1), ("weekly", 7), ("monthly", 31)])
def test_every_item_is_proven_as_often_as_promised_all_year(often, longest):
    days = days_of("x", {"x": often, "other": "daily"})
    gaps = [(after - day).days for day, after in pairwise(days)]
    assert max(gaps) == longest
    assert days


def test_no_day_passes_without_a_proof_and_idle_days_take_each_in_turn():
    monthly = dict.fromkeys(("a", "b", "c"), "monthly")
    days = {name: days_of(name, monthly) for name in monthly}
    assert set().union(*days.values()) == set(YEAR)
    assert all(len(each) > 90 for each in days.values())


def test_the_filter_takes_the_practice_s_own_day():
    items, turns = [{"item": "a"}, {"item": "b"}], {"a": "sat", "b": "sun"}
    assert proofs_due(items, turns, "Australia/Sydney", "2026-11-21") == [{"item": "a"}]
    assert len(proofs_due(items, turns, "Australia/Sydney")) == 1
    assert proofs_due([], turns, "Australia/Sydney") == []


def test_a_wrong_day_is_refused_with_what_to_write():
    with pytest.raises(AnsibleFilterError, match="got '21/11/26'; expected a date as YYYY-MM-DD"):
        proofs_due([{"item": "a"}], {"a": "sat"}, "Australia/Sydney", "21/11/26")


ITEMS = [{"item": "a", "host": "h1", "copy": "onsite"}, {"item": "a", "host": "h2", "copy": "onsite"}]


def test_a_proof_takes_the_newest_run_of_each_unless_another_is_asked_for():
    assert [(row["host"], row["which"]) for row in proof_rows(ITEMS)] == [("h1", "newest"), ("h2", "newest")]
    assert [row["which"] for row in proof_rows(ITEMS, "oldest-daily", {"a": 3})] == ["oldest-daily"] * 2
    assert [row["which"] for row in proof_rows(ITEMS, "0123abcd")] == ["0123abcd"] * 2


def test_a_daily_proof_takes_older_runs_too_as_many_as_the_promise_needs():
    rows = proof_rows(ITEMS[:1], "", {"a": 3})
    assert [row["which"] for row in rows] == ["newest", "rotation", "rotation-2", "rotation-3"]
    assert [row["which"] for row in proof_rows(ITEMS[:1], "", {"other": 3})] == ["newest", "rotation"]


def test_no_two_rows_have_the_same_id_and_each_is_a_name_for_a_folder():
    rows = proof_rows(ITEMS, "", {"a": 2})
    assert len({row["id"] for row in rows}) == 6
    assert rows[0]["id"] == "h1.a.onsite.newest"


@pytest.mark.parametrize("which", ["latest", "../../etc", "abc", "rotation-0"])
def test_a_run_that_cannot_be_named_so_is_refused(which):
    with pytest.raises(AnsibleFilterError, match="expected newest, oldest"):
        proof_rows(ITEMS, which)
