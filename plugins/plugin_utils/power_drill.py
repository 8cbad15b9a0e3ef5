# SPDX-License-Identifier: Apache-2.0
"""Judge a power drill from what was seen. Pure: a dictionary in, the body of an evidence record out.

What was seen (``seen``), times in seconds on the control node's monotonic clock:

- ``level``: "paper" (only looked at) or "real" (the hosts were really switched off).
- ``ups``, ``primary``: names. ``hosts``: {name: address}.
- ``budget_s``: what the primary waits by its configuration before it stops itself.
- ``before``, ``after``: {host: result of power_facts}; a host that could not be asked has ``unreachable`` or ``failed``.
- ``watch``: result of power_watch until=gone; ``back``: that of until=back.
- ``on_battery_s``, ``low_battery_s``: when the failure and the low battery were ordered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

FAIL = "FAIL"
INCONCLUSIVE = "INCONCLUSIVE"
PASS = "PASS"  # noqa: S105 - a verdict
MONITOR = "nut-monitor.service"


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


def _judge_host(host: str, facts: Mapping[str, Any], ups: str, when: str, reasons: Reasons) -> None:
    seen = _ups_of(facts, ups)
    if not _online(seen):
        what = (seen or {}).get("status") or ((seen or {}).get("error") or {}).get("message") or "no answer"
        reasons.fail("ups_not_online", f"{when}, {host} sees {ups} as: {what}; expected OL.")
    if facts["power_down_flag"]:
        reasons.fail("power_down_flag_set", f"{when}, the power-down flag is set on {host}; start nut-monitor there.")
    if MONITOR not in facts["units"]:
        reasons.fail("monitor_not_running", f"{when}, {MONITOR} does not run on {host}: nobody would stop it.")
    for cluster in facts["clusters"]:
        if not cluster["online"]:
            name = f"{cluster['version']}/{cluster['cluster']}"
            reasons.fail("database_down", f"{when}, PostgreSQL {name} does not run on {host}.")


def _judge_ready(seen: Mapping[str, Any], reasons: Reasons) -> None:
    ups, primary, hosts, before = seen["ups"], seen["primary"], seen["hosts"], seen["before"]
    for host in hosts:
        facts = before.get(host)
        if not _asked(facts):
            reasons.unsure("host_unreachable", f"{host} could not be asked before the drill; switch it on first.")
            continue
        _judge_host(host, facts, ups, "Before the drill", reasons)
        if facts["expect_database"] and not facts["clusters"]:
            reasons.fail("database_missing", f"{host} should keep a database, and has no PostgreSQL cluster.")
    facts = before.get(primary)
    if _asked(facts):
        if not facts["hook"]:
            reasons.fail("hook_missing", f"The late hook on {primary} is missing or cannot be executed.")
        _judge_attached(seen, facts, "Before the drill", reasons)


def _judge_attached(seen: Mapping[str, Any], facts: Mapping[str, Any], when: str, reasons: Reasons) -> None:
    """The primary waits for, and speaks to, those who are attached; a host known by name cannot be told apart here."""
    attached = facts["clients"].get(seen["ups"], [])
    for host, address in seen["hosts"].items():
        if host != seen["primary"] and _is_ip(address) and address not in attached:
            reasons.fail(
                "not_attached", f"{when}, {host} ({address}) is not attached to {seen['ups']} on {seen['primary']}."
            )


def _runtime(seen: Mapping[str, Any]) -> tuple[float | None, float | None]:
    facts = seen["before"].get(seen["primary"])
    ups = _ups_of(facts, seen["ups"]) if _asked(facts) else None
    return ((ups or {}).get("runtime_s"), (ups or {}).get("low_runtime_s"))


def _judge_order(seen: Mapping[str, Any], reasons: Reasons) -> bool:
    """Every secondary has to be gone before the primary; what the probes cannot tell apart is not called right."""
    tracks, primary = seen["watch"]["hosts"], seen["primary"]
    end = tracks.get(primary, {})
    right = bool(end.get("gone"))
    for host in seen["hosts"]:
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


def _judge_margin(seen: Mapping[str, Any], reasons: Reasons) -> dict[str, float | None]:
    runtime, low = _runtime(seen)
    gone = [t["gone_s"] for t in seen["watch"]["hosts"].values() if t.get("gone")]
    shutdown = round(max(gone) - seen["low_battery_s"], 1) if len(gone) == len(seen["hosts"]) else None
    margin = round(runtime - shutdown, 1) if runtime is not None and shutdown is not None else None
    if runtime is None:
        reasons.unsure("runtime_unknown", f"{seen['ups']} does not say how long its battery lasts.")
    elif margin is not None and margin <= 0:
        reasons.fail("margin_negative", f"The shutdown took {shutdown} s, the battery lasts {runtime:.0f} s.")
    if low is not None and shutdown is not None and shutdown >= low:
        reasons.fail(
            "low_battery_too_late",
            f"The shutdown took {shutdown} s, but the UPS calls for it only {low:.0f} s before its battery is empty.",
        )
    return {"shutdown_s": shutdown, "battery_runtime_s": runtime, "margin_s": margin}


def _judge_databases(host: str, was: Mapping[str, Any], now: Mapping[str, Any], reasons: Reasons) -> bool:
    before = {(c["version"], c["cluster"]): c for c in was["clusters"]}
    after = {(c["version"], c["cluster"]): c for c in now["clusters"]}
    clean = True
    for key, cluster in before.items():
        name = f"PostgreSQL {'/'.join(key)} on {host}"
        found = after.get(key)
        if found is None:
            reasons.fail("database_missing", f"{name} was there before the drill and is not there now.")
        elif not found["online"] or found["state"] != "in production":
            reasons.fail("database_down", f"{name} did not come back ({found['state']}).")
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
    events += [(t["gone_s"], host, "gone") for host, t in seen["watch"]["hosts"].items() if t.get("gone")]
    back = (seen.get("back") or {}).get("hosts", {})
    events += [(t["back_s"], host, "back") for host, t in back.items() if t.get("back_s") is not None]
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
    reasons = Reasons()
    body: dict[str, Any] = {"drill": "power", "level": seen["level"], "ups": seen["ups"]}
    if not [host for host in seen["hosts"] if host != seen["primary"]]:
        reasons.fail(
            "no_secondary", f"No host hangs on {seen['ups']} besides {seen['primary']}: there is no order to test."
        )
    _judge_ready(seen, reasons)
    runtime, _low = _runtime(seen)
    if seen["level"] == "real" and seen.get("watch"):
        order_ok: bool | None = _judge_order(seen, reasons)
        figures = _judge_margin(seen, reasons)
        databases = _judge_return(seen, reasons)
        timeline = _timeline(seen)
    else:
        order_ok, databases, timeline = None, [], []
        figures = {"shutdown_s": None, "battery_runtime_s": runtime, "margin_s": None}
        if runtime is None:
            reasons.unsure("runtime_unknown", f"{seen['ups']} does not say how long its battery lasts.")
        elif runtime <= seen["budget_s"]:
            reasons.fail(
                "runtime_too_short",
                f"The battery lasts {runtime:.0f} s, the primary alone may wait {seen['budget_s']} s.",
            )
        if seen["level"] == "real":
            reasons.unsure("not_started", "The drill was not started, because the practice was not ready for it.")
    return {
        **body,
        "verdict": reasons.verdict,
        "reasons": _unique(reasons.listed()),
        "timeline": timeline,
        "figures": figures,
        "order_ok": order_ok,
        "databases": databases,
    }
