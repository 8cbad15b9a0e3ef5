# SPDX-License-Identifier: Apache-2.0
"""A copy of a job's runs in a second repository, with a schedule and a record of its own.

What is copied is what is stored in the house, oracle and all: no database is dumped twice, no file is read again, and restic
checks every piece as it reads it, so damage in the house ends a copy instead of travelling. The newest run goes first, then what
was left behind while the line was down; runs from before the copy was set up stay where they are. A run is copied when its
oracle is, which comes last, as in a backup. A copied snapshot has an id of its own and names the ``original``, by which the
oracle speaks of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import restic
from .agent_host import Children, Places, human, say
from .agent_job import Job
from .agent_outcome import Outcome
from .agent_progress import Progress, to_file
from .agent_repository import RunError, check_stamp, identify, open_restic
from .agent_runs import Run, runs_of


def to_copy(here: Sequence[Run], there: Sequence[Run]) -> list[Run]:
    """Runs that the copy lacks, newest first: the newest of all, and those since the oldest that it has."""
    names = {each.run for each in there}
    since = min(names, default=None)
    return [
        each
        for number, each in enumerate(here)
        if each.run not in names and (number == 0 or (since is not None and each.run > since))
    ]


class Copying:
    """One run of a copy."""

    def __init__(self, job: Job, places: Places, run_id: str, children: Children, outcome: Outcome) -> None:
        self.job, self.places, self.children, self.outcome = job, places, children, outcome
        self.progress = Progress(to_file(places.progress(job.name)), job.name, run_id)
        self.source = open_restic(str(job.source_url), places, children.run)
        self.restic = open_restic(job.url, places, children.run, job.store)

    def run(self) -> None:
        """Copy what is not there. Raises RunError, ResticError, NasError."""
        check_stamp(self.job, self.places)
        self.outcome.tools["restic"] = self.restic.version()
        identify(self.source, self.places)
        self.outcome.repository_id = identify(self.restic, self.places, self.job.store)
        here = self._runs(self.source)
        if not here:
            raise RunError("nothing_to_copy", f"job {self.job.copy_of} has no complete run in the house yet")
        missing = to_copy(here, self._runs(self.restic))
        size = sum(each.bytes for each in missing)
        say(f"{self.job.name}: {len(missing)} runs to copy, {human(size)} before what the copy has already")
        self.progress.begin("copy", len(missing), None)
        for each in missing:
            self._copy(each)
            self.progress.add(1, each.bytes)
        self._judge(here[0])

    def _runs(self, repository: restic.Restic) -> list[Run]:
        runs, _strangers = runs_of(repository.snapshots())
        return [run for run in runs if run.job == self.job.copy_of and run.complete]

    def _copy(self, run: Run) -> None:
        for ids in ([one for part, one in sorted(run.parts.items()) if part != "oracle"], [run.parts["oracle"]]):
            if ids:
                self._restic_copy(ids)

    def _restic_copy(self, ids: Sequence[str]) -> None:
        arguments = ["copy", "--json", "--cacert", str(self.source.repository.cacert), *ids]
        command = restic.command(self.restic.repository, *arguments)
        code, out, err = self.children.run(command, {**self.restic.env, **self.source.as_source()})
        restic.check(code, out, err)

    def _judge(self, newest: Run) -> None:
        """Is the newest run there, each part of it, by the ids that its oracle names?"""
        originals = {str(each.get("original")): str(each["id"]) for each in self.restic.snapshots()}
        lacking = sorted(part for part, one in newest.parts.items() if one not in originals)
        if lacking:
            raise RunError("copy_incomplete", f"run {newest.run} lacks its {' and '.join(lacking)} in the copy")
        for part, one in newest.parts.items():
            self.outcome.snapshots[part] = originals[one]
        self.outcome.files, self.outcome.bytes = newest.files, newest.bytes
        self.outcome.copied = newest.run
        say(f"{self.job.name}: run {newest.run} is in the copy as {str(self.outcome.snapshots['oracle'])[:8]}")
