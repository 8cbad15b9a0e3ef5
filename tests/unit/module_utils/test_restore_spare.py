# SPDX-License-Identifier: Apache-2.0
"""What is decided about a spare machine: whose it is, what its packet filter lets through, how it is wiped."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import restore_spare as spare
from ansible_collections.holdfast.practice.plugins.module_utils.restore_spare import Mark, SpareError

GOOD = Mark("harbour-street/proof1\n", regular=True, owner=0, mode=0o644)


def test_a_machine_that_was_given_up_for_this_may_be_used():
    spare.check_mark(GOOD, "harbour-street", "proof1")


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (None, "nobody has given this machine up"),
        (Mark("harbour-street/proof2", True, 0, 0o644), "another proof"),
        (Mark("", True, 0, 0o644), "another proof"),
        (Mark(GOOD.text, False, 0, 0o777), "not a file that only root can write"),
        (Mark(GOOD.text, True, 1000, 0o644), "not a file that only root can write"),
        (Mark(GOOD.text, True, 0, 0o664), "not a file that only root can write"),
    ],
)
def test_a_machine_that_nobody_gave_up_is_refused_with_what_to_do(mark, words):
    with pytest.raises(SpareError, match=words) as refused:
        spare.check_mark(mark, "harbour-street", "proof1")
    assert "echo harbour-street/proof1 > /etc/holdfast-spare" in str(refused.value)


def test_the_control_node_is_where_the_session_comes_from():
    assert spare.control_of("198.18.0.1 51000 198.18.0.29 2222") == ("198.18.0.1", 2222)


@pytest.mark.parametrize("said", ["", "198.18.0.1", "nowhere 1 2 3", "198.18.0.1 1 2 x"])
def test_without_a_session_over_ssh_nothing_is_cut(said):
    with pytest.raises(SpareError, match="SSH_CONNECTION"):
        spare.control_of(said)


def test_rules_let_nothing_through_but_what_they_name():
    text = spare.rules(("198.18.0.1", 22), [("198.18.0.11", 8000), ("2001:db8::b", 8000)])
    accepted = [line.strip() for line in text.splitlines() if line.endswith("accept") and "nd-neighbor" not in line]
    assert accepted == [
        "iif lo accept",
        "ip saddr 198.18.0.1 tcp dport 22 accept",
        "ip saddr 198.18.0.11 tcp sport 8000 ct state established accept",
        "ip6 saddr 2001:db8::b tcp sport 8000 ct state established accept",
        "oif lo accept",
        "ip daddr 198.18.0.1 tcp sport 22 accept",
        "ip daddr 198.18.0.11 tcp dport 8000 accept",
        "ip6 daddr 2001:db8::b tcp dport 8000 accept",
    ]
    assert text.count("policy drop") == 3


def test_covers_have_names_of_their_own():
    found = spare.covers(["/srv/holdfast-restore", "/var/lib/mysql/"], "/p/store/data")
    assert found == [
        ("/srv/holdfast-restore", "/p/store/data/covers/srv-holdfast-restore"),
        ("/var/lib/mysql", "/p/store/data/covers/var-lib-mysql"),
    ]


@pytest.mark.parametrize("folders", [["/"], ["/var", "/var/lib"], ["/var", "/var"]])
def test_a_cover_over_everything_or_over_another_is_refused(folders):
    with pytest.raises(SpareError, match="cannot be covered"):
        spare.covers(folders, "/p")


def test_what_is_covered_is_told_from_what_else_is_mounted_there():
    text = "\n".join(
        [
            "30 1 0:25 / /tmp rw shared:3 - tmpfs tmpfs rw",
            "98 1 7:3 / /p/store rw - ext4 /dev/loop3 rw",
            "99 30 7:3 /data/covers/tmp /tmp rw - ext4 /dev/loop3 rw",
        ]
    )
    assert spare.covered(text) == ["/tmp"]
    assert spare.covered(text.rpartition("\n")[0]) == []


@pytest.mark.parametrize("how", ["all", "release"])
def test_the_wipe_takes_the_place_away_only_when_nobody_else_will(tmp_path, how):
    """With stand-ins for what needs root; the real ones are tried on a machine."""
    place, said = tmp_path / "place", tmp_path / "said"
    place.mkdir()
    for name in ("systemctl", "umount", "nft", "xargs"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {said}\n')
        program.chmod(0o755)
    script = tmp_path / "wipe"
    script.write_text(spare.wipe_script(str(place), "/srv/holdfast-restore", ["a.service"]))
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    assert subprocess.run(["sh", script, how], env=env, check=False).returncode == 0
    assert place.exists() == (how == "release")
    lines = said.read_text().splitlines()
    assert "systemctl stop a.service a@*.service" in lines
    assert (f"umount {place}/store" in lines) == (how == "all")
    assert lines[-1] == "nft delete table inet holdfast_restore"
