# SPDX-License-Identifier: Apache-2.0
"""``holdfast-agent restore``: bring files and dumps of a run back, into a new folder, and compare them with the oracle.

Never over live data, unless somebody asks for just that with two options and types the job's name.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import agent_files, restic
from .agent_advice import advice
from .agent_browse import Browser, Tree, browse, shown
from .agent_host import EXIT, EXIT_LOCKED, Children, Places, human, locked, write_json
from .agent_job import Job, JobError, parse, stored_dump, stored_oracle
from .agent_progress import RESTIC_PROGRESS, Progress
from .agent_runs import Run
from .agent_snapshots import FAULTS, AskedError, Repository, complaint, job_of
from .agent_start import Screen
from .agent_status import local
from .engines import ENGINES

FOLDER = "/var/tmp"  # noqa: S108 - a folder of our own in it, which must not exist before
SPARE = 64 << 20


@dataclass
class Result:
    """What a restore came to. ``state`` as everywhere; a restore that could not be compared is INCOMPLETE."""

    job: str
    run: str
    folder: str
    files: int = 0
    bytes: int = 0
    equal: int = 0
    not_comparable: int = 0
    seconds: float = 0.0
    dump: str | None = None
    recovery: dict[str, Any] | None = None
    state: str = "OK"
    reasons: list[dict[str, str]] = field(default_factory=list)

    def add(self, code: str, message: str, state: str = "FAILED") -> None:
        """Note what is wrong."""
        self.reasons.append({"code": code, "message": message})
        if self.state != "FAILED":
            self.state = state


def choose(runs: Sequence[Run], job: str, wanted: str | None) -> Run:
    """The run to restore: the one that is named, or the newest complete one that nothing holds. Raises AskedError."""
    own = [run for run in runs if run.job == job]
    if wanted:
        found = [run for run in own if run.run == wanted] or [run for run in own if run.run.startswith(wanted)]
        if len(found) != 1:
            what = f"{len(found)} runs begin so" if found else "no such run"
            raise AskedError(f"{job}: {wanted}: {what}; see: holdfast-agent snapshots {job}")
        return found[0]
    complete = [run for run in own if run.complete]
    if not complete:
        raise AskedError(f"{job}: no complete run in the repository; see: holdfast-agent snapshots {job}")
    return next((run for run in complete if not run.holds), complete[0])


def pattern(path: str) -> str:
    """A path as restic's --include takes it literally."""
    return "".join("\\" + char if char in "*?[]\\" else char for char in path)


def live_paths(job_files: Iterable[str]) -> list[str]:
    """Folders and files that the jobs of this host back up. job_files: their texts."""
    found: list[str] = []
    for text in job_files:
        try:
            job = parse(text)
        except JobError:
            continue  # a job that cannot be read names nothing; site.yml mends it
        found += job.paths
        if job.database:
            found += [job.database.images["root"]] if job.database.images else []
            found += [str(Path(job.database.path).parent)] if job.database.path else []
    return found


def check_folder(folder: str, live: Sequence[str]) -> str:
    """The folder to restore into, made or found empty. Raises AskedError."""
    real = os.path.realpath(folder)
    for path in live:
        own = os.path.realpath(path)
        if agent_files.below(real, [own]) or agent_files.below(own, [real]):
            raise AskedError(
                f"{folder} is live data, or holds it ({path}); name a new folder with --to. To put files back where they "
                "were: --in-place --force"
            )
    try:
        facts = os.lstat(real)
    except FileNotFoundError:
        parent = Path(real).parent
        if not parent.is_dir():
            raise AskedError(f"{folder}: the folder above it, {parent}, does not exist; make it first") from None
        return real
    if not stat.S_ISDIR(facts.st_mode) or next(os.scandir(real), None):
        raise AskedError(f"{folder} is there already and is not an empty folder; name a new one with --to")
    return real


def new_folder(run: Run) -> str:
    """A name that is not taken."""
    name = f"{FOLDER}/holdfast-{run.job}-{run.run}"
    return next(each for each in [name, *(f"{name}-{n}" for n in range(2, 10_000))] if not os.path.lexists(each))


def check_room(folder: str, need: int) -> None:
    """Raise AskedError when there is no room for so many bytes."""
    place = Path(folder)
    while not place.exists():
        place = place.parent
    facts = os.statvfs(place)
    free = facts.f_bavail * facts.f_frsize
    if free < need + SPARE:
        raise AskedError(
            f"{place}: {human(need)} are needed and {human(SPARE)} to spare, {human(free)} are free; name a folder on "
            "another disk with --to, or restore less with --path"
        )


