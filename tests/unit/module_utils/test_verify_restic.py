# SPDX-License-Identifier: Apache-2.0
"""restic 0.18's own words, as recorded on damaged repositories, and what they mean for a proof."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.verify import FAIL, INCONCLUSIVE
from ansible_collections.holdfast.practice.plugins.module_utils.verify_restic import (
    Done,
    classify,
    packs_in,
    read_check,
)

PACK = "e13e055bb5a0211b909d79b54db20344c4aefd31ea8454e4f423873e157e0276"


def exit_error(code, message):
    return json.dumps({"message_type": "exit_error", "code": code, "message": message})


SAID = {
    "wrong password": (12, exit_error(12, "Fatal: wrong password or no key found"), "wrong_password", INCONCLUSIVE),
    "no repository": (10, exit_error(10, "Fatal: repository does not exist"), "repository_missing", FAIL),
    "locked": (11, exit_error(11, "Fatal: unable to create lock"), "repository_locked", INCONCLUSIVE),
    "login refused": (
        1,
        "Stat(<config/>) failed: unexpected HTTP response (401): 401 Unauthorized",
        "access_refused",
        INCONCLUSIVE,
    ),
    "other certificate": (
        124,
        (
            "tls: failed to verify certificate: x509: certificate signed by unknown authority (possibly because of "
            '"x509: Ed25519 verification failure")'
        ),
        "certificate_mismatch",
        INCONCLUSIVE,
    ),
    "no restic": (127, "chroot: failed to run command 'restic': No such file", "restic_missing", INCONCLUSIVE),
    "NAS off": (1, "dial tcp 127.0.0.1:9: connect: connection refused", "nas_unreachable", INCONCLUSIVE),
    "disk full here": (1, "write /srv/x: no space left on device", "not_enough_space", INCONCLUSIVE),
    "flipped byte": (
        1,
        (
            '{"message_type":"error","error":{"message":"decrypting blob \\u003cdata/dedd0c8e\\u003e from e13e055b failed: '
            'ciphertext verification failed"},"during":"restore","item":"/patients/smith.pdf"}'
        ),
        "repository_damaged",
        FAIL,
    ),
    "pack gone, NAS": (
        1,
        "Load(<data/e13e055bb5>, 8001880, 0) failed: <data/e13e055bb5> does not exist",
        "repository_damaged",
        FAIL,
    ),
    "pack gone, folder": (
        1,
        f"Load(<data/e13e055bb5>, 8003556, 0) failed: open /repo/data/e1/{PACK}: no such file or directory",
        "repository_damaged",
        FAIL,
    ),
    "index damaged": (
        1,
        exit_error(1, "LoadRaw(\\u003cindex/c4d298f995\\u003e): invalid data returned"),
        "repository_damaged",
        FAIL,
    ),
    "index gone": (1, f"id {PACK} not found in repository", "repository_damaged", FAIL),
    "disk of the NAS": (
        1,
        "Load(<data/e13e055bb5>, 82, 0) returned error, retrying: unexpected HTTP response (500): 500",
        "repository_damaged",
        FAIL,
    ),
    "unknown": (77, "something new", "restic_failed", FAIL),
    "killed": (-9, "", "killed", INCONCLUSIVE),
}


@pytest.mark.parametrize("case", SAID)
def test_classify(case):
    rc, err, code, verdict = SAID[case]
    (reason,) = classify(Done(rc, b"", err, 1.0), "restoring")
    assert (reason.code, reason.verdict) == (code, verdict)
    assert "smith" not in reason.message


def test_a_good_end_has_no_reason():
    assert classify(Done(0, b"", "", 1.0), "restoring") == []


def test_a_timeout_says_what_restic_was_fighting_with():
    assert classify(Done(-15, b"", "", 30.0, timed_out=True), "x")[0].code == "timeout"
    fighting = "connect: connection refused"
    assert classify(Done(1, b"", fighting, 30.0, timed_out=True), "x")[0].code == "nas_unreachable"
    damaged = "Load(<data/e13e055bb5>, 1, 0) failed: <data/e13e055bb5> does not exist"
    assert classify(Done(-15, b"", damaged, 30.0, timed_out=True), "x")[0].verdict == FAIL


def test_even_a_code_of_zero_is_no_success_after_a_timeout():
    assert classify(Done(0, b"", "", 30.0, timed_out=True), "x")[0].code == "timeout"


def test_packs_are_named_once_and_in_full_where_restic_does():
    assert packs_in(f"pack {PACK} contains 2 errors ... from e13e055b failed: <data/e13e055bb5>") == [PACK]
    assert packs_in("from e13e055b failed") == ["e13e055b"]
    assert packs_in("<data/dedd0c8e> from e13e055b failed") == ["e13e055b"]  # a blob is no pack


def check(rc, errors=0, broken=None, messages=()):
    summary = {"message_type": "summary", "num_errors": errors, "broken_packs": broken}
    rows = [json.dumps({"message_type": "error", "message": message}) for message in messages]
    return Done(rc, json.dumps(summary).encode(), "\n".join(rows), 2.0)


def test_a_clean_check():
    found = read_check(check(0))
    assert (found.reasons, found.errors, found.broken_packs) == ([], 0, [])


@pytest.mark.parametrize(
    ("done", "packs"),
    [
        (check(1, 1, [PACK], [f"pack {PACK} contains 2 errors: [blob ...]"]), [PACK]),
        (
            check(1, 2, None, [f"pack {PACK}: does not exist", "download error: <data/e13e055bb5> does not exist"]),
            [PACK],
        ),
        (check(1, 1, None, ["error for tree 8a390f10:", f"  id {PACK} not found in repository"]), []),
        (
            check(
                1, 1, None, ["error: failed to load snapshot 22c746c7: LoadRaw(<snapshot/22c746c740>): invalid data"]
            ),
            [],
        ),
    ],
)
def test_a_check_that_found_damage(done, packs):
    found = read_check(done)
    assert [(reason.code, reason.verdict) for reason in found.reasons] == [("repository_damaged", FAIL)]
    assert found.broken_packs == packs
    assert all(pack in found.reasons[0].message for pack in packs)


def test_a_check_that_could_not_run_is_no_damage():
    assert [reason.code for reason in read_check(check(12, 1)).reasons] == ["wrong_password"]
    refused = Done(1, b'{"message_type":"summary","num_errors":1}', "connect: connection refused", 1.0)
    assert [reason.code for reason in read_check(refused).reasons] == ["nas_unreachable"]


@pytest.mark.parametrize("done", [Done(0, b"", "", 1.0), check(0, errors=1)])
def test_a_check_without_a_clean_summary_is_no_success(done):
    assert read_check(done).reasons
