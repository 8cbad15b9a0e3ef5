# SPDX-License-Identifier: Apache-2.0
"""The program holdfast-ups: asks upsd every few seconds, tells what is new by mail, tests batteries, and says how things are.

It never stops a machine and has no right to: of upsd's rights it has one, to begin a battery's own test.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import datetime
import json
import os
import socket
import sys
import time
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import notice, nut, ups_test, ups_watch
from .agent_host import EXIT_INVALID, EXIT_LOCKED, read_json, say, write_json
from .notice import Condition
from .ups_watch import Finding, Limits, Seen

FOOT = "On {host}, holdfast-ups shows how every UPS is; journalctl -u holdfast-ups what was seen and sent."
# a test of ours explains a battery that discharges for so long and no longer
TEST_EXPLAINS_S = 120.0
MAIL_AGAIN_S = 60.0
PROBE_AGAIN_S = 30.0
RECENT_S = 60.0
PORTS = (22, 5986)
EXIT_RED, EXIT_UNASKED = 1, 2
# a watch that looked so many looks ago does not look any more
LOOKS_MISSED = 12


@dataclass(frozen=True)
class UpsPlaces:
    """Where things are on a host that watches."""

    etc: Path = Path("/etc/holdfast-ups")
    state: Path = Path("/var/lib/holdfast-ups")
    run: Path = Path("/run/holdfast-ups")

    @property
    def kept(self) -> Path:
        """What was seen before: {upses: {NAME: {...}}}."""
        return self.state / "state.json"

    @property
    def looked(self) -> Path:
        """When the last look was, and the last try to send mail. In memory, as it changes every few seconds."""
        return self.run / "looked.json"

    @property
    def need(self) -> Path:
        """What machines need to stop, as somebody measured it: {NAME: need}."""
        return self.state / "need.json"


def limits_of(task: Mapping[str, Any]) -> Limits:
    """How patient the watch is."""
    absent_s = float(task["absent_s"])
    return Limits(float(task["settle_s"]), absent_s, min(ups_watch.LOST_S, absent_s))


def needed(ups: Mapping[str, Any], told: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the machines need to stop: by the practice document, or as it was measured, whichever is more."""
    known = [need for need in (ups.get("need"), told.get(ups["name"])) if need]
    return max(known, key=lambda need: float(need["total_s"]), default={})


def day_s(text: str | None, zone: str) -> float | None:
    """Begin of a day such as 2030-03-01 where the practice is, in seconds since the epoch."""
    if not text:
        return None
    day = datetime.date.fromisoformat(text)
    return datetime.datetime.combine(day, datetime.time(), zoneinfo.ZoneInfo(zone)).timestamp()


def answers(address: str, ports: Sequence[int], timeout_s: float = 1.0) -> bool:
    """Whether a machine answers at all; one that refuses a connection does."""
    for port in ports:
        try:
            socket.create_connection((address, port), timeout=timeout_s).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            continue
        return True
    return False


@dataclass
class Probes:
    """Who answered when, so that a machine that is away is not asked at every look."""

    known: dict[str, tuple[float, bool]] = field(default_factory=dict)

    def silent(self, address: str, ports: Sequence[int] = PORTS) -> bool:
        """Whether a machine does not answer."""
        at, found = self.known.get(address, (-PROBE_AGAIN_S, False))
        if time.monotonic() - at >= PROBE_AGAIN_S:
            found = answers(address, ports)
            self.known[address] = (time.monotonic(), found)
        return not found


def ask(ups: Mapping[str, Any], probes: Probes) -> Seen:
    """Look at a UPS once."""
    try:
        with nut.Nut(ups["address"], int(ups.get("port") or nut.PORT), timeout_s=3.0) as server:
            variables = server.variables(ups["name"])
            clients = [each.removeprefix("::ffff:") for each in server.clients(ups["name"])]
    except nut.NutError as error:
        return Seen((error.code, str(error)))
    away = [host for host, address in ups["feeds"].items() if host != ups["primary"] and address not in clients]
    return Seen(None, variables, clients, [host for host in away if probes.silent(ups["feeds"][host])])


