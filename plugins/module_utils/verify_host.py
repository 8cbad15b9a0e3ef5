# SPDX-License-Identifier: Apache-2.0
"""Do a restore verification on the carrier of a restore machine: restic, files and databases, each behind one door.

Layout, with FOLDER being the machine's folder and FOLDER/root its disk (see nspawn.py):

    root/srv/holdfast-restore/ROW/files       the restored files
    root/srv/holdfast-restore/ROW/database    the restored dump, as restic lays it out
    root/srv/holdfast-restore/ROW.OTHER       the files of another item, restored for the application of ROW
    FOLDER/proof/ROW.json                     the oracle but its lists of files, from fetch to judge (0600)
    FOLDER/proof/ROW.index                    those files and what became of each, by hashes of their paths (0600)
    FOLDER/proof/progress.json                how far a restore is, for people who watch (0600)

ROW is the key of a row of the proof: an item may be there with several of its runs.

All of it is wiped with the machine. restic runs chrooted in the machine's disk before the machine starts, so that the
credentials are in the environment of that process only and the machine never sees them.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timezone, tzinfo
from pathlib import Path
from typing import IO, Any, Callable, NamedTuple

from ansible_collections.holdfast.practice.plugins.module_utils import tripwires, verify_portion
from ansible_collections.holdfast.practice.plugins.module_utils.agent_job import stored_oracle
from ansible_collections.holdfast.practice.plugins.module_utils.agent_progress import RESTIC_PROGRESS, Progress
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import (
    Copy,
    DatabaseError,
    Engine,
    Finding,
)
from ansible_collections.holdfast.practice.plugins.module_utils.database_oracle import OracleError
from ansible_collections.holdfast.practice.plugins.module_utils.engines import ENGINES
from ansible_collections.holdfast.practice.plugins.module_utils.record_loss import losses
from ansible_collections.holdfast.practice.plugins.module_utils.verify import (
    INCONCLUSIVE,
    PASS,
    FilesCompared,
    NothingMoreError,
    Reason,
    Run,
    Wanted,
    check_content,
    check_held,
    check_identity,
    check_images,
    check_known,
    check_unreadable,
    earlier,
    foreign,
    judge_arrival,
    judge_files,
    last_clean,
    level,
    parse_snapshots,
    parse_time,
    runs_of,
    stopped,
    utc,
    worst,
)
from ansible_collections.holdfast.practice.plugins.module_utils.verify_application_host import (
    Trial,
    hash_of,
    quiet,
    sources_of,
)
from ansible_collections.holdfast.practice.plugins.module_utils.verify_choice import Choice, PassedOverError
from ansible_collections.holdfast.practice.plugins.module_utils.verify_files import Index, compare
from ansible_collections.holdfast.practice.plugins.module_utils.verify_oracle import UNREADABLE, read_oracle
from ansible_collections.holdfast.practice.plugins.module_utils.verify_restic import Done, classify, read_check
from ansible_collections.holdfast.practice.plugins.module_utils.verify_since import Since, check_since

PLACE = "/srv/holdfast-restore"
# below the machine's folder
PROGRESS_FILE = "proof/progress.json"
# A first answer takes a second; restic by itself tries for a quarter of an hour to reach a NAS that is off.
PROBE_S = 30
SPACE_TO_SPARE = 256 << 20
ENGINE_START_S = 90
# of what a command prints or says without end
KEPT_BYTES = 1 << 18
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Runner = Callable[..., Done]


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    timeout: float,
    stdin: bytes = b"",
    into: Path | None = None,
    hear: Callable[[bytes], bool] | None = None,
) -> Done:
    """Run a command in a session of its own; at the timeout ask it to end (restic then says why), then kill it.

    into: a new file that gets what it prints. hear: told of each line that it prints; what it takes is not returned, and of
    the rest only the end.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile())
        printed: IO[bytes] | int = stack.enter_context(new_file(into)) if into else subprocess.PIPE
        try:
            child = subprocess.Popen(
                list(argv),
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=said,
                start_new_session=True,
            )
        except OSError as error:
            return Done(127, b"", f"{argv[0]}: {error.strerror}", 0.0)
        listener = _Listener(child, hear) if hear else None
        timed_out = False
        try:
            out, _none = child.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            out = _end(child)
        except BaseException:
            _end(child)
            raise
        if listener:
            out = listener.rest()
        err = _both_ends(said).decode("utf-8", "replace")
    return Done(child.returncode, out or b"", err, time.monotonic() - began, timed_out)


