# SPDX-License-Identifier: Apache-2.0
"""Geometry of the power drill's drawing: one lane per machine, secondaries on top, the primary last. Pure.

A battery lasts minutes and a drill takes seconds. When both do not fit on one scale the axis is cut before the limit,
and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .report_words import duration

WIDTH = 760
LEFT = 118
RIGHT = 726
TOP = 56
MARK_AT = 44  # base line of the lowest event label
LANE = 34
CUT_AT = 0.78  # share of the axis left of the cut
MARKS = {
    "on_battery": "mains fail",
    "low_battery": "battery low",
    "fsd": "shutdown ordered",
    "ordered": "shutdown ordered",
}
# how a machine's lane ends: it went off, or in a drill that stops nothing it was told to
ENDS = {"gone": "off after", "told": "told after"}


def _step(span: float) -> float:
    """A round distance between two ticks, for five to nine of them."""
    for step in (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0):
        if span / step <= 8:
            return step
    return span / 6


def power_chart(timeline: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what to draw, in SVG units, or None when no machine was seen going off or told to.

    {"width", "height", "top", "bottom", "left", "right", "margin_from", "margin_x", "lanes": [{"host", "role", "y", "x1", "x2",
    "stop_x" (where its stop began, or None), "label", "label_x", "anchor", "where"}],
    "marks": [{"x", "y", "label", "anchor"}], "ticks": [{"x", "label"}],
    "limit": {"x", "label", "anchor"} or None, "cut_x": x or None}
    """
    gone = {str(e["host"]): e for e in timeline if e.get("event") in ENDS}
    began = {str(e["host"]): float(e["t_s"]) for e in timeline if e.get("event") == "stopping"}
    if not gone:
        return None
    end = max(float(e["t_s"]) for e in gone.values())
    left = figures.get("low_battery_s")
    runtime = figures.get("battery_runtime_s") if left is None else left
    # The battery counts from the moment that shutdown is called for, as the drill's own margin does.
    low = next((float(e["t_s"]) for e in timeline if e.get("event") == "low_battery"), 0.0)
    limit = low + float(runtime) if runtime else None
    cut = limit is not None and limit > 2.5 * end
    span = max(end * 1.12, 1.0) if cut or limit is None else max(end, limit) * 1.06
    width = (RIGHT - LEFT) * (CUT_AT if cut else 1.0)

    def x(seconds: float) -> float:
        return round(LEFT + width * min(seconds, span) / span, 1)

    order = sorted(gone.values(), key=lambda e: (e.get("role") == "primary", float(e["t_s"])))
    lanes = []
    for number, event in enumerate(order):
        at = float(event["t_s"])
        inside = x(at) > LEFT + 170
        lanes.append(
            {
                "host": str(event["host"]),
                "role": str(event.get("role") or ""),
                "y": TOP + number * LANE,
                "x1": x(0),
                "x2": x(at),
                "stop_x": x(began[str(event["host"])]) if str(event["host"]) in began else None,
                "label": f"{ENDS[event['event']]} {duration(at)}",
                "label_x": x(at) - 8 if inside else x(at) + 8,
                "anchor": "end" if inside else "start",
                "where": "inside" if inside else "outside",
            }
        )
    bottom = TOP + len(lanes) * LANE
    marks = []
    for event in timeline:
        label = MARKS.get(str(event.get("event")))
        if label:
            at = x(float(event["t_s"]))
            marks.append({"x": at, "y": MARK_AT, "label": label, "anchor": "start"})
    _spread(marks)
    step = _step(span)
    count = int(span / step)
    ticks = [{"x": x(n * step), "label": "0" if not n else duration(n * step)} for n in range(count + 1)]
    cut_x = round(LEFT + width + 22, 1) if cut else None
    line: dict[str, Any] | None = None
    if limit is not None:
        line = {"x": float(RIGHT) if cut else x(limit), "label": f"battery empty {duration(limit)}", "anchor": "end"}
    return {
        "width": WIDTH,
        "height": bottom + 40,
        "top": TOP,
        "bottom": bottom,
        "margin_from": x(end) + 1,
        "margin_x": round(((cut_x + 5 if cut_x else x(end)) + line["x"]) / 2, 1) if line else None,
        "left": LEFT,
        "right": RIGHT,
        "lanes": lanes,
        "marks": marks,
        "ticks": ticks,
        "limit": line,
        "cut_x": cut_x,
    }


def _spread(marks: list[dict[str, Any]]) -> None:
    """Labels that would overlap go up, the earlier the higher: no line of a later event crosses an earlier label."""
    for number in range(len(marks) - 2, -1, -1):
        nearest = min(marks[number + 1 :], key=lambda other: float(other["x"]))
        if nearest["x"] - marks[number]["x"] < 110:
            marks[number]["y"] = nearest["y"] - 14
