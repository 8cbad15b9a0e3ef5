# SPDX-License-Identifier: Apache-2.0
"""What NUT is given on a host, and what is refused before it is given anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import power, power_host
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import (
    Found,
    FoundUnit,
    Have,
    diff_of,
    plan,
)

SECRET = "Canary-7391-secret"
UPS1 = power.Ups("ups1", "dummy-ups", "ups1.dev", "the one in the cupboard", {}, 600)
USB = power.Ups("ups1", "usbhid-ups", "auto", "", {"pollonly": True, "offdelay": 60, "nolock": False}, None)
OWN = power.Monitor("ups1", "127.0.0.1", "nas1", SECRET, 1, "primary")
FAR = power.Monitor("ups1", "198.18.0.11", "server1", SECRET)
USERS = (
    power.User("nas1", SECRET, "primary"),
    power.User("server1", SECRET, "secondary"),
    power.User("drill", SECRET, None, ("SET",)),
)
PRIMARY = power.Power("primary", (OWN,), (UPS1,), ("127.0.0.1", "198.18.0.11"), USERS)
SECONDARY = power.Power("secondary", (FAR,))
NOTHING = power.Present()
PROGRAM = {"power_stop.py": "pass\n"}


def contents(want):
    return {file.path: file.content for file in want.files}


def units(want):
    return {unit.name: unit for unit in want.units}


def of(config, present=NOTHING):
    return power.wanted(config, present, "harbour-street", "nas1", PROGRAM)


def test_a_primary():
    power.check(PRIMARY)
    files = {path: (content or b"").decode() for path, content in contents(of(PRIMARY)).items()}
    assert files["/etc/nut/nut.conf"].endswith("MODE=netserver\n")
    assert '[ups1]\n  driver = "dummy-ups"\n  port = "ups1.dev"\n' in files["/etc/nut/ups.conf"]
    assert '  mode = "dummy-once"\n' in files["/etc/nut/ups.conf"]
    assert "LISTEN 127.0.0.1 3493\nLISTEN 198.18.0.11 3493\n" in files["/etc/nut/upsd.conf"]
    assert f'[server1]\n  password = "{SECRET}"\n  upsmon secondary\n\n' in files["/etc/nut/upsd.users"]
    assert files["/etc/nut/upsd.users"].endswith(f'[drill]\n  password = "{SECRET}"\n  actions = SET\n')
    assert "instcmds" not in files["/etc/nut/upsd.users"]
    tester = power.User("selftest", SECRET, None, (), ("test.battery.start", "test.battery.start.quick"))
    power.check(replace(PRIMARY, users=(*PRIMARY.users, tester)))
    text = contents(of(replace(PRIMARY, users=(tester,))))["/etc/nut/upsd.users"].decode()
    rights = "  instcmds = test.battery.start\n  instcmds = test.battery.start.quick\n"
    assert text.endswith(f'[selftest]\n  password = "{SECRET}"\n{rights}')
    assert f'MONITOR ups1@127.0.0.1 1 nas1 "{SECRET}" primary\n' in files["/etc/nut/upsmon.conf"]
    assert "battery.runtime: 600\n" in files["/etc/nut/ups1.dev"]
    assert files["/etc/holdfast/practice.json"] == '{"host": "nas1", "practice": "harbour-street"}\n'


def test_a_real_ups_gets_its_flags_and_no_dummy_file():
    want = of(replace(PRIMARY, ups=(USB,)))
    text = contents(want)["/etc/nut/ups.conf"].decode()
    assert '  offdelay = "60"\n  pollonly\n' in text
    assert "nolock" not in text
    assert "mode" not in text
    assert not [path for path in contents(want) if path.endswith(".dev")]


def test_a_secondary_keeps_nothing_of_a_primary():
    present = power.Present(
        ("nut-driver@ups1.service",), {"ups1.dev": power.render_dummy(UPS1).encode()}, ("nut-driver@ups1.service",)
    )
    want = of(SECONDARY, present)
    files = contents(want)
    for name in ("ups.conf", "upsd.conf", "upsd.users", "ups1.dev"):
        assert files[f"/etc/nut/{name}"] is None
    assert files["/etc/nut/nut.conf"].endswith(b"MODE=netclient\n")
    found = units(want)
    for name in ("nut-driver@ups1.service", "nut-server.service", "nut-driver.target", *power.ENUMERATORS):
        assert (found[name].enabled, found[name].active) == (False, False), name
    assert found["nut-monitor.service"].active
    assert found["nut.target"].enabled


def test_every_file_with_a_password_is_secret_and_closed():
    for want in (of(PRIMARY), of(SECONDARY)):
        for file in want.files:
            if file.content and SECRET.encode() in file.content:
                assert (file.secret, file.mode, file.group) == (True, 0o640, "nut"), file.path


def test_no_diff_shows_a_password():
    want = of(PRIMARY)
    assert SECRET not in str(diff_of(plan(Have(), want)))
    assert SECRET not in repr(PRIMARY)


def test_absent_leaves_no_credential_and_no_unit():
    present = power.Present(
        ("nut-driver@ups1.service",), {"ups1.dev": power.render_dummy(UPS1).encode(), "own.dev": b"x"}
    )
    want = power.absent(present, "/run/killpower", PROGRAM)
    files = contents(want)
    assert all(content is None for content in files.values())
    assert {"/etc/nut/upsd.users", "/etc/nut/upsmon.conf", "/etc/nut/ups1.dev", "/run/killpower"} <= set(files)
    assert "/etc/nut/own.dev" not in files  # what we did not write is not ours to remove
    assert all((unit.enabled, unit.active) == (False, False) for unit in want.units)
    assert "nut-driver@ups1.service" in units(want)


def test_a_renamed_ups_stops_its_old_driver_before_its_section_goes():
    present = power.Present(("nut-driver@old.service",), {}, ("nut-driver@old.service",))
    have = Have(
        {"/etc/nut/ups.conf": Found("file", 0o640, "root", "nut", b"[old]\n")},
        {"nut-driver@old.service": FoundUnit(True, True, True, 1.0)},
    )
    steps = [(change.verb, change.target) for change in plan(have, of(PRIMARY, present))]
    assert steps.index(("stop", "nut-driver@old.service")) < steps.index(("write", "/etc/nut/ups.conf"))
    assert ("disable", "nut-driver@old.service") in steps


@pytest.mark.parametrize(
    ("running", "found", "expected"),
    [
        ((), {}, power.render_dummy(UPS1).encode()),  # made
        ((), {"ups1.dev": b"ups.status: OB\n"}, power.render_dummy(UPS1).encode()),  # not read by anybody: set right
        (("nut-driver@ups1.service",), {"ups1.dev": b"ups.status: OB\n"}, b"ups.status: OB\n"),  # being read: kept
        (("nut-driver@ups1.service",), {"ups1.dev": b"\xff"}, b"\xff"),
    ],
)
def test_a_dummy_file_is_left_alone_while_its_driver_runs(running, found, expected):
    present = power.Present((), found, running)
    assert contents(of(PRIMARY, present))["/etc/nut/ups1.dev"] == expected
    assert bool(power.kept_dummies(PRIMARY, present)) == bool(running)


@pytest.mark.parametrize(
    ("changed", "restarted"),
    [
        ("/etc/nut/ups.conf", {"nut-driver@ups1.service", "nut-server.service"}),
        ("/etc/nut/upsd.users", {"nut-server.service"}),
        ("/etc/nut/upsd.conf", {"nut-server.service"}),
        ("/etc/nut/upsmon.conf", {"nut-monitor.service"}),
        ("/etc/nut/nut.conf", {"nut-server.service", "nut-monitor.service"}),
    ],
)
def test_a_restart_that_was_never_made_is_made(changed, restarted):
    """The file is right but newer than the service: an earlier run was killed between the two."""
    want = of(PRIMARY)
    here = [f for f in want.files if f.content is not None]
    paths = {f.path: Found("file", f.mode, f.owner, f.group, f.content, 50.0) for f in here}
    paths.update({d.path: Found("dir", d.mode, d.owner, d.group) for d in want.dirs})
    paths[changed] = replace(paths[changed], changed_at=200.0)
    running = {u.name: FoundUnit(True, bool(u.enabled), bool(u.active), 100.0 if u.active else 0.0) for u in want.units}
    steps = plan(Have(paths, running), want)
    assert {(c.verb, c.target) for c in steps} == {("restart", name) for name in restarted}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(PRIMARY, role="boss"), "expected primary or secondary"),
        (replace(PRIMARY, monitors=()), "never be shut down"),
        (replace(PRIMARY, ups=()), "at least one entry in ups"),
        (replace(PRIMARY, listen=()), "listen"),
        (replace(PRIMARY, listen=("0.0.0.0 3493",)), "not an address"),
        (replace(PRIMARY, ups=(UPS1, UPS1)), "given twice: ups1"),
        (replace(PRIMARY, users=(USERS[0], USERS[0])), "given twice: nas1"),
        (replace(PRIMARY, monitors=(OWN, OWN)), "given twice"),
        (replace(PRIMARY, ups=(replace(UPS1, name="ups 1"),)), "expected a letter"),
        (replace(PRIMARY, ups=(replace(UPS1, description="K\u00fcche"),)), "ASCII"),
        (replace(PRIMARY, ups=(replace(UPS1, description='x"\n[evil]'),)), "one line"),
        (replace(PRIMARY, ups=(replace(UPS1, port="../../etc/shadow"),)), "name of its file"),
        (replace(PRIMARY, ups=(replace(USB, settings={"driver": "x"}),)), "not a further setting"),
        (replace(PRIMARY, ups=(replace(USB, settings={"a b": "x"}),)), "not a further setting"),
        (
            replace(PRIMARY, users=(power.User("s", SECRET, None, (), ("load.off",)),)),
            "expected one of test.battery.start",
        ),
        (replace(PRIMARY, users=(power.User("s", SECRET, "secondary", (), ("test.battery.start",)),)), "only listens"),
        (replace(PRIMARY, users=(power.User("s", SECRET, "secondary", ("SET",)),)), "only listens"),
        (replace(PRIMARY, users=(power.User("s", SECRET, None, ("INSTCMD",)),)), "expected SET or FSD"),
        (
            replace(PRIMARY, ups=(replace(USB, settings={"community": "Canary-7391"}),)),
            "move it from settings to secrets",
        ),
        (replace(PRIMARY, ups=(replace(USB, settings={"x": "1"}, secrets={"x": "2"}),)), "given twice: x"),
        (replace(PRIMARY, standalone=True), "127.0.0.1 alone"),
        (replace(SECONDARY, standalone=True), "role primary"),
        (replace(PRIMARY, around=power_host.Surroundings(peers=("server1",))), "knows no names"),
        (replace(PRIMARY, min_supplies=2), "at once or never"),
        (replace(PRIMARY, min_supplies=0), "at once or never"),
        (replace(PRIMARY, dead_time_s=14), "three polls"),
        (replace(PRIMARY, power_down_flag="killpower"), "full path"),
        (replace(PRIMARY, shutdown_command="a\nb"), "one line"),
        (replace(SECONDARY, ups=(UPS1,)), "belong to a primary"),
        (replace(SECONDARY, monitors=(OWN,)), "cannot watch as primary"),
        (replace(SECONDARY, monitors=(replace(FAR, address="a b"),)), "not an address"),
    ],
)
def test_what_is_refused(config, message):
    with pytest.raises(power.PowerError, match=message) as caught:
        power.check(config)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short-1",
        "gr\u00fcn-und-lang",
        "with a blank",
        'with"quote',
        "back\\slash1",
        "hash#hash",
        "equal=sign",
        "tab\tabc",
        "x" * 129,
    ],
)
def test_passwords_that_would_arrive_as_another_one_are_refused(password):
    with pytest.raises(power.PowerError, match="choose another") as caught:
        power.check(replace(SECONDARY, monitors=(replace(FAR, password=password),)))
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize("password", ["12345678", "Aa!$%&'()*+,-./:;<>?@[]^_`{|}~", "x" * 128])
def test_passwords_that_are_fine(password):
    power.check(replace(SECONDARY, monitors=(replace(FAR, password=password),)))


def test_an_snmp_secret_is_in_no_diff_and_in_no_other_file():
    snmp = power.Ups(
        "ups1", "snmp-ups", "198.18.0.40", settings={"snmp_version": "v3"}, secrets={"authPassword": SECRET}
    )
    want = of(replace(PRIMARY, ups=(snmp,), users=(), monitors=()))
    assert [f.path for f in want.files if f.content and SECRET.encode() in f.content] == ["/etc/nut/ups.conf"]
    ups_conf = next(f for f in want.files if f.path == "/etc/nut/ups.conf")
    assert (ups_conf.secret, ups_conf.mode, ups_conf.group) == (True, 0o640, "nut")
    assert SECRET not in str(diff_of(plan(Have(), want))) + repr(snmp)
    # nor when it goes
    have = Have({"/etc/nut/ups.conf": Found("file", 0o640, "root", "nut", ups_conf.content)})
    assert SECRET not in str(diff_of(plan(have, of(PRIMARY))))
    power.check(replace(PRIMARY, ups=(replace(snmp, settings={"community": "public"}, secrets={}),)))


@pytest.mark.parametrize(
    ("feeds", "min_supplies", "seconds"),
    [
        ((1,), 1, -1),  # it says OFF and feeds this host all the same
        ((1, 1), 2, -1),
        ((1, 1), 1, 30),  # the other carries the host; this one does not count when that runs low
        ((2, 1), 2, -1),
        ((1, 1, 1), 2, 30),
    ],
)
def test_a_ups_that_says_it_is_off_stops_nobody_by_itself(feeds, min_supplies, seconds):
    monitors = tuple(replace(FAR, ups=f"ups{n}", power_value=value) for n, value in enumerate(feeds, 1))
    text = power.render_upsmon_conf(replace(SECONDARY, monitors=monitors, min_supplies=min_supplies))
    assert f"\nOFFDURATION {seconds}\n" in text


def test_a_serial_driver_gets_its_device_at_each_start():
    serial = power.Ups("old1", "apcsmart", "/dev/ttyS0")
    text = contents(of(replace(PRIMARY, ups=(serial,))))[
        "/etc/systemd/system/nut-driver@old1.service.d/holdfast-power.conf"
    ]
    assert b"ExecStartPre=+/usr/bin/chgrp nut /dev/ttyS0\n" in text
    left = power.Present(files=("/etc/systemd/system/nut-driver@old1.service.d/holdfast-power.conf",))
    want = of(PRIMARY, left)
    assert contents(want)["/etc/systemd/system/nut-driver@old1.service.d/holdfast-power.conf"] is None
    assert any(d.absent and d.path == "/etc/systemd/system/nut-driver@old1.service.d" for d in want.dirs)


@pytest.mark.parametrize(
    ("config", "mode", "server"),
    [(PRIMARY, "netserver", True), (replace(PRIMARY, listen=("127.0.0.1",), standalone=True), "standalone", True),
     (SECONDARY, "netclient", False)],
)  # fmt: skip
def test_the_mode_follows_the_role(config, mode, server):
    power.check(config)
    want = of(config)
    assert contents(want)["/etc/nut/nut.conf"].endswith(f"MODE={mode}\n".encode())
    assert units(want)["nut-server.service"].active is server
    assert (contents(want)[power.HOOK] is not None) is server
    assert units(want)[power_host.HOLD].active is not server


OWNED = power.Present(
    ("nut-driver@ups1.service",), {}, ("nut-driver@ups1.service",), primary_files=("ups.conf", "upsd.users"), ours=True
)


def given_up(config, present):
    want = power.ceded(config, present, "harbour-street", "nas1", PROGRAM)
    return {f.path for f in want.files if f.content is None}, {u.name for u in want.units if u.active is False}


def test_a_host_gives_up_what_is_no_longer_wired_to_it():
    files, stopped = given_up(SECONDARY, OWNED)
    assert {"/etc/nut/ups.conf", "/etc/nut/upsd.conf", "/etc/nut/upsd.users", power.HOOK} <= files
    assert {"nut-driver@ups1.service", "nut-server.service"} <= stopped
    assert given_up(None, OWNED)[1] >= {"nut-monitor.service", "nut-server.service"}  # no UPS feeds it any more
    keeps_another = replace(PRIMARY, ups=(replace(USB, name="ups2"),))
    assert given_up(keeps_another, OWNED) == (set(), {"nut-driver@ups1.service"})


@pytest.mark.parametrize(
    ("config", "present"),
    [
        (SECONDARY, NOTHING),
        (SECONDARY, replace(OWNED, ours=False)),
        (None, replace(OWNED, ours=False)),
        (PRIMARY, OWNED),
    ],
)
def test_nothing_is_given_up_where_nothing_of_ours_is_another_hosts(config, present):
    assert given_up(config, present) == (set(), set())
