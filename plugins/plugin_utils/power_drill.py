# SPDX-License-Identifier: Apache-2.0
"""Judge a power drill from what was seen. Pure: a dictionary in, the body of an evidence record out.

What was seen (``seen``), times in seconds on the control node's monotonic clock:

- ``level``: "paper" (only looked at), "signal" (the hosts were told to stop, and only left a mark) or "real" (the hosts were
  really switched off).
- ``ups``, ``primary``: names. ``hosts``: {name: address}. ``stays``: those of them that another supply keeps running.
- ``standalone``: nobody else hangs on the primary, and that is as it should be.
- ``stop_s``: {host: seconds that its stop may take by the document}, where that is known.
- ``need``: seconds that the shutdown needs by the document, part by part (shutdown.Budget.need).
- ``before``, ``after``: {host: result of power_facts}; a host that could not be asked has ``unreachable`` or ``failed``.
- ``watch``: result of power_watch until=gone; ``back``: that of until=back.
- ``on_battery_s``, ``low_battery_s``: when the failure and the low battery were ordered. ``began_s``: the former, in seconds
  since the epoch.
- ``marks``: {host: when it was told to stop, on the control node's clock in seconds since the epoch, or None}, and
  ``ordered_s``: when the stop was ordered, on that clock (level "signal").
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.shutdown import need_words, raised

FAIL = "FAIL"
INCONCLUSIVE = "INCONCLUSIVE"
PASS = "PASS"  # noqa: S105 - a verdict
MONITOR = "nut-monitor.service"
RECENT = 20  # of a host's own records of its stops, as many as are kept


class Reasons:
    """What speaks against a PASS."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str, str]] = []

    def fail(self, code: str, message: str) -> None:
        """Something is wrong."""
        self._found.append((FAIL, code, message))

    def unsure(self, code: str, message: str) -> None:
        """Something could not be seen."""
        self._found.append((INCONCLUSIVE, code, message))

    @property
    def verdict(self) -> str:
        """FAIL outweighs INCONCLUSIVE, which outweighs PASS."""
        verdicts = {verdict for verdict, _code, _message in self._found}
        return next((v for v in (FAIL, INCONCLUSIVE) if v in verdicts), PASS)

    def listed(self) -> list[dict[str, str]]:
        """As evidence wants them."""
        return [{"code": code, "message": message} for _verdict, code, message in self._found]


def _asked(facts: Mapping[str, Any] | None) -> bool:
    return bool(facts) and not (facts or {}).get("unreachable") and not (facts or {}).get("failed")


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _ups_of(facts: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((u for u in facts.get("ups", []) if u["ups"] == name), None)


def _online(ups: Mapping[str, Any] | None) -> bool:
    words = set(str((ups or {}).get("status") or "").split())
    return "OL" in words and not words & {"OB", "LB", "FSD"}


ENGINES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}


def _called(cluster: Mapping[str, Any]) -> str:
    """Name a server of databases: PostgreSQL 17/main, or MariaDB."""
    name = "/".join(part for part in (cluster["version"], cluster["cluster"]) if part)
    return f"{ENGINES[cluster.get('engine', 'postgresql')]} {name}".strip()


def _going(seen: Mapping[str, Any]) -> list[str]:
    return [host for host in seen["hosts"] if host not in seen.get("stays", ())]


def _judge_host(host: str, facts: Mapping[str, Any], ups: str, when: str, reasons: Reasons) -> None:
    seen = _ups_of(facts, ups)
    others = facts["ups"] and seen is None  # it hangs on another UPS, which goes with this one
    if not others and not _online(seen):
        what = (seen or {}).get("status") or ((seen or {}).get("error") or {}).get("message") or "no answer"
        reasons.fail("ups_not_online", f"{when}, {host} sees {ups} as: {what}; expected OL.")
    if facts.get("signal_left"):
        reasons.fail("signal_left", f"{when}, a drill with a signal is not put back on {host}: nothing would stop it.")
    if facts["power_down_flag"]:
        reasons.fail("power_down_flag_set", f"{when}, the power-down flag is set on {host}; start nut-monitor there.")
    if MONITOR not in facts["units"]:
        reasons.fail("monitor_not_running", f"{when}, {MONITOR} does not run on {host}: nobody would stop it.")
    for cluster in facts["clusters"]:
        if not cluster["online"]:
            reasons.fail("database_down", f"{when}, {_called(cluster)} does not run on {host}.")