def new_file(path: Path) -> IO[bytes]:
    """A file that nobody else can read, in place of what was there."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


class _Listener(threading.Thread):
    """Hears what a command prints while it runs, and keeps the end of what nobody took."""

    def __init__(self, child: subprocess.Popen[bytes], hear: Callable[[bytes], bool]) -> None:
        super().__init__(daemon=True)
        self._stream, child.stdout = child.stdout, None
        self._hear, self._kept = hear, b""
        self.start()

    def run(self) -> None:
        """Until the last of its processes has ended."""
        for line in self._stream or ():
            if not self._hear(line):
                self._kept = (self._kept + line)[-KEPT_BYTES:]

    def rest(self) -> bytes:
        """The end of what nobody took."""
        self.join(timeout=10)
        return self._kept


def _both_ends(stream: IO[bytes]) -> bytes:
    """What a command said; of very much the beginning and the end."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(KEPT_BYTES)
    stream.seek(max(len(head), size - KEPT_BYTES))
    return head + stream.read()


def _end(child: subprocess.Popen[bytes]) -> bytes:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        try:
            return child.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired:
            continue
    return b""


class MachineRestic:
    """restic of the machine's image, chrooted in its disk, with one repository."""

    def __init__(
        self,
        root: str,
        repository: Mapping[str, str],
        repository_password: str,
        rest_password: str,
        timeout: float,
        runner: Runner = run,
        *,
        reading: bool = True,
    ) -> None:
        """reading: it takes no lock, as a proof never does; whoever writes has to."""
        self._root = root
        self._timeout = timeout
        self._run = runner
        place = Path(root + PLACE)
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        certificate = place / f"{repository['username']}.pem"
        certificate.write_text(repository.get("certificate") or "", encoding="ascii")
        self._argv = ["chroot", root, "restic", "--no-cache", *(["--no-lock"] if reading else [])]
        if repository.get("certificate"):
            self._argv += ["--cacert", f"{PLACE}/{certificate.name}"]
        self._env = {
            "PATH": _PATH,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "RESTIC_REPOSITORY": repository["url"],
            "RESTIC_PASSWORD": repository_password,
            "RESTIC_REST_USERNAME": repository["username"],
            "RESTIC_REST_PASSWORD": rest_password,
            "RESTIC_PROGRESS_FPS": "0.016",
        }

    def call(self, *arguments: str, timeout: float | None = None, **listen: Any) -> Done:
        """Run restic and return how it ended. listen: ``into`` or ``hear``, as ``run`` has them."""
        env = {**self._env, **RESTIC_PROGRESS} if "hear" in listen else self._env
        return self._run([*self._argv, *arguments], env, timeout or self._timeout, b"", **listen)

    def ask(self, what: str, *arguments: str, timeout: float | None = None) -> bytes:
        """Run restic and return what it printed; raises NothingMoreError, with the reasons, when it did not end well."""
        done = self.call(*arguments, timeout=timeout)
        reasons = classify(done, what)
        if reasons:
            raise NothingMoreError(*reasons)
        return done.out

    def save(self, what: str, into: Path, *arguments: str) -> None:
        """Like ask, for what may be larger than memory."""
        reasons = classify(self.call(*arguments, into=into), what)
        if reasons:
            raise NothingMoreError(*reasons)

    def ask_json(self, what: str, *arguments: str, timeout: float | None = None) -> Any:
        """Like ask, for one JSON document."""
        out = self.ask(what, *arguments, "--json", timeout=timeout)
        try:
            return json.loads(out)
        except ValueError:
            raise NothingMoreError(Reason("restic_failed", f"{what}: restic printed no JSON")) from None

    def repository_id(self) -> str:
        """Open the repository; the first call, so it does not wait long for a NAS that is off."""
        return str(self.ask_json("opening the repository", "cat", "config", timeout=PROBE_S)["id"])


# --- structure -------------------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """What was promised of reading a repository, and what was read: see ``verify_portion``."""

    portions: int = 1
    within_s: float = 0.0
    readings: Mapping[str, Any] = {}
    now: float = 0.0


