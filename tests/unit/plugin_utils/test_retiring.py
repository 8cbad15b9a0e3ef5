# SPDX-License-Identifier: Apache-2.0
"""Taking a host out of a document changes its lines and no others, or nothing at all."""

from __future__ import annotations

import difflib
from datetime import date
from pathlib import Path

import pytest
import yaml
from ansible_collections.holdfast.practice.plugins.plugin_utils import retiring
from ansible_collections.holdfast.practice.plugins.plugin_utils.check import check
from ansible_collections.holdfast.practice.plugins.plugin_utils.compiler import compile_practice
from ansible_collections.holdfast.practice.plugins.plugin_utils.retiring import RetiringError
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import parse

EXAMPLE = (Path(__file__).parents[3] / "inventories/harbour-street/practice.yml").read_bytes()
TODAY = date(2026, 11, 22)

BLOCK = """\
practice:
  id: hill-road
  name: Hill Road
  country: "AU"
  timezone: Australia/Perth
contacts:
  backup_owner:
    name: Robin
    email: r@hill-road.example
hosts:
  # the cupboard
  nas1:
    kind: nas
    address: 198.18.1.11
    pool:
      profile: single
      devices:
        - /dev/disk/by-id/ata-ONE
  server1:
    kind: server
    address: 198.18.1.12
    protect:
      - documents
  # reception
  desk1:
    kind: workstation
    address: "2001:db8::13"
    ssh_port: 2222
    protect:
      - documents
      - desk_files
    # in a folded block to see where it ends
  proof1:
    kind: restore_host
protect:
  documents:
    paths:
      - /srv/documents
    at: "21:00"

  # what lies on the desk
  desk_files:
    paths:
      - /home/reception
    at: "12:30"
  # the end of protect
copies:
  onsite:
    "on": nas1
power:
  ups1:
    attached_to: nas1
    driver: usbhid-ups
    feeds:
      - nas1
      - desk1   # behind the reception
    runtime: 10m
  ups2:
    attached_to: desk1
    driver: usbhid-ups
    feeds: [desk1]
    runtime: 10m
prove:
  desk_files: weekly
# the last word
"""


def changed(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def sound(text: str):
    document, problems = parse(text.encode(), "practice.yml")
    practice, problems = check(document, problems)
    assert problems == []
    return practice


def test_in_the_example_only_the_desks_lines_change():
    text = EXAMPLE.decode()
    edit = retiring.retire(EXAMPLE, "practice.yml", "desk1", TODAY, None)
    assert changed(text, edit.text) == [
        "-  desk1: {kind: workstation, address: 198.18.0.13, protect: [desk_files]}",
        '-  desk_files: {paths: [/home/reception/Documents], at: "12:30"}',
        "-  ups1: {attached_to: nas1, driver: dummy-ups, feeds: [nas1, server1, desk1], runtime: 10m}",
        "-prove: {clinical_db: daily, imaging: daily, documents: weekly, desk_files: weekly}   # how often a restore is proven",
        "+  ups1: {attached_to: nas1, driver: dummy-ups, feeds: [nas1, server1], runtime: 10m}",
        "+prove: {clinical_db: daily, imaging: daily, documents: weekly}   # how often a restore is proven",
        "+",
        "+" + retiring.HEADING,
        '+  desk1: {date: "2026-11-22", keep_until: "2033-11-22", address: 198.18.0.13}',
    ]
    assert (edit.items, edit.ups) == (("desk_files",), ())
    assert retiring.retire(edit.text.encode(), "practice.yml", "desk1", TODAY, None) is None


def test_in_block_style_whole_lines_go_and_comments_stay():
    edit = retiring.retire(BLOCK.encode(), "practice.yml", "desk1", TODAY, "2030-01-01")
    practice = sound(edit.text)
    assert (edit.items, edit.ups) == (("desk_files",), ("ups2",))
    assert practice.retired["desk1"].address == "2001:db8::13"
    assert practice.retired["desk1"].ssh_port == 2222
    assert practice.prove is None
    kept = [line for line in BLOCK.splitlines() if line.strip().startswith("#")]
    assert [line for line in edit.text.splitlines() if line.strip() in [k.strip() for k in kept]] == kept
    added = [line for line in changed(BLOCK, edit.text) if line.startswith("+")]
    entry = 'desk1: {date: "2026-11-22", keep_until: "2030-01-01", address: "2001:db8::13", ssh_port: 2222}'
    assert added == ["+", f"+{retiring.HEADING}", f"+  {entry}"]


def test_a_second_one_joins_the_first():
    first = retiring.retire(EXAMPLE, "practice.yml", "desk1", TODAY, "2030-01-01")
    second = first.text.replace(
        "  proof1:", "  desk2: {kind: workstation, address: 198.18.0.14, protect: [documents]}\n  proof1:"
    )
    edit = retiring.retire(second.encode(), "practice.yml", "desk2", TODAY, "2030-01-01")
    assert list(sound(edit.text).retired) == ["desk1", "desk2"]
    assert edit.items == ()
    flow = second.replace(f"{retiring.HEADING}\n  ", "retired: {").rstrip() + "}"
    edit = retiring.retire(flow.encode(), "practice.yml", "desk2", TODAY, "2030-01-01")
    assert list(sound(edit.text).retired) == ["desk1", "desk2"]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["\n", ""])
