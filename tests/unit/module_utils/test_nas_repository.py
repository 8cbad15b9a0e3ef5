# SPDX-License-Identifier: Apache-2.0
"""Accounts, certificates, unit and folders of the repository service, decided without a host."""

from __future__ import annotations

import datetime
import re
import subprocess

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import nas_repository as repository
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Change
from ansible_collections.holdfast.practice.plugins.module_utils.nas_repository import (
    Account,
    FoundFolder,
    RepositoryError,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HASH = "$2b$12$" + "a" * 53
FOLDER = "/srv/holdfast/repositories"
SERVER = Account("server1", HASH, 1024**3)
DESK = Account("desk1", HASH)


def made(first, last):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nas1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), first, last)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    return builder.sign(key, hashes.SHA256()).public_bytes(pem).decode(), secret


def at(year, month=1, day=1):
    return datetime.datetime(year, month, day, 12, 30, 15, tzinfo=datetime.UTC)


# dates before 2050 and after are written in two different forms
@pytest.mark.parametrize(
    ("first", "last"),
    [(at(1999), at(2030, 12, 31)), (at(2026), at(2049, 12, 31)), (at(2026), at(2050)), (at(2051), at(2060))],
)
def test_validity_is_read_as_it_was_written(first, last):
    found = repository.parse_certificate(made(first, last)[0])
    assert (found.not_before, found.not_after) == (int(first.timestamp()), int(last.timestamp()))


@pytest.mark.parametrize("pem", ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_refused(pem):
    with pytest.raises(RepositoryError, match="not a certificate in PEM form"):
        repository.parse_certificate(pem)


def test_a_certificate_cut_short_is_refused():
    pem = made(at(2026), at(2030))[0].splitlines()
    with pytest.raises(RepositoryError):
        repository.parse_certificate("\n".join([pem[0], *pem[1:3], pem[-1]]))


def test_certificates_out_of_their_time_are_refused_by_date():
    found = repository.parse_certificate(made(at(2026), at(2027, 3, 4))[0])
    repository.check_certificate(found, at(2026, 6).timestamp())
    with pytest.raises(RepositoryError, match="expired on 2027-03-04"):
        repository.check_certificate(found, at(2027, 3, 5).timestamp())
    with pytest.raises(RepositoryError, match="not valid before 2026-01-01"):
        repository.check_certificate(found, at(2025).timestamp())
    assert found.days_left(at(2027, 3, 1).timestamp()) == 3
    assert found.days_left(at(2027, 3, 5).timestamp()) == -1


def test_a_key_must_be_the_certificates_own():
    (one, its_key), (_two, other_key) = made(at(2026), at(2030)), made(at(2026), at(2030))
    repository.check_pair(one, its_key)
    for wrong in (other_key, "", "no key"):
        with pytest.raises(RepositoryError) as error:
            repository.check_pair(one, wrong)
        assert all(line not in str(error.value) for line in other_key.splitlines())


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("200GiB", 200 * 1024**3),
        ("1.5T", 1536 * 1024**3),
        ("500 MB", 500 * 10**6),
        ("2g", 2 * 1024**3),
        ("1048576", 1048576),
        ("3tib", 3 * 1024**4),
    ],
)
def test_sizes(text, size):
    assert repository.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-1GiB", "0", "512KiB", "1GiBs", "1 2G", "1e9"])
def test_odd_sizes_are_refused(text):
    with pytest.raises(RepositoryError, match="quota"):
        repository.parse_size(text)


@pytest.mark.parametrize("name", ["", "Server1", "a/b", "..", ".hidden", "a:b", "a b", "#x", "a\nb", "x" * 64, "dé"])
def test_odd_names_are_refused(name):
    with pytest.raises(RepositoryError, match="account"):
        repository.accounts_of([{"name": name, "password_hash": HASH}])


@pytest.mark.parametrize("wrong", ["hunter22", "", "$apr1$x$y", HASH + "a", HASH + "\n", "{SHA}abc", "$2b$12$short"])
def test_only_bcrypt_is_taken_and_never_printed(wrong):
    with pytest.raises(RepositoryError) as error:
        repository.accounts_of([{"name": "server1", "password_hash": wrong}])
    assert "server1" in str(error.value)
    assert not wrong or wrong not in str(error.value)


def test_a_name_may_come_once_only():
    row = {"name": "server1", "password_hash": HASH}
    with pytest.raises(RepositoryError, match="twice"):
        repository.accounts_of([row, row])


