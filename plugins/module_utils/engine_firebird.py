# SPDX-License-Identifier: Apache-2.0
"""Firebird 4: gbak and the oracle's questions see the same moment, because their transactions share one snapshot.

Firebird 4 lets a transaction begin AT the snapshot of another one that is still open, by its number. gbak tells nobody its
number, but it can be found: it lies between the newest commit before gbak was started and the newest after its transaction
was seen to be open, and of the numbers in between only those of open snapshots can be joined. When just one can, it is gbak's.
gbak writes into a pipe that is full until then, so that it cannot have ended before. Nothing is copied, locked or changed, and
a run that is killed leaves nothing behind: the server ends a transaction whose client has gone.

One snapshot is not yet one view. Whatever is older than the oldest open transaction counts as committed, without a look at
when that was; so what was open when gbak began and ended before the oracle asked would be the oracle's and not the dump's. An
earlier transaction of ours, the guard, stays open to the end, so that this limit cannot pass it. gbak waits until what was open
before the guard has ended; where that takes too long, it has to stay open for as long as the view does, and is asked after.

(A physical copy with nbackup would need the file's size on disk, and a run killed at the wrong moment would leave the database
in backup state.)

The account is HOLDFAST, in the server, with a password of the host's own; firebird_account.py makes it. Programs run as the
owner of the file. Embedded access is no way in: a running server keeps every other process away from its file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .database_engine import (
    ENV,
    INCONCLUSIVE,
    Copy,
    Database,
    DatabaseError,
    Engine,
    Finding,
    Tools,
    View,
    as_owner,
    lay,
    loading,
    look,
)
from .firebird_oracle import SESSION, FirebirdQuestions, answers, asked
from .piped_dump import PipedDump

USER, ROLE, CREDENTIAL = "HOLDFAST", "HOLDFAST_READER", "firebird-password"
# The service's triggers on connecting belong to the practice's software, and none of them is ours to set off.
CLIENT = ("isql-fb", "-q", "-nodbtriggers", "-ch", "utf8")
DUMP = ("gbak", "-b", "-g", "-nodbtriggers")
PATIENCE_S = 30
# How long gbak gets to open its transaction, how long others' snapshots of the same moment and older transactions are waited
# for, how often anew.
BEGIN_S = 60
ALONE_S = 20
SETTLE_S = 20
ATTEMPTS = 3
PAUSE_S = 0.3
# An open snapshot can be joined in well under a millisecond; a database that commits as often as this is asked in parts.
CHUNK = 500
# What gbak's output is a multiple of.
BLOCK = 512
DATA = "/var/lib/firebird/4.0/data"
FIREBIRD = "firebird"

_GBAK_SQL = """\
select a.mon$remote_pid from mon$attachments a join mon$transactions t on t.mon$attachment_id = a.mon$attachment_id
where a.mon$user = current_user and a.mon$remote_process like '%gbak' and t.mon$isolation_mode = 1"""
# The oldest transaction with a number below this one that is open (its commit number is 0), if there is any.
_OLDER_BLOCK = """\
execute block returns (V varchar(100) character set ascii) as
declare n bigint;
begin
  select mon$oldest_active from mon$transactions where mon$transaction_id = current_transaction into n;
  while (n < {before} and rdb$get_transaction_cn(n) <> 0) do n = n + 1;
  V = iif(n < {before}, 'x' || hex_encode(cast(n as varchar(20))), '-');
  suspend;
