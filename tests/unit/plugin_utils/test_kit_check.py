# SPDX-License-Identifier: Apache-2.0
"""The check of a recovery kit: which repository fails, why, and what that says of the kit."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.backup_nas import NasError
from ansible_collections.holdfast.practice.plugins.plugin_utils import cli, kit_check, kit_seal, recovery_kit
from ansible_collections.holdfast.practice.plugins.plugin_utils.kit_check import FAIL, INCONCLUSIVE, PASS

REPOSITORY = Path(__file__).resolve().parents[3]
ID = "6e7f60a8" + "0" * 56
CONFIG = (0, json.dumps({"version": 2, "id": ID}), "")
OTHER = (0, json.dumps({"version": 2, "id": "ff" * 32}), "")
THREE = (0, json.dumps([{"id": "a"}, {"id": "b"}, {"id": "c"}]), "")
NONE = (0, "null", "")


@pytest.fixture(scope="module")
def opened(trial):
    sources = trial.sources()
    printed = recovery_kit.content(sources)
    files = recovery_kit.members(sources, printed)
    return kit_seal.read_kit(files, "kit"), files


def checked(opened, knocks=None, answers=None, layers=(), kit=None):
    """Check with a NAS and a restic that answer from tables, by account; returns the rows and what was run."""
    ran = []

    def knock(url, cafile, username, password):
        assert Path(cafile).read_text().startswith("-----BEGIN CERTIFICATE-----")
        answer = (knocks or {}).get(username, True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(argv, env):
        ran.append((list(argv), dict(env)))
        config, snapshots = (answers or {}).get(env["RESTIC_REST_USERNAME"], (CONFIG, THREE))
        return config if argv[-2:] == ["cat", "config"] else snapshots

    rows = kit_check.Checker(kit or opened[0], opened[1], layers, knock, run).check()
    return {row.host: row for row in rows}, ran


def test_each_repository_is_opened_with_the_secrets_of_the_kit(opened, trial):
    rows, ran = checked(opened, answers={"desk1": (OTHER, NONE)})
    assert {name: (row.verdict, row.code, row.snapshots) for name, row in rows.items()} == {
        "server1": (PASS, "opened", 3),
        "desk1": (PASS, "opened", 0),
    }
    for host in ("server1", "desk1"):
        seen = [env for _argv, env in ran if env["RESTIC_REST_USERNAME"] == host]
        assert len(seen) == 2
        assert {env["RESTIC_PASSWORD"] for env in seen} == {trial.vault["vault_repository_passwords"][host]}
        assert {env["RESTIC_REST_PASSWORD"] for env in seen} == {trial.vault["vault_rest_passwords"][host]}


@pytest.mark.parametrize(
    ("knock", "config", "code", "verdict", "words"),
    [
        (NasError("rest_login_refused", "x"), CONFIG, "access_refused", FAIL, "refuses the account server1"),
        (NasError("rest_forbidden", "x"), CONFIG, "access_refused", FAIL, "refuses the account server1"),
        (NasError("certificate_mismatch", "x"), CONFIG, "certificate_mismatch", FAIL, "another certificate"),
        (NasError("certificate_expired", "x"), CONFIG, "certificate_expired", FAIL, "not valid today"),
        (NasError("nas_unreachable", "x"), CONFIG, "nas_unreachable", INCONCLUSIVE, "198.18.0.11:8000 does not answer"),
        (NasError("nas_error", "x"), CONFIG, "nas_error", INCONCLUSIVE, "journal on nas1"),
        (False, CONFIG, "repository_missing", FAIL, "there is no repository"),
        (True, (12, "", "Fatal: wrong password"), "wrong_password", FAIL, "repository password"),
        (True, (10, "", "Fatal: repository does not exist"), "repository_missing", FAIL, "there is no repository"),
        (True, (1, "", "Fatal: x509: certificate signed by"), "certificate_mismatch", FAIL, "another certificate"),
        (True, (1, "", "dial tcp: connection refused"), "nas_unreachable", INCONCLUSIVE, "does not answer"),
        (
            True,
            (1, "", "config or key is damaged: ciphertext verification failed"),
            "repository_damaged",
            FAIL,
            "damaged",
        ),
        (True, (11, "", "unable to create lock"), "restic_failed", INCONCLUSIVE, "restic ended with 11"),
        (True, (1, "", "something new"), "restic_failed", INCONCLUSIVE, "restic ended with 1"),
        (True, (124, "", ""), "timeout", INCONCLUSIVE, "in time"),
        (True, (127, "", ""), "restic_unusable", INCONCLUSIVE, "cannot be run"),
        (True, OTHER, "other_repository", FAIL, "(ffffffff, not 6e7f60a8)"),
    ],
)
def test_a_repository_that_does_not_open_is_named_with_its_reason(opened, knock, config, code, verdict, words):
    rows, _ran = checked(opened, {"server1": knock}, {"server1": (config, THREE)})
    assert (rows["server1"].code, rows["server1"].verdict) == (code, verdict)
    assert words in rows["server1"].message
    # one that fails does not keep the others from being tried
    assert rows["desk1"].verdict == PASS
    assert kit_check.verdict_of(list(rows.values())) == verdict
    line = next(line for line in kit_check.describe(opened[0], list(rows.values())) if "server1:" in line)
    assert line.startswith(f"  {verdict}: server1: ")


def test_a_list_of_snapshots_that_cannot_be_read_fails(opened):
    rows, _ran = checked(opened, answers={"server1": (CONFIG, (1, "", "Fatal"))})
    assert (rows["server1"].code, rows["server1"].verdict) == ("repository_unreadable", FAIL)
    rows, _ran = checked(opened, answers={"server1": (CONFIG, (0, "not json", ""))})
    assert rows["server1"].verdict == FAIL
    rows, _ran = checked(opened, answers={"server1": (CONFIG, (1, "", "dial tcp: connection refused"))})
    assert rows["server1"].verdict == INCONCLUSIVE


def test_a_certificate_that_is_none_fails_without_a_traceback(opened):
    files = {**opened[1], "certificates/nas1.pem": b"-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n"}
    rows = kit_check.Checker(opened[0], files, runner=lambda *_: CONFIG).check()
    assert {row.code for row in rows} == {"certificate_unreadable"}


def test_fail_beats_inconclusive_beats_pass_and_nothing_checked_fails(opened):
    def row(verdict):
        return kit_check.Opened("h", "u", "c", "m", verdict, None, 0.0)

    assert kit_check.verdict_of([row(PASS), row(INCONCLUSIVE), row(FAIL)]) == FAIL
    assert kit_check.verdict_of([row(PASS), row(INCONCLUSIVE)]) == INCONCLUSIVE
    assert kit_check.verdict_of([row(PASS)]) == PASS
    assert kit_check.verdict_of([]) == FAIL
    assert "nothing was checked" in kit_check.describe(opened[0], [])[-1]


def test_no_secret_is_in_a_command_in_words_or_in_the_evidence(opened, trial):
    rows, ran = checked(opened, layers=["/image"], answers={"server1": ((12, "", ""), NONE)})
    shown = [json.dumps([argv for argv, _env in ran])]
    shown += kit_check.describe(opened[0], list(rows.values()))
    shown.append(json.dumps(kit_check.body(opened[0], "5f" * 32, list(rows.values()))))
    assert len(ran) == 3
    assert [place for place, secret in trial.telling().items() if secret in "\n".join(shown)] == []


def test_the_evidence_holds_verdicts_and_counts_and_no_address(opened):
    retired = {**opened[0], "retired": ["old1"]}
    rows, _ran = checked(opened, {"desk1": NasError("nas_unreachable", "x")})
    body = kit_check.body(retired, "5f" * 32, list(rows.values()))
    assert body["verdict"] == INCONCLUSIVE
    assert body["figures"] == {"repositories": 2, "opened": 1}
    assert body["kit"] == {"made": "2026-11-22T08:00:00Z", "sha256": "5f" * 32}
    assert body["not_checked"] == [{"host": "old1", "why": "retired: no account"}]
    assert [row["code"] for row in body["repositories"]] == ["opened", "nas_unreachable"]
    assert "198.18" not in json.dumps(body)


def test_restic_reads_only_and_leaves_nothing_behind(opened):
    _rows, ran = checked(opened)
    for argv, _env in ran:
        assert argv[:4] == ["restic", "--no-cache", "--no-lock", "--cacert"]
        assert not Path(argv[4]).exists()


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def kit_file(trial, tmp_path):
    sources = trial.sources()
    printed = recovery_kit.content(sources)
    files = recovery_kit.members(sources, printed)
    path = tmp_path / "kit.age"
    path.write_bytes(kit_seal.seal(printed["folder"], files, sources.made, printed["recipients"]))
    (tmp_path / "owner.key").write_text(f"# created: today\n{trial.owner}\n")
    return path


def run(*arguments):
    return cli.main(["kit-check", *map(str, arguments)], REPOSITORY)


@pytest.fixture
def pretend(monkeypatch):
    """A restic that is there, and a NAS that answers as it should but for the accounts in the returned table."""
    knocks = {}

    def knock(_url, _cafile, username, _password):
        if username in knocks:
            raise knocks[username]
        return True

    def answer(argv, _env):
        return (0, "restic 0.18.0 compiled", "") if "version" in argv else CONFIG if "config" in argv else THREE

    real = kit_check.Checker
    monkeypatch.setattr(kit_check, "need_restic", lambda layers: None)
    monkeypatch.setattr(kit_check, "Checker", lambda kit, files, layers: real(_same(kit), files, layers, knock, answer))
    return knocks


def _same(kit):
    return {**kit, "repositories": [{**row, "id": ID} for row in kit["repositories"]]}


def test_the_command_ends_with_the_verdicts_code(kit_file, pretend, capsys):
    key = kit_file.with_name("owner.key")
    assert run(kit_file, "--identity", key) == 0
    assert capsys.readouterr().out.startswith("PASS: recovery kit of Harbour Street Medical Centre")
    pretend["desk1"] = NasError("nas_unreachable", "x")
    assert run(kit_file, "--identity", key) == 2
    pretend["server1"] = NasError("rest_login_refused", "x")
    assert run(kit_file, "--identity", key, "--json") == 1
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[-1])["body"]["verdict"] == FAIL


def test_the_key_can_come_from_standard_input(kit_file, pretend, trial, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{trial.owner}\n"))
    assert run(kit_file, "--identity", "-") == 0


def test_wrong_input_ends_with_3_and_shows_no_key(kit_file, pretend, tmp_path, capsys):
    other = tmp_path / "other.key"
    other.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    binary = tmp_path / "binary.key"
    binary.write_bytes(b"\xff\xfe\x00")
    key = kit_file.with_name("owner.key")
    for arguments, message in [
        ((kit_file, "--identity", other), "not sealed to this key"),
        ((kit_file, "--identity", tmp_path / "none"), "No such file"),
        ((kit_file, "--identity", binary), "is no age key file"),
        ((tmp_path / "none.age", "--identity", key), "No such file"),
        ((key, "--identity", key), "not a sealed kit"),
        (
            (kit_file, "--identity", key, "--practice", "hill-road"),
            "the kit of harbour-street, expected the one of hill-road",
        ),
    ]:
        assert run(*arguments) == 3, arguments
        shown = capsys.readouterr()
        assert message in shown.err
        assert "AGE-SECRET-KEY-1" not in (shown.err + shown.out).replace("begin with AGE-SECRET-KEY-1", "")


def test_a_kit_of_another_format_is_refused(trial, kit_file, pretend, capsys):
    files = {"kit.json": json.dumps({"format": 99}).encode()}
    readers = [{"role": "backup_owner", "name": "x", "recipient": str(trial.owner.to_public())}]
    kit_file.write_bytes(kit_seal.seal("recovery-x", files, "2026-11-22T08:00:00Z", readers))
    assert run(kit_file, "--identity", kit_file.with_name("owner.key")) == 3
    assert "format 99" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((127, "", "No such file"), "there is no restic on this machine"),
        ((0, "restic 0.14.0 compiled with go1.19.8", ""), "restic 0.17 or later is needed, found 0.14.0"),
    ],
)
def test_a_machine_without_a_fit_restic_is_told_what_to_do(answer, message):
    with pytest.raises(kit_check.NoResticError, match=message):
        kit_check.need_restic([], lambda _argv, _env: answer)


def test_an_image_that_is_gone_is_named():
    with pytest.raises(kit_check.NoResticError, match="/no/such/image"):
        kit_check.need_restic(["/no/such/image"])


def test_a_kit_opens_with_plain_age_where_it_is_installed(kit_file, tmp_path):
    try:
        subprocess.run(["age", "--version"], capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("age is not installed here")
    key = str(kit_file.with_name("owner.key"))
    command = f"age --decrypt --identity {key} {kit_file} | tar --extract --file=- && ls */RECOVERY.txt"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "recovery-harbour-street/RECOVERY.txt\n"
