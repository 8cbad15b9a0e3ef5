# SPDX-License-Identifier: Apache-2.0
"""What a database engine has to be able to do to be backed up and proved. engines.py names those that can.

An engine is one object with two sides. The agent ``open``s a ``View`` of a live database: the dump and the answers to the
oracle's questions come from that one view. The restore verification takes a ``Copy`` in a machine without a network:
load, ask the same questions, let the engine check itself. What is common to all engines (fingerprints, probes, images,
the comparison) is in database_oracle.py; nothing outside an engine's own files knows its name or its programs.
"""

from __future__ import annotations

import os
import pwd
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple

from .database_oracle import Difference, Questions, compare, read_database

FAIL, INCONCLUSIVE = "FAIL", "INCONCLUSIVE"
# What processes of database users get to see: the agent's own environment holds the login of the NAS.
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/"}


class DatabaseError(Exception):
    """An engine refused. ``code`` is our reason code; the message quotes no row."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Finding(NamedTuple):
    """Something that is not as it should be. For a proof, ``verdict`` tells a bad backup from one that could not be judged."""

    code: str
    message: str
    verdict: str = FAIL


@dataclass(frozen=True)
class Database:
    """A database to dump: by name, or by path where a file is the database.

    images: {"query", "root"} or None; probes: {name: SELECT of one value}. settings: what only its engine knows of.
    """

    engine: str
    name: str | None = None
    path: str | None = None
    images: Mapping[str, str] | None = None
    probes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What people call it."""
        return self.name or self.path or str((self.settings.get("dump") or [""])[0])


def no_credential(name: str) -> str:
    """Say that there is none."""
    raise DatabaseError("credentials_missing", f"credential {name} is not there; run site.yml for this host")


@dataclass(frozen=True)
class Tools:
    """What the agent lends an engine; its processes end when the agent is stopped.

    run(argv, env, stdin) -> (code, out, err); start(argv, env, **pipes) -> Popen; credential(name) -> one of
    ``Engine.credentials``. before: the oracle's ``database`` section of the last run.
    """

    run: Callable[..., tuple[int, str, str]]
    start: Callable[..., Any]
    credential: Callable[[str], str] = no_credential
    before: Mapping[str, Any] | None = None


class View(ABC):
    """One consistent view of a live database, held until closed."""

    @property
    @abstractmethod
    def questions(self) -> Questions:
        """How to ask inside the view."""

    @abstractmethod
    def dump_command(self) -> list[str]:
        """Program and arguments that write the dump of this view to standard output and end with 0 only when it is whole."""

    def complaint(self) -> str:
        """What a dump that failed said, where that does not come out of ``dump_command`` itself."""
        return ""

    def describe(self, database: Database, on_error: Callable[[str, Exception], None]) -> dict[str, Any]:
        """The oracle's ``database`` section, without ``dump_path``. Asked after the dump. on_error: as read_database has it."""
        return read_database(self.questions, database.label, database.probes, database.images, on_error)

    @abstractmethod
    def system_id(self) -> str | None:
        """What stays the same for the life of this very database (cluster, server, file); None when there is no such thing."""

    def taken(self) -> float | None:
        """When the data were seen, in seconds since 1970, where that was not when the view was opened."""
        return None

    def meanwhile(self) -> list[Finding]:
        """What happened to the database while it was dumped that makes the run incomplete. Asked after the dump."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; also after a failure."""


class Copy(ABC):
    """A restored database in a started machine. Its programs run as users of the machine."""

    @abstractmethod
    def wait(self, seconds: float) -> bool:
        """Wait until the engine answers."""

    @abstractmethod
    def load(self, dump: str) -> list[Finding]:
        """Load a dump (a path in the machine). DatabaseError: the machine could not do its part."""

    @property
    @abstractmethod
    def questions(self) -> Questions:
        """How to ask the loaded copy. DatabaseError when it does not answer."""

    def describe(self, section: Mapping[str, Any]) -> dict[str, Any]:
        """What the oracle's ``database`` section says, of the loaded copy. DatabaseError and OracleError: it does not answer."""
        questions = section["questions"]
        return read_database(
            self.questions,
            str(section["name"]),
            # the oracle's own questions: the practice's may be others by now
            questions["probes"],
            questions["images"],
            # a question that fails here and did not at backup time shows as a difference later on
            on_error=lambda _what, _error: None,
            # runs of earlier versions have none
            samples=questions.get("samples") or {},
        )

    @abstractmethod
    def check(self) -> tuple[str, list[Finding]]:
        """The engine's own check of what was loaded: (done, failed or not available; what it found)."""

    def serve(self, owner: str) -> None:
        """Put the copy where the practice's software looks for it, and let anybody in the machine in: no password is backed up.

        owner: the user whom a file is for. DatabaseError: the machine could not do its part.
        """
        raise DatabaseError("not_available", "a dump of this kind cannot be put to use by itself")

    def drop(self) -> None:  # noqa: B027 - most have nothing to do
        """Make room for the next item; the machine itself is destroyed later."""


