# SPDX-License-Identifier: Apache-2.0
"""The interview: questions with a proposal each, every answer checked at once by the practice document's own rules.

Works on any Terminal, so that tests and the documentation hold the same talk as a person does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from ansible_collections.holdfast.practice.plugins.plugin_utils import available, onboarding
from ansible_collections.holdfast.practice.plugins.plugin_utils.answers import GENERATE, likely_zone, slug, zones
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import (
    ENGINES,
    FILE_ENGINES,
    NETWORK_DRIVERS,
    VENDOR_ENGINES,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import KeyPath, Problem, show, value_at

NONE = "none"


class Terminal(Protocol):
    """Where the talk takes place."""

    def say(self, text: str) -> None:
        """Show a line."""

    def ask(self, prompt: str) -> str:
        """Show a prompt and give the line that was typed."""


class _UnreadableError(Exception):
    """An answer that cannot be turned into a value; the message says what was expected."""


Reader = Callable[[str], Any]


def _text(answer: str) -> Any:
    return answer


def _listed(answer: str) -> Any:
    return onboarding.words(answer)


def _hours(answer: str) -> Any:
    found: dict[str, str] = {}
    for part in onboarding.words(answer):
        pieces = part.split()
        if len(pieces) != 2:
            raise _UnreadableError(f"got {show(part)}; expected DAYS HH:MM-HH:MM, such as mon-fri 08:00-18:30")
        if pieces[0] in found:
            raise _UnreadableError(f"got {pieces[0]} twice; expected each day once")
        found[pieces[0]] = pieces[1]
    return found


def _minutes(answer: str) -> Any:
    return f"{answer}m" if re.fullmatch(r"[0-9]+", answer) else answer


def engines() -> list[str]:
    """Name the database engines that this version backs up and that a few questions describe."""
    later = [each.values or () for each in available.LATER if each.path[-1] == "engine"]
    return [name for name in ENGINES if name not in VENDOR_ENGINES and not any(name in values for values in later)]


def plain(problem: Problem) -> str:
    """Say what is wrong with an answer that has no file and line."""
    parts = [problem.got, f"expected {problem.expected}" if problem.expected else "", problem.fix]
    return "; ".join(part for part in parts if part)


@dataclass
class Interview:
    """One talk; answers holds what came of it, in the shape that --answers takes."""

    terminal: Terminal
    proposed_id: str = ""
    zone_here: str = ""
    answers: dict[str, Any] = field(default_factory=dict)

    def hold(self) -> dict[str, Any]:
        """Ask everything; returns the answers."""
        self.terminal.say("Return takes the proposal in [ ], ? explains, Ctrl-C leaves without a trace.\n")
        self._practice()
        self._nas()
        while True:
            self._machines("servers", "server", self._server)
            self._machines("workstations", "workstation", self._workstation)
            if self.answers.get("servers") or self.answers.get("workstations"):
                break
            self.terminal.say("  There is nothing to protect yet; give at least one server or workstation.")
        self._power()
        self._access()
        return self.answers

    # --- asking

    def question(
        self,
        path: KeyPath,
        text: str,
        help_text: str,
        proposal: str = "",
        read: Reader = _text,
        watch: tuple[KeyPath, ...] = (),
        optional: bool = False,
    ) -> Any:
        """Ask until the answer is right; puts it into the answers and returns it.

        An optional question is answered by "none", which leaves the key out and gives None. watch: further places that
        this answer can make wrong as a whole.
        """
        while True:
            answer = self.line(f"{text} [{proposal}]: " if proposal else f"{text}: ") or proposal
            if answer == "?":
                self.terminal.say(f"  {help_text}")
                continue
            if optional and answer.lower() == NONE:
                return None
            try:
                value = read(answer)
            except _UnreadableError as error:
                self.terminal.say(f"  {error}")
                continue
            self._put(path, value)
            found = onboarding.problems_at(self.answers, path, watch, self.proposed_id)
            if not found:
                return value
            self._drop(path)
            for problem in found:
                self.terminal.say(f"  {plain(problem)}")

    def line(self, prompt: str) -> str:
        """Ask for one line; what no document may hold is refused here."""
        while True:
            answer = self.terminal.ask(prompt).strip()
            if answer.isprintable() and answer.encode("utf-8", "replace").decode() == answer:
                return answer
            self.terminal.say("  there is a control character or a byte that is no text; type it again")

    def yes(self, text: str, help_text: str, proposal: bool) -> bool:
        """Ask a question of yes or no."""
        while True:
            answer = self.line(f"{text} [{'yes' if proposal else 'no'}]: ").lower()
            if answer in ("yes", "y", "no", "n", ""):
                return proposal if not answer else answer.startswith("y")
            self.terminal.say(f"  {help_text}" if answer == "?" else '  write "yes" or "no"')

    def _put(self, path: KeyPath, value: Any) -> None:
        parent: Any = self.answers
        for part, following in pairwise(path):
            if isinstance(parent, list):
                parent = parent[int(part)]
            else:
                parent = parent.setdefault(part, [] if isinstance(following, int) else {})
            if isinstance(parent, list) and isinstance(following, int) and following == len(parent):
                parent.append({})
        parent[path[-1]] = value

    def _drop(self, path: KeyPath) -> None:
        """Take an answer out again, with the parts around it that hold nothing else."""
        value_at(self.answers, path[:-1]).pop(path[-1])
        if len(path) > 1 and not value_at(self.answers, path[:-1]):
            self._drop(path[:-1])

    # --- the questions

    def _practice(self) -> None:
        self.question(("name",), "Name of the practice", "As it stands on the door; reports bear it.")
        self.question(
            ("id",),
            "Short name (id)",
            "Names the practice on its machines, in its vault and in its records. It cannot be changed later.",
            self.proposed_id or slug(self.answers["name"]),
        )
        country = self.question(
            ("country",), "Country, two letters", "Such as AU, NZ, GB or DE. Copies may lie only there, unless allowed.",
            read=str.upper,
        )  # fmt: skip
        known = zones(country)
        self.question(
            ("timezone",),
            "Time zone",
            "The practice's own, for opening hours and backups. "
            + (f"{country} has: {', '.join(known)}." if known else "Such as Australia/Perth."),
            likely_zone(country, self.zone_here),
        )
        answers_for = "Who answers for backups in the practice: reports go there, and the recovery kit later."
        self.question(("manager", "name"), "Practice manager's name", answers_for)
        self.question(("manager", "email"), "Practice manager's mail address", answers_for)
        helps = "Who is called when something is wrong. none: nobody but the practice itself."
        if self.question(("provider", "name"), "IT provider", helps, optional=True, proposal=NONE) is not None:
            self.question(("provider", "email"), "IT provider's mail address", helps)
        self.question(
            ("hours",),
            "Opening hours",
            "Days and times, with commas: mon-fri 08:00-18:30, sat 09:00-12:00. Backups wait until people have gone.",
            "mon-fri 08:00-18:00",
            _hours,
        )

    def _nas(self) -> None:
        help_text = "The machine that keeps the backups. It has two empty disks of its own, and runs Debian 13."
        self.terminal.say("\nThe NAS")
        self.question(("nas", "name"), "  Name", f"{help_text} Small letters, digits and -; for good.", "nas1")
        self.question(("nas", "address"), "  Address", "An IP address or a host name, the same for all machines.")
        self.question(
            ("nas", "disks"),
            "  Disks for backups, with commas",
            "By a name that stays: ls -l /dev/disk/by-id on the NAS. Two give a mirror (raid1). They must be empty: a disk "
            "that holds anything is refused, never erased.",
            read=_listed,
        )

    def _machines(self, section: str, kind: str, more: Callable[[KeyPath], None]) -> None:
        prefix = {"server": "server", "workstation": "desk"}[kind]
        help_text = {
            "server": "A machine that holds the practice's data. none: there is no (further) one.",
            "workstation": "A machine somebody sits at, with files that are nowhere else. none: there is no (further) one.",
        }[kind]
        for index in range(1000):
            self.terminal.say(f"\n{kind.capitalize()} {index + 1}")
            # a second one is the exception
            proposal = f"{prefix}1" if index == 0 else NONE
            if self.question((section, index, "name"), "  Name", help_text, proposal, optional=True) is None:
                return
            self.question((section, index, "address"), "  Address", "An IP address or a host name.")
            more((section, index))

    def _server(self, path: KeyPath) -> None:
        databases = 0
        while True:
            here = (*path, "databases", databases)
            engine = self.question(
                (*here, "engine"),
                "  Database engine" if databases == 0 else "  Another database engine",
                f"This version knows {', '.join(engines())}. none: no (further) database on this machine.",
                "postgresql" if databases == 0 else NONE,
                watch=(path,),
                optional=True,
            )
            if engine is None:
                break
            if engine in FILE_ENGINES:
                self.question(
                    (*here, "path"), "    File of the database", "Its absolute path, such as /srv/pms/pms.db.",
                    watch=(path,),
                )  # fmt: skip
            else:
                helps = "As the engine itself calls it; on the server, psql -l or show databases lists them."
                self.question((*here, "name"), "    Name of the database", helps, watch=(path,))
            self._images(here)
            databases += 1
        self._folders(path, optional=databases > 0)

    def _images(self, here: KeyPath) -> None:
        root = self.question(
            (*here, "images", "root"),
            "    Folder of the images it names",
            "Where the software keeps the files that this database only names (X-rays, letters). They are saved and tried "
            "together with it. none: it names no files.",
            NONE,
            optional=True,
        )
        if root is not None:
            self.question(
                (*here, "images", "query"),
                "    Query that lists their paths",
                "One select that gives one path a row, such as: select path from image. The software's vendor knows it.",
            )

    def _workstation(self, path: KeyPath) -> None:
        self._folders(path, optional=False)

    def _folders(self, path: KeyPath, optional: bool) -> None:
        self.question(
            (*path, "folders"),
            "  Folders to protect, with commas",
            "Absolute paths such as /srv/clinic/documents. A path with a comma in it: add it in practice.yml afterwards."
            + (" none: only the database." if optional else ""),
            NONE if optional else "",
            _listed,
            (path,),
            optional,
        )

    def _power(self) -> None:
        self.terminal.say("\nPower")
        text = "  Is there a UPS"
        machines = onboarding.machines(onboarding.compose(self.answers, self.proposed_id))
        for index in range(100):
            help_text = (
                "A battery with a data cable to one of the machines, which then shuts all of them down in order."
            )
            if not self.yes(text, help_text, index == 0):
                return
            text = "  Is there another UPS"
            here: KeyPath = ("ups", index)
            driver = self.question(
                (*here, "driver"),
                "  Driver",
                "NUT's name for it; usbhid-ups fits most with a USB cable, snmp-ups those with a network card.",
                "usbhid-ups",
            )
            if driver in NETWORK_DRIVERS:
                self.question((*here, "port"), "  Its network address", "Where the UPS itself answers.")
            self.question(
                (*here, "attached_to"), "  Its data cable goes to", "The machine that goes last, as it cuts the power.",
                machines[0],
            )  # fmt: skip
            self.question(
                (*here, "feeds"),
                "  It feeds, with commas",
                "Every machine whose power cable ends in this UPS.",
                ", ".join(machines),
                _listed,
                ((*here, "attached_to"),),
            )
            self.question(
                (*here, "runtime"),
                "  Minutes on battery with all of them",
                "Measured, or read from the UPS's display with everything on. Too few to shut down in order is refused: then "
                "leave the UPS out here, and write it with shorter stop_time of the machines into practice.yml.",
                "10",
                _minutes,
            )

    def _access(self) -> None:
        self.terminal.say("\nAccess to the machines")
        self.question(
            ("access", "user"),
            "  SSH user",
            "root, or a user who may become root with sudo and without a password.",
            "root",
        )
        self.question(
            ("access", "key"),
            "  SSH key",
            "generate: make a pair of keys for this practice alone. A path: copy that private key. agent: use what "
            "ssh has here anyway.",
            GENERATE,
        )
