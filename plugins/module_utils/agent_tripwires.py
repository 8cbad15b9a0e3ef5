# SPDX-License-Identifier: Apache-2.0
"""The agent's side of the tripwires: what it remembers between runs, and the verb with which a person says "clean".

A suspicion stands until a person clears it, also when the files look as they did before: wires judge what changes, and
unchanged files are not opened, so only somebody who knows what happened can say that it is over. Runs under a suspicion
are stored like any other and teach the history nothing, until the person who clears it says that they were ordinary.
"""

from __future__ import annotations

import os
import pwd
import sys
import syslog
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import agent_files, canary, tripwires
from .agent_host import EXIT, EXIT_INVALID, EXIT_LOCKED, Places, locked, read_json, say, utc, write_json
from .agent_job import Job, JobError, parse

HOLD = "suspect"
_CLEARINGS = 20


class Wires:
    """The tripwires of one run."""

    def __init__(self, job: Job, places: Places, run_id: str, before: int) -> None:
        self._job, self._places, self._run_id = job, places, run_id
        self.state = read_json(places.tripwires(job.name)) or {}
        self._tally = tripwires.Tally(before)
        self.see = self._tally.see
        judged = (tripwires.MAGIC, tripwires.ENTROPY)
        self._judged = [wire for wire in judged if wire not in job.tripwires.disable]
        self._canaries = {path: canary.digest(job.practice, job.host, path) for path in job.tripwires.canaries}

    def judge(self, manifest: agent_files.Manifest, roots: Sequence[str]) -> list[tripwires.Finding]:
        """Findings of this run and those that stand from earlier ones. roots: what was looked at."""
        there = manifest.files
        self._set_empty(manifest)
        filled = [root for root in roots if root not in manifest.empty_roots]
        # what is still there is not gone: the document asks for less now, or it could not be read
        gone = {
            path: agent_files.digest_of(record)
            for path, record in manifest.left.items()
            if path not in self._canaries and agent_files.below(path, filled) and not os.path.lexists(path)
        }
        figures = self._tally.figures(len(there), gone)
        canaries = self._look_at_canaries(manifest, filled)
        looks = ((path, agent_files.look_of(record)) for path, record in there.items())
        self._types = tripwires.types_of(looks, self._judged)
        found = tripwires.judge(figures, self.state.get("history") or [], self._job.tripwires, canaries)
        self.state["wrong"] = tripwires.wrong_in(self._types)[1]
        return self._remember(found, figures)

    def _set_empty(self, manifest: agent_files.Manifest) -> None:
        """A folder that holds nothing but our canary is empty."""
        for path in self._canaries:
            root = next((each for each in self._job.paths if agent_files.below(path, [each])), None)
            if root and root not in manifest.empty_roots and path in manifest.files:
                files = manifest.files
                others = (each for each in files if each not in self._canaries and agent_files.below(each, [root]))
                if next(others, None) is None:
                    manifest.empty_roots.append(root)

    def _look_at_canaries(self, manifest: agent_files.Manifest, filled: Sequence[str]) -> tuple[int, int, int]:
        """How many there are, missing and changed. One that was never seen has not been put there yet."""
        there = manifest.files
        hashes = {path: agent_files.digest_of(there[path]).hex() for path in self._canaries if path in there}
        seen = set(self.state.get("canaries") or ())
        right = {path for path, wanted in self._canaries.items() if hashes.get(path) == wanted}
        missing = [p for p in self._canaries if p in seen and p not in there and agent_files.below(p, filled)]
        self.state["canaries"] = sorted((seen | right) & set(self._canaries))
        return len(self._canaries), len(missing), len(hashes) - len(right)

    def _remember(self, found: Sequence[tripwires.Finding], figures: tripwires.Figures) -> list[tripwires.Finding]:
        stands = self.state.get("suspect")
        entry = figures.history(self._run_id)
        if not found and not stands:
            self.state["history"] = [*(self.state.get("history") or []), entry][-tripwires.HISTORY_RUNS :]
            return []
        if not stands:
            stands = {"run": self._run_id, "since": utc(time.time()), "reasons": [], "figures": [], "examples": []}
        reasons: dict[str, str] = dict(stands["reasons"])
        reasons.update(found)
        runs = stands["figures"] if not found else [*stands["figures"], entry]
        examples = [*stands["examples"], *self._tally.examples][: tripwires.EXAMPLES]
        self.state["suspect"] = {**stands, "reasons": list(reasons.items()), "figures": runs, "examples": examples}
        new = {code for code, _message in found}
        since = f"so since the run of {stands['since']}, and nobody has cleared it"
        return [
            tripwires.Finding(code, message if code in new else f"{message}; {since}")
            for code, message in reasons.items()
        ]

    def keep(self) -> None:
        """Remember it for the next run. Not before the files are stored: until then the next run sees the same again."""
        write_json(self._places.tripwires(self._job.name), {"schema": 1, **self.state})

    def section(self) -> dict[str, Any]:
        """What a proof can check, for the oracle: hashes and counts."""
        return {
            "canaries": {path: self._canaries[path] for path in self.state["canaries"]},
            "types": self._types,
            "judged": self._judged,
            "accepted": int(self.state.get("accepted") or 0),
            "least": self._job.tripwires.least,
            "cleared": (self.state.get("cleared") or [None])[-1],
        }