def test_an_account_does_not_show_its_hash():
    assert HASH not in repr(SERVER)


def test_the_password_file_does_not_depend_on_the_order():
    assert repository.render_htpasswd([SERVER, DESK]) == repository.render_htpasswd([DESK, SERVER])
    assert repository.render_htpasswd([DESK]) == f"desk1:{HASH}\n".encode()


def test_the_unit_serves_append_only_and_needs_the_pool():
    text = repository.render_unit("/srv/holdfast", "198.18.0.11:8000")
    for words in (
        "--append-only",
        "--private-repos",
        "--tls ",
        f"--htpasswd-file {repository.HTPASSWD}",
        "--listen 198.18.0.11:8000",
        "RequiresMountsFor=/srv/holdfast",
        "AssertPathIsMountPoint=/srv/holdfast",
    ):
        assert words in text
    assert "--no-verify-upload" not in text
    assert "--no-auth" not in text


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ('198.18.0.12 - - [x] "DELETE /server1/config HTTP/1.1" 403 10 "" ""', True),
        ('198.18.0.12 - - [x] "GET /desk1/config HTTP/1.1" 401 13 "" ""', True),
        ('198.18.0.12 - - [x] "POST /server1/data/aa HTTP/2.0" 507 10 "" ""', True),
        ('198.18.0.12 - - [x] "POST /server1/data/aa HTTP/2.0" 200 0 "" "Go-http-client"', False),
        ('198.18.0.12 - - [x] "GET /server1/data/aa HTTP/2.0" 206 403 "" ""', False),
        ('198.18.0.12 - - [x] "HEAD /server1/config HTTP/1.1" 404 10 "" ""', False),
        ("Loaded htpasswd file /etc/holdfast-nas/htpasswd", True),
    ],
)
def test_the_journal_keeps_the_requests_that_were_refused(line, kept):
    unit = repository.render_unit("/srv/holdfast", "198.18.0.11:8000")
    assert "--log -" in unit
    (pattern,) = re.findall(r"^LogFilterPatterns=~(.*)$", unit, re.MULTILINE)
    assert (re.search(pattern, line) is None) is kept


@pytest.mark.parametrize("listen", ["198.18.0.11:8000", "nas1:443", "[::1]:8000", "0.0.0.0:1"])
def test_addresses(listen):
    repository.check_listen(listen)


@pytest.mark.parametrize("listen", ["8000", ":8000", "a:b", "a:0", "a:70000", "a:8000 --no-auth", "unix:/x", "::1:80"])
def test_odd_addresses_are_refused(listen):
    with pytest.raises(RepositoryError, match="ADDRESS:PORT"):
        repository.check_listen(listen)


@pytest.mark.parametrize("root", ["", "/", "srv", "/srv/../etc", "/srv/a b", "/srv/%n", "/srv\nUser=root"])
def test_odd_roots_are_refused(root):
    with pytest.raises(RepositoryError, match="root"):
        repository.check_root(root)


def verbs(changes):
    return [(c.verb, c.target.rsplit("/", 1)[-1]) for c in changes]


GOOD = FoundFolder("subvolume")


@pytest.mark.parametrize(
    ("have", "want", "expected"),
    [
        ({}, [], []),
        ({}, [SERVER], [("subvolume", "server1"), ("limit", "server1")]),
        ({}, [DESK], [("subvolume", "desk1")]),
        ({"server1": FoundFolder("subvolume", limit=1024**3)}, [SERVER], []),
        ({"server1": FoundFolder("subvolume", limit=5)}, [SERVER], [("limit", "server1")]),
        ({"desk1": FoundFolder("subvolume", limit=5)}, [DESK], [("limit", "desk1")]),  # lifted
        ({"desk1": FoundFolder("subvolume", mode=0o777)}, [DESK], [("chmod", "desk1")]),
        ({"desk1": FoundFolder("subvolume", owner="root")}, [DESK], [("chmod", "desk1")]),
        ({"gone": FoundFolder("subvolume", mode=0o777), "desk1": GOOD}, [DESK], []),  # others' data is left alone
    ],
)
def test_folders(have, want, expected):
    assert verbs(repository.plan_folders(have, want, FOLDER)) == expected


