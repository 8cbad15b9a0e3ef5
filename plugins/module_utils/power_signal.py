# SPDX-License-Identifier: Apache-2.0
"""A power drill that stops nothing: upsmon runs with a shutdown command that only leaves a mark. Pure: texts and decisions.

Nothing of it is on a disk: a copy of upsmon.conf, the unit's drop-in that points to it and the mark lie below /run, so a
start of the host takes them away. A timer of the host's own does so when the drill does not come back.

A host must not get its real upsmon back while its UPS still carries the drill's order (FSD): that would stop it for real.
So the primary drops the order first, by starting upsd anew, and the others wait until it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ansible_collections.holdfast.practice.plugins.module_utils import power_host

FOLDER = "/run/holdfast-power-signal"
CONFIGURATION = f"{FOLDER}/upsmon.conf"
MARK = f"{FOLDER}/mark"
COMMAND = f"{FOLDER}/leave-mark"
BACK = f"{FOLDER}/put-back"
FLAG = f"{FOLDER}/killpower"
DROP_IN_FOLDER = "/run/systemd/system/nut-monitor.service.d"
DROP_IN = f"{DROP_IN_FOLDER}/holdfast-power-signal.conf"
TIMER = "holdfast-power-signal"
ORDERED_S = 600  # so long a host that was forgotten waits for the order to go before it believes it

LEAVE_MARK = f"""\
#!/bin/sh
# upsmon runs this in place of the shutdown; a host that stops is counted at the UPS until its databases have stopped
date +%s.%N > {MARK}.new && mv {MARK}.new {MARK}
! systemctl is-active --quiet {power_host.HOLD} || exec systemctl stop {power_host.HOLD}
"""
DROP_IN_TEXT = f"""\
# A power drill runs; holdfast-power-signal.timer takes this away when the drill does not.
[Service]
Environment=NUT_CONFPATH={FOLDER}
"""


class SignalError(Exception):
    """The drill cannot be prepared on this host; the text says why."""


def render_upsmon_conf(real: str) -> str:
    """Give the drill's upsmon.conf: the host's own, but for what it does when it is told to stop."""
    replaced = {"SHUTDOWNCMD": f'"/bin/sh {COMMAND}"', "POWERDOWNFLAG": f'"{FLAG}"'}
    lines = []
    for line in real.splitlines():
        key = line.split(None, 1)[0] if line.strip() else ""
        lines.append(f"{key} {replaced.pop(key)}" if key in replaced else line)
    if replaced:
        raise SignalError(f"upsmon.conf has no {' and no '.join(sorted(replaced))}; run playbooks/site.yml")
    return "\n".join(lines) + "\n"


def render_put_back(monitors: Sequence[str], own: Mapping[str, str]) -> str:
    """Give the program that takes the drill away. monitors: UPS@ADDRESS of each. own: UPSs wired here, with their drivers.

    A simulated UPS keeps what the drill set until its driver starts anew; a real one is left alone.
    """
    lines = ["#!/bin/sh", "# takes the power drill away; safe to run at any time, and again", "set -u"]
    lines.append("systemctl stop nut-monitor.service")
    dummies = [ups for ups, driver in own.items() if driver == "dummy-ups"]
    lines += [f"systemctl restart nut-driver@{ups}.service" for ups in dummies]
    lines += ["systemctl restart nut-server.service"] if own else []
    lines += [
        f"end=$(($(cut -d. -f1 /proc/uptime) + {ORDERED_S}))",
        'while [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ]; do',
        "  ordered=",
        f"  for ups in {' '.join(monitors)}; do",
        '    case " $(upsc "$ups" ups.status 2>/dev/null) " in *" FSD "*) ordered=yes ;; esac',
        "  done",
        '  [ -n "$ordered" ] || break',
        "  sleep 1",
        "done",
        f"rm -f {DROP_IN}",
        "systemctl daemon-reload",
        "systemctl start nut-monitor.service && systemctl is-active --quiet nut-monitor.service || exit 1",
        # a primary of all its UPSs has none
        f"! systemctl is-enabled --quiet {power_host.HOLD} || systemctl start {power_host.HOLD} || exit 1",
        f"rm -rf {FOLDER}",
        # last, as it may be this program's own timer
        f"systemctl stop {TIMER}.timer 2>/dev/null",
        "exit 0",
    ]
    return "\n".join(lines) + "\n"


def read_mark(text: str) -> float | None:
    """Read when the mark was left, in seconds since the epoch; None when it is not whole."""
    return float(text) if re.fullmatch(r"[0-9]+\.[0-9]+\n?", text) else None


def on_control_clock(mark: float, host_now: float, asked_at: float, tolerance_s: float = 2.0) -> float:
    """Give a moment of the host's clock on the control node's, which asked at that moment.

    What lies within the way of the question is no difference between the clocks.
    """
    skew = host_now - asked_at
    return mark if abs(skew) <= tolerance_s else mark - skew
