# SPDX-License-Identifier: Apache-2.0
"""Bring up a copy of the practice's software in a started restore machine, ask it, and put it down again.

The restored files are bound to their own places in the machine, and the database is put where its software looks for it. Only
the units that the practice names are started. Everything happens inside the machine, which has nothing but its loopback.
"""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from ansible_collections.holdfast.practice.plugins.module_utils import loopback_door
from ansible_collections.holdfast.practice.plugins.module_utils.agent_files import image_path
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import Copy, DatabaseError
from ansible_collections.holdfast.practice.plugins.module_utils.database_oracle import OracleError
from ansible_collections.holdfast.practice.plugins.module_utils.verify import (
    INCONCLUSIVE,
    NothingMoreError,
    Reason,
    level,
)
from ansible_collections.holdfast.practice.plugins.module_utils.verify_application import (
    filled,
    judge_command,
    judge_http,
    judge_port,
    judge_query,
    judge_unit,
    kind,
    merged,
    parse_show,
    spread,
    stays,
    words,
)
from ansible_collections.holdfast.practice.plugins.module_utils.verify_files import DROPPED, EXTRA, Expected

PAUSE_S = 0.2
ONE_ANSWER_S = 30
LEAST_S = 5  # for what is begun just before the time is over
STOP_S = 60
NOBODY = "nobody"
GONE = ""  # in place of a hash: the practice deleted the file itself after the database was seen
_BIND = """
set -eu
if [ -d "$1" ]; then mkdir -p -- "$2"; else mkdir -p -- "$(dirname -- "$2")"; touch -- "$2"; fi
[ -z "$3" ] || chown -R --no-dereference -- "$3:" "$1"
mount --bind -- "$1" "$2"
"""


def quiet(root: str) -> int:
    """Have nothing in a machine's disk start by itself but what a proof needs; return how much was taken out.

    Before the machine starts. What is named by the practice is started later on, by hand.
    """
    taken = 0
    folders = [*Path(root, "etc/systemd/system").glob("*.wants"), *Path(root, "etc/systemd/system").glob("*.requires")]
    for folder in [*folders, *Path(root, "etc").glob("rc[S0-6].d")]:
        for entry in sorted(folder.iterdir()):
            if not stays(entry.name):
                entry.unlink()
                taken += 1
    return taken


