# SPDX-License-Identifier: Apache-2.0
"""What a UPS's words mean, when they are told, and what is said: by table, and over time with looks that are played."""

from __future__ import annotations

import io
import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    mail_send,
    notice,
    notice_host,
    nut,
    ups_watch,
    ups_watch_host,
    ups_watch_run,
)
from ansible_collections.holdfast.practice.plugins.module_utils.notice import Condition
from ansible_collections.holdfast.practice.plugins.module_utils.ups_watch import Finding, Limits, Seen

T = 20_000 * 86400.0
LIMITS = Limits()
NEED = {"slowest": {"host": "server1", "seconds": 200, "measured": False}, "total_s": 300}
UPS = {
    "name": "ups1", "address": "127.0.0.1", "port": 3493, "primary": "nas1", "deputy": False, "low_s": 360, "need": NEED,
    "feeds": {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"}, "may_be_off": ["desk1"],
    "self_test_every_s": None, "battery": None,
}  # fmt: skip
ALL = ("198.18.0.11", "198.18.0.12", "198.18.0.13")
MAIL = {
    "practice_name": "Harbour Street", "relay": "mail.example", "port": 587, "tls": "starttls",
    "sender": "holdfast@clinic.example", "to": ["manager@clinic.example"], "user": None, "ca": None,
}  # fmt: skip


def seen(status="OL", clients=ALL, silent=(), error=None, **more):
    values = {"ups.status": status, "battery.charge": "100", "battery.runtime": "600"}
    values.update({name.replace("_", "."): value for name, value in more.items()})
    return Seen(error, {} if error else values, () if error else clients, silent)


def bad(found):
    return {side: finding.state for side, finding in found.items() if finding.state not in ("OK", "WAITING")}


def look(at, testing=False, was=False, ups=UPS, need=NEED):
    return ups_watch.look(ups, at, need, LIMITS, testing, was)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (seen(), {}),
        (seen("OL CHRG"), {}),
        (seen("OL TRIM"), {}),
        (seen("OB DISCHRG"), {"mains": "ON BATTERY"}),
        (seen("OB DISCHRG LB"), {"mains": "ON BATTERY", "low battery": "LOW"}),
        (seen("OL CHRG LB"), {"low battery": "LOW"}),
        (seen("FSD OB LB"), {"mains": "ON BATTERY", "low battery": "LOW", "shutdown": "ORDERED"}),
        (seen("OL RB"), {"RB": "REPLACE BATTERY"}),
        (seen("OL OVER"), {"OVER": "OVERLOADED"}),
        (seen("OL BYPASS"), {"BYPASS": "BYPASSED"}),
        (seen("OL ALARM"), {"ALARM": "ALARM"}),
        (seen("OL OFF"), {"OFF": "SWITCHED OFF"}),
        (seen("OL CAL"), {"CAL": "CALIBRATING"}),
        (seen(battery_runtime="120"), {"budget": "TOO SHORT"}),
        (seen("OB", battery_runtime="120"), {"mains": "ON BATTERY"}),  # it shrinks then, as it has to
        (seen(clients=ALL[:1] + ALL[2:]), {"host server1": "NOT ATTACHED"}),
        (seen(clients=ALL[:1] + ALL[2:], silent=["server1"]), {"host server1": "NOT ATTACHED"}),
        (seen("OB LB", clients=()), {"mains": "ON BATTERY", "low battery": "LOW"}),  # they stop, as they have to
        (seen("OL FSD", clients=()), {"shutdown": "ORDERED"}),
        (seen("OB", clients=ALL[:1] + ALL[2:]), {"mains": "ON BATTERY", "host server1": "NOT ATTACHED"}),
        (seen(clients=ALL[:2]), {"host desk1": "NOT ATTACHED"}),  # it is on, and nobody would stop it
        (seen(clients=ALL[:2], silent=["desk1"]), {}),  # it may be off, and is
        (seen(clients=ALL[1:]), {"host nas1": "NOT ATTACHED"}),  # the primary's own upsmon
        (seen(clients=("127.0.0.1", *ALL[1:])), {}),
        (seen(error=(nut.UNREACHABLE, "x")), {"contact": "NO SERVER"}),
        (seen(error=("DRIVER-NOT-CONNECTED", "x")), {"contact": "NOT CONNECTED"}),
        (seen(error=("DATA-STALE", "x")), {"contact": "STALE"}),
        (seen(error=("UNKNOWN-UPS", "x")), {"contact": "UNKNOWN"}),
    ],
)
def test_what_is_wrong(at, expected):
    assert bad(look(at)) == expected


