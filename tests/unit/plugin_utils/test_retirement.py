# SPDX-License-Identifier: Apache-2.0
"""What a retirement came to is said truly: cleaned only what was cleaned, recorded only what is new."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.holdfast.practice.plugins.filter.retirement import retirement

KEPT = {"name": "desk1", "path": "/x/desk1", "bytes": 3 * 1024**2, "snapshots": 4, "newest": "2026-11-21T10:00:03Z"}
LOOKED = {"login": "refused", "power": True, "changed": False}
DONE = {"retire_before": LOOKED, "retire_after": {"changed": True, "stamped": True}}
SKIPPED = {"changed": False, "skipped": True, "skip_reason": "Conditional result was False"}
DEAD = {"retire_before": {"unreachable": True, "msg": "no route to host"}, "retire_after": SKIPPED}


def facts(**more):
    return {
        "host": "desk1",
        "practice": "harbour-street",
        "retired": {"date": "2026-11-22", "keep_until": "2033-11-22"},
        "why_not": "",
        "seen": DONE,
        "nas": {"nas1": {"changed": True, "orphans": [KEPT, {**KEPT, "name": "other"}]}},
        "primaries": ["nas1"],
        "about": {},
        "check": False,
        **more,
    }


def known(machine, seq=3):
    return {"retirement/desk1": {"seq": seq, "body": {"host": "desk1", "machine": machine}}}


def quiet(**more):
    return facts(nas={"nas1": {"changed": False, "orphans": [KEPT]}}, **more)


def test_a_machine_that_answered_is_clean_and_all_is_said():
    result = retirement(facts())
    assert (result["machine"], result["record"], result["clean"]) == ("cleaned", True, True)
    assert result["body"] == {
        "host": "desk1",
        "retired": "2026-11-22",
        "keep_until": "2033-11-22",
        "accounts_closed": {"nas": ["nas1"], "ups": ["nas1"]},
        "machine": "cleaned",
        "login": "refused",
        "kept": {"nas1": KEPT},
    }
    text = "\n".join(result["lines"])
    assert "its own login was seen to be refused" in text
    assert "Kept, until 2033-11-22: on nas1 3.0 MiB in 4 snapshots, the newest of 2026-11-21T10:00:03Z." in text


@pytest.mark.parametrize(
    ("more", "machine", "why"),
    [
        ({"seen": DEAD}, "not_reached", "it does not answer"),
        ({"seen": {}, "why_not": "no key of it is pinned"}, "not_reached", "no key of it is pinned"),
        ({"seen": {}, "why_not": "no key of it is pinned", "about": known("cleaned")}, "cleaned_before", ""),
        ({"seen": {}, "why_not": "no key of it is pinned", "about": known("not_reached")}, "not_reached", "no key of"),
        # the machine of that name before this one was cleaned and its data deleted: that says nothing of this one
        (
            {"seen": {}, "why_not": "no key of it", "about": {**known("cleaned"), "deletion/desk1": {"seq": 4}}},
            "not_reached",
            "no key of it",
        ),
        (
            {"seen": {"retire_before": {"failed": True, "msg": "another stamp"}, "retire_after": SKIPPED}},
            "trouble",
            "another stamp",
        ),
        ({"seen": {"retire_before": LOOKED, "retire_trouble": "disk full"}}, "trouble", "disk full"),
        ({"seen": {**DONE, "retire_trouble": "disk full"}}, "trouble", "disk full"),
    ],
)
def test_only_what_was_cleaned_is_called_clean(more, machine, why):
    result = retirement(facts(**more))
    assert result["machine"] == machine
    assert result["why"].startswith(why)
    assert result["clean"] is (machine in ("cleaned", "cleaned_before"))
    if why:
        assert f"NOT cleaned: {why}" in "\n".join(result["lines"])


@pytest.mark.parametrize(
    ("more", "anew"),
    [
        ({"seen": DEAD}, True),  # the first word on it
        ({"seen": DEAD, "about": known("not_reached")}, False),
        ({"seen": DONE, "about": known("not_reached")}, True),  # it turned up
        ({"seen": {}, "why_not": "no key", "about": known("cleaned")}, False),
        ({"seen": {**DONE, "retire_after": {"changed": False, "stamped": False}}, "about": known("cleaned")}, False),
        ({"seen": DEAD, "about": {**known("not_reached"), "deletion/desk1": {"seq": 9}}}, True),
    ],
)
def test_what_is_on_record_is_not_recorded_again(more, anew):
    assert retirement(quiet(**more))["record"] is anew


def test_a_host_that_never_backed_up_leaves_nothing():
    result = retirement(facts(nas={"nas1": {"changed": False, "orphans": []}}))
    assert result["body"]["kept"] == {}
    assert "Kept: nothing, it never backed up." in result["lines"]


def test_amounts_are_readable_and_never_made_up():
    one = {**KEPT, "bytes": None, "snapshots": 1, "newest": None}
    lines = retirement(facts(nas={"nas1": {"orphans": [one]}}))["lines"]
    assert "Kept, until 2033-11-22: on nas1 an unknown amount in 1 snapshot." in lines
    lines = retirement(facts(nas={"nas1": {"orphans": [{**one, "bytes": 5 * 1024**4}]}}))["lines"]
    assert "5.0 TiB in 1 snapshot" in lines[3]
    lines = retirement(facts(nas={"nas1": {"orphans": [{**one, "bytes": 512}]}}))["lines"]
    assert "512 bytes in 1 snapshot" in lines[3]


def practice(**more):
    return {
        "practice": "harbour-street",
        "name": "Harbour Street",
        "folder": "/x",
        "machines": {"server1": DONE, "desk1": DEAD, "nas1": DONE},
        "nas": {"nas1": {"changed": True, "orphans": [KEPT]}},
        "about": {},
        "check": False,
        **more,
    }


def test_a_practice_is_concluded_machine_by_machine():
    result = retirement(practice())
    assert result["body"]["machines"] == {"server1": "cleaned", "desk1": "not_reached", "nas1": "cleaned"}
    assert (result["record"], result["clean"]) == (True, True)
    assert any("desk1: NOT cleaned, it does not answer" in line for line in result["lines"])
    assert any("Kept on the disks of nas1: desk1, 3.0 MiB in 4 snapshots" in line for line in result["lines"])


def test_a_second_run_has_nothing_new_and_still_knows_what_is_kept():
    first = retirement(practice())
    still = {"retire_before": LOOKED, "retire_after": {"changed": False, "stamped": False}}
    again = practice(
        machines={"server1": still, "desk1": DEAD, "nas1": still},
        nas={"nas1": {"changed": False, "orphans": []}},
        about={"retirement/*": {"seq": 1, "at": "2026-11-22T01:00:00Z", "body": first["body"]}},
    )
    result = retirement(again)
    assert result["record"] is False
    assert first["body"]["counted_at"] is None
    assert (result["body"]["kept"], result["body"]["counted_at"]) == ({"nas1": [KEPT]}, "2026-11-22T01:00:00Z")
    assert any("(as counted at 2026-11-22T01:00:00Z): desk1" in line for line in result["lines"])
    # told once more after that, it still says when somebody counted, and leaves out what was deleted since
    later = {"retirement/*": {"seq": 2, "at": "2027-01-01T00:00:00Z", "body": result["body"]}}
    assert retirement({**again, "about": later})["body"]["counted_at"] == "2026-11-22T01:00:00Z"
    deleted = {**later, "deletion/desk1": {"seq": 3}, "deletion/server1": {"seq": 1}}
    assert retirement({**again, "about": deleted})["body"]["kept"] == {"nas1": []}
    assert retirement({**again, "machines": {**again["machines"], "desk1": DONE}})["record"] is True


def test_a_machine_of_another_practice_ends_it_badly():
    trouble = {"retire_before": {"failed": True, "msg": "this machine is of hill-road"}}
    result = retirement(practice(machines={"server1": trouble}))
    assert result["clean"] is False
    assert "server1: NOT cleaned: this machine is of hill-road." in result["lines"]


def test_a_dry_run_says_so_first():
    assert "nothing was done" in retirement(facts(check=True))["lines"][0]
    assert "nothing was done" in retirement(practice(check=True))["lines"][0]


def test_what_is_missing_is_named():
    with pytest.raises(AnsibleFilterError, match="'about' is missing"):
        retirement({"host": "desk1", "retired": {}})
