# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import bcrypt
import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.holdfast.practice.plugins.filter.bcrypt_hash import FilterModule, bcrypt_hash

PASSWORD = "a-generated-password-of-some-length-0123456"
FROZEN = "$2b$04$5.gSP2FHmi6M16skgppBkOGExITxoogF1Sq8YuZcvNE4FATtvSdDe"


def test_the_hash_is_one_of_the_password_and_of_no_other():
    made = bcrypt_hash(PASSWORD, "harbour-street/server1", 4).encode()
    assert bcrypt.checkpw(PASSWORD.encode(), made)
    assert not bcrypt.checkpw(b"another", made)
    assert made.startswith(b"$2b$04$")
    assert len(made) == 60


def test_the_same_is_made_each_time():
    assert bcrypt_hash(PASSWORD, "a/b", 4) == bcrypt_hash(PASSWORD, "a/b", 4)


@pytest.mark.parametrize("other", [(PASSWORD, "a/c"), (PASSWORD + "x", "a/b")])
def test_another_context_or_password_has_another_salt(other):
    assert bcrypt_hash(PASSWORD, "a/b", 4)[7:29] != bcrypt_hash(*other, 4)[7:29]


def test_the_hash_stays_what_it_was_in_the_first_version():
    """A changed salt would rewrite the account file of every NAS."""
    assert bcrypt_hash("password", "practice/host", 4) == FROZEN


@pytest.mark.parametrize(
    ("password", "context", "rounds"),
    [
        ("", "c", 8),
        ("x" * 73, "c", 8),
        ("a\0b", "c", 8),
        (None, "c", 8),
        (PASSWORD, "", 8),
        (PASSWORD, "c", 3),
        (PASSWORD, "c", True),
    ],
)
def test_what_bcrypt_cannot_hash_is_refused_without_showing_it(password, context, rounds):
    with pytest.raises(AnsibleFilterError) as error:
        bcrypt_hash(password, context, rounds)
    assert not password or password not in str(error.value)


def test_the_filter_is_offered():
    assert FilterModule().filters() == {"bcrypt_hash": bcrypt_hash}