def clear_job(name: str, places: Places, reason: str | None) -> int:
    """``holdfast-agent clear``: show what is suspected, or with a reason say that it is clean. Exit code."""
    try:
        job = parse(places.job(name).read_text(encoding="utf-8"))
    except (OSError, JobError, UnicodeDecodeError) as error:
        say(f"{places.job(name)}: {error}", 3)
        return EXIT_INVALID
    with locked(places, name) as free:
        if not free:
            say(f"{name}: a run of this job is under way; try again when it has ended", 4)
            return EXIT_LOCKED
        state = read_json(places.tripwires(name)) or {}
        stands = state.get("suspect")
        if not stands:
            say(f"{name}: nothing is suspected")
            return 0
        if not (reason or "").strip():
            return _show(name, stands)
        return _clear(job, places, state, " ".join((reason or "").split()))


def _show(name: str, stands: Mapping[str, Any]) -> int:
    lines = [f"{name}: suspect since the run of {stands['since']} ({stands['run']})"]
    lines += [f"  {code}: {message}" for code, message in stands["reasons"]]
    lines += [f"  for example {path!r}" for path in stands["examples"]]
    lines += ["When you know what happened and the files are sound:", f"  holdfast-agent clear {name} --reason TEXT"]
    sys.stdout.buffer.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))
    return EXIT["INCOMPLETE"]


def _clear(job: Job, places: Places, state: dict[str, Any], reason: str) -> int:
    stands = state.pop("suspect")
    who = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    codes = [code for code, _message in stands["reasons"]]
    entry = {"at": utc(time.time()), "by": who, "reason": reason, "run": stands["run"], "codes": codes}
    state["cleared"] = [*(state.get("cleared") or []), entry][-_CLEARINGS:]
    # a person said that these days were ordinary: what they had raises nothing again
    state["history"] = [*(state.get("history") or []), *stands["figures"]][-tripwires.HISTORY_RUNS :]
    state["accepted"] = state.get("wrong", 0)
    broken = [path for path in state.get("canaries") or () if not is_right(job, path)]
    state["canaries"] = [path for path in state.get("canaries") or () if path not in broken]
    write_json(places.tripwires(job.name), state)
    text = f"{job.name}: {', '.join(codes)} since the run of {stands['since']} cleared by {who}: {reason}"
    syslog.openlog("holdfast-backup")
    syslog.syslog(syslog.LOG_WARNING, text)
    say(text)
    if broken:
        say(f"{job.name}: {len(broken)} canaries are not as they were: move away what is left of them and run site.yml")
    say(f"{job.name}: the next run counts again")
    return 0


def is_right(job: Job, path: str) -> bool:
    """Is the canary there, as it was made?"""
    try:
        return Path(path).read_bytes() == canary.content(job.practice, job.host, path)
    except OSError:
        return False


def register(verbs: Any) -> None:
    """The verb of this part."""
    clear = verbs.add_parser("clear", help="show what a job's tripwires suspect; with --reason, say that it is clean")
    clear.add_argument("job")
    clear.add_argument("--reason", help="what happened; kept with your name in the job's records")
    clear.set_defaults(call=lambda wanted, places: clear_job(wanted.job, places, wanted.reason))