# --- the self-test -----------------------------------------------------------------------------------------------------


def begin_test(ups: Mapping[str, Any], user: str, password: Path) -> None:
    """Tell the UPS to test its battery; raises NutError. The password goes through the socket only."""
    try:
        secret = password.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise nut.NutError("NO-PASSWORD", f"{password}: {error.strerror}; run site.yml for this host") from error
    with nut.Nut(ups["address"], int(ups.get("port") or nut.PORT)) as server:
        command = ups_test.command_of(server.commands(ups["name"]))
        if command is None:
            raise nut.NutError(
                "CMD-NOT-SUPPORTED",
                f"{ups['name']} offers none of {', '.join(ups_test.COMMANDS)}: it cannot be told to test its battery; "
                "have it test itself and take self_test out of the practice document",
            )
        server.login(user, secret)
        server.command(ups["name"], command)


def keep_testing(
    ups: Mapping[str, Any],
    task: Mapping[str, Any],
    seen: Seen,
    known: dict[str, Any],
    password: Path,
    now: float,
    asked_for: bool = False,
) -> str | None:
    """Follow a test, or begin one that is due or asked for; returns why none began. ``known`` is what is kept of this UPS."""
    test = known.setdefault("test", {})
    test.setdefault("first_seen", now)
    if test.get("running"):
        test["running"], record = ups_test.follow(test["running"], None if seen.error else seen.variables, now)
        if record:
            test["tests"] = [*test.get("tests", ()), record][-ups_test.KEPT :]
            say(f"{ups['name']}: battery test {record['verdict']}: {record['result']}", 5)
        return "a test is under way"
    every_s = ups.get("self_test_every_s")
    if not asked_for and not (every_s and ups_test.due(test, float(every_s), now)):
        return None
    why = seen.error[1] if seen.error else None
    why = why or ups_test.refusal(seen.variables, task["hours"], task["timezone"], known.get("last_outage"), now)
    if why is None:
        test["tried"] = now
        try:
            begin_test(ups, task["test_user"], password)
        except nut.NutError as error:
            why = str(error)
        else:
            test["running"] = ups_test.begin(seen.variables, now)
            say(f"{ups['name']}: battery test begun", 5)
    if why and why != test.get("why"):
        say(f"{ups['name']}: no battery test: {why}", 6 if not asked_for else 5)
    test["why"] = why
    return why


# --- the watch -----------------------------------------------------------------------------------------------------------


def sides(ups: Mapping[str, Any]) -> list[str]:
    """Every side of a UPS that is looked at from here."""
    if ups["deputy"]:
        return ["primary"]
    found = ["contact", "mains", "low battery", "shutdown", *ups_watch.TOKENS, "budget", "self-test", "battery age"]
    return [*found, *(f"host {host}" for host in ups["feeds"])]


def look_at(
    places: UpsPlaces,
    ups: Mapping[str, Any],
    task: Mapping[str, Any],
    told: Mapping[str, Any],
    known: dict[str, Any],
    probes: Probes,
    password: Path,
    now: float,
) -> dict[str, Finding]:
    """Look at one UPS, and keep in ``known`` what is to be known next time."""
    limits = limits_of(task)
    if ups["deputy"]:
        return look_as_deputy(places, ups, task["host"], limits, probes)
    seen = ask(ups, probes)
    words = " ".join(sorted(ups_watch.status(seen.variables))) if seen.error is None else seen.error[0]
    if words != known.get("words"):
        say(f"{ups['name']}: {words} (before: {known.get('words', 'not known')})", 5)
        known["words"] = words
    running = (known.get("test") or {}).get("running") or {}
    testing = bool(running) and 0 <= now - float(running["started"]) < TEST_EXPLAINS_S
    found = ups_watch.look(ups, seen, needed(ups, told), limits, testing, bool(known.get("on_battery")))
    if found["mains"].state != notice.WAITING:
        known["on_battery"] = found["mains"].state != notice.GOOD
        charge = ups_watch.number(seen.variables, "battery.charge")
        known["outages"] = ups_watch.outages(known.get("outages", ()), known["on_battery"], charge, now)
        if known["on_battery"]:
            known["last_outage"] = now
    keep_testing(ups, task, seen, known, password, now)
    found["self-test"] = ups_test.standing(known["test"], ups.get("self_test_every_s"), now, seen.variables)
    battery = ups.get("battery")
    due_s = day_s((battery or {}).get("replace_by"), task["timezone"])
    found["battery age"] = ups_watch.look_at_age(battery, now, due_s)
    return found


