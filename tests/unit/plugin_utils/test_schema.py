# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501  (the tables read across)
"""The JSON Schema for editors: current, true to the model, and of use."""

from __future__ import annotations

import json
import typing
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import (
    available,
    check,
    cli_schema,
    leaves,
    model,
    schema,
    source,
)
from hypothesis import given, settings, strategies
from pydantic import BaseModel, TypeAdapter, ValidationError

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "inventories" / "harbour-street" / "practice.yml"
SCHEMA = schema.build()
EDITOR = jsonschema.Draft202012Validator(SCHEMA)

# Uses what the example does not
MORE = """
practice: {id: weit-weg, name: "Praxis Dr. Müller & Söhne", country: "NO", timezone: Europe/Oslo, location: [59.9, 10], data_countries: ["NO", "SE"]}
contacts:
  backup_owner: {name: Eva Müller, email: eva@praxis.example, phone: "+47 22 55 01 00"}
  it_provider: {name: IT, email: it@it.example, agreement: {reference: "A 7", reviewed: "2026-07-01", until: "2027-06-30"}}
hosts:
  nas1: {kind: nas, address: "2001:db8::11", pool: {profile: single, devices: [/dev/disk/by-id/x]}, netbios_name: NAS-1, min_supplies: 2}
  srv1: {kind: server, address: fe80::12%eth0, os: windows, winrm: {}, protect: [pms], quota: 200GiB, stop_time: 5m}
  late: {kind: standby, address: srv2.praxis.example, ssh_port: 2222}
  rest: {kind: restore_host, space: 500GiB}
protect:
  pms: {database: {engine: sqlite, path: 'C:\\PMS\\Röntgen 2026\\pms.db', version: "3.46"}, every: 6h, time_limit: 2h, size: 2TiB, min_size: 1GiB}
  mail: {paths: ['\\\\srv1\\mail'], exclude: ["*.tmp"], days: mon-fri, at: "21:30", class: sensitive, probes: {one: "WITH x AS (select 1) select * from x"}}
copies:
  onsite: {on: nas1}
  offsite: {s3: {bucket: weit-weg.kopie, region: eu-north-1, endpoint: "https://[2001:db8::1]:9000/x", object_lock: 30d}, window: "22:00-05:30", limit_up: 10Mbit/s}
  removable: {on: nas1, disks: {blue: {uuid: 0AF1-22BC}, red: {uuid: 1b4e28ba-2fa1-11d2-883f-0016d3cca427}}, max_gap: 8d}
  standby: {on: late}
  archive: {on: nas1}
line: {up: 20Mbit/s, down: 100Mbit/s, monthly: 500GiB}
maintenance: {prune: {days: sun, window: "01:30-03:00"}}
power: {ups1: {attached_to: nas1, driver: snmp-ups, port: ups1.lan, feeds: [nas1], runtime: 10m, hostsync: 90s, settings: {mibs: ietf}}}
alerts: {mail: {relay: mail.example, sender: a@b.example, to: [c@d.example]}, heartbeat: "https://ping.example/abc"}
retired: {old1: {date: "2026-01-31"}}
"""


def data_of(text):
    document, problems = source.parse(text.encode(), "practice.yml")
    assert not problems
    return document.data


def changed(path, value):
    data = deepcopy(data_of(EXAMPLE.read_text()))
    here = data
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    return data


def test_the_shipped_schema_is_current():
    assert cli_schema.SHIPPED.read_text("utf-8") == schema.render(), (
        "run: bin/holdfast schema > docs/practice.schema.json"
    )


def test_it_is_a_schema_of_its_dialect_and_the_same_each_time():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema.render() == schema.render()
    assert json.loads(schema.render()) == SCHEMA


@pytest.mark.parametrize("text", [EXAMPLE.read_text(), MORE], ids=["example", "more"])
def test_what_the_model_takes_the_schema_takes(text):
    data = data_of(text)
    model.Practice.model_validate(data)
    assert [error.message for error in EDITOR.iter_errors(data)] == []


