# SPDX-License-Identifier: Apache-2.0
"""What the practice's report says, decided without a file, a command or a clock of its own.

build_report() turns results and evidence into a plain dict that playbooks/templates/report.html.j2 only has to draw.
States are "ok", "warn", "bad" and "none" (nothing was promised). What is missing is "bad": silence is red.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from .coverage import coverage, overdue, table
from .forecast import forecast, newest_rows
from .power_status import facts, state_words, stop_words, told_ago
from .proof_figures import loss_words
from .report_chart import power_chart
from .report_rehearsals import break_glass, published, sign_offs
from .report_retention import kept
from .report_wiring import wiring_chart
from .report_words import age, ago, amount, clock_time, duration, parse_time, plural, size

# How long after a proof the next one must be there: the promise, and some air for the night it runs in.
PROOF_DUE_S = {"daily": 30 * 3600, "weekly": 8 * 86400, "monthly": 33 * 86400}
DRILL_DUE_S = 100 * 86400  # once a quarter
CLOCK_SLACK_S = 300
SHOWN_LATE = 3
LEVELS = {
    "arrival": "Arrived on the NAS",
    "structure": "Repository intact",
    "files": "Files compared",
    "database": "Database compared",
    "application": "Software asked",
}
# What a level counts; what is not named here is "checked".
COUNTED = {"arrival": "run", "files": "file", "database": "check", "application": "answer"}
ENGINES = {
    "postgresql": "PostgreSQL",
    "mariadb": "MariaDB",
    "sqlite": "SQLite",
    "firebird": "Firebird",
    "command": "vendor's",
    "pickup": "vendor's",
}
STATE_OF = {"PASS": "ok", "INCONCLUSIVE": "warn", "FAIL": "bad"}
SEVERITY = {"none": 0, "ok": 1, "warn": 2, "bad": 3}
WORDS = {"ok": "good", "warn": "unsure", "bad": "act", "none": "not promised"}
VERDICTS = {
    "ok": ("PASS", "Proven", "The practice's data was backed up, restored and compared, and everything matched."),
    "warn": ("INCONCLUSIVE", "Not fully proven", "Nothing is known to be wrong, but not everything could be judged."),
    "bad": ("FAIL", "Action needed", "Do not rely on a restore before the points below are settled."),
}
GLOSSARY = [
    ("Backup", "a copy of the data, encrypted before it leaves the computer, kept on the NAS."),
    ("Proof", "a trial restore on a machine that is thrown away afterwards, compared with what was backed up."),
    ("Power drill", "a rehearsal of a power cut: every computer must be off before the battery is empty."),
    ("Data loss", "the work that would have to be entered again if the server broke at that moment."),
    ("Objectives", "the most data loss (RPO) and the longest restore (RTO) that the practice has agreed to."),
    ("Ledger", "the list of all results; each entry is signed and tied to the one before it."),
    ("NAS", "the storage device in the practice that keeps the backups."),
]


def worst(states: Iterable[str]) -> str:
    """Return the most serious of some states; "none" when there are none."""
    return max(states, key=lambda state: SEVERITY[state], default="none")


def build_report(
    summary: Mapping[str, Any],
    statuses: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    ledger: Mapping[str, Any],
    now: dt.datetime,
    power_said: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return everything the report shows.

    summary: practice_summary of the compiled inventory (compiler.summary()). statuses: status records as the agents wrote
    them. records: the records of the ledger, oldest first, up to the first broken one. ledger: {"ok", "count", "head",
    "broken": None or {"line", "seq", "check", "message"}, "notes": [text], "error": text or None, "published": what
    results/published.json says, None without one}. now: an aware time. power_said: what power_status.yml left, if it ever ran.

    Returns {"practice", "made", "date", "verdict", "figures": [5], "findings", "items", "coverage", "forecast", "power",
    "wiring", "ledger", "retention", "glass", "sign_offs", "unchecked", "contacts", "glossary", "text"}; all leaves are text,
    numbers, booleans or None, and none of it is HTML.
    """
    practice = summary.get("practice") or {}
    zone = ZoneInfo(str(practice.get("timezone") or "UTC"))
    objectives = summary.get("objectives") or {}
    claims = [*statuses, *_claims_of(records)]
    proofs = _proofs_of(records)
    items = [_item(item, claims, proofs, objectives, now, zone) for item in _promised(summary)]
    power = [
        power_drill_row(ups, name, records, now, zone) for name, ups in sorted((summary.get("power") or {}).items())
    ]
    chain = _ledger(ledger, records, now, zone)
    glass = break_glass(records, now, zone)
    covered = coverage(summary, records, now)
    rotation = kept(records, now, zone)
    findings = _findings(items, power, chain, records, glass, rotation, overdue(covered))
    figures = [
        _backup_figure(items),
        _loss_figure(items, objectives),
        _restore_figure(items, objectives),
        _power_figure(power),
    ]
    state = worst(["bad" if not items else "ok", *(finding["state"] for finding in findings)])
    verdict = _verdict(state, findings, items)
    figures.append(
        {
            "key": "verdict",
            "label": "Verdict",
            "value": verdict["state"],
            "target": verdict["word"],
            "state": state,
            "note": _counted(findings),
            "share": None,
        }
    )
    local = now.astimezone(zone)
    return {
        "practice": {
            "id": str(practice.get("id") or ""),
            "name": str(practice.get("name") or practice.get("id") or "unnamed practice"),
            "timezone": str(zone),
        },
        "made": clock_time(now, zone),
        "date": local.date().isoformat(),
        "verdict": verdict,
        "figures": figures,
        "findings": findings,
        "items": items,
        "coverage": _coverage(covered),
        "forecast": _forecast(summary, records),
        "power": power,
        "wiring": _wiring(summary.get("power") or {}, power_said, now),
        "ledger": chain,
        "retention": rotation,
        "glass": glass,
        "sign_offs": sign_offs(records, zone),
        "unchecked": _unchecked(summary, items, power, glass),
        "contacts": _contacts(summary),
        "glossary": [{"word": word, "meaning": meaning} for word, meaning in GLOSSARY],
        "text": text_block(figures),
    }


