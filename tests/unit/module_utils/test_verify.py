# SPDX-License-Identifier: Apache-2.0
"""What a restored backup has to show, decided without a file, a command or a clock."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import canary, verify
from ansible_collections.holdfast.practice.plugins.module_utils.verify import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    FilesCompared,
    NothingMoreError,
    Reason,
    Run,
    Snapshot,
    Wanted,
    Way,
)

WANTED = Wanted(
    "harbour", "documents", "documents", "server1", "server1", 86400, 14400, ("arrival", "structure", "files")
)
NOW = 1_800_000_000.0
REPO = "r" * 64


def snapshot(name, part="oracle", at=NOW - 700, host="server1", practice="harbour", job="documents", run="R1"):
    tags = frozenset({f"practice={practice}", f"job={job}", f"part={part}", f"run={run}"})
    return Snapshot(name * 64, at, host, tags)


ORACLE, FILES = snapshot("a"), snapshot("b", part="files")
ARRIVALS = {ORACLE.id: NOW - 600, FILES.id: NOW - 610}


def oracle(**changes):
    made = {
        "practice": "harbour",
        "host": "server1",
        "job": "documents",
        "item": "documents",
        "run": "R1",
        "identity": {"repository_id": REPO},
        "snapshots": {"database": None, "files": FILES.id},
    }
    return {**made, **changes}


def codes(reasons):
    return [reason.code for reason in reasons]


# --- verdicts


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        ([PASS], PASS),
        ([PASS, INCONCLUSIVE], INCONCLUSIVE),
        ([INCONCLUSIVE, FAIL, PASS], FAIL),
        ([], INCONCLUSIVE),
        (["skipped"], INCONCLUSIVE),
        ([PASS, "ok"], INCONCLUSIVE),
    ],
)
def test_worst(verdicts, worst):
    assert verify.worst(verdicts) == worst


def test_a_level_that_checked_nothing_has_failed():
    assert verify.level(0, [])["verdict"] == FAIL
    assert verify.level(0, [])["reasons"][0]["code"] == "zero_checked"
    assert verify.level(1, [])["verdict"] == PASS


def test_a_level_is_as_bad_as_its_worst_reason():
    unsure, bad = Reason("a", "", INCONCLUSIVE), Reason("b", "")
    assert verify.level(5, [unsure])["verdict"] == INCONCLUSIVE
    assert verify.level(5, [unsure, bad])["verdict"] == FAIL


def part(**levels):
    return {"levels": {name: verify.level(1, reasons) for name, reasons in levels.items()}, "figures": {"phases": {}}}


def test_an_item_passes_only_with_every_wanted_level():
    whole = verify.merge_item(WANTED, [part(arrival=[], files=[]), part(structure=[])])
    assert whole["verdict"] == PASS
    lacking = verify.merge_item(WANTED, [part(arrival=[], files=[])])
    assert (lacking["verdict"], lacking["levels"]["structure"]["reasons"][0]["code"]) == (INCONCLUSIVE, "not_run")
    assert verify.merge_item(WANTED, [])["verdict"] == INCONCLUSIVE


def test_bad_beats_unsure_in_an_item():
    merged = verify.merge_item(WANTED, [part(arrival=[Reason("x", "", INCONCLUSIVE)], files=[Reason("y", "bad")])])
    assert merged["verdict"] == FAIL


def test_a_recovery_slower_than_promised_fails():
    slow = {"levels": {}, "figures": {"phases": {"fetch_s": 1, "restore_s": 14400, "first_query_s": 5}}}
    merged = verify.merge_item(WANTED, [part(arrival=[], files=[], structure=[]), slow])
    assert merged["verdict"] == FAIL
    assert merged["figures"]["restore_s"] == 14406
    assert "rto_exceeded" in [reason["code"] for reason in merged["reasons"]]


# --- conclusion


def good(item):
    return {item: part(arrival=[], files=[], structure=[])}


MACHINE = {"driver": "nspawn", "created": True, "disposed": True, "seconds": 1.0}


def conclude(items=(WANTED,), planned=None, fetched=None, machine=MACHINE):
    rows = items if planned is None else planned
    return verify.conclude("harbour", items, rows, good("documents") if fetched is None else fetched, {}, {}, machine)


def test_a_proof_of_everything_passes():
    body = conclude()
    assert (body["verdict"], body["scope"], body["not_run"]) == (PASS, "all", [])


def test_a_machine_that_could_not_be_had_is_inconclusive_and_says_why():
    broken = {"code": "not_enough_memory", "message": "the carrier has 1 byte of memory available"}
    body = conclude(fetched={}, machine={**MACHINE, "created": False, "disposed": False, "broken": broken})
    assert body["verdict"] == INCONCLUSIVE
    assert body["reasons"] == [broken]
    assert "broken" not in body["machine"]


@pytest.mark.parametrize(
    ("disposal", "words"),
    [
        (
            {"store": "encrypted", "deleted": True, "key_destroyed": True},
            ["  restored data: encrypted, deleted, key destroyed"],
        ),
        ({"store": "encrypted", "deleted": True, "key_destroyed": False}, ["  restored data: encrypted, deleted"]),
        ({}, []),
    ],
)
def test_people_are_told_what_became_of_restored_data(disposal, words):
    lines = verify.describe(conclude(machine={**MACHINE, "disposal": disposal}))
    assert [line for line in lines if "restored data" in line] == words


def test_what_was_not_reached_is_named_and_inconclusive():
    body = conclude(fetched={})
    assert body["verdict"] == INCONCLUSIVE
    row = {
        "item": "documents",
        "host": "server1",
        "which": "newest",
        "copy": "onsite",
        "why": "the run ended before it",
    }
    assert body["not_run"] == [row]


def test_a_level_that_was_left_out_is_named_and_never_a_pass():
    body = verify.conclude(
        "harbour", [WANTED], [WANTED], {"documents": part(arrival=[], files=[])}, {}, {}, MACHINE, ["arrival", "files"]
    )
    (item,) = body["items"]
    assert (body["verdict"], body["levels"], body["not_run"]) == (INCONCLUSIVE, ["arrival", "files"], [])
    assert [reason["message"] for reason in item["reasons"]] == [
        "the level structure was left out (--tags, --skip-tags)"
    ]
    bad = {"documents": part(arrival=[], files=[Reason("files_missing", "")])}
    assert verify.conclude("harbour", [WANTED], [WANTED], bad, {}, {}, MACHINE, ["files"])["verdict"] == FAIL


def test_where_only_the_structure_was_asked_for_the_rest_did_not_end_early():
    read = {"server1": part(structure=[])}
    body = verify.conclude("harbour", [WANTED], [WANTED], {}, read, {}, MACHINE, ["structure"])
    assert (body["verdict"], body["not_run"]) == (INCONCLUSIVE, [])
    assert body["items"][0]["levels"]["structure"]["verdict"] == PASS


def test_what_was_not_asked_for_is_named_and_no_part_of_the_verdict():
    body = conclude(items=(WANTED, replace(WANTED, item="other")), planned=(WANTED,))
    assert (body["verdict"], body["scope"]) == (PASS, "part")
    assert [row["item"] for row in body["not_run"]] == ["other"]
    assert [row["item"] for row in body["items"]] == ["documents"]


def test_a_proof_of_nothing_is_a_failure():
    assert conclude(items=(), fetched={})["verdict"] == FAIL
    assert conclude(planned=())["verdict"] == FAIL
    nothing = conclude(fetched={"documents": {"passed_over": "no such run", "levels": {}, "figures": {}}})
    assert nothing["verdict"] == FAIL
    assert nothing["not_run"][0]["why"] == "no such run"


def test_an_older_run_of_the_same_item_is_a_row_of_its_own():
    older = replace(WANTED, id="server1.documents.onsite.rotation", which="rotation")
    bad = part(arrival=[], files=[Reason("files_missing", "gone")], structure=[])
    bad.update({"class": "daily", "kept": {"daily": 3}, "arrived": "2026-10-01T20:00:00Z"})
    body = conclude(planned=(WANTED, older), fetched={**good("documents"), older.key: bad})
    assert [(row["which"], row["verdict"], row["class"]) for row in body["items"]] == [
        ("newest", PASS, None),
        ("rotation", FAIL, "daily"),
    ]
    assert (body["verdict"], body["scope"], body["items"][1]["kept"]) == (FAIL, "all", {"daily": 3})
    assert "FAIL: documents of server1 (rotation, daily, 2026-10-01T20:00:00Z)" in "\n".join(verify.describe(body))


def test_an_older_run_that_is_not_there_takes_nothing_from_the_newest():
    older = replace(WANTED, id="older", which="rotation")
    passed_over = {"passed_over": "no run but the newest is kept", "levels": {}, "figures": {}}
    body = conclude(planned=(WANTED, older), fetched={**good("documents"), "older": passed_over})
    assert (body["verdict"], len(body["items"])) == (PASS, 1)
    assert "not run: documents of server1 (rotation): no run but the newest" in "\n".join(verify.describe(body))


def test_only_newest_runs_tell_of_loss_and_of_the_time_to_come_back():
    older = replace(WANTED, id="older", which="oldest")
    slow = {"levels": {}, "figures": {"age_s": 9e6, "phases": {"fetch_s": 1, "load_s": 2000}}}
    body = conclude(planned=(WANTED, older), fetched={**good("documents"), "older": slow})
    assert body["items"][1]["figures"]["restore_s"] == 2001
    assert (body["figures"]["age_s"], body["figures"]["restore_s"]) == (None, 0)


@pytest.mark.parametrize(
    ("created", "disposed", "verdict"), [(True, True, PASS), (True, False, FAIL), (False, False, PASS)]
)
def test_restored_data_left_behind_is_a_failure(created, disposed, verdict):
    assert conclude(machine={"created": created, "disposed": disposed})["verdict"] == verdict


def test_the_proof_in_words_names_verdict_reasons_and_what_was_not_run():
    text = "\n".join(
        verify.describe(conclude(fetched={"documents": part(arrival=[Reason("rpo_exceeded", "too old")])}))
    )
    assert "FAIL: documents of server1" in text
    assert "rpo_exceeded: too old" in text
    assert "not run" in "\n".join(verify.describe(conclude(fetched={})))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0s"), (12.34, "12.3s"), (600, "10min"), (86400, "24h"), (259200, "72h")]
)
def test_spell(seconds, text):
    assert verify.spell(seconds) == text


# --- arrival and identity


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T10:00:00.5+10:00", 0.5),
        ("1969-12-31T19:00:00.000000001-05:00", 1e-9),
    ],
)
def test_parse_time(text, epoch):
    assert verify.parse_time(text) == pytest.approx(epoch)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-21T20:30:12", "2026-11-21 20:30:12Z"])
def test_other_times_are_refused(text):
    with pytest.raises(ValueError, match="RFC 3339"):
        verify.parse_time(text)


def test_the_newest_is_chosen_by_arrival_and_not_by_what_the_client_claims():
    forged = snapshot("c", at=NOW + 9e8)
    arrivals = {**ARRIVALS, forged.id: NOW - 90000}
    assert [run.oracle for run in verify.runs_of(WANTED, [forged, ORACLE, FILES], arrivals)] == [ORACLE, forged]


@pytest.mark.parametrize(
    ("snapshots", "arrivals", "code", "verdict"),
    [
        ([], ARRIVALS, "no_run", FAIL),
        ([FILES], ARRIVALS, "no_run", FAIL),
        ([snapshot("c", job="other")], ARRIVALS, "no_run", FAIL),
        ([snapshot("c", practice="mill")], ARRIVALS, "no_run", FAIL),
        ([ORACLE], {}, "arrivals_unknown", INCONCLUSIVE),
        ([ORACLE], None, "arrivals_unknown", INCONCLUSIVE),
        ([ORACLE], {"f" * 64: NOW}, "arrivals_unknown", INCONCLUSIVE),
    ],
)
def test_no_run_to_choose(snapshots, arrivals, code, verdict):
    with pytest.raises(NothingMoreError) as caught:
        verify.runs_of(WANTED, snapshots, arrivals)
    assert [(reason.code, reason.verdict) for reason in caught.value.reasons] == [(code, verdict)]


RUN = Run(ORACLE, NOW - 600)


@pytest.mark.parametrize(
    ("changes", "snapshots", "arrivals", "want"),
    [
        ({}, [ORACLE, FILES], ARRIVALS, []),
        ({"practice": "mill"}, [ORACLE, FILES], ARRIVALS, ["wrong_practice"]),
        ({"host": "desk1"}, [ORACLE, FILES], ARRIVALS, ["wrong_host"]),
        ({"job": "x"}, [ORACLE, FILES], ARRIVALS, ["wrong_job"]),
        ({"item": "x"}, [ORACLE, FILES], ARRIVALS, ["wrong_item"]),
        ({"identity": {"repository_id": "s" * 64}}, [ORACLE, FILES], ARRIVALS, ["wrong_repository"]),
        ({"run": "R2"}, [ORACLE, FILES], ARRIVALS, ["wrong_tags", "wrong_tags"]),
        ({}, [ORACLE], ARRIVALS, ["snapshot_missing"]),
        ({}, [ORACLE, snapshot("b", part="files", host="desk1")], ARRIVALS, ["wrong_host"]),
        ({}, [ORACLE, snapshot("b", part="database")], ARRIVALS, ["wrong_tags"]),
        ({}, [ORACLE, snapshot("b", part="files", at=NOW + 3600)], ARRIVALS, ["time_implausible"]),
        ({}, [ORACLE, snapshot("b", part="files", at=NOW - 9e6)], ARRIVALS, ["time_implausible"]),
        ({}, [ORACLE, FILES], {**ARRIVALS, FILES.id: NOW}, ["time_implausible"]),
        ({}, [ORACLE, FILES], {ORACLE.id: NOW - 600}, ["arrivals_unknown"]),
    ],
)
def test_identity(changes, snapshots, arrivals, want):
    assert codes(verify.check_identity(WANTED, RUN, oracle(**changes), REPO, snapshots, arrivals)) == want


@pytest.mark.parametrize(
    ("others", "reasons", "notes"),
    [
        ([], [], []),
        ([snapshot("c", host="desk1")], ["foreign_snapshots"], []),
        ([snapshot("c", practice="mill")], ["foreign_snapshots"], []),
        ([Snapshot("c" * 64, NOW, "server1", frozenset())], [], []),  # somebody's own, of this host
        ([snapshot("c", at=NOW + 9e8)], [], ["future_snapshot"]),
    ],
)
def test_what_does_not_belong_here(others, reasons, notes):
    arrivals = {**ARRIVALS, "c" * 64: NOW}
    found = verify.foreign(WANTED, [ORACLE, FILES, *others], arrivals)
    assert (codes(found[0]), codes(found[1])) == (reasons, notes)


def test_a_snapshot_that_arrived_later_and_cannot_be_read_is_not_passed_over():
    lost = {**ARRIVALS, "d" * 64: NOW - 10}
    assert codes(verify.check_unreadable(RUN, [ORACLE, FILES], lost)) == ["snapshot_unreadable"]
    assert verify.check_unreadable(RUN, [ORACLE, FILES], {**ARRIVALS, "d" * 64: NOW - 9000}) == []


def test_snapshots_that_evidence_names_must_be_there():
    assert verify.check_known([ORACLE.id], [ORACLE]) == []
    assert codes(verify.check_known([ORACLE.id, "e" * 64], [ORACLE])) == ["known_snapshot_missing"]


@pytest.mark.parametrize(
    ("taken", "arrived", "want", "loss"),
    [
        (NOW - 700, NOW - 600, [], 700),
        (NOW - 90000, NOW - 600, ["rpo_exceeded"], 90000),  # the client's own clock says it is old
        (NOW + 5000, NOW - 90000, ["rpo_exceeded"], 90000),  # it cannot make itself younger than its arrival
        (NOW - 100, NOW + 4000, ["clock_skew"], 100),
    ],
)
def test_age_is_judged_by_both_clocks(taken, arrived, want, loss):
    judged, figures = verify.judge_arrival(WANTED, Run(ORACLE, arrived), taken, NOW, [])
    assert [reason["code"] for reason in judged["reasons"]] == want
    assert figures["data_loss_s"] == loss


def test_an_older_run_is_meant_to_be_old():
    older = replace(WANTED, which="oldest")
    judged, figures = verify.judge_arrival(older, Run(ORACLE, NOW - 9e7), NOW - 9e7, NOW, [])
    assert (judged["verdict"], figures) == (PASS, {"age_s": 9e7})


def test_an_old_backup_is_spelt_out():
    judged, _ = verify.judge_arrival(WANTED, Run(ORACLE, NOW - 259200), NOW - 259200, NOW, [])
    assert judged["reasons"][0]["message"] == "RPO exceeded: 72h > 24h"


# --- suspicion


def held(each, hold="suspect"):
    return Snapshot(each.id, each.time, each.host, each.tags | {f"hold={hold}"})


@pytest.mark.parametrize(
    ("snapshots", "arrivals", "want"),
    [
        ([held(ORACLE), snapshot("c", run="R0")], {ORACLE.id: NOW - 600, "c" * 64: NOW - 9000}, "c"),
        ([held(ORACLE), snapshot("c"), snapshot("d")], {"c" * 64: NOW - 50, "d" * 64: NOW - 9000}, "c"),  # by arrival
        ([held(ORACLE), held(snapshot("c"), "unclean-boot")], {ORACLE.id: NOW, "c" * 64: NOW - 1}, None),
        ([held(ORACLE), snapshot("c", job="other"), FILES], {"c" * 64: NOW - 1, FILES.id: NOW - 1}, None),
        ([held(ORACLE), snapshot("c")], {ORACLE.id: NOW}, None),  # never arrived
        ([ORACLE, snapshot("c")], {ORACLE.id: NOW, "c" * 64: NOW - 9000}, "c"),  # not itself, though nobody holds it
        ([ORACLE, snapshot("c")], {ORACLE.id: NOW, "c" * 64: NOW + 9000}, None),  # nor a later one
    ],
)
def test_the_last_clean_run(snapshots, arrivals, want):
    found = verify.last_clean(WANTED, snapshots, arrivals, Run(ORACLE, NOW))
    assert (found.oracle.id[0] if found else None) == want


DAY = 86400


@pytest.mark.parametrize(
    ("days", "want"),
    [
        ({}, None),  # there is no other
        ({"c": 1, "d": 3}, "d"),  # young: the oldest there is
        ({"c": 1, "d": 29, "e": 31, "f": 400}, "d"),  # the newest of a month ago
        ({"c": -1}, None),  # later than the run: it is an older one that is proved
        ({"c": 40, "h": 29}, "c"),  # h is held
    ],
)
def test_with_which_run_of_long_ago_the_files_are_compared(days, want):
    arrivals = {ORACLE.id: NOW, **{name * 64: NOW - ago * DAY for name, ago in days.items()}}
    others = [held(snapshot(name)) if name == "h" else snapshot(name) for name in days]
    found = verify.earlier(WANTED, [ORACLE, FILES, *others], arrivals, Run(ORACLE, NOW))
    assert (found.oracle.id[0] if found else None) == want


def test_a_suspect_run_is_no_good_backup_and_the_last_clean_one_is_named():
    clean = Run(snapshot("c"), NOW - 9000)
    for told, run in ((oracle(holds=["suspect"]), ORACLE), (oracle(), held(ORACLE))):
        (reason,) = verify.check_held(told, Run(run, NOW), clean)
        assert (reason.code, reason.verdict) == ("suspect", FAIL)
        assert "snapshot cccccccc, arrived 2027-01-15T05:30:00Z" in reason.message
    (reason,) = verify.check_held(oracle(holds=["suspect"]), Run(ORACLE, NOW), None)
    assert "No earlier run without suspicion is left" in reason.message
    assert verify.check_held(oracle(holds=["unclean-boot"]), Run(ORACLE, NOW), None) == []
    assert verify.check_held(oracle(), Run(ORACLE, NOW), clean) == []


CANARY = "/d/leave.pdf"


@pytest.mark.parametrize(
    ("noted", "wrong", "want"),
    [
        ({}, 0, []),
        ({}, 9, []),  # fewer than ten are no encryptor
        ({}, 10, []),  # and fewer than a fifth
        ({}, 20, ["content_spoilt"]),
        ({"least": 30}, 20, []),
        ({"accepted": 15}, 20, []),  # a person knows of these
        ({"judged": ["entropy"]}, 60, []),
        ({"canaries": {CANARY: "aa"}}, 0, ["canary_differs"]),
    ],
)
def test_content_that_does_not_look_like_what_it_is(noted, wrong, want):
    looks = {("pdf", "magic"): wrong, ("pdf", ""): 100 - wrong, ("txt", ""): 0}
    reasons = verify.check_content(WANTED, noted, compared(looks=looks), None)
    assert codes(reasons) == want
    assert not any("/d/" in reason.message for reason in reasons)


def test_a_canary_that_is_right_is_so_by_its_own_bytes_not_by_what_the_oracle_says():
    right = canary.digest(WANTED.practice, WANTED.host, CANARY)
    noted = {"canaries": {CANARY: "whatever"}}
    assert verify.check_content(WANTED, noted, compared(canaries={CANARY: right}), None) == []
    for wrong in ({CANARY: "bb"}, {}):
        assert codes(verify.check_content(WANTED, noted, compared(canaries=wrong), None)) == ["canary_differs"]


# --- files


def compared(**changes):
    return FilesCompared(**{"entries": 3, "listed": 3, "restored": 3, "bytes": 9, "volatile": 0, "ways": {}, **changes})


@pytest.mark.parametrize(
    ("changes", "counted", "want"),
    [
        ({}, 3, []),
        ({"ways": {"mtime": Way(1, ["aa"]), "missing": Way(1, ["bb"])}}, 3, ["files_missing", "files_mtime"]),
        ({"ways": {"extra": Way(1, ["aa"]), "kind": Way(1, ["bb"])}}, 3, ["files_kind", "files_extra"]),
        ({"ways": {"changed": Way(1, ["aa"]), "mode": Way(1, ["bb"])}}, 3, ["files_changed", "files_mode"]),
        ({"listed": 2}, 3, ["manifest_damaged"]),
        ({}, 4, ["manifest_damaged"]),
        ({"unmet": ["/secret"]}, 3, ["must_have_missing"]),
    ],
)
def test_what_a_comparison_means(changes, counted, want):
    assert codes(verify.judge_files(compared(**changes), counted)) == want


def test_no_name_of_a_file_is_told():
    some = [verify.path_digest(verify.raw(f"/patients/{n}")).hex() for n in range(5)]
    reasons = verify.judge_files(compared(ways={"missing": Way(7, some)}, unmet=["/secret"]), 3)
    hashes = ", ".join(name[:12] for name in some)
    assert reasons[0].message == (f"manifest has 3 files, restored 3: 7 are missing (name hashes {hashes} and 2 more)")
    assert reasons[1].message.endswith(f"({verify.name_hash('/secret')})")


def test_a_name_hash_is_the_head_of_the_hash_of_the_bytes():
    assert verify.name_hash("/d/\udcff") == hashlib.blake2b(b"/d/\xff", digest_size=32).hexdigest()[:12]
    assert verify.raw("/\ud800")  # no file can be called so, and it is no error to ask


@pytest.mark.parametrize(
    ("names", "states", "want"),
    [
        (["a.jpg", "/img/b.jpg"], {"/img/a.jpg": "same", "/img/b.jpg": "volatile"}, []),
        (["c.jpg"], {}, ["images_missing"]),
        (["a.jpg"], {"/img/a.jpg": "missing"}, ["images_missing"]),
        (["a.jpg"], {"/img/a.jpg": "extra"}, ["images_missing"]),
        (["a.jpg"], {"/img/a.jpg": "changed"}, ["images_damaged"]),
        (["a.jpg"], {"/img/a.jpg": "kind"}, ["images_damaged"]),
        (["a.jpg", "b.jpg"], {"/img/a.jpg": "mtime"}, ["images_missing", "images_damaged"]),
        (["../img/a.jpg"], {"/img/a.jpg": "same"}, []),
        (["a.jpg"], {"/img/a.jpg": "dropped"}, []),  # the practice itself deleted it during the backup
    ],
)
def test_images_named_in_the_database(names, states, want):
    assert codes(verify.check_images(names, "/img", states.get)) == want
