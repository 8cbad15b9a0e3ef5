# SPDX-License-Identifier: Apache-2.0
"""Failure notices: what is to be told (pure), how it reads, and a memory of what was told, so that nothing is told twice.

Both watchers stand on it: the host's own, whose subjects are jobs, and the one of the NAS, whose subjects are hosts.
A notice is written into the memory together with what it tells, in one step; only then is it sent.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import secrets
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from .agent_host import read_json, say, utc, write_json

SCHEMA = 1
DAY_S = 86400
REMIND_S = DAY_S
# what is nearly due for a reminder goes along with one that is: one mail a day, not one a job
REMIND_ALONG_S = DAY_S // 2
# after so many mails within a day about one subject, only one in so many seconds
MANY, CALM_S = 4, 6 * 3600
# without a look for so long the machine was off or asleep: whatever is late gets its chance to catch up first
GAP_S = 45 * 60
FUTURE_S = 300
KEPT = 100
GOOD, WAITING = "OK", "WAITING"


@dataclass(frozen=True)
class Condition:
    """How a subject is.

    state: GOOD; WAITING (nothing can be said yet: what was told stands); anything else is a problem of that name.
    since, last_good: seconds since the epoch.
    """

    state: str
    codes: tuple[str, ...] = ()
    since: float = 0.0
    last_good: float | None = None

    @property
    def bad(self) -> bool:
        """Whether somebody has to be told."""
        return self.state not in (GOOD, WAITING)


@dataclass(frozen=True)
class News:
    """Something to tell. kind: problem, other (a different one), reminder or recovered. often: it keeps changing."""

    kind: str
    subject: str
    condition: Condition
    since: float
    often: bool = False


@dataclass
class Memory:
    """What a watcher knows from its last looks; all times in seconds since the epoch.

    told: {subject: {state, codes, since, at, recent}}. seen: {subject: {at, deadline_s}}: the first look at it, with this
    deadline. queue: notices that no mail server
    has taken yet, the oldest first: {id, at, subject, body, done}. trouble: why, {code, message, since}, or None.
    """

    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: dict[str, dict[str, float]] = field(default_factory=dict)
    awake: float = 0.0
    looked: float = 0.0
    queue: list[dict[str, Any]] = field(default_factory=list)
    trouble: dict[str, Any] | None = None


# --- what is to be told ------------------------------------------------------------------------------------------------


def look(memory: Memory, deadlines: Mapping[str, float], now: float) -> None:
    """Note a look at these subjects: which are new, which are gone, and since when this machine has been awake.

    deadlines: {subject: seconds}. One that changed counts from now: nobody can have kept it before.
    """
    if not 0 <= now - memory.looked <= GAP_S:
        memory.awake = now
    memory.awake = min(memory.awake, now)
    memory.looked = now
    before = memory.seen
    memory.seen = {}
    for name, deadline_s in deadlines.items():
        known = before.get(name)
        same = known is not None and known["deadline_s"] == deadline_s
        memory.seen[name] = {"at": min(known["at"], now) if known and same else now, "deadline_s": deadline_s}
    memory.told = {name: told for name, told in memory.told.items() if name in memory.seen}


def late_since(
    last_good: float | None, first_seen: float, awake: float, deadline_s: float, chance_s: float, now: float
) -> float | None:
    """Since when something is late, or None. A time that lies ahead of the clock is no proof of anything.

    It is late when its deadline has passed and the machine has been awake long enough for it to catch up.
    """
    known = last_good if last_good is not None and last_good <= now + FUTURE_S else None
    due = max(first_seen, known or 0.0) + deadline_s
    return due if now > due and now - awake > chance_s else None


def decide(
    told: Mapping[str, Mapping[str, Any]], found: Mapping[str, Condition], now: float, remind: bool = True
) -> tuple[list[News], dict[str, dict[str, Any]]]:
    """What is to be told now, and what will have been told then. Pure.

    A problem once; the same one again once a day; a different one at once; its end once. A subject that keeps changing is
    told MANY times within a day, and then at most every CALM_S: what holds in the end is always told.
    remind: False while mails wait to be sent, which would only be joined by reminders of themselves.
    """
    after = {name: dict(entry) for name, entry in told.items()}
    due = {name: _due(told.get(name), condition, now) for name, condition in found.items()}
    if "reminder" in due.values():
        due = {name: "reminder" if kind == "along" else kind for name, kind in due.items()}
    news = []
    for name in sorted(found):
        kind, condition, before = due[name], found[name], told.get(name) or {}
        if kind in (None, "along") or (kind == "reminder" and not remind):
            continue
        recent = [*_recent(before, now), now]
        since = float(before["since"]) if before.get("state", GOOD) != GOOD else condition.since
        news.append(News(kind, name, condition, since, len(recent) >= MANY))
        after[name] = {
            "state": condition.state,
            "codes": list(condition.codes),
            "since": since if condition.bad else now,
            "at": now,
            "recent": recent,
        }
    return news, after


def _recent(before: Mapping[str, Any], now: float) -> list[float]:
    return [at for at in before.get("recent", ()) if 0 <= now - at < DAY_S]


def _due(before: Mapping[str, Any] | None, condition: Condition, now: float) -> str | None:
    """Kind of news, "along" for what only goes along with a reminder, None for none."""
    was_bad = before is not None and before["state"] != GOOD
    if condition.state == WAITING or not (was_bad or condition.bad):
        return None
    if before and was_bad and (before["state"], tuple(before["codes"])) == (condition.state, condition.codes):
        passed = now - min(float(before["at"]), now)
        return "reminder" if passed >= REMIND_S else "along" if passed >= REMIND_ALONG_S else None
    recent = _recent(before or {}, now)
    if len(recent) >= MANY and now - recent[-1] < CALM_S:
        return None
    return "recovered" if not condition.bad else "other" if was_bad else "problem"


# --- how it reads -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """What a watcher says of one piece of news: of what (as in "backup of clinic on server1"), what happened, what to do.

    over: what there is to say when it is over. last: the name of what was last good; None where there is no such thing.
    """

    title: str
    happened: Sequence[str] = ()
    do: Sequence[str] = ()
    over: Sequence[str] = ()
    last: str | None = "Last good backup"


def moment(seconds: float, zone: str) -> str:
    """A moment for people, in the practice's time."""
    try:
        when = datetime.datetime.fromtimestamp(seconds, zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        zone, when = "UTC", datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return f"{when:%a} {when.day} {when:%b %Y %H:%M} ({zone})"


def span(seconds: float) -> str:
    """How long, for people: the two largest units."""
    minutes = max(0, round(seconds / 60))
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


_SAYS = {"problem": "{}", "other": "now {}", "reminder": "still {}", "recovered": "recovered"}


def letter(
    settings: Mapping[str, Any], news: Sequence[News], words: Callable[[News], Words], foot: str, now: float
) -> tuple[str, str]:
    """Subject and body of the one mail that covers all news. Problems come first."""
    listed = sorted(news, key=lambda each: (each.kind == "recovered", each.kind == "reminder"))
    zone, name = settings["timezone"], settings["practice_name"]
    told = [(each, words(each)) for each in listed]
    said = [f"{each_words.title} {_SAYS[each.kind].format(each.condition.state)}" for each, each_words in told]
    ended = sum(each.kind == "recovered" for each in listed)
    counts = [(len(listed) - ended, "in trouble"), (ended, "recovered")]
    short = said[0] if len(said) == 1 else ", ".join(f"{count} {what}" for count, what in counts if count)
    where = f"{name}: " if len(said) == 1 else f"{name}, {settings['host']}: "
    subject = f"[Holdfast] {where}{short}"
    lines = [f"{name} ({settings['practice']}), seen on {settings['host']} at {moment(now, zone)}", ""]
    for (each, known), title in zip(told, said):
        lines += [_headline(title), *_paragraph(each, known, zone, now), ""]
    lines += [foot, ""]
    if any(each.often for each in listed):
        lines += ["This changes often. From now on it is told at most every 6 hours.", ""]
    if len(listed) > ended:
        lines += [
            "You hear of it again once a day while it lasts, when it becomes something else, and when it is over."
        ]
    return subject, "\n".join(lines).rstrip() + "\n"


def _headline(text: str) -> str:
    return text[:1].upper() + text[1:]


def _paragraph(each: News, known: Words, zone: str, now: float) -> Iterator[str]:
    good = each.condition.last_good
    when = f"{moment(good, zone)}, {span(now - good)} ago" if good is not None else "none is known"
    last = [f"  {known.last}: {when}"] if known.last else []
    if each.kind == "recovered":
        yield f"  It had been in trouble since {moment(each.since, zone)}."
        yield from (f"  {text}" for text in known.over)
        yield from last
        yield "  Nothing is to be done."
        return
    for text in known.happened:
        yield f"  What happened: {text}"
    yield f"  Since: {moment(each.since, zone)}"
    yield from last
    for text in known.do:
        yield f"  What to do: {text}"


# --- memory and post ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Post:
    """Where a watcher keeps its memory, and how its mail leaves. settings: the content of mail.json."""

    settings: Mapping[str, Any]
    memory: Path
    lock: Path
    cafile: Path
    password: Path

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Only one watcher at a time; False when another is at it."""
        self.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.lock, "w", encoding="ascii") as stream:  # noqa: PTH123
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def tell(self, memory: Memory, news: Sequence[News], words: Callable[[News], Words], foot: str, now: float) -> None:
        """Add the one mail for all news to the queue."""
        if news:
            subject, body = letter(self.settings, news, words, foot, now)
            memory.queue.append({"id": secrets.token_hex(12), "at": now, "subject": subject, "body": body, "done": []})
            for each in news:
                say(f"notice: {words(each).title} {_SAYS[each.kind].format(each.condition.state)}", 5)
        while len(memory.queue) > KEPT:
            say(f"notice of {utc(memory.queue.pop(0)['at'])} dropped: {KEPT} newer ones wait to be sent", 3)

    def send(self, memory: Memory, now: float) -> bool:
        """Send what waits, in its order; stop at the first that is not taken. True when nothing waits any more."""
        if not memory.queue:
            return True
        # what knows of mail takes more memory than the rest, and most who come here have nothing to send
        from . import mail_send

        password = self.password.read_text(encoding="utf-8").rstrip("\n") if self.settings.get("user") else None
        cafile = str(self.cafile) if self.settings.get("ca") else None
        while memory.queue:
            mail = memory.queue[0]
            everyone = list(self.settings["to"])
            waiting = [address for address in everyone if address not in mail["done"]]
            text = mail_send.compose(self.settings, mail["subject"], mail["body"], mail["at"], mail["id"])
            try:
                refused = mail_send.send(self.settings, password, cafile, waiting, text) if waiting else {}
            except mail_send.MailError as error:
                since = (memory.trouble or {}).get("since", now)
                memory.trouble = {"code": error.code, "message": error.message, "since": since}
                say(f"notice of {utc(mail['at'])} not sent, it is kept: {error.code}: {error.message}", 3)
                self.save(memory)
                return False
            memory.trouble = None
            later = [address for address, (code, _words) in refused.items() if code < 500]
            mail["done"] = [address for address in everyone if address not in later]
            for address, (code, said) in sorted(refused.items()):
                message = f"the mail server refuses {address} ({code} {said}), others got the notice"
                memory.trouble = {"code": "mail_recipients_refused", "message": message, "since": now}
                say(f"notice of {utc(mail['at'])}: {message}", 3)
            if later:
                self.save(memory)
                return False
            memory.queue.pop(0)
            self.save(memory)
            say(f"notice of {utc(mail['at'])} sent to {', '.join(a for a in everyone if a not in refused)}", 5)
        return True

    def load(self) -> Memory:
        """What was kept; a damaged memory is begun anew, and that is said: at worst something is told again."""
        found = read_json(self.memory)
        if found is None and self.memory.exists():
            say(f"{self.memory} is damaged and is begun anew; what was told before may be told again", 3)
        known = found or {}
        return Memory(
            dict(known.get("told") or {}),
            dict(known.get("seen") or {}),
            float(known.get("awake") or 0.0),
            float(known.get("looked") or 0.0),
            list(known.get("queue") or []),
            known.get("trouble"),
        )

    def save(self, memory: Memory) -> None:
        """Keep it, in one step."""
        write_json(self.memory, {"schema": SCHEMA, **vars(memory)})


def standing(path: Path) -> dict[str, Any] | None:
    """What a watcher could not send: {waiting, code, message, since}, or None. For ``status``."""
    found = read_json(path) or {}
    trouble = found.get("trouble")
    if not trouble:
        return None
    return {"waiting": len(found.get("queue") or []), **trouble, "since": utc(float(trouble["since"]))}
