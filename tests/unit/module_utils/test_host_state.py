"""The plan for files and units, and what applying it leaves on a disk."""

from __future__ import annotations

import grp
import os
import pwd

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import host_state as hs

ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
CONF = hs.File("/etc/x.conf", b"a=1\n", 0o640)
SAME = hs.Found("file", 0o640, "root", "root", b"a=1\n", changed_at=50.0)
UNIT = hs.Unit("x.service", restart_when=("/etc/x.conf",))


def running(since: float) -> hs.FoundUnit:
    return hs.FoundUnit(True, True, True, since)


@pytest.mark.parametrize(
    ("paths", "units", "want", "verbs"),
    [
        ({}, {}, hs.Wanted(files=[CONF], units=[UNIT]), ["write", "enable", "start"]),
        ({"/etc/x.conf": SAME}, {"x.service": running(60.0)}, hs.Wanted(files=[CONF], units=[UNIT]), []),
        # written by a run that was killed before it restarted the unit
        ({"/etc/x.conf": SAME}, {"x.service": running(40.0)}, hs.Wanted(files=[CONF], units=[UNIT]), ["restart"]),
        (
            {"/etc/x.conf": hs.Found("file", 0o644, "root", "root", b"a=1\n", 1.0)},
            {"x.service": running(60.0)},
            hs.Wanted(files=[CONF], units=[UNIT]),
            ["chmod", "restart"],
        ),
        (
            {"/etc/x.conf": hs.Found("file", 0o640, "root", "root", b"a=0\n", 1.0)},
            {"x.service": running(60.0)},
            hs.Wanted(files=[CONF], units=[hs.Unit("x.service", restart_when=("/etc/x.conf",), reload=True)]),
            ["write", "reload"],
        ),
        # a link in the file's place is replaced, whatever it points to
        (
            {"/etc/x.conf": hs.Found("other", 0o777, "root", "root")},
            {},
            hs.Wanted(files=[CONF]),
            ["write"],
        ),
        # removal: the unit stops while its files are still there; what is not ours stays
        (
            {
                "/etc/x.conf": SAME,
                "/etc/systemd/system/x.service": SAME,
                "/etc/x": hs.Found("dir", 0o755, "root", "root", entries=("theirs",)),
                "/etc/y": hs.Found("dir", 0o755, "root", "root", entries=("ours", "z")),
                "/etc/y/ours": SAME,
                "/etc/y/z": hs.Found("dir", 0o755, "root", "root"),
            },
            {"x.service": running(60.0)},
            hs.Wanted(
                dirs=[hs.Dir(path, absent=True) for path in ("/etc/x", "/etc/y", "/etc/y/z")],
                files=[hs.File(p, None) for p in ("/etc/x.conf", "/etc/y/ours", "/etc/systemd/system/x.service")],
                units=[hs.Unit("x.service", enabled=False, active=False)],
            ),
            ["stop", "disable", "remove", "remove", "remove", "daemon-reload", "rmdir", "rmdir"],
        ),
        # a unit file changed behind systemd's back
        ({}, {"x.service": hs.FoundUnit(True, True, True, 9.0, True)}, hs.Wanted(units=[UNIT]), ["daemon-reload"]),
        # None leaves a side alone
        ({}, {}, hs.Wanted(units=[hs.Unit("x.service", enabled=None, active=None)]), []),
    ],
)
def test_plan(paths, units, want, verbs):
    assert [c.verb for c in hs.plan(hs.Have(paths, units), want)] == verbs


@pytest.mark.parametrize(
    ("found", "want"),
    [
        (hs.Found("file", 0o755, "root", "root", b""), hs.Wanted(dirs=[hs.Dir("/etc/x")])),
        (hs.Found("dir", 0o755, "root", "root"), hs.Wanted(files=[hs.File("/etc/x", b"")])),
    ],
)
def test_something_else_in_the_way_is_refused(found, want):
    with pytest.raises(hs.HostStateError, match="/etc/x.*move it away"):
        hs.plan(hs.Have({"/etc/x": found}, {}), want)


def test_secrets_stay_out_of_diffs():
    secret = hs.File("/etc/p", b"s3cret", 0o600, secret=True)
    shown = hs.diff_of(
        hs.plan(hs.Have({"/etc/p": hs.Found("file", 0o600, "root", "root", b"0ld")}), hs.Wanted(files=[secret]))
    )
    assert "s3cret" not in str(shown)
    assert "0ld" not in str(shown)
    assert shown[0]["before"] != shown[0]["after"]


def test_applied_plan_leaves_nothing_to_do(tmp_path):
    want = hs.Wanted(
        dirs=[hs.Dir(str(tmp_path / "d"), 0o700, **ME)],
        files=[hs.File(str(tmp_path / "d" / "f"), b"x", 0o600, **ME), hs.File(str(tmp_path / "gone"), None)],
    )
    (tmp_path / "gone").write_text("old")
    host = hs.HostState(lambda args: pytest.fail(f"no command expected: {args}"))
    host.apply(hs.plan(host.gather(want), want))
    assert (tmp_path / "d" / "f").read_bytes() == b"x"
    assert (tmp_path / "d" / "f").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "gone").exists()
    assert hs.plan(host.gather(want), want) == []
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["f"]


def test_a_watched_file_that_is_only_there_to_be_watched(tmp_path):
    (tmp_path / "bin").write_text("1")
    shown = "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nActiveEnterTimestampMonotonic=1\n"
    host = hs.HostState(lambda args: (0, shown, ""))
    want = hs.Wanted(units=[hs.Unit("x.service", restart_when=(str(tmp_path / "bin"),))])
    assert [c.verb for c in hs.plan(host.gather(want), want)] == ["restart"]


def test_unknown_owner_is_named(tmp_path):
    want = hs.File(str(tmp_path / "f"), b"", owner="nobody-we-know")
    with pytest.raises(hs.HostStateError, match="nobody-we-know.*package"):
        hs.write_atomically(want)
    assert list(tmp_path.iterdir()) == []


def test_systemctl_failure_quotes_the_journal():
    answers = {"start": (1, "", "Job failed"), "-q": (0, "x: bad option", "")}
    host = hs.HostState(lambda args: next(v for k, v in answers.items() if k in args))
    with pytest.raises(hs.HostStateError, match=r"systemctl start -- x.service failed \(1\): Job failed x: bad option"):
        host.apply([hs.Change("start", "x.service")])


def test_units_are_read_in_the_order_asked():
    shown = (
        "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nActiveEnterTimestampMonotonic=2500000\nNeedDaemonReload=no\n\n"
        "LoadState=not-found\nUnitFileState=\nActiveState=inactive\nActiveEnterTimestampMonotonic=0\nNeedDaemonReload=no\n"
    )
    units = hs.parse_units(["a.service", "b.timer"], shown, boot=1000.0)
    assert units["a.service"] == hs.FoundUnit(True, True, True, 1002.5)
    assert units["b.timer"] == hs.FoundUnit(False, False, False)
    with pytest.raises(hs.HostStateError, match="asked for 1 units, got 2"):
        hs.parse_units(["a.service"], shown, boot=0.0)
