# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501  (the tables read across)
"""The small questions that rules ask. What they say about whole documents is in tests/bad_input."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, source
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import is_windows, plain_address, url_host
from ansible_collections.holdfast.practice.plugins.plugin_utils.regions import AWS, kilometres
from ansible_collections.holdfast.practice.plugins.plugin_utils.rules_items import _below
from ansible_collections.holdfast.practice.plugins.plugin_utils.rules_items import hides as _hides

GOOD = (Path(__file__).parents[2] / "bad_input" / "documents" / "good.txt").read_text("utf-8")


def told(*edits: tuple[str, str]) -> list[str]:
    text = GOOD
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    document, problems = source.parse(text.encode(), "practice.yml")
    return [f"{each.path}: {each.got}" for each in check.check(document, problems)[1]]


@pytest.mark.parametrize(
    ("pattern", "path", "hides"),
    [
        ("*.db", "/srv/pms/pms.db", True),
        ("*.db", "/srv/pms/pms.dbx", False),
        ("pms", "/srv/pms/pms.db", True),  # a folder above it
        ("/srv", "/srv/pms/pms.db", True),
        ("srv/pms", "/srv/pms/pms.db", True),  # not anchored: anywhere
        ("pms/pms.db", "/srv/pms/pms.db", True),
        ("/pms", "/srv/pms/pms.db", False),  # anchored
        ("/srv/*", "/srv/pms/pms.db", True),
        ("/srv/*/letters", "/srv/clinic/documents/letters", False),  # a star does not cross a slash
        ("/srv/**/letters", "/srv/clinic/documents/letters", True),
        ("*", "/srv/x", True),
        ("**", "/srv/x", True),
        ("/srv/x/*", "/srv/x", True),  # all that lies in it
        ("/srv/x/**", "/srv/x", True),
        ("/srv/x/*.*", "/srv/x", False),  # files without a dot stay
        ("*.tmp", "/srv/x", False),
        ("[a-z]", "/srv/x", True),
        ("?", "/srv/x", True),
        ("cache", "/srv/x", False),
        ("*.MDB", r"C:\PMS\data.mdb", True),  # Windows sees no capitals
        (r"C:\PMS\*", r"c:\pms\data.mdb", True),
        ("backup", r"\\server\share\x", False),
    ],
)
def test_what_an_exclude_hides(pattern, path, hides):
    assert _hides(pattern, path) is hides


@pytest.mark.parametrize(
    ("path", "root", "below"),
    [
        ("/srv/x", "/srv/x", True),
        ("/srv/x/y", "/srv/x", True),
        ("/srv/xy", "/srv/x", False),
        (r"C:\Users\Bob", r"c:\users", True),
        (r"C:\Users2", r"C:\Users", False),
        (r"\\srv\share\x", r"\\SRV\share", True),
    ],
)
def test_what_lies_below(path, root, below):
    assert _below(path, [root]) is below


@pytest.mark.parametrize(
    ("path", "windows"),
    [
        ("C:\\Users", True),
        ("c:/Users", True),
        ("\\\\server\\share", True),
        ("/srv", False),
        ("C:", False),
        ("\\\\\\x", False),
    ],
)
def test_paths_of_windows(path, windows):
    assert is_windows(path) is windows


@pytest.mark.parametrize(
    "same",
    [
        ("198.18.0.12", "::ffff:198.18.0.12", "::FFFF:c612:c"),
        ("2001:db8::1", "2001:0DB8:0:0:0:0:0:1"),
        ("Desk1.Example.org", "desk1.example.org"),
        ("fe80::1%eth0", "FE80:0::1%eth0"),
    ],
)
def test_equal_addresses_are_equal(same):
    assert len({plain_address(each) for each in same}) == 1


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://[2001:db8::1]:8000/x", "2001:db8::1"),
        ("https://[fe80::1%25eth0]/", "fe80::1%eth0"),
        ("https://b.example.org:443", "b.example.org"),
        ("https://198.51.100.7/", "198.51.100.7"),
    ],
)
def test_the_host_of_an_address(url, host):
    assert url_host(url) == host


def test_distances():
    sydney, melbourne = (-33.87, 151.21), (-37.81, 144.96)
    assert kilometres(sydney, sydney) == 0
    assert 700 < kilometres(sydney, melbourne) < 730
    assert 19_900 < kilometres((0, 0), (0, 180)) < 20_100
    assert kilometres((0, 179.9), (0, -179.9)) < 30  # across the date line


def test_regions_are_places_on_earth():
    assert len(AWS) > 25
    for name, region in AWS.items():
        assert len(region.country) == 2, name
        assert region.country.isupper()
        assert -90 <= region.latitude <= 90
        assert -180 <= region.longitude <= 180


ON = "{onsite: {on: nas1}}"


def test_a_part_beside_a_wrong_one_is_checked_in_the_same_run():
    said = told(
        ("id: harbour-street", "id: Harbour Street"),
        (
            ON,
            "{onsite: {on: nas9}, offsite: {s3: {bucket: b-1, region: us-east-1, object_lock: 9y}}, removable: {on: 5, disks: {}}}",
        ),
        (
            "retention: ",
            "maintenance: {prune: {days: sun, window: x}, check: {days: sun, window: '20:30-22:00'}}\nretention: ",
        ),
    )
    for line in (
        "practice.id: got",
        "copies.onsite.on: got",
        "copies.offsite.s3.object_lock: got",
        "copies.removable.on: got",
        "copies.removable.disks: it is empty",
        "maintenance.prune.window: got",
        "maintenance.check: check 20:30-22:00 (sun) overlaps backup documents",
    ):
        assert any(each.startswith(line) for each in said), (line, said)


def test_a_default_retention_counts_beside_other_mistakes():
    start = GOOD.index("retention:")
    whole = GOOD[start : GOOD.index("\n", start) + 1]
    lock = (ON, "{onsite: {on: nas1}, offsite: {s3: {bucket: b-1, region: ap-southeast-2, object_lock: 9y}}}")
    assert any("object_lock" in each for each in told((whole, ""), lock, ("rto: 4h", "rto: 4")))


def test_another_nas_for_the_archive_has_something_to_do():
    nas2 = "nas2: {kind: nas, address: 198.18.0.15, pool: {profile: single, devices: [/dev/disk/by-id/c]}}"
    archive = (ON, "{onsite: {on: nas1}, archive: {on: nas2}}")
    assert [each for each in told(("  proof1:", f"  {nas2}\n  proof1:"), archive) if each.startswith("hosts.")] == []


def test_a_key_called_like_a_kind_is_found_at_its_place():
    said = told(("kind: nas, address: 198.18.0.11,", "kind: nas, nas: {address: 5},"))
    assert said == ["hosts.nas1.address: missing", 'hosts.nas1.nas: unknown key "nas"']


def test_a_misspelt_kind_is_named():
    document, _ = source.parse(GOOD.replace("kind: workstation", "kynd: workstation").encode(), "practice.yml")
    said = [str(each) for each in check.check(document)[1]]
    assert len(said) == 1
    assert said[0].endswith('; write kind in the place of "kynd"')


def test_other_providers_may_call_a_region_as_they_like():
    s3 = '{bucket: b-1, region: us-east-1, endpoint: "https://s3.example.org"}'
    said = told((ON, f"{{onsite: {{on: nas1}}, offsite: {{s3: {s3}, country: AU}}}}"))
    assert [each for each in said if "not available" not in each] == []


def test_two_batteries_that_are_told_apart_are_good():
    two = 'runtime: 10m, settings: {serial: "A"}}\n  ups2: {attached_to: nas1, driver: usbhid-ups, feeds: [nas1], runtime: 10m, settings: {serial: "B"}}'
    assert told(("runtime: 10m}", two)) == []


@pytest.mark.parametrize(
    ("relay", "heartbeat", "paths"),
    [
        ("mail.example.org", "", []),
        ("198.18.0.12", "", ["alerts.mail.relay"]),
        ("LOCALHOST", "", ["alerts.mail.relay"]),
        ("198.18.0.12", "https://alive.example.org/x", []),
        ("198.18.0.12", "https://desk1/x", ["alerts.mail.relay", "alerts.heartbeat"]),
        ("mail.example.org", "https://desk1/x", ["alerts.heartbeat"]),
    ],
)
def test_ways_out_of_the_house(relay, heartbeat, paths):
    beat = f', heartbeat: "{heartbeat}"' if heartbeat else ""
    mail = f"alerts: {{mail: {{relay: {relay}, sender: a@b.example, to: [c@d.example]}}{beat}}}\nretention: "
    said = [each for each in told(("retention: ", mail)) if "not available" not in each]
    assert [each.split(":")[0] for each in said] == paths


def test_a_retired_host_is_kept_until_a_day_after_it_was_retired():
    old = 'retired: {desk0: {date: "2026-03-01", keep_until: "2026-02-01"}}\nretention: '
    assert told(("retention: ", old)) == ['retired.desk0.keep_until: got "2026-02-01", before "2026-03-01"']
