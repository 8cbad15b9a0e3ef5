# SPDX-License-Identifier: Apache-2.0
"""When a host's part in an outage is left as it is, and what is said of a UPS that does not answer."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import nut, power
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Change
from ansible_collections.holdfast.practice.plugins.modules import power as module

RESTART, WRITE = Change("restart", "nut-server.service", ""), Change("write", "/etc/nut/upsd.conf", "")
MONITORS = [{"ups": "ups1", "type": "secondary"}, {"ups": "ups2", "type": "primary"}]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("OL", None),
        ("OL OFF", None),
        (None, None),  # it does not answer
        ("OB DISCHRG", "is on battery"),
        ("FSD OL", "is on battery"),
        ("OL BYPASS", "is bypassed or calibrating"),
        ("OL CAL", "is bypassed or calibrating"),
    ],
)
def test_nothing_is_restarted_while_that_could_stop_somebody(monkeypatch, status, words):
    monkeypatch.setattr(nut, "ask_each", lambda monitors: [{"ups": "ups1", "status": status}])
    module.refuse_on_battery(MONITORS, [WRITE])
    if words is None:
        module.refuse_on_battery(MONITORS, [RESTART])
        return
    with pytest.raises(power.PowerError, match=words):
        module.refuse_on_battery(MONITORS, [RESTART])


def answers(*codes):
    errors = [code and {"code": code, "message": f"upsd: {code}"} for code in codes]
    return [{"ups": m["ups"], "address": "198.18.0.11", "error": e} for m, e in zip(MONITORS, errors, strict=True)]


def test_a_primary_elsewhere_that_is_off_is_a_warning_also_on_a_host_that_is_a_primary_itself():
    assert module.judge_ups(MONITORS, answers(None, None)) == []
    assert "upsd: UNREACHABLE" in module.judge_ups(MONITORS, answers("UNREACHABLE", None))[0]


@pytest.mark.parametrize("codes", [(None, "UNREACHABLE"), (None, "DATA-STALE"), ("ACCESS-DENIED", None)])
def test_what_leaves_the_host_unprotected_is_an_error(codes):
    with pytest.raises(power.PowerError, match="the trial login failed"):
        module.judge_ups(MONITORS, answers(*codes))
