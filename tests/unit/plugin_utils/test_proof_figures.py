# SPDX-License-Identifier: Apache-2.0
"""What the practice's document makes of a proof's figures."""

from __future__ import annotations

from ansible_collections.holdfast.practice.plugins.plugin_utils.proof_figures import with_figures

SUMMARY = {
    "practice": {"id": "harbour", "timezone": "Australia/Sydney"},
    "hours": {"mon-fri": "08:00-18:30"},
    "items": {"clinical_db": {"hosts": ["server1"]}, "documents": {"hosts": ["server1"]}},
    "line": {"down_bits_per_s": 8_000_000},
}


def row(item="clinical_db", which="newest", **figures):
    known = {"died": "2026-11-17T22:00:00Z", "phases": {"restore_s": 2.0}, "restore_s": 9.0, "bytes": 9_400_000}
    return {"item": item, "host": "server1", "which": which, "figures": {**known, **figures}}


def test_losses_are_counted_in_opening_hours_too():
    """It died on Wednesday at 9:00 there; the backup is of Tuesday, 18:00, and the newest entry of 17:30."""
    records = {"newest_entry": 15.5 * 3600, "newest_appointment": None}
    body = {"items": [row(data_loss_s=15 * 3600, records=records)], "figures": {}}
    done, lines = with_figures(body, SUMMARY)
    figures = done["items"][0]["figures"]
    assert figures["data_loss_open_s"] == 1.5 * 3600
    assert figures["records_open_s"] == {"newest_entry": 2 * 3600, "newest_appointment": None}
    text = "\n".join(lines)
    assert "lost of clinical_db of server1, had it died then: 15 h, of it 1 h 30 min in opening hours" in text
    assert "since newest_entry: 15 h, of it 2 h in opening hours" in text
    assert "newest_appointment: lies ahead" in text
    assert "data_loss_open_s" not in body["items"][0]["figures"], "what was given was changed"


def test_an_older_run_tells_of_no_loss():
    done, lines = with_figures({"items": [row(which="oldest")], "figures": {}}, SUMMARY)
    assert "data_loss_open_s" not in done["items"][0]["figures"]
    assert lines == []


def test_a_practice_without_hours_has_no_such_figure():
    done, lines = with_figures({"items": [row(data_loss_s=60.0)], "figures": {}}, {**SUMMARY, "hours": {}})
    assert done["items"][0]["figures"]["data_loss_open_s"] is None
    assert "opening hours" not in "\n".join(lines)


def test_the_forecast_names_what_it_does_not_know():
    done, lines = with_figures({"items": [row(data_loss_s=60.0)], "figures": {}}, SUMMARY)
    assert done["figures"]["forecast"]["missing"] == ["documents of server1"]
    assert lines[-1] == (
        "  all of the site back after at least 9 s over the practice's own network, at least 17 s over its line "
        "(not measured here: documents of server1)"
    )
    whole = {"items": [row(data_loss_s=60.0), row("documents", data_loss_s=60.0)], "figures": {}}
    assert with_figures(whole, {**SUMMARY, "line": {}})[1][-1] == (
        "  all of the site back after 18 s over the practice's own network"
    )


def test_a_proof_that_restored_nothing_foretells_nothing():
    nothing = {"item": "clinical_db", "host": "server1", "which": "newest", "figures": {"phases": {}}}
    done, lines = with_figures({"items": [nothing], "figures": {}}, SUMMARY)
    assert (done["figures"]["forecast"]["lan_s"], lines) == (None, [])
