"""Exit codes and JSON lines of restic 0.18, as seen on Debian 13."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import restic

SNAPSHOT = "4a" * 32
SUMMARY = json.dumps(
    {"message_type": "summary", "total_files_processed": 3, "total_bytes_processed": 30, "snapshot_id": SNAPSHOT}
)
UNREADABLE = json.dumps({"message_type": "error", "error": {"message": "permission denied"}, "item": "/x"})


def last_words(text):
    return json.dumps({"message_type": "exit_error", "code": 1, "message": text})


@pytest.mark.parametrize(
    ("code", "err", "reason"),
    [
        (1, last_words("Fatal: unable to save snapshot"), "restic_fatal"),
        (1, last_words("Fatal: x509: certificate signed by unknown authority"), "certificate_mismatch"),
        (1, last_words("Fatal: unexpected HTTP response (401): 401 Unauthorized"), "rest_login_refused"),
        (1, last_words("Fatal: unexpected HTTP response (403): 403 Forbidden"), "rest_forbidden"),
        (1, last_words("Fatal: server response unexpected: 507 Insufficient Storage"), "nas_full"),
        (1, last_words("dial tcp 198.18.0.11:8000: connect: connection refused"), "nas_unreachable"),
        (1, last_words('Post "https://198.18.0.11:8000/x": http2: client connection lost'), "nas_unreachable"),
        (1, last_words('Post "https://198.18.0.11:8000/x": EOF'), "nas_unreachable"),
        (1, last_words("Fatal: unable to save snapshot: a file named x: EOF in its name"), "restic_fatal"),
        (2, "panic", "restic_crashed"),
        (10, "", "repository_missing"),
        (11, "", "repository_locked"),
        (12, "", "wrong_repository_password"),
        (130, "", "stopped"),
        (42, "", "restic_unknown"),
        (-9, "", "restic_killed"),
    ],
)
def test_each_failure_has_its_own_reason(code, err, reason):
    with pytest.raises(restic.ResticError) as caught:
        restic.summary_of(code, "", err)
    assert caught.value.code == reason
    assert caught.value.exit_code == code


def test_a_clean_backup_is_complete():
    summary = restic.summary_of(0, SUMMARY, "")
    assert (summary.snapshot, summary.files, summary.bytes, summary.complete) == (SNAPSHOT, 3, 30, True)


@pytest.mark.parametrize(("code", "err"), [(3, UNREADABLE), (3, ""), (0, UNREADABLE)])
def test_unreadable_files_make_it_incomplete_not_failed(code, err):
    summary = restic.summary_of(code, SUMMARY, err)
    assert summary.snapshot == SNAPSHOT
    assert not summary.complete


@pytest.mark.parametrize("out", ["", json.dumps({"message_type": "summary"}), SUMMARY.replace(SNAPSHOT, "4a4a4a4a")])
def test_success_without_a_full_snapshot_id_is_a_failure(out):
    with pytest.raises(restic.ResticError, match="no snapshot"):
        restic.summary_of(0, out, "")


@pytest.mark.parametrize(
    ("text", "fine"),
    [("restic 0.18.0 compiled with go1.24 on linux/amd64", True), ("restic 0.17.3 x", True), ("restic 0.14.0 x", False),
     ("restic 1.0 x", True), ("what", False)],
)  # fmt: skip
def test_only_versions_with_known_exit_codes_are_used(text, fine):
    if fine:
        restic.check_version(restic.version_of(text))
    else:
        with pytest.raises(restic.ResticError, match=r"0\.17 or later"):
            restic.check_version(restic.version_of(text))


def test_secrets_are_in_the_environment_and_never_in_arguments():
    seen = []

    def run(argv, env):
        seen.append((argv, env))
        return 0, json.dumps({"id": "ab" * 32}), ""

    repository = restic.Repository("rest:https://nas:8000/s/", "/c/repository-password", "/c/nas.pem")
    assert restic.Restic(run, repository, "server1", "rest-secret").id() == "ab" * 32
    argv, env = seen[0]
    assert not any("rest-secret" in word for word in argv)
    assert env["RESTIC_REST_PASSWORD"] == "rest-secret"
    assert env["RESTIC_PASSWORD_FILE"] == "/c/repository-password"
    assert "--no-cache" in argv


@pytest.mark.parametrize("out", ["", "{}", '{"id": "short"}', "[]"])
def test_a_config_without_an_id_is_an_error(out):
    with pytest.raises(restic.ResticError, match="no repository id"):
        restic.repository_id(out)
