# SPDX-License-Identifier: Apache-2.0
"""A break-glass rehearsal: which of the kit's commands are run, what an end of one means, and when it counts."""

from __future__ import annotations

import json
import subprocess

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.holdfast.practice.plugins.module_utils import break_glass as glass
from ansible_collections.holdfast.practice.plugins.module_utils.break_glass import Step
from ansible_collections.holdfast.practice.plugins.module_utils.break_glass_host import Rehearsal
from ansible_collections.holdfast.practice.plugins.module_utils.verify_restic import Done
from ansible_collections.holdfast.practice.plugins.modules import break_glass as module


def item(name: str, database: bool = False, host: str = "server1") -> dict:
    return {"item": name, "job": name, "host": host, "database": {"engine": "postgresql"} if database else None}


def step(number: int, name: str, *commands: str) -> dict:
    parts = [{"say": "", "commands": [command]} for command in commands or (". repositories/server1.env",)]
    return {"number": number, "title": name, "item": name, "parts": parts}


KIT = {
    "items": [item("files"), item("db", database=True), item("db2", database=True)],
    "steps": [{"number": 1, "title": "Storage", "parts": []}, step(2, "files"), step(3, "db"), step(4, "db2")],
    "as_of": {"made": "2026-11-20T00:00:00Z"},
}


@pytest.mark.parametrize(
    ("asked", "chosen", "skipped"),
    [
        ([], ["db"], ["files", "db2"]),
        (["db2", "files"], ["files", "db2"], ["db"]),  # in the kit's order, not the asker's
        (["nothing"], [], ["files", "db", "db2", "nothing"]),
    ],
)
def test_the_items_are_the_kits_and_what_is_left_out_is_told(asked, chosen, skipped):
    steps, not_run = glass.steps_of(KIT, asked)
    assert [each.item for each in steps] == chosen
    assert [each["item"] for each in not_run] == skipped


def test_without_a_database_the_first_item_is_recovered():
    kit = {**KIT, "items": [item("files"), item("more")], "steps": [step(2, "files"), step(3, "more")]}
    assert [each.item for each in glass.steps_of(kit, [])[0]] == ["files"]


@pytest.mark.parametrize(
    ("command", "phase"),
    [
        (". repositories/server1.env", "fetch_s"),
        ("RUN=$(restic --no-lock snapshots)", "fetch_s"),
        ('restic --no-lock --cacert c.pem dump --tag "$RUN" latest /x > db.dump', "fetch_s"),
        ('restic --no-lock --cacert c.pem restore --tag "$RUN" --target "$TARGET" --verify latest', "restore_s"),
        ("TARGET=/restored", "restore_s"),
        ("apt-get install postgresql-17", "tools_s"),
        ("runuser -u postgres -- createdb clinic", "load_s"),
    ],
)
def test_each_command_counts_for_a_phase(command, phase):
    assert glass.phase_of(command) == phase


@pytest.mark.parametrize(
    ("address", "bridge", "machine", "hosts"),
    [
        ("198.18.0.11", "198.18.0.11/24", "198.18.0.253/24", {}),
        ("198.18.0.253", "198.18.0.253/24", "198.18.0.252/24", {}),
        ("nas.practice.example", "198.18.255.1/24", "198.18.255.253/24", {"nas.practice.example": "198.18.255.1"}),
        ("fd00::11", "fd00::11/64", "fd00::fd/64", {}),
    ],
)
def test_the_machine_sees_the_address_that_the_kit_names(address, bridge, machine, hosts):
    network = glass.network(address, "/x")
    assert (network["bridge_address"], network["machine_address"], network["hosts"]) == (bridge, machine, hosts)
    assert len(network["namespace"]) < 20
    assert network["namespace"] != glass.network(address, "/y")["namespace"]


def shell(tmp_path, monkeypatch, commands) -> tuple[Done, str]:
    """Really run a script of ours, with the trace in a folder of the test."""
    monkeypatch.setattr(glass, "TRACE", str(tmp_path / "trace"))
    text = glass.script(commands, str(tmp_path))
    done = subprocess.run(["sh", "-c", text], capture_output=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr.decode(), 0.0), (tmp_path / "trace").read_text()


def test_commands_run_in_one_shell_and_the_first_that_fails_is_known(tmp_path, monkeypatch):
    done, trace = shell(tmp_path, monkeypatch, ["A=1", 'echo "$A" > a   # a remark', "false", "echo never > b"])
    assert done.rc == 1
    assert (tmp_path / "a").read_text() == "1\n"
    assert not (tmp_path / "b").exists()
    took, stopped = glass.read_trace(trace)
    assert (set(took), stopped) == ({0, 1}, 2)


