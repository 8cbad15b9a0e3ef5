# SPDX-License-Identifier: Apache-2.0
"""When is a host gone? A lost packet, a closed port and our own cut cable are not."""

from __future__ import annotations

import errno

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.power_watch import Track, WatchError, probe


@pytest.mark.parametrize(
    ("answers", "gone", "last_answer_s", "gone_s", "back_s"),
    [
        ("yyyy", False, 3, None, 0),
        ("yyn", False, 1, 2, 0),  # silent, but not for long enough
        ("yynnnnn", True, 1, 2, 0),
        ("yynnyynnnnn", True, 5, 6, 0),  # one silence ended: the clock starts again
        ("nnnnnn", True, None, 0, None),
        ("nny", False, 2, None, 2),
        ("", False, None, None, None),
    ],
)
def test_a_row_of_probes_a_second_apart(answers, gone, last_answer_s, gone_s, back_s):
    track = Track(confirm_s=4)
    for at, answer in enumerate(answers):
        track.note(float(at), answer == "y", float(at))
    assert (track.gone, track.last_answer_s, track.gone_s, track.back_s) == (gone, last_answer_s, gone_s, back_s)


class Closable:
    def close(self) -> None:
        pass


def failing(number):
    def connect(where, timeout):
        raise OSError(number, "no")

    return connect


def test_an_open_door_answers():
    assert probe("a", 22, 1.0, connect=lambda where, timeout: Closable()) is True


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ECONNRESET])
def test_a_refusal_comes_from_a_kernel_that_is_up(number):
    assert probe("a", 22, 1.0, connect=failing(number)) is True


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ETIMEDOUT, None])
def test_silence_is_no_answer(number):
    assert probe("a", 22, 1.0, connect=failing(number)) is False


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.ENETDOWN, errno.EMFILE])
def test_our_own_trouble_proves_nothing_about_the_host(number):
    with pytest.raises(WatchError, match="own network"):
        probe("a", 22, 1.0, connect=failing(number))
