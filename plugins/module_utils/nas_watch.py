# SPDX-License-Identifier: Apache-2.0
"""The watch on the NAS: a host from which nothing new arrives is told by mail. The program nas_watch runs it on a timer.

It reads names and times of snapshots, never what is in them. The times are the NAS's own, so a host whose clock or agent is
wrong, or that is off, cannot look well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import nas_arrivals, notice
from .agent_host import EXIT_INVALID, EXIT_LOCKED, read_json, say
from .notice import Condition, News, Words

FOOT = "On the NAS, journalctl -u holdfast-nas-watch shows what this watch saw and sent."
POOL = "the repositories"


@dataclass(frozen=True)
class NasPlaces:
    """Where things are on the NAS."""

    etc: Path = Path("/etc/holdfast-nas-watch")
    state: Path = Path("/var/lib/holdfast-nas-watch")
    run: Path = Path("/run/holdfast-nas-watch")


def newest(arrivals: Mapping[str, float], now: float) -> float | None:
    """When the newest snapshot came; what lies ahead of the clock does not count. Pure."""
    return max((at for at in arrivals.values() if at <= now + notice.FUTURE_S), default=None)


def condition_of(last: float | None, first_seen: float, awake: float, silent_after_s: float, now: float) -> Condition:
    """How a host is, seen from here; all in seconds since the epoch. Pure.

    After the NAS itself was off, a host has its whole time again: there was nobody to send anything to.
    """
    since = notice.late_since(last, first_seen, awake, silent_after_s, silent_after_s, now)
    return Condition("SILENT", ("silent",), since, last) if since is not None else Condition("OK", (), 0.0, last)


def conditions(folder: Path, hosts: Mapping[str, float], memory: notice.Memory, now: float) -> dict[str, Condition]:
    """How every host is, and the repositories themselves. hosts: {name: seconds of silence that are too many}."""
    if not os.path.ismount(folder.parent):
        lost = Condition("MISSING", ("pool_missing",), now, None)
        return {POOL: lost, **{name: Condition(notice.WAITING) for name in hosts}}
    found = {POOL: Condition("OK")}
    for name, silent_after_s in hosts.items():
        last = newest(nas_arrivals.snapshots_in(folder / name), now)
        found[name] = condition_of(last, memory.seen[name]["at"], memory.awake, silent_after_s, now)
    return found


def words_for(nas: str, each: News) -> Words:
    """What is said of a host, or of the repositories."""
    if each.subject == POOL:
        return Words(
            f"repositories on {nas}",
            ["the disks that hold the backups are not mounted"],
            ["Look at the disks of the NAS at once: no host can be backed up. site.yml mounts the pool again."],
        )
    return Words(
        f"{each.subject}, seen from {nas},",
        ["nothing new arrived from this host for longer than its backups allow"],
        [
            "Look whether the host is on and reaches the NAS, then on the host at holdfast-agent status.",
            "For a machine that may be off for longer: raise its may_be_off in the practice document.",
        ],
    )


def watch(places: NasPlaces) -> int:
    """Look at every repository, tell what is new, send what waits. Exit code 1 when something could not be sent."""
    settings, task = read_json(places.etc / "mail.json"), read_json(places.etc / "watch.json")
    if settings is None or task is None:
        say(f"{places.etc}: mail.json or watch.json is missing or damaged: nobody can be told; run site.yml", 3)
        return EXIT_INVALID
    credentials = Path(os.environ.get("CREDENTIALS_DIRECTORY") or places.etc)
    post = notice.Post(
        settings,
        places.state / "memory.json",
        places.run / "watch.lock",
        places.etc / "mail.pem",
        credentials / "mail-password",
    )
    hosts = {str(name): float(seconds) for name, seconds in task["hosts"].items()}
    now = time.time()
    with post.locked() as free:
        if not free:
            say("another watch is at work; this one does nothing", 5)
            return EXIT_LOCKED
        memory = post.load()
        notice.look(memory, {POOL: 0.0, **hosts}, now)
        found = conditions(Path(task["folder"]), hosts, memory, now)
        news, memory.told = notice.decide(memory.told, found, now, remind=not memory.queue)
        post.tell(memory, news, lambda each: words_for(str(settings["host"]), each), FOOT, now)
        post.save(memory)
        return 0 if post.send(memory, now) else 1


def main(_argv: Any = None) -> int:
    """Entry of the program; returns its exit code."""
    os.umask(0o077)
    try:
        return watch(NasPlaces())
    except OSError as error:
        say(f"the watch cannot read or write on this NAS: {error}", 3)
        return 1