def structure(restic: MachineRestic, reading: Reading) -> dict[str, Any]:
    """Check the repository and read it, or a portion of it: the part result {"levels", "figures"}."""
    try:
        restic.repository_id()
        packs = verify_portion.packs_of(restic.ask("counting packs", "list", "packs").decode("ascii", "replace"))
    except NothingMoreError as stop:
        return {"levels": {"structure": level(0, stop.reasons)}, "figures": {}}
    portion = verify_portion.choose(packs, reading.portions, reading.readings)
    done = restic.call("check", *portion.arguments(), "--json")
    found = read_check(done, portion.words())
    since = verify_portion.read_since(packs, portion, reading.readings, reading.now)
    reasons = found.reasons
    if reading.within_s and not reasons:
        reasons = verify_portion.overdue(since, reading.readings, reading.within_s, reading.now)
    judged = level(
        portion.packs,
        reasons,
        errors=found.errors,
        broken_packs=found.broken_packs,
        seconds=round(done.seconds, 3),
        **verify_portion.public(portion, None if found.reasons else since),
    )
    return {"levels": {"structure": judged}, "figures": {}}


class Kept:
    """Where fetch keeps what judge needs."""

    def __init__(self, folder: str, item: str) -> None:
        self.folder = Path(folder) / "proof"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.state = self.folder / f"{item}.json"
        self.index = self.folder / f"{item}.index"
        self._drawn = Path(folder) / PROGRESS_FILE

    def draw(self, now: Mapping[str, Any]) -> None:
        """How far it is. Nothing waits for the disk, which is busy with the restore."""
        temporary = self._drawn.with_suffix(".new")
        with new_file(temporary) as stream:
            stream.write(json.dumps(now).encode("ascii"))
        temporary.replace(self._drawn)

    def wipe_drawing(self) -> None:
        """What another item drew is not how far this one is."""
        self._drawn.unlink(missing_ok=True)


# --- fetch -----------------------------------------------------------------------------------------------------------


