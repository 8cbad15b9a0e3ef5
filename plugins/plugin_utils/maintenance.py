# SPDX-License-Identifier: Apache-2.0
"""What retention is told of a host, and what its results come to. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.verify import FAIL, INCONCLUSIVE, worst

# of agent status: FAILED and INCOMPLETE are no reason not to believe what it says
STATUS_ENDS = (0, 1, 2)


def jobs_of(
    items: Sequence[Mapping[str, Any]], host: str, summary: Mapping[str, Any], answer: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The jobs of a host, as repository_retention wants them: [{name, interval_s, frozen}].

    items: restore_verify_items. summary: of the practice. answer: of the host's ``agent status --json`` (rc, stdout), or
    anything else when it gave none: then no job with a database is safe to judge.
    """
    told = _answer(answer)
    found = []
    for item in items:
        if item["host"] != host:
            continue
        frozen = ""
        if item.get("engine"):
            since = told.get(item["job"], {}).get("unclean") if told is not None else None
            if told is None:
                frozen = "its host does not answer, so nobody knows whether its database is sound"
            elif since:
                frozen = (
                    f"its host went down without being stopped ({since}), and nobody has found its database sound since"
                )
        every = summary["items"][item["item"]]["interval_s"]
        found.append({"name": item["job"], "interval_s": float(every), "frozen": frozen})
    return found


def _answer(answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]] | None:
    if answer.get("rc") not in STATUS_ENDS:
        return None
    try:
        rows = json.loads(answer.get("stdout") or "")
        return {str(row["job"]): row for row in rows}
    except (ValueError, TypeError, KeyError):
        return None


def broken(host: str, code: str, message: str) -> dict[str, Any]:
    """The result of a host that could not be judged."""
    return {"host": host, "verdict": INCONCLUSIVE, "reasons": [{"code": code, "message": message}]}


def conclude(
    practice: str,
    hosts: Sequence[str],
    results: Sequence[Mapping[str, Any]],
    machine: str,
    accepted: Sequence[str],
) -> dict[str, Any]:
    """Put the results of hosts together: {"verdict", "body", "lines"}.

    hosts: those that were to be maintained. results: what was reached. machine: why the machine that it is done with could not
    be had, or was left behind; "" when all went well.
    """
    done = {str(row["host"]): _plain(row) for row in results}
    for host in hosts:
        if host not in done:
            done[host] = broken(host, "not_reached", machine or "maintenance broke off before it")
    verdicts = [str(row["verdict"]) for row in done.values()] + ([FAIL] if machine and results else [])
    removed = [{"host": host, **run} for host, row in done.items() for run in row.get("removed") or ()]
    for host, row in done.items():
        if row.get("discarded"):
            removed.append({"host": host, "discarded": True, "snapshots": row["discarded"]})
    body = {
        "practice": practice,
        "verdict": worst(verdicts),
        "hosts": {
            host: {key: row[key] for key in sorted(row) if key not in ("removed", "host")} for host, row in done.items()
        },
        "removed": removed,
        "accepted": list(accepted),
        **({"machine": machine} if machine else {}),
    }
    return {"verdict": body["verdict"], "body": body, "lines": list(_lines(body))}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, str) else value


def _lines(body: Mapping[str, Any]) -> Iterator[str]:
    yield f"{body['verdict']}: maintenance of the repositories of {body['practice']}"
    for host, row in body["hosts"].items():
        runs = [run for run in body["removed"] if run["host"] == host and not run.get("discarded")]
        freed = row.get("freed_bytes")
        room = f", {freed / 1e6:.0f} MB freed" if freed and freed > 0 else ""
        yield f"  {row['verdict']:<12} {host}: {len(runs)} runs removed{room}"
        for doubt in row.get("doubts") or ():
            yield f"    nothing was removed: {doubt['message']}"
            yield f"      {what_to_do(doubt)}"
        for reason in row.get("reasons") or ():
            yield f"    {reason['code']}: {reason['message']}"
        for job, why in (row.get("frozen") or {}).items():
            yield f"    nothing of {job} was removed: {why}"
        for job, kept in (row.get("kept") or {}).items():
            counted = ", ".join(f"{number} {kind}" for kind, number in kept.items()) or "nothing"
            clean = (row.get("clean") or {}).get(job)
            last = f"; the last clean one arrived {clean['arrived']}" if clean else "; NONE of them is clean"
            yield f"    {job}: {counted} kept{last if kept else ''}"
        if row.get("discarded"):
            yield f"    {len(row['discarded'])} snapshots thrown away, as asked for"
        if row.get("strays"):
            yield f"    {row['strays']} snapshots are of no job of the document; they are left alone"
    if body.get("machine"):
        yield f"  {body['machine']}"


def what_to_do(doubt: Mapping[str, Any]) -> str:
    """Say how a person clears a doubt, after having looked."""
    ids = ",".join(doubt["ids"])
    accept = f"-e accept={ids}"
    texts = {
        "unknown_keys": f"who made them? When that is known: {accept}",
        "unreadable_snapshots": f"prove the backups (playbooks/prove.yml); when older runs are known to be lost: {accept}",
        "arrivals_unknown": "run it again; when it stays, the NAS and its repository differ",
        "shrunk": f"look at what is missing on the host; when that is meant to be: {accept}",
        "too_many_runs": f"look who started them; when that is known: {accept}",
    }
    usual = (
        "look at the host, somebody may have its password; then throw them away with "
        f"-e discard={ids}, or let them be with {accept}"
    )
    return texts.get(str(doubt["code"]), usual)
