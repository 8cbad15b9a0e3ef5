# SPDX-License-Identifier: Apache-2.0
"""The battery's own test: when it may begin, what came of it, and when it is overdue. Pure."""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Mapping, Sequence
from typing import Any

from .notice import span
from .ups_watch import Finding, figures, number, status

# the gentlest first; a deep test empties the battery and is nothing for a machine to decide
COMMANDS = ("test.battery.start.quick", "test.battery.start")
# a test that says nothing for so long has no result; a quick one takes ten seconds
LIMIT_S = 600.0
SETTLE_S = 20.0
FULL_PERCENT = 90.0
CALM_S = 3600.0
RETRY_S = 6 * 3600.0
KEPT = 50
# without opening hours in the practice document: the night, and not while clocks change
NIGHT = ("20:00", "23:30")
AIR_MIN = 30
PASS, FAIL, UNSURE = "PASS", "FAIL", "UNSURE"
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def command_of(offered: Sequence[str]) -> str | None:
    """The command to give, of those that the UPS understands; None when it cannot test itself."""
    return next((each for each in COMMANDS if each in offered), None)


def weekdays(text: str) -> list[int]:
    """Days of a key of opening hours, such as mon or mon-fri."""
    first, _, last = text.partition("-")
    begin, end = _DAYS.index(first), _DAYS.index(last or first)
    return list(range(begin, end + 1)) if begin <= end else [*range(begin, 7), *range(end + 1)]


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def open_at(hours: Mapping[str, str], zone: str, now: float) -> bool:
    """Whether the practice is open, or opens within half an hour; without hours, whether it is not the evening."""
    local = datetime.datetime.fromtimestamp(now, zoneinfo.ZoneInfo(zone))
    minute = local.hour * 60 + local.minute
    if not hours:
        return not _minute(NIGHT[0]) <= minute < _minute(NIGHT[1])
    for days, window in hours.items():
        opens, closes = (_minute(part) for part in window.split("-"))
        if local.weekday() in weekdays(days) and opens - AIR_MIN <= minute <= closes:
            return True
    return False


def refusal(
    variables: Mapping[str, str], hours: Mapping[str, str], zone: str, last_outage: float | None, now: float
) -> str | None:
    """Why no test may begin now, for people; None when it may."""
    words, charge = status(variables), number(variables, "battery.charge")
    if "OL" not in words:
        return f"the UPS says {' '.join(sorted(words)) or 'nothing'}, and a test begins on mains only"
    hindered = sorted(words & {"OB", "LB", "FSD", "RB", "OVER", "BYPASS", "OFF", "CAL", "ALARM"})
    if hindered:
        return f"the UPS says {' '.join(hindered)}: that is to be mended first"
    if charge is not None and charge < FULL_PERCENT:
        return f"the battery is at {charge:.0f} %, and a test wants {FULL_PERCENT:.0f} %"
    if last_outage is not None and 0 <= now - last_outage < CALM_S:
        return "the mains were away within the last hour"
    if open_at(hours, zone, now):
        return "the practice is open, or about to open" if hours else "it is not between 20:00 and 23:30"
    return None


def due(test: Mapping[str, Any], every_s: float, now: float) -> bool:
    """Whether a test is to begin. test: {tests, first_seen, tried}."""
    last = max((float(each["started"]) for each in test.get("tests", ())), default=None)
    tried = test.get("tried")
    if tried is not None and 0 <= now - float(tried) < RETRY_S:
        return False
    return last is None or now - last >= every_s


def begin(variables: Mapping[str, str], now: float) -> dict[str, Any]:
    """What to remember of a test that was begun."""
    return {
        "started": now,
        "before": variables.get("ups.test.result"),
        "charge_before": number(variables, "battery.charge"),
        "runtime_before_s": number(variables, "battery.runtime"),
        "load": number(variables, "ups.load"),
        "runtime_s": None,
        "charge_after": None,
        "on_battery_s": 0.0,
        "seen": now,
        "moved": False,
    }


