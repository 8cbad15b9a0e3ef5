# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import source
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Problem


def parsed(text):
    return source.parse(text.encode(), "f.yml")


def test_values_keep_their_places_and_texts():
    document, problems = parsed('a:\n  b: [x, "y"]\n  on: 007\n')
    assert problems == []
    assert document.data == {"a": {"b": ["x", "y"], "on": "007"}}  # the key on is a name, not a boolean
    assert document.key_marks[("a", "b")] == (2, 3)
    assert document.value_marks[("a", "b", 1)] == (2, 10)
    assert document.texts[("a", "on")] == "007"
    assert document.mark(("a", "b", "nothing", "there")) == (2, 6)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-12", -12),
        ("0", 0),
        ("1.5", 1.5),
        (".inf", float("inf")),
        ("true", True),
        ("false", False),
        ("~", None),
        ("", None),
        ('"22:00"', "22:00"),
        ("'NO'", "NO"),
        ("1e3", "1e3"),
        ("a: b"[:1], "a"),
    ],
)
def test_what_is_read_as_written_is_no_hazard(text, value):
    document, problems = parsed(f"k: {text}\n")
    assert (document.data, problems, document.hazards) == ({"k": value}, [], {})


@pytest.mark.parametrize(
    ("text", "got", "why"),
    [
        ("22:00", "got 1320 (integer)", "base-60"),
        ("-1:30", "got -90 (integer)", "base-60"),
        ("1:30:30", "got 5430 (integer)", "base-60"),
        ("190:20:30.15", "got 685230.15 (number)", "base-60"),
        ("0750", "got 488 (integer)", "octal"),
        ("0x1F", "got 31 (integer)", "hexadecimal"),
        ("0b101", "got 5 (integer)", "binary"),
        ("1_000", "got 1000 (integer)", "number"),
        ("NO", "got false (boolean)", "boolean"),
        ("Yes", "got true (boolean)", "boolean"),
        ("on", "got true (boolean)", "boolean"),
        ("True", "got true (boolean)", "boolean"),
        ("2026-11-21", "got 2026-11-21 (date)", "date"),
        ("2026-11-21 10:00:00", "got 2026-11-21 10:00:00 (date)", "date"),
    ],
)
def test_what_is_read_otherwise_than_written_is_a_hazard(text, got, why):
    document, problems = parsed(f"k: {text}\n")
    hazard = document.hazards[("k",)]
    assert problems == []
    assert document.data == {"k": text}
    assert hazard.got == got
    assert hazard.expected == source.MISREAD
    assert f"YAML reads {text} as" in hazard.fix
    assert why in hazard.fix


def test_numbers_are_what_pyyaml_makes_of_them():
    import yaml

    for text in (
        "22:00",
        "-1:30",
        "1:30:30",
        "190:20:30.15",
        "0750",
        "0x1F",
        "0b101",
        "1_000",
        "+12",
        "1.5",
        "-0",
        "685.230_15e+03",
    ):
        value = yaml.safe_load(text)
        assert source.described(value) == source.described(
            source._to_int(text) if isinstance(value, int) else source._to_float(text)
        )


def test_a_hidden_value_is_never_shown():
    document, _ = parsed("a: {password: {deep: hunter2}}\n")
    problem = document.problem(("a", "password", "deep"), 'got "hunter2" (string)', "nothing")
    assert "hunter2" not in str(problem)
    assert "(hidden)" in str(problem)


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "db_password",
        "REST-Token",
        "api_key",
        "clientSecret_x",
        "passphrase",
        "private-key",
        "authPassword",
        "token2",
    ],
)
def test_keys_of_secrets_are_known(key):
    document, _ = parsed(f"{key}: x\n")
    assert set(document.hazards) == {(key if key.isalpha() or "_" in key or "-" in key else "(hidden)",)}
    assert document.data == {document.hazards.popitem()[0][0]: None}


@pytest.mark.parametrize("key", ["key", "keys", "secretary", "tokenised", "monkey"])
def test_harmless_keys_pass(key):
    document, _ = parsed(f"{key}: x\n")
    assert document.hazards == {}


def test_a_problem_reads_as_one_sentence():
    problem = Problem("f.yml", 3, 7, "a.b[1]", "got 1 (integer)", "text", "write it")
    assert str(problem) == "f.yml:3: a.b[1]: got 1 (integer); expected text; write it"
    assert (
        str(Problem("f.yml", 0, 0, "", "there is no such file", "a file"))
        == "f.yml: there is no such file; expected a file"
    )


def test_long_and_strange_values_stay_on_one_short_line():
    shown = source.show("x\n" * 500)
    assert len(shown) <= 60
    assert "\n" not in shown
    assert source.dotted(("a", "b c", 2, "d.e")) == 'a."b c"[2]."d.e"'


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("postgress", ["postgresql", "sqlite"], "postgresql"),
        ("NAS1", ["nas1"], "nas1"),
        ("zebra", ["nas1"], ""),
        ("", ["a"], ""),
    ],
)
def test_the_nearest_name(name, known, near):
    assert source.nearest(name, known) == near


def test_files_that_cannot_be_read_are_problems(tmp_path):
    for path, words in ((tmp_path / "none.yml", "no such file"), (tmp_path, "is not a file")):
        document, problems = source.read(path)
        assert document is None
        assert words in str(problems[0])
    (tmp_path / "big.yml").write_bytes(b"#" * (source.MAX_BYTES + 1))
    assert "bytes" in str(source.read(tmp_path / "big.yml")[1][0])
