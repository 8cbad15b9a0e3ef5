# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to a practice document, the answer is a list of mistakes for people: never a traceback, never a secret.

The same documents are tried each time. HOLDFAST_RANDOM=1 tries others, HOLDFAST_EXAMPLES=10 ten times as many.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, source
from ansible_collections.holdfast.practice.plugins.plugin_utils.compiler import compile_practice
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

TEXTS = {name: (Path(__file__).parent / "documents" / f"{name}.txt").read_text("utf-8") for name in ("good", "maximal")}
DATA = {name: source.parse(text.encode(), name)[0].data for name, text in TEXTS.items()}
DUMPER = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper
MORE = int(os.environ.get("HOLDFAST_EXAMPLES", "1"))


def tries(number: int) -> settings:
    return settings(
        max_examples=number * MORE,
        derandomize="HOLDFAST_RANDOM" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def examine(text: str | bytes) -> list[str]:
    """Check a document, and that what is said about it can be used; returns what is said."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    practice, problems = judged(raw)
    assert judged(raw)[1] == problems
    assert problems == sorted(set(problems))
    lines = len(raw.decode("utf-8", "replace").splitlines())
    said = [str(problem) for problem in problems]
    for problem, line in zip(problems, said, strict=True):
        assert problem.file == "practice.yml"
        assert 0 <= problem.line <= max(lines, 1)
        assert problem.column >= (1 if problem.line else 0)
        assert problem.got
        assert line.isprintable()
        assert len(line) < 3000
    if problems:
        assert practice is None
    else:
        assert compiled(practice) == compiled(judged(raw)[0])
    return said


def judged(raw: bytes) -> tuple[Any, list[source.Problem]]:
    document, problems = source.parse(raw, "practice.yml")
    return check.check(document, problems) if document else (None, problems)


def compiled(practice: Any) -> str:
    inventory = dataclasses.asdict(compile_practice(practice, "/srv/practices/x", {}))
    text = json.dumps(inventory, allow_nan=False, sort_keys=False)
    assert json.loads(text) == inventory  # plain data: what JSON cannot hold would come back as something else
    return text


def dumped(data: Any) -> str:
    return yaml.dump(data, Dumper=DUMPER, sort_keys=False, allow_unicode=True, width=100)


# -- what may come in the place of a value ---------------------------------------------------------------------------

WORDS = [
    *(
        "",
        " ",
        "x",
        "-",
        "~",
        "null",
        "NO",
        "on",
        "22:00",
        "1e3",
        "0750",
        "0x1F",
        "2026-11-21",
        ".inf",
        "1_000",
        "=",
        "<<",
    ),
    *(
        "{{ x }}",
        "{% x %}",
        "*x",
        "&x",
        "!x",
        "!!str x",
        "%x",
        "@x",
        "`x`",
        "#x",
        "a #b",
        "a: b",
        "- a",
        "[",
        "]",
        "{",
        "}",
    ),
    *(
        "nas1",
        "server1",
        "clinical_db",
        "proof1",
        "all",
        "localhost",
        "daily",
        "24h",
        "5GiB",
        "/",
        "/srv/..",
        "C:\\x",
        "\\\\x",
    ),
    *(
        "fe80::1",
        "[::1]:1",
        "010.0.0.1",
        "1.2.3.4/5",
        "https://x",
        "http://x",
        "\u201cx\u201d",
        "\u00a0x",
        "x\n",
        "x\ny",
        "\t",
    ),
    *(
        "\u202ex",
        "\x07",
        "\x85",
        "\u2028",
        "\ufeff",
        "\U0001f9b7",
        "a" * 70,
        "ä" * 5000,
        "StrictHostKeyChecking=no",
        "!x",
        "**",
    ),
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.dates(),
    st.sampled_from(WORDS),
    st.text(max_size=20),
)
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), inner, max_size=3),
    ),
    max_leaves=6,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        found += places(value, (*path, key))
    return found


@st.composite
def mutated(draw: Any) -> Any:
    """A document with one to four changes to its structure."""
    data = copy.deepcopy(DATA[draw(st.sampled_from(sorted(DATA)))])
    for _ in range(draw(st.integers(1, 4))):
        known = places(data)
        if not known:
            break
        path = draw(st.sampled_from(known))
        above, last = source.value_at(data, path[:-1]), path[-1]
        action = draw(st.sampled_from(["drop", "rename", "copy", "replace", "replace", "wrap", "swap"]))
        if action == "drop":
            del above[last]
        elif action == "replace":
            above[last] = draw(junk)
        elif action == "wrap":
            above[last] = draw(st.sampled_from([[above[last]], {"x": above[last]}, [above[last], above[last]]]))
        elif action == "swap":
            other = draw(st.sampled_from(known))
            above[last] = copy.deepcopy(source.value_at(data, other))
        elif isinstance(above, list):
            above.append(copy.deepcopy(above[last]))
        else:
            name = draw(
                st.one_of(st.sampled_from(WORDS), st.text(max_size=8), st.just(last.upper()), st.just(last + "s"))
            )
            above[name] = above.pop(last) if action == "rename" else copy.deepcopy(above[last])
    return data


@tries(150)
@given(mutated())
def test_a_document_of_another_structure_is_judged(data):
    examine(dumped(data))


@tries(50)
@given(st.sampled_from(sorted(DATA)), st.data(), junk)
def test_an_unknown_key_is_never_silently_accepted(name, choices, value):
    data = copy.deepcopy(DATA[name])
    mappings = [(), *(path for path in places(data) if isinstance(source.value_at(data, path), dict))]
    path = choices.draw(st.sampled_from(mappings))
    source.value_at(data, path)["Zz unknown"] = value
    where = source.dotted((*path, "Zz unknown"))
    raw = dumped(data).encode()
    assume(source.parse(raw, "practice.yml")[0])  # an end of line in the value may make the whole unreadable
    assert [problem for problem in judged(raw)[1] if problem.path.startswith(where)], "nothing is said about the key"


@tries(40)
@given(st.sampled_from(sorted(DATA)), st.data())
def test_every_known_key_misspelt_is_named(name, choices):
    data = copy.deepcopy(DATA[name])
    known = [path for path in places(data) if isinstance(path[-1], str)]
    path = choices.draw(st.sampled_from(known))
    above = source.value_at(data, path[:-1])
    items = list(above.items())
    above.clear()
    above.update((f"{key} Q" if key == path[-1] else key, value) for key, value in items)
    said = examine(dumped(data))
    assert any(f"{path[-1]} Q" in line for line in said)


# -- damage to the text ----------------------------------------------------------------------------------------------

PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "\t",
                "  ",
                "\n",
                "\r",
                "\r\n",
                ":",
                ": ",
                "-",
                "- ",
                "'",
                '"',
                "#",
                " #x",
                "{",
                "}",
                "[",
                "]",
                ",",
                "|",
                ">",
                "|\n",
            ),
            *(
                "---\n",
                "...\n",
                "%YAML 1.1\n",
                "%TAG ! x\n",
                "? ",
                "!",
                "!!int ",
                "!!float x",
                "!!binary x",
                "!<tag:x> ",
                "&a ",
                "*a",
            ),
            *(
                "<<: ",
                "{{ x }}",
                "{% x",
                "\\",
                '"\\ud800"',
                '"\\x07"',
                '"\\N"',
                "\ufeff",
                "\u2028",
                "\x00",
                "\x85",
                "\ud800",
            ),
            *(
                "a: b: c",
                "x: 22:00\n",
                "[" * 30,
                "{a: " * 30,
                "a" * 1100,
                "0x" + "f" * 6000,
                ":" * 50,
                "9" * 5000,
                "\u202e",
            ),
        ]
    ),
    st.text(max_size=6),
)


@st.composite
def damaged(draw: Any, text: str | None = None) -> str:
    """A text with one to three damages."""
    text = text or TEXTS[draw(st.sampled_from(sorted(TEXTS)))]
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(len(text) - 1, 0)))
        lines = text.split("\n")
        number = draw(st.integers(0, len(lines) - 1))
        match draw(
            st.sampled_from(["insert", "delete", "replace", "drop line", "double line", "move line", "indent", "cut"])
        ):
            case "insert":
                text = text[:start] + draw(PIECES) + text[start:]
            case "delete":
                text = text[:start] + text[start + draw(st.integers(1, 40)) :]
            case "replace":
                text = text[:start] + draw(PIECES) + text[start + 1 :]
            case "drop line":
                text = "\n".join(lines[:number] + lines[number + 1 :])
            case "double line":
                text = "\n".join(lines[: number + 1] + lines[number:])
            case "move line":
                line = lines.pop(number)
                lines.insert(draw(st.integers(0, len(lines))), line)
                text = "\n".join(lines)
            case "indent":
                lines[number] = draw(st.sampled_from([" ", "   ", "\t", "\u00a0"])) + lines[number]
                text = "\n".join(lines)
            case "cut":
                text = text[: start + 1]
    return text


@tries(200)
@given(damaged())
@example("k: !!float a:b\n")
@example("k: 0x" + "f" * 10000 + "\n")
@example("k: " + ":".join(["59"] * 3000) + "\n")
@example('"\\ud800": "\\udfff"\n')
@example("!<tag:\u0007> x: y\n")
@example("? *a\n: b\n")
@example("*a\n")
def test_a_damaged_text_is_judged(text):
    examine(text)


@tries(30)
@given(st.binary(max_size=200), st.data())
def test_bytes_that_are_no_text_are_judged(junk_bytes, choices):
    raw = TEXTS["good"].encode()
    start = choices.draw(st.integers(0, len(raw)))
    examine(raw[:start] + junk_bytes + raw[start:])


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="there is no libyaml to compare with")
def test_reading_with_libyaml_and_without_it_is_the_same(monkeypatch):
    seen = {"read": 0, "wrong": 0}

    @tries(120)
    @given(damaged())
    def compare(text):
        raw = text.encode("utf-8", "surrogatepass")
        with monkeypatch.context() as patch:
            fast = source.parse(raw, "practice.yml")
            patch.setattr(yaml, "__with_libyaml__", False)
            slow = source.parse(raw, "practice.yml")
        seen["read" if fast[0] else "wrong"] += 1
        if fast[0] and not slow[0]:
            return  # libyaml knows a little more of YAML: {id: a-? b} is a text
        assert [str(problem) for problem in fast[1]] == [str(problem) for problem in slow[1]]
        if slow[0]:
            for part in dataclasses.fields(slow[0]):
                assert repr(getattr(fast[0], part.name)) == repr(getattr(slow[0], part.name)), part.name

    compare()
    assert all(number > 20 for number in seen.values()), seen


# -- secrets ---------------------------------------------------------------------------------------------------------

SECRET = "hunter2-Tr0ub4dor&3"
SECRET_KEYS = [
    *("password", "repo_password", "restic_password_1", "Passwort", "api_key", "apiKey", "rest-token", "clientSecret"),
    *("passphrase", "private_key", "credentials", "authPassword", "ansible_password", "DB_PASSWORD", "token2", "pass"),
]
SIGNS = [*SECRET_KEYS, "://", "PRIVATE KEY", "AGE-SECRET-KEY-1"]
shapes = st.recursive(
    st.just(SECRET),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2),
        st.dictionaries(st.sampled_from(["x", "value", SECRET, "kind", "database"]), inner, min_size=1, max_size=2),
    ),
    max_leaves=3,
)


@st.composite
def with_secret(draw: Any) -> str:
    """A document in which somebody wrote a secret: below a secret's name, as a key, or in an address."""
    data = copy.deepcopy(DATA[draw(st.sampled_from(sorted(DATA)))])
    known = places(data)
    mappings = [(), *(path for path in known if isinstance(source.value_at(data, path), dict))]
    match draw(st.sampled_from(["named", "named", "named", "address", "key file"])):
        case "named":
            value: Any = draw(shapes)
            source.value_at(data, draw(st.sampled_from(mappings)))[draw(st.sampled_from(SECRET_KEYS))] = value
        case "address":
            scheme, user = (
                draw(st.sampled_from(["https", "rest:https", "sftp"])),
                draw(st.sampled_from(["u", "", "a.b"])),
            )
            path = draw(st.sampled_from(known))
            source.value_at(data, path[:-1])[path[-1]] = f"{scheme}://{user}:{SECRET}@backup.example.org/x"
        case "key file":
            path = draw(st.sampled_from(known))
            begin = draw(
                st.sampled_from(
                    ["-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----", "AGE-SECRET-KEY-1"]
                )
            )
            source.value_at(data, path[:-1])[path[-1]] = f"{begin}\n{SECRET}\n"
    return dumped(data)


@tries(100)
@given(with_secret())
def test_a_secret_is_refused_and_not_shown(text):
    said = examine(text)
    assert said
    assert not [line for line in said if SECRET in line]


@st.composite
def with_damaged_secret(draw: Any) -> str:
    text = draw(damaged(text=draw(with_secret())))
    # What gives it away must still be there, in the same line or the one before; else it is a text like any other.
    before = ["\n".join(part.split("\n")[-2:]) for part in text.split(SECRET)[:-1]]
    assume(before and all(any(sign in part for sign in SIGNS) for part in before))
    return text


@tries(120)
@given(with_damaged_secret())
@example(f"access: {{user: root, password: {{{SECRET}}}}}\n")
@example(f"access: {{user: root, password{SECRET}}}\n")
@example(f"access:\n  user: root\n    password {SECRET}\n")
@example(f"access: {{password: *{SECRET}}}\n")
@example(f"access: {{user: &{SECRET} x}}\n")
@example(f"hosts: {{token-server: {{{SECRET}: {{{SECRET}: [{SECRET}]}}}}}}\n")
@example(f"access: {{password: !{SECRET} x}}\n")
@example(f"access: {{password: !{SECRET}!x y}}\n")
@example(f"protect: [{{password: {SECRET}}}, {{password: {SECRET}}}]\n")
@example(f"'https://u:{SECRET}@h': x\n")
def test_a_secret_in_a_damaged_document_is_not_shown(text):
    said = examine(text)
    assert not [line for line in said if SECRET in line]


# -- the documents themselves ----------------------------------------------------------------------------------------


def test_the_maximal_document_has_only_what_is_for_later():
    said = examine(TEXTS["maximal"])
    assert [line for line in said if "not available in this version" not in line] == []


def test_the_maximal_document_uses_every_key_there_is():
    used: dict[str, set[str]] = {}
    document, _ = source.parse(TEXTS["maximal"].encode(), "practice.yml")
    classes: dict[int, type[Any]] = {}
    check.find_parts(check.Practice, document.data, classes)
    for path in [(), *places(document.data)]:
        value = source.value_at(document.data, path)
        if isinstance(value, dict) and id(value) in classes:
            used.setdefault(classes[id(value)].__name__, set()).update(value)
    parts = {cls.__name__: cls for cls in classes.values()}
    machines = set().union(*(used[name] for name in ("Nas", "Server", "Workstation", "Standby")))
    missing = {
        f"{name}.{info.alias or field}"
        for name, cls in parts.items()
        for field, info in cls.model_fields.items()
        if (info.alias or field) not in (machines if {"kind", "address"} <= used[name] else used[name])
    }
    # of the three kinds of offsite copies there can be only one, and a restic is from one place
    assert missing <= {"Offsite.rest", "Offsite.sftp", "Restic.file"}
    assert len(parts) > 25
