# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501  (the tables read across)
"""What no two practices may share, and how it is said."""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import re
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.holdfast.practice.plugins.plugin_utils import across, cli_validate, source
from hypothesis import given, settings, strategies

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = (REPOSITORY / "tests" / "unit" / "documents" / "small.txt").read_text()
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAI"
SECRET = "correct-horse-battery-staple-1234567890"


def practice(name, net, *edits):
    """Make a practice that shares nothing with others of another name and net."""
    text = EXAMPLE.replace("id: harbour-street", f"id: {name}").replace("198.18.0.", f"{net}.")
    text = re.sub(r"\b(nas1|server1|desk1|proof1)\b", rf"{name}-\1", text)
    text = text.replace("kind: nas\n", "kind: nas\n    netbios_name: NAS\n")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def vault(content, password):
    encrypted = VaultLib().encrypt(yaml.safe_dump(content), secret=VaultSecret(password.encode()), vault_id="x")
    return encrypted.decode()


@pytest.fixture
def fleet(tmp_path):
    """Write practices: {folder: {file: text}}; gives the root."""

    def write(folders):
        for folder, files in folders.items():
            for name, text in files.items():
                file = tmp_path / folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        return tmp_path

    return write


@pytest.fixture
def validate(capsys):
    def run(*arguments):
        parser = argparse.ArgumentParser()
        cli_validate.arguments(parser)
        code = cli_validate.run(parser.parse_args([str(argument) for argument in arguments]))
        return code, capsys.readouterr().out.splitlines()

    return run


def two(*edits, a_edits=()):
    return {
        "a": {"practice.yml": practice("first", "192.0.2", *a_edits)},
        "b": {"practice.yml": practice("second", "198.51.100", *edits)},
    }


def test_practices_that_share_nothing_are_good(fleet, validate):
    root = fleet(two())
    code, lines = validate(root)
    assert (code, len(lines)) == (0, 2)
    assert lines[1] == f"{root}/b/practice.yml: ok: second: 4 hosts, 3 items on 2 of them"


OFFSITE = 'copies:\n  onsite: {on: %s-nas1}\n  offsite: {%s}\n  removable: {on: %s-nas1, disks: {blue: {uuid: %s}, red: {uuid: 0AF1-%s}}}\nalerts: {heartbeat: "%s"}'


def copies(
    name,
    offsite="s3: {bucket: kept-%s, region: eu-north-1}",
    blue="1b4e28ba-2fa1-11d2-883f-0016d3cca4%s",
    ping="https://ping.example/%s",
):
    number = {"first": "01", "second": "02"}[name]
    parts = [part % number if "%s" in part else part for part in (offsite, blue, ping)]
    return (
        f"copies:\n  onsite: {{on: {name}-nas1}}",
        OFFSITE % (name, parts[0], name, parts[1], "00" + number, parts[2]),
    )