def test_a_script_that_ends_names_no_command(tmp_path, monkeypatch):
    done, trace = shell(tmp_path, monkeypatch, ["true", "sleep 0.2"])
    took, stopped = glass.read_trace(trace)
    assert (done.rc, stopped) == (0, None)
    assert 0.1 < took[1] < 30


def test_nothing_at_all_is_not_an_end():
    assert glass.read_trace("") == ({}, 0)


STEP = Step(
    "db",
    "server1",
    3,
    "db of server1",
    tuple(
        (command, glass.phase_of(command))
        for command in (
            ". repositories/server1.env",
            "restic --no-lock --cacert c snapshots",
            "apt-get install postgresql-17",
            "runuser -u postgres -- createdb db",
        )
    ),
)


@pytest.mark.parametrize(
    ("number", "rc", "err", "code", "verdict", "word"),
    [
        (1, 12, "Fatal: wrong password or no key found", "wrong_password", "FAIL", "repository of server1"),
        (1, 1, "Fatal: unexpected HTTP response (401): 401 Unauthorized", "access_refused", "FAIL", "account"),
        (1, 1, "x509: certificate signed by unknown authority", "certificate_mismatch", "FAIL", "certificate"),
        (1, 10, "Fatal: repository does not exist", "repository_missing", "FAIL", "no repository"),
        (1, 1, "dial tcp 198.18.0.11:8000: connect: connection refused", "nas_unreachable", "INCONCLUSIVE", "reached"),
        (1, 127, "sh: 7: restic: not found", "tool_missing", "FAIL", "restic"),
        (1, 1, "something of patient X", "restic_failed", "FAIL", "restic ended with 1"),
        (0, 2, "sh: 3: .: cannot open repositories/server1.env: No such file", "secret_missing", "FAIL", "server1.env"),
        (2, 100, "E: Unable to locate package postgresql-17", "tool_missing", "FAIL", "postgresql-17"),
        (3, 127, "runuser: failed to execute createdb: No such file", "tool_missing", "FAIL", "createdb"),
        (3, 1, "createdb: error for patient X", "step_failed", "FAIL", "step 3, command 4 of 4 ended with 1"),
        (3, 1, "write: No space left on device", "not_enough_space", "INCONCLUSIVE", "full"),
    ],
)
def test_a_command_that_fails_is_named_and_not_quoted(number, rc, err, code, verdict, word):
    reason = glass.step_trouble(STEP, number, Done(rc, b"", err, 1.0))
    assert (reason.code, reason.verdict) == (code, verdict)
    assert word in reason.message
    assert "patient" not in reason.message


def test_no_end_in_time_is_not_a_judgement():
    assert glass.step_trouble(STEP, 3, Done(-15, b"", "", 60.0, True)).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("err", "code"),
    [
        (
            "age: error: no identity matched any of the recipients\ntar: This does not look like a tar archive",
            "wrong_identity_key",
        ),
        ("age: error: failed to decrypt and authenticate payload chunk", "kit_damaged"),
        ('age: error: reading "/dev/shm/holdfast-owner.key": malformed', "identity_key_unreadable"),
        ("sh: 9: age: not found\ntar: This does not look like a tar archive", "tool_missing"),
        ("cd: can't cd to recovery-other", "kit_not_opened"),
    ],
)
def test_a_kit_that_does_not_open_is_told_apart(err, code):
    assert glass.opening_trouble(Done(2, b"", err, 0.1)).code == code


def env(**values: str) -> str:
    return "# x\n" + "".join(f"export {name}={value}\n" for name, value in values.items())


WHOLE = {"RESTIC_REPOSITORY": "a", "RESTIC_PASSWORD": "b", "RESTIC_REST_USERNAME": "c", "RESTIC_REST_PASSWORD": "'d e'"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (env(**WHOLE), []),
        (env(**{name: value for name, value in WHOLE.items() if name != "RESTIC_PASSWORD"}), ["RESTIC_PASSWORD"]),
        (env(**{**WHOLE, "RESTIC_PASSWORD": "''"}), ["RESTIC_PASSWORD"]),
        (env(**WHOLE).replace("export ", ""), list(glass.NEEDED)),
        ("", list(glass.NEEDED)),
    ],
)
def test_what_a_kit_lacks_is_named(text, names):
    assert glass.missing_names(text) == names