def test_every_side_is_always_spoken_of():
    for at in (seen(), seen("OB LB RB"), seen(error=("DATA-STALE", "x"))):
        assert {*look(at), "self-test", "battery age"} == set(ups_watch_run.sides(UPS))


def test_nothing_can_be_said_of_what_is_not_heard():
    found = look(seen(error=("DATA-STALE", "x")))
    assert {side for side, each in found.items() if each.state == notice.WAITING} == set(found) - {"contact"}


def test_a_line_that_is_lost_on_battery_is_told_at_once():
    lost = seen(error=(nut.UNREACHABLE, "x"))
    assert look(lost)["contact"].after_s == 60
    assert look(lost, was=True)["contact"].after_s == 0
    assert "It was on battery" in " ".join(look(lost, was=True)["contact"].happened)


def test_a_self_test_of_ours_is_no_outage():
    found = look(seen("OB DISCHRG"), testing=True)
    assert (found["mains"].state, found["budget"].state) == (notice.WAITING, notice.WAITING)


@pytest.mark.parametrize(
    ("variables", "low_s", "left"),
    [
        ({"battery.runtime": "600"}, 360, 360),
        ({"battery.runtime": "120"}, 360, 120),
        ({"battery.runtime": "600", "battery.runtime.low": "90"}, 360, 90),  # the UPS's own word counts
        (
            {
                "battery.runtime": "600",
                "battery.runtime.low": "90",
                "battery.charge": "100",
                "battery.charge.low": "20",
            },
            None,
            120,
        ),
        ({"battery.runtime": "600", "battery.charge": "50", "battery.charge.low": "20"}, 60, 240),
        ({"battery.runtime": "600"}, None, 600),
        ({}, 360, 360),
        ({}, None, None),
        ({"battery.runtime": "n/a"}, None, None),
    ],
)
def test_what_a_low_battery_still_carries(variables, low_s, left):
    assert ups_watch.at_low_s(variables, low_s) == left


def test_the_offender_and_what_is_missing_are_named():
    happened = look(seen(battery_runtime="120", ups_load="41"))["budget"].happened
    assert "120 s, and the machines need 300 s to stop: 180 s are missing" in happened[0]
    assert happened[1] == "The slowest machine is server1: 200 s (by the practice document). Load now: 41 %."


@pytest.mark.parametrize(
    ("variables", "feeds", "said"),
    [
        ({"battery.runtime": "720"}, ["nas1", "server1", "desk1"],
         "If the mains stay away, in about 6 min server1 and desk1 stop, then nas1; backups are held until the mains are back."),
        ({"battery.runtime": "450"}, ["server1", "nas1"], "If the mains stay away, in about 90 s server1 stops, then nas1;"),
        ({"battery.runtime": "361"}, ["nas1"], "Within moments nas1 stops;"),
        ({"battery.runtime": "900", "ups.status": "OB LB"}, ["nas1"], "Within moments nas1 stops;"),
        ({}, ["nas1", "a", "b", "c"], "When the battery is low a, b and c stop, then nas1;"),
    ],
)  # fmt: skip
def test_what_will_happen_next(variables, feeds, said):
    assert ups_watch.what_next({**UPS, "feeds": dict.fromkeys(feeds, "")}, variables).startswith(said)


@pytest.mark.parametrize(("days", "state"), [(31, "OK"), (30, "DUE"), (1, "DUE"), (0, "OLD"), (-400, "OLD")])
def test_the_age_of_a_battery(days, state):
    battery = {"installed": "2026-03-01", "replace_by": "2030-03-01"}
    assert ups_watch.look_at_age(battery, T, T + days * 86400).state == state


def test_a_day_begins_where_the_practice_is():
    assert ups_watch_run.day_s("2026-11-27", "Australia/Sydney") == ups_watch_run.day_s("2026-11-26", "UTC") + 13 * 3600


# --- over time ---------------------------------------------------------------------------------------------------------


def settled(looks, settle_s=120.0):
    """States after each look; looks: [(seconds, finding)]."""
    known, states = {}, []
    for at, finding in looks:
        conditions, known = ups_watch.settle(known, {"x": finding}, settle_s, T + at)
        states.append(conditions["x"].state)
    return states


OUT, SLOW = Finding("ON BATTERY", "ob"), Finding("NOT ATTACHED", "n", after_s=180)
OK, BLIND = Finding(), Finding(notice.WAITING)


