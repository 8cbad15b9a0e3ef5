# SPDX-License-Identifier: Apache-2.0

"""A survey's result: what is not protected, lines that really work, and a summary that a person can read."""

from __future__ import annotations

import copy
import datetime as dt
import json

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import available, check, source, survey

TEXT = """\
practice: {id: hs, name: HS, country: AU, timezone: Australia/Sydney}
contacts: {backup_owner: {name: Robin, email: manager@hs.example}}
hosts:
  nas1: {kind: nas, address: 198.18.0.11, pool: {profile: raid1, devices: [/dev/disk/by-id/ata-1, /dev/disk/by-id/ata-2]}}
  server1: {kind: server, address: 198.18.0.12, protect: [clinical_db, documents]}
  desk1: {kind: workstation, address: 198.18.0.13, protect: [documents]}
  proof1: {kind: restore_host}
protect:
  clinical_db: {database: {engine: postgresql, name: clinic}, images: {query: "select path from image", root: /srv/clinic/images}}
  documents: {paths: [/srv/clinic/documents]}
copies: {onsite: {on: nas1}}
"""
NOW = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)
GIB = 2**30


def read(text=TEXT):
    document, problems = source.parse(text.encode(), "practice.yml")
    practice, problems = check.check(document, problems)
    assert problems == []
    return document, practice


def facts(**more):
    return {
        "survey": {
            "os": "Debian 13",
            "zone": "Australia/Sydney",
            "clock_offset_s": 0.4,
            "items": {},
            "databases": [],
            "stores": [],
            "filesystems": [],
            "disks": [],
            "ups": [],
            "pool": None,
            "restore": None,
            "link_bits_per_s": None,
            "runs": {},
            "notes": [],
            **more,
        }
    }


def size(number, change=0):
    return {"bytes": number, "changed_bytes_per_day": change, "files": 3, "missing": []}


def store(kind, path, files=20, item=None, **more):
    return {"kind": kind, "path": path, "files": files, "bytes": GIB, "changed_bytes_per_day": 0, "item": item, **more}


def database(engine, name=None, path=None, **more):
    return {"engine": engine, "name": name, "path": path, "port": None, "bytes": GIB, **more}


def found(**hosts):
    base = {
        "nas1": facts(pool={"bytes": 4 * 2**40, "free": 4 * 2**40}),
        "server1": facts(items={"clinical_db": size(20 * GIB, GIB), "documents": size(GIB)}),
        "desk1": facts(items={"documents": size(2 * GIB, 5)}),
        "proof1": facts(restore={"bytes": 2**40, "free": 2**40}),
    }
    return {**base, **hosts}


def surveyed(text=TEXT, **hosts):
    document, practice = read(text)
    result = survey.collect(practice, found(**hosts), NOW)
    return document, practice, result, survey.offers(document, practice, result)


def test_items_are_added_up_over_their_hosts():
    *_, result, offered = surveyed()
    assert result["items"] == {
        "clinical_db": {"bytes": 20 * GIB, "changed_bytes_per_day": GIB},
        "documents": {"bytes": 3 * GIB, "changed_bytes_per_day": 5},
    }
    assert offered == []
    assert result["format"] == 1
    assert (result["practice"], result["at"]) == ("hs", "2026-11-22T10:00:00Z")


def test_a_host_that_did_not_tell_leaves_its_items_unknown():
    *_, result, _ = surveyed(desk1={"unreachable": True, "msg": "Task failed: Data could not be\n sent"})
    assert result["items"]["documents"] == {"bytes": None, "changed_bytes_per_day": None}
    assert result["items"]["clinical_db"]["bytes"] == 20 * GIB
    assert result["hosts"]["desk1"] == {"at": result["at"], "reached": False, "why": "Data could not be sent"}
    _, practice = read()
    assert survey.reach(practice, result).startswith("Could not be looked at: desk1;")


def test_no_host_at_all_is_said_so():
    gone = {"unreachable": True, "msg": "no route"}
    _, practice, result, _ = surveyed(nas1=gone, server1=gone, desk1=gone)
    assert survey.reach(practice, result).startswith("No host of the practice could be looked at")