class Fetch:
    """Choose a run, restore it into the machine's disk, compare its files."""

    def __init__(
        self,
        wanted: Wanted,
        folder: str,
        restic: MachineRestic,
        arrivals: Mapping[str, float] | None,
        known: Sequence[str],
        now: float,
        choice: Choice | None = None,
    ) -> None:
        self._wanted = wanted
        self._folder = folder
        self._root = folder + "/root"
        self._kept = Kept(folder, wanted.key)
        self._choice = choice or Choice()
        self._restic = restic
        self._arrivals = arrivals
        self._known = known
        self._now = now
        self._clean: Run | None = None
        self._earlier: Run | None = None
        self._held: list[Reason] = []
        self._levels: dict[str, Any] = {}
        self._figures: dict[str, Any] = {"phases": {}, "died": utc(now)}
        self._progress = Progress(self._kept.draw, wanted.job, "")
        self._result: dict[str, Any] = {"snapshots": {}, "taken": None, "arrived": None, "notes": []}

    @property
    def _loads(self) -> bool:
        """Is more wanted than files?"""
        return bool(set(self._wanted.levels) - {"arrival", "structure", "files"})

    def do(self) -> dict[str, Any]:
        """Return the part result {"verdict", "levels", "figures", "snapshots", "taken", "arrived", "class", "kept", "notes"}.

        Where there is no such run, and that is no fault, it is {"passed_over": why, "levels": {}, "figures": {}}.
        """
        self._kept.wipe_drawing()
        try:
            oracle = self._find()
            if set(self._wanted.levels) - {"arrival", "structure"}:
                self._restore(oracle)
                self._compare(oracle)
                self._keep(oracle)
                self._prepare_application()
        except PassedOverError as error:
            return {"passed_over": str(error), "levels": {}, "figures": {}}
        except NothingMoreError as stop:
            self._levels = stopped(self._wanted, stop.reasons, self._levels)
        verdict = worst([found["verdict"] for found in self._levels.values()] or [PASS])
        return {**self._result, "verdict": verdict, "levels": self._levels, "figures": self._figures}

    def _find(self) -> dict[str, Any]:
        began = time.monotonic()
        repository_id = self._restic.repository_id()
        snapshots = parse_snapshots(self._restic.ask_json("listing snapshots", "snapshots"))
        runs = runs_of(self._wanted, snapshots, self._arrivals)
        chosen = self._choice.of(self._wanted.which, runs, snapshots, self._now)
        run = chosen.run
        arrivals = self._arrivals or {}
        self._result.update({"class": chosen.kind, "kept": chosen.kept})
        self._result["arrived"] = utc(run.arrived)
        self._result["snapshots"] = {"oracle": run.oracle.id}
        oracle = self._read_oracle(run)
        taken = parse_time(oracle["taken"])
        self._result["taken"] = oracle["taken"]
        self._result["snapshots"].update({part: each for part, each in oracle["snapshots"].items() if each})
        self._clean = last_clean(self._wanted, snapshots, arrivals, run)
        self._earlier = earlier(self._wanted, snapshots, arrivals, run)
        self._held = check_held(oracle, run, self._clean)
        failing, notes = foreign(self._wanted, snapshots, arrivals)
        reasons = check_identity(self._wanted, run, oracle, repository_id, snapshots, arrivals)
        reasons += check_unreadable(run, snapshots, arrivals) + check_known(self._known, snapshots) + failing
        self._result["notes"] = [note.public() for note in notes]
        if "files" not in self._wanted.levels or oracle["files"] is None:
            reasons += self._held
        self._levels["arrival"], figures = judge_arrival(self._wanted, run, taken, self._now, reasons)
        self._figures.update(figures)
        self._figures["phases"]["fetch_s"] = time.monotonic() - began
        fatal = [reason for reason in reasons if reason.code.startswith("wrong_") or reason.code == "snapshot_missing"]
        if fatal:
            # What is not ours is not restored: the other levels have nothing to say about it.
            raise NothingMoreError(*fatal)
        return oracle

    def _read_oracle(self, run: Run) -> dict[str, Any]:
        """The oracle but its lists of files, which go into the index."""
        stored = self._kept.folder / f"{self._wanted.key}.oracle"
        self._restic.save("reading the oracle", stored, "dump", run.oracle.id, stored_oracle(self._wanted.job))
        with contextlib.closing(Index(self._kept.index)) as index, stored.open(encoding="utf-8") as stream:
            try:
                return read_oracle(stream, index.take)
            except UNREADABLE:
                text = f"the oracle {run.oracle.id[:8]} is not one this version understands"
                raise NothingMoreError(Reason("oracle_unreadable", text)) from None
            finally:
                stored.unlink()

    def _restore(self, oracle: Mapping[str, Any]) -> None:
        # the images that a database names are files, so these come with it
        wanted = ("files", "database") if self._loads else ("files",)
        parts = {part: oracle["snapshots"].get(part) for part in wanted if oracle["snapshots"].get(part)}
        sizes = self._check_space(parts, _loaded_per_dump(oracle))
        self._measure(list(parts.values()))
        began = time.monotonic()
        for part, snapshot in parts.items():
            target = f"{PLACE}/{self._wanted.key}/{part}"
            done = self._restic.call(
                "restore", snapshot, "--target", target, "--json", hear=self._hear(part, sizes[part])
            )
            reasons = classify(done, f"restoring the {part}")
            if reasons and worst(reason.verdict for reason in reasons) == INCONCLUSIVE:
                raise NothingMoreError(*reasons)
            if reasons:
                # the other part, and what came back of this one, still have something to say
                self._levels[part] = level(0, reasons)
        self._figures["phases"]["restore_s"] = time.monotonic() - began

    def _measure(self, snapshots: Sequence[str]) -> None:
        """How much comes over the line: what is stored of these snapshots, each piece once and compressed."""
        if snapshots:
            stats = self._restic.ask_json("measuring the transfer", "stats", "--mode", "raw-data", *snapshots)
            self._figures["transfer_bytes"] = int(stats["total_size"])

    def _hear(self, part: str, size: int) -> Callable[[bytes], bool]:
        self._progress.begin("restore" if part == "files" else "restore_dump", size=size)
        return self._progress.restic

    def _check_space(self, parts: Mapping[str, str], loaded_per_dump: float) -> dict[str, int]:
        """Bytes of each part; raises NothingMoreError when the disk has no room for them."""
        need, sizes = SPACE_TO_SPARE, {}
        for part, snapshot in parts.items():
            stats = self._restic.ask_json("measuring the restore", "stats", "--mode", "restore-size", snapshot)
            sizes[part] = int(stats["total_size"])
            need += int(sizes[part] * (1 if part == "files" else 1 + loaded_per_dump))
        facts = os.statvfs(self._root + PLACE)
        free = facts.f_bavail * facts.f_frsize
        if free < need:
            text = f"the restore needs {need} bytes, the restore machine's disk has {free} free"
            raise NothingMoreError(Reason("not_enough_space", text, INCONCLUSIVE))
        return sizes

    def _compare(self, oracle: Mapping[str, Any]) -> None:
        files = oracle["files"]
        if files is None:
            if "files" in self._wanted.levels:
                reason = Reason("no_files", "the oracle tells of no files, so none can be compared")
                self._levels["files"] = level(0, [reason])
            return
        noted = files.get("tripwires") or {}
        compared = self._compare_tree(files, noted.get("canaries") or ())
        reasons = [*judge_files(compared, int(files["count"])), *self._held]
        reasons += check_content(self._wanted, noted, compared, self._clean)
        reasons += self._compare_with_earlier(noted, compared)
        judged = level(compared.entries, reasons, volatile=compared.volatile, dropped=files.get("dropped", 0))
        before = self._levels.get("files")
        if before:
            judged["reasons"] = before["reasons"] + judged["reasons"]
            judged["verdict"] = worst([before["verdict"], judged["verdict"]])
        self._levels["files"] = judged
        self._figures.update({"files": compared.entries, "bytes": compared.bytes, "types": _types(files)})

    def _compare_tree(self, files: Mapping[str, Any], canaries: Iterable[str]) -> FilesCompared:
        began = time.monotonic()
        self._progress.begin("verify", files["manifest"])
        tree = f"{self._root}{PLACE}/{self._wanted.key}/files"
        try:
            with contextlib.closing(Index(self._kept.index, fresh=False)) as index:
                compared = compare(
                    tree, index, files["manifest"], files.get("must_have") or (), canaries, self._progress.add
                )
        except OSError as error:
            text = f"the restored files cannot be read on the restore machine ({os.strerror(error.errno or 0)})"
            raise NothingMoreError(Reason("restored_unreadable", text, INCONCLUSIVE)) from None
        self._figures["phases"]["compare_s"] = time.monotonic() - began
        return compared

    def _compare_with_earlier(self, noted: Mapping[str, Any], compared: FilesCompared) -> list[Reason]:
        """What has become of the files since a run of long ago. Costs that run's oracle, not its files."""
        run = self._earlier
        if run is None:
            return []
        began = time.monotonic()
        stored = self._kept.folder / f"{self._wanted.key}.earlier"
        try:
            self._restic.save(
                "reading an earlier oracle", stored, "dump", run.oracle.id, stored_oracle(self._wanted.job)
            )
            with (
                contextlib.closing(Index(self._kept.index, fresh=False)) as index,
                stored.open(encoding="utf-8") as stream,
            ):
                since = Since(index)
                read_oracle(stream, since.take)
        except NothingMoreError as stop:
            text = f"the files could not be compared with those of an earlier run ({stop})"
            return [Reason("earlier_unreadable", text, INCONCLUSIVE)]
        except UNREADABLE:
            text = f"the files were not compared with those of the earlier run {run.oracle.id[:8]}: it is of another version"
            self._result["notes"].append(Reason("earlier_unreadable", text).public())
            return []
        finally:
            stored.unlink(missing_ok=True)
        self._figures["phases"]["since_s"] = time.monotonic() - began
        self._figures["since"] = {"oracle": run.oracle.id, "arrived": utc(run.arrived), **since.changes._asdict()}
        reasons, notes = check_since(noted, compared.looks, since, run)
        self._result["notes"] += [note.public() for note in notes]
        return reasons

    def _keep(self, oracle: Mapping[str, Any]) -> None:
        """Hand over to judge: beside the machine's disk, out of reach of what runs in the machine."""
        with new_file(self._kept.state) as stream:
            stream.write(json.dumps({"oracle": oracle, "died": self._now}).encode("ascii"))
        if self._loads and oracle["database"] and "database" not in self._levels:
            self._hand_dump_over(oracle["database"]["dump_path"], _engine(oracle["database"]).dump_owner)

    def _hand_dump_over(self, dump_path: str, user: str) -> None:
        """Let the engine's user in the machine read the dump. Nothing a snapshot holds is followed out of its folder."""
        base = f"{PLACE}/{self._wanted.key}"
        steps = [step for step in dump_path.split("/") if step] or [".."]
        here = f"{self._root}{base}/database"
        for number, step in enumerate(steps, start=1):
            here = f"{here}/{step}"
            try:
                facts = os.lstat(here)
            except FileNotFoundError:
                facts = None
            wanted_kind = stat.S_ISREG if number == len(steps) else stat.S_ISDIR
            if facts is None or step == ".." or not wanted_kind(facts.st_mode):
                raise NothingMoreError(Reason("dump_missing", "the database snapshot does not hold the dump it should"))
        if os.lstat(here).st_size == 0:
            raise NothingMoreError(Reason("dump_empty", "the dump is empty (0 bytes)"))
        self._figures["dump_bytes"] = os.lstat(here).st_size
        owner = next((line for line in _passwd(self._root) if line.pw_name == user), None)
        os.rename(here, f"{self._root}{base}.dump")  # noqa: PTH104
        if owner is not None:
            os.chown(f"{self._root}{base}.dump", owner.pw_uid, owner.pw_gid)

    def _prepare_application(self) -> None:
        """Restore what the application needs of other items, and let nothing of it start by itself."""
        application = self._wanted.application
        if not application:
            return
        quiet(self._root)
        reasons: list[Reason] = []
        for other in application["needs"]:
            name = f"{self._wanted.key}.{other}"
            levels = ("arrival", "files")
            wanted = replace(
                self._wanted, item=other, job=other, levels=levels, application=None, id=name, which="newest"
            )
            found = Fetch(wanted, self._folder, self._restic, self._arrivals, (), self._now).do()
            for judged in found["levels"].values():
                reasons += [
                    Reason(each["code"], f"{other}, which it needs: {each['message']}", judged["verdict"])
                    for each in judged["reasons"]
                ]
            self._figures["phases"]["restore_s"] += sum(found["figures"]["phases"].values())
            if found["verdict"] != PASS:
                Kept(self._folder, name).state.unlink(missing_ok=True)
        if reasons:
            self._levels["application"] = level(0, reasons)