@pytest.mark.parametrize(
    ("looks", "states"),
    [
        ([(0, OK)], ["OK"]),
        ([(0, OUT)], ["ON BATTERY"]),
        ([(0, OUT), (20, OK), (139, OK), (140, OK)], ["ON BATTERY", "WAITING", "WAITING", "OK"]),
        ([(0, OUT), (20, OK), (100, OUT), (110, OK), (229, OK), (230, OK)],
         ["ON BATTERY", "WAITING", "ON BATTERY", "WAITING", "WAITING", "OK"]),
        ([(0, SLOW), (179, SLOW), (180, SLOW)], ["WAITING", "WAITING", "NOT ATTACHED"]),
        ([(0, SLOW), (100, OK), (101, SLOW), (280, SLOW), (281, SLOW)], ["WAITING", "OK", "WAITING", "WAITING", "NOT ATTACHED"]),
        ([(0, OUT), (5, BLIND), (500, OK)], ["ON BATTERY", "WAITING", "WAITING"]),
        ([(0, SLOW), (-500, SLOW)], ["WAITING", "WAITING"]),  # the clock went back
    ],
)  # fmt: skip
def test_a_trouble_counts_once_it_has_lasted_and_so_does_its_end(looks, states):
    assert settled(looks) == states


def test_the_since_of_a_trouble_is_when_it_began():
    known = {}
    for at in (0, 5, 10):
        conditions, known = ups_watch.settle(known, {"x": OUT}, 120, T + at)
    assert conditions["x"] == Condition("ON BATTERY", ("ob",), T)


def test_outages_are_counted_and_summed_up():
    known = []
    for at, on, charge in (
        (0, True, 100),
        (30, True, 95),
        (40, False, 95),
        (60, None, None),
        (70, True, 90),
        (75, False, 91),
    ):
        known = ups_watch.outages(known, on, charge, T + at)
    assert ups_watch.summary(known) == [
        "The mains failed 2 times, 45 s in all, the longest 40 s; the charge went down to 90 %."
    ]
    assert ups_watch.summary(known[:1]) == ["The mains were away for 40 s; the charge went down to 95 %."]
    assert ups_watch.summary([]) == []


# --- the program -------------------------------------------------------------------------------------------------------


class Stage:
    """A watch whose clock, UPS and mail server are played."""

    def __init__(self, tmp_path, monkeypatch, mail=MAIL, **more):
        self.places = ups_watch_run.UpsPlaces(tmp_path / "etc", tmp_path / "state", tmp_path / "run")
        self.places.etc.mkdir()
        self.task = {
            "practice": "harbour-street", "host": "nas1", "timezone": "Australia/Sydney", "hours": {}, "every_s": 5,
            "settle_s": 120, "absent_s": 180, "test_user": "selftest", "upses": [{**UPS, **more}],
        }  # fmt: skip
        (self.places.etc / "watch.json").write_text(json.dumps(self.task))
        if mail:
            settings = notice_host.settings(mail, "harbour-street", "nas1", "Australia/Sydney")
            (self.places.etc / "mail.json").write_text(json.dumps(settings))
        self.now, self.at, self.mails = T, seen(), []
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        monkeypatch.setattr(ups_watch_run.time, "time", lambda: self.now)
        monkeypatch.setattr(ups_watch_run, "ask", lambda _ups, _probes: self.at)
        monkeypatch.setattr(mail_send, "send", lambda *what: self.mails.append(what[4].decode()) or {})

    def look(self, at=None, later=5, times=1):
        self.at = at or self.at
        for _each in range(times):
            self.now += later
            code = ups_watch_run.watch(self.places, once=True)
        return code

    @property
    def subjects(self):
        lines = [line for mail in self.mails for line in mail.splitlines() if line.startswith("Subject:")]
        return [line.removeprefix("Subject: [Holdfast] Harbour Street: ") for line in lines]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    return Stage(tmp_path, monkeypatch)


def test_twenty_failures_of_the_mains_are_one_mail_and_one_when_it_is_over(stage):
    for _each in range(20):
        stage.look(seen("OB DISCHRG"), later=30)
        stage.look(seen("OL CHRG"), later=60)
    assert stage.subjects == ["ups1 ON BATTERY"]
    stage.look(later=30, times=5)
    assert stage.subjects == ["ups1 ON BATTERY", "ups1 recovered"]
    assert "The mains failed 20 times" in stage.mails[1]
    # the next one is counted anew
    stage.look(seen("OB"), later=9000)
    stage.look(seen("OL"), later=10)
    stage.look(later=300)
    assert "The mains were away for 10 s" in stage.mails[3]


