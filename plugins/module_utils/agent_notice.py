# SPDX-License-Identifier: Apache-2.0
"""The host's own watch over its backups: who has to be told what, by mail. A verb of the agent, run by a timer and after runs.

A mail speaks of jobs, states and reason codes. The messages of reasons name folders and files, so they stay on the host.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import notice
from .agent_advice import advice
from .agent_host import EXIT_INVALID, EXIT_LOCKED, Places, read_json, say, seconds_of
from .notice import Condition, News, Words

MEMORY = "notices/memory.json"
# what a job needs beyond its spread and time limit to come round after its host was off
CATCH_UP_S = 900
MISSED = "missed"
DO_MISSED = "Look whether the host was on, and at its timers: systemctl list-timers 'holdfast-backup@*'."
FOOT = "On the host, holdfast-agent status shows every job with its details."
# what happened, by reason code; what to do about it is in agent_advice. A code that is not listed is told by name.
HAPPENED = {
    "certificate_expired": "the certificate of the NAS is not valid at this time",
    "certificate_mismatch": "another certificate than the pinned one was shown at the address of the NAS; nothing was sent",
    "coverage_gap": "files differ between the disk and the backup",
    "credentials_missing": "the host has lost its credentials",
    "database_busy": "the database let nobody in",
    "database_damaged": "the database is damaged",
    "database_empty": "the database has no table",
    "database_locked": "another program holds the database",
    "database_missing": "the database is not there",
    "database_unclean": "the database was not closed cleanly",
    "database_unreachable": "the database does not answer",
    "dump_failed": "the dump of the database failed; nothing of it was kept",
    "dump_truncated": "the dump of the database has no end; nothing of it was kept",
    "files_unreadable": "some files could not be read",
    "identity_mismatch": "the repository or the machine is another one than the known one; nothing was stored",
    "images_missing": "images that the database lists are not there as files",
    "images_query_failed": "the question for the database's images failed",
    "internal_error": "the backup program met an error of its own",
    "job_invalid": "the job's file on the host cannot be used",
    "killed": "the run was killed, or the host went down in the middle of it",
    "must_have_missing": "something that every backup must hold is missing or empty",
    "nas_error": "the NAS answered with an error",
    "nas_full": "there is no room left on the NAS for this host",
    "nas_unreachable": "the NAS does not answer",
    "not_enough_space": "the host has no room for the copy of a database",
    "out_of_memory": "the host ran out of memory",
    "path_empty": "a folder that is to be backed up is empty",
    "path_is_link": "a folder that is to be backed up is only a link",
    "path_missing": "a folder that is to be backed up is not there",
    "path_vanished": "a folder lost all its files during the backup",
    "probe_failed": "a probe of the database failed",
    "query_failed": "the database could not be read",
    "repository_missing": "the NAS has no repository for this host any more",
    "rest_forbidden": "the NAS forbids the host its repository",
    "rest_login_refused": "the NAS refuses the host's login",
    "restic_missing": "restic is not installed on the host",
    "restic_too_old": "restic on the host is too old",
    "schema_changed": "tables were changed while they were dumped",
    "stopped": "the run was stopped from outside",
    "tables_not_transactional": "MariaDB tables cannot be seen at one moment",
    "time_limit": "the run did not end within its time limit",
    "too_few_files": "far fewer files were found than expected; nothing was kept",
    "wrong_repository_password": "the repository does not open with this password",
    MISSED: "no good backup came within its deadline",
}


@dataclass(frozen=True)
class Signs:
    """What there is of a job besides its record.

    put_off: reason code of a start that waits; cut_off: the start of a run that an earlier boot took with it, in seconds
    since the epoch; running: a run is under way.
    """

    put_off: str | None = None
    cut_off: float | None = None
    running: bool = False


def condition_of(
    job: Mapping[str, Any], record: Mapping[str, Any], signs: Signs, first_seen: float, awake: float, now: float
) -> Condition:
    """How a job is. Pure.

    job: the content of its file; record: its last status record, empty when there is none; first_seen, awake, now: seconds
    since the epoch. A run that was ended to be tried again by itself is no failure before the job is late.
    """
    said = (record.get("last_ok") or {}).get("finished")
    last_good = seconds_of(said) if said else None
    if signs.cut_off is not None:
        return Condition("FAILED", ("killed",), signs.cut_off, last_good)
    state = str(record.get("state", notice.WAITING))
    if state not in (notice.GOOD, notice.WAITING):
        codes = tuple(sorted({str(reason["code"]) for reason in record.get("reasons", ())}))
        if codes != (signs.put_off,):
            return Condition(state, codes, seconds_of(record["finished"]), last_good)
        state = notice.WAITING
    deadline_s = float(job.get("deadline_s") or 0)
    if deadline_s:
        chance_s = float(job.get("spread_s") or 0) + float(job.get("time_limit_s") or 0) + CATCH_UP_S
        since = notice.late_since(last_good, first_seen, awake, deadline_s, chance_s, now)
        if since is not None:
            return Condition("LATE", (MISSED, *([signs.put_off] if signs.put_off else [])), since, last_good)
    # its end will say whether what was told is over
    return Condition(notice.WAITING if signs.running else state, (), 0.0, last_good)


def words_for(host: str, each: News) -> Words:
    """What is said of a job."""
    happened, do = [], []
    for code in each.condition.codes:
        what = HAPPENED.get(code, "the run gave a reason")
        if each.condition.state == "LATE" and code != MISSED:
            what = "the job is put off" if code not in HAPPENED else f"the job is put off: {what}"
        happened.append(f"{what} ({code})")
        do.append(DO_MISSED if code == MISSED else sentence(advice(code, each.subject)))
    return Words(f"backup of {each.subject} on {host}", happened, list(dict.fromkeys(do)))


def sentence(text: str) -> str:
    """Advice of a line of status as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def conditions(
    places: Places, memory: notice.Memory, jobs: Mapping[str, Mapping[str, Any]], now: float
) -> dict[str, Condition]:
    """How every job of this host is."""
    boot = places.boot_id.read_text(encoding="ascii").strip()
    found = {}
    for name, job in jobs.items():
        begun = read_json(places.running(name))
        cut_off = float(begun["started"]) if begun and begun["facts"]["boot_id"] != boot else None
        put_off = (read_json(places.deferred(name)) or {}).get("code")
        signs = Signs(put_off, cut_off, begun is not None and cut_off is None)
        record = read_json(places.status(name)) or {}
        found[name] = condition_of(job, record, signs, memory.seen[name]["at"], memory.awake, now)
    return found