def _engine(section: Mapping[str, Any]) -> Engine:
    """Engine of an oracle's database."""
    engine = ENGINES.get(str(section.get("engine")))
    if engine is None:
        known = ", ".join(each.title for each in ENGINES.values())
        message = f"the backup is of a database engine that this version cannot restore (it knows {known})"
        raise NothingMoreError(Reason("engine_unknown", message, INCONCLUSIVE))
    return engine


def _types(files: Mapping[str, Any]) -> dict[str, int]:
    """Files by the ending of their names, from the oracle's tripwires; only endings that we know, which are nobody's name."""
    noted = (files.get("tripwires") or {}).get("types") or {}
    known = set(tripwires.TYPES) | set(tripwires.TEXT)
    return {kind: int(each["files"]) for kind, each in sorted(noted.items()) if kind in known}


def _loaded_per_dump(oracle: Mapping[str, Any]) -> float:
    return _engine(oracle["database"]).loaded_per_dump if oracle["database"] else 0


def _passwd(root: str) -> list[pwd.struct_passwd]:
    """The machine's accounts, from its own disk."""
    rows = (line.split(":") for line in Path(root + "/etc/passwd").read_text(encoding="utf-8").splitlines())
    return [pwd.struct_passwd((r[0], r[1], int(r[2]), int(r[3]), *r[4:7])) for r in rows if len(r) == 7]