def _judge_ready(seen: Mapping[str, Any], reasons: Reasons) -> None:
    ups, primary, hosts, before = seen["ups"], seen["primary"], seen["hosts"], seen["before"]
    for host in hosts:
        facts = before.get(host)
        if not _asked(facts):
            reasons.unsure("host_unreachable", f"{host} could not be asked before the drill; switch it on first.")
            continue
        _judge_host(host, facts, ups, "Before the drill", reasons)
        for text in facts.get("differences", ()):
            reasons.fail("configuration_differs", f"{host}: {text}; run playbooks/site.yml.")
        for engine in facts["expect_engines"]:
            if engine not in {cluster.get("engine", "postgresql") for cluster in facts["clusters"]}:
                reasons.fail("database_missing", f"{host} should keep a database, and has no {ENGINES[engine]}.")
    facts = before.get(primary)
    if _asked(facts):
        if not facts["hook"]:
            reasons.fail("hook_missing", f"The late hook on {primary} is missing or cannot be executed.")
        _judge_attached(seen, facts, "Before the drill", reasons)


def _judge_attached(seen: Mapping[str, Any], facts: Mapping[str, Any], when: str, reasons: Reasons) -> None:
    """The primary waits for, and speaks to, those who are attached; a host known by name cannot be told apart here."""
    attached = facts["clients"].get(seen["ups"], [])
    for host, address in seen["hosts"].items():
        facts = seen["before"].get(host)
        watches = not _asked(facts) or facts is None or _ups_of(facts, seen["ups"])
        if host != seen["primary"] and watches and _is_ip(address) and address not in attached:
            reasons.fail(
                "not_attached", f"{when}, {host} ({address}) is not attached to {seen['ups']} on {seen['primary']}."
            )


def _runtime(seen: Mapping[str, Any]) -> tuple[float | None, float | None]:
    facts = seen["before"].get(seen["primary"])
    ups = _ups_of(facts, seen["ups"]) if _asked(facts) else None
    return ((ups or {}).get("runtime_s"), (ups or {}).get("low_runtime_s"))


def _judge_order(seen: Mapping[str, Any], reasons: Reasons) -> bool:
    """Every secondary has to be gone before the primary; what the probes cannot tell apart is not called right.

    Whoever hangs on another UPS is not in the order: a primary that a second supply keeps running cuts nobody's power.
    """
    tracks, primary = seen["watch"]["hosts"], seen["primary"]
    end = tracks.get(primary, {})
    right = bool(end.get("gone")) or primary in seen.get("stays", ())
    for host in _going(seen):
        track = tracks.get(host, {})
        if not track.get("gone"):
            reasons.fail("host_not_gone", f"{host} still answered when the drill's time was over.")
            right = False
            continue
        if host == primary or not end.get("gone"):
            continue
        if track["gone_s"] <= end["last_answer_s"]:
            continue
        right = False
        if track["last_answer_s"] >= end["gone_s"]:
            reasons.fail("order_wrong", f"{host} was still up when {primary}, which feeds it, had gone.")
        else:
            reasons.unsure("order_uncertain", f"{host} and {primary} went too close together to say which was first.")
    return right