class Engine(ABC):
    """One kind of database."""

    name = ""
    """As in the practice document."""
    title = ""
    """As people write it."""
    is_file = False
    """A file is the database: it has a path and no name."""
    settings: Sequence[str] = ()
    """Keys of a job's ``database`` that only this engine knows; ``faults`` looks at them."""
    asked = True
    """It answers probes and names images."""
    packages: Sequence[str] = ()
    """Debian packages of the restore machine."""
    loaded_per_dump = 3.0
    """Room that a loaded copy takes beside its dump, as a multiple of the dump."""
    dump_owner = "root"
    """Account of the machine that loads the dump."""

    credentials: Sequence[str] = ()
    """Names of files below /etc/holdfast/credentials that its jobs need."""

    def faults(self, database: Mapping[str, Any]) -> list[str]:
        """What is wrong with a job's ``settings``, in words."""
        return []

    @abstractmethod
    def open(self, database: Database, tools: Tools) -> View:
        """Open a view of the live database. Raises DatabaseError."""

    def sound(self, database: Database, tools: Tools) -> tuple[str, list[Finding]]:
        """The engine's own check of the live database, after a power cut: (done or not available; what it found).

        Changes nothing, and lets the practice work on. DatabaseError: it could not be carried out, and is tried again.
        """
        return "not available", []

    @abstractmethod
    def copy(self, machine: Any, item: str, section: Mapping[str, Any]) -> Copy:
        """Take the copy of an item in a machine. section: the oracle's ``database``.

        machine.call(*argv, user=None, stdin=b"", timeout=None) gives rc, out, err, seconds, timed_out.
        """

    def recovered(self, machine: Any, item: str, section: Mapping[str, Any], dump: str) -> Copy:
        """Take the database that a person brought back in a machine with the commands of ``recovery``, out of ``dump``."""
        return self.copy(machine, item, section)

    def inspect(self, dump: str) -> list[Finding]:
        """Look at a restored dump before it is loaded: is its end there? dump: a path here."""
        return []

    def writable(self, database: Database) -> list[str]:
        """Folders of a live database that the agent's processes must be able to write in. (Most need none.)"""
        return []

    @abstractmethod
    def recovery(self, database: Database, version: str, dump: str, oracle: str) -> tuple[str, list[str]]:
        """How a person brings a database back on a new machine: what to know, and commands that load ``dump``.

        version: of the engine at backup time, or nothing. dump, oracle: names of files in the folder where the commands are run.
        """

    def compare(self, oracle: Mapping[str, Any], restored: Mapping[str, Any]) -> list[Difference]:
        """In what a copy's description differs from the oracle's ``database`` section."""
        return compare(oracle, restored, self.release)

    def checked(self, section: Mapping[str, Any]) -> int:
        """How much there is to compare in an oracle's section."""
        return len(section["tables"])

    @abstractmethod
    def release(self, version: str) -> Sequence[int]:
        """What of a version counts when a dump is loaded into another one."""


def clean() -> list[str]:
    """Forget the environment."""
    return ["env", "-i", *(f"{name}={value}" for name, value in ENV.items())]


def as_owner(uid: int, gid: int) -> list[str]:
    """Become the owner of a file."""
    try:
        pwd.getpwuid(uid)
        groups = "--init-groups"
    except KeyError:
        groups = "--clear-groups"
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", groups, "--"]


def look(path: str) -> os.stat_result:
    """Facts of a database file. Raises DatabaseError for what is none."""
    if os.path.realpath(path) != path:
        message = f"{path} goes over a link: name {os.path.realpath(path)}"
        raise DatabaseError("path_is_link", message)
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        raise DatabaseError("database_missing", f"{path} does not exist: is a disk not mounted?") from None
    if not stat.S_ISREG(facts.st_mode):
        raise DatabaseError("not_a_database", f"{path} is not a file")
    if facts.st_size == 0:
        raise DatabaseError("database_empty", f"{path} is empty (0 bytes)")
    return facts


def lay(machine: Any, source: str, path: str, owner: str) -> None:
    """Copy a database's file to its place in a machine; its folder is made for its owner where there is none."""
    script = 'd=$(dirname -- "$2"); [ -d "$d" ] || install -d -o "$3" -- "$d"; install -o "$3" -m 0600 -- "$1" "$2"'
    done = machine.call("sh", "-euc", script, "sh", source, path, owner)
    if done.rc != 0:
        raise DatabaseError("engine_failed", f"the restored database could not be put in its place ({done.rc})")


def loading(done: Any, title: str) -> list[Finding]:
    """What is the same for all when a loader ends: nothing wrong, no end in time, no room."""
    if done.timed_out:
        return [Finding("timeout", f"loading the dump: no end after {done.seconds:.0f} s", INCONCLUSIVE)]
    if "No space left on device" in done.err:
        return [
            Finding("not_enough_space", f"loading the dump: {title} has no room in the restore machine", INCONCLUSIVE)
        ]
    return []