WRONG = {
    "unknown key": (("retenton",), {}),
    "unknown key deep inside": (("protect", "documents", "must_hav"), ["/srv/x"]),
    "key of another kind of host": (("hosts", "desk1", "pool"), {"profile": "single", "devices": ["/dev/x"]}),
    "list for a text": (("practice", "name"), ["Harbour Street"]),
    "text for a list": (("hosts", "desk1", "protect"), "desk_files"),
    "number for a text": (("objectives", "rpo"), 24),
    "text for a number": (("protect", "documents", "min_files"), "3"),
    "wrong word": (("protect", "documents", "class"), "critcal"),
    "wrong word among others with null": (("protect", "documents", "every"), "5h"),
    "unknown engine": (("protect", "clinical_db", "database", "engine"), "postgress"),
    "unknown kind": (("hosts", "desk1", "kind"), "workstaton"),
    "22:00 without quotes": (("protect", "documents", "at"), 1320),
    "NO without quotes": (("practice", "country"), False),
    "a date without quotes is no text": (("contacts", "it_provider", "agreement"), {"reference": "x", "reviewed": 20260701}),
    "time that no clock has": (("protect", "documents", "at"), "24:00"),
    "name with a shell in it": (("hosts", "srv1; reboot"), {"kind": "server", "address": "192.0.2.1"}),
    "reserved name": (("hosts", "nas"), {"kind": "server", "address": "192.0.2.1"}),
    "size without unit": (("hosts", "server1", "quota"), "500"),
    "port out of range": (("hosts", "server1", "ssh_port"), 70000),
    "true is no port": (("hosts", "server1", "ssh_port"), True),
    "the same twice": (("hosts", "server1", "protect"), ["documents", "documents"]),
    "empty list": (("hosts", "server1", "protect"), []),
    "empty mapping": (("prove",), {}),
    "place that no map has": (("practice", "location"), [151.21, -33.86]),
    "place with three numbers": (("practice", "location"), [1, 2, 3]),
    "nothing where something must be": (("copies", "onsite"), None),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_typical_mistakes_are_refused_by_both(name):
    data = changed(*WRONG[name])
    assert not EDITOR.is_valid(data)
    with pytest.raises(ValidationError):
        model.Practice.model_validate(data)


@pytest.mark.parametrize("path", ["practice", "copies", "hosts", "protect", "contacts"])
def test_what_must_be_there_is_asked_for(path):
    data = data_of(EXAMPLE.read_text())
    del data[path]
    assert [error.validator for error in EDITOR.iter_errors(data)] == ["required"]


# Values of all kinds, each tried on each leaf
POOL = [
    *("harbour-street", "nas", "a", "-a", "a-", "a_b", "SRV1", "1" * 63, "1" * 64, "x" * 256, "x y", " ", "\t", "", "a\nb", "$(id)", "Müller"),
    *("Australia/Perth", "America/Argentina/Ushuaia", "Etc/GMT+10", "EST", "Australia/Nowhere", "Europe/"),
    *("00:00", "23:59", "24:00", "8:00", "8pm", "-1:00", "22:00-05:30", "08:00-18:30", "08:00-08:00", "08:00-24:00", "08:00"),
    *("nspawn", "spare", "vm", "acme.proofs.vm", "acme.vm", "Acme.proofs.vm"),
    *("mon", "sun", "mon-fri", "fri-mon", "mon-mon", "mon-tue-wed", "Mon", "monday"),
    *("2026-07-01", "2026-02-31", "0000-01-01", "26-07-01", "31/12/26"),
    *("AU", "au", "AUS", "a@b.example", "a@b", "a b@c.example", "@b.example", "x" * 250 + "@b.example"),
    *("10.0.0.1", "10.0.0.256", "010.0.0.5", "10.0.0.5/24", "127.0.0.1", "0.0.0.0", "224.0.0.1", "1.2.3", "srv1.lan", "srv_1.lan", "-srv.lan", "2001:db8::1", "[::1]:8000", "::1", "fe80::1", "fe80::1%eth0", "host:22", "1:2", "a.b."),
    *("/srv/x", "/srv/../etc", "/", "//", "/proc/1", "/srv/holdfast/x", "srv/x", "C:\\Users\\Dr \"Bob\" Müller\\Röntgen 2026", "C:", "C:\\", "C:/x", "\\\\srv1\\share\\x", "\\\\srv1", "\\x", "~/x", "../x", "a/../b", "..", "a..b"),
    *("/dev/sda", "/dev/disk/by-id/ata-X:1", "/dev/../etc", "/dev/..a", "/dev/", "dev/sda"),
    *("24h", "0h", "00h", "10m", "15s", "35d", "6mo", "7y", "2w", "1234567h", "1.5h", "h", "24 h"),
    *("52:54:00:12:34:56", "52-54-00-12-34-56", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"),
    *("200GiB", "0GiB", "1TB", "1TiB", "500", "1e3", "-5GiB", "20Mbit/s", "0Mbit/s", "20Mbps", "17", "10.11", "1.2.3.4.5", "v1"),
    *("https://x.example", "http://x.example", "https://u:p@x.example", "https://[2001:db8::1]:8000/x", "https://2001:db8::1/", "https://x.example:70000", "https://x.example:1/a b", "ftp://x", "https://127.0.0.1"),
    *("0af1-22bc", "0AF1-22BC", "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "1b4e28ba2fa111d2883f0016d3cca427"),
    *("age1" + "q" * 58, "age1" + "b" * 58, "AGE-SECRET-KEY-1QQ", "+61 2 5550 1234", "12", "(02) 1"),
    *("select 1", "SELECT 1;", "select 1; drop table x", "with a as (select 1) select * from a", "  select 1", "delete from x", "selection", "select\n1"),
    *("orthanc.service", "pms@1.socket", "pms.timer", "../x.service", "http://localhost:8042/x/{1}", "http://127.0.0.1.example/", "http://[::1]/a b"),
    *("postgresql", "postgres", "usbhid-ups", "usbhid", "daily", "weekly", "auto", "say \"x\"", "#", "a#b"),
    *(1, 0, 22, 65535, 65536, -1, 1.5, True, None, [], {}, [1, 2], [91, 0], [0, 181], [-33.86, 151.21], ["1", "2"], [1, 2, 3], [True, 1]),
]  # fmt: skip
# What only the model can refuse: it needs a calendar, a time zone database, or to compare two halves of the value
ONLY_THE_MODEL = {
    "Mac": {"ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"},
    "Zone": {"Australia/Nowhere"},
    "Window": {"22:00-05:30", "08:00-08:00"},
    "NightWindow": {"08:00-08:00"},
    "Date": {"2026-02-31", "0000-01-01"},
    "Address": {"52:54:00:12:34:56", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00", "127.0.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1"},
    "AbsolutePath": {"/srv/../etc", "/", "//", "/proc/1", "/srv/holdfast/x", "/dev/sda", "/dev/disk/by-id/ata-X:1", "/dev/../etc", "/dev/..a", "/dev/", "C:\\", "\\\\srv1"},
    "Url": {"https://x.example:70000", "https://127.0.0.1"},
    "Sql": {"select 1; drop table x"},
}  # fmt: skip
LEAVES = {
    name: leaf
    for name, leaf in vars(leaves).items()
    if typing.get_origin(leaf) is typing.Annotated and not name.startswith("_")
}


def takes(validate, value):
    try:
        validate(value)
    except (ValidationError, jsonschema.ValidationError):
        return False
    return True


@pytest.mark.parametrize("name", LEAVES)
def test_patterns_agree_with_the_model(name):
    adapter = TypeAdapter(LEAVES[name], config={"strict": True})
    editor = jsonschema.Draft202012Validator(adapter.json_schema())
    by_model = {repr(value) for value in POOL if takes(adapter.validate_python, value)}
    by_schema = {repr(value) for value in POOL if takes(editor.validate, value)}
    assert by_model, f"add a good {name} to the pool"
    assert by_model - by_schema == set()
    assert by_schema - by_model == {repr(value) for value in ONLY_THE_MODEL.get(name, ())}


def places(data, path=()):
    yield path
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from places(value, (*path, key))


DOCUMENTS = [data_of(EXAMPLE.read_text()), data_of(MORE)]
PLACES = [(number, path) for number, data in enumerate(DOCUMENTS) for path in places(data) if path]
VALUES = strategies.sampled_from(POOL) | strategies.recursive(
    strategies.sampled_from(POOL),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(
            strategies.sampled_from([each for each in POOL if isinstance(each, str)]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, database=None)
@given(strategies.sampled_from(PLACES), VALUES, strategies.booleans())
def test_the_schema_never_refuses_what_the_model_takes(place, value, remove):
    number, path = place
    data = deepcopy(DOCUMENTS[number])
    here = data
    for part in path[:-1]:
        here = here[part]
    if remove:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    if takes(model.Practice.model_validate, data):
        assert [error.message for error in EDITOR.iter_errors(data)] == []


def models(kind, found):
    found.setdefault(kind.__name__, kind)
    for info in kind.model_fields.values():
        for each in reachable(info.annotation):
            if each.__name__ not in found:
                models(each, found)
    return found


def reachable(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from reachable(inner)


def test_every_field_is_described_and_no_unknown_key_passes():
    parts = models(model.Practice, {})
    assert set(SCHEMA["$defs"]) == set(parts) - {"Practice"}
    for name, kind in parts.items():
        here = SCHEMA if name == "Practice" else SCHEMA["$defs"][name]
        keys = {info.alias or key: info for key, info in kind.model_fields.items()}
        assert set(here["properties"]) == set(keys)
        assert here["additionalProperties"] is False
        assert set(here.get("required", [])) == {key for key, info in keys.items() if info.is_required()}
        for key, info in keys.items():
            if info.description:
                assert here["properties"][key]["description"].startswith(info.description)


def test_defaults_are_those_of_the_model():
    assert SCHEMA["$defs"]["Objectives"]["properties"]["rto"]["default"] == "4h"
    assert SCHEMA["properties"]["retention"]["default"]["within"]["daily"] == "35d"
    assert '"default": null' not in schema.render()


def test_what_is_not_available_is_marked(monkeypatch):
    later = (
        available.Later(("copies", "offsite")),
        available.Later(("hosts", "*", "os"), ("windows",)),
        available.Later(("hosts", "*", "kind"), ("standby",)),
    )
    monkeypatch.setattr(schema, "LATER", later)
    built = schema.build()
    copies = built["$defs"]["Copies"]["properties"]
    assert copies["offsite"]["description"].endswith("; not available in this version")
    assert "not available" not in copies["onsite"]["description"]
    parts = built["$defs"]
    for kind in ("Server", "Workstation"):
        assert (
            parts[kind]["properties"]["os"]["description"] == "linux or windows; not available in this version: windows"
        )
    assert parts["Standby"]["properties"]["kind"]["description"] == "not available in this version: standby"
    assert "description" not in parts["Nas"]["properties"]["kind"]
    monkeypatch.setattr(schema, "LATER", ())
    assert "not available" not in json.dumps(schema.build())


def test_every_part_that_is_not_available_is_found():
    for later in available.LATER:
        found = list(schema._places(SCHEMA, SCHEMA, later.path))
        assert any("not available in this version" in each.get("description", "") for each in found), later.path


def test_check_says_when_the_shipped_copy_is_old(tmp_path, monkeypatch, capsys):
    options = type("Options", (), {"check": True})
    old = tmp_path / "old.json"
    old.write_text(schema.render())
    monkeypatch.setattr(cli_schema, "SHIPPED", old)
    assert cli_schema.run(options) == 0
    old.write_text("{}")
    assert cli_schema.run(options) == 1
    assert "not current" in capsys.readouterr().out
    monkeypatch.setattr(cli_schema, "SHIPPED", tmp_path / "none.json")
    assert cli_schema.run(options) == 3


def test_a_document_that_validate_takes_is_taken(tmp_path):
    document, problems = source.read(EXAMPLE)
    assert check.check(document, problems)[1] == []
    assert EDITOR.is_valid(document.data)
