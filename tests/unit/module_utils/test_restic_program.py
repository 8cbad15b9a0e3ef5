"""A restic of one's own: what is refused before it is put in place, and when nothing is to be done."""

from __future__ import annotations

import bz2
import struct

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import restic_program


def elf(machine):
    return b"\x7fELF\x02\x01\x01" + bytes(11) + struct.pack("<H", machine) + b"the rest"


AMD = elf(62)
SUM = restic_program.sha256


@pytest.mark.parametrize("shipped", [AMD, bz2.compress(AMD)])
def test_a_program_is_taken_as_it_is_shipped(shipped):
    assert restic_program.program_of(shipped, SUM(shipped), "x86_64") == AMD


@pytest.mark.parametrize(
    ("shipped", "machine", "code", "words"),
    [
        (elf(183), "x86_64", "wrong_architecture", "is for aarch64, this host is x86_64"),
        (bz2.compress(AMD), "aarch64", "wrong_architecture", "is for x86_64, this host is aarch64"),
        (elf(999), "x86_64", "wrong_architecture", "machine 999"),
        (b"PK\x03\x04" + bytes(40), "x86_64", "not_a_program", "zip"),
        (b"BZh9 and nonsense", "x86_64", "not_a_program", "cannot be unpacked"),
        (b"<html>not found</html>", "x86_64", "not_a_program", "no Linux program"),
        (b"", "x86_64", "not_a_program", "no Linux program"),
    ],
)
def test_what_could_not_run_is_refused(shipped, machine, code, words):
    with pytest.raises(restic_program.ProgramError, match=words) as caught:
        restic_program.program_of(shipped, SUM(shipped), machine)
    assert caught.value.code == code


def test_another_checksum_is_refused_with_both():
    with pytest.raises(restic_program.ProgramError) as caught:
        restic_program.program_of(AMD, SUM(b"other"), "x86_64")
    assert caught.value.code == "checksum_mismatch"
    assert SUM(AMD) in str(caught.value)
    assert SUM(b"other") in str(caught.value)


def test_what_is_in_place_is_known_by_its_source_and_by_itself():
    note = restic_program.files(AMD, "wanted")[1].content.decode()
    assert restic_program.in_place(note, AMD, "wanted")
    assert not restic_program.in_place(note, AMD, "newer")
    for text, program in ((note, AMD + b"x"), (note, None), (None, AMD), ("{", AMD)):
        assert not restic_program.in_place(text, program, "wanted")


def test_it_comes_before_the_distributions_and_is_left_out_when_it_goes():
    env = {"PATH": "/usr/lib/holdfast:/usr/bin:/bin"}
    assert restic_program.path_of(env, "/tmp/x") == "/tmp/x:/usr/bin:/bin"
    assert restic_program.path_of(env, None) == "/usr/bin:/bin"


def test_all_of_it_goes():
    assert {file.path for file in restic_program.gone()} >= {file.path for file in restic_program.files(AMD, "x")}