def test_a_low_battery_is_told_however_often_the_mains_failed_today(stage):
    for _each in range(6):
        stage.look(seen("OB"), later=1000)
        stage.look(seen("OL"), later=1000)
        stage.look(later=200)
    before = len(stage.mails)
    stage.look(seen("OB LB"))
    assert stage.subjects[before:] == ["battery of ups1 LOW"]


def test_it_begins_anew_where_it_was(stage):
    stage.look(seen("OB"))
    stage.look(seen("OB"), times=3)
    assert stage.subjects == ["ups1 ON BATTERY"]


def test_a_line_that_is_not_there_yet_after_an_outage_is_no_news(stage):
    lost = seen(error=(nut.UNREACHABLE, "x"))
    stage.look(seen("OB LB FSD"))
    before = len(stage.mails)
    # it was off for ten minutes, and /run is empty
    stage.places.looked.unlink()
    stage.look(lost, later=600)
    stage.look(lost, times=5)
    assert stage.subjects[before:] == []
    stage.look(seen("OL"))
    stage.look(later=30, times=5)
    assert len(stage.mails) == before + 1
    # but while it looks
    stage.look(seen("OB"), later=9000)
    before = len(stage.mails)
    stage.look(lost)
    assert stage.subjects[before:] == ["line to ups1 NO SERVER"]


def test_a_look_that_finds_nothing_new_writes_nothing_to_the_disk(stage):
    stage.look(seen("OL RB"))
    written = {path: path.stat().st_ino for path in stage.places.state.iterdir()}
    assert len(written) == 2
    stage.look(times=5)
    assert {path: path.stat().st_ino for path in stage.places.state.iterdir()} == written
    stage.look(seen("OL"))
    assert {path: path.stat().st_ino for path in stage.places.state.iterdir()} != written


def test_a_damaged_memory_is_begun_anew_once(stage, capfd):
    stage.look()
    (stage.places.state / "memory.json").write_text("{")
    stage.look(times=3)
    assert capfd.readouterr().out.count("is damaged and is begun anew") == 1


def test_mail_that_does_not_leave_is_tried_once_a_minute_and_not_at_each_look(stage, monkeypatch):
    tries = []

    def refuse(*_what):
        tries.append(stage.now)
        raise mail_send.MailError("mail_unreachable", "nobody")

    monkeypatch.setattr(mail_send, "send", refuse)
    assert stage.look(seen("OB")) == 1
    stage.look(times=24)
    assert [later - tries[0] for later in tries] == [0, 60, 120]


def test_without_mail_the_journal_is_told(tmp_path, monkeypatch, capfd):
    stage = Stage(tmp_path, monkeypatch, mail=None)
    assert stage.look(seen("OL RB")) == 0
    assert "notice, to nobody (no alerts.mail): ups1 problem REPLACE BATTERY" in capfd.readouterr().out
    stage.look()
    assert "notice" not in capfd.readouterr().out


def test_settings_that_are_damaged_are_not_no_settings(stage, capfd):
    (stage.places.etc / "mail.json").write_text("{")
    assert ups_watch_run.watch(stage.places, once=True) == 3
    (stage.places.etc / "watch.json").write_text("{")
    assert ups_watch_run.watch(stage.places, once=True) == 3
    assert "run site.yml" in capfd.readouterr().out


def test_a_deputy_says_one_thing_only(tmp_path, monkeypatch):
    stage = Stage(tmp_path, monkeypatch, deputy=True)
    reached = {"127.0.0.1", "198.18.0.12"}

    def refuse(*_where, **_more):
        raise nut.NutError(nut.UNREACHABLE, "x")

    monkeypatch.setattr(ups_watch_run.nut, "Nut", refuse)
    monkeypatch.setattr(ups_watch_run, "answers", lambda address, _ports: address in reached)
    stage.look(seen("OB LB FSD RB"))
    assert stage.subjects == []
    reached.clear()
    stage.look(times=80)
    assert stage.subjects == [], "it reaches nobody: it is itself what is cut off"
    reached.add("mail.example")
    stage.look(times=36)
    assert stage.subjects == []
    stage.look(times=2)
    assert stage.subjects == ["watch over ups1 SILENT"]


