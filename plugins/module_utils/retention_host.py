# SPDX-License-Identifier: Apache-2.0
"""Carries a plan of ``retention`` out with restic: looks, removes what was named, and sees that nothing else is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.holdfast.practice.plugins.module_utils import retention
from ansible_collections.holdfast.practice.plugins.module_utils.verify import NothingMoreError, Reason
from ansible_collections.holdfast.practice.plugins.module_utils.verify_host import MachineRestic
from ansible_collections.holdfast.practice.plugins.module_utils.verify_restic import read_check

AT_A_TIME = 200
# how much of what stays may be written anew to free what goes with it: an hour of a slow NAS, not its night
REPACK = "20G"


class Decided(NamedTuple):
    """What may go. discarded: snapshots that a person wants thrown away."""

    plan: retention.Plan
    discarded: Sequence[str] = ()

    @property
    def ids(self) -> list[str]:
        """The snapshots that go. With a doubt none does."""
        return [] if self.plan.doubts else sorted({*self.plan.ids, *self.discarded})


@dataclass
class Outcome:
    """How it went. removed: the snapshots that are gone. reasons: why it did not end well."""

    decided: Decided | None = None
    removed: list[str] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)


Decide = Callable[[Sequence[Mapping[str, Any]]], Decided]


def look(restic: MachineRestic) -> list[dict[str, Any]]:
    """Every snapshot, as restic tells of it; raises NothingMoreError."""
    restic.repository_id()
    return list(restic.ask_json("listing snapshots", "snapshots") or [])


def rehearse(restic: MachineRestic, decide: Decide) -> Outcome:
    """Say what carry_out would remove."""
    outcome = Outcome()
    try:
        outcome.decided = decide(look(restic))
        outcome.removed = outcome.decided.ids
    except NothingMoreError as stop:
        outcome.reasons += stop.reasons
    return outcome


def carry_out(restic: MachineRestic, decide: Decide) -> Outcome:
    """Decide about what is there now, and remove it.

    Nothing is removed from a repository that is damaged, and the end is judged by what is there afterwards.
    """
    outcome = Outcome()
    try:
        before = look(restic)
        outcome.decided = decide(before)
        ids = outcome.decided.ids
        if not ids:
            return outcome
        # whoever was at work is gone, or was not let in: what locks are left are of clients that were killed
        restic.ask("removing locks that were left", "unlock", "--remove-all")
        outcome.reasons += _check(restic, "before anything was removed")
        if outcome.reasons:
            return outcome
        had = {str(row["id"]) for row in before}
        try:
            for some in _portions(ids):
                restic.ask("removing snapshots", "forget", *some)
        finally:
            there = {str(row["id"]) for row in look(restic)}
            outcome.removed = sorted(had - there)
        outcome.reasons += _told_apart(ids, had, there)
        # first what needs no room: a repository at its limit has none to write things anew
        restic.ask("freeing what nothing needs", "prune", "--max-repack-size", "0")
        restic.ask("freeing what is left", "prune", "--max-repack-size", REPACK)
        outcome.reasons += _check(restic, "after the removal")
    except NothingMoreError as stop:
        outcome.reasons += stop.reasons
    return outcome


def _told_apart(ids: Sequence[str], had: set[str], there: set[str]) -> Iterator[Reason]:
    stayed, lost = set(ids) & there, had - there - set(ids)
    if stayed:
        yield Reason("not_removed", f"{len(stayed)} of {len(ids)} snapshots are still there")
    if lost:
        yield Reason("removed_more", f"{len(lost)} snapshots are gone that were not to be removed")
    if there - had:
        yield Reason(
            "written_meanwhile", f"{len(there - had)} snapshots came while nobody should have been able to write"
        )


def _check(restic: MachineRestic, when: str) -> list[Reason]:
    return read_check(restic.call("check", "--json"), f"the repository {when}").reasons


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), AT_A_TIME):
        yield ids[start : start + AT_A_TIME]