def _stop_times(seen: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give how long each host took to stop: {host: {"seconds", "by"}}, as it wrote down itself, or as it was seen from here.

    What was seen from here began with the order, so it is longer by what the host waited.
    """
    found = {}
    events = seen["watch"].get("ups_events", [])
    ordered = next((e["at_s"] for e in events if "FSD" in (e["status"] or "").split()), seen["low_battery_s"])
    for host in _going(seen):
        track, after = seen["watch"]["hosts"].get(host, {}), seen.get("after", {}).get(host)
        if not track.get("gone"):
            continue
        own = _own_stop(seen, host) if _asked(after) else None
        by = "drill" if own is None else "host"
        found[host] = {"seconds": round(track["gone_s"] - ordered if own is None else own["seconds"], 1), "by": by}
    return found


def _own_stop(seen: Mapping[str, Any], host: str) -> Mapping[str, Any] | None:
    """Find what the host wrote down of its stop in this drill; one that was cut short is none."""
    records = (seen.get("after", {}).get(host) or {}).get("stops", [])
    known = {record["began"] for record in (seen["before"].get(host) or {}).get("stops", [])}
    new = [r for r in records if r["began"] not in known and r.get("seconds") is not None and not r.get("unfinished")]
    return new[-1] if new else None


def _judge_need(seen: Mapping[str, Any], stops: Mapping[str, float], reasons: Reasons) -> dict[str, Any]:
    """Compare what a shutdown needs with what the battery has when everything is told to stop."""
    runtime, low = _runtime(seen)
    possible = dict(stops)
    for host, facts in seen["before"].items():
        records = ((facts or {}).get("stops") or [])[-RECENT:]
        finished = [float(r["seconds"]) for r in records if r.get("seconds") is not None and not r.get("unfinished")]
        if finished and host in seen["hosts"]:
            possible[host] = max([possible.get(host, 0.0), *finished])
    for host, length in seen.get("stop_s", {}).items():
        over = (seen["before"].get(host) or {}).get("over_s") or 0
        if over > 0:
            possible[host] = max(possible.get(host, 0.0), length + over)
    need, ups, primary = raised(seen["need"], possible, seen["primary"]), seen["ups"], seen["primary"]
    left = runtime if low is None else low
    if runtime is None and low is not None:
        reasons.fail(
            "low_battery_never", f"{ups} does not say how long its battery lasts, so Holdfast would never call it low."
        )
    elif runtime is None:
        reasons.unsure("runtime_unknown", f"{ups} does not say how long its battery lasts.")
    elif left is not None and need["total_s"] > min(runtime, left):
        short = runtime < need["total_s"]
        has, code = (runtime, "runtime_too_short") if short else (left, "low_battery_too_late")
        says = (
            f"The battery lasts {has:.0f} s"
            if short
            else f"{ups} calls for the shutdown {has:.0f} s before its battery is empty"
        )
        missing = need["total_s"] - has
        reasons.fail(code, f"{says}, and a shutdown needs {need_words(need, primary)}: {missing:.0f} s are missing.")
    missing_s = None if left is None or runtime is None else max(0.0, round(need["total_s"] - min(runtime, left), 1))
    return {"need": need, "missing_s": missing_s, "left_s": left}


def _judge_margin(seen: Mapping[str, Any], reasons: Reasons) -> dict[str, float | None]:
    """Say how long the shutdown took, and what the battery had left then."""
    runtime, low = _runtime(seen)
    gone = [t["gone_s"] for t in seen["watch"]["hosts"].values() if t.get("gone")]
    shutdown = round(max(gone) - seen["low_battery_s"], 1) if gone and len(gone) == len(_going(seen)) else None
    left = runtime if low is None else low
    margin = round(left - shutdown, 1) if left is not None and shutdown is not None else None
    if low is None and margin is not None and margin <= 0:
        reasons.fail("margin_negative", f"The shutdown took {shutdown} s, the battery lasts {runtime:.0f} s.")
    if low is not None and margin is not None and margin <= 0:
        reasons.fail(
            "low_battery_too_late",
            f"The shutdown took {shutdown} s, but the UPS calls for it only {low:.0f} s before its battery is empty.",
        )
    return {"shutdown_s": shutdown, "margin_s": margin}


SURE_S = 1.0  # of two marks on two clocks


def _judge_marks(seen: Mapping[str, Any], reasons: Reasons) -> bool:
    """Every host has to have been told to stop, the primary after all others, and no host may really have stopped."""
    marks, primary = seen["marks"], seen["primary"]
    end, right = marks.get(primary), True
    for host in _going(seen):
        mark = marks.get(host)
        if mark is None:
            right = False
            reasons.fail("not_told", f"{host} was never told to stop.")
        elif host != primary and end is not None and mark > end + SURE_S:
            right = False
            reasons.fail("order_wrong", f"{host} was told to stop {mark - end:.1f} s after {primary}, which feeds it.")
        elif host != primary and end is not None and mark > end - SURE_S:
            right = False
            reasons.unsure(
                "order_uncertain", f"{host} and {primary} were told to stop too close together to say who first."
            )
    for host in seen.get("stays", ()):
        if marks.get(host) is not None:
            reasons.fail("told_needlessly", f"{host} was told to stop, although another UPS carries it.")
    for host in seen["hosts"]:
        was, now = seen["before"].get(host), seen.get("after", {}).get(host)
        if not _asked(now) or now is None:
            reasons.fail("host_not_back", f"{host} cannot be asked any more.")
            continue
        if was and abs(now["started"] - was["started"]) >= 1:
            reasons.fail("host_restarted", f"{host} was started anew, in a drill that stops nothing.")
        _judge_host(host, now, seen["ups"], "After the drill", reasons)
        if host == primary:
            _judge_attached(seen, now, "After the drill", reasons)
    return right


def _judge_databases(host: str, was: Mapping[str, Any], now: Mapping[str, Any], reasons: Reasons) -> bool:
    before = {_called(cluster): cluster for cluster in was["clusters"]}
    after = {_called(cluster): cluster for cluster in now["clusters"]}
    clean = True
    for called, cluster in before.items():
        name = f"{called} on {host}"
        found = after.get(called)
        if found is None:
            reasons.fail("database_missing", f"{name} was there before the drill and is not there now.")
        elif not found["online"] or found["state"] not in (None, "in production"):
            reasons.fail("database_down", f"{name} did not come back ({found['state'] or 'it does not run'}).")
        elif found["started"] == cluster["started"]:
            reasons.unsure("database_not_restarted", f"{name} was not started again, so its stop was not tested.")
        elif found["clean"] is False:
            reasons.fail("database_unclean", f"{name} was not shut down cleanly: it had to recover at its start.")
        elif found["clean"] is None:
            reasons.unsure("database_unknown", f"The log of {name} does not tell how it was shut down.")
        else:
            continue
        clean = False
    return clean


def _judge_return(seen: Mapping[str, Any], reasons: Reasons) -> list[dict[str, Any]]:
    databases = []
    for host in seen["hosts"]:
        was, now = seen["before"].get(host), seen["after"].get(host)
        if not _asked(was) or was is None:
            continue
        if not _asked(now) or now is None:
            reasons.fail("host_not_back", f"{host} did not come back.")
            if was["clusters"]:
                databases.append({"host": host, "clean": False})
            continue
        if host in seen.get("stays", ()):
            if abs(now["started"] - was["started"]) >= 1:
                reasons.fail("host_gone_needlessly", f"{host} was switched off, although another UPS carries it.")
            continue
        if abs(now["started"] - was["started"]) < 1:
            reasons.fail("host_not_restarted", f"{host} was never off: it runs since before the drill.")
        _judge_host(host, now, seen["ups"], "After the drill", reasons)
        if host == seen["primary"]:
            _judge_attached(seen, now, "After the drill", reasons)
        lost = sorted(set(was["units"]) - set(now["units"]) - {MONITOR})
        if lost:
            reasons.fail("service_not_back", f"On {host} these did not come back: {', '.join(lost)}.")
        if was["clusters"]:
            databases.append({"host": host, "clean": _judge_databases(host, was, now, reasons)})
    return databases


def _timeline(seen: Mapping[str, Any]) -> list[dict[str, Any]]:
    start, primary = seen["on_battery_s"], seen["primary"]
    events = [(start, primary, "on_battery"), (seen["low_battery_s"], primary, "low_battery")]
    ordered = [e["at_s"] for e in seen["watch"].get("ups_events", []) if "FSD" in (e["status"] or "").split()]
    events += [(at, primary, "fsd") for at in ordered[:1]]
    for host in _going(seen):
        if (own := _own_stop(seen, host)) and seen.get("began_s"):
            events.append((start + own["began"] - seen["began_s"], host, "stopping"))
    events += [(t["gone_s"], host, "gone") for host, t in seen["watch"]["hosts"].items() if t.get("gone")]
    back = (seen.get("back") or {}).get("hosts", {})
    events += [(t["back_s"], host, "back") for host, t in back.items() if t.get("back_s") is not None]
    return _told(events, start, primary)


def _marks_timeline(seen: Mapping[str, Any]) -> list[dict[str, Any]]:
    start, primary = seen["ordered_s"], seen["primary"]
    events = [(start, primary, "ordered")]
    events += [(mark, host, "told") for host, mark in seen["marks"].items() if mark is not None]
    return _told(events, start, primary)


def _told(events: list[tuple[float, str, str]], start: float, primary: str) -> list[dict[str, Any]]:
    return [
        {
            "host": host,
            "role": "primary" if host == primary else "secondary",
            "event": event,
            "t_s": round(at - start, 2),
        }
        for at, host, event in sorted(events)
    ]


def _unique(reasons: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return [reason for number, reason in enumerate(reasons) if reason not in reasons[:number]]


def judge(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what was seen into the drill's evidence.

    Returns {"drill", "level", "ups", "verdict", "reasons": [{"code", "message"}], "timeline", "figures", "order_ok",
    "databases"}. ``order_ok`` is None on paper. Raises KeyError when ``seen`` lacks a part.
    """
    reasons, level = Reasons(), seen["level"]
    body: dict[str, Any] = {"drill": "power", "level": level, "ups": seen["ups"]}
    alone = not [host for host in seen["hosts"] if host != seen["primary"]]
    if alone and not (seen.get("standalone") and seen["primary"] in seen["hosts"]):
        reasons.fail(
            "no_secondary", f"No host hangs on {seen['ups']} besides {seen['primary']}: there is no order to test."
        )
    if level != "paper" and not _going(seen):
        reasons.unsure("nobody_stops", f"Another UPS carries every host on {seen['ups']}: nobody would stop.")
    _judge_ready(seen, reasons)
    runtime, low = _runtime(seen)
    order_ok: bool | None = None
    databases: list[dict[str, Any]] = []
    timeline: list[dict[str, Any]] = []
    stops: dict[str, dict[str, Any]] = {}
    times: dict[str, float | None] = {"shutdown_s": None, "margin_s": None}
    if level == "real" and seen.get("watch"):
        stops = _stop_times(seen)
        order_ok = _judge_order(seen, reasons)
        times = _judge_margin(seen, reasons)
        databases = _judge_return(seen, reasons)
        timeline = _timeline(seen)
    elif level == "signal" and seen.get("marks") is not None:
        order_ok = _judge_marks(seen, reasons)
        timeline = _marks_timeline(seen)
    elif level != "paper":
        reasons.unsure("not_started", "The drill was not started, because the practice was not ready for it.")
    known = {host: float(stop["seconds"]) for host, stop in stops.items()}
    plan = _judge_need(seen, known, reasons)
    if level != "real" and plan["left_s"] is not None:
        times["margin_s"] = round(plan["left_s"] - plan["need"]["total_s"], 1)
    figures = {
        **times,
        "battery_runtime_s": runtime,
        "low_battery_s": low,
        "need_s": plan["need"]["total_s"],
        "missing_s": plan["missing_s"],
    }
    return {
        **body,
        "verdict": reasons.verdict,
        "reasons": _unique(reasons.listed()),
        "timeline": timeline,
        "figures": figures,
        "need": plan["need"],
        "stops": stops,
        "order_ok": order_ok,
        "databases": databases,
    }


def scope(ups: str, hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Find who takes part when a UPS runs out: {"primary", "going", "stays"}.

    hosts: {name: {"monitors": [{"ups", "type", "power_value"}], "min_supplies"}}. A primary that stops takes its other
    UPSs' machines with it, as its upsmon orders the stop of all that hangs on them. Raises ValueError for an unknown UPS.
    """
    primaries = [
        name
        for name, host in hosts.items()
        for each in host["monitors"]
        if each["ups"] == ups and each["type"] == "primary"
    ]
    if len(primaries) != 1:
        known = sorted({each["ups"] for host in hosts.values() for each in host["monitors"]})
        raise ValueError(f"{ups} has {len(primaries)} primaries, expected one; the UPSs are: {', '.join(known)}")
    low, going, found = {ups}, [], True
    while found:
        found = False
        for name, host in hosts.items():
            carried = sum(each.get("power_value", 1) for each in host["monitors"] if each["ups"] not in low)
            if (
                name not in going
                and carried < host["min_supplies"]
                and low & {each["ups"] for each in host["monitors"]}
            ):
                going.append(name)
                low |= {each["ups"] for each in host["monitors"] if each["type"] == "primary"}
                found = True
    stays = [name for name, host in hosts.items() if name not in going and ups in {m["ups"] for m in host["monitors"]}]
    return {"primary": primaries[0], "going": [name for name in hosts if name in going], "stays": stays}