def judge(result: str | None) -> str | None:
    """Read ups.test.result: PASS, FAIL, None while it runs, UNSURE for words that tell nothing."""
    text = (result or "").lower()
    if "progress" in text or "running" in text or "pending" in text:
        return None
    if any(word in text for word in ("fail", "error", "bad", "abort", "warning")):
        return FAIL
    if "pass" in text or "good" in text or text.strip() in ("ok", "success"):
        return PASS
    return UNSURE


def follow(
    running: Mapping[str, Any], variables: Mapping[str, str] | None, now: float
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Look at a test under way. variables: None when the UPS could not be asked. Returns (what runs, its record): one is None.

    The same words as before count once the UPS was seen at work, or after a while: some do not say when they begin.
    """
    known = dict(running)
    if variables is not None:
        words = status(variables)
        result = variables.get("ups.test.result")
        busy = judge(result) is None or "TEST" in words or "OB" in words or "DISCHRG" in words
        known["moved"] = bool(known["moved"]) or busy or result != known["before"]
        for key, name in (("runtime_s", "battery.runtime"), ("charge_after", "battery.charge")):
            value = number(variables, name)
            if value is not None:
                known[key] = value if known[key] is None else min(float(known[key]), value)
        if "OB" in words or "DISCHRG" in words:
            known["on_battery_s"] = float(known["on_battery_s"]) + max(0.0, now - float(known["seen"]))
        known["seen"] = now
        over = not busy and (known["moved"] or now - float(known["started"]) >= SETTLE_S)
        if over and judge(result) in (PASS, FAIL):
            verdict = FAIL if "RB" in words else judge(result)
            return None, _record(known, verdict, result or "", now)
        if over and result is None and known["moved"]:
            # it went on battery and came back, and has no word for it
            return None, _record(known, FAIL if "RB" in words else UNSURE, "the UPS gives no result", now)
    if now - float(known["started"]) > LIMIT_S:
        said = (variables or {}).get("ups.test.result")
        return None, _record(known, UNSURE, f"no result within {span(LIMIT_S)}; the UPS says {said or 'nothing'}", now)
    return known, None


def _record(known: Mapping[str, Any], verdict: str | None, result: str, now: float) -> dict[str, Any]:
    kept = ("started", "charge_before", "runtime_before_s", "load", "runtime_s", "charge_after", "on_battery_s")
    return {**{key: known[key] for key in kept}, "ended": now, "verdict": verdict or UNSURE, "result": result[:200]}


def standing(test: Mapping[str, Any], every_s: float | None, now: float, variables: Mapping[str, str]) -> Finding:
    """How the promise of tests is kept. A test that failed stands until one passes; one that never came is overdue."""
    if not every_s:
        return Finding()
    records = list(test.get("tests", ()))
    last = records[-1] if records else None
    again = "holdfast-ups test NAME begins one outside opening hours, and says why when it cannot."
    if last and last["verdict"] == FAIL:
        now_words = [
            f"the battery's test failed: {last['result']}",
            f"Runtime after it: {_seconds(last.get('runtime_s'))}; before: {_seconds(last.get('runtime_before_s'))}.",
        ]
        return Finding("FAILED", "test_failed", now_words, ["Have the battery replaced, then test it again.", again])
    passed = max((float(each["ended"]) for each in records if each["verdict"] == PASS), default=None)
    reached = passed if passed is not None else float(test.get("first_seen") or now)
    # a few nights of air: the mains, the charge or the hours may be in the way
    if now - reached > every_s + max(2 * 86400.0, every_s / 10):
        ago = f"{span(now - reached)} ago" if passed is not None else "never"
        why = f"why none came: {test['why']}" if test.get("why") else "none was begun"
        now_words = [
            f"the battery was tested last: {ago}; it is to be tested every {span(every_s)}",
            f"Last look: {why}. {figures(variables)}.",
        ]
        return Finding("OVERDUE", "test_overdue", now_words, [again])
    return Finding()


def _seconds(value: Any) -> str:
    return "not told" if value is None else f"{float(value):.0f} s"
