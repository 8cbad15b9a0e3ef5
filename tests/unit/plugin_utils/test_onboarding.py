# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import copy
import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from ansible_collections.holdfast.practice.plugins.plugin_utils import (
    answers,
    available,
    check,
    cli_new,
    interview,
    leaves,
    onboarding,
    pinning,
    secrets,
    source,
)
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REPOSITORY = Path(__file__).resolve().parents[3]
DOCS = REPOSITORY / "docs" / "onboarding.md"
ANSWERS = yaml.safe_load("""
name: Hill Road Surgery
country: "AU"
timezone: Australia/Sydney
manager: {name: Robin Example, email: manager@hill-road.example}
provider: {name: Example IT, email: help@it.example}
hours: {mon-fri: "08:00-18:30", sat: "09:00-12:00"}
nas: {address: 198.18.0.11, disks: [/dev/disk/by-id/ata-ONE, /dev/disk/by-id/ata-TWO]}
servers:
  - name: server1
    address: 198.18.0.12
    databases:
      - {engine: postgresql, name: clinic, images: {query: select path from image, root: /srv/clinic/images}}
    folders: [/srv/clinic/documents]
workstations:
  - {name: desk1, address: 198.18.0.13, folders: [/home/reception/Documents]}
ups:
  - {driver: usbhid-ups, runtime: 10m}
""")


def changed(**changes):
    return {**copy.deepcopy(ANSWERS), **changes}


def checked(data, proposed="hill-road"):
    return onboarding.check_answers(yaml.safe_dump(data, allow_unicode=True).encode(), "answers.yml", proposed)


def written(data):
    draft, _, problems = checked(data)
    assert problems == []
    return onboarding.complete(draft, "practice.yml")


# --- the document


def test_a_four_host_site_is_a_valid_document_of_less_than_60_lines_with_comments():
    text, practice = written(ANSWERS)
    assert len(practice.hosts) == 4
    assert len(text.splitlines()) < 60
    assert sum("#" in line for line in text.splitlines()) >= 10
    assert max(len(line) for line in text.splitlines()) <= 120
    document, problems = source.parse(text.encode(), "practice.yml")
    assert check.check(document, problems)[1] == []


def test_the_document_says_what_was_answered():
    _, practice = written(ANSWERS)
    assert practice.practice.model_dump(include={"id", "name", "country", "timezone"}) == {
        "id": "hill-road",
        "name": "Hill Road Surgery",
        "country": "AU",
        "timezone": "Australia/Sydney",
    }
    assert practice.hosts["nas1"].pool.profile == "raid1"
    assert practice.hosts["server1"].protect == ["clinic_db", "server1_files"]
    assert practice.protect["clinic_db"].class_ == "critical"
    assert practice.protect["clinic_db"].images.root == "/srv/clinic/images"
    assert practice.protect["desk1_files"].paths == ["/home/reception/Documents"]
    assert practice.power["ups1"].model_dump(include={"attached_to", "feeds", "runtime"}) == {
        "attached_to": "nas1",
        "feeds": ["nas1", "server1", "desk1"],
        "runtime": "10m",
    }
    assert practice.hosts["proof1"].kind == "restore_host"
    assert practice.access.key == "ssh_key"


def test_the_same_answers_give_the_same_bytes():
    assert written(ANSWERS)[0] == written(copy.deepcopy(ANSWERS))[0]


def test_one_disk_is_single_and_an_agent_key_is_left_out():
    data = changed(access={"user": "admin", "key": "agent"}, ups=None)
    del data["ups"]
    data["nas"]["disks"] = ["/dev/disk/by-id/ata-ONE"]
    _, practice = written(data)
    assert practice.hosts["nas1"].pool.profile == "single"
    assert (practice.access.user, practice.access.key, practice.power) == ("admin", None, None)


def test_names_that_would_collide_or_look_like_secrets_give_way():
    data = changed()
    data["workstations"][0]["name"] = "proof1"
    data["servers"].append({"name": "server2", "address": "198.18.0.14", "databases": [
        {"engine": "postgresql", "name": "clinic"}, {"engine": "postgresql", "name": "api token"},
        {"engine": "postgresql", "name": "Über Größe"}]})  # fmt: skip
    _, practice = written(data)
    assert practice.hosts["server2"].protect == ["server2_clinic_db", "database", "uber_groe_db"]
    assert practice.hosts["proof2"].kind == "restore_host"