def test_hosts_that_were_not_asked_keep_what_they_said_before():
    _, practice, result, _ = surveyed()
    later = survey.collect(
        practice,
        {"server1": facts(items={"clinical_db": size(1), "documents": size(1)})},
        NOW + dt.timedelta(days=1),
        result,
    )
    assert later["hosts"]["desk1"]["at"] == "2026-11-22T10:00:00Z"
    assert later["items"]["documents"]["bytes"] == 2 * GIB + 1
    assert survey.reach(practice, later) == ""
    lines = survey.summary(practice, later, [], [])
    assert any(line.startswith("desk1:") and "as of 2026-11-22T10:00:00Z" in line for line in lines)
    first = survey.collect(practice, {"server1": found()["server1"]}, NOW)
    assert "nas1, desk1, proof1" in survey.reach(practice, first)


PROTECTED = [
    facts(databases=[database("postgresql", "clinic")]),
    facts(stores=[store("images", "/srv/clinic/images/2024")]),
    facts(stores=[store("documents", "/srv/clinic/documents", item="documents")]),
    facts(databases=[database("sqlite", path="/srv/clinic/documents/x.db")]),
]


@pytest.mark.parametrize("server", PROTECTED)
def test_what_is_protected_is_not_offered(server):
    *_, result, offered = surveyed(server1=server)
    assert offered == []
    listed = result["hosts"]["server1"]["databases"] + result["hosts"]["server1"]["stores"]
    assert all(each["protected_by"] for each in listed)


def test_what_protects_one_host_does_not_protect_another():
    *_, offered = surveyed(desk1=facts(databases=[database("postgresql", "clinic")]))
    assert [(each.host, each.item) for each in offered] == [("desk1", "clinic")]


def add(text, offered):
    """Type the offered lines into the document, as a person would."""
    lines = text.splitlines()
    for offer in offered:
        lines.insert(lines.index("protect:") + 1, f"  {offer.line}")
        at = next(number for number, line in enumerate(lines) if line.startswith(f"  {offer.host}:"))
        begin, _, rest = lines[at].partition(", protect: ")
        lines[at] = f"{begin}, {offer.protect}{'' if not rest else rest[rest.index(']') + 1 :]}"
    return "\n".join(lines) + "\n"


ODD = [
    "/srv/Röntgen 2026",
    "/srv/it's: #1",
    '/srv/"quoted" {x}',
    "/srv/no",
    "/srv/0750",
    "/srv/documents",
    "/srv/clinical_db",
    "/srv/-",
    "/srv/%s" % ("x" * 200),
]


@pytest.mark.parametrize("path", ODD)
def test_offered_lines_are_valid_whatever_the_folder_is_called(path):
    *_, offered = surveyed(server1=facts(stores=[store("documents", path), store("mail", path)]))
    assert len(offered) == 1
    assert offered[0].reason == ""
    _, practice = read(add(TEXT, offered))
    assert practice.protect[offered[0].item].paths == [path]


def test_several_offers_fit_together():
    server = facts(
        databases=[database("postgresql", "billing"), database("postgresql", "clinic")],
        stores=[
            store("documents", "/srv/scans"),
            store("images", "/srv/scans/x"),
            store("images", "/srv/xray", dicom=True),
            store("spreadsheets", "/data/scans"),
        ],
    )
    desk = facts(stores=[store("mail", "/home/reception/Maildir"), store("documents", "/home/reception/Scans")])
    *_, offered = surveyed(server1=server, desk1=desk)
    assert [(each.host, each.item, each.reason) for each in offered] == [
        ("server1", "billing", ""),
        ("server1", "scans", ""),
        ("server1", "server1_scans", ""),
        ("server1", "xray", ""),
        ("desk1", "maildir", ""),
        ("desk1", "desk1_scans", ""),
    ]
    assert offered[0].protect == "protect: [clinical_db, documents, billing, scans, server1_scans, xray]"
    _, practice = read(add(TEXT, offered))
    again = survey.collect(practice, found(server1=server, desk1=desk), NOW)
    assert survey.offers(*read(add(TEXT, offered)), again) == []


def test_a_host_without_a_protect_list_gets_one():
    text = (
        TEXT.replace(", protect: [documents]}", "}")
        + "power: {ups1: {attached_to: nas1, driver: usbhid-ups, feeds: [nas1, desk1], runtime: 20m}}\n"
    )
    *_, offered = surveyed(text, desk1=facts(stores=[store("mail", "/home/x/Mail")]))
    assert offered[0].protect == "protect: [mail]"


