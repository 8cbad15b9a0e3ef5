# SPDX-License-Identifier: Apache-2.0

"""bin/holdfast explain: every value once, with where it came from."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import (
    check,
    cli,
    cli_explain,
    compiler,
    explain,
    feasibility,
    source,
    times,
)

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = (REPOSITORY / "tests" / "unit" / "documents" / "small.txt").read_text()
SMALLEST = """\
practice: {id: klein, name: "Praxis Dr. Müller \\"& Söhne\\" \u65e5\u672c", country: AU, timezone: Australia/Perth}
contacts:
  backup_owner:
    name: Eva
    email: eva@klein.example
hosts:
  nas1:
    kind: nas
    address: "2001:db8::11"
    pool: {profile: single, devices: [/dev/disk/by-id/x]}
  server1:
    kind: server
    address: 192.0.2.2
    protect:
      - documents
  proof1: {kind: restore_host}
protect:
  documents:
    paths:
      - "/srv/clinic/Dr \\"Bob\\" Müller"
    must_have:
copies: {onsite: {on: nas1}}
"""


def read(text):
    document, problems = source.parse(text.encode(), "practice.yml")
    practice, problems = check.check(document, problems)
    assert practice, problems
    return document, practice


def rows_of(text):
    return explain.explain(*read(text))


def leaves(data, path=()):
    """Give every leaf of plain data: lists count as one value."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, data


def of(rows, *path):
    return next(row for row in rows if row.path == path)


@pytest.mark.parametrize("text", [EXAMPLE, SMALLEST], ids=["example", "smallest"])
def test_every_leaf_of_the_model_has_exactly_one_row(text):
    document, practice = read(text)
    rows = [row for row in explain.explain(document, practice) if row.origin != explain.DERIVED]
    assert [path for path, count in Counter(row.path for row in rows).items() if count > 1] == []
    assert {row.path: row.value for row in rows} == dict(leaves(practice.model_dump(by_alias=True)))
    assert all(row.meaning for row in rows)


@pytest.mark.parametrize("text", [EXAMPLE, SMALLEST], ids=["example", "smallest"])
def test_each_value_comes_from_the_line_that_says_so_or_else_is_a_default(text):
    document, practice = read(text)
    written = dict(leaves(document.data))
    lines = text.splitlines()
    for row in explain.explain(document, practice):
        if row.origin == explain.LINE:
            assert re.search(rf"(^|[\s{{,]){re.escape(str(row.path[-1]))}:", lines[row.line - 1]), row
            assert written.pop(row.path) == row.value
        else:
            assert row.line is None
            assert row.path not in written
    assert written == {}


def test_lines_are_those_of_the_keys():
    rows = rows_of(SMALLEST)
    assert of(rows, "hosts", "server1", "protect").line == 14
    assert of(rows, "protect", "documents", "paths").line == 19
    assert of(rows, "protect", "documents", "must_have") == explain.Row(
        ("protect", "documents", "must_have"), None, "line", 21, "a list of absolute paths that every backup must hold"
    )


def test_defaults_of_parts_that_are_left_out_are_listed_one_by_one():
    rows = rows_of(SMALLEST)
    assert (of(rows, "objectives", "rto").value, of(rows, "objectives", "rto").origin) == ("4h", "default")
    assert of(rows, "retention", "within", "daily").value == "35d"
    assert of(rows, "access", "user").origin == "default"
    assert of(rows, "copies", "offsite").value is None


