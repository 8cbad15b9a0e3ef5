# SPDX-License-Identifier: Apache-2.0
"""A run among others: one job of a host at a time, a machine that stays awake, a network that is back."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, TypeVar

from .agent_host import Places, say, utc, write_json
from .backup_nas import NasError

# A name that no job can have
LOCK = "@host.lock"
# A long first backup must not hold up the database that is backed up every hour
WAIT_S = 3600.0
POLL_S = 1.0
AHEAD_S = 120
NETWORK_S, AGAIN_S = 90.0, 3.0
# After an outage machines start in any order, and a NAS may take this long after the first of them
STARTED_S = 900.0
# A service that is started anew, and that makes way for maintenance or comes back from it
RESTART_S = 20.0
# After that it is closed by itself: see nas_maintenance
MAINTENANCE_S = 7200.0
# how the boot before this one ended, as the role power leaves it
CAME_BACK = Path("/run/holdfast-power/came-back.json")
Found = TypeVar("Found")


def tell_systemd(text: str) -> None:
    """One message to the service's manager; nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text.encode("ascii"), "\0" + address[1:] if address.startswith("@") else address)


def _take(stream: Any) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def turn(places: Places, job: str, time_limit_s: int) -> Iterator[None]:
    """Wait while another job of this host runs, an hour at most. The time limit counts from when it is this job's turn."""
    places.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = places.run / LOCK
    with open(path, "a+", encoding="ascii") as stream:  # noqa: PTH123
        mine = _take(stream)
        if not mine:
            mine = _wait(places, job, path, stream)
        if mine:
            stream.truncate(0)
            stream.write(job)
            stream.flush()
        if time_limit_s:
            tell_systemd(f"EXTEND_TIMEOUT_USEC={time_limit_s * 1_000_000}")
        yield


def _wait(places: Places, job: str, path: Path, stream: Any) -> bool:
    other = path.read_text(encoding="ascii").strip() or "another job"
    message = f"waits for {other}, which is being backed up on this host"
    say(f"{job}: {message}", 5)
    write_json(places.deferred(job), {"code": "host_busy", "message": message, "since": utc(time.time())})
    began = time.monotonic()
    while not _take(stream):
        if time.monotonic() - began >= WAIT_S:
            say(f"{job}: has waited for {WAIT_S / 60:.0f} minutes; begins beside {other}", 4)
            return False
        tell_systemd(f"EXTEND_TIMEOUT_USEC={AHEAD_S * 1_000_000}")
        time.sleep(POLL_S)
    return True


@contextlib.contextmanager
def awake(job: str, wanted: bool) -> Iterator[None]:
    """Keep a workstation from falling asleep, where logind is there to be asked. Ends with the agent, however that ends."""
    held = None
    if wanted:
        why = f"--why=Backup of {job}"
        command = ["systemd-inhibit", "--what=sleep", "--mode=block", "--who=Holdfast", why, "cat"]
        with contextlib.suppress(OSError):
            held = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
            )
    try:
        yield
    finally:
        if held and held.stdin:
            if held.poll() is not None:
                say(f"{job}: nobody could be asked to keep this machine awake during the run", 5)
            held.stdin.close()
            held.wait()


def machine_up_s() -> float:
    """Seconds since this machine's first process began (a container has its carrier's uptime)."""
    ticks = int(Path("/proc/1/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def outage_left_s(came_back: Path = CAME_BACK) -> float:
    """Seconds for which an outage may still be the reason that the NAS is not there yet; 0 without one."""
    try:
        outage = bool(json.loads(came_back.read_text(encoding="ascii")).get("outage"))
    except FileNotFoundError:
        return 0.0
    except (OSError, ValueError) as error:
        say(f"{came_back}: {error}; the NAS gets no more time than usual", 4)
        return 0.0
    return max(0.0, STARTED_S - machine_up_s()) if outage else 0.0


def once_the_network_is_back(
    job: str,
    ask: Callable[[], Found],
    maintained: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> Found:
    """Ask the NAS; a machine that has just woken up has its network some seconds later. A NAS that refuses is up.

    After an outage the NAS gets time to start too: then it may also refuse, before its service runs. maintained: whether it
    refuses because its repositories are under maintenance, which has an end.
    """
    began, said = time.monotonic(), ""
    starting_s = outage_left_s()
    while True:
        try:
            return ask()
        except NasError as error:
            up = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ECONNREFUSED
            patience_s, why = max(RESTART_S if up else NETWORK_S, starting_s), "it may not be back yet"
            if up and maintained():
                patience_s, why = MAINTENANCE_S, "its repositories are under maintenance"
            if error.code != "nas_unreachable" or time.monotonic() - began >= patience_s:
                raise
            if said != why:
                say(f"{job}: the NAS does not answer; asked again for {patience_s:.0f} s, as {why}", 5)
            said = why
            sleep(AGAIN_S)