end^
"""
_SNAPSHOT_SQL = "select rdb$get_context('SYSTEM', 'SNAPSHOT_NUMBER') from rdb$database"
_BEGIN = "commit^\nset transaction read only isolation level snapshot"
# Words of Firebird's that quote no row: what a proof may say.
_TRUNCATED = ("Backup incomplete", "unexpected end of file on backup file")
_SAFE = (
    "expected backup description record", "do not recognize record type",
    "do not recognize", "expected a", "bad attribute", "lost sync", "attempt to store duplicate value",
    "violation of FOREIGN KEY constraint", "violation of PRIMARY or UNIQUE KEY constraint", "validation error",
    "string right truncation", "Malformed string", "arithmetic exception", "unsupported on-disk structure",
    "wrong record length", "adjusting an invalid decompression length", "expected data attribute", "expected record length",
)  # fmt: skip
_MEANINGS = (
    ("not a valid database", "not_a_database", "it is no Firebird database, or it is encrypted"),
    ("unsupported on-disk structure", "engine_too_old", "its format is not one of this server's version"),
    ("Unable to complete network request", "database_unreachable", "the Firebird server does not answer"),
    ("Error writing data to the connection", "database_unreachable", "the Firebird server has gone"),
    ("Error reading data from the connection", "database_unreachable", "the Firebird server has gone"),
    ("connection shutdown", "database_unreachable", "the Firebird server ended the connection"),
    ("database shutdown", "database_unreachable", "the database is shut down"),
    (" shutdown", "database_unreachable", "the database is shut down"),
    ("user name and password are not defined", "login_refused",
     "the server does not know the agent's account or its password: run site.yml for this host"),
    ("lock on file", "database_locked", "another program holds it"),
    ("I/O error", "database_unreachable", "the server cannot open it"),
    ("checksum error", "database_damaged", "it is damaged"),
    ("database file appears corrupt", "database_damaged", "it is damaged"),
    ("internal Firebird consistency check", "database_damaged", "it is damaged"),
    ("not installed", "database_unreachable", "isql-fb and gbak (package firebird4.0-utils) are not installed"),
    ("No such file", "database_unreachable", "isql-fb and gbak (package firebird4.0-utils) are not installed"),
)  # fmt: skip


def error_text(text: str) -> str:
    """The lines of an error that say what is wrong, in one, without values of rows."""
    lines = [line.strip(" -") for line in text.splitlines()]
    kept = [
        line for line in lines if line and not line.startswith(("Statement failed", "Dynamic SQL Error", "SQL error"))
    ]
    said = "; ".join(dict.fromkeys(kept)) or "no message"
    return re.sub(r'from string ".*?"(;|$)', r"from a text\1", re.sub(r"(?i)(key value is) .*", r"\1 not shown", said))[
        :400
    ]


def error_of(text: str, path: str) -> DatabaseError:
    """Reason code and words for what a program of Firebird's said."""
    for part, code, words in _MEANINGS:
        if part in text:
            return DatabaseError(code, f"{path}: {words}")
    return DatabaseError("query_failed", error_text(text))


def check_head(path: str) -> None:
    """Refuse a file that does not begin as a database of Firebird does. Raises DatabaseError."""
    look(path)
    with open(path, "rb") as stream:  # noqa: PTH123
        head = stream.read(20)
    size, version = int.from_bytes(head[16:18], "little"), int.from_bytes(head[18:20], "little")
    if head[:1] != b"\1" or size not in (4096, 8192, 16384, 32768) or not version & 0x8000:
        raise DatabaseError("not_a_database", f"{path}: it is no Firebird database, or it is encrypted as a whole")
    if version & 0xFF < 13:
        message = f"{path}: it was made by Firebird 3 or older (structure {version & 0xFF}); 4 is what is supported"
        raise DatabaseError("engine_too_old", message)