# --- judge -----------------------------------------------------------------------------------------------------------


class Machine:
    """The started machine, driven from outside; leader 0: this runs on it."""

    def __init__(self, leader: int, timeout: float, runner: Runner = run) -> None:
        self._enter = ["nsenter", "--target", str(leader), "--all", "--"] if leader else []
        self._timeout = timeout
        self._run = runner

    def call(self, *argv: str, user: str = "root", stdin: bytes = b"", timeout: float | None = None) -> Done:
        """Run a program in the machine as one of its users."""
        env = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/"}
        return self._run([*self._enter, "runuser", "-u", user, "--", *argv], env, timeout or self._timeout, stdin)


def judge(
    wanted: Wanted,
    folder: str,
    machine: Machine,
    started_s: float,
    zone: tzinfo = timezone.utc,
) -> dict[str, Any]:
    """Load the dump into the started machine and compare, then try the practice's software: ``database`` and ``application``.

    started_s: how long the machine took to start. zone: of the practice, for records whose time names none.
    """
    phases: dict[str, float] = {}
    figures: dict[str, Any] = {"phases": phases}
    handed = Kept(folder, wanted.key)
    dump = f"{PLACE}/{wanted.key}.dump"
    kept = json.loads(handed.state.read_text(encoding="ascii")) if handed.state.exists() else None
    if kept and not kept["oracle"]["database"]:
        return _try_application(wanted, folder, machine, kept["oracle"], None)
    if not kept or not os.path.lexists(f"{folder}/root{dump}"):
        # fetch has said why there is nothing; a second voice here would hide that
        return {"levels": {}, "figures": {}}
    whole = kept["oracle"]
    oracle = whole["database"]
    engine = _engine(oracle)
    copy = engine.copy(machine, wanted.item, oracle)
    began = time.monotonic()
    if not copy.wait(ENGINE_START_S):
        reason = Reason("engine_not_started", f"{engine.title} did not start in the restore machine", INCONCLUSIVE)
        return {"levels": {"database": level(0, [reason])}, "figures": figures}
    phases["engine_start_s"] = started_s + time.monotonic() - began
    began = time.monotonic()
    reasons = _reasons(engine.inspect(f"{folder}/root{dump}"))
    try:
        reasons += _reasons(copy.load(dump))
    except DatabaseError as error:
        reasons.append(Reason(error.code, error.message, INCONCLUSIVE))
        return {"levels": {"database": level(0, reasons)}, "figures": figures}
    phases["load_s"] = time.monotonic() - began
    began = time.monotonic()
    try:
        restored = copy.describe(oracle)
    except (DatabaseError, OracleError) as error:
        reasons.append(Reason("query_failed", f"the restored database does not answer ({error})"))
        return {"levels": {"database": level(0, reasons)}, "figures": figures}
    phases["first_query_s"] = time.monotonic() - began
    reasons += [Reason(each.code, each.message) for each in engine.compare(oracle, restored)]
    images = restored["images"]
    if images:
        with contextlib.closing(Index(handed.index, fresh=False)) as index:
            reasons += check_images(images["names"], images["root"], index.state)
    checked, found = copy.check()
    reasons += _reasons(found)
    tried = _try_application(wanted, folder, machine, whole, copy)
    try:
        copy.drop()
    except DatabaseError as error:
        reasons.append(Reason(error.code, error.message, INCONCLUSIVE))
    figures.update(
        {
            "tables": len(oracle["tables"]),
            "rows": sum(restored["tables"].values()),
            "images": len(images["names"]) if images else 0,
        }
    )
    if wanted.newest:
        same = {name: each for name, each in oracle["probes"].items() if restored["probes"].get(name) == each}
        figures["records"] = losses(same, kept["died"], zone)
    judged = level(
        engine.checked(oracle),
        reasons,
        probes=len(restored["probes"]),
        sampled=len(restored.get("samples") or {}),
        images=figures["images"],
        engine_check=checked,
    )
    phases.update(tried["figures"].get("phases") or {})
    return {"levels": {"database": judged, **tried["levels"]}, "figures": figures}


