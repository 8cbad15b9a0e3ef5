# SPDX-License-Identifier: Apache-2.0
"""``holdfast-agent snapshots``: the runs that are in the repository, newest first, and which of them is whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from . import backup_nas, restic
from .agent_advice import advice
from .agent_host import EXIT_INVALID, Children, Places, human, read_json
from .agent_job import Job, JobError, parse
from .agent_repository import RunError, identify, open_restic
from .agent_runs import PARTS, Run, runs_of
from .agent_status import local

EXIT_UNKNOWN = 2
# nothing is known about the repository, so nothing is said about it
_OUT_OF_REACH = ("nas_unreachable", "repository_locked")


def table(runs: Sequence[Run]) -> str:
    """Runs for people."""
    lines = [("RUN", "JOB", "TAKEN", "FILES", "SIZE", "PARTS", "COMPLETE", "HOLDS")]
    for run in runs:
        parts = "+".join(part for part in PARTS if part in run.parts)
        complete = "yes" if run.complete else "no: it never came to its end"
        holds = ", ".join(run.holds)
        lines.append((run.run, run.job, local(run.taken), str(run.files), human(run.bytes), parts, complete, holds))
    widths = [max(len(line[n]) for line in lines) for n in range(8)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


class Repository:
    """This host's repository for a person who reads. Raises RunError, ResticError, NasError."""

    def __init__(self, job: Job, places: Places, children: Children) -> None:
        self.children = children
        self.store = job.store
        self.restic = open_restic(job.url, places, children.run, job.store)
        self.restic.version()
        identify(self.restic, places, job.store)

    def call(self, *arguments: str, **more: Any) -> tuple[int, str, str]:
        """Call restic."""
        return self.children.run(restic.command(self.restic.repository, *arguments), self.restic.env, **more)

    def read(self, *arguments: str) -> str:
        """Output of restic, which has to succeed."""
        code, out, err = self.call(*arguments)
        restic.check(code, "", err)
        return out

    def runs(self) -> tuple[list[Run], int]:
        """As ``runs_of``; those of a copy under the name of its job."""
        runs, strangers = runs_of(self.restic.snapshots())
        return [replace(run, job=f"{run.job}.{self.store}") if self.store else run for run in runs], strangers


class AskedError(Exception):
    """What was asked for makes no sense here; the text says what does."""


def job_of(name: str, places: Places) -> Job:
    """A job of this host. Raises AskedError."""
    try:
        return parse(places.job(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(path.stem for path in (places.etc / "jobs").glob("*.json"))) or "none"
        raise AskedError(f"{name}: no such job on this host; there are: {known}") from None
    except (JobError, UnicodeDecodeError) as error:
        raise AskedError(f"{places.job(name)}: {error}; run site.yml for this host") from error


def complaint(error: Exception, who: str) -> int:
    """Say to a person why it could not be done; the exit code."""
    if isinstance(error, AskedError):
        sys.stderr.write(f"{error}\n")
        return EXIT_INVALID
    code = str(getattr(error, "code", "internal_error"))
    sys.stderr.write(f"{who}: {code}: {error}\n  what to do: {advice(code, who)}\n")
    return EXIT_UNKNOWN if code in _OUT_OF_REACH else 1


FAULTS = (AskedError, RunError, restic.ResticError, backup_nas.NasError)


def show_snapshots(name: str | None, places: Places, as_json: bool) -> int:
    """``snapshots``: 0, or 1 where no run is complete."""
    children = Children()
    names = [name] if name else sorted(path.stem for path in (places.etc / "jobs").glob("*.json"))
    found: dict[str, list[Run]] = {}
    strangers = 0
    try:
        if not names:
            raise AskedError("this host has no backup job")
        # jobs of one repository are asked for once
        for job in {each.url: each for each in (job_of(each, places) for each in names)}.values():
            runs, others = Repository(job, places, children).runs()
            found[job.url] = [run for run in runs if name in (None, run.job)]
            strangers += others
    except FAULTS as error:
        return complaint(error, name or "snapshots")
    runs = sorted((run for each in found.values() for run in each), key=lambda run: (run.taken, run.run), reverse=True)
    if as_json:
        sys.stdout.write(json.dumps([run.data() for run in runs], indent=1) + "\n")
    else:
        sys.stdout.write((table(runs) if runs else "There is no run in the repository.") + "\n")
        if strangers:
            sys.stdout.write(f"{strangers} snapshots are of no run: somebody else made them\n")
        for each in names:
            newest = next((run for run in runs if run.job == each and run.complete), None)
            last = read_json(places.status(each)) or {}
            sys.stdout.write(
                f"{each}: newest complete run {newest.run if newest else '- (none)'}"
                + (f"; its last run was {last['state']}" if last and last["state"] != "OK" else "")
                + "\n"
            )
    return 0 if any(run.complete for run in runs) else 1


def register(verbs: Any) -> None:
    """The verb of this part."""
    shown = verbs.add_parser("snapshots", help="list the runs in the repository, newest first")
    shown.add_argument("job", nargs="?")
    shown.add_argument("--json", action="store_true", help="for machines")
    shown.set_defaults(call=lambda wanted, places: show_snapshots(wanted.job, places, wanted.json))
