"""A volume that is not mounted is never taken for its data; folders that systemd lays over themselves are no volumes."""

from __future__ import annotations

import sys

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_host, agent_job, agent_mounts

# as the agent's own namespace shows it: ProtectHome and ProtectSystem lay folders over themselves
NAMESPACE = r"""
1 0 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw
2 1 8:1 /home /home ro,relatime shared:1 - ext4 /dev/sda1 rw
3 1 8:1 /var/lib/holdfast /var/lib/holdfast rw - ext4 /dev/sda1 rw
4 1 0:25 / /proc rw - proc proc rw
5 1 8:17 / /srv/pms\040one rw shared:5 - xfs /dev/sdb1 rw
6 1 8:1 /data/scans /srv/scans rw - ext4 /dev/sda1 rw
7 1 0:40 / /mnt/far rw - autofs systemd-1 rw
8 7 0:51 /share /mnt/far rw - nfs4 nas:/share rw
9 5 0:52 / /srv/pms\040one/in rw - fuse.sshfs x rw
10 1 8:17 /boxes /srv/boxes rw - xfs /dev/sdb1 rw
11 10 8:17 /boxes/b /srv/boxes/b ro - xfs /dev/sdb1 rw
"""
MOUNTS = agent_mounts.mounts_in(NAMESPACE)
BEFORE = {"run": "R", "finished": "2026-11-21T10:00:41Z", "mounts": ["/srv/pms one"]}


def test_what_shows_the_same_as_without_it_is_no_mount():
    assert sorted(MOUNTS) == ["/", "/mnt/far", "/proc", "/srv/boxes", "/srv/pms one", "/srv/pms one/in", "/srv/scans"]
    assert MOUNTS["/mnt/far"].kind == "nfs4"


@pytest.mark.parametrize(
    ("roots", "mounts"),
    [
        (["/home/reception"], []),
        (["/srv/pms one/db"], ["/srv/pms one"]),
        (["/srv/pms one"], ["/srv/pms one", "/srv/pms one/in"]),
        (["/srv"], ["/srv/boxes", "/srv/pms one", "/srv/pms one/in", "/srv/scans"]),
        (["/srv/pms"], []),
    ],
)
def test_the_mounts_of_a_root_are_those_it_lies_on_and_those_in_it(roots, mounts):
    assert agent_mounts.own_mounts(roots, MOUNTS) == mounts


@pytest.mark.parametrize(
    ("roots", "far"),
    [
        (["/mnt/far/x", "/srv/scans"], ["/mnt/far/x"]),
        (["/srv"], ["/srv/pms one/in"]),
        (["/home"], []),
    ],
)
def test_only_what_another_machine_or_a_program_serves_is_far(roots, far):
    assert agent_mounts.remote_roots(roots, MOUNTS) == far


@pytest.mark.parametrize(
    ("declared", "roots", "before", "words", "failed"),
    [
        (["/srv/pms one"], ["/srv/pms one"], {}, None, None),
        (["/srv/pms"], ["/srv/pms"], {}, "/srv/pms must be a mount point and is none", True),
        (None, ["/srv/pms one/db"], BEFORE, None, None),
        (None, ["/srv/pms"], {**BEFORE, "mounts": ["/srv/pms"]}, "/srv/pms was a mount of its own at the last good run", True),
        (None, ["/srv/old/db"], {**BEFORE, "mounts": ["/srv/old"]}, "2026-11-21T10:00:41Z", True),
        (None, ["/srv"], {**BEFORE, "mounts": ["/srv/pms one", "/srv/old"]}, "write mounts: []", False),
        (None, ["/srv", "/a/b"], {**BEFORE, "mounts": ["/srv/old", "/a"]}, "/a was a mount", True),
        ([], ["/srv/pms"], {**BEFORE, "mounts": ["/srv/pms"]}, None, None),
    ],
)  # fmt: skip
def test_a_missing_mount_is_named(declared, roots, before, words, failed):
    fault = agent_mounts.missing(declared, roots, before, MOUNTS)
    assert (fault and fault.code, fault and fault.failed) == (words and "mount_missing", failed)
    assert not words or words in fault.message


def test_a_mount_that_goes_or_is_replaced_meanwhile_is_seen():
    assert agent_mounts.changed(["/srv/pms one"], MOUNTS, MOUNTS) is None
    other = {**MOUNTS, "/srv/pms one": agent_mounts.Mount("/srv/pms one", "xfs", "8:33 /")}
    for after in (other, {"/": MOUNTS["/"]}):
        assert agent_mounts.changed(["/srv/pms one"], MOUNTS, after).code == "mount_missing"


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """The sources of a job whose folder is on a server, as the kernel's list says."""
    folder, listing = tmp_path / "share", tmp_path / "mountinfo"
    folder.mkdir()
    listing.write_text(f"1 0 8:1 / / rw - ext4 x rw\n2 1 0:51 / {folder} rw - nfs4 nas:/x rw\n")
    monkeypatch.setattr(agent_mounts, "MOUNTINFO", listing)
    children = agent_host.Children()
    job = agent_job.Job("j", "j", "p", "h", "u", paths=(str(folder),))
    yield agent_mounts.Sources(job, {}, children)
    children.end()


def test_a_server_that_answers_is_taken(sources):
    assert (sources.before(), sources.after()) == (None, None)
    assert sources.mounts == sources.roots


def test_a_server_that_does_not_answer_ends_the_wait(sources, monkeypatch):
    monkeypatch.setattr(agent_mounts, "LOOK_S", 0.3)
    monkeypatch.setattr(agent_mounts, "_LOOK", "import time; time.sleep(60)")
    fault = sources.before()
    assert (fault.code, fault.failed) == ("mount_gone", True)
    assert "no answer within" in fault.message


def test_a_stale_handle_is_named(sources, monkeypatch):
    monkeypatch.setattr(
        agent_mounts, "_LOOK", "import errno, os; raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))"
    )
    fault = sources.before()
    assert fault.code == "mount_gone"
    assert "Stale file handle" in fault.message


def test_the_look_itself_is_a_program_that_runs(tmp_path):
    assert agent_host.Children().run(agent_mounts.look_command(sys.executable, [str(tmp_path)]), {})[0] == 0
    assert agent_host.Children().run(agent_mounts.look_command(sys.executable, [str(tmp_path / "no")]), {})[0] == 1
