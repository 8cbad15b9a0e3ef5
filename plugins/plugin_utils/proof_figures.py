# SPDX-License-Identifier: Apache-2.0
"""Figures of a proof that need the practice's document: loss in opening hours, and when the whole site would be back. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.forecast import forecast, newest_rows
from ansible_collections.holdfast.practice.plugins.plugin_utils.opening import open_seconds
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_words import duration, parse_time

# A loss beyond it is not counted hour by hour
LONGEST_S = 10 * 366 * 86400


def with_figures(body: Mapping[str, Any], summary: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Give the body of a proof with these figures added, and the lines that say them.

    Each newest run gets figures.data_loss_open_s and, beside records (seconds by probe), records_open_s; the proof gets
    figures.forecast. Times count back from figures.died, the moment for which the loss was worked out.
    """
    done = _plain(body)
    lines = []
    for row in done["items"]:
        figures = row["figures"]
        died = parse_time(figures.get("died"))
        if died is None or figures.get("data_loss_s") is None:
            continue
        figures["data_loss_open_s"] = _open(summary, died, figures["data_loss_s"])
        records = figures.get("records") or {}
        figures["records_open_s"] = {name: _open(summary, died, lost) for name, lost in records.items()}
        lines += _loss_lines(row)
    promised = [(item, host) for item, known in summary["items"].items() for host in known["hosts"]]
    found = forecast(newest_rows([done]), promised, (summary.get("line") or {}).get("down_bits_per_s"))
    done["figures"]["forecast"] = found
    return done, [*lines, *forecast_lines(found)]


def _plain(value: Any) -> Any:
    """A copy that may be changed, whatever Ansible wrapped the parts in."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _open(summary: Mapping[str, Any], died: dt.datetime, lost: float | None) -> float | None:
    if lost is None or lost > LONGEST_S:
        return None
    start = died - dt.timedelta(seconds=lost)
    return open_seconds(summary.get("hours") or {}, str(summary["practice"]["timezone"]), start, died)


def _loss_lines(row: Mapping[str, Any]) -> list[str]:
    figures = row["figures"]
    name = f"{row['item']} of {row['host']}"
    lines = [f"  lost of {name}, had it died then: {loss_words(figures['data_loss_s'], figures['data_loss_open_s'])}"]
    for probe, lost in (figures.get("records") or {}).items():
        if lost is None:
            lines.append(f"    {probe}: lies ahead, so it tells nothing of a loss")
        else:
            lines.append(f"    since {probe}: {loss_words(lost, figures['records_open_s'].get(probe))}")
    return lines


def loss_words(lost: float, opened: float | None) -> str:
    """ "3 h 5 min, of it 45 min in opening hours"."""
    return duration(lost) + ("" if opened is None else f", of it {duration(opened)} in opening hours")


def forecast_lines(found: Mapping[str, Any]) -> list[str]:
    """Say a forecast in lines; nothing when nothing was measured."""
    if found["lan_s"] is None:
        return []
    least = "at least " if found["missing"] else ""
    text = f"  all of the site back after {least}{duration(found['lan_s'])} over the practice's own network"
    if found["line_s"] is not None:
        text += f", {least}{duration(found['line_s'])} over its line"
    missing = f" (not measured here: {', '.join(found['missing'])})" if found["missing"] else ""
    return [text + missing]
