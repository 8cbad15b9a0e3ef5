# SPDX-License-Identifier: Apache-2.0
"""After a power cut: which databases have to be checked before a backup of theirs counts.

A unit that starts with the machine writes down the boot, and when the machine stops in good order, after everything else, that
it did. A boot whose predecessor did not say so was unclean: every job with a database gets a note, and keeps it until its
engine has found the live database sound.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any, Callable

from .agent_host import Places, read_json, say, utc, write_json
from .database_engine import Database, DatabaseError, Engine, Tools

HOLD = "unclean-boot"
SYSTEMCTL = "/usr/bin/systemctl"


def was_unclean(before: dict[str, Any] | None, there: bool, boot_id: str) -> bool:
    """Did the boot before this one end without a word? before: what it wrote; there: it wrote something. Pure.

    A note that cannot be read was being written when the power went.
    """
    if before is None:
        return there
    return before.get("boot_id") != boot_id and not before.get("stopped")


def booted(places: Places) -> int:
    """Write down this boot; after an unclean one, the databases to check."""
    boot = places.boot_id.read_text(encoding="ascii").strip()
    unclean = was_unclean(read_json(places.boot), places.boot.exists(), boot)
    if unclean:
        say("this machine went down without being stopped: databases are checked before their next backup counts", 4)
        for path in sorted((places.etc / "jobs").glob("*.json")):
            if (read_json(path) or {}).get("database"):
                write_json(places.unclean(path.stem), {"boot_id": boot, "since": utc(time.time())})
    write_json(places.boot, {"boot_id": boot, "stopped": False})
    return 0


def stopping(places: Places, state: str) -> int:
    """The machine stops in good order. state: of the system; somebody who stops only this unit does not stop the machine."""
    if state == "stopping":
        boot = places.boot_id.read_text(encoding="ascii").strip()
        write_json(places.boot, {"boot_id": boot, "stopped": True})
    return 0


def examine(
    places: Places, job: str, database: Database, engine: Engine, tools: Tools, add: Callable[[str, str], None]
) -> list[str]:
    """Let the engine check a live database after an unclean boot; returns holds. add(code, message) makes the run INCOMPLETE."""
    note = read_json(places.unclean(job))
    if not places.unclean(job).exists():
        return []
    since = f"after the unclean boot of {(note or {}).get('since', 'unknown date')}"
    began = time.monotonic()
    try:
        done, findings = engine.sound(database, tools)
    except DatabaseError as error:
        message = f"{database.label} could not be checked {since} ({error.message}); the next run tries again"
        add("unclean_boot_unchecked", message)
        return [HOLD]
    if findings:
        what = "; ".join(finding.message for finding in findings)
        add("unclean_boot_damaged", f"{database.label} is damaged {since}: {what}. Have it mended, or restore it")
        return [HOLD]
    places.unclean(job).unlink()
    if done != "done":
        add(
            "unclean_boot_unchecked",
            f"{database.label}: {engine.title} has no check of a live database; prove a restore",
        )
        return [HOLD]
    say(f"{job}: {database.label} was found sound {since}, in {time.monotonic() - began:.0f} s", 5)
    return []


def _systemctl(*arguments: str) -> str:
    done = subprocess.run([SYSTEMCTL, *arguments], stdout=subprocess.PIPE, text=True, env=dict(os.environ), check=False)
    return done.stdout.strip()


def register(verbs: Any) -> None:
    """The verbs of this part, for the boot's own unit."""
    begun = verbs.add_parser("booted", help="write down the boot (used by the service)")
    begun.set_defaults(call=lambda _wanted, places: booted(places))
    ended = verbs.add_parser("stopping", help="write down that the machine is stopped (used by the service)")
    ended.set_defaults(call=lambda _wanted, places: stopping(places, _systemctl("is-system-running")))
