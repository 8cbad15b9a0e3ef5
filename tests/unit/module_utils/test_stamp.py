"""A machine belongs to one practice."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import stamp


def test_a_free_machine_is_accepted(tmp_path):
    stamp.check("harbour-street", "nas1", str(tmp_path / "none.json"))


def test_our_own_machine_is_accepted(tmp_path):
    content = stamp.wanted("harbour-street", "nas1").content
    (tmp_path / "s.json").write_bytes(content)
    stamp.check("harbour-street", "nas1", str(tmp_path / "s.json"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"practice": "hill-road", "host": "nas1"}', 'this machine is "nas1" of practice "hill-road"'),
        ('{"practice": "harbour-street", "host": "server1"}', '"server1" of practice "harbour-street"'),
        ('{"practice": "harbour-street"}', "not a stamp"),
        ("", "not a stamp"),
        ("[]", "not a stamp"),
    ],
)
def test_any_other_stamp_is_refused(text, says):
    with pytest.raises(stamp.StampError, match=says):
        stamp.judge(text, "harbour-street", "nas1")