def compare(folder: str, entries: Sequence[Mapping[str, Any]], result: Result, progress: Progress) -> None:
    """Compare restored files with the oracle. entries: of its manifest. Hashes only those that it can tell anything about."""
    missing, differ = [], []
    for entry in entries:
        path = folder + str(entry["path"])
        try:
            facts = os.lstat(path)
            if not stat.S_ISREG(facts.st_mode):
                differ.append(str(entry["path"]))
                continue
            result.files += 1
            result.bytes += facts.st_size
            if entry["volatile"] or not entry["blake2b"]:
                result.not_comparable += 1
                progress.add(1, facts.st_size)
                continue
            same = facts.st_size == entry["size"]
            same = same and agent_files.hash_file(path, progress.add)[0].hex() == entry["blake2b"]
        except FileNotFoundError:
            missing.append(str(entry["path"]))
            continue
        except OSError:
            same = False
        progress.add(1, 0)
        result.equal += same
        if not same:
            differ.append(str(entry["path"]))
    for code, words, found in (("files_missing", "did not come back", missing), ("files_differ", "differ", differ)):
        if found:
            named = ", ".join(shown(path) for path in found[:3])
            result.add(code, f"{len(found)} of {len(entries)} files {words}: {named}{', ...' if found[3:] else ''}")


