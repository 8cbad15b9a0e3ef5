# SPDX-License-Identifier: Apache-2.0
"""A drill that stops nothing: what it puts in NUT's way, and how that goes away again."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import power_signal

REAL = """\
# written by Holdfast
MONITOR ups1@198.18.0.11 1 server1 "secret" secondary
MINSUPPLIES 1
SHUTDOWNCMD "/usr/sbin/shutdown -h now"
POWERDOWNFLAG "/etc/killpower"
HOSTSYNC 15
"""


def test_only_the_command_and_the_flag_are_other_ones():
    drill = power_signal.render_upsmon_conf(REAL)
    changed = [(a, b) for a, b in zip(REAL.splitlines(), drill.splitlines(), strict=True) if a != b]
    assert changed == [
        ('SHUTDOWNCMD "/usr/sbin/shutdown -h now"', 'SHUTDOWNCMD "/bin/sh /run/holdfast-power-signal/leave-mark"'),
        ('POWERDOWNFLAG "/etc/killpower"', 'POWERDOWNFLAG "/run/holdfast-power-signal/killpower"'),
    ]


@pytest.mark.parametrize("key", ["SHUTDOWNCMD", "POWERDOWNFLAG"])
def test_a_configuration_in_which_the_real_one_would_stay_is_refused(key):
    text = "\n".join(line for line in REAL.splitlines() if not line.startswith(key))
    with pytest.raises(power_signal.SignalError, match=f"no {key}"):
        power_signal.render_upsmon_conf(text)


def test_the_primary_drops_the_order_before_its_monitor_starts():
    lines = power_signal.render_put_back(["ups1@127.0.0.1"], {"ups1": "dummy-ups"}).splitlines()
    orders = [
        "systemctl stop nut-monitor.service",
        "systemctl restart nut-driver@ups1.service",
        "systemctl restart nut-server.service",
    ]
    begin = lines.index(orders[0])
    assert lines[begin : begin + 3] == orders
    assert begin + 3 < next(n for n, line in enumerate(lines) if line.startswith("systemctl start nut-monitor.service"))


def test_a_real_ups_s_driver_is_left_alone():
    assert "nut-driver" not in power_signal.render_put_back(["ups1@127.0.0.1"], {"ups1": "usbhid-ups"})


@pytest.fixture
def put_back(tmp_path):
    """The program with other programs in place of systemctl and upsc, which write down that they were called."""
    log, ordered = tmp_path / "log", tmp_path / "ordered"
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    upsc = f'#!/bin/sh\necho upsc >> {log}\nif [ -s {ordered} ]; then sed -i 1d {ordered}; echo "FSD OB LB"; else echo OL; fi\n'
    (tmp_path / "upsc").write_text(upsc)
    for name in ("systemctl", "upsc"):
        (tmp_path / name).chmod(0o755)
    text = power_signal.render_put_back(["ups1@198.18.0.11"], {})
    for path in (power_signal.FOLDER, power_signal.DROP_IN):
        text = text.replace(path, str(tmp_path / "run"))

    def run(orders):
        ordered.write_text("x\n" * orders)
        (tmp_path / "run").mkdir(exist_ok=True)
        done = subprocess.run(["/bin/sh", "-c", text], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
        return done.returncode, log.read_text().splitlines()

    return run


def test_a_host_waits_until_the_order_is_gone_before_its_monitor_starts(put_back):
    code, said = put_back(2)
    assert code == 0
    assert said == [
        "stop nut-monitor.service",
        "upsc",
        "upsc",
        "upsc",
        "daemon-reload",
        "start nut-monitor.service",
        "is-active --quiet nut-monitor.service",
        "is-enabled --quiet holdfast-power-hold.service",
        "start holdfast-power-hold.service",
        "stop holdfast-power-signal.timer",
    ]


def test_a_host_that_was_told_is_not_counted_at_the_ups_any_more():
    assert power_signal.LEAVE_MARK.splitlines()[-1].endswith("|| exec systemctl stop holdfast-power-hold.service")


@pytest.mark.parametrize(("text", "mark"), [("1795292312.500000000\n", 1795292312.5), ("", None), ("1795", None)])
def test_a_mark_is_whole_or_none(text, mark):
    assert power_signal.read_mark(text) == mark


@pytest.mark.parametrize(("skew", "given"), [(0.4, 100.0), (-1.9, 100.0), (3600.0, -3500.0), (-3600.0, 3700.0)])
def test_a_mark_is_given_on_the_clock_of_the_one_who_asks(skew, given):
    assert power_signal.on_control_clock(100.0, 200.0 + skew, 200.0) == given