class Session:
    """isql that stays connected. An error of a statement is raised, and the session goes on."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], path: str, tools: Tools) -> None:
        self._path = path
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the session
        self._heard = 0
        self._process = tools.start(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said)
        try:
            self.run("", begin=SESSION)
        except BaseException:
            self.close()
            raise

    def run(self, statements: str, begin: str = "", judge: bool = True) -> str:
        """Run statements, each ended by ^; what isql printed. judge: raise what it says is wrong."""
        end = uuid.uuid4().hex
        lines: list[bytes] = []
        with contextlib.suppress(BrokenPipeError):
            # said by isql itself, so that it comes even when the server has gone
            self._process.stdin.write(f"{begin}{statements}shell echo {end}^\n".encode("ascii"))
            self._process.stdin.flush()
        while not lines or lines[-1].strip() != end.encode("ascii"):
            line = self._process.stdout.readline()
            if not line:
                self._process.wait()
                raise error_of(self._errors() or "connection shutdown", self._path)
            lines.append(line)
        errors = self._errors()
        if judge and errors.strip():
            raise error_of(errors, self._path)
        return b"".join(lines[:-1]).decode("utf-8", "surrogateescape")

    def query(self, sql: str) -> str:
        """Run one SELECT of one column."""
        return self.run(asked(sql))

    def begin(self, number: str = "") -> str:
        """Begin a transaction that reads one moment: now, or that of an open snapshot. Its number."""
        self.run(f"{_BEGIN}{f' at number {int(number)}' if number else ''}^\n")
        return str(answers(self.query(_SNAPSHOT_SQL))[0])

    def number(self) -> int:
        """Of our transaction."""
        return int(str(answers(self.query("select current_transaction from rdb$database"))[0]))

    def older(self, before: int) -> int | None:
        """The oldest open transaction with a number below this one; None: there is none."""
        found = answers(self.run(_OLDER_BLOCK.format(before=int(before))))[0]
        return int(found) if found else None

    def is_open(self, number: int) -> bool:
        """Is a transaction open still?"""
        return answers(self.query(f"select rdb$get_transaction_cn({int(number)}) from rdb$database")) == ["0"]  # noqa: S608

    def open_snapshots(self, first: int, end: int) -> set[int]:
        """Which of these numbers (end not included, and not newer than the newest commit) are of open snapshots."""
        found = set()
        for start in range(first, end, CHUNK):
            numbers = range(start, min(start + CHUNK, end))
            # where no snapshot can be joined, the question is asked in a new one, whose number is another
            text = "".join(f"{_BEGIN} at number {n}^\n{asked(_SNAPSHOT_SQL)}" for n in numbers)
            said = answers(self.run(text, judge=False))
            if len(said) != len(numbers):
                raise DatabaseError("database_unreachable", f"{self._path}: the server does not answer any more")
            found |= {n for n, answer in zip(numbers, said) if answer == str(n)}
        return found

    def _errors(self) -> str:
        self._said.seek(self._heard)
        said = self._said.read()
        self._heard += len(said)
        return said.decode("utf-8", "replace")

    def close(self) -> None:
        """End the session, and its transaction with it."""
        if not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()


class FirebirdView(View):
    """gbak's transaction, and one of ours at the same snapshot."""

    def __init__(self, path: str, tools: Tools) -> None:
        check_head(path)
        facts = look(path)
        self.path = path
        self._place = f"localhost:{path}"
        self._tools = tools
        self._owner = as_owner(facts.st_uid, facts.st_gid)
        self._env = {**ENV, "ISC_USER": USER, "ISC_PASSWORD": tools.credential(CREDENTIAL)}
        self._dump: PipedDump | None = None
        self._session: Session | None = None
        self._guard: Session | None = None
        # a transaction that was open before the guard's, and has to stay so
        self._older: int | None = None
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._begin()
                    break
                except DatabaseError as error:
                    if error.code != "database_busy" or attempt == ATTEMPTS:
                        raise
                    self.close()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Session:
        return Session([*self._owner, *CLIENT, self._place], self._env, self.path, self._tools)

    def _begin(self) -> None:
        self._guard = guard = self._connect()
        self._session = session = self._connect()
        unreadable = self.questions.unreadable(ROLE)
        if unreadable:
            names = ", ".join(unreadable[:5]) + (f" and {len(unreadable) - 5} more" if len(unreadable) > 5 else "")
            message = (
                f"{self.path}: the agent's account may not read {len(unreadable)} sequences ({names}), which came after it "
                "was made, and gbak needs them: run site.yml for this host"
            )
            raise DatabaseError("account_lacks_rights", message)
        guard.begin()
        self._older = self._settle(session, guard.number())
        first = int(session.begin())
        self._dump = PipedDump(self._tools, self._owner, [*DUMP, self._place, "stdout"], self._env, plugged=True)
        self._wait_for_gbak(session)
        last = int(session.begin())
        self._join(session, first, last)
        self._dump.unplug()

    def _settle(self, session: Session, guard: int) -> int | None:
        """Wait for what was open before the guard; the oldest transaction that does not end."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            session.begin()
            older = session.older(guard)
            if older is None or time.monotonic() > deadline:
                return older
            time.sleep(PAUSE_S)

    def _wait_for_gbak(self, session: Session) -> None:
        assert self._dump is not None
        deadline = time.monotonic() + BEGIN_S
        while True:
            session.begin()
            pids = [int(pid) for pid in answers(session.query(_GBAK_SQL)) if pid]
            if any(_group(pid) == self._dump.process.pid for pid in pids):
                return
            if self._dump.process.poll() is not None:
                raise DatabaseError("dump_failed", f"{self.path}: gbak: {self.complaint() or 'ended at once'}")
            if time.monotonic() > deadline:
                raise DatabaseError("database_busy", f"{self.path}: gbak did not begin within {BEGIN_S} s")
            time.sleep(0.02)

    def _join(self, session: Session, first: int, last: int) -> None:
        """Begin at gbak's snapshot: the only one of these that stays open."""
        deadline = time.monotonic() + ALONE_S
        found = session.open_snapshots(first, last + 1)
        while len(found) > 1:
            if time.monotonic() > deadline:
                message = f"{self.path}: {len(found)} transactions that began in the same moment as gbak's do not end"
                raise DatabaseError("database_busy", message)
            time.sleep(PAUSE_S)
            found = {n for n in sorted(found) if session.open_snapshots(n, n + 1)}
        number = str(found.pop()) if found else ""
        if not number or session.begin(number) != number:
            raise DatabaseError("database_busy", f"{self.path}: gbak's snapshot could not be joined")

    @property
    def questions(self) -> FirebirdQuestions:
        """Asked at gbak's snapshot."""
        assert self._session is not None
        return FirebirdQuestions(self._session.query)

    def dump_command(self) -> list[str]:
        """What passes the dump on to restic."""
        assert self._dump is not None
        return self._dump.command()

    def complaint(self) -> str:
        """Of gbak."""
        said = self._dump.complaint() if self._dump else ""
        return error_text(said.replace("gbak:", " ")) if said else ""

    def system_id(self) -> str | None:
        """The file's number."""
        return self.questions.system_id()

    def meanwhile(self) -> list[Finding]:
        """What gbak leaves out by its nature, and a view that may have moved."""
        assert self._session is not None
        found = []
        external = self.questions.external()
        if external:
            names = ", ".join(external[:5])
            message = (
                f"{len(external)} tables lie in files outside the database, and no dump holds their rows ({names})"
            )
            found.append(Finding("tables_external", f"{message}: protect those files as paths of their own"))
        if self._older is not None and not self._session.is_open(self._older):
            message = (
                f"a transaction that had been open for {SETTLE_S} s when the dump began ended during it: the oracle may have "
                "counted what is not in the dump, so this run proves nothing; run the job again"
            )
            found.append(Finding("view_moved", message))
        return found

    def close(self) -> None:
        """End gbak and the transactions."""
        if self._dump is not None:
            self._dump.close()
        for session in (self._session, self._guard):
            if session is not None:
                session.close()
        self._dump = self._session = self._guard = None


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