class Restore:
    """One run of a job, opened to be restored from. Raises what FAULTS names."""

    def __init__(self, job: Job, places: Places, wanted: str | None, screen: Screen, children: Children) -> None:
        self.job, self.places, self.screen = job, places, screen
        self.repository = Repository(job, places, children)
        runs, _strangers = self.repository.runs()
        self.run = choose(runs, job.name, wanted)
        newest = next((run for run in runs if run.job == job.name), self.run)
        if newest.run != self.run.run and not wanted:
            why = f"is held ({', '.join(newest.holds)})" if newest.complete else "never came to its end"
            screen.say(
                f"{job.name}: the newest run, {newest.run}, {why}; taking the newest good one. --run takes another"
            )
        self.oracle = self._oracle()
        self.entries: dict[str, Mapping[str, Any]] = {}
        self.tree = self._tree()

    def _oracle(self) -> dict[str, Any] | None:
        if not self.run.complete:
            return None
        text = self.repository.read("dump", "--no-lock", self.run.parts["oracle"], stored_oracle(self.job.stored_as))
        found: dict[str, Any] = json.loads(text)
        for part, snapshot in found["snapshots"].items():
            if snapshot and snapshot != self.run.originals.get(part):
                raise AskedError(
                    f"{self.job.name}: the oracle of run {self.run.run} names snapshot {snapshot[:8]} ({part}), which is not "
                    "in the repository: somebody removed it. Take another run with --run"
                )
        return found

    def _tree(self) -> Tree:
        files: list[tuple[str, int]] = []
        if self.oracle and self.oracle["files"]:
            dropped = set(self.oracle["files"]["dropped"])
            self.entries = {
                str(entry["path"]): entry for entry in self.oracle["files"]["manifest"] if entry["path"] not in dropped
            }
            files += [(path, int(entry["size"])) for path, entry in self.entries.items()]
        elif "files" in self.run.parts:
            files += sorted(agent_files.stored_files(self._ls("files")).items())
        if "database" in self.run.parts:
            files += sorted(agent_files.stored_files(self._ls("database")).items())
        return Tree(files)

    def _ls(self, part: str) -> str:
        return self.repository.read("ls", "--json", "--no-lock", self.run.parts[part])

    def paths(self, said: Iterable[str]) -> list[str]:
        """Paths of the run that somebody named. Raises AskedError for one that is not in it."""
        found = []
        for each in said:
            path = self.tree.resolve(each)
            if path is None or not each.startswith("/"):
                near = self.tree.find(Path(each).name)[:3]
                hint = f"; perhaps: {', '.join(shown(path) for path in near)}" if near else ""
                raise AskedError(f"{self.job.name}: {each} is not in run {self.run.run}{hint}")
            found.append(path)
        return found

    def need(self, paths: Sequence[str]) -> int:
        """Bytes of what is to be restored."""
        chosen = {path for each in paths for path in self.tree.below(each)}
        return sum(self.tree.files[path] for path in chosen)

    def do(self, paths: Sequence[str], folder: str) -> Result:
        """Restore paths of the run below a folder (empty: where they were), and compare."""
        began = time.monotonic()
        result = Result(self.job.name, self.run.run, folder or "/")
        progress = Progress(lambda now: self.screen.show(self.job.name, now), self.job.name, self.run.run)
        chosen = sorted({path for each in paths for path in self.tree.below(each)})
        dump = stored_dump(self.job.stored_as)
        files = [path for path in chosen if path != dump]
        if files or ("files" in self.run.parts and "/" in paths):
            progress.begin("restore", len(files), sum(self.tree.files[path] for path in files))
            # the whole of a snapshot has links and empty folders that no list of files has
            self._fetch("files", [] if "/" in paths else [p for p in paths if p != dump], folder, result, progress)
        if dump in chosen:
            progress.begin("restore", 1, self.tree.files[dump])
            self._fetch("database", [dump], folder, result, progress)
            self._look_at_dump(folder + dump, result)
        self._compare(files, folder, result, progress)
        self.screen.clear()
        if not result.files:
            result.add("nothing_restored", "not one file came back")
        result.seconds = round(time.monotonic() - began, 1)
        return result

    def _fetch(self, part: str, paths: Sequence[str], folder: str, result: Result, progress: Progress) -> None:
        includes = [word for path in paths for word in ("--include", pattern(path))]
        arguments = ["restore", self.run.parts[part], "--json", "--target", folder or "/", *includes]
        command = restic.command(self.repository.restic.repository, *arguments)
        env = {**self.repository.restic.env, **RESTIC_PROGRESS}
        try:
            code, out, err = self.repository.children.run(command, env, b"", progress.restic)
        except KeyboardInterrupt:
            self.repository.children.end()
            raise
        if code != restic.OK:
            reason, words = restic.reason_of(code, restic.read_output(out, err).last_words)
            result.add(reason, words)

    def _compare(self, files: Sequence[str], folder: str, result: Result, progress: Progress) -> None:
        if not files:
            return
        entries = [self.entries[path] for path in files if path in self.entries]
        if self.oracle is None:
            there = [path for path in files if os.path.isfile(folder + path)]  # noqa: PTH113 - names may be any bytes
            result.files += len(there)
            result.not_comparable += len(there)
            result.add("no_oracle", "this run has no oracle: nothing says what these files have to be", "INCOMPLETE")
            return
        progress.begin("verify", len(entries), sum(int(entry["size"]) for entry in entries))
        compare(folder, entries, result, progress)
        if entries and not result.equal and result.not_comparable:
            result.add(
                "nothing_compared", "every file changed while it was backed up: none can be compared", "INCOMPLETE"
            )

    def _look_at_dump(self, path: str, result: Result) -> None:
        database = self.job.database
        if not os.path.isfile(path):  # noqa: PTH113
            result.add("dump_missing", "the dump did not come back")
            return
        Path(path).chmod(0o600)
        result.files += 1
        result.bytes += Path(path).stat().st_size
        result.dump = path
        if not database:
            return
        engine = ENGINES[database.engine]
        for finding in engine.inspect(path):
            result.add(finding.code, finding.message)
        version = str(((self.oracle or {}).get("database") or {}).get("version") or "")
        # what is needed beside the dump, such as the roles of a PostgreSQL server
        oracle = Path(path).with_name(Path(stored_oracle(self.job.stored_as)).name)
        write_json(oracle, self.oracle)
        words, commands = engine.recovery(database, version, Path(path).name, oracle.name)
        result.recovery = {"words": words, "commands": [f"cd {shlex.quote(str(Path(path).parent))}", *commands]}


def report(result: Result, run: Run) -> list[str]:
    """For people."""
    name = result.job
    lines = [
        f"{name}: {result.files} files, {human(result.bytes)}, of run {result.run} ({local(run.taken)}) are in {result.folder}"
    ]
    if result.equal:
        lines.append(f"{name}: {result.equal} files compared with the oracle's hashes: equal")
    if result.not_comparable:
        lines.append(f"{name}: {result.not_comparable} files could not be compared: they changed during the backup")
    if result.recovery:
        lines.append(f"{name}: the dump is {result.dump}. To load it: {result.recovery['words']}.")
        lines += [f"    {command}" for command in result.recovery["commands"]]
    for reason in result.reasons:
        lines.append(f"  {reason['code']}: {reason['message']}")
        lines.append(f"    what to do: {advice(reason['code'], name)}")
    lines.append(f"{name}: {result.state} after {result.seconds:.0f} s")
    return lines


