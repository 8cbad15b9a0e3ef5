# SPDX-License-Identifier: Apache-2.0
"""After a boot: the runs that the last shutdown, reboot or power cut ended, or kept waiting, are started again.

A timer that catches up does not do this: for it the run has been made as soon as it began.
"""

from __future__ import annotations

from typing import Any

from .agent_host import Children, Places, read_json, say
from .agent_run import settle_job


def cut_off(places: Places) -> list[str]:
    """Jobs whose newest run ended with another boot: cut off without a record, stopped by a shutdown, or deferred till then."""
    boot = places.boot_id.read_text(encoding="ascii").strip()
    found = []
    for path in sorted((places.etc / "jobs").glob("*.json")):
        begun = read_json(places.running(path.stem))
        record = read_json(places.status(path.stem)) or {}
        stopped = any(reason.get("code") == "stopped" for reason in record.get("reasons", []))
        waited = places.deferred(path.stem).exists()
        if waited or (begun and begun["facts"]["boot_id"] != boot) or (stopped and record.get("boot_id") != boot):
            found.append(path.stem)
    return found


def resume(places: Places) -> int:
    """``agent resume``: 0, or 1 when systemd did not take a start. It does not wait for the runs."""
    failed = 0
    for name in cut_off(places):
        settle_job(name, places, {})
        say(f"{name}: its last run ended with the host; it is started again", 5)
        start = ["systemctl", "start", "--no-block", f"holdfast-backup@{name}.service"]
        code, _out, err = Children().run(start, {"PATH": "/usr/bin:/bin"})
        if code != 0:
            say(f"{name}: systemd did not start it: {err.strip()}", 3)
            failed = 1
    return failed


def register(verbs: Any) -> None:
    """The verb of this part."""
    verb = verbs.add_parser("resume", help="start again what a reboot cut off (used at boot)")
    verb.set_defaults(call=lambda _wanted, places: resume(places))