ALONE = {"targets": 3, "open_from_here": 2, "open_from_machine": 0, "default_route": False, "nas": True}


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"open_from_machine": 1}, ["not_blocked"]),
        ({"default_route": True}, ["not_blocked"]),
        ({"open_from_here": 0}, ["block_not_shown"]),  # doors that are shut to everybody show nothing
        ({"nas": False}, ["nas_unreachable"]),
    ],
)
def test_only_a_machine_that_was_shut_off_counts(change, codes):
    reasons = glass.isolation({**ALONE, **change})
    assert [reason.code for reason in reasons] == codes
    assert {reason.verdict for reason in reasons} <= {"INCONCLUSIVE"}


OFF = {"code": "nas_unreachable", "message": "m", "verdict": "INCONCLUSIVE"}
MACHINE = {"driver": "nspawn", "created": True, "disposed": True, "seconds": 5.0}


def result(**change) -> dict:
    row = {"item": "db", "host": "server1", "verdict": "PASS", "reasons": [], "phases": {"load_s": 2.0}, "queries": 9}
    return {
        "reasons": [],
        "items": [row],
        "not_run": [],
        "phases": {"open_kit_s": 1.0},
        "blocked": ALONE,
        "made": "x",
        **change,
    }


@pytest.mark.parametrize(
    ("found", "machine", "verdict", "codes"),
    [
        (result(), MACHINE, "PASS", []),
        ({}, MACHINE, "INCONCLUSIVE", ["not_run"]),
        (result(items=[]), MACHINE, "FAIL", ["zero_checked"]),
        (result(), {**MACHINE, "disposed": False}, "FAIL", ["machine_not_wiped"]),
        (result(reasons=[OFF], items=[]), MACHINE, "INCONCLUSIVE", ["nas_unreachable"]),
    ],
)
def test_whatever_was_reached_becomes_a_record(found, machine, verdict, codes):
    body = glass.conclude("p", {"sha256": "ab"}, found, machine)
    assert (body["verdict"], [each["code"] for each in body["reasons"]]) == (verdict, codes)
    assert glass.describe(body)[0].startswith(f"{verdict}: break-glass rehearsal of practice p")


def test_phases_of_all_items_add_up():
    body = glass.conclude("p", {}, result(items=[*result()["items"], *result()["items"]]), MACHINE)
    assert body["figures"] == {"phases": {"open_kit_s": 1.0, "load_s": 4.0}, "total_s": 5.0, "queries": 18}


def test_an_item_of_which_nothing_was_asked_did_not_come_back():
    assert glass.item_verdict([], 0)[0] == "FAIL"
    assert glass.item_verdict([], 1) == ("PASS", [])


def test_the_page_and_the_rehearsal_open_a_kit_alike():
    assert (
        glass.opening("kit-1.age", "recovery-p")[2]
        == "age --decrypt --identity KEYFILE kit-1.age | tar --extract --file=-"
    )


class Blank:
    """A machine in which nothing is, to see what a rehearsal does with it."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[str, ...], bytes]] = []

    def call(self, *argv: str, user: str = "root", stdin: bytes = b"", timeout: float | None = None) -> Done:
        self.seen.append((argv, stdin))
        return Done(127, b"", "sh: 3: age: not found", 0.0)


def test_the_key_reaches_the_machine_by_standard_input_and_is_removed(tmp_path):
    blank = Blank()
    rehearsal = Rehearsal(
        blank, "/nowhere", {"namespace": "x", "nas_address": "198.18.0.11"}, ("198.18.0.11", 8000), "p"
    )
    rehearsal._put = lambda path, content: blank.seen.append((("put", path), content))  # type: ignore[method-assign]
    (tmp_path / "kit.age").write_bytes(b"sealed")
    assert rehearsal._open(str(tmp_path / "kit.age"), "AGE-SECRET-KEY-1X\n") is None
    assert [row["code"] for row in rehearsal._result["reasons"]] == ["tool_missing"]
    assert not any("SECRET" in word for argv, _stdin in blank.seen for word in argv)
    assert ("rm", "-f", glass.KEYFILE) in [argv for argv, _stdin in blank.seen]


def test_check_mode_rehearses_nothing(capsys, tmp_path):
    asked = {
        "phase": "rehearse",
        "practice": "p",
        "nas": "x",
        "folder": str(tmp_path),
        "leader": 1,
        "kit": "/k",
        "identity": "s",
    }
    with patch_module_args({**asked, "_ansible_check_mode": True}), pytest.raises(SystemExit):
        module.main()
    assert json.loads(capsys.readouterr().out)["result"] == {}
