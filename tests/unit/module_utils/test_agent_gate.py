"""No backup on battery; and none is lost because a monitor is broken."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_gate, nut

OL, OB, LOW, FSD = ("OL",), ("OB", "DISCHRG"), ("OB", "LB"), ("FSD", "OL")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ups1@198.18.0.11", ("ups1", "198.18.0.11", 3493)),
        ("ups1@nas1.example:3500", ("ups1", "nas1.example", 3500)),
        ("ups1@[fd00::11]", ("ups1", "fd00::11", 3493)),
        ("ups1@[fd00::11]:3500", ("ups1", "fd00::11", 3500)),
        ("ups1", None),
        ("ups1@", None),
        ("ups1@fd00::11", None),
        ("@198.18.0.11", None),
    ],
)
def test_monitor_of(text, found):
    assert agent_gate.monitor_of(text) == found


@pytest.mark.parametrize(
    ("power", "faults"),
    [
        (None, 0),
        ({"monitors": ["ups1@198.18.0.11"]}, 0),
        ({"monitors": ["a@198.18.0.11", "b@198.18.0.11"], "min_supplies": 2}, 0),
        ({"monitors": []}, 1),
        ({"monitors": "ups1@198.18.0.11"}, 1),
        ({"monitors": ["ups1", "ups2@198.18.0.11"], "min_supplies": 3}, 2),
        ({"monitors": ["ups1@198.18.0.11"], "min_supplies": True}, 1),
        ({"monitors": ["ups1@198.18.0.11"], "watts": 3}, 1),
        ([], 1),
    ],
)
def test_power_faults(power, faults):
    assert len(agent_gate.power_faults(power)) == faults


@pytest.mark.parametrize(
    ("found", "need", "state", "near"),
    [
        ([OL], 1, "mains", False),
        ([OB], 1, "battery", False),
        ([LOW], 1, "battery", True),
        ([FSD], 1, "battery", True),
        ([("OL", "LB")], 1, "mains", False),
        ([("OL", "CHRG", "RB")], 1, "mains", False),
        ([("OB", "CAL")], 1, "battery", False),
        ([None], 1, "unknown", False),
        ([()], 1, "unknown", False),
        ([OB, OL], 1, "mains", False),  # the other feed carries the host
        ([OB, OL], 2, "battery", False),
        ([OB, LOW], 1, "battery", True),
        ([None, OL], 1, "mains", False),
        ([OB, None], 1, "mains", False),
        ([OB, None], 2, "battery", False),
    ],
)
def test_judge(found, need, state, near):
    assert agent_gate.judge(found, need) == (state, near)


class Played:
    """A UPS that says each word for as long as the row tells; time passes only here."""

    def __init__(self, *words):
        self.words, self.now = list(words), 0.0
        self.gate = agent_gate.PowerGate(agent_gate.Power(["ups1@x"]), lambda _monitor: self.said, lambda: self.now)

    def go_on(self, every=3.0):
        """Seconds after which the run was ended; None when it was not."""
        for words, lasts in self.words:
            self.said = words
            for _ in range(int(lasts / every)):
                self.now += every
                answer = self.gate.go_on()
                if answer:
                    assert (answer.code, answer.retry) == ("on_battery", True)
                    return self.now
        return None


@pytest.mark.parametrize(
    ("words", "ended"),
    [
        ([(OL, 60)], None),
        ([(None, 60)], None),  # a broken monitor ends nothing
        ([(OL, 6), (OB, 60)], 6 + 3 + 15),
        ([(OB, 12), (OL, 30)], None),  # a blip, or the UPS's own test
        ([(OB, 12), (OL, 3), (OB, 12), (OL, 3)], None),
        ([(OL, 6), (LOW, 60)], 9),
        ([(OL, 6), (OB, 6), (FSD, 60)], 15),
        ([(OL, 6), (OB, 3), (None, 60)], 6 + 3 + 15),  # upsd went down with the mains
    ],
)
def test_a_run_under_way(words, ended):
    assert Played(*words).go_on() == ended


NOTE = {"code": "on_battery", "since": "2026-11-24T10:00:00Z"}
SINCE = 1795514400.0


@pytest.mark.parametrize(
    ("said", "note", "later", "deferred"),
    [
        (OL, None, 0, False),
        (OB, None, 0, True),
        (FSD, None, 0, True),
        (None, None, 0, False),
        (None, NOTE, 1800, True),  # upsd went down in the outage
        (None, NOTE, 3600, False),  # no battery lasts so long: it is broken
        (None, {**NOTE, "code": "outside_window"}, 60, False),
        (OL, NOTE, 60, False),
    ],
)
def test_a_start(capfdbinary, said, note, later, deferred):
    gate = agent_gate.PowerGate(agent_gate.Power(["ups1@x"]), lambda _monitor: said)
    answer = gate.begin("documents", note, SINCE + later)
    assert bool(answer) is deferred
    assert (b"without knowing" in capfdbinary.readouterr().out) is (said is None and not deferred)


def test_a_silent_upsd_is_not_known(monkeypatch):
    def refuse(*_arguments, **_options):
        raise nut.NutError(nut.UNREACHABLE, "no")

    monkeypatch.setattr(nut, "Nut", refuse)
    assert agent_gate.status_of("ups1@198.18.0.11") is None