# the edit of the second practice and of the first, the path, what came, what is expected, what to write
SHARED = {
    "id": (("id: second", "id: first"), None, "practice.id", '"first" (string), also practice.id in', "an id of its own", "write another id"),
    "host name": (("  second-desk1: {kind", "  first-desk1: {kind"), None, "hosts.first-desk1", '"first-desk1" (string), also hosts.first-desk1 in', "a name that no host of another practice has", "write second-first-desk1"),
    "name of a restore host": (("  second-proof1:", "  first-proof1:"), None, "hosts.first-proof1", '"first-proof1" (string)', "a name that no host of another practice has", "write second-first-proof1"),
    "address": (("198.51.100.12", "192.0.2.12"), None, "hosts.second-server1.address", '"192.0.2.12" (string), also hosts.first-server1.address in', "an address of its own", "this practice's own machine"),
    "IPv6 address, written otherwise": (("198.51.100.12", '"2001:DB8:0::00c"'), ("192.0.2.11", '"2001:db8::c"'), "hosts.second-server1.address", '"2001:DB8:0::00c" (string), also hosts.first-nas1.address in', "an address of its own", "own machine"),
    "IPv4 in IPv6": (("198.51.100.12", '"::ffff:192.0.2.12"'), None, "hosts.second-server1.address", '"::ffff:192.0.2.12"', "an address of its own", "own machine"),
    "DNS name in other letters": (("198.51.100.12", "SRV.lan"), ("192.0.2.12", "srv.LAN"), "hosts.second-server1.address", '"SRV.lan" (string), also hosts.first-server1.address in', "an address of its own", "own machine"),
    "spare machine that is another's host": (("driver: nspawn, on: localhost", "driver: spare, on: 192.0.2.12"), None, "hosts.second-proof1.on", '"192.0.2.12" (string), also hosts.first-server1.address in', "an address of its own", "own machine"),
    "UPS": (("driver: dummy-ups", "driver: snmp-ups, port: 203.0.113.5"), ("driver: dummy-ups", 'driver: netxml-ups, port: "http://203.0.113.5:80/"'), "power.ups1.port", '"203.0.113.5" (string), also power.ups1.port in', "an address of its own", "this practice's own UPS"),
    "UPS that is another's host": (("driver: dummy-ups", "driver: snmp-ups, port: 192.0.2.13"), None, "power.ups1.port", "also hosts.first-desk1.address in", "an address of its own", "own UPS"),
    "bucket": (copies("second", "s3: {bucket: one, region: eu-north-1}"), copies("first", "s3: {bucket: one, region: us-east-1}"), "copies.offsite.s3.bucket", '"one" (string), also copies.offsite.s3.bucket in', "a bucket of its own", "make a bucket"),
    "bucket elsewhere": (copies("second", 's3: {bucket: one, region: x, endpoint: "https://S3.example:443/"}'), copies("first", 's3: {bucket: one, region: y, endpoint: "https://s3.example"}'), "copies.offsite.s3.bucket", '"one"', "a bucket of its own", "make a bucket"),
    "rest-server": (copies("second", 'rest: {url: "https://r.example:443/x/"}'), copies("first", 'rest: {url: "https://R.example/x"}'), "copies.offsite.rest.url", '"https://r.example:443/x/" (string), also', "a place of its own", "an account or a path"),
    "SFTP path": (copies("second", "sftp: {host: S.example, user: u, path: /srv/x/}"), copies("first", "sftp: {host: s.example, port: 22, user: u, path: /srv/x}"), "copies.offsite.sftp.path", '"/srv/x/" (string), also', "a place of its own", "an account or a path"),
    "disk": (copies("second", blue="1B4E28BA-2FA1-11D2-883F-0016D3CCA401"), copies("first"), "copies.removable.disks.blue.uuid", "also copies.removable.disks.blue.uuid in", "a disk of its own", "write the UUID"),
    "heartbeat": (copies("second", ping="https://ping.example/x"), copies("first", ping="https://ping.example/x"), "alerts.heartbeat", "also alerts.heartbeat in", "one's good day would hide the other's silence", "make one"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
def test_what_two_practices_share_is_said_at_the_later_one(fleet, validate, name):
    edit, first_edit, path, got, expected, fix = SHARED[name]
    root = fleet(two(edit, a_edits=[first_edit] if first_edit else ()))
    code, lines = validate(root)
    a, b = root / "a" / "practice.yml", root / "b" / "practice.yml"
    assert code == 3
    found = [line for line in lines if ", also " in line]
    assert len(found) == 1
    number = int(re.match(rf"{re.escape(str(b))}:(\d+): {re.escape(path)}: got ", found[0])[1])
    assert path.rsplit(".", 1)[-1] in b.read_text().splitlines()[number - 1]
    assert got in found[0]
    assert f" in {a}:" in found[0]
    assert f"; expected {expected}" in found[0] or expected in found[0].split("; expected ")[1]
    assert fix in found[0].rsplit("; ", 1)[1]
    assert re.fullmatch(r"\d+ mistakes? found; nothing was touched", lines[-1])


NOT_SHARED = {
    "one bucket name at two providers": (copies("second", 's3: {bucket: one, region: x, endpoint: "https://s3.example"}'), copies("first", "s3: {bucket: one, region: y}")),
    "two accounts of one server": (copies("second", "sftp: {host: s.example, user: u2, path: /srv/x}"), copies("first", "sftp: {host: s.example, user: u1, path: /srv/x}")),
    "two paths of one server": (copies("second", 'rest: {url: "https://r.example/2"}'), copies("first", 'rest: {url: "https://r.example/1"}')),
    "two UPSs on cables": (("driver: dummy-ups", "driver: usbhid-ups, port: auto"), ("driver: dummy-ups", "driver: usbhid-ups, port: auto")),
    "two files of simulated UPSs": (("driver: dummy-ups", "driver: dummy-ups, port: x.dev"), ("driver: dummy-ups", "driver: dummy-ups, port: x.dev")),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_SHARED)
def test_what_only_looks_shared_is_let_through(fleet, validate, name):
    edit, first_edit = NOT_SHARED[name]
    _, lines = validate(fleet(two(edit, a_edits=[first_edit])))
    assert not [line for line in lines if ", also " in line]


def test_all_is_said_at_once_in_order_with_the_documents_own_mistakes(fleet, validate):
    wrong = practice("second", "192.0.2").replace("retention:", "retenton:")
    third = practice("third", "192.0.2", ("third-desk1: {kind", "first-desk1: {kind"))
    root = fleet({**two(), "b": {"practice.yml": wrong}, "c": {"practice.yml": third}})
    code, lines = validate(root)
    assert code == 3
    assert [re.match(r".*?/(.)/practice.yml:(\d+)", line).groups() for line in lines[1:-1]] == [
        *(("b", "19"), ("b", "21"), ("b", "22"), ("b", "43")),
        *(("c", "19"), ("c", "21"), ("c", "22"), ("c", "22"), ("c", "47")),
    ]
    assert 'unknown key "retenton"' in lines[4]
    # the third is told of the first as well, not of the one in between
    assert all("/a/practice.yml:" in line for line in lines[5:9] if ", also " in line)
    assert lines[0].startswith(f"{root}/a/practice.yml: ok: first")


def test_a_document_that_cannot_be_read_does_not_stop_the_others(fleet, validate):
    folders = {
        **two(("198.51.100.12", "192.0.2.12")),
        "0": {"practice.yml": "- a list\n"},
        "1": {"practice.yml": "{{ x }}"},
    }
    code, lines = validate(fleet(folders))
    assert code == 3
    assert len([line for line in lines if ", also " in line]) == 1


def test_wrong_values_are_not_compared(fleet, validate):
    edits = ("198.51.100.12", '"{{ server }}"'), ("198.51.100.13", "10.0.0.256")
    first = ("192.0.2.12", '"{{ server }}"'), ("192.0.2.13", "10.0.0.256")
    _, lines = validate(fleet(two(*edits, a_edits=first)))
    assert not [line for line in lines if ", also " in line]
    assert len(lines) == 5


def test_one_document_under_two_names_is_one(fleet, validate):
    root = fleet(two())
    (root / "link").symlink_to(root / "a", target_is_directory=True)
    code, lines = validate(root, root / "a", root / "a" / "practice.yml", f"{root}/b/../a")
    assert (code, len(lines)) == (0, 2)


def test_several_folders_of_practices_are_compared(fleet, validate):
    root = fleet({f"{name}/x": files for name, files in two(("198.51.100.12", "192.0.2.12")).items()})
    code, lines = validate(root / "b", root / "a")
    assert code == 3
    assert f"{root}/a/x/practice.yml:" in lines[1]
    assert f"also hosts.second-server1.address in {root}/b/x/practice.yml:" in lines[1]


# --- known_hosts ----------------------------------------------------------------------------------------------------


def hashed_name(host):
    salt = b"0123456789abcdefghij"
    digest = hmac.digest(salt, host.encode(), "sha1")
    return "|1|" + base64.b64encode(salt).decode() + "|" + base64.b64encode(digest).decode()


def test_one_machine_in_two_known_hosts_is_said_once(fleet, validate):
    folders = two()
    folders["a"]["known_hosts"] = f"192.0.2.12 ssh-ed25519 {KEY}A\n192.0.2.12 ssh-rsa {KEY}R\n"
    folders["b"]["known_hosts"] = (
        f"# a comment that is long enough\n\n198.51.100.11 ssh-ed25519 {KEY}B\n"
        f"198.51.100.12 ssh-rsa {KEY}R\n198.51.100.12 ssh-ed25519 {KEY}A comment\nnonsense\n"
    )
    root = fleet(folders)
    code, lines = validate(root)
    assert code == 3
    assert lines[1] == (
        f"{root}/b/known_hosts:4: 198.51.100.12: got a key (ssh-rsa), also 192.0.2.12 in {root}/a/known_hosts:2; expected a machine "
        "of one practice only; take it out of one of the two, or give the new machine new keys"
    )
    assert len(lines) == 3


def test_authorities_and_the_offsite_provider_may_be_known_to_several(fleet, validate):
    sftp = "sftp: {host: s.example, user: u%s, path: /srv/x}"
    folders = two(copies("second", sftp), a_edits=[copies("first", sftp)])
    for name, host in (("a", "s.example"), ("b", "[s.example]:22")):
        hashed = hashed_name("s.example" if name == "a" else "[s.example]:22")
        folders[name]["known_hosts"] = (
            f"{host} ssh-ed25519 {KEY}S\n{hashed} ssh-rsa {KEY}T\n@cert-authority * ssh-ed25519 {KEY}C\n"
        )
    _, lines = validate(fleet(folders))
    assert not [line for line in lines if "known_hosts" in line]
    folders["b"]["known_hosts"] += f"{hashed_name('elsewhere')} ssh-ed25519 {KEY}S\n"
    folders["a"]["known_hosts"] = f"192.0.2.12 ssh-ed25519 {KEY}S\n"
    _, lines = validate(fleet(folders))
    assert len([line for line in lines if "/b/known_hosts:4: a hashed name: got a key" in line]) == 1


# --- secrets --------------------------------------------------------------------------------------------------------


def secrets_of(name, **more):
    return {
        "vault_practice_id": "the same text everywhere, and no secret",
        "vault_rest_passwords": {f"{name}-server1": f"{name}-rest-secret-000000000000"},
        "smtp": {"user": "the-same-user-everywhere", "host": "mail.example"},
        **more,
    }


def with_vaults(a, b, passwords=("one", "two"), written=True):
    folders = two()
    for folder, content, password in (("a", a, passwords[0]), ("b", b, passwords[1])):
        folders[folder]["group_vars/all/vault.yml"] = vault(content, password)
        folders[folder][".vault-password" if written else "password"] = password + "\n"
    return folders


def test_a_shared_secret_is_named_and_not_shown(fleet, validate):
    a = secrets_of("first", vault_nut_passwords={"first-nas1": SECRET})
    b = secrets_of("second", vault_repository_passwords={"second-server1": f" {SECRET}\n"})
    root = fleet(with_vaults(a, b))
    code, lines = validate(root)
    assert code == 3
    assert lines[1] == (
        f"{root}/b/group_vars/all/vault.yml: vault_repository_passwords[second-server1]: got a secret (hidden), also "
        f"vault_nut_passwords[first-nas1] in {root}/a/group_vars/all/vault.yml; expected a secret of its own: one leak would "
        "open both; delete it with: ansible-vault edit, and make a new one with: bin/holdfast secrets"
    )
    assert len(lines) == 3
    assert not [part for part in (SECRET, SECRET[:8], SECRET[-8:]) if part in str(lines)]


def test_secrets_of_ones_own_are_good_and_what_is_none_is_not_compared(fleet, validate):
    code, lines = validate(fleet(with_vaults(secrets_of("first"), secrets_of("second"))))
    assert (code, len(lines)) == (0, 2)


@pytest.mark.parametrize(
    "more",
    [
        {"smtp_password": SECRET},
        {"mail": [{"relay": {"token": SECRET}}]},
        {"anything": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----"},
    ],
)
def test_other_secrets_in_a_vault_are_compared_too(fleet, validate, more):
    code, lines = validate(fleet(with_vaults(secrets_of("first", **more), secrets_of("second", **more))))
    assert code == 3
    assert "got a secret (hidden), also" in lines[1]
    assert SECRET not in str(lines)


def test_vaults_are_opened_with_the_passwords_that_are_given(fleet, validate):
    shared = {"vault_rest_passwords": {"x": SECRET}}
    root = fleet(with_vaults(shared, shared, written=False))
    ids = [f"--vault-id=first@{root}/a/password", f"--vault-id=second@{root}/b/password"]
    assert validate(root, *ids)[0] == 3
    assert validate(root, ids[0], "--vault-password-file", root / "b" / "password")[0] == 3


def test_a_vault_that_cannot_be_opened_is_said(fleet, validate):
    shared = {"vault_rest_passwords": {"x": SECRET}}
    root = fleet(with_vaults(shared, shared, written=False))
    code, lines = validate(root)
    assert code == 0
    fix = "give --vault-id ID@FILE or --vault-password-file FILE"
    assert lines[2:] == [f"note: no vault password for {root}/a, {root}/b: secrets there were not compared; {fix}"]
    code, lines = validate(root, "--vault-password-file", root / "a" / "password")
    assert code == 0
    assert len(lines) == 3
    assert lines[2].startswith(
        f"note: {root}/b/group_vars/all/vault.yml: it cannot be decrypted with this vault password"
    )
    assert lines[2].endswith("; its secrets were not compared")
    code, lines = validate(root, f"--vault-id=nobody@{root}/a/password", "--vault-password-file", root / "none")
    assert code == 0
    assert "note: --vault-id nobody: no practice with a vault has this id" in lines
    assert len([line for line in lines if line.startswith("note: ") and "not compared" in line]) == 2


@pytest.mark.parametrize("given", ["x", "@file", "x@", "x@prompt"])
def test_a_vault_id_without_a_file_is_refused(validate, given, capsys):
    assert validate("/nowhere", "--vault-id", given)[0] == 3


def test_one_practice_alone_needs_no_vault(fleet, validate):
    root = fleet(with_vaults({}, {}, written=False))
    assert validate(root / "a") == (0, [f"{root}/a/practice.yml: ok: first: 4 hosts, 3 items on 2 of them"])


def test_hashes_are_of_one_run_only():
    one, other = across.Neighbours(), across.Neighbours()
    assert one.hash(SECRET) == one.hash(SECRET + "\n")
    assert one.hash(SECRET) != other.hash(SECRET)
    assert SECRET not in repr(one)
    assert one.secret.hex() not in repr(one)
    assert repr(one.secret) not in repr(one)


def test_one_private_key_for_two_practices_is_a_note(fleet, validate):
    folders = two()
    folders["a"]["ssh_key"] = folders["b"]["ssh_key"] = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n"
    root = fleet(folders)
    code, lines = validate(root)
    assert code == 0
    said = f"the same private key as access.key in {root}/a/practice.yml:13: whoever has it has both"
    assert lines[2:] == [f"note: {root}/b/practice.yml:13: access.key: {said}"]


def test_files_that_cannot_be_read_are_said(fleet, validate):
    root = fleet(two())
    (root / "b" / "known_hosts").mkdir()
    code, lines = validate(root)
    assert code == 0
    assert lines[2:] == [f"note: {root}/b/known_hosts: Is a directory; it was not compared"]


# --- what was measured ----------------------------------------------------------------------------------------------


def test_a_plan_is_judged_by_what_was_measured(fleet, validate):
    pool = {"pool": {"bytes": 2**30, "free": 2**29}}
    found = {"format": 1, "practice": "second", "items": {"documents": {"bytes": 2**40, "changed_bytes_per_day": 0}}}
    folders = two()
    folders["b"]["results/survey.json"] = json.dumps({**found, "hosts": {"second-nas1": pool}})
    root = fleet(folders)
    code, lines = validate(root)
    assert code == 3
    assert [line for line in lines if line.startswith(f"{root}/b/practice.yml:") and "GiB" in line]
    (root / "b" / "results" / "survey.json").write_text(json.dumps({**found, "practice": "first"}))
    code, lines = validate(root)
    assert code == 0
    assert (
        len([line for line in lines if line.startswith(f"note: {root}/b/results/survey.json: not a survey of second")])
        == 1
    )


# --- many -----------------------------------------------------------------------------------------------------------


def test_comparing_grows_with_the_number_of_practices_and_not_faster():
    """Counted, not timed: each thing is looked up once, and kept once."""
    neighbours, things = across.Neighbours(), 0
    for number in range(300):
        net = f"10.{number // 250}.{number % 250}"
        document, problems = source.parse(practice(f"p{number}", net).encode(), "practice.yml")
        assert not problems
        of_one = list(across.of_document(document))
        things += len(of_one)
        neighbours.begin()
        assert neighbours.compare(of_one) == []
    assert things == 300 * 8
    assert len(neighbours.first) == things
    document, _ = source.parse(practice("p7", "10.0.7").encode(), "practice.yml")
    neighbours.begin()
    assert len(neighbours.compare(across.of_document(document))) == 8


@pytest.mark.parametrize(
    ("ups", "address"),
    [
        ({"driver": "snmp-ups", "port": "ups.lan"}, "ups.lan"),
        ({"driver": "snmp-ups", "port": "UPS.lan:161"}, "ups.lan"),
        ({"driver": "snmp-ups", "port": "2001:DB8::5"}, "2001:db8::5"),
        ({"driver": "snmp-ups", "port": "[2001:db8::5]:161"}, "2001:db8::5"),
        ({"driver": "netxml-ups", "port": "https://192.0.2.5/x"}, "192.0.2.5"),
        ({"driver": "apc_modbus", "port": "192.0.2.5:502"}, "192.0.2.5"),
        ({"driver": "usbhid-ups", "port": "auto"}, ""),
        ({"driver": "apcsmart", "port": "/dev/ttyS0"}, ""),
        ({"driver": "dummy-ups", "port": "ups1.dev"}, ""),
        ({"driver": "snmp-ups", "port": 5}, ""),
        ({}, ""),
    ],
)
def test_a_ups_has_an_address_or_a_cable(ups, address):
    assert across.ups_address(ups) == address


# --- documents that are wrong in places -----------------------------------------------------------------------------

WRONG = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(max_size=20),
    lambda inner: (
        strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
FULL = practice("full", "192.0.2", tuple(part.replace("first", "full") for part in copies("first")))
PLACES = sorted(path for path in source.parse(FULL.encode(), "practice.yml")[0].value_marks if path)


@settings(max_examples=300, deadline=None, database=None)
@given(strategies.sampled_from(PLACES), WRONG)
def test_whatever_a_document_holds_the_rest_is_compared(place, value):
    document, _ = source.parse(FULL.encode(), "practice.yml")
    here = document.data
    for part in place[:-1]:
        here = here[part]
    here[place[-1]] = value
    neighbours = across.Neighbours()
    neighbours.begin()
    good, _ = source.parse(FULL.encode(), "practice.yml")
    neighbours.compare(across.of_document(good))
    neighbours.begin()
    found = {problem.path for problem in neighbours.compare(across.of_document(document))}
    if place[0] != "practice":
        assert "practice.id" in found
    if place[0] not in ("hosts", "practice"):
        assert {"hosts.full-nas1", "hosts.full-server1.address"} <= found
    assert all("\n" not in path for path in found)
