# SPDX-License-Identifier: Apache-2.0
"""What the last runs on this host came to, what runs now, and what comes next."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from . import notice
from .agent_advice import advice
from .agent_host import EXIT, Places, read_json, seconds_of, utc
from .agent_notice import MEMORY
from .agent_progress import words

UNIT = "holdfast-backup@{}.service"


def overview(places: Places, now: float, timers: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """One row for each job. A job that never ran is FAILED.

    {job, state, finished, age_s, last_ok, running, progress (as agent_progress writes it, or None), next_run, deferred
    ({code, message, since} or None), unclean (since when its database waits to be found sound after the host went down, or None),
    mail (what could not be sent: {waiting, code, message, since}, or None), reasons [{code,
    message, advice}]}. timers: {job: seconds since 1970 of its next run}.
    """
    rows = []
    trouble = notice.standing(places.state / MEMORY)
    boot = places.boot_id.read_text(encoding="ascii").strip()
    for path in sorted((places.etc / "jobs").glob("*.json")):
        name = path.stem
        record = {**(read_json(places.status(name)) or {}), **(read_json(places.unrecorded(name)) or {})}
        begun = read_json(places.running(name))
        if begun and begun["facts"]["boot_id"] != boot:
            reason = {"code": "killed", "message": f"the host went down during the run of {utc(begun['started'])}"}
            record = {**record, "state": "FAILED", "reasons": [reason]}
            begun = None
        finished = record.get("finished")
        age = now - seconds_of(finished) if finished else None
        reasons = record.get("reasons", [{"code": "never_ran", "message": "this job has not run yet"}])
        upcoming = (timers or {}).get(name)
        rows.append(
            {
                "job": name,
                "state": record.get("state", "FAILED"),
                "finished": finished,
                "age_s": round(age) if age is not None else None,
                "last_ok": (record.get("last_ok") or {}).get("finished"),
                "running": begun is not None,
                "progress": read_json(places.progress(name)) if begun else None,
                "next_run": utc(upcoming) if upcoming else None,
                "deferred": read_json(places.deferred(name)),
                "unclean": _unclean(places, name),
                "mail": trouble,
                "reasons": [{**reason, "advice": advice(reason["code"], name)} for reason in reasons],
            }
        )
    return rows


def _unclean(places: Places, name: str) -> str | None:
    """Nothing old may go while this stands, also when the note cannot be read."""
    note = places.unclean(name)
    return str((read_json(note) or {}).get("since") or "an unknown date") if note.exists() else None


def read_timers(listed: str) -> dict[str, float]:
    """Next runs, {job: seconds since 1970}, from ``systemctl list-timers --output=json``."""
    found = {}
    for timer in json.loads(listed or "[]"):
        job = str(timer.get("unit") or "").removeprefix("holdfast-backup@").removesuffix(".timer")
        if timer.get("next"):
            found[job] = timer["next"] / 1e6
    return found


def ask_timers() -> dict[str, float]:
    """Next runs as systemd has them; none when it does not answer (status is also read on a host that is half dead)."""
    command = ["systemctl", "list-timers", "--all", "--output=json", "--no-pager", "holdfast-backup@*.timer"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        return read_timers(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}


def span(seconds: float) -> str:
    """A time span for people: its largest unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and unit == "min"):
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def local(text: str | None) -> str:
    """A time in this host's own zone, to the minute."""
    if not text:
        return "-"
    return time.strftime("%a %d %b %H:%M", time.localtime(seconds_of(text)))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows for people: one line a job, below it what is the matter and what to do."""
    lines: list[Any] = [("JOB", "STATE", "AGE", "LAST OK", "NEXT RUN")]
    for row in rows:
        age = "never ran" if row["age_s"] is None else span(row["age_s"])
        lines.append((str(row["job"]), str(row["state"]), age, local(row["last_ok"]), local(row["next_run"])))
        if row["running"]:
            lines.append(f"  running now: {words(row['progress']) if row['progress'] else 'it has just begun'}")
        if row["deferred"]:
            told = row["deferred"]
            lines.append(f"  put off since {local(told.get('since'))}: {told.get('code')}: {told.get('message')}")
        for reason in row["reasons"]:
            lines.append(f"  {reason['code']}: {reason['message']}")
            lines.append(f"    what to do: {reason['advice']}")
    cells = [line for line in lines if isinstance(line, tuple)]
    widths = [max(len(line[n]) for line in cells) for n in range(5)]
    return "\n".join(
        line if isinstance(line, str) else "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        for line in lines
    )


def mail_lines(trouble: Mapping[str, Any] | None) -> list[str]:
    """What to say of mail that does not leave; nothing when it does."""
    if trouble is None:
        return []
    kept = f"{trouble['waiting']} kept, tried again every quarter of an hour" if trouble["waiting"] else "none is kept"
    return [f"MAIL since {trouble['since']}: {trouble['code']}: {trouble['message']} ({kept})"]


def show_status(places: Places, as_json: bool) -> int:
    """``status``: exit code like the worst job; no job at all is a failure too."""
    rows = overview(places, time.time(), ask_timers())
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        sys.stdout.write((table(rows) if rows else "This host has no backup job.") + "\n")
        sys.stdout.write("".join(f"{line}\n" for line in mail_lines(notice.standing(places.state / MEMORY))))
    states = {str(row["state"]) for row in rows} or {"FAILED"}
    return next(EXIT[state] for state in ("FAILED", "INCOMPLETE", "OK") if state in states)


def register(verbs: Any) -> None:
    """The verb of this part."""
    status = verbs.add_parser("status", help="show the last run of every job, what runs now, and what to do")
    status.add_argument("--json", action="store_true", help="for machines")
    status.set_defaults(call=lambda wanted, places: show_status(places, wanted.json))