class FirebirdCopy(Copy):
    """A file in the machine, opened by its own engine within isql, gbak and gfix: no server is asked."""

    def __init__(self, machine: Any, item: str, path: str = "") -> None:
        self._machine = machine
        self._path = path
        self._file = f"{DATA}/holdfast-{item}.fdb"

    def _call(self, *argv: str, stdin: bytes = b"", timeout: float | None = None) -> Any:
        return self._machine.call(*argv, user=FIREBIRD, stdin=stdin, timeout=timeout)

    def wait(self, seconds: float) -> bool:
        """Its programs are there."""
        script = 'for p in isql-fb gbak gfix; do command -v "$p" || exit 1; done'
        return bool(self._call("sh", "-c", script, timeout=seconds).rc == 0)

    def load(self, dump: str) -> list[Finding]:
        """Make a database of the dump, without its shadows, for which this machine has no place."""
        return load_findings(self._call("gbak", "-c", "-k", "-user", "SYSDBA", dump, self._file))

    def query(self, sql: str) -> str:
        """Run one SELECT."""
        text = f"{SESSION}{_BEGIN}^\n{asked(sql)}".encode("ascii")
        done = self._call(*CLIENT, "-user", "SYSDBA", self._file, stdin=text)
        if done.rc != 0 or done.timed_out or done.err.strip():
            state = re.search(r"SQLSTATE = (\w+)", done.err)
            said = "no end in time" if done.timed_out else f"error {state.group(1)}" if state else f"isql {done.rc}"
            raise DatabaseError("query_failed", said)
        out: str = done.out.decode("utf-8", "surrogateescape")
        return out

    @property
    def questions(self) -> FirebirdQuestions:
        """Asked one by one."""
        return FirebirdQuestions(self.query)

    def serve(self, owner: str) -> None:
        """A copy for its software to write in; questions are asked of the restored one."""
        lay(self._machine, self._file, self._path, owner)

    def check(self) -> tuple[str, list[Finding]]:
        """gfix -v -full -n: every page and record is walked, nothing is mended."""
        done = self._call("gfix", "-v", "-full", "-n", "-user", "SYSDBA", self._file)
        if done.timed_out:
            message = f"gfix came to no end within {done.seconds:.0f} s"
            return "failed", [Finding("engine_damage", message, INCONCLUSIVE)]
        said = [line for line in (done.out.decode("utf-8", "replace") + done.err).splitlines() if line.strip()]
        if done.rc != 0 or said:
            counts = [" ".join(line.split()) for line in said if "Number of" in line]
            what = "; ".join(counts) or f"it ended with {done.rc}"
            return "failed", [Finding("engine_damage", f"gfix finds the restored database damaged ({what})")]
        return "done", []

    def drop(self) -> None:
        """Room for the next item."""
        done = self._call("rm", "-f", "--", self._file)
        if done.rc != 0:
            raise DatabaseError("engine_failed", f"the loaded copy could not be removed: {done.err.strip()}")