def watch(places: Places) -> int:
    """``agent watch``: look at every job, tell what is new, send what waits. Exit code 1 when something could not be sent."""
    settings = read_json(places.etc / "mail.json")
    if settings is None:
        say(f"{places.etc / 'mail.json'} is missing or damaged: nobody can be told; run site.yml for this host", 3)
        return EXIT_INVALID
    folder = Path(os.environ.get("CREDENTIALS_DIRECTORY") or places.etc / "credentials")
    post = notice.Post(
        settings,
        places.state / MEMORY,
        places.run / "notices.lock",
        places.etc / "mail.pem",
        folder / "mail-password",
    )
    now = time.time()
    with post.locked() as free:
        if not free:
            say("another watch is at work; this one does nothing", 5)
            return EXIT_LOCKED
        memory = post.load()
        jobs = {path.stem: read_json(path) or {} for path in sorted((places.etc / "jobs").glob("*.json"))}
        notice.look(memory, {name: float(job.get("deadline_s") or 0) for name, job in jobs.items()}, now)
        found = conditions(places, memory, jobs, now)
        news, memory.told = notice.decide(memory.told, found, now, remind=not memory.queue)
        post.tell(memory, news, lambda each: words_for(str(settings["host"]), each), FOOT, now)
        post.save(memory)
        return 0 if post.send(memory, now) else 1


def register(verbs: Any) -> None:
    """The verb of this part."""
    verb = verbs.add_parser("watch", help="mail what is new about the jobs (used by the timer)")
    verb.set_defaults(call=lambda _wanted, places: watch(places))