def _try_application(
    wanted: Wanted, folder: str, machine: Machine, oracle: Mapping[str, Any], copy: Copy | None
) -> dict[str, Any]:
    """Lay out what was restored, bring the practice's software up and ask it."""
    application = wanted.application
    if not application:
        return {"levels": {}, "figures": {}}
    names = [wanted.key, *(f"{wanted.key}.{other}" for other in application["needs"])]
    states = [Kept(folder, name).state for name in names]
    if not all(state.exists() for state in states):
        # fetch has said why
        return {"levels": {}, "figures": {}}
    sources: dict[str, str] = {}
    with contextlib.ExitStack() as opened:
        indexes = []
        for name, state in zip(names, states):
            files = json.loads(state.read_text(encoding="ascii"))["oracle"]["files"]
            if files:
                sources.update(sources_of(f"{folder}/root", f"{PLACE}/{name}", files["roots"]))
                indexes.append(opened.enter_context(contextlib.closing(Index(Kept(folder, name).index, fresh=False))))
        images = oracle["database"]["questions"]["images"] if oracle["database"] else None
        trial = Trial(
            application,
            machine,
            sources,
            lambda path: hash_of(path, [index.known(path) for index in indexes]),
            images["root"] if images else "/",
            copy,
        )
        return trial.do()


def _reasons(findings: Sequence[Finding]) -> list[Reason]:
    return [Reason(*finding) for finding in findings]