def test_needs_are_taken_checked_and_the_larger_counts(stage, monkeypatch, capfd):
    def give(what):
        monkeypatch.setattr(ups_watch_run.sys, "stdin", io.StringIO(what))
        return ups_watch_run.take_need(stage.places)

    for wrong in (
        "nonsense",
        "[]",
        '{"ups9": {"total_s": 5}}',
        '{"ups1": {"total_s": 0}}',
        '{"ups1": {"total_s": true}}',
        '{"ups1": 5}',
    ):
        assert give(wrong) == 3, wrong
    assert not stage.places.need.exists()
    assert give('{"ups1": {"total_s": 700, "slowest": {"host": "desk1", "seconds": 600, "measured": true}}}') == 0
    found = ups_watch_run.gather(stage.places, stage.task)["upses"][0]
    assert found["margin_s"] == 360 - 700
    assert "desk1: 600 s (measured)" in found["troubles"][0]["happened"][1]
    assert give('{"ups1": {"total_s": 10}}') == 0
    assert ups_watch_run.gather(stage.places, stage.task)["upses"][0]["margin_s"] == 60
    assert "kept" in capfd.readouterr().out


def test_exit_codes(stage):
    def code(at):
        stage.at = at
        return ups_watch_run.exit_code(ups_watch_run.gather(stage.places, stage.task))

    assert code(seen()) == 1, "nobody looks"
    stage.look()
    assert code(seen()) == 0
    assert code(seen("OL RB")) == 1
    assert code(seen(error=("DATA-STALE", "x"))) == 2
    stage.now += 3600
    assert code(seen()) == 1, "nobody looks any more"


def test_what_people_read(stage):
    stage.look(seen("OL", battery_runtime="120", ups_load="23"))
    lines = list(ups_watch_run.lines_of(ups_watch_run.gather(stage.places, stage.task)))
    assert lines[:3] == [
        "ups1: OL; charge 100 %, battery for 2 min, load 23 %",
        "  feeds    server1, desk1 and nas1; nas1 stops last",
        "  budget   120 s left when the battery is low, 300 s needed: 180 s missing",
    ]
    assert "  battery of ups1 TOO SHORT" in lines


# --- the host ----------------------------------------------------------------------------------------------------------


def wanted(upses, password=None, hours=None, mail=MAIL):
    task = {"practice": "harbour-street", "host": "nas1", "timezone": "UTC", "hours": hours or {}, "every_s": 5}
    return ups_watch_host.wanted({**task, "upses": upses}, mail, None, password, {"a.py": "x"})


def test_every_fault_of_the_settings_is_told_at_once():
    wrong = {**UPS, "primary": "nas9", "may_be_off": ["pc7"], "self_test_every_s": 5, "need": {"total_s": 0}}
    wrong["battery"] = {"installed": "1 March", "replace_by": "2030-03-01"}
    with pytest.raises(notice_host.NoticeError) as caught:
        wanted([wrong, wrong], hours={"someday": "08:00-18:00", "mon": "8-18"})
    said = str(caught.value)
    for part in ("named twice", "nas9", "pc7", "test_password", "total_s 0", "'1 March'", "'someday'", "'8-18'"):
        assert part in said, part


def test_a_password_is_a_credential_of_root_and_only_where_something_is_tested():
    files = {item.path: item for item in wanted([{**UPS, "self_test_every_s": 5}], "Canary-7391").files}
    secret = files["/etc/holdfast-ups/test-password"]
    assert (secret.content, secret.mode, secret.secret) == (b"Canary-7391\n", 0o600, True)
    assert not [path for path, item in files.items() if b"Canary" in (item.content or b"") and not item.secret]
    assert b"LoadCredential=test-password:" in files["/etc/systemd/system/holdfast-ups.service"].content
    files = {item.path: item for item in wanted([UPS], "Canary-7391").files}
    assert files["/etc/holdfast-ups/test-password"].content is None
    assert b"test-password" not in files["/etc/systemd/system/holdfast-ups.service"].content


def test_removal_names_everything_that_was_written():
    want, gone = wanted([{**UPS, "self_test_every_s": 5}], "Canary-7391"), ups_watch_host.unwanted(["a.py"])
    absent = {item.path for item in gone.files}
    assert {item.path for item in want.files} - absent == {"/etc/holdfast/practice.json"}
    assert {item.path for item in want.dirs} - {item.path for item in gone.dirs} == {"/etc/holdfast"}