@pytest.mark.parametrize("kind", ["dir", "other"])
def test_a_folder_that_no_limit_can_hold_is_refused(kind):
    with pytest.raises(RepositoryError, match="expected a subvolume"):
        repository.plan_folders({"desk1": FoundFolder(kind)}, [DESK], FOLDER)


SEALED = FoundFolder("subvolume", owner="root", group="root")


def test_summary():
    have = {"gone": GOOD, "server1": FoundFolder("subvolume", limit=1024**3, used=7)}
    assert repository.summary(have, [SERVER, DESK], FOLDER) == {
        "server1": {"path": f"{FOLDER}/server1", "quota": 1024**3, "used": 7},
        "desk1": {"path": f"{FOLDER}/desk1", "quota": None, "used": 0},
    }


def test_orphans_say_what_is_kept_of_them():
    have = {"gone": FoundFolder("subvolume", used=7), "empty": GOOD, "server1": GOOD}
    arrivals = {"gone": {"a" * 64: 1795291812.25, "b" * 64: 1795291900.0}, "empty": {}}
    empty, gone = repository.orphans(have, [SERVER, DESK], FOLDER, arrivals)
    assert gone == {
        "name": "gone",
        "path": f"{FOLDER}/gone",
        "bytes": 7,
        "snapshots": 2,
        "newest": "2026-11-21T20:11:40Z",
    }
    assert (empty["bytes"], empty["snapshots"], empty["newest"]) == (None, 0, None)


@pytest.mark.parametrize(
    ("have", "sealed"),
    [
        ({"desk1": GOOD}, []),  # it has its account
        ({"gone": GOOD}, ["gone"]),
        ({"gone": FoundFolder("dir", owner="root", group="root", mode=0o755)}, ["gone"]),
        ({"gone": SEALED}, []),
        ({"note": FoundFolder("other")}, []),  # somebody's file is not ours
        ({"b": GOOD, "a": GOOD}, ["a", "b"]),
    ],
)
def test_only_root_enters_what_has_no_account(have, sealed):
    changes = repository.plan_seals(have, [DESK], FOLDER)
    assert verbs(changes) == [("seal", name) for name in sealed]
    assert all((c.want.mode, c.want.owner, c.want.group) == (0o700, "root", "root") for c in changes)


def test_an_account_that_comes_back_finds_its_folder_open_and_that_is_no_repair():
    changes = repository.plan_folders({"desk1": SEALED}, [DESK], FOLDER)
    assert verbs(changes) == [("unseal", "desk1")]
    assert (changes[0].want.owner, changes[0].want.mode) == (repository.USER, 0o700)
    assert repository.repaired(changes) == []


def test_the_service_starts_beside_folders_that_it_cannot_enter(tmp_path):
    text = repository.render_unit(str(tmp_path), "a:1").replace("\\\n", " ")
    start = next(line for line in text.splitlines() if line.startswith("ExecStartPre="))
    command = start.removeprefix("ExecStartPre=").split()
    here = tmp_path / "repositories"
    for name in ("server1", "gone"):
        (here / name / "data").mkdir(parents=True)
        for file in ("whole", "half.rest-server-temp1"):
            (here / name / "data" / file).write_text("x")
    (here / "gone").chmod(0)  # root enters it all the same; the sealed case as such is tried on a machine
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (here / "gone").chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    assert [p.name for p in sorted((here / "server1/data").iterdir())] == ["whole"]
    assert (here / "gone/data/whole").exists()


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        (["enable", "start", "start"], ["enable", "start"]),
        (["restart", "reload"], ["restart"]),
        (["start", "reload"], ["start"]),
        (["reload"], ["reload"]),
    ],
)
def test_the_service_is_not_disturbed_twice(steps, kept):
    changes = [Change(verb, repository.SERVICE) for verb in steps]
    assert [c.verb for c in repository.without_repeats(changes)] == kept


def test_secrets_are_marked_and_closed():
    files = repository.config_files([SERVER], "/srv/holdfast", "a:1", "CERT", "KEY")
    assert {f.path for f in files if f.secret} == {repository.KEY, repository.HTPASSWD}
    assert all(f.mode == 0o640 and f.group == repository.USER for f in files if f.secret)
    assert all(f.content is None for f in repository.absent_files())
    assert {f.path for f in files} == {f.path for f in repository.absent_files()}


def test_drift_is_what_was_repaired():
    assert repository.repaired([Change("write", "/a"), Change("chmod", "/b")]) == ["/b"]
