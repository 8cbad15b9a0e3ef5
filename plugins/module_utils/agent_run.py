# SPDX-License-Identifier: Apache-2.0
"""One run of a backup job, and the record that it leaves whatever happens.

The order within a run is what makes a snapshot trustworthy: the oracle of the database and its dump come from one
consistent view, files are looked at before and after restic reads them, and the oracle is stored last, naming the
snapshots before it. A run without its oracle never happened.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from . import (
    agent_beside,
    agent_boot,
    agent_files,
    agent_gate,
    agent_hooks,
    agent_latch,
    agent_link,
    agent_mounts,
    agent_oracle,
    agent_throttle,
    agent_tripwires,
    agent_turn,
    agent_watch,
    agent_window,
    backup_nas,
    restic,
    tripwires,
)
from .agent_copy import Copying
from .agent_host import (
    EXIT,
    EXIT_DEFERRED,
    EXIT_INVALID,
    EXIT_LOCKED,
    SCHEMA,
    Begun,
    Children,
    Places,
    human,
    locked,
    new_of,
    put_new,
    read_json,
    say,
    utc,
    write_json,
)
from .agent_job import Job, JobError, parse, stored_dump, stored_oracle
from .agent_outcome import Outcome
from .agent_progress import EVERY_S, RESTIC_PROGRESS, Progress, to_file
from .agent_repository import RunError, check_stamp, credential, identify, knock, open_restic
from .database_engine import Database, DatabaseError, Tools, View
from .database_oracle import OracleError
from .engines import ENGINES

LAST_KNOCK_S = 5.0  # systemd waits no longer than a minute for the record of a run that it ended


class Stopped(BaseException):
    """Somebody asked the agent to end. Not an Exception: nothing on the way up may take it for an ordinary error."""


class Backup:
    """One run of one job."""

    def __init__(self, job: Job, places: Places, run_id: str, children: Children, outcome: Outcome) -> None:
        self.job, self.places, self.run_id, self.children, self.outcome = job, places, run_id, children, outcome
        self.restic = open_restic(job.url, places, children.run)
        self.progress = Progress(to_file(places.progress(job.name)), job.name, run_id)
        self.troubles: list[str] = []  # paths that restic's last backup could not read
        self.door: agent_oracle.Door | None = None

    def run(self) -> None:
        """Do it all. Raises RunError, ResticError, NasError, DatabaseError; notes lesser gaps in the outcome."""
        hours = self.job.hours
        if not hours.limited:
            self._run()
            return
        host, port, _path = backup_nas.split_url(self.job.url)
        with agent_throttle.throttled(self.restic.env, host, port, lambda: hours.rate(time.time())):
            self._run()

    def _run(self) -> None:
        self._identify()
        sources = agent_mounts.Sources(self.job, self._last_ok(), self.children)
        self._judge(sources.before())
        self.outcome.mounts = sources.mounts
        oracle: dict[str, Any] = {
            "schema": SCHEMA,
            "practice": self.job.practice,
            "host": self.job.host,
            "job": self.job.name,
            "item": self.job.item,
            "run": self.run_id,
            "taken": utc(time.time()),
            "identity": {
                "machine_id": self.places.machine_id.read_text(encoding="ascii").strip(),
                "repository_id": self.outcome.repository_id,
                "database_system_id": None,
            },
            "snapshots": {"database": None, "files": None},
            "database": None,
            "files": None,
        }
        if self.job.database:
            self._back_up_database(oracle)
        self._back_up_files(oracle)
        oracle["snapshots"] = {part: self.outcome.snapshots[part] for part in ("database", "files")}
        oracle["tools"] = self.outcome.tools
        oracle["holds"] = self.outcome.holds
        oracle["last_clean"] = (read_json(self.places.status(self.job.name)) or {}).get("last_clean")
        self._judge(sources.after())
        self._store_oracle(oracle)

    def _last_ok(self) -> dict[str, Any]:
        return (read_json(self.places.status(self.job.name)) or {}).get("last_ok") or {}

    def _judge(self, fault: agent_mounts.Fault | None) -> None:
        if fault and fault.failed:
            raise RunError(fault.code, fault.message)
        if fault:
            self.outcome.add(fault.code, fault.message)

    def _identify(self) -> None:
        """Is this host the practice's, and is the repository the one that was pinned?"""
        check_stamp(self.job, self.places)
        self.outcome.tools["restic"] = self.restic.version()
        self.outcome.repository_id = agent_turn.once_the_network_is_back(
            self.job.name,
            lambda: identify(self.restic, self.places),
            lambda: agent_link.is_maintained(self.job.url),
        )

    def _tags(self, part: str) -> list[str]:
        return [f"practice={self.job.practice}", f"job={self.job.name}", f"run={self.run_id}", f"part={part}"]

    def _backup_command(self, part: str, rest: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        arguments = restic.backup_arguments(self.job.host, self._tags(part), *rest)
        return restic.command(self.restic.repository, *arguments), {**self.restic.env, **RESTIC_PROGRESS}

    def _stored_as(self, part: str, code: int, out: str, err: str) -> restic.Summary:
        summary = restic.summary_of(code, out, err)
        self.troubles = agent_files.error_paths(out + "\n" + err)
        self.outcome.snapshots[part] = summary.snapshot
        return summary

    def _back_up_database(self, oracle: dict[str, Any]) -> None:
        """Dump, and what the oracle says of the database, from one view of it."""
        database = self.job.database
        assert database is not None
        self.progress.begin("database", size=self._last_dump_bytes())
        before = (read_json(self.places.oracle(self.job.name)) or {}).get("database")
        tools = Tools(self.children.run, self.children.start, lambda name: credential(self.places, name), before)
        engine = ENGINES[database.engine]
        self.outcome.holds += agent_boot.examine(self.places, self.job.name, database, engine, tools, self.outcome.add)
        oracle["taken"] = utc(time.time())
        began = self.outcome.dumping_since = time.monotonic()
        view = engine.open(database, tools)
        try:
            summary = self._store_dump(database, view)
            took = time.monotonic() - began
            say(f"{self.job.name}: dump of {human(summary.bytes)} stored as {summary.snapshot[:8]} in {took:.0f} s")
            section = view.describe(database, self._query_failed)
            seen = view.taken()
            oracle["taken"] = utc(seen) if seen else oracle["taken"]
            oracle["identity"]["database_system_id"] = view.system_id()
            for finding in view.meanwhile():
                self.outcome.add(finding.code, finding.message)
        except OracleError as error:
            raise RunError("query_failed", f"database {database.label}: {error}") from error
        finally:
            view.close()
        self.outcome.dumping_since = None
        if summary.bytes < self.job.min_size:
            raise RunError(
                "too_small",
                f"the dump of {database.label} has {human(summary.bytes)}, at least {human(self.job.min_size)} expected: is "
                f"it the right database? Snapshot {summary.snapshot[:8]} counts for nothing",
            )
        section["dump_path"] = stored_dump(self.job.name)
        self.outcome.tools["engine"] = f"{database.engine} {section['version']}".strip()
        rows = sum(section["tables"].values())
        if ENGINES[database.engine].asked:
            say(f"{self.job.name}: database {database.label}: {len(section['tables'])} tables, {rows} rows")
        if not ENGINES[database.engine].checked(section):
            self.outcome.add("database_empty", f"database {database.label} has no table: is it the right one?")
        oracle["database"] = section
        self.outcome.files += 1
        self.outcome.bytes += summary.bytes
        self.outcome.dump_bytes = summary.bytes

    def _last_dump_bytes(self) -> int | None:
        return (read_json(self.places.status(self.job.name)) or {}).get("dump_bytes")

    def _store_dump(self, database: Database, view: View) -> restic.Summary:
        """restic stores no snapshot when the dump's command ends with anything but 0."""
        command = view.dump_command()
        try:
            rest = ["--stdin-from-command", "--stdin-filename", stored_dump(self.job.name), "--", *command]
            arguments, env = self._backup_command("database", rest)
            return self._stored_as("database", *self.children.run(arguments, env, b"", self.progress.restic))
        except restic.ResticError as error:
            if "command failed" not in error.message:
                raise
            said = " / ".join(text for text in (view.complaint(), error.message) if text)
            raise RunError("dump_failed", f"the dump of {database.label} failed, nothing was kept: {said}") from error

    def _query_failed(self, what: str, error: Exception) -> None:
        code = "images_query_failed" if what == "images" else "probe_failed"
        self.outcome.add(code, f"the query of {what} failed: {error}")

    def _roots(self) -> list[str]:
        """Folders and files to back up that are there. Says what is not."""
        database = self.job.database
        wanted = list(self.job.paths)
        if database and database.images:
            wanted.append(database.images["root"])
        there = []
        for path in dict.fromkeys(wanted):
            if os.path.islink(path):  # noqa: PTH114 - a path here may be any bytes
                message = f"{path} is a link, of which restic would keep only the link: name {os.path.realpath(path)}"
                raise RunError("path_is_link", message)
            if os.path.lexists(path):
                there.append(path)
            else:
                self.outcome.add("path_missing", f"{path} does not exist on this host")
        if self.job.paths and not any(path in there for path in self.job.paths):
            raise RunError("path_missing", f"none of the paths of {self.job.name} exists: is a disk not mounted?")
        self._check_must_have()
        return there

    def _back_up_files(self, oracle: dict[str, Any]) -> None:
        """A look, restic with the hashing beside it, then a second look: at the disk, and at what is in the snapshot.

        restic opens the repository during the first look, but reads no file before that is over and judged.
        """
        if not self.job.paths and not (self.job.database and self.job.database.images):
            return
        roots = self._roots()
        read = [*roots, *self._images_outside(oracle, roots)]
        began = time.monotonic()
        with self._restic_held(read) if read else contextlib.nullcontext() as latch:
            manifest = self._survey(read)
            self._judge_survey(manifest, oracle)
            wires = agent_tripwires.Wires(self.job, self.places, self.run_id, manifest.before)
            if not latch:
                self._suspect(wires.judge(manifest, read))
                self._judge_manifest(manifest, oracle)
                return
            summary, told = self._read_files(manifest, read, wires, latch)
        self._judge_manifest(manifest, oracle)
        self.progress.begin("settle")
        filled = [root for root in roots if root not in manifest.empty_roots]
        second = agent_files.look_again(manifest, read, self.job.exclude)
        meanwhile = agent_files.settle(manifest, second, self._stored(manifest, second, summary, told))
        if meanwhile.gap:
            self.outcome.add("coverage_gap", f"{meanwhile.gap} files differ between the disk and the snapshot")
        self._judge_meanwhile(manifest, filled)
        if meanwhile.dropped:
            self._note(manifest)
        cache = self.places.manifest_cache(self.job.name)
        new_of(cache).replace(cache)
        wires.keep()
        took = time.monotonic() - began
        say(
            f"{self.job.name}: files stored as {summary.snapshot[:8]} in {took:.0f} s, {human(summary.added)} sent"
            f"; meanwhile {meanwhile.changed} changed, {meanwhile.appeared} came, {len(meanwhile.dropped)} went"
        )
        oracle["files"] = {
            "roots": read,
            "count": manifest.count,
            "bytes": manifest.bytes,
            "must_have": list(self.job.must_have),
            "manifest": manifest,
            "dropped": meanwhile.dropped,
            "tripwires": wires.section(),
        }
        self.outcome.files += manifest.count
        self.outcome.bytes += manifest.bytes

    def _survey(self, read: Sequence[str]) -> agent_files.Manifest:
        began = time.monotonic()
        cache = agent_files.load_cache(str(self.places.manifest_cache(self.job.name)))
        self.progress.begin("look", len(cache) or None)
        manifest = agent_files.survey(read, self.job.exclude, cache, self.progress.add)
        took = time.monotonic() - began
        say(
            f"{self.job.name}: {len(manifest.files)} files, {human(manifest.bytes)}, {len(manifest.unhashed)} new or "
            f"changed, found in {took:.0f} s"
        )
        return manifest

    def _restic_held(self, read: Sequence[str]) -> contextlib.AbstractContextManager[agent_latch.Latch]:
        """The restic of the files, which opens the repository and waits."""
        options = [f"--exclude={pattern}" for pattern in self.job.exclude]
        if options:
            # restic and the agent may read a pattern differently: only names tell
            options.append("--verbose=2")
        command, env = self._backup_command("files", [*options, "--files-from-raw", "-"])
        names = b"".join(os.fsencode(path) + b"\0" for path in read)
        return agent_latch.held(self.children.begin, command, env, names)

    def _read_files(
        self,
        manifest: agent_files.Manifest,
        read: Sequence[str],
        wires: agent_tripwires.Wires,
        latch: agent_latch.Latch,
    ) -> tuple[restic.Summary, agent_files.Told]:
        """restic, and beside it what is to be hashed and the cache of hashes.

        Where that is little, restic has little to read too: then the hashing comes first, and the restic of the oracle opens
        the repository beside this one. Both at once take too much memory for a run that lasts.
        """
        hashed = [0, 0]

        def tell(files: int, size: int) -> None:
            hashed[0] += files
            hashed[1] += size

        def examine(go_on: Callable[[], bool] = lambda: True) -> list[tripwires.Finding]:
            agent_files.hash_new(manifest, wires.see, tell, go_on)
            return wires.judge(manifest, read)

        def work(go_on: Callable[[], bool]) -> list[tripwires.Finding]:
            findings = [] if little else examine(go_on)
            self._note(manifest)
            return findings

        little = manifest.is_little
        if little:
            self._suspect(examine())
            self._open_door()
        latch.lift()
        with agent_beside.Beside(work) as beside:
            summary, told = self._restic_files(manifest, latch.restic)
            if beside.busy:
                self.progress.begin("hash", len(manifest.unhashed))
            self._suspect(beside.result(lambda: self.progress.so_far(*hashed), EVERY_S))
        if not little:
            self._open_door()
        return summary, told

    def _note(self, manifest: agent_files.Manifest) -> None:
        """Write the cache of hashes beside its place."""
        put_new(self.places.manifest_cache(self.job.name), agent_files.cache_pieces(manifest))

    def _suspect(self, findings: Sequence[tripwires.Finding]) -> None:
        for finding in findings:
            self.outcome.add(finding.code, finding.message)
            self.outcome.hold(agent_tripwires.HOLD)

    def _restic_files(self, manifest: agent_files.Manifest, begun: Begun) -> tuple[restic.Summary, agent_files.Told]:
        told = agent_files.Told(manifest.files)
        self.progress.begin("files", len(manifest.files), manifest.bytes)
        done = begun.watch(lambda line: told.take(line) or self.progress.restic(line))
        summary = self._stored_as("files", *done)
        unread = sum(1 for path in self.troubles if agent_files.still_there(path))
        if not summary.complete and (unread or not self.troubles):
            self.outcome.add("files_unreadable", f"restic could not read {unread or 'some'} files or folders")
        return summary, told

    def _stored(
        self,
        manifest: agent_files.Manifest,
        second: agent_files.Second,
        summary: restic.Summary,
        told: agent_files.Told,
    ) -> Mapping[str, int] | None:
        """Sizes of the files in a snapshot as restic reads it back; None where it can only be the expected files.

        That is so where restic has told of them by name, or where nothing but the tree itself says what is stored: no file
        came or went between the two looks, restic had no trouble, and it stored as many files and bytes.
        """
        if self.job.exclude:
            sure = told.as_expected(summary.files)
        else:
            same = summary.files == len(manifest.files) and (second.changed or summary.bytes == manifest.bytes)
            sure = bool(same and summary.complete and not second.gone and not second.new)
        if sure:
            return None
        command = restic.command(self.restic.repository, "ls", "--json", "--no-lock", summary.snapshot)
        code, out, err = self.children.run(command, self.restic.env)
        restic.check(code, "", err)
        return agent_files.stored_files(out)

    def _judge_meanwhile(self, manifest: agent_files.Manifest, filled: Sequence[str]) -> None:
        """Files may go while restic reads; all of them at once is a disk that went."""
        self._check_must_have()
        self._check_count(manifest)
        for root in filled:
            if not any(agent_files.below(path, [root]) for path in manifest.paths()):
                raise RunError("path_vanished", f"{root} lost all its files during the backup: did a disk go?")

    def _check_must_have(self) -> None:
        canaries = self.job.tripwires.canaries
        for path in self.job.must_have:
            there = os.path.lexists(path)
            if there and os.path.isdir(path):  # noqa: PTH112
                there = any(f"{path}/{name}" not in canaries for name in os.listdir(path))  # noqa: PTH208
            if not there:
                raise RunError(
                    "must_have_missing", f"{path} must be there and is missing or empty: is a disk not mounted?"
                )

    def _check_count(self, manifest: agent_files.Manifest) -> None:
        if not self.job.paths:
            return
        canaries, own, size = self.job.tripwires.canaries, 0, 0
        for path, each in manifest.sizes():
            if agent_files.below(path, self.job.paths):
                own += path not in canaries
                size += each
            if own >= self.job.min_files and size >= self.job.min_size:
                return
        if own < self.job.min_files:
            raise RunError(
                "too_few_files",
                f"{own} files found, at least {self.job.min_files} expected: is a disk not mounted? Nothing kept",
            )
        if size < self.job.min_size and not self.job.database:
            raise RunError(
                "too_small",
                f"{human(size)} found, at least {human(self.job.min_size)} expected: is a disk not mounted? Nothing kept",
            )

    def _check_excludes(self, manifest: agent_files.Manifest, oracle: dict[str, Any]) -> None:
        """An exclude that hides what the backup is for is a mistake, however many files are left."""
        if not self.job.exclude:
            return
        database = self.job.database
        roots = [*self.job.paths, *([database.images["root"]] if database and database.images else [])]
        for path in dict.fromkeys([*self.job.must_have, *roots]):
            if agent_files.swallowed(path, self.job.exclude, manifest):
                raise RunError("must_have_excluded", f"the excludes hide {path} or all that is in it; correct exclude:")
        images = self._images(oracle)
        if images and all(agent_files.hidden(path, self.job.exclude) for path in images):
            message = (
                f"the excludes hide every one of the {len(images)} images that the database lists; correct exclude:"
            )
            raise RunError("must_have_excluded", message)

    def _images(self, oracle: dict[str, Any]) -> list[str]:
        images = (oracle["database"] or {}).get("images")
        return [agent_files.image_path(images["root"], name) for name in images["names"]] if images else []

    def _images_outside(self, oracle: dict[str, Any], roots: Sequence[str]) -> list[str]:
        """Images that the database keeps outside of every root are backed up all the same."""
        outside = {path for path in self._images(oracle) if not agent_files.below(path, roots)}
        return sorted(path for path in outside if os.path.isfile(path))  # noqa: PTH113

    def _judge_survey(self, manifest: agent_files.Manifest, oracle: dict[str, Any]) -> None:
        """What has to be so before anything is stored."""
        self._check_excludes(manifest, oracle)
        self._check_count(manifest)

    def _judge_manifest(self, manifest: agent_files.Manifest, oracle: dict[str, Any]) -> None:
        if manifest.unreadable:
            self.outcome.add("files_unreadable", f"{manifest.unreadable} files or folders could not be read")
        for root in manifest.empty_roots:
            if root in self.job.paths:
                self.outcome.add("path_empty", f"{root} holds no file: is a disk not mounted?")
        images = self._images(oracle)
        missing = sum(1 for path in images if path not in manifest.files)
        if missing:
            self.outcome.add(
                "images_missing", f"{missing} of {len(images)} images that the database lists are not there as files"
            )

    def _open_door(self) -> agent_oracle.Door:
        """Start the restic that will store the oracle. The run's holds are known from here on."""
        tags = [*self._tags("oracle"), *(f"hold={hold}" for hold in self.outcome.holds)]
        arguments = restic.command(self.restic.repository, *restic.backup_arguments(self.job.host, tags))
        file, name = new_of(self.places.oracle(self.job.name)), stored_oracle(self.job.name)
        self.door = agent_oracle.Door(self.children.start, arguments, self.restic.env, name, file)
        return self.door

    def _store_oracle(self, oracle: dict[str, Any]) -> None:
        door = self.door or self._open_door()
        place = self.places.oracle(self.job.name)
        new = put_new(place, agent_oracle.pieces(oracle))
        self.progress.begin("oracle", size=new.stat().st_size)
        self.outcome.snapshots["oracle"] = restic.summary_of(*door.store()).snapshot
        new.replace(place)


def record_of(facts: Mapping[str, Any], outcome: Outcome, started: float, finished: float) -> dict[str, Any]:
    """Status record. facts: practice, host, job, item, run, boot_id, last_ok, last_clean."""
    return {
        "schema": SCHEMA,
        **facts,
        "state": outcome.state,
        "reasons": outcome.reasons,
        "holds": outcome.holds,
        "started": utc(started),
        "finished": utc(finished),
        "seconds": round(max(0.0, finished - started), 1),
        "snapshots": outcome.snapshots,
        "files": outcome.files,
        "bytes": outcome.bytes,
        **({} if outcome.dump_bytes is None else {"dump_bytes": outcome.dump_bytes}),
        **({} if outcome.copied is None else {"copied": outcome.copied}),
        "repository_id": outcome.repository_id,
        "tools": outcome.tools,
        **({"mounts": outcome.mounts} if outcome.mounts else {}),
    }


def finish(places: Places, record: dict[str, Any]) -> None:
    """Write the record and tell the journal."""
    if record["state"] == "OK":
        record["last_ok"] = {key: record[key] for key in ("run", "finished", "mounts") if key in record}
    if record["state"] != "FAILED" and not record["holds"]:
        record["last_clean"] = {"run": record["run"], "finished": record["finished"]}
    write_json(places.status(record["job"]), record)
    places.running(record["job"]).unlink(missing_ok=True)
    places.unrecorded(record["job"]).unlink(missing_ok=True)
    places.progress(record["job"]).unlink(missing_ok=True)
    what = "; ".join(f"{reason['code']}: {reason['message']}" for reason in record["reasons"])
    say(
        f"{record['job']}: {record['state']} after {record['seconds']:.0f} s" + (f": {what}" if what else ""),
        {"OK": 6, "INCOMPLETE": 4, "FAILED": 3}[record["state"]],
    )


def gates_of(job: Job, places: Places) -> list[agent_watch.Gate]:
    """Everything that may keep this job from running."""
    window = [agent_window.gate(job.name, job.hours)] if job.hours.window else []
    return [*window, *agent_gate.power_gate(job.name, job.power, places), *agent_link.link_gate(job.url)]


def dump_check(job: Job, outcome: Outcome) -> agent_watch.Check:
    """Ends a run whose dump hangs; what holds it up is let go with it."""

    def check() -> agent_watch.Answer | None:
        since = outcome.dumping_since
        if since is None or not job.dump_limit_s or time.monotonic() - since < job.dump_limit_s:
            return None
        label = job.database.label if job.database else ""
        message = f"the dump of {label} did not end within {job.dump_limit_s} s and was stopped, nothing was kept"
        return agent_watch.Answer(
            "dump_timeout", f"{message}: is a table locked, or the server overloaded?", retry=False
        )

    return check


def out_of_time(opened: restic.Restic, outcome: Outcome) -> None:
    """Note whether it is the NAS for which this run waited until its time was over."""
    try:
        knock(opened, LAST_KNOCK_S)
    except backup_nas.NasError as error:
        outcome.add(error.code, error.message, True)


def attempt(
    job: Job, places: Places, run_id: str, outcome: Outcome, started: float, checks: Sequence[agent_watch.Check] = ()
) -> None:
    """Run the job; every way in which it can end goes into the outcome. checks: an answer of theirs ends it."""
    children = Children()
    facts = {"JOB": job.name, "PRACTICE": job.practice, "HOST": job.host, "RUN": run_id}
    hooks = agent_hooks.Hooks(job.hooks, facts, children.run)
    stopped = False

    def stop(_number: int, _frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    watch = agent_watch.Watch(checks)
    work: Backup | Copying | None = None
    try:
        with watch.running():
            work = (Copying if job.copy_of else Backup)(job, places, run_id, children, outcome)
            why = hooks.call("before", "RUNNING")
            if why:
                raise RunError(agent_hooks.CODE, why)
            work.run()
    except Stopped:
        stopped = True
        if watch.answer:
            outcome.add(watch.answer.code, watch.answer.message, True)
            outcome.deferred = watch.answer if watch.answer.retry else None
        elif job.time_limit_s and time.time() - started >= job.time_limit_s - 1:
            outcome.add("time_limit", f"the job was stopped at its time limit of {job.time_limit_s} s", True)
            if work:
                out_of_time(work.restic, outcome)
        else:
            outcome.add("stopped", "the run was stopped from outside (shutdown, or systemctl stop)", True)
    except (RunError, restic.ResticError, backup_nas.NasError, DatabaseError) as error:
        outcome.add(error.code, error.message, True)
    except Exception as error:  # whatever it is: the record must say that there is no backup
        frame = error.__traceback__
        while frame and frame.tb_next:
            frame = frame.tb_next
        where = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else "?"
        outcome.add("internal_error", f"{type(error).__name__} at {where}: {str(error)[:300]}", True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        children.end()
        for why in hooks.afterwards(lambda: outcome.state, stopped):
            outcome.add(agent_hooks.CODE, why)


def facts_of(places: Places, name: str, job: Job | None, run_id: str) -> dict[str, Any]:
    """What a record says about who and where; from the stamp where the job file cannot be read."""
    stamp = read_json(places.etc / "practice.json") or {}
    return {
        "practice": job.practice if job else stamp.get("practice"),
        "host": job.host if job else stamp.get("host"),
        "job": name,
        "item": job.item if job else name,
        "run": run_id,
        "boot_id": places.boot_id.read_text(encoding="ascii").strip(),
        **{key: (read_json(places.status(name)) or {}).get(key) for key in ("last_ok", "last_clean")},
    }


def run_and_tell(name: str, places: Places) -> int:
    """``agent run``: exit code. Where not even a record can be written, a note in memory tells ``status`` of it."""
    try:
        return run_job(name, places)
    except OSError as error:
        reasons = [{"code": "host_full", "message": f"nothing can be written on this host: {error}"}]
        write_json(places.unrecorded(name), {"state": "FAILED", "finished": utc(time.time()), "reasons": reasons})
        raise


def run_job(name: str, places: Places) -> int:
    """One run: exit code. Raises OSError when the host cannot be written to."""
    with locked(places, name) as free:
        if not free:
            say(f"{name}: another run of this job is under way; this one does nothing", 4)
            return EXIT_LOCKED
        started = time.time()
        stamp = datetime.datetime.fromtimestamp(started, datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        run_id = f"{stamp}-{secrets.token_hex(4)}"
        outcome = Outcome()
        try:
            job = parse(places.job(name).read_text(encoding="utf-8"))
            if job.name != name:
                raise JobError(f"it is for job {job.name!r}")
        except (OSError, JobError, UnicodeDecodeError) as error:
            outcome.add("job_invalid", f"{places.job(name)}: {error}", True)
            places.deferred(name).unlink(missing_ok=True)
            finish(places, record_of(facts_of(places, name, None, run_id), outcome, started, time.time()))
            return EXIT_INVALID
        return _take_turn(job, places, run_id, outcome)


def _take_turn(job: Job, places: Places, run_id: str, outcome: Outcome) -> int:
    """One job of a host at a time; from here on it is this one's. A copy reads no disk of this host and waits for none."""
    name = job.name
    mine = contextlib.nullcontext() if job.copy_of else agent_turn.turn(places, name, job.time_limit_s)
    with mine, agent_turn.awake(name, job.stay_awake):
        started = time.time()
        gates = gates_of(job, places)
        answer = agent_watch.first([gate.begin for gate in gates])
        if answer:
            agent_watch.defer(places, name, answer)
            return EXIT_DEFERRED
        agent_watch.resume(places, name)
        facts = facts_of(places, name, job, run_id)
        if places.running(name).exists():
            say(f"{name}: the run before this one was cut off without a record", 4)
        write_json(places.running(name), {"facts": facts, "started": started})
        checks = [gate.go_on for gate in gates] + [dump_check(job, outcome)]
        attempt(job, places, run_id, outcome, started, checks)
        if outcome.deferred:
            agent_watch.defer(places, name, outcome.deferred)
        record = record_of(facts, outcome, started, time.time())
        finish(places, record)
        return EXIT_DEFERRED if outcome.deferred else EXIT[str(record["state"])]


def settle_job(name: str, places: Places, service: Mapping[str, str]) -> int:
    """``agent settle``: a run that was killed wrote no record; write it for it. Changes nothing else."""
    with locked(places, name) as free:
        begun = read_json(places.running(name))
        if not free or not begun:
            return 0
        result = service.get("MONITOR_SERVICE_RESULT", "")
        causes = {"oom-kill": ("out_of_memory", "the host ran out of memory"),
                  "timeout": ("time_limit", "the job did not end within its time limit")}  # fmt: skip
        code, message = causes.get(result, ("killed", "the run was killed, or the host went down, before its end"))
        outcome = Outcome()
        outcome.add(code, message, True)
        finish(places, record_of(begun["facts"], outcome, float(begun["started"]), time.time()))
    return 0


def register(verbs: Any) -> None:
    """The verbs of this part."""
    run = verbs.add_parser("run", help="run a job now")
    run.add_argument("job")
    run.set_defaults(call=lambda wanted, places: run_and_tell(wanted.job, places))
    settle = verbs.add_parser("settle", help="record a run that was killed (used by the service)")
    settle.add_argument("job")
    settle.set_defaults(call=lambda wanted, places: settle_job(wanted.job, places, os.environ))