def test_what_this_version_does_not_do_is_said_and_not_offered(monkeypatch):
    later = available.Later(("protect", "*", "database", "engine"), ("firebird",), "the engine")
    monkeypatch.setattr(available, "LATER", (later,))
    server = facts(databases=[database("firebird", path="/opt/pms/pms.fdb")])
    *_, offered = surveyed(server1=server)
    assert offered[0].reason == 'the engine "firebird" is not available in this version'
    monkeypatch.setattr(available, "LATER", ())
    *_, offered = surveyed(server1=server)
    assert offered[0].reason == ""
    assert offered[0].line == "pms: {database: {engine: firebird, path: /opt/pms/pms.fdb}}"


@pytest.mark.parametrize(
    ("host", "what", "reason"),
    [
        ("nas1", facts(stores=[store("documents", "/srv/share")]), "nas1 is a nas, which has no protect: list"),
        ("server1", facts(databases=[database("mariadb", port=3306)]), "describe them by name"),
        ("server1", facts(databases=[database("sqlite", folder="/opt/pms", count=9)]), "describe them by name"),
        ("server1", facts(stores=[store("documents", "/srv/a\nb")]), "several lines"),
    ],
)
def test_what_cannot_be_offered_says_why(host, what, reason):
    *_, offered = surveyed(**{host: what})
    assert len(offered) == 1
    assert reason in offered[0].reason
    assert offered[0].reason


def test_the_document_is_left_as_it_was():
    document, practice = read()
    before = copy.deepcopy(document.data)
    result = survey.collect(practice, found(server1=facts(stores=[store("mail", "/srv/mail")])), NOW)
    assert survey.offers(document, practice, result)
    assert document.data == before


def test_the_summary_says_it_in_words():
    server = facts(
        items={"clinical_db": size(20 * GIB, GIB), "documents": {**size(GIB), "missing": ["/srv/clinic/documents"]}},
        stores=[store("images", "/srv/xray", dicom=True)],
        clock_offset_s=-300.0,
        zone="Europe/Berlin",
        ups=[{"vendor": "APC", "product": "Back-UPS", "driver": "usbhid-ups"}],
        disks=[{"device": "/dev/disk/by-id/ata-X", "bytes": 2**40, "used_for": "nothing"}],
        filesystems=[{"mount": "/", "bytes": 2**40, "free": 2**39}],
        link_bits_per_s=10**9,
        notes=["3 files or folders could not be read"],
    )
    _, practice, result, offered = surveyed(server1=server, desk1={})
    text = "\n".join(survey.summary(practice, result, offered, []))
    for words in (
        "HS: 3 of 4 hosts looked at",
        "NOT LOOKED AT: desk1: not asked",
        "protected: clinical_db: 20GiB, 1GiB changed a day, 3 files",
        "MISSING: documents protects /srv/clinic/documents, which is not there",
        "CLOCK: 5 minutes behind the control node",
        "its zone is Europe/Berlin",
        "UPS on USB: APC Back-UPS, driver usbhid-ups",
        "not in the document; add below power",
        "disk /dev/disk/by-id/ata-X: 1TiB, used for nothing",
        "link: 1Gbit/s",
        "/: 512GiB free of 1TiB",
        "note: 3 files or folders could not be read",
        "NOT PROTECTED: server1: images (DICOM) (20 files, 1GiB) in /srv/xray",
        "    xray: {paths: [/srv/xray]}",
        "give server1 in hosts: protect: [clinical_db, documents, xray]",
        "NOT KNOWN: data to protect",
    ):
        assert words in text, words


def test_what_is_stored_is_read_back(tmp_path):
    assert survey.stored(tmp_path, "hs") is None
    *_, result, _ = surveyed()
    path = tmp_path / survey.FILE
    path.parent.mkdir()
    path.write_text(json.dumps(result))
    assert survey.stored(tmp_path, "hs") == result
    for text in ("{", "[]", json.dumps({**result, "practice": "other"}), json.dumps({**result, "format": 2})):
        path.write_text(text)
        with pytest.raises(survey.InvalidSurveyError, match=r"run playbooks/survey.yml again"):
            survey.stored(tmp_path, "hs")