def test_forgetting_leaves_the_document_as_if_there_had_been_no_such_host(ends, last):
    retired = retiring.retire(EXAMPLE, "practice.yml", "desk1", TODAY, None).text
    raw = (retired.rstrip("\n") + last).replace("\n", ends).encode()
    edit = retiring.forget(raw, "practice.yml", "desk1")
    assert sound(edit.text).retired is None
    assert "desk1" not in edit.text
    assert retiring.forget(edit.text.encode(), "practice.yml", "desk1") is None


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_line_ends_stay_what_they_were(ends):
    edit = retiring.retire(BLOCK.replace("\n", ends).encode(), "practice.yml", "desk1", TODAY, None)
    assert edit.text.count("\r\n") == (edit.text.count("\n") if ends == "\r\n" else 0)
    sound(edit.text)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("nas1", "nas1 is a nas and holds the backups of the others; .* playbooks/retire_practice.yml"),
        ("proof1", "proof1 is a restore_host and keeps nothing"),
        ("desk", "no host is named 'desk'; expected one of nas1, server1, desk1, proof1; did you mean \"desk1\"?"),
        ("hosts", "no host is named 'hosts'"),
    ],
)
def test_what_cannot_be_retired_is_said_with_what_to_do(host, said):
    with pytest.raises(RetiringError, match=said.replace("?", r"\?")):
        retiring.retire(EXAMPLE, "practice.yml", host, TODAY, None)


def test_a_primary_is_not_taken_from_the_others():
    text = EXAMPLE.decode().replace("attached_to: nas1", "attached_to: server1")
    with pytest.raises(RetiringError, match=r"cable of ups1 ends in server1, which tells nas1, desk1 when to stop"):
        retiring.retire(text.encode(), "practice.yml", "server1", TODAY, None)


def test_the_last_host_that_backs_up_stays_and_the_reason_is_said():
    text = retiring.retire(EXAMPLE, "practice.yml", "desk1", TODAY, None).text
    with pytest.raises(RetiringError, match="server1 is the last host that backs up; .* playbooks/retire_practice.yml"):
        retiring.retire(text.encode(), "practice.yml", "server1", TODAY, None)


@pytest.mark.parametrize(
    ("until", "said"),
    [("2026-11-21", "lies in the past"), ("soon", "keep until 'soon': expected a date"), ("2033-02-30", "expected a")],
)
def test_a_day_that_makes_no_sense_is_refused(until, said):
    with pytest.raises(RetiringError, match=said):
        retiring.retire(EXAMPLE, "practice.yml", "desk1", TODAY, until)


def test_a_document_with_mistakes_is_not_touched():
    with pytest.raises(RetiringError, match="1 mistake; mend it first:\npractice.yml:11"):
        retiring.retire(EXAMPLE.replace(b"objectives:", b"objectivs:"), "practice.yml", "desk1", TODAY, None)


