# SPDX-License-Identifier: Apache-2.0
"""How the power of a practice is, from what its watches said, how its machines stopped, and its evidence. Pure."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from .report_words import ago, duration, parse_time

RECENT = 10


def asked(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What holdfast-ups --json printed on a host; None for a host that did not answer, or with something else."""
    try:
        found = json.loads((result or {}).get("stdout") or "")
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("upses"), list) else None


def last_stop(result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The newest whole stop in a host's stops.json, with the longest of the recent ones; None without any.

    A stop that was never finished (the power went before it was) has no seconds; cut: the newest one is such.
    """
    try:
        rows = json.loads((result or {}).get("stdout") or "")
    except ValueError:
        return None
    stops = [row for row in (rows if isinstance(rows, list) else []) if isinstance(row, dict)]
    whole = [row for row in stops if isinstance(row.get("seconds"), (int, float))]
    if not stops:
        return None
    last = whole[-1] if whole else {}
    return {
        "seconds": float(last["seconds"]) if whole else None,
        "on_battery": bool(last.get("on_battery")),
        "longest_s": max((float(row["seconds"]) for row in whole[-RECENT:]), default=None),
        "cut": stops[-1].get("seconds") is None,
    }


def gather(
    wiring: Mapping[str, Mapping[str, Any]],
    watches: Mapping[str, Mapping[str, Any]],
    stops: Mapping[str, Mapping[str, Any]],
    now: dt.datetime,
) -> dict[str, Any]:
    """Put together what was asked.

    wiring: {UPS: {primary, feeds}}. watches, stops: {host: result of the command that asked it}. Returns {at, upses: {NAME:
    what its primary's watch says of it, or None}, deputies: {NAME: {host: troubles}}, silent: [hosts], mail: [text],
    stops: {host: newest stop}}, which report.yml reads too.
    """
    heard = {host: asked(result) for host, result in watches.items()}
    upses: dict[str, Any] = {}
    deputies: dict[str, dict[str, Any]] = {}
    for name, ups in wiring.items():
        rows = {
            host: row for host, found in heard.items() if found for row in found["upses"] if row.get("name") == name
        }
        upses[name] = rows.get(str(ups.get("primary")))
        deputies[name] = {host: row["troubles"] for host, row in rows.items() if row.get("deputy")}
    known = [(host, found) for host, found in heard.items() if found]
    return {
        "at": now.isoformat(timespec="seconds"),
        "upses": upses,
        "deputies": deputies,
        "silent": sorted(host for host, found in heard.items() if found is None),
        "unwatched": sorted(host for host, found in known if not found.get("watching")),
        "mail": [
            f"{host}: {found['mail']['code']}: {found['mail']['message']}" for host, found in known if found.get("mail")
        ],
        "stops": {host: stop for host, result in stops.items() if (stop := last_stop(result))},
    }


def lines(
    wiring: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, Any],
    drills: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], str]:
    """The text for a terminal, and PASS, FAIL or INCONCLUSIVE. drills: {UPS: report.power_drill_row()}; of what has evidence."""
    out, red, unsure = ["mains"], not wiring, False
    out += [] if wiring else ["RED  no UPS is written down"]
    for name, ups in wiring.items():
        said = found["upses"].get(name)
        if said is None or not said.get("asked"):
            unsure = True
        text = state_words(said)
        out.append(f" `-- {name}   {text}")
        out += [f"     {row}" for row in _tree(ups, said, found["stops"])]
        if name in drills:
            drill = drills[name]
            bad = drill["state"] == "bad"
            red = red or bad
            margin = f", margin {drill['margin_text']}" if drill["margin_text"] and drill["verdict"] else ""
            label = ("RED  last drill" if bad else "last drill").ljust(16)
            ended = f", {drill['verdict']}" if drill["verdict"] else ""
            out.append(f"     {label}{drill['value']}{ended}{margin}")
            out += [f"                     {drill['detail']}"] if drill["detail"] else []
        rows = facts(said)
        out += [f"     {label.ljust(16)}{value}" for label, value in rows]
        troubles = [
            *((said or {}).get("troubles") or ()),
            *(row for each in found["deputies"].get(name, {}).values() for row in each),
        ]
        for trouble in troubles:
            red = True
            out.append(f"     RED  {trouble['state']}: {'; '.join(trouble['happened'])}")
            out += [f"          {text}" for text in trouble["do"]]
    for host in found["silent"]:
        unsure = True
        out.append(f"RED  {host} could not be asked: is it on, and does site.yml know it?")
    for host in found["unwatched"]:
        red = True
        out.append(f"RED  nobody looks on {host}: systemctl status holdfast-ups")
    for text in found["mail"]:
        red = True
        out.append(f"RED  mail does not leave: {text}")
    verdict = "FAIL" if red else "INCONCLUSIVE" if unsure else "PASS"
    word = {"PASS": "all well", "FAIL": "see what is marked RED", "INCONCLUSIVE": "something could not be asked"}[
        verdict
    ]
    out.append(f"{verdict}: {word}")
    return out, verdict


def state_words(said: Mapping[str, Any] | None) -> str:
    """How a UPS is, on one line."""
    if said is None:
        return "not known: its watch could not be asked"
    if not said.get("asked"):
        return f"not known: {said['error']['code']}"
    parts = [
        str(said.get("status") or "says nothing"),
        f"charge {said['charge']:.0f} %" if said.get("charge") is not None else "",
        f"battery for {duration(said['runtime_s'])}" if said.get("runtime_s") is not None else "",
        f"load {said['load']:.0f} %" if said.get("load") is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _tree(ups: Mapping[str, Any], said: Mapping[str, Any] | None, stops: Mapping[str, Any]) -> list[str]:
    hosts = [*(host for host in ups["feeds"] if host != ups["primary"]), ups["primary"]]
    width = max(len(host) for host in hosts)
    rows = []
    for number, host in enumerate(hosts):
        last = number == len(hosts) - 1
        when = "stops last (primary)" if last else "stops first"
        away = "   NOT ATTACHED" if host in ((said or {}).get("not_attached") or ()) else ""
        rows.append(
            f"{'`--' if last else '|--'} {host.ljust(width)}   {when.ljust(20)}   {stop_words(stops.get(host))}{away}"
        )
    return rows


def stop_words(stop: Mapping[str, Any] | None) -> str:
    """How a machine stopped last."""
    if not stop:
        return "its stop was never measured"
    cut = "the power went before its last stop was done" if stop.get("cut") else ""
    if stop["seconds"] is None:
        return cut
    longest = f" (longest {duration(stop['longest_s'])})" if stop["longest_s"] > stop["seconds"] else ""
    told = f"stop {duration(stop['seconds'])}{' on battery' if stop['on_battery'] else ''}{longest}"
    return f"{cut}; last whole {told}" if cut else f"last {told}"


def facts(said: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Budget, self-test and battery, as (label, text); also for the report."""
    if said is None:
        return []
    rows = []
    if said.get("margin_s") is not None:
        word = "missing" if said["margin_s"] < 0 else "to spare"
        has, total = duration(said["at_low_s"]), duration(said["need"]["total_s"])
        rows.append(
            ("budget", f"{has} left when the battery is low, {total} needed: {duration(abs(said['margin_s']))} {word}")
        )
    test = said.get("self_test") or {}
    last = test.get("last")
    if last:
        when = dt.datetime.fromtimestamp(float(last["ended"]), dt.UTC).date().isoformat()
        runtime = f", battery for {duration(last['runtime_s'])}" if last.get("runtime_s") is not None else ""
        rows.append(("self-test", f"{last['verdict']} on {when}: {last['result']}{runtime}"))
    elif test.get("every_s"):
        rows.append(("self-test", f"none yet{': ' + test['why_not'] if test.get('why_not') else ''}"))
    else:
        rows.append(("self-test", "not promised"))
    battery = said.get("battery")
    if battery:
        since = f", in use since {battery['installed']}" if battery.get("installed") else ""
        rows.append(("battery", f"to be replaced by {battery['replace_by']}{since}"))
    return rows


def told_ago(found: Mapping[str, Any], now: dt.datetime) -> str:
    """How long ago it was asked."""
    at = parse_time(found.get("at"))
    return ago((now - at).total_seconds()) if at else "at an unknown time"
