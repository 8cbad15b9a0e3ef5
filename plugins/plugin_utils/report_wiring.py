# SPDX-License-Identifier: Apache-2.0
"""Geometry of the drawing of what feeds what: the mains, each UPS, each machine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WIDTH = 760
ROW = 40
TOP = 14
BOX = 28
MAINS_X, UPS_X, HOST_X, END_X = 8, 104, 500, 744
UPS_WIDTH = 300


def wiring_chart(wiring: Mapping[str, Mapping[str, Any]], said: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what to draw, in SVG units, or None without a UPS.

    wiring: {UPS: {primary, feeds}}; said: {UPS: how it is, on one line}. Returns {"width", "height", "mains": {"x", "y",
    "h"}, "upses": [{"name", "text", "x", "y", "w", "h"}], "hosts": [{"name", "text", "x", "y", "w", "h"}], "wires": [{"x1",
    "y1", "x2", "y2", "data"}]}; data: a wire that also carries the UPS's word, to its primary.
    """
    if not wiring:
        return None
    hosts: dict[str, list[str]] = {}
    for name, ups in wiring.items():
        order = [*(host for host in ups["feeds"] if host != ups["primary"]), str(ups["primary"])]
        for host in order:
            hosts.setdefault(host, []).append(name)
    rows = max(len(hosts), len(wiring))
    height = TOP * 2 + rows * ROW
    where = {host: TOP + number * ROW + (rows - len(hosts)) * ROW / 2 for number, host in enumerate(hosts)}
    boxes, wires = [], []
    step = rows * ROW / len(wiring)
    for number, (name, ups) in enumerate(wiring.items()):
        y = TOP + step * (number + 0.5) - BOX / 2 - (ROW - BOX) / 2
        boxes.append({"name": name, "text": said.get(name, ""), "x": UPS_X, "y": y, "w": UPS_WIDTH, "h": BOX})
        wires.append({"x1": MAINS_X + 70, "y1": y + BOX / 2, "x2": UPS_X, "y2": y + BOX / 2, "data": False})
        for host in ups["feeds"]:
            wire = {"x1": UPS_X + UPS_WIDTH, "y1": y + BOX / 2, "x2": HOST_X, "y2": where[host] + BOX / 2}
            wires.append({**wire, "data": host == ups["primary"]})
    primaries = {str(ups["primary"]) for ups in wiring.values()}
    machines = [
        {
            "name": host,
            "text": ("stops last" if host in primaries else "stops first") + (", two feeds" if len(fed) > 1 else ""),
            "x": HOST_X,
            "y": y,
            "w": END_X - HOST_X,
            "h": BOX,
        }
        for (host, fed), y in zip(hosts.items(), where.values(), strict=True)
    ]
    mains = {"x": MAINS_X, "y": TOP, "h": rows * ROW - (ROW - BOX)}
    return {"width": WIDTH, "height": height, "mains": mains, "upses": boxes, "hosts": machines, "wires": wires}