@pytest.mark.parametrize(
    "name",
    ['Dr. "Bob" Müller & Söhne', "a: b #c", "{x}", "%", "- ", "'", "yes", "010", "💉", "a\tb",
     "!vault x", "&a *b", "null", "2026-01-01", "1e3", "\\n"],
)  # fmt: skip
def test_any_name_is_written_so_that_it_is_read_back(name):
    assert written(changed(name=name))[1].practice.name == name


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=20))
def test_a_name_and_a_folder_of_any_characters_are_kept_or_refused_never_bent(name, folder):
    data = changed(name=name)
    data["workstations"][0]["folders"] = [f"/home/{folder}"]
    draft, _, problems = checked(data)
    assert (draft is None) == bool(problems)
    if draft:
        _, practice = onboarding.complete(draft, "practice.yml")
        assert practice.practice.name == name
        assert practice.protect["desk1_files"].paths == [f"/home/{folder}"]


# --- answers in a file


def said(text, proposed="hill-road"):
    return [str(problem) for problem in onboarding.check_answers(text.encode(), "answers.yml", proposed)[2]]


TEXT = """name: Hill Road Surgery
country: "AU"
timezone: Australia/Sydney
manager: {name: Robin Example, email: manager@hill-road.example}
nas: {address: 198.18.0.11, disks: [/dev/disk/by-id/ata-ONE, /dev/disk/by-id/ata-TWO]}
servers:
  - name: server1
    address: 198.18.0.12
    databases: [{engine: postgresql, name: clinic}]
    folders: [/srv/clinic/documents]
ups:
  - {driver: usbhid-ups, runtime: 10m}
"""


