# SPDX-License-Identifier: Apache-2.0
"""A plan carried out: in which order, and what is said when the repository is not as it should be afterwards."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.retention import Doubt, Plan, Saved
from ansible_collections.holdfast.practice.plugins.module_utils.retention_host import Decided, carry_out, rehearse
from ansible_collections.holdfast.practice.plugins.module_utils.verify import Snapshot
from ansible_collections.holdfast.practice.plugins.module_utils.verify_host import MachineRestic
from ansible_collections.holdfast.practice.plugins.module_utils.verify_restic import Done

IDS = [f"{number:064x}" for number in range(6)]
OLD = Saved("documents", "R", {"oracle": Snapshot(IDS[0], 0.0, "server1", frozenset())}, 0.0)
FINE = '{"message_type": "summary", "num_errors": 0}'


class Repository:
    """Answers restic's commands. broken: {verb: (exit code, output)}. greedy: forget takes so many more."""

    def __init__(self, broken=None, greedy=0, deaf=False, grows=False):
        self.there, self.said = list(IDS), []
        self.broken, self.greedy, self.deaf, self.grows = broken or {}, greedy, deaf, grows

    def __call__(self, argv, env, timeout, stdin=b"", **_listen):
        verb, *rest = argv[argv.index("--no-cache") + 1 :]
        assert "secret" not in " ".join(argv)
        self.said.append((verb, *[each for each in rest if each != "--json"]))
        count = sum(said[0] == verb for said in self.said)
        code, out = self.broken.get((verb, count), (0, ""))
        if verb == "cat":
            out = '{"id": "1"}'
        elif verb == "snapshots" and not code:
            out = json.dumps([{"id": each} for each in self.there])
        elif verb == "forget" and not code and not self.deaf:
            gone = set(rest) | set([each for each in self.there if each not in rest][: self.greedy])
            self.there = [each for each in self.there if each not in gone] + (["f" * 64] if self.grows else [])
        elif verb == "check" and not out:
            out = FINE
        return Done(code, out.encode(), out if code else "", 0.1)


def restic(repository, tmp_path):
    place = {"url": "rest:https://192.0.2.11:8001/server1/", "username": "server1"}
    return MachineRestic(str(tmp_path), place, "secret-a", "secret-b", 5, repository, reading=False)


def done(repository, tmp_path, decided=None):
    decided = decided or Decided(Plan(remove=(OLD,)))
    return carry_out(restic(repository, tmp_path), lambda _rows: decided)


def codes(outcome):
    return [reason.code for reason in outcome.reasons]


def test_it_is_checked_before_and_after_and_frees_first_what_needs_no_room(tmp_path):
    repository = Repository()
    outcome = done(repository, tmp_path)
    assert (outcome.removed, codes(outcome)) == ([IDS[0]], [])
    assert [said[0] for said in repository.said] == [
        *("cat", "snapshots", "unlock", "check", "forget", "cat", "snapshots", "prune", "prune", "check")
    ]
    assert ("forget", IDS[0]) in repository.said
    assert [said[2] for said in repository.said if said[0] == "prune"] == ["0", "20G"]


def test_what_a_person_throws_away_goes_along(tmp_path):
    repository = Repository()
    assert done(repository, tmp_path, Decided(Plan(remove=(OLD,)), [IDS[3]])).removed == [IDS[0], IDS[3]]


@pytest.mark.parametrize("plan", [Plan(), Plan(remove=(OLD,), doubts=(Doubt("shrunk", "it is smaller", ("1",)),))])
def test_with_nothing_to_remove_or_a_doubt_nothing_is_written(tmp_path, plan):
    repository = Repository()
    discarded = [IDS[2]] if plan.doubts else []
    outcome = done(repository, tmp_path, Decided(plan, discarded))
    assert (outcome.removed, [said[0] for said in repository.said]) == ([], ["cat", "snapshots"])


def test_a_damaged_repository_is_left_as_it_is(tmp_path):
    broken = {("check", 1): (1, "Fatal: pack " + "a" * 64 + " not found in index")}
    repository = Repository(broken)
    outcome = done(repository, tmp_path)
    assert (outcome.removed, codes(outcome)) == ([], ["repository_damaged"])
    assert not {"forget", "prune"} & {said[0] for said in repository.said}


def test_a_check_that_says_nothing_is_no_success(tmp_path):
    outcome = done(Repository({("check", 1): (0, "{}")}), tmp_path)
    assert (outcome.removed, codes(outcome)) == ([], ["restic_failed"])


@pytest.mark.parametrize(
    ("facts", "code", "gone"),
    [
        ({"greedy": 2}, "removed_more", 3),
        ({"deaf": True}, "not_removed", 0),
        ({"grows": True}, "written_meanwhile", 1),
        ({"broken": {("forget", 1): (1, "Fatal: HTTP response (403)")}}, "access_refused", 0),
        ({"broken": {("prune", 1): (1, "no space left on device")}}, "not_enough_space", 1),
        ({"broken": {("prune", 2): (11, "locked")}}, "repository_locked", 1),
        ({"broken": {("check", 2): (1, "Fatal: pack " + "a" * 64 + " not found in index")}}, "repository_damaged", 1),
        ({"broken": {("unlock", 1): (1, "connection refused")}}, "nas_unreachable", 0),
        ({"broken": {("snapshots", 1): (12, "wrong password")}}, "wrong_password", 0),
    ],
)
def test_what_went_wrong_is_said_and_what_is_gone_as_well(tmp_path, facts, code, gone):
    """restic's forget can end with 0 although nothing went: only what is there afterwards counts."""
    outcome = done(Repository(**facts), tmp_path)
    assert (codes(outcome), len(outcome.removed)) == ([code], gone)


def test_many_are_removed_some_at_a_time(tmp_path):
    repository = Repository()
    repository.there = [f"{number:064x}" for number in range(450)]
    many = Saved(
        "documents",
        "R",
        {str(n): Snapshot(each, 0.0, "h", frozenset()) for n, each in enumerate(repository.there[:401])},
        0,
    )
    outcome = done(repository, tmp_path, Decided(Plan(remove=(many,))))
    assert (len(outcome.removed), codes(outcome)) == (401, [])
    assert [len(said) - 1 for said in repository.said if said[0] == "forget"] == [200, 200, 1]


def test_a_rehearsal_only_reads(tmp_path):
    repository = Repository()
    outcome = rehearse(restic(repository, tmp_path), lambda _rows: Decided(Plan(remove=(OLD,))))
    assert (outcome.removed, [said[0] for said in repository.said]) == ([IDS[0]], ["cat", "snapshots"])


def test_a_proof_takes_no_lock_and_maintenance_does(tmp_path):
    place = {"url": "rest:https://192.0.2.11:8001/server1/", "username": "server1"}
    seen = []
    runner = lambda argv, *_rest, **_more: seen.append(argv) or Done(0, b"{}", "", 0.1)  # noqa: E731
    MachineRestic(str(tmp_path), place, "a", "b", 5, runner).call("snapshots")
    restic(runner, tmp_path).call("snapshots")
    assert ["--no-lock" in argv for argv in seen] == [True, False]