def look_as_deputy(
    places: UpsPlaces, ups: Mapping[str, Any], host: str, limits: Limits, probes: Probes
) -> dict[str, Finding]:
    """Whether anything of the primary answers; when not, whether anybody does."""
    try:
        nut.Nut(ups["address"], int(ups.get("port") or nut.PORT), timeout_s=3.0).close()
    except nut.NutError:
        reached = not probes.silent(ups["address"])
    else:
        reached = True
    alone = False
    if not reached:
        mail = read_json(places.etc / "mail.json") or {}
        others = [address for name, address in ups["feeds"].items() if name not in (host, ups["primary"])]
        relay = [(mail["relay"], (int(mail["port"]),))] if mail else []
        alone = all(probes.silent(address, ports) for address, ports in [*((each, PORTS) for each in others), *relay])
    return ups_watch.look_from_deputy(ups, reached, alone, limits)


@dataclass(frozen=True)
class Round:
    """One look at every UPS. conditions: by subject; about: {subject: (UPS, side, finding)}; after: what to keep, by UPS."""

    conditions: dict[str, Condition]
    about: dict[str, tuple[str, str, Finding]]
    after: dict[str, dict[str, Any]]

    def words(self, each: notice.News) -> notice.Words:
        """What is said of a piece of news."""
        name, side, finding = self.about[each.subject]
        over = ups_watch.summary(self.after[name].get("outages", ())) if side == "mains" else []
        return ups_watch.words(name, side, finding, over)

    def told(self) -> None:
        """Begin to count outages anew where they are over."""
        for name, mine in self.after.items():
            if self.conditions.get(f"{name} mains", Condition(notice.WAITING)).state == notice.GOOD:
                mine["outages"] = []


def go_round(
    places: UpsPlaces, task: Mapping[str, Any], before: Mapping[str, Any], looked: float, probes: Probes, now: float
) -> Round:
    """Look at every UPS. before: what was kept of each; looked: when the last look was."""
    found_all = Round({}, {}, {})
    told = read_json(places.need) or {}
    password = Path(os.environ.get("CREDENTIALS_DIRECTORY") or places.etc) / "test-password"
    for ups in task["upses"]:
        name = ups["name"]
        mine = copy.deepcopy(before.get(name, {}))
        # what was so before a restart of this machine says nothing of now
        if not 0 <= now - looked < RECENT_S:
            mine["on_battery"] = False
        found = look_at(places, ups, task, told, mine, probes, password, now)
        conditions, mine["sides"] = ups_watch.settle(mine.get("sides", {}), found, float(task["settle_s"]), now)
        for side, condition in conditions.items():
            found_all.conditions[f"{name} {side}"] = condition
            found_all.about[f"{name} {side}"] = (name, side, found[side])
        found_all.after[name] = mine
    return found_all


def watch_once(places: UpsPlaces, task: Mapping[str, Any], post: notice.Post, mails: bool, probes: Probes) -> int:
    """Look at every UPS, tell what is new, send what waits."""
    now = time.time()
    with post.locked() as free:
        if not free:
            return EXIT_LOCKED
        memory = post.load()
        remembered = copy.deepcopy((memory.told, memory.queue)) if read_json(post.memory) else None
        last = read_json(places.looked) or {}
        before = (read_json(places.kept) or {}).get("upses", {})
        seen = go_round(places, task, before, float(last.get("looked") or 0), probes, now)
        notice.look(memory, {f"{ups['name']} {side}": 0.0 for ups in task["upses"] for side in sides(ups)}, now)
        news, memory.told = notice.decide(memory.told, seen.conditions, now, remind=not memory.queue)
        if mails:
            post.tell(memory, news, seen.words, FOOT.format(host=task["host"]), now)
        else:
            for each in news:
                title = seen.words(each).title
                say(f"notice, to nobody (no alerts.mail): {title} {each.kind} {each.condition.state}", 4)
        seen.told()
        # most looks find what the one before found, and the disk is left alone
        if seen.after != before:
            write_json(places.kept, {"schema": 1, "upses": seen.after})
        if (memory.told, memory.queue) != remembered:
            post.save(memory)
        waits = bool(memory.trouble) and 0 <= now - float(last.get("mailed") or 0) < MAIL_AGAIN_S
        sends = mails and bool(memory.queue) and not waits
        write_json(places.looked, {"looked": now, "mailed": now if sends else last.get("mailed")})
        if not sends:
            return 1 if mails and memory.queue else 0
        return 0 if post.send(memory, now) else 1