class Trial:
    """One application in a started machine.

    sources: for each place in the machine the restored folder or file that belongs there. hash_of: as below, of a path.
    images_root: of the database. copy: the loaded database, None without one.
    """

    def __init__(
        self,
        application: Mapping[str, Any],
        machine: Any,
        sources: Mapping[str, str],
        hash_of: Callable[[str], str | None],
        images_root: str = "/",
        copy: Copy | None = None,
    ) -> None:
        self._application = application
        self._machine = machine
        self._sources = sources
        self._hash_of = hash_of
        self._images_root = images_root
        self._copy = copy
        self._bound: list[str] = []
        self._end = 0.0
        self._checked = 0

    def do(self) -> dict[str, Any]:
        """Return the part result for the level ``application``."""
        began = time.monotonic()
        self._end = began + self._application["limit_s"]
        reasons: list[Reason] = []
        units = self._application["units"]
        try:
            self._lay_out()
            self._start(units)
            reasons += self._ask(self._application["ask"])
            ready_s = time.monotonic() - began
            reasons += self._units_at_work(units)
        except NothingMoreError as stop:
            reasons += stop.reasons
            ready_s = time.monotonic() - began
        reasons += self._put_down(units)
        figures = {"phases": {"application_s": ready_s}}
        return {"levels": {"application": level(self._checked, reasons, units=len(units))}, "figures": figures}

    # --- up and down

    def _lay_out(self) -> None:
        for place, source in sorted(self._sources.items()):
            done = self._machine.call("sh", "-c", _BIND, "sh", source, place, self._application.get("owner") or "")
            if done.rc != 0:
                # names of folders are the practice's own and stand in its document
                what = "no user of that name" if "invalid user" in done.err else f"ended with {done.rc}"
                message = f"the restored files could not be laid out in the machine ({what})"
                raise NothingMoreError(Reason("not_laid_out", message, INCONCLUSIVE))
            self._bound.append(place)
        if self._copy is not None:
            try:
                self._copy.serve(self._application.get("owner") or "root")
            except DatabaseError as error:
                raise NothingMoreError(Reason(error.code, error.message, INCONCLUSIVE)) from None

    def _left(self) -> float:
        return max(self._end - time.monotonic(), LEAST_S)

    def _start(self, units: Sequence[str]) -> None:
        if units:
            self._machine.call("systemctl", "daemon-reload", timeout=self._left())
        for unit in units:
            done = self._machine.call("systemctl", "start", "--", unit, timeout=self._left())
            if done.timed_out:
                raise NothingMoreError(Reason("application_not_started", f"{unit} did not start in time"))
            if done.rc != 0:
                reason = self._unit(unit) or Reason("application_not_started", f"{unit} did not start")
                raise NothingMoreError(reason)

    def _unit(self, unit: str) -> Reason | None:
        shown = self._machine.call("systemctl", "show", "--property=LoadState,ActiveState,Result", "--", unit)
        return judge_unit(unit, parse_show(shown.out.decode("utf-8", "replace")))

    def _units_at_work(self, units: Sequence[str]) -> list[Reason]:
        return [reason for reason in map(self._unit, units) if reason]

    def _put_down(self, units: Sequence[str]) -> list[Reason]:
        """Stop and unbind: what is left over would be in the way of the next item."""
        failed = 0
        for unit in reversed(units):
            failed += self._machine.call("systemctl", "stop", "--", unit, timeout=STOP_S).rc not in (0, 5)
        for place in reversed(self._bound):
            failed += self._machine.call("umount", "--lazy", "--", place).rc != 0
        message = "the application could not be put down again in the restore machine"
        return [Reason("not_put_down", message, INCONCLUSIVE)] if failed else []

    # --- asking

    def _ask(self, ask: Mapping[str, Mapping[str, Any]]) -> list[Reason]:
        """Put all questions, round by round, until each is answered as it should be or the time is over; then what was wrong."""
        wrong: dict[str, tuple[list[Reason], int]] = {}
        pending = dict(ask)
        while True:
            # one round more when the time is over: what was asked first may have come too early only
            last = time.monotonic() >= self._end
            for name in list(pending):
                reasons, asked = self._once(name, pending[name])
                if reasons:
                    wrong[name] = merged(reasons, asked), asked
                else:
                    del pending[name]
                    wrong.pop(name, None)
                    self._checked += asked
            # a unit that has failed will not answer any more
            over = self._units_at_work(self._application["units"]) if pending else []
            if not pending or over or last:
                break
            time.sleep(PAUSE_S)
        self._checked += sum(asked for _reasons, asked in wrong.values())
        return over or [reason for reasons, _asked in wrong.values() for reason in reasons]

    def _once(self, name: str, question: Mapping[str, Any]) -> tuple[list[Reason], int]:
        """(what was wrong, how often it was asked)."""
        try:
            found = list(self._answers(name, question))
        except (DatabaseError, OracleError, ValueError) as error:
            # ValueError: of a row that does not fit; the engine's own words may quote data, its codes do not
            said = error if isinstance(error, (DatabaseError, ValueError)) else type(error).__name__
            return [Reason("wrong_answer", f"{name}: the question of the database failed ({said})")], 1
        if not found:
            return [Reason("nothing_asked", f"{name}: the database gives no row to ask with, so nothing was asked")], 0
        return [reason for reason in found if reason], len(found)

    def _answers(self, name: str, question: Mapping[str, Any]) -> Iterator[Reason | None]:
        which = kind(question)
        if which == "port":
            yield judge_port(name, question, self._door({"port": question["port"]}))
        elif which == "query":
            yield judge_query(name, self._questions().probe(question["query"]))
        elif which == "command":
            limit_s = min(self._left(), float(self._application["limit_s"]))
            done = self._machine.call(*question["command"], user=question.get("user") or "root", timeout=limit_s)
            yield judge_command(name, question, done.rc, done.timed_out)
        elif question.get("rows"):
            yield from self._each_row(name, question)
        else:
            counted = int(self._questions().probe(question["count"]) or 0) if question.get("count") else None
            asked = {"url": question["http"], "contains": question.get("contains")}
            yield judge_http(name, question, self._door(asked), counted, None)

    def _each_row(self, name: str, question: Mapping[str, Any]) -> Iterator[Reason | None]:
        for row in spread(self._questions().images(question["rows"])):
            given = words(question, row)
            wanted = None
            if question.get("file"):
                path = image_path(self._images_root, filled(question["file"], given))
                try:
                    wanted = self._hash_of(path)
                except KeyError:
                    yield Reason("file_missing", f"{name}: the database names a file that is not in the backup")
                    continue
                if wanted == GONE:
                    continue
            asked = {"url": filled(question["http"], given, quote=True), "contains": question.get("contains")}
            yield judge_http(name, question, self._door(asked), None, wanted)

    def _questions(self) -> Any:
        if self._copy is None:
            raise DatabaseError("no_database", "there is no database to ask")
        return self._copy.questions

    def _door(self, question: Mapping[str, Any]) -> dict[str, Any]:
        limit_s = min(self._left(), ONE_ANSWER_S)
        text = json.dumps({**question, "limit_s": limit_s}).encode("ascii")
        argv = ["python3", "-IBc", inspect.getsource(loopback_door)]
        done = self._machine.call(*argv, user=NOBODY, stdin=text, timeout=limit_s + 10)
        if done.timed_out:
            return {"error": "no end in time"}
        if done.rc != 0:
            raise NothingMoreError(Reason("machine_failed", f"the machine could not ask ({done.rc})", INCONCLUSIVE))
        found: dict[str, Any] = json.loads(done.out)
        return found


def sources_of(root: str, place: str, roots: Sequence[str]) -> dict[str, str]:
    """For each root that came back the folder in the machine with what was restored. place: in the machine, above ``files``."""
    return {each: f"{place}/files{each}" for each in roots if os.path.lexists(f"{root}{place}/files{each}")}


def hash_of(path: str, known: Sequence[Expected | None]) -> str | None:
    """The hash that a file has to have, by what each index knows of it: None for one that changed while it was read.

    GONE for one that the practice deleted meanwhile. KeyError: it is in no backup.
    """
    found = next((each for each in known if each is not None and each.state != EXTRA), None)
    if found is None:
        raise KeyError(path)
    return GONE if found.state == DROPPED else None if found.volatile else found.blake2b