def test_what_is_derived_is_what_the_compiler_says():
    document, practice = read(EXAMPLE)
    inventory = compiler.compile_practice(practice, "/", {})
    values = {row.path[1:]: row.value for row in explain.explain(document, practice) if row.origin == explain.DERIVED}
    jobs = 0
    for host, variables in inventory.host_vars.items():
        for job in variables.get("backup_agent_jobs", []):
            jobs += 1
            for key in ("calendar", "spread_s", "time_limit_s"):
                assert values["jobs", host, job["name"], key] == job[key]
    assert jobs == 3
    assert values["repositories", "nas1", "accounts"] == ["server1", "desk1"]
    repository = inventory.host_vars["server1"]["backup_agent_repository"]
    assert values["repositories", "server1", "url"] == repository["url"]
    assert values["repositories", "server1", "username"] == repository["username"]
    turns = inventory.host_vars["proof1"]["restore_verify_turns"]
    assert {item: values["proofs", item, "turn"] for item in turns} == turns
    assert values["proofs", "clinical_db", "often"] == "daily"
    assert values["proofs", "clinical_db", "server1", "rpo_s"] == 86400
    budget = inventory.all_vars["practice_summary"]["power"]["ups1"]["budget"]
    assert {key: values["power", "ups1", key] for key in budget} == budget
    assert values["power", "ups1", "order"] == ["server1", "desk1", "nas1"]
    assert values[("usual_time",)] == times.usual_time(practice.hours)
    assert values[("quiet_window",)] == "19:00-07:30"
    assert all(row.meaning for row in rows_of(EXAMPLE) if row.origin == explain.DERIVED)


def test_feasibility_is_told_in_the_words_of_its_figures():
    document, practice = read(EXAMPLE)
    measured = {"items": {"documents": {"bytes": 5 * 2**30, "changed_bytes_per_day": 2**20}}}
    for survey in (None, measured):
        figures = feasibility.figures(practice, survey)
        rows = [
            row for row in explain.explain(document, practice, survey) if row.path[:2] == ("derived", "feasibility")
        ]
        assert [row.value for row in rows] == [figure.value for figure in figures]
        assert [row.meaning for row in rows] == [f"{figure.state}; {figure.source}" for figure in figures]
        assert len({row.path for row in rows}) == len(rows) > 0
        assert any("measured" in row.meaning for row in rows) == bool(survey)


def test_a_practice_that_never_closes_has_no_quiet_window():
    open_always = SMALLEST.replace("hosts:\n", 'hours: {mon-sun: "00:00-23:59"}\nhosts:\n', 1)
    assert of(rows_of(open_always), "derived", "quiet_window").value == "never"


@pytest.mark.parametrize("width", [20, 60, 80, 133, 400])
@pytest.mark.parametrize("text", [EXAMPLE, SMALLEST], ids=["example", "smallest"])
def test_the_table_fits_its_terminal_and_shows_every_value(text, width):
    document, practice = read(text)
    rows = explain.explain(document, practice)
    lines = explain.table(practice, "practice.yml", rows, width)
    shown = [line for line in lines[1:-1] if line]
    # a key that is longer than its column stands on a line of its own
    keys = max(len(source.dotted(row.path)) for row in rows) + 13
    assert all(explain._columns(line) <= max(width, explain.NARROWEST, keys) for line in shown)
    together = re.sub(r"\s+", "", "".join(lines))
    for row in rows:
        if row.value is not None:
            assert re.sub(r"\s+", "", source.dotted(row.path[1:])) in together
            assert re.sub(r"\s+", "", explain._plain(explain._words(row))) in together
    assert lines[-1].split()[0] == str(sum(row.origin == "line" for row in rows))


def test_every_section_is_in_the_table_with_what_is_not_set():
    document, practice = read(EXAMPLE)
    lines = explain.table(practice, "practice.yml", explain.explain(document, practice), 100)
    assert [line for line in lines[1:-1] if line and not line.startswith(" ")] == [
        *("practice", "contacts", "hours", "objectives", "access", "hosts", "protect", "copies", "retention", "power"),
        *("prove", "derived", "whole sections"),
    ]
    assert "  line 18    nas1.address          198.18.0.11" in lines
    assert any(line.startswith("  default    nas1: not set         netbios_name, ") for line in lines)


def test_what_a_terminal_would_hide_or_obey_is_made_visible():
    assert explain._plain("a\u202eb\u200bc\x1b[31m\u00a0\U000e0041") == r"a\u202eb\u200bc\x1b[31m\xa0\U000e0041"
    assert explain._plain("Müller \u65e5\u672c") == "Müller \u65e5\u672c"