def _tell_systemd(text: str) -> None:
    """Say that we are ready, or alive."""
    where = os.environ.get("NOTIFY_SOCKET")
    if where:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out, contextlib.suppress(OSError):
            out.connect("\0" + where[1:] if where.startswith("@") else where)
            out.sendall(text.encode())


def _settings(places: UpsPlaces) -> dict[str, Any] | None:
    task = read_json(places.etc / "watch.json")
    if task is None:
        say(f"{places.etc / 'watch.json'} is missing or damaged: nothing is watched; run site.yml for this host", 3)
    return task


def watch(places: UpsPlaces, once: bool = False) -> int:
    """``holdfast-ups watch``: look for ever, or once."""
    task = _settings(places)
    if task is None:
        return EXIT_INVALID
    settings = read_json(places.etc / "mail.json")
    if settings is None and (places.etc / "mail.json").exists():
        say(f"{places.etc / 'mail.json'} is damaged: nobody can be told; run site.yml for this host", 3)
        return EXIT_INVALID
    credentials = Path(os.environ.get("CREDENTIALS_DIRECTORY") or places.etc)
    post = notice.Post(
        settings or {},
        places.state / "memory.json",
        places.run / "watch.lock",
        places.etc / "mail.pem",
        credentials / "mail-password",
    )
    probes = Probes()
    _tell_systemd("READY=1")
    while True:
        code = watch_once(places, task, post, settings is not None, probes)
        _tell_systemd("WATCHDOG=1")
        if once:
            return code
        time.sleep(float(task["every_s"]))


# --- what people ask -----------------------------------------------------------------------------------------------------