def text_block(figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """The figures as aligned lines for a terminal."""
    rows = [(f["label"], f["value"], f["target"], WORDS[f["state"]]) for f in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  ".join([*(row[c].ljust(widths[c]) for c in range(3)), row[3]]).rstrip() for row in rows]


# --- what was promised, what came in ---------------------------------------------------------------------------------


def _promised(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every (item, host) that the practice document protects, in its order."""
    return [
        {**item, "name": name, "host": host}
        for name, item in (summary.get("items") or {}).items()
        for host in item.get("hosts") or ["no host"]
    ]


def _claims_of(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Status records that were signed into the ledger."""
    jobs = [job for r in records if r["kind"] == "backup" for job in r["body"].get("jobs") or []]
    return [job for job in jobs if isinstance(job, Mapping)]


def _proofs_of(records: Sequence[Mapping[str, Any]]) -> list[tuple[dt.datetime, Mapping[str, Any]]]:
    """(time of the record, result of the newest run of one item), oldest first. Older runs are for the coverage."""
    proofs = []
    for record in records:
        at = parse_time(record.get("at"))
        if record["kind"] == "proof" and at is not None:
            rows = [result for result in record["body"].get("items") or [] if isinstance(result, Mapping)]
            proofs += [(at, result) for result in rows if result.get("which", "newest") == "newest"]
    return proofs


def _of(entry: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    return entry.get("host") == item.get("host") and item.get("name") in {entry.get("item"), entry.get("job")}


# --- protected items -------------------------------------------------------------------------------------------------


def _item(
    item: Mapping[str, Any],
    claims: Sequence[Mapping[str, Any]],
    proofs: Sequence[tuple[dt.datetime, Mapping[str, Any]]],
    objectives: Mapping[str, Any],
    now: dt.datetime,
    zone: ZoneInfo,
) -> dict[str, Any]:
    mine = [(at, result) for at, result in proofs if _of(result, item)]
    newest = max(mine, key=lambda pair: pair[0], default=None)
    backup = _backup(item, [c for c in claims if _of(c, item)], mine, objectives, now, zone)
    levels = _levels(item, newest[1] if newest else None)
    proof = _proof(item, newest, levels, now, zone)
    figures = (newest[1].get("figures") or {}) if newest else {}
    return {
        "name": str(item.get("name")),
        "host": str(item.get("host")),
        "class": str(item.get("class") or ""),
        "what": f"{ENGINES.get(str(item['engine']), item['engine'])} database" if item.get("engine") else "files",
        "schedule": str(item.get("schedule") or ""),
        "prove": str(item.get("prove") or ""),
        "state": worst([backup["state"], proof["state"]]),
        "backup": backup,
        "proof": proof,
        "levels": levels,
        "compared": _compared(figures),
        "data_loss_s": figures.get("data_loss_s"),
        "restore_s": figures.get("restore_s"),
        "loss_text": _loss(figures.get("data_loss_s"), figures.get("data_loss_open_s")),
        "records": [
            {"name": str(name), "text": "lies ahead" if lost is None else _loss(lost, _opened(figures, name))}
            for name, lost in sorted((figures.get("records") or {}).items())
        ],
        "restore_text": duration(figures.get("restore_s")),
        "phases": _phases(figures.get("phases") or {}),
    }


def _loss(lost: Any, opened: Any) -> str:
    return "never" if lost is None else loss_words(lost, opened)


def _opened(figures: Mapping[str, Any], probe: str) -> Any:
    return (figures.get("records_open_s") or {}).get(probe)


def _backup(
    item: Mapping[str, Any],
    claims: Sequence[Mapping[str, Any]],
    proofs: Sequence[tuple[dt.datetime, Mapping[str, Any]]],
    objectives: Mapping[str, Any],
    now: dt.datetime,
    zone: ZoneInfo,
) -> dict[str, Any]:
    """Judge the newest backup. It counts from the moment its data was looked at, not from when it was done."""
    runs = [(parse_time(c.get("finished")), parse_time(c.get("started")), c) for c in claims]
    known = sorted(((f, s, c) for f, s, c in runs if f is not None and s is not None), key=lambda run: run[0])
    good = [(started, claim) for _, started, claim in known if claim.get("state") == "OK"]
    # What a proof restored had arrived, whatever became of the agent's own word for it.
    for _, result in proofs:
        taken = parse_time(result.get("taken"))
        if taken is not None and result.get("verdict") == "PASS":
            good.append((taken, {}))
    limit = objectives.get("rpo_s")
    answer: dict[str, Any] = {"state": "bad", "value": "never", "at": "", "detail": "", "age_s": None, "limit_s": limit}
    if known and known[-1][2].get("state") != "OK":
        last = known[-1][2]
        reasons = "; ".join(_reasons(last)) or "no reason was recorded"
        answer["detail"] = f"The last run ({clock_time(known[-1][0], zone)}) was {last.get('state')}: {reasons}"
    if not good:
        answer["value"] = "never" if not known else "none that worked"
        answer["detail"] = answer["detail"] or "No backup of this was ever reported."
        return answer
    started, _ = max(good, key=lambda pair: pair[0])
    claim: Mapping[str, Any] = next((claim for _, claim in reversed(good) if claim), {})
    old = (now - started).total_seconds()
    answer |= {"age_s": old, "at": clock_time(started, zone), "value": ago(old), "state": "ok"}
    if old < -CLOCK_SLACK_S:
        return answer | {
            "state": "bad",
            "detail": "It is dated in the future: a clock is wrong, nothing can be judged.",
        }
    if limit is not None and old > limit:
        return answer | {"state": "bad", "detail": answer["detail"] or f"Older than the {duration(limit)} agreed."}
    if answer["detail"]:
        return answer | {"state": "warn" if known[-1][2].get("state") == "INCOMPLETE" else "bad"}
    interval = item.get("interval_s")
    if interval and old > 2 * interval + 3600:
        return answer | {"state": "warn", "detail": f"Runs were missed: one is planned every {duration(interval)}."}
    if claim.get("files") or claim.get("bytes"):
        answer["detail"] = f"{plural(claim.get('files') or 0, 'file')}, {size(claim.get('bytes') or 0)}"
    return answer


def _levels(item: Mapping[str, Any], result: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What the proof looked at. A level that was expected and is not there is red, as is one that checked nothing."""
    expected = list(
        item.get("levels") or ["arrival", "structure", *(["database"] if item.get("engine") else ["files"])]
    )
    got = (result or {}).get("levels") or {}
    rows = []
    for name in [*(n for n in LEVELS if n in expected or n in got), *(n for n in got if n not in LEVELS)]:
        level = got.get(name)
        checked = level.get("checked") if isinstance(level, Mapping) else None
        if not isinstance(level, Mapping):
            state, text = "bad", "never" if result is None else "not checked"
        elif level.get("verdict") == "PASS" and not checked:
            state, text = "bad", "nothing checked"
        else:
            state = STATE_OF.get(str(level.get("verdict")), "warn")
            text = plural(checked or 0, COUNTED[name]) if name in COUNTED else f"{amount(checked or 0)} checked"
        rows.append({"name": name, "label": LEVELS.get(name, name), "state": state, "text": text})
    if "application" not in expected and "application" not in got:
        rows.append(
            {"name": "application", "label": LEVELS["application"], "state": "none", "text": WORDS["none"]},
        )
    return rows


def _proof(
    item: Mapping[str, Any],
    newest: tuple[dt.datetime, Mapping[str, Any]] | None,
    levels: Sequence[Mapping[str, Any]],
    now: dt.datetime,
    zone: ZoneInfo,
) -> dict[str, Any]:
    promised = item.get("prove")
    due = PROOF_DUE_S.get(str(promised))
    if newest is None:
        why = f"A {promised} restore is promised." if promised else "No restore of this is planned."
        return {"state": "bad", "value": "never", "at": "", "verdict": "", "detail": f"It was never restored. {why}"}
    at, result = newest
    old = (now - at).total_seconds()
    verdict = str(result.get("verdict"))
    answer = {
        "state": STATE_OF.get(verdict, "bad"),
        "value": ago(old),
        "at": clock_time(at, zone),
        "verdict": verdict,
        "detail": "; ".join(_reasons(result)),
    }
    if answer["state"] == "ok" and old < -CLOCK_SLACK_S:
        return answer | {
            "state": "bad",
            "detail": "It is dated in the future: a clock is wrong, nothing can be judged.",
        }
    if answer["state"] == "ok" and due is not None and old > due:
        return answer | {"state": "bad", "detail": f"Overdue: a {promised} restore is promised."}
    bad = [level["label"].lower() for level in levels if level["state"] not in ("ok", "none")]
    if answer["state"] == "ok" and bad:
        return answer | {"state": "bad", "detail": f"Not shown: {', '.join(bad)}."}
    if answer["state"] != "ok" and not answer["detail"]:
        answer["detail"] = "No reason was recorded."
    return answer


def _reasons(entry: Mapping[str, Any]) -> list[str]:
    """The reasons of a record in words; a code where there is no message."""
    reasons = []
    for reason in entry.get("reasons") or []:
        if isinstance(reason, Mapping):
            reasons.append(str(reason.get("message") or reason.get("code") or "").rstrip("."))
        else:
            reasons.append(str(reason))
    return [reason for reason in reasons if reason]


def _compared(figures: Mapping[str, Any]) -> str:
    parts = []
    if figures.get("rows"):
        parts.append(f"{plural(figures['rows'], 'row')} in {plural(figures.get('tables') or 0, 'table')}")
    if figures.get("files"):
        parts.append(f"{plural(figures['files'], 'file')} ({size(figures.get('bytes') or 0)})")
    if figures.get("images"):
        parts.append(plural(figures["images"], "image"))
    return ", ".join(parts) or "nothing"


def _phases(phases: Mapping[str, Any]) -> str:
    names = {
        "fetch_s": "find and check",
        "restore_s": "copy back",
        "engine_start_s": "start the database",
        "load_s": "load it",
        "first_query_s": "first answers",
    }
    found = [f"{label} {duration(phases[key])}" for key, label in names.items() if phases.get(key) is not None]
    return ", ".join(found)


# --- the whole site, and what was proven when -------------------------------------------------------------------------


def _coverage(found: Mapping[str, Any]) -> dict[str, Any]:
    """The table as it is drawn: levels are columns, and a row is a class of one copy of one item."""
    rows = table(found)
    used = {cell["level"] for row in rows for cell in row["cells"]}
    levels = [*(name for name in LEVELS if name in used), *sorted(used - set(LEVELS))]
    for row in rows:
        by_level = {cell["level"]: cell for cell in row["cells"]}
        row["cells"] = [by_level.get(name, {"level": name, "state": "", "text": ""}) for name in levels]
    types: dict[str, list[str]] = {}
    for each in found["types"]:
        text = f"{each['type']} {amount(each['files'])} ({each['last'][:10]})"
        types.setdefault(f"{each['item']} on {each['host']}", []).append(text)
    counts = found["counts"]
    return {
        "state": found["state"],
        "days": f"{found['proven_s'] / 86400:.0f}",
        "summary": f"{counts['ok']} proven in time, {counts['bad']} overdue, failed or never",
        "levels": [LEVELS.get(name, name) for name in levels],
        "rows": rows,
        "types": [{"where": where, "text": ", ".join(texts)} for where, texts in types.items()],
    }


def _forecast(summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """When everything would be back, from the newest restore of each item that was measured."""
    promised = [(item["name"], item["host"]) for item in _promised(summary)]
    rows = newest_rows(record["body"] for record in records if record["kind"] == "proof")
    found = forecast(rows, promised, (summary.get("line") or {}).get("down_bits_per_s"))
    least = "at least " if found["missing"] else ""
    return {
        "lan": "never measured" if found["lan_s"] is None else least + duration(found["lan_s"]),
        "line": "" if found["line_s"] is None else least + duration(found["line_s"]),
        "amount": f"{size(found['bytes'])} restored, {size(found['transfer_bytes'])} over the line",
        "missing": ", ".join(found["missing"]),
    }


# --- power -----------------------------------------------------------------------------------------------------------


def power_drill_row(
    ups: Mapping[str, Any], name: str, records: Sequence[Mapping[str, Any]], now: dt.datetime, zone: ZoneInfo
) -> dict[str, Any]:
    """The newest real drill of a UPS; one with a signal, or on paper, only when there is nothing better."""
    drills = [r for r in records if r["kind"] == "drill" and r["body"].get("ups") == name]
    real = [r for r in drills if r["body"].get("level") == "real"]
    signal = [r for r in drills if r["body"].get("level") == "signal"]
    chosen = (real or signal or drills)[-1:]
    answer: dict[str, Any] = {
        "ups": name,
        "feeds": [str(host) for host in ups.get("feeds") or []],
        "primary": str(ups.get("primary") or ""),
        "state": "bad",
        "value": "never",
        "at": "",
        "verdict": "",
        "detail": "No power cut was ever rehearsed: nobody knows whether the battery lasts.",
        "shutdown_s": None,
        "runtime_s": None,
        "margin_s": None,
        "level": "",
        "order": "",
        "databases": "",
        "shutdown_text": "never",
        "runtime_text": "never",
        "margin_text": "",
        "back_text": "",
        "need_text": "",
        "stops_text": "",
        "since": "the mains failed",
        "chart": None,
    }
    if not chosen:
        return answer
    body = chosen[0]["body"]
    at = parse_time(chosen[0].get("at"))
    old = (now - at).total_seconds() if at else 0.0
    figures = body.get("figures") or {}
    state = STATE_OF.get(str(body.get("verdict")), "bad")
    detail = "; ".join(_reasons(body))
    if state == "ok" and body.get("level") != "real":
        told = "Every machine was told to stop" if body.get("level") == "signal" else "Only calculated"
        state, detail = "warn", f"{told}: no machine was really switched off."
    elif state == "ok" and figures.get("margin_s") is None:
        state, detail = "warn", "The drill measured no margin."
    elif state == "ok" and old > DRILL_DUE_S:
        state, detail = "bad", f"Overdue: rehearse at least every {duration(DRILL_DUE_S)}."
    later = drills[-1]
    if later is not chosen[0] and later["body"].get("verdict") != "PASS":
        state = worst([state, STATE_OF.get(str(later["body"].get("verdict")), "bad")])
        detail = "; ".join(filter(None, [detail, "a later check says", *_reasons(later["body"])]))
    left = figures.get("low_battery_s")
    left = figures.get("battery_runtime_s") if left is None else left
    databases = body.get("databases") or []
    unclean = [str(entry.get("host")) for entry in databases if not entry.get("clean")]
    order = body.get("order_ok")
    return answer | {
        "state": state,
        "value": ago(old),
        "at": clock_time(at, zone) if at else "",
        "verdict": str(body.get("verdict")),
        "detail": detail,
        "shutdown_s": figures.get("shutdown_s"),
        "runtime_s": left,
        "margin_s": figures.get("margin_s"),
        "level": DRILL_LEVELS.get(str(body.get("level")), "on paper"),
        "order": "" if order is None else "right: the NAS went last" if order else "wrong",
        "databases": _database_words(len(databases), unclean),
        "shutdown_text": duration(figures.get("shutdown_s")),
        "runtime_text": duration(left),
        "margin_text": duration(figures.get("margin_s")),
        "back_text": _back_words(body.get("timeline") or []),
        "need_text": _need_words(figures),
        "stops_text": ", ".join(
            f"{host} {duration(stop.get('seconds'))}" for host, stop in (body.get("stops") or {}).items()
        ),
        "since": "the shutdown was ordered" if body.get("level") == "signal" else "the mains failed",
        "chart": power_chart(body.get("timeline") or [], figures),
    }


DRILL_LEVELS = {
    "real": "real: the machines were switched off",
    "signal": "a signal: every machine was told to stop, and wrote it down instead",
}


def _need_words(figures: Mapping[str, Any]) -> str:
    if not figures.get("need_s"):
        return "not known"
    missing = figures.get("missing_s")
    return f"{duration(figures['need_s'])} at most" + (f"; {duration(missing)} are missing" if missing else "")


def _back_words(timeline: Sequence[Mapping[str, Any]]) -> str:
    back = [(str(e.get("host")), float(e["t_s"])) for e in timeline if e.get("event") == "back"]
    return ", ".join(f"{host} after {duration(at)}" for host, at in sorted(back, key=lambda pair: pair[1]))


def _database_words(count: int, unclean: Sequence[str]) -> str:
    if not count:
        return "none on these machines"
    return f"not shut down cleanly on {', '.join(unclean)}" if unclean else f"{count} of {count} shut down cleanly"


def _wiring(
    wiring: Mapping[str, Mapping[str, Any]], said: Mapping[str, Any] | None, now: dt.datetime
) -> dict[str, Any] | None:
    """What feeds what, as a drawing, with what the watches said last: {chart, asked, upses: [{name, troubles, facts}], stops}."""
    upses = (said or {}).get("upses") or {}
    stops = (said or {}).get("stops") or {}
    chart = wiring_chart(wiring, {name: state_words(upses.get(name)) for name in wiring} if said else {})
    if chart is None:
        return None
    return {
        "chart": chart,
        "asked": told_ago(said, now) if said else "never",
        "upses": [
            {
                "name": name,
                "troubles": [
                    f"{row['state']}: {'; '.join(row['happened'])}"
                    for row in (upses.get(name) or {}).get("troubles") or ()
                ],
                "facts": [{"label": label, "text": text} for label, text in facts(upses.get(name))],
            }
            for name in wiring
        ],
        "stops": [
            {"host": host, "text": stop_words(stops.get(host))}
            for host in dict.fromkeys(host for ups in wiring.values() for host in ups["feeds"])
        ],
    }


# --- ledger ----------------------------------------------------------------------------------------------------------


def _ledger(
    ledger: Mapping[str, Any], records: Sequence[Mapping[str, Any]], now: dt.datetime, zone: ZoneInfo
) -> dict[str, Any]:
    broken, error = ledger.get("broken"), ledger.get("error")
    count = int(ledger.get("count") or 0)
    last = parse_time(records[-1].get("at")) if records else None
    if error:
        state, text = "bad", f"Could not be checked: {error}"
    elif broken:
        where = f"record {broken.get('seq')}" if broken.get("seq") else f"line {broken.get('line')}"
        state, text = "bad", f"Broken at {where} ({broken.get('check')}): {broken.get('message')}"
    elif not count:
        state, text = "bad", "There is no record: nothing was ever proven."
    elif not ledger.get("ok"):
        state, text = "bad", "The check did not succeed."
    else:
        state, text = "ok", f"All {plural(count, 'record')} follow one another and carry the practice's signature."
    if last is not None and (last - now).total_seconds() > CLOCK_SLACK_S:
        state, text = "bad", f"The newest record is dated in the future: a clock is wrong. {text}"
    where = ""
    if state == "ok" and "published" in ledger:
        state, where = published(ledger["published"], count)
        text = text if state == "ok" else where
    return {
        "state": state,
        "text": text,
        "published": where,
        "count": count,
        "head": str(ledger.get("head") or ""),
        "last": clock_time(last, zone) if last else "never",
        "notes": [str(note) for note in ledger.get("notes") or []],
    }


# --- what follows from it --------------------------------------------------------------------------------------------


def _findings(
    items: Sequence[Mapping[str, Any]],
    power: Sequence[Mapping[str, Any]],
    chain: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    glass: Mapping[str, Any],
    rotation: Mapping[str, Any],
    late: Mapping[tuple[str, str], Sequence[str]],
) -> list[dict[str, str]]:
    """Everything that is not good, the worst first. late: what the rotation owes, by (item, host)."""
    found = []
    if not items:
        found.append({"state": "bad", "where": "Practice", "text": "Nothing is protected."})
    for item in items:
        where = f"{item['name']} on {item['host']}"
        for part, words in (("backup", "last good backup"), ("proof", "last proof")):
            entry = item[part]
            if entry["state"] in {"warn", "bad"}:
                text = f"{words}: {entry['value']}. {entry['detail']}".strip()
                found.append({"state": entry["state"], "where": where, "text": text})
    for (name, host), texts in late.items():
        more = f" and {len(texts) - SHOWN_LATE} more" if len(texts) > SHOWN_LATE else ""
        text = f"older runs: {'; '.join(texts[:SHOWN_LATE])}{more}."
        found.append({"state": "bad", "where": f"{name} on {host}", "text": text})
    # What a proof says about itself, such as a restore machine that could not be wiped, belongs to no item.
    for proof in [record["body"] for record in records if record["kind"] == "proof"][-1:]:
        found += [{"state": "bad", "where": "Restore machine", "text": f"{reason}."} for reason in _reasons(proof)]
    for ups in power:
        if ups["state"] in {"warn", "bad"}:
            text = f"power drill: {ups['value']}. {ups['detail']}".strip()
            found.append({"state": ups["state"], "where": ups["ups"], "text": text})
    if glass["state"] in {"warn", "bad"}:
        text = f"break-glass rehearsal: {glass['value']}. {glass['detail']}".strip()
        found.append({"state": glass["state"], "where": "Recovery kit", "text": text})
    if rotation["state"] in {"warn", "bad"}:
        text = f"maintenance: {rotation['value']}. {rotation['detail']}".strip()
        found.append({"state": rotation["state"], "where": "Repositories", "text": text})
    if chain["state"] != "ok":
        found.append({"state": chain["state"], "where": "Evidence ledger", "text": chain["text"]})
    return sorted(found, key=lambda finding: -SEVERITY[finding["state"]])


def _counted(findings: Sequence[Mapping[str, str]]) -> str:
    bad = sum(finding["state"] == "bad" for finding in findings)
    unsure = len(findings) - bad
    parts = [plural(bad, "point") + " to act on"] * bool(bad) + [plural(unsure, "point") + " unsure"] * bool(unsure)
    return ", ".join(parts) or "nothing to act on"


def _verdict(state: str, findings: Sequence[Mapping[str, str]], items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    code, word, sentence = VERDICTS[state]
    proven = f"{len(items)} of {plural(len(items), 'protected item')} proven"
    headline = proven if state == "ok" else _counted(findings)
    return {"state": code, "colour": state, "word": word, "headline": headline, "sentence": sentence}


def _figure(
    key: str, label: str, value: str, target: str, state: str, note: str, share: float | None
) -> dict[str, Any]:
    share = None if share is None else round(max(0.0, min(1.0, share)), 4)
    return {
        "key": key,
        "label": label,
        "value": value,
        "target": target,
        "state": state,
        "note": note,
        "share": share,
    }


def _names(items: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{item['name']} on {item['host']}" for item in items)


def _backup_figure(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The item that is worst off speaks for all."""
    label = "Newest backup"
    missing = [item for item in items if item["backup"]["age_s"] is None]
    if missing or not items:
        return _figure("backup", label, "never", "", "bad", f"no backup of {_names(missing) or 'anything'}", None)

    def strain(item: Mapping[str, Any]) -> float:
        return float(item["backup"]["age_s"]) / float(item["backup"]["limit_s"] or 86400)

    item = max(items, key=strain)
    backup = item["backup"]
    target = f"at most {duration(backup['limit_s'])}" if backup["limit_s"] else "no limit agreed"
    state = worst(entry["backup"]["state"] for entry in items)
    value = age(max(0.0, backup["age_s"]))
    return _figure(
        "backup", label, f"{value} old", target, state, f"oldest: {item['name']} on {item['host']}", strain(item)
    )


def _loss_figure(items: Sequence[Mapping[str, Any]], objectives: Mapping[str, Any]) -> dict[str, Any]:
    return _measured("loss", "Data loss, measured", "data_loss_s", items, objectives.get("rpo_s"), together=False)


def _restore_figure(items: Sequence[Mapping[str, Any]], objectives: Mapping[str, Any]) -> dict[str, Any]:
    return _measured("restore", "Restore time, measured", "restore_s", items, objectives.get("rto_s"), together=True)


def _measured(
    key: str, label: str, figure: str, items: Sequence[Mapping[str, Any]], limit: Any, *, together: bool
) -> dict[str, Any]:
    """The largest of the measured values, or their sum: items are restored one after another."""
    target = f"at most {duration(limit)}" if limit else "no limit agreed"
    missing = [item for item in items if item[figure] is None]
    if missing or not items:
        return _figure(key, label, "never", target, "bad", f"not measured: {_names(missing) or 'anything'}", None)
    largest = max(items, key=lambda item: float(item[figure]))
    value = sum(float(item[figure]) for item in items) if together else float(largest[figure])
    state = "bad" if limit and value > limit else "ok"
    failed = [item for item in items if item["proof"]["verdict"] != "PASS"]
    if failed:
        state = worst([state, *(item["proof"]["state"] for item in failed)])
        note = f"not to be trusted: the proof of {_names(failed)} did not pass"
    elif together:
        note = f"all {plural(len(items), 'item')}, one after another"
    else:
        note = f"largest: {largest['name']} on {largest['host']}"
    return _figure(key, label, duration(value), target, state, note, value / limit if limit else None)


def _power_figure(power: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    label = "Shutdown on battery"
    if not power:
        return _figure(
            "power", label, "no UPS", "none is planned", "none", "a power cut stops all machines at once", None
        )
    unmeasured = [ups for ups in power if ups["shutdown_s"] is None or not ups["runtime_s"]]
    if unmeasured:
        runtime = unmeasured[0]["runtime_s"]
        target = f"battery lasts {duration(runtime)}" if runtime else ""
        state = worst(["warn", *(ups["state"] for ups in unmeasured)])
        return _figure("power", label, "never", target, state, f"not measured: {unmeasured[0]['ups']}", None)
    tight = max(power, key=lambda ups: float(ups["shutdown_s"]) / float(ups["runtime_s"]))
    margin = tight["margin_s"] if tight["margin_s"] is not None else tight["runtime_s"] - tight["shutdown_s"]
    note = f"margin {duration(margin)}" if margin > 0 else "the battery would be empty first"
    state = worst(["ok" if margin > 0 else "bad", *(ups["state"] for ups in power)])
    share = float(tight["shutdown_s"]) / float(tight["runtime_s"])
    target = f"battery lasts {duration(tight['runtime_s'])}"
    return _figure("power", label, duration(tight["shutdown_s"]), target, state, note, share)


def _unchecked(
    summary: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    power: Sequence[Mapping[str, Any]],
    glass: Mapping[str, Any],
) -> list[dict[str, str]]:
    """What this report says nothing about, in red where it was promised."""
    found = []
    for item in items:
        where = f"{item['name']} on {item['host']}"
        if not item["proof"]["verdict"]:
            found.append({"state": "bad", "text": f"{where}: never restored"})
            continue
        missing = [
            level["label"].lower() for level in item["levels"] if level["text"] in {"not checked", "nothing checked"}
        ]
        found += [{"state": "bad", "text": f"{where}: not shown by the last proof: {label}"} for label in missing]
    for ups in power:
        if not ups["verdict"]:
            found.append({"state": "bad", "text": f"power from {ups['ups']}: never rehearsed"})
        elif ups["shutdown_s"] is None:
            found.append({"state": "warn", "text": f"power from {ups['ups']}: no machine was really switched off"})
    if not power:
        found.append({"state": "none", "text": "power cuts: the practice document names no UPS"})
    if glass["state"] == "none":
        found.append({"state": "none", "text": "recovery with the kit alone: never rehearsed"})
    copies = summary.get("copies") or {}
    if "offsite" not in copies:
        found.append(
            {"state": "none", "text": "fire, flood and theft: no copy outside the building is part of this report"}
        )
    found.append(
        {"state": "none", "text": "data on computers, phones and web services that the practice document does not name"}
    )
    found.append(
        {"state": "none", "text": "restoring onto the practice's own hardware: times were measured on the restore host"}
    )
    return found


def _contacts(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    labels = {"backup_owner": "Answers for backups in the practice", "it_provider": "IT provider"}
    contacts = []
    for key, contact in (summary.get("contacts") or {}).items():
        if isinstance(contact, Mapping):
            contacts.append(
                {
                    "label": labels.get(key, key.replace("_", " ")),
                    **{part: str(contact.get(part) or "") for part in ("name", "role", "email", "phone")},
                }
            )
    return contacts
