# SPDX-License-Identifier: Apache-2.0
"""What every part of the agent stands on: where things are on a host, files that are put in place whole, its own processes."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Callable

VERSION = "0.1.0"
SCHEMA = 1
EXIT = {"OK": 0, "FAILED": 1, "INCOMPLETE": 2}
EXIT_INVALID, EXIT_LOCKED = 3, 4
# the unit's RestartForceExitStatus: not now, try again
EXIT_DEFERRED = 75
STOP_S = 20
# fcntl has it from Python 3.10
F_SETPIPE_SZ = 1031
PIPE_BYTES, BLOCK = 1 << 20, 1 << 15
BREATH_S = 0.005
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@dataclass(frozen=True)
class Places:
    """Where things are on a host."""

    etc: Path = Path("/etc/holdfast")
    state: Path = Path("/var/lib/holdfast")
    cache: Path = Path("/var/cache/holdfast")
    run: Path = Path("/run/holdfast")
    machine_id: Path = Path("/etc/machine-id")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")

    @property
    def seen(self) -> Path:
        """Which repositories they were that were opened last."""
        return self.state / "repositories.json"

    def job(self, name: str) -> Path:
        """File of a job."""
        return self.etc / "jobs" / f"{name}.json"

    def status(self, name: str) -> Path:
        """Last status record of a job."""
        return self.state / "status" / f"{name}.json"

    def oracle(self, name: str) -> Path:
        """Last oracle of a job."""
        return self.state / "oracle" / f"{name}.json"

    def manifest_cache(self, name: str) -> Path:
        """Hashes of files that have not changed since."""
        return self.state / "cache" / f"{name}.json"

    def progress(self, name: str) -> Path:
        """How far the run under way is."""
        return self.run / f"{name}.progress.json"

    def tripwires(self, name: str) -> Path:
        """What the tripwires know: history, canaries seen, a suspicion that stands."""
        return self.state / "tripwires" / f"{name}.json"

    def running(self, name: str) -> Path:
        """Says that a run began; gone when its record is written."""
        return self.state / "running" / f"{name}.json"

    @property
    def boot(self) -> Path:
        """Which boot this is, and whether it ended in good order."""
        return self.state / "boot.json"

    def unclean(self, name: str) -> Path:
        """Says that a job's database is to be checked after an unclean boot; gone when it was found sound."""
        return self.state / "unclean" / f"{name}.json"

    def deferred(self, name: str) -> Path:
        """Says that a job waits, and for what; gone when it runs."""
        return self.state / "deferred" / f"{name}.json"

    def unrecorded(self, name: str) -> Path:
        """What came of a run whose record could not be written. In memory, where a full disk does not matter."""
        return self.run / f"{name}.unrecorded.json"


def say(text: str, severity: int = 6) -> None:
    """One line for the journal; systemd takes the severity from the prefix."""
    prefix = f"<{severity}>" if "JOURNAL_STREAM" in os.environ else ""
    line = " ".join(text.split())
    sys.stdout.buffer.write((prefix + line + "\n").encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def utc(seconds: float) -> str:
    """ISO 8601 in UTC, whole seconds."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """Seconds since 1970 of what ``utc`` wrote."""
    moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def human(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def new_of(path: Path) -> Path:
    """Where a file is written before it is put in place."""
    return path.with_name(f".{path.name}.new")


def put_new(path: Path, pieces: Iterable[str]) -> Path:
    """Write a file beside its place, for root's eyes only; ``replace`` of what it returns puts it there in one step."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = new_of(path)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        for piece in pieces:
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
    return new


def write_json(path: Path, content: Any) -> None:
    """Put a file in place in one step, for root's eyes only."""
    put_new(path, [json.dumps(content, ensure_ascii=True, indent=1, sort_keys=True)]).replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read an object from a JSON file; None when it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


class Begun:
    """A program that was started and gets what it reads; ``watch`` waits for its end."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes) -> None:
        assert process.stdin
        assert process.stderr
        self._process = process
        self._said: list[bytes] = []
        self._threads = [
            threading.Thread(
                target=lambda source: self._said.append(source.read()), args=(process.stderr,), daemon=True
            ),
            threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def watch(self, take: Callable[[bytes], bool]) -> tuple[int, str, str]:
        """``communicate`` that hands over lines as they come: (exit code, lines that nobody took, errors)."""
        process = self._process
        assert process.stdout
        assert process.stderr
        kept = b"".join(line for line in _lines(process.stdout.fileno()) if not take(line))
        process.wait()
        for thread in self._threads:
            thread.join()
        process.stdout.close()
        process.stderr.close()
        return process.returncode, _text(kept), _text(b"".join(self._said))


def _text(said: bytes) -> str:
    return said.decode("utf-8", "surrogateescape")


def _lines(pipe: int) -> Iterator[bytes]:
    """Lines of a program, many at a time: to be woken for each of them would cost it and the agent more than its work."""
    with contextlib.suppress(OSError):  # a smaller pipe is only slower
        fcntl.fcntl(pipe, F_SETPIPE_SZ, PIPE_BYTES)
    rest = b""
    while True:
        block = os.read(pipe, BLOCK)
        if not block:
            break
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(block) < BLOCK:
            time.sleep(BREATH_S)
    if rest:
        yield rest


def _feed(pipe: IO[bytes], content: bytes) -> None:
    """Write and close; a program that ended before it read everything says so with its exit code."""
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(content)


@contextlib.contextmanager
def locked(places: Places, name: str) -> Iterator[bool]:
    """Hold the job's lock; False when another process has it. The kernel frees it when its holder dies."""
    places.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(places.run / f"{name}.lock", "w", encoding="ascii") as stream:  # noqa: PTH123
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


class Children:
    """Processes that the agent started. They never outlive it."""

    def __init__(self) -> None:
        self._alive: list[subprocess.Popen[bytes]] = []

    def start(self, argv: Sequence[str], env: Mapping[str, str], **pipes: Any) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own."""
        process = subprocess.Popen(list(argv), env=dict(env), start_new_session=True, cwd="/", **pipes)
        self._alive = [p for p in self._alive if p.poll() is None]
        self._alive.append(process)
        return process

    def run(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: bytes = b"",
        take: Callable[[bytes], bool] | None = None,
    ) -> tuple[int, str, str]:
        """Run to the end: (exit code, output, errors); a program that is missing has code 127.

        take is given each line of output as it comes; a line that it takes (returns True) is not part of the output.
        """
        try:
            if take:
                return self.begin(argv, env, stdin).watch(take)
            process = self.start(argv, env, **PIPES)
        except FileNotFoundError:
            return 127, "", f"{argv[0]}: not installed"
        out, err = process.communicate(stdin)
        return process.returncode, _text(out), _text(err)

    def begin(self, argv: Sequence[str], env: Mapping[str, str], stdin: bytes = b"", **more: Any) -> Begun:
        """Start a program that is watched later."""
        return Begun(self.start(argv, env, **PIPES, **more), stdin)

    def end(self) -> None:
        """Stop what still runs: ask, wait, insist."""
        for sign, patience in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
            alive = [p for p in self._alive if p.poll() is None]
            for process in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
            deadline = time.monotonic() + patience
            for process in alive:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