def load_findings(done: Any) -> list[Finding]:
    """Say what gbak's end means; its messages may quote rows, so only words that do not are taken."""
    if done.rc == 0 and not done.timed_out:
        return []
    found = loading(done, "Firebird")
    if found:
        return found
    if "No space left" in done.err or 'I/O error during "write"' in done.err:
        return [Finding("not_enough_space", "loading the dump: the restore machine's disk is full", INCONCLUSIVE)]
    # where a dump ends too early, gbak asks for the next volume, and nobody answers
    if any(words in done.err + done.out.decode("utf-8", "replace") for words in _TRUNCATED):
        return [Finding("dump_truncated", "loading the dump: it ends too early")]
    what = next((words for words in _SAFE if words in done.err), "no reason that may be shown")
    return [Finding("load_failed", f"loading the dump ended with {done.rc} ({what})")]


def whole(head: bytes, size: int) -> Finding | None:
    """Does a file begin as a dump of gbak's, and end with a whole block? (Its last record can only be found by loading it.)"""
    if not head.startswith(b"\0\2\4"):
        return Finding("not_a_dump", "the dump is none of gbak's")
    if size % BLOCK:
        return Finding("dump_truncated", f"the dump has {size} bytes, and gbak writes blocks of {BLOCK}")
    return None


class Firebird(Engine):
    """Firebird 4 of the host's own packages."""

    name = "firebird"
    title = "Firebird"
    is_file = True
    packages = ("firebird4.0-server", "firebird4.0-utils")
    loaded_per_dump = 4.0
    dump_owner = FIREBIRD
    credentials = (CREDENTIAL,)

    def open(self, database: Database, tools: Tools) -> FirebirdView:
        """gbak's snapshot, shared."""
        return FirebirdView(str(database.path), tools)

    def copy(self, machine: Any, item: str, section: Mapping[str, Any]) -> FirebirdCopy:
        """A database of the machine's own."""
        return FirebirdCopy(machine, item, str(section.get("name") or ""))

    def inspect(self, dump: str) -> list[Finding]:
        """Its first record, and its size."""
        with open(dump, "rb") as stream:  # noqa: PTH123
            found = whole(stream.read(16), os.fstat(stream.fileno()).st_size)
        return [found] if found else []

    def recovered(self, machine: Any, item: str, section: Mapping[str, Any], dump: str) -> FirebirdCopy:
        """In its own place."""
        copy = FirebirdCopy(machine, item)
        copy._file = str(section["name"])
        return copy

    def recovery(self, database: Database, version: str, dump: str, oracle: str) -> tuple[str, list[str]]:
        """Into a new file, which then takes its place."""
        place = str(database.path)
        folder = shlex.quote(str(Path(place).parent))
        words = (
            "gbak makes a new file of the dump, while the software is stopped. A dump holds no users of the server: have the "
            "software's vendor make them"
        )
        return words, [
            "apt-get install firebird4.0-server firebird4.0-utils",
            f"install -d -o firebird -g firebird {folder}",
            f"install -o firebird -g firebird -m 0600 {dump} /var/lib/firebird/4.0/backup/{dump}",
            f"runuser -u firebird -- gbak -c -user SYSDBA /var/lib/firebird/4.0/backup/{dump} {shlex.quote(place)}",
            f"runuser -u firebird -- gfix -v -full -n -user SYSDBA {shlex.quote(place)}   # prints nothing when all is well",
        ]

    def release(self, version: str) -> Sequence[int]:
        """A dump loads into any version of at least its own major one."""
        found = re.match(r"(\d+)", version)
        return (int(found.group(1)),) if found else (0,)