def state_of(
    places: UpsPlaces,
    ups: Mapping[str, Any],
    task: Mapping[str, Any],
    told: Mapping[str, Any],
    known: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """How a UPS is, asked now, with what the watch knows of it. Nothing is kept."""
    limits, probes = limits_of(task), Probes()
    base: dict[str, Any] = {key: ups.get(key) for key in ("name", "primary", "deputy", "feeds", "low_s", "battery")}
    if ups["deputy"]:
        found = look_as_deputy(places, ups, task["host"], limits, probes)
        return {**base, "asked": True, "error": None, "troubles": _troubles(found, known)}
    seen = ask(ups, probes)
    need = needed(ups, told)
    running = (known.get("test") or {}).get("running")
    found = ups_watch.look(ups, seen, need, limits, bool(running), bool(known.get("on_battery")))
    test = known.get("test") or {}
    found["self-test"] = ups_test.standing(test, ups.get("self_test_every_s"), now, seen.variables)
    due_s = day_s((ups.get("battery") or {}).get("replace_by"), task["timezone"])
    found["battery age"] = ups_watch.look_at_age(ups.get("battery"), now, due_s)
    has = ups_watch.at_low_s(seen.variables, ups.get("low_s")) if seen.error is None else None
    total = need.get("total_s")
    away = [host for host in ups["feeds"] if found[f"host {host}"].state not in (notice.GOOD, notice.WAITING)]
    return {
        **base,
        "asked": seen.error is None,
        "error": {"code": seen.error[0], "message": seen.error[1]} if seen.error else None,
        "status": seen.variables.get("ups.status"),
        "charge": ups_watch.number(seen.variables, "battery.charge"),
        "runtime_s": ups_watch.number(seen.variables, "battery.runtime"),
        "load": ups_watch.number(seen.variables, "ups.load"),
        "at_low_s": has,
        "need": dict(need) or None,
        "margin_s": has - float(total) if has is not None and total else None,
        "not_attached": away,
        "self_test": {
            "every_s": ups.get("self_test_every_s"),
            "last": (test.get("tests") or [None])[-1],
            "running": bool(running),
            "why_not": test.get("why"),
        },
        "troubles": _troubles(found, known),
    }


def _troubles(found: Mapping[str, Finding], known: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for side, finding in found.items():
        if finding.state not in (notice.GOOD, notice.WAITING):
            since = (known.get("sides") or {}).get(side, {}).get("bad_since")
            row = {"side": side, "state": finding.state, "code": finding.code, "since": since}
            rows.append({**row, "happened": list(finding.happened), "do": list(finding.do)})
    return rows


def gather(places: UpsPlaces, task: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that ``holdfast-ups --json`` says."""
    now = time.time()
    kept, told = read_json(places.kept) or {}, read_json(places.need) or {}
    looked = (read_json(places.looked) or {}).get("looked")
    most = max(60.0, LOOKS_MISSED * float(task["every_s"]))
    known = kept.get("upses", {})
    return {
        "schema": 1,
        "practice": task["practice"],
        "host": task["host"],
        "now": now,
        "looked": looked,
        "watching": looked is not None and 0 <= now - float(looked) < most,
        "mail": notice.standing(places.state / "memory.json"),
        "upses": [state_of(places, ups, task, told, known.get(ups["name"], {}), now) for ups in task["upses"]],
    }


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """The same for people. Pure."""
    now = float(found["now"])
    for ups in found["upses"]:
        if ups["deputy"]:
            reach = "does not answer" if ups["troubles"] else "answers"
            yield f"{ups['name']}: watched by {ups['primary']}, which {reach}"
            continue
        if not ups["asked"]:
            yield f"{ups['name']}: {ups['error']['code']}: {ups['error']['message']}"
        else:
            variables = {"battery.charge": ups["charge"], "battery.runtime": ups["runtime_s"], "ups.load": ups["load"]}
            said = ups_watch.figures({key: str(value) for key, value in variables.items() if value is not None})
            yield f"{ups['name']}: {ups['status']}; {said}"
            first, last = ups_watch.order(ups)
            yield f"  feeds    {ups_watch.listed([*first, last])}; {last} stops last"
            if ups["margin_s"] is not None:
                total = float(ups["need"]["total_s"])
                word = "missing" if ups["margin_s"] < 0 else "to spare"
                has = f"{ups['at_low_s']:.0f} s left when the battery is low"
                yield f"  budget   {has}, {total:.0f} s needed: {abs(ups['margin_s']):.0f} s {word}"
        test = ups["self_test"]
        if test["last"]:
            last_test = test["last"]
            runtime = f", battery for {last_test['runtime_s']:.0f} s" if last_test["runtime_s"] is not None else ""
            ago = notice.span(now - float(last_test["ended"]))
            yield f"  test     {last_test['verdict']} {ago} ago: {last_test['result']}{runtime}"
        elif test["every_s"]:
            yield f"  test     none yet{': ' + test['why_not'] if test['why_not'] else ''}"
        for trouble in ups["troubles"]:
            yield f"  {ups_watch.words(ups['name'], trouble['side'], Finding(), ()).title} {trouble['state']}"
            yield from (f"    {text}" for text in [*trouble["happened"], *trouble["do"]])
    if not found["watching"]:
        yield "WATCH  nobody looks: systemctl status holdfast-ups"
    if found["mail"]:
        yield f"MAIL   {found['mail']['code']}: {found['mail']['message']}; {found['mail']['waiting']} kept"


def exit_code(found: Mapping[str, Any]) -> int:
    """0: all well; 1: something is red; 2: something could not be asked."""
    if any(not ups["asked"] for ups in found["upses"]):
        return EXIT_UNASKED
    red = any(ups["troubles"] for ups in found["upses"]) or not found["watching"] or found["mail"]
    return EXIT_RED if red else 0


def show(places: UpsPlaces, as_json: bool) -> int:
    """``holdfast-ups``: how every UPS is."""
    task = _settings(places)
    if task is None:
        return EXIT_INVALID
    found = gather(places, task)
    sys.stdout.write(json.dumps(found, sort_keys=True) + "\n" if as_json else "\n".join(lines_of(found)) + "\n")
    return exit_code(found)


def check_need(given: Any, names: Sequence[str]) -> list[str]:
    """What is wrong with what was given to ``holdfast-ups need``. Pure."""
    if not isinstance(given, dict):
        return ["expected an object {UPS: need}"]
    faults = []
    for name, need in given.items():
        if name not in names:
            faults.append(f"{name}: not a UPS that is watched here ({', '.join(names) or 'none'})")
        total = need.get("total_s") if isinstance(need, dict) else None
        if not isinstance(total, (int, float)) or isinstance(total, bool) or total <= 0:
            faults.append(f"{name}: total_s is {total!r}, expected seconds above 0")
    return faults


def take_need(places: UpsPlaces) -> int:
    """``holdfast-ups need``: take what machines need to stop from standard input; says whether that is news."""
    task = _settings(places)
    if task is None:
        return EXIT_INVALID
    names = [ups["name"] for ups in task["upses"] if not ups["deputy"]]
    try:
        given = json.load(sys.stdin)
    except ValueError as error:
        say(f"standard input: not JSON ({error})", 3)
        return EXIT_INVALID
    faults = check_need(given, names)
    if faults:
        say("; ".join(faults), 3)
        return EXIT_INVALID
    before = read_json(places.need) or {}
    after = {name: need for name, need in {**before, **given}.items() if name in names}
    if after != before:
        write_json(places.need, after)
    say("kept" if after != before else "known already")
    return 0


def test_now(places: UpsPlaces, name: str) -> int:
    """``holdfast-ups test NAME``: begin a battery's test now, unless something speaks against it."""
    task = _settings(places)
    if task is None:
        return EXIT_INVALID
    ups = next((each for each in task["upses"] if each["name"] == name and not each["deputy"]), None)
    if ups is None:
        say(f"{name}: not a UPS whose primary this host is", 3)
        return EXIT_INVALID
    post = notice.Post({}, places.state / "memory.json", places.run / "watch.lock", Path(), Path())
    end = time.monotonic() + 60
    while True:
        with post.locked() as free:
            if free:
                kept = read_json(places.kept) or {}
                known = kept.setdefault("upses", {}).setdefault(name, {})
                seen = ask(ups, Probes())
                why = keep_testing(ups, task, seen, known, places.etc / "test-password", time.time(), asked_for=True)
                write_json(places.kept, kept)
                say(f"{name}: {why or 'the test is begun; holdfast-ups shows what came of it'}")
                return EXIT_RED if why else 0
        if time.monotonic() > end:
            say("the watch does not let go; look at systemctl status holdfast-ups", 3)
            return EXIT_LOCKED
        time.sleep(0.2)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the program; returns its exit code."""
    os.umask(0o077)
    places = UpsPlaces()
    parser = argparse.ArgumentParser(
        prog="holdfast-ups", description="How every UPS is. Ends with 0 well, 1 red, 2 could not be asked."
    )
    parser.add_argument("--json", action="store_true", help="the same for programs")
    verbs = parser.add_subparsers(dest="verb")
    one = verbs.add_parser("watch", help="look and mail, for ever (used by the service)")
    one.add_argument("--once", action="store_true", help="look once")
    verbs.add_parser("need", help="take {UPS: what its machines need to stop} from standard input")
    verbs.add_parser("test", help="begin a battery's own test now").add_argument("ups")
    wanted = parser.parse_args(argv)
    try:
        if wanted.verb == "watch":
            return watch(places, wanted.once)
        if wanted.verb == "need":
            return take_need(places)
        if wanted.verb == "test":
            return test_now(places, wanted.ups)
        return show(places, wanted.json)
    except OSError as error:
        say(f"cannot read or write on this host: {error}", 3)
        return EXIT_RED