def test_the_text_without_a_mistake_is_accepted():
    assert said(TEXT) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("manager:", "manger:", 'answers.yml:4: manger: unknown key "manger"; expected one of name, id, '),
        ('"AU"', "NO", ('answers.yml:2: country: got false (boolean); expected a country code of two capital letters in '
                       'quotes, such as "AU"; YAML reads NO as a boolean; write "NO" in quotes')),
        ("timezone: Australia/Sydney\n", "",
         "answers.yml:1: timezone: missing; expected a time zone: AU has "),
        ("Australia/Sydney", "Australia/Sidney", "answers.yml:3: timezone: got \"Australia/Sidney\" (string)"),
        ("manager@hill", "manager hill", 'answers.yml:4: manager.email: got "manager hill'),
        ("server1\n", "nas1\n", 'answers.yml:7: servers[0].name: got "nas1", the name of nas; expected a name of its own'),
        ("198.18.0.12", "198.18.0.11", 'answers.yml:8: servers[0].address: got "198.18.0.11", the address of nas1'),
        ("postgresql", "postgress", 'answers.yml:9: servers[0].databases[0].engine: got "postgress" (string), an unknown'),
        ("ata-TWO", "ata-ONE", 'answers.yml:5: nas.disks: "/dev/disk/by-id/ata-ONE" is listed twice'),
        ("/srv/clinic/documents", "documents", 'answers.yml:10: servers[0].folders[0]: got "documents" (string)'),
        ("10m", "2m", 'answers.yml:12: ups[0].runtime: got "2m": 120 s, 290 s too few; expected at least slowest'),
        ("usbhid-ups", "usbhd-ups", 'answers.yml:12: ups[0].driver: got "usbhd-ups" (string)'),
        ("runtime: 10m", "runtime: 10m, feeds: [nas1, sever1]",
         ('answers.yml:12: ups[0].feeds[1]: got "sever1" (string); expected a machine of this practice: nas1, server1; '
         'did you mean "server1"?')),
        ("name: Hill", "access: {key: /nowhere}\nname: Hill",
         'answers.yml:1: access.key: got "/nowhere", where there is no file'),
        ("Hill Road Surgery", '"{{ x }}"', 'answers.yml:1: name: got a template "{{ x }}" (string)'),
        ("    databases: [{engine: postgresql, name: clinic}]\n    folders: [/srv/clinic/documents]\nups", "x",
         "answers.yml:"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_answers_is_said_at_its_line(old, new, expected):
    assert old in TEXT
    found = said(TEXT.replace(old, new, 1))
    assert any(line.startswith(expected) for line in found), found


@pytest.mark.parametrize("engine", [name for name in leaves.ENGINES if name not in interview.engines()])
def test_an_engine_of_a_later_version_is_refused(engine, capsys):
    why = "needs more than these answers" if engine in leaves.VENDOR_ENGINES else "is not available in this version"
    words = f'the engine "{engine}" {why}'
    assert any(words in line for line in said(TEXT.replace("postgresql", engine)))
    assert written(held([*TALK[:14], engine, *TALK[14:]]))[0] == written(ANSWERS)[0]
    assert words in capsys.readouterr().out


def test_a_database_that_is_a_file_is_asked_for_by_its_path(monkeypatch, capsys):
    monkeypatch.setattr(available, "LATER", [each for each in available.LATER if each.path[-1] != "engine"])
    lines = [
        *TALK[:14],
        "sqlite",
        "pms.db",
        "/srv/pms/pms.db",
        "none",
        "sqlite",
        "/srv/pms/pms.db",
        "/srv/pms/other.db",
        "none",
    ]
    found = held([*lines, *TALK[18:]])
    assert found["servers"][0]["databases"] == [
        {"engine": "sqlite", "path": "/srv/pms/pms.db"},
        {"engine": "sqlite", "path": "/srv/pms/other.db"},
    ]
    shown = capsys.readouterr().out
    assert "the database's file, for engines that are one" in shown
    assert "is the same database as" in shown
    assert list(written(found)[1].protect)[:2] == ["pms_db", "other_db"]


def test_an_engine_that_does_not_fit_the_machine_is_said_at_once(monkeypatch, capsys):
    monkeypatch.setattr(available, "LATER", [each for each in available.LATER if each.path[-1] != "engine"])
    assert written(held([*TALK[:14], "sqlserver", *TALK[14:]]))[0] == written(ANSWERS)[0]
    assert "sqlserver on hosts with os: windows" in capsys.readouterr().out


def test_an_unknown_key_names_the_one_that_was_meant():
    assert any('did you mean "manager"?' in line for line in said(TEXT.replace("manager:", "manger:")))


def test_all_mistakes_of_a_file_come_at_once():
    text = TEXT.replace("manager:", "manger:").replace("198.18.0.12", "198.18.0.300").replace("10m", "10")
    assert len(said(text)) == 3


def test_a_host_with_nothing_to_protect_and_no_ups_is_refused():
    text = TEXT[: TEXT.index("ups:")] + "workstations:\n  - {name: desk1, address: 198.18.0.13}\n"
    assert said(text) == [
        (
            "answers.yml:12: workstations[0]: nothing is to be done on this host; expected protect: or a UPS; "
            "give it protect: [ITEM], or leave desk1 out"
        )
    ]


@pytest.mark.parametrize(
    ("country", "here", "zone"),
    [
        ("SG", "", "Asia/Singapore"),
        ("AU", "", "Australia/Sydney"),
        ("AU", "Australia/Perth", "Australia/Perth"),
        ("AU", "Europe/Berlin", "Australia/Sydney"),
        ("XX", "Europe/Berlin", ""),
    ],
)
def test_a_zone_is_proposed_from_the_country(country, here, zone):
    assert answers.likely_zone(country, here) == zone


def test_every_proposed_zone_is_one_of_its_country():
    assert {country: zone for country, zone in answers._LARGEST.items() if zone not in answers.zones(country)} == {}


def test_a_zone_is_taken_without_asking_only_where_there_is_one():
    text = TEXT.replace("timezone: Australia/Sydney\n", "")
    assert said(text.replace('"AU"', '"SG"')) == []


@pytest.mark.parametrize("text", ["", "- a\n", "name: [", "\tname: x\n", "name: \x00\n"])
def test_what_is_no_file_of_answers_is_refused_without_a_traceback(text):
    assert said(text)


# --- the interview


class Scripted:
    """A person who has written down what to answer; what is on the screen goes to the output."""

    def __init__(self, lines):
        self.lines = list(lines)

    def say(self, text):
        print(text)

    def ask(self, prompt):
        line = self.lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        print(f"{prompt}{line}")
        return line


TALK = [
    "Hill Road Surgery", "", "AU", "", "Robin Example", "manager@hill-road.example", "Example IT", "help@it.example",
    "mon-fri 08:00-18:30, sat 09:00-12:00",
    "", "198.18.0.11", "/dev/disk/by-id/ata-ONE, /dev/disk/by-id/ata-TWO",
    "", "198.18.0.12", "", "clinic", "/srv/clinic/images", "select path from image", "", "/srv/clinic/documents", "",
    "", "198.18.0.13", "/home/reception/Documents", "",
    "", "", "", "", "", "",
    "", "",
]  # fmt: skip


def held(lines):
    return interview.Interview(Scripted(lines), "hill-road").hold()


def test_the_interview_and_the_file_give_the_same_document():
    assert written(held(TALK))[0] == written(ANSWERS)[0]


@pytest.mark.parametrize(
    ("at", "wrong", "words"),
    [
        (0, [""], "got an empty text"),
        (2, ["Australia"], "a country code of two capital letters"),
        (3, ["EST"], "an IANA region zone"),
        (5, ["manager"], "a mail address"),
        (8, ["mon-fri", "mon 9:00-12:00", "mon 08:00-09:00, mon 10:00-11:00"], "DAYS HH:MM-HH:MM"),
        (9, ["NAS 1", "nas"], "write nas-1"),
        (10, ["10.0.0.0/8", "010.0.0.1", "\x1b[A"], "there is a control character"),
        (11, ["sda", "/dev/a, /dev/a"], "listed twice"),
        (12, ["nas1"], "the name of nas"),
        (13, ["198.18.0.11"], "the address of nas1"),
        (14, ["postgress"], 'did you mean "postgresql"?'),
        (17, ["drop table image"], "one select statement"),
        (19, ["documents", "/srv/.."], "goes through .. or ."),
        (25, ["perhaps"], 'write "yes" or "no"'),
        (26, ["usbhid"], 'did you mean "usbhid-ups"?'),
        (27, ["proof1"], "a machine of this practice"),
        (28, ["server1", "nas1, sever1"], "which ups1 does not feed"),
        (29, ["0", "2"], "FINALDELAY"),
        (31, ["Root!"], "a user name"),
        (32, ["/nowhere"], "where there is no file"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_said_and_asked_again(at, wrong, words, capsys):
    again = held([*TALK[:at], *wrong, "?", *TALK[at:]])
    assert written(again)[0] == written(ANSWERS)[0]
    assert words in capsys.readouterr().out


def test_none_after_a_mistake_leaves_nothing_behind():
    lines = list(TALK)
    lines[6:8] = ["x" * 300, "none"]
    lines = [*lines[:14], "postgress", "none", "/srv/clinic/documents", *lines[19:]]
    found = held(lines)
    assert "provider" not in found
    assert found["servers"] == [{"name": "server1", "address": "198.18.0.12", "folders": ["/srv/clinic/documents"]}]
    assert written(found)


def test_a_practice_without_anything_to_protect_is_not_accepted(capsys):
    lines = [*TALK[:12], "none", "none", *TALK[12:]]
    assert written(held(lines))[0] == written(ANSWERS)[0]
    assert "nothing to protect yet" in capsys.readouterr().out


# --- the folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A checkout of its own, in which the machines show keys that never change."""
    checkout = tmp_path / "holdfast"
    (checkout / "inventories").mkdir(parents=True)
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(cli_new, "REPOSITORY", checkout)
    monkeypatch.setattr(sys, "executable", str(checkout / ".venv/bin/python"))
    monkeypatch.setattr(cli_new, "_zone_here", lambda: "")

    def read(target, kinds=()):
        private = ed25519.Ed25519PrivateKey.from_private_bytes(target.name.encode().ljust(32, b"."))
        text = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return pinning.parse(f"x {text.decode()}")[0].key

    monkeypatch.setattr(pinning, "read_key", read)
    return checkout


def new(lines=(), folder="inventories/hill-road", **options):
    wanted = {"answers": None, "vault_password_file": None, "expect": None, "yes": False, "no_pin": False, **options}
    return cli_new.run(Namespace(folder=folder, **wanted), Scripted(lines))


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_is_whole_and_private_where_it_must_be(place, capsys):
    old = os.umask(0)
    try:
        assert new([*TALK, "yes", "yes"]) == 0
    finally:
        os.umask(old)
    folder = place / "inventories/hill-road"
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in everything(folder)}
    assert modes == {
        ".gitignore": 0o644,
        ".vault-password": 0o600,
        "certificates/nas1.pem": 0o644,
        "evidence_signers": 0o644,
        "group_vars/all/vault.yml": 0o600,
        "known_hosts": 0o644,
        "practice.yml": 0o644,
        "ssh_key": 0o600,
        "ssh_key.pub": 0o644,
    }
    assert [path.name for path in (place / "inventories").iterdir()] == ["hill-road"]
    practice, problems = check.load(folder / "practice.yml")
    assert problems == []
    # nothing is left to make, and the private halves are not shown
    assert secrets.apply(folder, practice, None, create_password=False) == []
    shown = capsys.readouterr().out
    assert (folder / ".vault-password").read_text().strip() not in shown
    assert (folder / "ssh_key").read_text().splitlines()[2] not in shown
    assert (folder / "ssh_key.pub").read_text().strip() in shown
    ignored = (folder / ".gitignore").read_text().splitlines()
    assert {"/.vault-password", "/ssh_key"} <= set(ignored)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not on this machine")
def test_the_two_halves_of_the_key_belong_together(place):
    assert new([*TALK, "yes", "yes"]) == 0
    folder = place / "inventories/hill-road"
    printed = subprocess.run(["ssh-keygen", "-y", "-f", folder / "ssh_key"], capture_output=True, text=True, check=True)
    assert printed.stdout.split()[:2] == (folder / "ssh_key.pub").read_text().split()[:2]


@pytest.mark.parametrize("at", range(0, len(TALK) + 2, 4))
def test_ctrl_c_and_ctrl_d_leave_nothing_wherever_they_come(place, at):
    for leave in (KeyboardInterrupt(), EOFError()):
        lines = [*TALK, "yes", "yes"]
        assert new([*lines[:at], leave]) == 130
        assert list((place / "inventories").iterdir()) == []


def test_no_to_the_document_writes_nothing(place):
    assert new([*TALK, "no"]) == 130
    assert list((place / "inventories").iterdir()) == []


def test_no_to_the_fingerprints_makes_the_folder_and_names_the_command(place, capsys):
    assert new([*TALK, "yes", "no"]) == 0
    assert not (place / "inventories/hill-road/known_hosts").exists()
    assert "  bin/holdfast pin inventories/hill-road\n" in capsys.readouterr().out


def test_hosts_that_are_not_up_are_pinned_later(place, capsys, monkeypatch):
    seen = pinning.read_key

    def read(target, kinds=()):
        if target.name == "desk1":
            raise pinning.SilentError("no route to host")
        return seen(target)

    monkeypatch.setattr(pinning, "read_key", read)
    assert new([*TALK, "yes", "yes"]) == 0
    known = (place / "inventories/hill-road/known_hosts").read_text()
    assert [line.split()[-1] for line in known.splitlines()] == ["nas1", "server1"]
    shown = capsys.readouterr().out
    assert "no route to host" in shown
    assert "  bin/holdfast pin inventories/hill-road\n" in shown


@pytest.mark.parametrize("kind", ["practice", "other files", "a file", "comma", "no parent"])
def test_what_is_there_is_never_touched(place, kind, capsys):
    folder = place / "inventories/hill-road"
    if kind == "a file":
        folder.write_text("mine")
    elif kind in ("practice", "other files"):
        folder.mkdir()
        (folder / ("practice.yml" if kind == "practice" else "notes")).write_text("mine")
    name = {"comma": "inventories/hill,road", "no parent": "inventorys/hill-road"}.get(kind, "inventories/hill-road")
    before = everything(place)
    assert new([*TALK, "yes", "yes"], folder=name) == 3
    assert everything(place) == before
    words = {"practice": "stays as it is", "other files": "not an empty folder", "a file": "not an empty folder",
             "comma": "comma", "no parent": "make it first"}  # fmt: skip
    assert words[kind] in capsys.readouterr().err


def test_an_empty_folder_is_taken(place):
    (place / "inventories/hill-road").mkdir()
    assert new([*TALK, "yes", "yes"]) == 0


def test_what_a_killed_run_left_is_cleared_away(place):
    left = place / "inventories/.hill-road.unfinished/work"
    left.mkdir(parents=True)
    (left / "practice.yml").write_text("half")
    assert new([*TALK, "yes", "yes"]) == 0
    assert [path.name for path in (place / "inventories").iterdir()] == ["hill-road"]


def test_two_at_once_do_not_mix(place, capsys):
    outer = place / "inventories/.hill-road.unfinished"
    outer.mkdir()
    handle = os.open(outer, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert new([*TALK, "yes", "yes"]) == 3
    assert "is at work" in capsys.readouterr().err
    os.close(handle)
    assert outer.is_dir()


def test_answers_from_a_file(place, capsys):
    (place / "answers.yml").write_text(TEXT)
    assert new(answers=place / "answers.yml", yes=True) == 0
    assert len((place / "inventories/hill-road/known_hosts").read_text().splitlines()) == 2
    (place / "answers.yml").write_text(TEXT.replace("manager:", "manger:"))
    capsys.readouterr()
    assert new(folder="inventories/other", answers=place / "answers.yml", yes=True) == 3
    assert f'{place}/answers.yml:4: manger: unknown key "manger"' in capsys.readouterr().out
    assert new(folder="inventories/other", answers=place / "nowhere") == 3
    assert [path.name for path in (place / "inventories").iterdir()] == ["hill-road"]


def test_another_key_than_the_expected_one_writes_nothing(place, capsys):
    (place / "answers.yml").write_text(TEXT)
    (place / "expected").write_text(f"nas1 SHA256:{'A' * 43}\nserver1 SHA256:{'B' * 43}\n")
    assert new(answers=place / "answers.yml", expect=place / "expected") == 1
    assert "does not show the key that is expected" in capsys.readouterr().out
    assert list((place / "inventories").iterdir()) == []


@pytest.mark.parametrize("kind", ["good", "public", "text"])
def test_an_existing_key_is_copied_as_it_is(place, kind, capsys):
    key = place / "id_test"
    pem = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
    key.write_text({"good": pem, "public": "ssh-ed25519 AAAA me\n", "text": "hello\n"}[kind])
    (place / "answers.yml").write_text(f"{TEXT}access: {{key: {key}}}\n")
    code = new(answers=place / "answers.yml", yes=True)
    folder = place / "inventories/hill-road"
    if kind == "good":
        assert code == 0
        assert (folder / "ssh_key").read_text() == pem
        assert (folder / "ssh_key").stat().st_mode & 0o777 == 0o600
        assert "authorized_keys" not in capsys.readouterr().out
    else:
        assert code == 3
        assert "answers.yml:13: access.key: got" in capsys.readouterr().out
        assert not folder.exists()


def test_a_vault_password_of_the_providers_own(place, capsys):
    (place / "secret").write_text("x" * 40)
    (place / "answers.yml").write_text(TEXT)
    assert new(answers=place / "answers.yml", yes=True, vault_password_file=place / "secret") == 0
    assert not (place / "inventories/hill-road/.vault-password").exists()
    assert "--vault-id hill-road@secret playbooks/site.yml" in capsys.readouterr().out
    assert new(folder="inventories/b", answers=place / "answers.yml", vault_password_file=place / "secrte") == 3
    assert not (place / "secrte").exists()


# --- what is said, and what the documentation says


def commands(text):
    block = text[text.index("\nNext, ") :]
    return [line.strip() for line in block.splitlines() if line.startswith("  ") and not line.startswith("  #")]


def test_the_commands_are_right_for_folders_with_difficult_names(place, tmp_path, capsys):
    (place / "answers.yml").write_text(TEXT)
    folder = tmp_path / "Dr. O'Neil & $(id) @home"
    assert new(folder=str(folder), answers=place / "answers.yml", yes=True) == 3  # the folder's name is no id
    capsys.readouterr()
    (place / "answers.yml").write_text(TEXT + "id: oneil\n")
    assert new(folder=str(folder), answers=place / "answers.yml", yes=True) == 0
    for line in commands(capsys.readouterr().out):
        words = shlex.split(line)
        if words[0] == "ansible-playbook":
            assert words[1:5] == ["-i", str(folder), "--vault-id", f"oneil@{folder}/.vault-password"]


def test_every_command_that_is_printed_exists(place, capsys):
    assert new([*TALK, "yes", "no"]) == 0
    found = commands(capsys.readouterr().out)
    assert len(found) >= 8
    for line in found:
        words = shlex.split(line)
        if words[0] == "ansible-playbook":
            assert (REPOSITORY / words[5]).is_file(), line
        elif words[0] == "bin/holdfast":
            assert (REPOSITORY / f"plugins/plugin_utils/cli_{words[1]}.py").is_file(), line
        else:
            assert words[0] == ".", line


def steady(text):
    """Put the same in place of what is different in each run."""
    text = re.sub(r"SHA-256 [0-9A-F:]{95}", "SHA-256 5A:0E:...:C4", text)
    text = re.sub(r" +$", "", text, flags=re.MULTILINE)
    text = re.sub(r"until [0-9]{4}-[0-9]{2}-[0-9]{2}", "until 2036-11-21", text)
    return re.sub(r"(ssh-ed25519) [A-Za-z0-9+/=]+", r"\1 AAAAC3NzaC1lZDI1NTE5AAAAI...", text)


def transcript(capsys, folder="inventories/hill-road"):
    capsys.readouterr()
    lines = [TALK[0], "hill-road", *TALK[2:]] if folder != "inventories/hill-road" else TALK
    assert new([*lines, "", "yes"], folder=folder) == 0
    return steady(capsys.readouterr().out)


def test_the_talk_in_the_documentation_is_the_one_that_takes_place(place, capsys):
    written_down = re.search(
        r"<!-- the interview -->\n```text\n\$ bin/holdfast new [^\n]*\n(.*?)```", DOCS.read_text(), re.DOTALL
    )
    assert written_down[1] == transcript(capsys)


def test_the_answers_in_the_documentation_give_the_same_document(place, capsys):
    (place / "answers.yml").write_text(re.search(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)[1])
    assert new(answers=place / "answers.yml", yes=True) == 0
    assert (place / "inventories/hill-road/practice.yml").read_text() in transcript(capsys, "inventories/other")


def test_the_documentation_follows_the_commands_that_are_printed(place, capsys):
    steps = DOCS.read_text().partition("\n## The steps\n")[2].partition("\n## ")[0]
    in_docs = [line for block in re.findall(r"```sh\n(.*?)```", steps, re.DOTALL) for line in block.splitlines()]
    assert in_docs == commands(transcript(capsys))


# --- at a real terminal


def test_ctrl_c_at_a_real_terminal_leaves_nothing(tmp_path):
    folder = tmp_path / "hill-road"
    pid, master = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests may ignore it
        os.execv(REPOSITORY / "bin/holdfast", ["holdfast", "new", str(folder)])
    screen = b""

    def until(words, again=b""):
        nonlocal screen
        end = time.monotonic() + 60
        while words not in screen:
            assert time.monotonic() < end, screen.decode()
            if not select.select([master], [], [], 5)[0]:
                os.write(master, again)
            else:
                with contextlib.suppress(OSError):
                    screen += os.read(master, 4096)
        screen = screen.partition(words)[2]

    until(b"Name of the practice: ")
    os.write(master, b"Hill Road Surgery\n")
    until(b"Short name (id) [hill-road]: ")
    os.write(master, b"\x03")
    # Python misses the key in the moment between prompt and reading; a person presses it again
    until(b"nothing was written", again=b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    os.close(master)
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_the_interview_is_refused(tmp_path):
    done = subprocess.run(
        [REPOSITORY / "bin/holdfast", "new", tmp_path / "x"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "give --answers FILE" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_nothing_that_counts_and_the_next_one_works(tmp_path):
    folder, file = tmp_path / "hill-road", tmp_path / "answers.yml"
    file.write_text(TEXT)
    pid, master = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests may ignore it
        os.execv(REPOSITORY / "bin/holdfast", ["holdfast", "new", str(folder)])
    screen = b""
    while b"Name of the practice" not in screen:
        screen += os.read(master, 4096)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(master)
    assert (tmp_path / ".hill-road.unfinished").is_dir()
    assert not folder.exists()
    command = [REPOSITORY / "bin/holdfast", "new", folder, "--answers", file, "--no-pin"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"hill-road", "answers.yml"}
