# SPDX-License-Identifier: Apache-2.0
"""The agent: the program that runs backup jobs on a host. Every verb is registered by the module that carries it out.

It has two faces. The services call ``agent``, which does the work itself; people call ``holdfast-agent`` (``agent_people``),
where ``run`` starts a service and watches it.

``run`` ends with 0 (OK), 1 (FAILED), 2 (INCOMPLETE), 3 (the job file is not usable), 4 (another run holds the job's lock)
or 75 (deferred: not now, the service tries again every minute). ``settle`` is what the service runs after a run: where a run
was killed and could write nothing, it writes the record. ``resume`` is what runs at boot. ``status`` shows the last record of
every job and ends with 0, 1 or 2 like the worst of them. ``watch`` mails what is new about the jobs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from . import agent_boot, agent_notice, agent_resume, agent_run, agent_status
from .agent_host import EXIT_INVALID, Places, say
from .agent_job import NAME

PARTS = (agent_run, agent_resume, agent_status, agent_notice, agent_boot)


class Parser(argparse.ArgumentParser):
    """Wrong usage is invalid input (3); argparse's own 2 would read as INCOMPLETE."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and how it is meant."""
        self.exit(EXIT_INVALID, f"{self.format_usage()}{self.prog}: {message}\n")


def main(argv: Sequence[str], places: Places | None = None, parts: Sequence[Any] = PARTS, prog: str = "agent") -> int:
    """Entry of the program; returns its exit code. A part's ``register`` adds verbs, each with its ``call(wanted, places)``."""
    parser = Parser(prog=prog, description="Holdfast backup agent")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for part in parts:
        part.register(verbs)
    wanted = parser.parse_args(list(argv))
    job = getattr(wanted, "job", None)
    if job is not None and not NAME.fullmatch(job):
        say(f"{job!r} is not the name of a job", 3)
        return EXIT_INVALID
    try:
        return int(wanted.call(wanted, places or Places()))
    except OSError as error:  # not even a record can be written: the journal and the exit code are what is left
        say(f"{job or wanted.verb}: FAILED: cannot write on this host: {error}", 3)
        return 1
