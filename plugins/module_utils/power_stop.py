# SPDX-License-Identifier: Apache-2.0
"""How long this host takes to stop, and whether a UPS ordered it: the program ``stop``, which systemd runs.

``start`` runs early at boot, ``begin`` when a stop begins, ``end`` when every service has stopped and the disks are still
there. A stop is measured on the monotonic clock, so a clock that jumps changes nothing. A host that loses its power in
between keeps a record without ``seconds``: unfinished, never short.

The flag with which upsmon says that it stops the host for its UPS is believed once, when a stop begins right after it.
Only then is there a mark for the late hook. A flag that an aborted stop left orders nothing.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEEP = 50
SLOWEST = 5
# upsmon sets its flag and calls the shutdown command in one go; what is older was left by a stop that never came
FRESH_S = 120.0
# room for one more list of stops when the disk is full
RESERVE = 64 * 1024
BEGIN_UNIT = "holdfast-power-begin.service"
OFF = ("poweroff.target", "halt.target")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Places:
    """Where things are on a host."""

    state: Path = Path("/var/lib/holdfast-power")
    run: Path = Path("/run/holdfast-power")

    @property
    def stops(self) -> Path:
        """The records, newest last."""
        return self.state / "stops.json"

    @property
    def reserve(self) -> Path:
        """What is given up when the disk is full."""
        return self.state / "reserve"

    @property
    def boot(self) -> Path:
        """Id of the boot that was noted last."""
        return self.state / "boot"

    @property
    def begun(self) -> Path:
        """What is known of a stop that has begun."""
        return self.run / "begun.json"

    @property
    def ordered(self) -> Path:
        """There only while the host stops because its UPS ordered it."""
        return self.run / "ordered"

    @property
    def came_back(self) -> Path:
        """How the boot before this one ended."""
        return self.run / "came-back.json"


def say(text: str) -> None:
    """Tell the journal."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a service's standard error is the journal


def is_ordered(flag_age_s: float | None, jobs: Sequence[str]) -> bool:
    """Say whether a UPS ordered the stop that begins. flag_age_s: None without a flag; jobs: targets on their way. Pure."""
    fresh = flag_age_s is not None and -FRESH_S <= flag_age_s <= FRESH_S
    return fresh and any(target in jobs for target in OFF)


def jobs_of(listing: str) -> list[str]:
    """Units that are about to start, from ``systemctl list-jobs --plain --no-legend``. Pure."""
    rows = [line.split() for line in listing.splitlines()]
    return [row[1] for row in rows if len(row) >= 3 and row[2] == "start"]


def slowest(shown: str, since_s: float) -> dict[str, float]:
    """Seconds that the slowest units took to stop, from ``systemctl show``: one block a unit. Pure."""
    took = {}
    for block in shown.strip().split("\n\n"):
        facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        began = int(facts.get("ActiveExitTimestampMonotonic") or 0) / 1e6
        ended = int(facts.get("InactiveEnterTimestampMonotonic") or 0) / 1e6
        if began >= since_s and ended >= began and facts.get("Id"):
            took[facts["Id"]] = round(ended - began, 2)
    worst = sorted(took, key=lambda unit: (-took[unit], unit))[:SLOWEST]
    return {unit: took[unit] for unit in worst}