def test_wide_and_combining_characters_keep_the_columns():
    assert explain._columns("\u65e5\u672c") == 4
    assert explain._columns("e\u0301") == 1
    assert explain._wrapped("\u65e5\u672c\u65e5\u672c", 4) == ["\u65e5\u672c", "\u65e5\u672c"]
    assert explain._wrapped("one two three", 7) == ["one two", "three"]
    assert explain._wrapped("", 7) == [""]


# --- the command ----------------------------------------------------------------------------------------------------


def run(folder, *, as_json=False):
    return cli_explain.run(type("Options", (), {"folder": str(folder), "json": as_json}))


def test_json_is_stable_and_complete(tmp_path, capsys):
    (tmp_path / "practice.yml").write_text(EXAMPLE)
    assert run(tmp_path, as_json=True) == 0
    first = capsys.readouterr().out
    assert run(tmp_path / "practice.yml", as_json=True) == 0
    assert capsys.readouterr().out == first
    said = json.loads(first)
    assert set(said) == {"practice", "file", "values"}
    assert (said["practice"], said["file"]) == ("harbour-street", str(tmp_path / "practice.yml"))
    assert [value["path"] for value in said["values"]] == [source.dotted(row.path) for row in rows_of(EXAMPLE)]
    assert all(set(value) == {"path", "value", "from", "line", "meaning"} for value in said["values"])
    assert said["values"][0] == {
        "path": "practice.id",
        "value": "harbour-street",
        "from": "line",
        "line": 3,
        "meaning": "an id such as harbour-street: 1-63 characters a-z 0-9 -",
    }
    assert not re.search(r"\{\{|vault_(practice|repository|rest|nut|tls|evidence)", first), (
        "what the vault holds is no part of it"
    )


def test_the_table_is_printed_even_where_its_letters_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "practice.yml").write_text(SMALLEST)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert run(tmp_path) == 0
    sys.stdout.flush()
    assert b"M\\xfcller" in raw.getvalue()


@pytest.mark.parametrize("content", ["{}", "not JSON", None])
def test_figures_are_those_of_the_last_survey(tmp_path, capsys, content):
    (tmp_path / "practice.yml").write_text(EXAMPLE)
    found = {"format": 1, "practice": "harbour-street", "items": {"documents": {"bytes": 5 * 2**30}}, "hosts": {}}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "survey.json").write_text(content or json.dumps(found))
    assert run(tmp_path, as_json=True) == 0
    shown = capsys.readouterr()
    assert ("measured" in shown.out) == (content is None)
    assert ("note: " in shown.err and "survey.json" in shown.err) == (content is not None)


def test_mistakes_are_said_instead(tmp_path, capsys):
    (tmp_path / "practice.yml").write_text(EXAMPLE.replace("retention:", "retenton:"))
    for as_json in (False, True):
        assert run(tmp_path, as_json=as_json) == 3
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert 'retenton: unknown key "retenton"' in lines[0]
        assert lines[1] == "1 mistake found; nothing to explain"


def test_a_secret_in_the_document_is_not_shown(tmp_path, capsys):
    secret = "correct-horse-battery"
    (tmp_path / "practice.yml").write_text(EXAMPLE.replace("key: ssh_key", f"key: ssh_key, password: {secret}"))
    assert run(tmp_path, as_json=True) == 3
    assert secret not in capsys.readouterr().out


def test_the_commands_are_there_for_bin_holdfast(tmp_path, capsys):
    (tmp_path / "practice.yml").write_text(EXAMPLE)
    assert cli.main(["explain", str(tmp_path), "--json"], REPOSITORY) == 0
    assert json.loads(capsys.readouterr().out)["practice"] == "harbour-street"
    assert cli.main(["schema"], REPOSITORY) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "A practice document of Holdfast"
    assert cli.main(["validate", str(tmp_path)], REPOSITORY) == 0


def test_a_folder_without_document_is_said(tmp_path, capsys):
    assert run(tmp_path) == 3
    assert "there is no such file" in capsys.readouterr().out
