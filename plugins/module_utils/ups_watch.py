# SPDX-License-Identifier: Apache-2.0
"""What a UPS's own words mean, and who has to be told. Pure: what was seen comes in, findings go out.

A finding is about one side of one UPS (its mains, its battery, the line to it, a machine on it ...), so that each trouble is
told once by itself, whatever else goes on. Nothing in here stops a machine: that is upsmon's part, and only OB with LB does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import notice, nut
from .notice import Condition, Words

# after this long without an answer from upsd or the driver it counts as lost; they may be restarted, or still starting
LOST_S = 60.0
WARN_BEFORE_S = 30 * 86400
# words of ups.status that are told by themselves: what happened, what to do
TOKENS = {
    "RB": (
        "REPLACE BATTERY",
        "the UPS says that its battery has to be replaced; nothing is stopped for it",
        "Order the battery that the UPS's label names, and replace it outside opening hours. Until then an outage may be short.",
    ),
    "OVER": (
        "OVERLOADED",
        "more hangs on the UPS than it can carry; on battery it may switch off at once",
        "Take off it what does not belong there: printers, heaters, screens.",
    ),
    "BYPASS": (
        "BYPASSED",
        "the UPS passes the mains through and protects nothing",
        "Look at its display; somebody may have set it so. Switch bypass off again, or have the UPS looked at.",
    ),
    "ALARM": (
        "ALARM",
        "the UPS raises an alarm",
        "Look at its display and its manual; upsc on the primary shows what it says of itself (ups.alarm).",
    ),
    "OFF": (
        "SWITCHED OFF",
        "the UPS says that its output is off",
        "Look whether what hangs on it has power from elsewhere, then switch its output on.",
    ),
    "CAL": (
        "CALIBRATING",
        "the UPS discharges its battery to measure it: an outage now would find it half empty",
        "Wait until it is done and the battery is full again; plan calibrations outside opening hours.",
    ),
}


@dataclass(frozen=True)
class Limits:
    """How patient the watch is, in seconds. settle_s: how long something has to be well before its end is told;
    absent_s: how long a machine may be away."""

    settle_s: float = 120.0
    absent_s: float = 180.0
    lost_s: float = LOST_S


@dataclass(frozen=True)
class Seen:
    """One look at one UPS.

    error: (NUT's code, message) when it could not be asked; clients: addresses that are attached; silent: machines of
    ``feeds`` that do not answer at all, of those that were asked because they are not attached.
    """

    error: tuple[str, str] | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    clients: Sequence[str] = ()
    silent: Sequence[str] = ()


@dataclass(frozen=True)
class Finding:
    """How one side of a UPS is. state: notice.GOOD, notice.WAITING (cannot be said), or the word of a trouble.

    after_s: it has to last so long before it is told.
    """

    state: str = notice.GOOD
    code: str = ""
    happened: Sequence[str] = ()
    do: Sequence[str] = ()
    after_s: float = 0.0


GOOD, UNKNOWN = Finding(), Finding(notice.WAITING)


def number(variables: Mapping[str, str], name: str) -> float | None:
    """A variable as a number; None when the UPS does not say."""
    try:
        return float(variables[name])
    except (KeyError, ValueError):
        return None


def listed(names: Sequence[str]) -> str:
    """Names as people list them: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "nothing"


def about(seconds: float) -> str:
    """A time for a sentence: seconds below two minutes, minutes above."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def at_low_s(variables: Mapping[str, str], low_s: float | None) -> float | None:
    """Seconds that the battery still carries when it is called low and the machines begin to stop; None when nothing tells.

    The UPS calls it low at a charge or at a runtime, whichever comes first, and never before the mains fail.
    low_s: what the practice document says, for a UPS that does not say itself.
    """
    runtime, charge = number(variables, "battery.runtime"), number(variables, "battery.charge")
    said = number(variables, "battery.runtime.low")
    low = said if said is not None else low_s
    if runtime is None:
        return low
    low_charge = number(variables, "battery.charge.low")
    by_charge = runtime * low_charge / charge if low_charge and charge else 0.0
    return min(runtime, max(low, by_charge)) if low is not None else runtime


def order(ups: Mapping[str, Any]) -> tuple[list[str], str]:
    """Who stops first, and who goes last."""
    return [host for host in ups["feeds"] if host != ups["primary"]], str(ups["primary"])


def what_next(ups: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """What will happen while the mains stay away, for people."""
    first, last = order(ups)
    stop = f"{listed(first)} {'stops' if len(first) == 1 else 'stop'}, then {last}" if first else f"{last} stops"
    runtime, low = number(variables, "battery.runtime"), at_low_s(variables, ups.get("low_s"))
    if runtime is None or low is None:
        when = "When the battery is low"
    elif runtime - low < 30 or "LB" in status(variables):
        when = "Within moments"
    else:
        when = f"If the mains stay away, in about {about(runtime - low)}"
    return f"{when} {stop}; backups are held until the mains are back."


def status(variables: Mapping[str, str]) -> set[str]:
    """Words of ups.status."""
    return set(variables.get("ups.status", "").split())


def figures(variables: Mapping[str, str]) -> str:
    """Charge, runtime and load, as far as the UPS tells."""
    charge, runtime = number(variables, "battery.charge"), number(variables, "battery.runtime")
    load = number(variables, "ups.load")
    parts = [
        f"charge {charge:.0f} %" if charge is not None else "",
        f"battery for {about(runtime)}"
        if runtime is not None
        else "the UPS does not say for how long its battery lasts",
        f"load {load:.0f} %" if load is not None else "",
    ]
    return ", ".join(filter(None, parts))


# --- one look at one UPS -----------------------------------------------------------------------------------------------


def look(
    ups: Mapping[str, Any], seen: Seen, need: Mapping[str, Any], limits: Limits, testing: bool, was_on_battery: bool
) -> dict[str, Finding]:
    """Everything that can be said of a UPS now: {side: finding}. testing: a self-test of ours is under way."""
    words = status(seen.variables)
    found = {"contact": _contact(ups, seen, limits, was_on_battery)}
    blind = seen.error is not None
    found["mains"] = UNKNOWN if blind or testing else _mains(ups, seen.variables, words)
    found["low battery"] = UNKNOWN if blind else _low(ups, seen.variables, words)
    found["shutdown"] = UNKNOWN if blind else _shutdown(ups, words)
    for word, (state, happened, do) in TOKENS.items():
        found[word] = UNKNOWN if blind else GOOD
        if word in words and not blind:
            alarm = seen.variables.get("ups.alarm") if word == "ALARM" else None
            told = f"{happened}: {alarm}" if alarm else happened
            found[word] = Finding(state, word.lower(), [told, _level(seen.variables)], [do])
    found["budget"] = UNKNOWN if blind or testing or "OB" in words else _budget(ups, seen.variables, need, limits)
    # who stops is not attached any more, and that is as it should be
    stopping = "FSD" in words or {"OB", "LB"} <= words
    for host, address in ups["feeds"].items():
        found[f"host {host}"] = UNKNOWN if blind or stopping else _attached(ups, host, address, seen, limits)
    return found


def _level(variables: Mapping[str, str]) -> str:
    return f"The UPS says: {variables.get('ups.status', '')}; {figures(variables)}."


def _contact(ups: Mapping[str, Any], seen: Seen, limits: Limits, was_on_battery: bool) -> Finding:
    if seen.error is None:
        return GOOD
    code, _message = seen.error
    state, happened, do = {
        nut.UNREACHABLE: (
            "NO SERVER",
            f"upsd on {ups['primary']} does not answer",
            f"On {ups['primary']}: systemctl status nut-server, then site.yml.",
        ),
        "DRIVER-NOT-CONNECTED": (
            "NOT CONNECTED",
            "its driver does not run",
            f"On {ups['primary']}: systemctl status 'nut-driver@*'; look at the cable.",
        ),
        "DATA-STALE": (
            "STALE",
            "its driver no longer hears from it: what upsd says of it is old",
            f"Look at the cable and at the UPS; then on {ups['primary']}: systemctl restart 'nut-driver@*'.",
        ),
    }.get(code, ("UNKNOWN", f"upsd answers {code}", "Run site.yml for its primary."))
    now = [happened, "Nobody would know of an outage: the machines would not be stopped in time."]
    if was_on_battery:
        now = [happened, f"It was on battery. {listed([*ups['feeds']])} stop when upsmon gives it up (DEADTIME)."]
    return Finding(state, code.lower(), now, [do], 0.0 if was_on_battery else limits.lost_s)


def _mains(ups: Mapping[str, Any], variables: Mapping[str, str], words: set[str]) -> Finding:
    if "OB" in words:
        now = [f"the mains failed; {figures(variables)}", what_next(ups, variables)]
        return Finding(
            "ON BATTERY", "ob", now, ["Look whether it is dark elsewhere, or only a fuse. End what cannot wait."]
        )
    return GOOD if "OL" in words else UNKNOWN


def _low(ups: Mapping[str, Any], variables: Mapping[str, str], words: set[str]) -> Finding:
    if "LB" not in words:
        return GOOD if words else UNKNOWN
    if "OB" in words:
        now = [f"the battery is nearly empty; {figures(variables)}", what_next(ups, variables)]
        return Finding("LOW", "lb", now, ["Nothing: they stop by themselves, and come back when the mains do."])
    now = [f"the mains are there and the battery is nearly empty; {figures(variables)}"]
    return Finding("LOW", "lb", now, ["It charges. Should it last for hours, the battery is worn: have it replaced."])


def _shutdown(ups: Mapping[str, Any], words: set[str]) -> Finding:
    if "FSD" not in words:
        return GOOD if words else UNKNOWN
    first, last = order(ups)
    now = [f"the shutdown of {listed([*first, last])} is ordered and goes on, even if the mains come back now"]
    return Finding("ORDERED", "fsd", now, ["They come back when the UPS gives power again. Look then whether all did."])


def _budget(ups: Mapping[str, Any], variables: Mapping[str, str], need: Mapping[str, Any], limits: Limits) -> Finding:
    has, total = at_low_s(variables, ups.get("low_s")), float(need.get("total_s") or 0)
    if has is None or not total or not status(variables):
        return UNKNOWN
    if has >= total:
        return GOOD
    slowest = need.get("slowest") or {}
    how = "measured" if slowest.get("measured") else "by the practice document"
    load = number(variables, "ups.load")
    now = [
        (
            f"when the battery is called low it carries everything for {has:.0f} s, and the machines need {total:.0f} s to stop: "
            f"{total - has:.0f} s are missing"
        ),
        f"The slowest machine is {slowest.get('host')}: {float(slowest.get('seconds') or 0):.0f} s ({how})."
        + (f" Load now: {load:.0f} %." if load is not None else ""),
    ]
    do = [
        f"Make {slowest.get('host')} stop faster, feed fewer machines, raise battery.runtime.low, or get a new or larger battery."
    ]
    return Finding("TOO SHORT", "budget", now, do, limits.settle_s / 2)


def _attached(ups: Mapping[str, Any], host: str, address: str, seen: Seen, limits: Limits) -> Finding:
    own = host == ups["primary"]
    # upsd shows the primary's own upsmon by the address through which it came
    if any(known in seen.clients for known in (address, *(("127.0.0.1", "::1") if own else ()))):
        return GOOD
    silent = host in seen.silent
    if silent and host in (ups.get("may_be_off") or ()):
        return GOOD  # a machine that may be off, and is
    now = [
        f"it hangs on {ups['name']} and is not attached to upsd on {ups['primary']}: in an outage nobody would tell it to stop"
    ]
    now.append(
        "It does not answer at all: it is off, or its network is."
        if silent
        else "It answers: its upsmon does not listen."
    )
    do = "Look whether it is on and at its network cable." if silent else f"On {host}: systemctl status nut-monitor."
    return Finding("NOT ATTACHED", "not_attached", now, [do, "site.yml configures it anew."], limits.absent_s)


def look_from_deputy(ups: Mapping[str, Any], reached: bool, alone: bool, limits: Limits) -> dict[str, Finding]:
    """What a deputy says: only that nothing of the primary answers any more, as then the primary tells nobody.

    alone: it reaches nobody else either, so it is itself what is cut off, which the primary tells.
    """
    if reached:
        return {"primary": GOOD}
    if alone:
        return {"primary": UNKNOWN}
    now = [
        f"{ups['primary']}, which watches {ups['name']}, does not answer at all",
        f"It is off or cut off: nobody would know of an outage, and {listed(order(ups)[0])} would not be stopped in time.",
    ]
    do = [f"Look whether {ups['primary']} is on, at its network cable and at the switch."]
    return {"primary": Finding("SILENT", "primary_silent", now, do, limits.absent_s)}


def look_at_age(battery: Mapping[str, Any] | None, today_s: float, due_s: float | None) -> Finding:
    """Whether the battery is to be replaced by its date. due_s: that date in seconds since the epoch."""
    if not battery or due_s is None:
        return GOOD
    since = f", in use since {battery['installed']}" if battery.get("installed") else ""
    if today_s >= due_s:
        now = [f"the battery was to be replaced by {battery['replace_by']}{since}"]
        return Finding("OLD", "battery_old", now, ["Replace it, and write the new dates into the practice document."])
    if due_s - today_s <= WARN_BEFORE_S:
        now = [f"the battery is to be replaced by {battery['replace_by']}{since}"]
        return Finding("DUE", "battery_due", now, ["Order it now, and plan half an hour outside opening hours."])
    return GOOD


# --- over time -----------------------------------------------------------------------------------------------------------


def settle(
    before: Mapping[str, Mapping[str, Any]], found: Mapping[str, Finding], settle_s: float, now: float
) -> tuple[dict[str, Condition], dict[str, dict[str, Any]]]:
    """Turn looks into conditions: a trouble counts once it has lasted, its end once it has lasted too.

    before: {side: {bad_since, good_since, raised}}. Mains that come and go are one trouble until they stay.
    Returns the conditions and what to give as ``before`` next time.
    """
    conditions, after = {}, {}
    for side, finding in found.items():
        entry = {
            "bad_since": None,
            "good_since": None,
            "raised": False,
            **before.get(side, {}),
        }
        if finding.state == notice.WAITING:
            conditions[side] = Condition(notice.WAITING)
        elif finding.state == notice.GOOD:
            entry["good_since"] = now if entry["good_since"] is None else min(entry["good_since"], now)
            if entry["raised"] and now - entry["good_since"] < settle_s:
                conditions[side] = Condition(notice.WAITING)
            else:
                entry.update(bad_since=None, raised=False)
                conditions[side] = Condition(notice.GOOD)
        else:
            entry["good_since"] = None
            entry["bad_since"] = now if entry["bad_since"] is None else min(entry["bad_since"], now)
            if entry["raised"] or now - entry["bad_since"] >= finding.after_s:
                entry["raised"] = True
                conditions[side] = Condition(finding.state, (finding.code,), entry["bad_since"])
            else:
                conditions[side] = Condition(notice.WAITING)
        after[side] = entry
    return conditions, after


def outages(
    known: Sequence[Mapping[str, float]], on_battery: bool | None, charge: float | None, now: float
) -> list[dict[str, float]]:
    """Keep count of outages since the last summary: [{began, seen, charge}]; seen: the last look that found it on battery.

    on_battery: None when it cannot be said.
    """
    kept = [dict(each) for each in known]
    if on_battery and (not kept or kept[-1].get("ended")):
        kept.append({"began": now, "seen": now})
    if kept and not kept[-1].get("ended"):
        last = kept[-1]
        if on_battery:
            last["seen"] = now
            if charge is not None:
                last["charge"] = min(charge, last.get("charge", charge))
        elif on_battery is False:
            last["ended"] = now
    return kept[-500:]


def summary(known: Sequence[Mapping[str, float]]) -> list[str]:
    """What the outages were, once they are over."""
    if not known:
        return []
    spans = [float(each.get("ended") or each["seen"]) - float(each["began"]) for each in known]
    charges = [float(each["charge"]) for each in known if "charge" in each]
    lowest = f"; the charge went down to {min(charges):.0f} %" if charges else ""
    if len(spans) == 1:
        return [f"The mains were away for {about(spans[0])}{lowest}."]
    return [
        f"The mains failed {len(spans)} times, {about(sum(spans))} in all, the longest {about(max(spans))}{lowest}."
    ]


def words(ups: str, side: str, finding: Finding, over: Sequence[str]) -> Words:
    """What is said of one side of a UPS."""
    title = {
        "mains": ups,
        "contact": f"line to {ups}",
        "low battery": f"battery of {ups}",
        "shutdown": f"shutdown by {ups}",
        "budget": f"battery of {ups}",
        "self-test": f"battery test of {ups}",
        "battery age": f"battery of {ups}",
        "primary": f"watch over {ups}",
    }.get(side, ups)
    if side.startswith("host "):
        title = f"{side[5:]} on {ups}"
    if side in TOKENS:
        over = [f"It had said {side}: {TOKENS[side][0]}."]
    return Words(title, finding.happened, finding.do, over, None)