def with_begun(records: Sequence[Mapping[str, Any]], begun: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Add an unfinished record. Pure."""
    entry = {
        "boot_id": begun["boot_id"],
        "began": begun["began"],
        "seconds": None,
        "on_battery": begun["on_battery"],
        "units": {},
    }
    return [*(dict(r) for r in records if r.get("boot_id") != begun["boot_id"]), entry][-KEEP:]


def with_ended(
    records: Sequence[Mapping[str, Any]], boot_id: str, seconds: float, units: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Finish the record of this boot. Pure."""
    ended = {"seconds": round(seconds, 2), "units": dict(units)}
    return [{**r, **ended} if r.get("boot_id") == boot_id else dict(r) for r in records]


def was_outage(previous: str | None, records: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether the boot before this one ended by its UPS's order, or without a word. Pure."""
    if previous is None:
        return False
    record = next((r for r in reversed(records) if r.get("boot_id") == previous), None)
    return record is None or record.get("seconds") is None or bool(record.get("on_battery"))


def read_stops(path: Path) -> list[dict[str, Any]]:
    """Read the records; a file that is not a list of them is put aside and said."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list) or not all(isinstance(r, dict) and "boot_id" in r for r in found):
            raise ValueError("not a list of stops")
    except FileNotFoundError:
        return []
    except ValueError as error:
        say(f"{path}: {error}; it is now {path.name}.unreadable, and the records begin anew")
        path.replace(path.with_name(path.name + ".unreadable"))
        return []
    return found


def _put(path: Path, data: bytes) -> None:
    """Replace a file in one step that is on the disk afterwards; what was there stays when it fails."""
    temporary = path.with_name("." + path.name)
    try:
        with temporary.open("wb") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def text_of(content: Any) -> str:
    """Write data as text. Pure."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def put(places: Places, path: Path, text: str) -> None:
    """Write a file of ours, on a full disk into the room that was kept for it."""
    data = text.encode("ascii")
    try:
        _put(path, data)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        say(f"{path}: no space left; the room that was kept for this is used")
        places.reserve.unlink(missing_ok=True)
        _put(path, data)


def keep_room(places: Places) -> None:
    """Keep room for the records. Without it they are written all the same while the disk has some."""
    try:
        if not places.reserve.is_file() or places.reserve.stat().st_size < RESERVE:
            _put(places.reserve, os.urandom(RESERVE))
    except OSError as error:
        say(f"{places.reserve}: {error.strerror}; should the disk stay full, the next stop is not recorded")


def ask(*command: str) -> str:
    """Run a command of systemd and return what it says, whatever its exit code: it is only asked."""
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return run.stdout


def start(places: Places, flag: Path) -> int:
    """At boot: no flag of an earlier stop is left, and how that one ended is noted."""
    places.run.mkdir(mode=0o700, exist_ok=True)
    places.state.mkdir(mode=0o755, exist_ok=True)
    if flag.exists():
        say(f"{flag} was left by an earlier stop; it is removed and orders nothing")
        flag.unlink()
    places.ordered.unlink(missing_ok=True)
    places.begun.unlink(missing_ok=True)
    boot_id = BOOT_ID.read_text(encoding="ascii").strip()
    previous = places.boot.read_text(encoding="ascii").strip() or None if places.boot.exists() else None
    if previous != boot_id:
        outage = was_outage(previous, read_stops(places.stops))
        put(places, places.came_back, text_of({"boot_id": boot_id, "outage": outage}))
        keep_room(places)
        put(places, places.boot, boot_id + "\n")
    return 0


def begin(places: Places, flag: Path) -> int:
    """When a stop begins: judge the flag, note the beginning."""
    if ask("systemctl", "is-system-running").strip() != "stopping":
        return 0  # only this service is stopped, as by an update
    age = time.time() - flag.stat().st_mtime if flag.exists() else None
    jobs = jobs_of(ask("systemctl", "list-jobs", "--plain", "--no-legend"))
    ordered = is_ordered(age, jobs)
    if ordered:
        places.ordered.write_text("", encoding="ascii")
    elif age is not None:
        say(f"{flag} is {age:.0f} seconds old or no order to switch off: the UPS is not told to cut the power")
    flag.unlink(missing_ok=True)
    units = ask("systemctl", "list-units", "--type=service", "--plain", "--no-legend", "--state=active,deactivating")
    begun = {
        "boot_id": BOOT_ID.read_text(encoding="ascii").strip(),
        "began": round(time.time(), 2),
        "mono": time.monotonic(),
        "on_battery": ordered,
        "units": [line.split()[0] for line in units.splitlines() if line.strip()],
    }
    places.begun.write_text(json.dumps(begun), encoding="ascii")
    put(places, places.stops, text_of(with_begun(read_stops(places.stops), begun)))
    return 0


def end(places: Places) -> int:
    """When all services have stopped: finish the record."""
    if not places.begun.exists():
        return 0
    begun = json.loads(places.begun.read_text(encoding="ascii"))
    now = time.monotonic()
    properties = "--property=Id,ActiveExitTimestampMonotonic,InactiveEnterTimestampMonotonic"
    # systemd knows a little better than this program when it began
    exact = ask("systemctl", "show", "--property=ActiveExitTimestampMonotonic", "--value", BEGIN_UNIT).strip()
    since = min(float(begun["mono"]), int(exact) / 1e6 if exact.isdigit() and int(exact) else float(begun["mono"]))
    shown = ask("systemctl", "show", properties, "--", *begun["units"]) if begun["units"] else ""
    records = with_ended(read_stops(places.stops), begun["boot_id"], now - since, slowest(shown, since - 1))
    put(places, places.stops, text_of(records))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the program: start FLAG, begin FLAG, end."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    places = Places()
    if len(words) == 2 and words[0] == "start":
        return start(places, Path(words[1]))
    if len(words) == 2 and words[0] == "begin":
        return begin(places, Path(words[1]))
    if words == ["end"]:
        return end(places)
    say("usage: stop start FLAG | begin FLAG | end")
    return 2
