# SPDX-License-Identifier: Apache-2.0
"""What has become of files since a run of long ago: slow spoiling and silent changes are seen, a practice at work is not."""

from __future__ import annotations

import contextlib
import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.verify import Run, Snapshot, path_digest, raw
from ansible_collections.holdfast.practice.plugins.module_utils.verify_files import Index
from ansible_collections.holdfast.practice.plugins.module_utils.verify_since import Changes, Since, check_since

CLEAN = Run(Snapshot("c" * 64, 0, "server1", frozenset()), 1_790_000_000.0)


def entry(path, content="old", **changes):
    return {"path": path, "size": 3, "mode": "0644", "mtime_ns": 5, "blake2b": content, "volatile": False, **changes}


def since_of(tmp_path, before, now, states=None):
    """now: entries; states: {path: (state, look)} of those that are not as expected."""
    index = Index(tmp_path / "index")
    with contextlib.closing(index):
        for each in now:
            index.take("manifest", each)
        index.listed()
        for each in now:
            state, look = (states or {}).get(each["path"], ("same", ""))
            index.mark([(state, look, path_digest(raw(each["path"])))])
        found = Since(index)
        for each in before:
            found.take("manifest", each)
        found.take("dropped", "/gone")
    return found


@pytest.mark.parametrize(
    ("before", "now", "states", "want"),
    [
        ([], [entry("/a")], {}, Changes()),
        ([entry("/a")], [entry("/a"), entry("/b")], {}, Changes(before=1, same=1)),
        ([entry("/a")], [entry("/b")], {}, Changes(before=1, gone=1)),
        ([entry("/a")], [entry("/a")], {"/a": ("missing", "")}, Changes(before=1, gone=1)),
        ([entry("/a")], [entry("/a", "new", mtime_ns=6)], {}, Changes(before=1, changed=1)),
        ([entry("/a")], [entry("/a", "new", size=4)], {}, Changes(before=1, changed=1)),
        ([entry("/a")], [entry("/a", "new")], {}, Changes(before=1, changed=1, silent=1)),
        ([entry("/a.pdf")], [entry("/a.pdf", "new")], {"/a.pdf": ("same", "magic")},
         Changes(before=1, changed=1, silent=1, silent_spoilt=1)),
        ([entry("/a", volatile=True)], [entry("/a", "new")], {}, Changes()),
        ([entry("/a")], [entry("/a", "new", volatile=True)], {}, Changes(before=1, changed=1)),
    ],
)  # fmt: skip
def test_what_became_of_a_file(tmp_path, before, now, states, want):
    assert since_of(tmp_path, before, now, states).changes == want


def judged(tmp_path, before, now, spoilt=(), **noted):
    found = since_of(tmp_path, before, now, dict.fromkeys(spoilt, ("same", "magic")))
    looks = {("pdf", "magic"): len(spoilt), ("pdf", ""): len(now) - len(spoilt)}
    reasons, notes = check_since(noted, looks, found, CLEAN)
    assert not any("/d/" in reason.message for reason in [*reasons, *notes])
    return [reason.code for reason in reasons], [note.code for note in notes]


OLD = [entry(f"/d/{n}.pdf") for n in range(1000)]


def busy(number, content="new", **changes):
    """The thousand, so many of which have changed."""
    return [
        entry(each["path"], content, **{"mtime_ns": 9, **changes}) if n < number else each for n, each in enumerate(OLD)
    ]


def paths(number):
    return [each["path"] for each in OLD[:number]]


@pytest.mark.parametrize(
    ("now", "spoilt", "noted", "want"),
    [
        (OLD, [], {}, ([], [])),
        (busy(900), [], {}, ([], [])),  # many changed, and all are what they were
        (busy(1000), paths(9), {}, ([], [])),  # fewer than it takes
        (busy(100), paths(20), {}, (["changed_spoilt"], [])),  # 2 % of all, a fifth of what changed
        (busy(101), paths(20), {}, ([], [])),
        (busy(100), paths(20), {"least": 21}, ([], [])),
        (busy(100), paths(20), {"accepted": 15}, ([], [])),  # a person knows of them
        (OLD, paths(100), {}, ([], [])),  # they looked so a month ago as well
        (
            [*OLD, *(entry(f"/d/n{n}.pdf") for n in range(10))],
            [f"/d/n{n}.pdf" for n in range(10)],
            {},
            (["changed_spoilt"], []),
        ),
        (busy(1, mtime_ns=5), [], {}, ([], ["changed_silently"])),  # a container that keeps its time
        (busy(9, mtime_ns=5), [], {}, ([], ["changed_silently"])),
        (busy(10, mtime_ns=5), [], {}, (["changed_silently"], [])),
        (busy(1, mtime_ns=5), paths(1), {}, (["changed_silently"], [])),  # one is enough when it looks spoilt
        (busy(1, mtime_ns=5), paths(1), {"accepted": 1}, ([], ["changed_silently"])),
        (OLD[:499], [], {}, ([], ["many_gone"])),
        (OLD[:500], [], {}, ([], [])),
    ],
)
def test_what_is_suspicious(tmp_path, now, spoilt, noted, want):
    assert judged(tmp_path, OLD, now, spoilt, **noted) == want


def test_the_run_in_which_they_were_fine_is_named(tmp_path):
    found = since_of(tmp_path, OLD, busy(10, mtime_ns=5))
    (reason,), _notes = check_since({}, {}, found, CLEAN)
    assert "10 files have other content than on 2026-09-21 with the size and time that they had" in reason.message
    assert "They were fine in the run of oracle snapshot cccccccc, arrived 2026-09-21T" in reason.message
    assert json.dumps(reason.public())