def test_a_layout_that_cannot_be_edited_changes_nothing_and_says_what_to_write():
    document, _problems = parse(EXAMPLE, "practice.yml")
    one_line = yaml.safe_dump(document.data, default_flow_style=True, width=10**6)
    with pytest.raises(RetiringError, match=r'by hand: .* write desk1: \{date: "2026-11-22"'):
        retiring.retire(one_line.encode(), "practice.yml", "desk1", TODAY, None)


@pytest.mark.parametrize(
    ("duration", "day"),
    [("35d", "2026-12-27"), ("12h", "2026-11-23"), ("2y", "2028-11-22")],
)
def test_days_are_counted_forward(duration, day):
    assert retiring.after(TODAY, duration).isoformat() == day


def test_a_leap_day_has_no_twin_in_other_years():
    assert retiring.after(date(2028, 2, 29), "7y") == date(2035, 2, 28)
    assert retiring.after(date(2028, 2, 29), "4y") == date(2032, 2, 29)


VAULT = {
    "vault_practice_id": "harbour-street",
    "vault_repository_passwords": {"server1": "a", "desk1": "b"},
    "vault_rest_passwords": {"server1": "c", "desk1": "d"},
    "vault_nut_passwords": {"nas1": "e", "desk1": "f"},
}


def test_logins_go_and_the_password_of_the_backups_stays():
    vault, taken = retiring.revoke(VAULT, "desk1")
    assert taken == ["vault_rest_passwords[desk1]", "vault_nut_passwords[desk1]"]
    assert vault["vault_repository_passwords"] == VAULT["vault_repository_passwords"]
    assert vault["vault_rest_passwords"] == {"server1": "c"}
    assert list(vault) == list(VAULT)
    assert retiring.revoke(vault, "desk1") == (vault, [])
    vault, taken = retiring.erase(vault, "desk1")
    assert taken == ["vault_repository_passwords[desk1]"]
    assert VAULT["vault_rest_passwords"]["desk1"] == "d"


def test_the_newest_record_about_a_host_counts():
    records = [
        {"kind": "deletion", "seq": 1, "body": {"host": "desk1"}},
        {"kind": "retirement", "seq": 2, "body": {"host": "desk1"}},
        {"kind": "deletion", "seq": 3, "body": {"host": "desk2"}},
        {"kind": "drill", "seq": 4, "body": {}},
    ]
    assert retiring.last_record(records, "deletion", "desk1")["seq"] == 1
    assert retiring.last_record(records, "drill", "desk1") is None


def test_a_retired_host_is_in_no_group_and_known_to_the_play_that_cleans_it():
    text = retiring.retire(EXAMPLE, "practice.yml", "desk1", TODAY, None).text
    inventory = compile_practice(sound(text), "/x/harbour-street", {})
    assert "desk1" not in inventory.host_vars
    assert all("desk1" not in hosts for hosts in inventory.groups.values())
    known = inventory.all_vars["practice_retired"]["desk1"]
    assert known["connection"]["ansible_host"] == "198.18.0.13"
    assert known["connection"]["ansible_ssh_common_args"] == inventory.host_vars["server1"]["ansible_ssh_common_args"]
    assert (known["date"], known["keep_until"], known["replaced_by"]) == ("2026-11-22", "2033-11-22", None)
    nas = inventory.host_vars["nas1"]
    assert [account["name"] for account in nas["nas_repository_accounts"]] == ["server1"]
    assert nas["nas_repository_retired"] == {"desk1": {"date": "2026-11-22", "keep_until": "2033-11-22"}}
    assert [user["name"] for user in nas["power_users"]] == ["nas1", "server1", "drill"]
    new = text.replace(
        "  proof1:", "  desk2: {kind: workstation, address: 198.18.0.13, protect: [documents]}\n  proof1:"
    )
    known = compile_practice(sound(new), "/x", {}).all_vars["practice_retired"]["desk1"]
    assert known["replaced_by"] == "desk2"
