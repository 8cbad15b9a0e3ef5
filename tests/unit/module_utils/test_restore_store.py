# SPDX-License-Identifier: Apache-2.0
"""What is decided about the place for restored data."""

from __future__ import annotations

import errno

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import restore_store as store
from ansible_collections.holdfast.practice.plugins.module_utils.restore_store import ENCRYPTED, MEMORY, Have, StoreError

WHOLE = Have(folder=True, claim={"token": "a"}, made={"kind": ENCRYPTED, "key": "00"}, mounted=True, image=True)
HALF = Have(folder=True, image=True, mounted=True)
LEFT = Have(folder=True, image=True, loops=("/dev/loop7",))
MAKE = ["file", "format", "mount", "seal", "note"]
GIB = 1 << 30


@pytest.mark.parametrize(
    ("have", "state", "kind", "steps"),
    [
        (Have(), "fresh", ENCRYPTED, MAKE),
        (Have(), "fresh", MEMORY, ["mount_memory", "note"]),
        (WHOLE, "fresh", ENCRYPTED, ["destroy_key", "unmount", "clear", *MAKE]),
        (HALF, "fresh", ENCRYPTED, ["unmount", "clear", *MAKE]),
        (LEFT, "fresh", ENCRYPTED, ["detach:/dev/loop7", "clear", *MAKE]),
        (Have(), "absent", ENCRYPTED, []),
        (WHOLE, "absent", ENCRYPTED, ["destroy_key", "unmount", "remove"]),
        (HALF, "absent", ENCRYPTED, ["unmount", "remove"]),
        (Have(folder=True, claim={"token": "a"}), "absent", ENCRYPTED, ["remove"]),
    ],
)
def test_plan(have, state, kind, steps):
    assert store.plan(have, state, kind) == steps


@pytest.mark.parametrize(
    ("kind", "asked", "free", "promised", "memory", "size"),
    [
        (ENCRYPTED, 0, 21 * GIB, 0, 0, 10 * GIB),
        (ENCRYPTED, 0, 21 * GIB, 10 * GIB, 0, 5 * GIB),
        (ENCRYPTED, 15 * GIB, 21 * GIB, 0, 0, 15 * GIB),
        (ENCRYPTED, 50 * GIB, 21 * GIB, 10 * GIB, 0, 10 * GIB),
        (MEMORY, 0, 0, 0, 4 * GIB + store.MACHINE_MEMORY, 2 * GIB),
        (MEMORY, 3 * GIB, 0, 0, 4 * GIB, 3 * GIB),
    ],
)
def test_room(kind, asked, free, promised, memory, size):
    assert store.room(kind, asked, free, promised, memory) == size


@pytest.mark.parametrize(
    ("kind", "free", "promised", "memory", "code", "words"),
    [
        (ENCRYPTED, 2 * GIB, 0, 0, "not_enough_space", "disk has 2147483648 bytes free; "),
        (ENCRYPTED, 21 * GIB, 20 * GIB, 0, "not_enough_space", "promised to other proofs"),
        (MEMORY, 0, 0, GIB, "not_enough_memory", "memory has 1073741824 bytes free"),
    ],
)
def test_what_has_no_room_does_not_begin(kind, free, promised, memory, code, words):
    with pytest.raises(StoreError, match=words) as refused:
        store.room(kind, 0, free, promised, memory)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("flags", "loop_gone", "steps", "destroyed"),
    [
        (0, True, ["destroy_key", "unmount", "remove"], True),
        (0, False, ["destroy_key", "unmount", "remove"], True),
        (1, False, ["destroy_key", "unmount", "remove"], False),
        (1, True, ["destroy_key", "unmount", "remove"], True),
        (None, True, ["remove"], False),
    ],
)
def test_a_key_is_called_destroyed_only_when_the_kernel_let_go_of_it(flags, loop_gone, steps, destroyed):
    record = store.disposal(ENCRYPTED, True, steps, flags, loop_gone)
    assert record == {"store": ENCRYPTED, "deleted": True, "key_destroyed": destroyed}


def test_numbers_are_those_of_the_kernel():
    assert (store.SET_POLICY, store.ADD_KEY, store.REMOVE_KEY) == (0x800C6613, 0xC0506617, 0xC0406618)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOPKG, errno.EIO])
def test_a_carrier_that_cannot_encrypt_is_told_what_else_there_is(number):
    assert "store: memory" in str(store.no_encryption(number))