def confirmed(restore: Restore, paths: Sequence[str]) -> None:
    """Ask somebody at a terminal to type the job's name. Raises AskedError."""
    if not sys.stdin.isatty():
        raise AskedError("--in-place asks for a confirmation: it needs a terminal")
    count = len({path for each in paths for path in restore.tree.below(each)})
    sys.stdout.write(
        f"This writes {count} files of run {restore.run.run} over what is on this machine now, below:\n"
        + "".join(f"  {shown(path)}\n" for path in paths)
        + "Stop the programs that use them first. What was changed since that run is lost.\n"
    )
    if input(f"Type the name of the job, {restore.job.name}, to go on: ").strip() != restore.job.name:
        raise AskedError("not confirmed; nothing was changed")


def restore_job(wanted: Any, places: Places) -> int:
    """``restore``: exit code."""
    name = str(wanted.job)
    children, screen = Children(), Screen(sys.stdout, wanted.json)
    said = [*wanted.path, *(["/"] if wanted.all else [])]
    browsing = not said and not wanted.database
    try:
        if wanted.in_place != wanted.force:
            raise AskedError("to write over live data takes both: --in-place --force")
        if wanted.in_place and (wanted.to or browsing):
            raise AskedError("--in-place takes --path or --all, and no --to")
        if browsing and (wanted.json or not sys.stdin.isatty()):
            raise AskedError("without a terminal, say what to restore: --path PATH, --database or --all")
        live = live_paths(path.read_text(encoding="utf-8") for path in (places.etc / "jobs").glob("*.json"))
        folder = check_folder(wanted.to, live) if wanted.to else ""
        restore = Restore(job_of(name, places), places, wanted.run, screen, children)
        if wanted.database:
            said.append(stored_dump(restore.job.stored_as))
        if wanted.in_place:
            return _in_place(restore, said)
        folder = folder or new_folder(restore.run)
        if not browsing:
            return _into(restore, said, folder)
        screen.say(f"{name}: run {restore.run.run} of {local(restore.run.taken)}; what you get goes to {folder}")
        return browse(Browser(name, restore.tree, lambda paths: _into(restore, paths, folder)))
    except FAULTS as error:
        screen.clear()
        return complaint(error, name)
    except KeyboardInterrupt:
        screen.clear()
        sys.stderr.write(f"{name}: stopped by ^C; what is in the folder by now is only a part\n")
        return 1
    finally:
        children.end()


def _into(restore: Restore, said: Sequence[str], folder: str) -> int:
    try:
        paths = restore.paths(said)
        check_room(folder, restore.need(paths))
    except AskedError as error:
        return complaint(error, restore.job.name)
    # nobody else looks into it: it holds what only the practice's people may see
    Path(folder).mkdir(mode=0o700, exist_ok=True)
    Path(folder).chmod(0o700)
    return _tell(restore, restore.do(paths, folder))


def _in_place(restore: Restore, said: Sequence[str]) -> int:
    paths = restore.paths(said)
    if stored_dump(restore.job.stored_as) in paths or ("/" in paths and "database" in restore.run.parts):
        raise AskedError(
            "a dump is a file to load: restore it with --database, into a new folder; in place, name --path"
        )
    confirmed(restore, paths)
    with locked(restore.places, restore.job.name) as free:
        if not free:
            sys.stderr.write(f"{restore.job.name}: a backup of this job is under way; wait for its end\n")
            return EXIT_LOCKED
        return _tell(restore, restore.do(paths, ""))


def _tell(restore: Restore, result: Result) -> int:
    for line in report(result, restore.run):
        restore.screen.say(line)
    restore.screen.result(asdict(result))
    return EXIT[result.state]


def register(verbs: Any) -> None:
    """The verb of this part."""
    verb = verbs.add_parser(
        "restore", help="bring files or a dump back, into a new folder; on a terminal, look around first"
    )
    verb.add_argument("job")
    verb.add_argument(
        "--run", help="which run (as snapshots lists them; its beginning is enough); the newest complete one"
    )
    verb.add_argument("--path", action="append", default=[], help="file or folder to restore; may be repeated")
    verb.add_argument("--database", action="store_true", help="the dump of the database, as a file")
    verb.add_argument("--all", action="store_true", help="everything that the run has")
    verb.add_argument("--to", metavar="FOLDER", help=f"a new folder; by default one below {FOLDER}")
    verb.add_argument("--in-place", action="store_true", help="write over the files where they were (with --force)")
    verb.add_argument("--force", action="store_true", help="with --in-place: yes, over live data")
    verb.add_argument("--json", action="store_true", help="JSON lines: progress, then the result")
    verb.set_defaults(call=restore_job)
