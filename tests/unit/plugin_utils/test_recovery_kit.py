# SPDX-License-Identifier: Apache-2.0
"""What a recovery kit holds, what it does not, and that it opens."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import jinja2
import pyrage
import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.holdfast.practice.plugins.module_utils.break_glass import opening
from ansible_collections.holdfast.practice.plugins.plugin_utils import kit_seal, recovery_kit, secrets
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import load
from ansible_collections.holdfast.practice.plugins.plugin_utils.recovery_kit import KitError

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = (REPOSITORY / "tests" / "unit" / "documents" / "small.txt").read_text()
NEEDED = {
    "vault_repository_passwords.server1",
    "vault_repository_passwords.desk1",
    "vault_rest_passwords.server1",
    "vault_rest_passwords.desk1",
    "vault_tls_keys.nas1",
}


@pytest.fixture
def sources(trial):
    return trial.sources()


def page(printed):
    loader = jinja2.FileSystemLoader(REPOSITORY / "playbooks" / "templates")
    # autoescape stays off, as it is in Ansible
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined)
    return environment.get_template("recovery_kit.html.j2").render(
        kit={
            **printed,
            "file": "kit-2026-11-22.age",
            "sha256": "5f" * 32,
            "opening": opening("kit-2026-11-22.age", printed["folder"]),
        }
    )


def proof(at, **items):
    rows = [{"item": name, "verdict": verdict, "figures": {"restore_s": 17.3}} for name, verdict in items.items()]
    return {"kind": "proof", "at": at, "body": {"items": rows}}


# --- what is in it, and what is not -----------------------------------------------------------------------------------


def test_the_kit_holds_every_secret_that_a_recovery_needs_and_no_other(trial, sources):
    sealed = b"\n".join(recovery_kit.members(sources, recovery_kit.content(sources)).values())
    found = {place for place, secret in trial.telling().items() if secret.encode() in sealed}
    assert found == NEEDED
    assert {"vault_evidence_key.", "password of the vault", "vault_nut_passwords.nas1"} <= set(trial.telling()) - found


def test_what_is_printed_holds_no_secret(trial, sources):
    printed = recovery_kit.content(sources)
    for text in (json.dumps(printed), page(printed), recovery_kit.listing(printed)):
        assert len(text) > 500
        assert [place for place, secret in trial.telling().items() if secret in text] == []


def test_the_page_says_where_everything_is_and_who_has_the_key(trial, sources):
    printed = recovery_kit.content(replace(sources, records=[proof("2026-11-20T02:00:00Z", clinical_db="PASS")]))
    text = page(printed)
    for wanted in (
        "Harbour Street Medical Centre",
        "Robin Example",
        str(trial.owner.to_public()),
        "kit-2026-11-22.age",
        "5f" * 32,
        "/dev/disk/by-id/lab-nas1-b",
        "rest:https://198.18.0.11:8000/server1/",
        "/srv/holdfast/repositories/desk1",
        printed["stores"][0]["certificate"]["sha256"],
        "postgresql 17.12",
        "restic 0.18.0",
        "ab" * 32,
        "took 17 s when it was tried on 2026-11-20",
        "not tried yet",
        "age --decrypt --identity KEYFILE kit-2026-11-22.age | tar --extract --file=-",
    ):
        assert wanted in text, wanted
    assert not re.search(r"""(src|href)=|url\(|@import""", text)


def test_the_page_shows_names_as_they_are(make_practice, tmp_path):
    odd = make_practice(tmp_path / "p", ("name: Harbour Street Medical Centre", 'name: "Müller & <b>Söhne</b>"'))
    text = page(recovery_kit.content(odd.sources()))
    assert "Müller &amp; &lt;b&gt;Söhne&lt;/b&gt;" in text
    assert "<b>Söhne" not in text


def test_a_certificates_fingerprint_is_the_one_that_openssl_shows(trial, sources):
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", trial.folder / "certificates" / "nas1.pem"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert recovery_kit.content(sources)["stores"][0]["certificate"]["sha256"] == shown.stdout.strip().split("=")[1]


def test_passwords_of_hosts_that_left_are_kept_as_their_data_may_still_be_there(sources):
    passwords = {**sources.secrets["vault_repository_passwords"], "old1": "a-password-of-long-ago"}
    kept = replace(sources, secrets={**sources.secrets, "vault_repository_passwords": passwords})
    printed = recovery_kit.content(kept)
    assert printed["retired"] == ["old1"]
    assert [row["host"] for row in printed["repositories"]] == ["server1", "desk1"]
    assert b"a-password-of-long-ago" in recovery_kit.members(kept, printed)["RECOVERY.txt"]
    assert "old1" in page(printed)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_without_a_reader_it_says_which_key_to_add_and_how_to_make_one(make_practice, tmp_path):
    lonely = make_practice(tmp_path / "p")
    (lonely.folder / "practice.yml").write_text(EXAMPLE)
    with pytest.raises(KitError, match=r"contacts\.backup_owner\.recipient.*age-keygen -o"):
        recovery_kit.content(lonely.sources())


def test_every_contact_with_a_key_is_a_reader(make_practice, tmp_path):
    provider = pyrage.x25519.Identity.generate()
    both = make_practice(
        tmp_path / "p", ("email: help@it.example", f"email: help@it.example, recipient: {provider.to_public()}")
    )
    printed = recovery_kit.content(both.sources())
    assert [each["role"] for each in printed["recipients"]] == ["backup_owner", "it_provider"]
    sealed = kit_seal.seal("kit", {"kit.json": b"{}"}, "2026-11-22T08:00:00Z", printed["recipients"])
    for key in (both.owner, provider):
        assert kit_seal.unseal(sealed, [key], "kit") == {"kit.json": b"{}"}


def test_a_key_with_a_slip_of_the_pen_is_refused_by_name(make_practice, tmp_path):
    wrong = str(pyrage.x25519.Identity.generate().to_public())
    wrong = wrong[:-1] + ("q" if wrong[-1] != "q" else "p")
    with pytest.raises(KitError, match=r"contacts\.it_provider\.recipient is not an age public key"):
        kit_seal.keys([{"role": "it_provider", "name": "x", "recipient": wrong}])


@pytest.mark.parametrize(
    ("variable", "name"),
    [("vault_repository_passwords", "desk1"), ("vault_rest_passwords", "server1"), ("vault_tls_keys", "nas1")],
)
def test_a_secret_that_is_missing_is_named(sources, variable, name):
    less = {**sources.secrets, variable: {k: v for k, v in sources.secrets[variable].items() if k != name}}
    with pytest.raises(KitError, match=rf"lacks {variable}\[{name}\].*bin/holdfast secrets"):
        recovery_kit.content(replace(sources, secrets=less))


def test_a_certificate_that_is_missing_is_named(make_practice, tmp_path):
    bare = make_practice(tmp_path / "p")
    (bare.folder / "certificates" / "nas1.pem").unlink()
    with pytest.raises(KitError, match=r"lacks certificates/nas1\.pem, evidence_signers; make"):
        recovery_kit.content(bare.sources(signers=""))


# --- the order, and its commands --------------------------------------------------------------------------------------


def test_storage_comes_first_then_repositories_then_what_is_critical_and_desks_last(make_practice, tmp_path):
    mixed = make_practice(
        tmp_path / "p",
        ('    at: "21:00"', '    at: "21:00"\n    class: sensitive'),
        ("desk_files: {", "desk_files: {class: critical, "),
        ("protect: [clinical_db, documents]", "protect: [letters, documents, clinical_db]"),
        ("protect:\n  clinical_db:", "protect:\n  letters: {paths: [/srv/letters], class: critical}\n  clinical_db:"),
        ("desk_files: weekly", "desk_files: weekly, letters: weekly"),
    )
    printed = recovery_kit.content(mixed.sources())
    assert [item["item"] for item in printed["items"]] == ["clinical_db", "letters", "documents", "desk_files"]
    titles = [step["title"] for step in printed["steps"]]
    assert titles[0] == "Storage: nas1"
    assert titles[1].startswith("Repositories")
    assert titles[2] == "clinical_db of server1: critical, PostgreSQL database"
    assert titles[-1].startswith("desk_files of desk1")
    assert [step["number"] for step in printed["steps"]] == list(range(1, 7))


def commands(printed):
    return [line for step in printed["steps"] for part in step["parts"] for line in part["commands"]]


def test_every_command_is_one_that_a_shell_can_read(make_practice, tmp_path):
    odd = make_practice(
        tmp_path / "p",
        ("name: clinic}", 'name: "it\'s a b; $(id)"}'),
        ("paths: [/srv/clinic/documents]", 'paths: ["/srv/clinic/Dr Müller\'s"]'),
        ("    must_have: [/srv/clinic/documents/letters]   # a backup without these is not a backup\n", ""),
    )
    lines = commands(recovery_kit.content(odd.sources()))
    assert len(lines) > 15
    for line in lines:
        subprocess.run(["sh", "-n"], input=line, text=True, check=True)
    load = next(line for line in lines if "pg_restore" in line)
    assert "--dbname=it's a b; $(id)" in shlex.split(load)
    create = next(line for line in lines if "createdb" in line)
    assert shlex.split(create)[-1] == "it's a b; $(id)"


@pytest.mark.parametrize(
    ("database", "says"),
    [
        ('{engine: mariadb, name: "a b; $(id)"}', "mariadb --max-allowed-packet=1G -- 'a b; $(id)' < clinical_db.dump"),
        (
            "{engine: firebird, path: /srv/x.fdb}",
            "runuser -u firebird -- gbak -c -user SYSDBA /var/lib/firebird/4.0/backup/clinical_db.dump /srv/x.fdb",
        ),
        ('{engine: sqlite, path: "/srv/a b\'s.db"}', "install -D -m 0640 clinical_db.dump '/srv/a b'\"'\"'s.db'"),
    ],
)
def test_every_engine_has_commands_of_its_own(make_practice, tmp_path, database, says):
    trial = make_practice(tmp_path / "p", ("{engine: postgresql, name: clinic}", database))
    lines = commands(recovery_kit.content(trial.sources()))
    assert says in lines
    assert not any("pg_restore" in line for line in lines)
    for line in lines:
        subprocess.run(["sh", "-n"], input=line, text=True, check=True)


def test_commands_name_the_repository_by_a_file_and_never_by_its_secret(trial, sources):
    text = "\n".join(commands(recovery_kit.content(sources)))
    assert ". repositories/server1.env" in text
    assert "apt-get install postgresql-17" in text
    assert [place for place, secret in trial.telling().items() if secret in text] == []


def test_a_shell_reads_from_the_file_exactly_what_restic_needs(sources, tmp_path):
    nasty = 'it\'s $HOME `id` "quoted" \\ end'
    passwords = {**sources.secrets["vault_repository_passwords"], "server1": nasty}
    odd = replace(sources, secrets={**sources.secrets, "vault_repository_passwords": passwords})
    file = tmp_path / "server1.env"
    file.write_bytes(recovery_kit.members(odd, recovery_kit.content(odd))["repositories/server1.env"])
    shell = subprocess.run(
        ["sh", "-c", f". {file}; env"], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    got = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    assert got["RESTIC_PASSWORD"] == nasty
    assert got["RESTIC_REPOSITORY"] == "rest:https://198.18.0.11:8000/server1/"
    assert got["RESTIC_REST_USERNAME"] == "server1"
    assert got["RESTIC_REST_PASSWORD"] == sources.secrets["vault_rest_passwords"]["server1"]


def test_only_proofs_that_passed_give_a_time_and_the_newest_counts():
    records = [
        proof("2026-11-19T02:00:00Z", clinical_db="PASS", documents="FAIL"),
        proof("2026-11-20T02:00:00Z", clinical_db="PASS"),
        {"kind": "drill", "at": "2026-11-21T02:00:00Z", "body": {}},
    ]
    found = recovery_kit.last_proofs(records)
    assert set(found) == {"clinical_db"}
    assert found["clinical_db"]["at"] == "2026-11-20T02:00:00Z"


# --- sealed, opened, and enough ---------------------------------------------------------------------------------------


def sealed(trial, sources):
    printed = recovery_kit.content(sources)
    files = recovery_kit.members(sources, printed)
    return files, kit_seal.seal(printed["folder"], files, sources.made, printed["recipients"])


def test_the_owners_key_opens_it_and_gives_back_every_byte(trial, sources):
    files, kit = sealed(trial, sources)
    opened = kit_seal.unseal(kit, kit_seal.identities(f"# created: today\n{trial.owner}\n", "key"), "kit.age")
    assert opened == files
    assert kit_seal.read_kit(opened, "kit.age")["secrets"] == dict(sources.secrets)
    assert [place for place, secret in trial.telling().items() if secret.encode() in kit] == []


def test_the_tar_inside_is_a_plain_one_that_only_its_owner_can_read(trial, sources):
    _files, kit = sealed(trial, sources)
    with tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(kit, [trial.owner]))) as tar:
        entries = tar.getmembers()
    assert {entry.name.split("/")[0] for entry in entries} == {"recovery-harbour-street"}
    assert {entry.mode for entry in entries if entry.isfile()} == {0o600}
    assert {entry.mode for entry in entries if entry.isdir()} == {0o700}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda kit: kit[:-1] + bytes([kit[-1] ^ 1]), "damaged"),
        (lambda kit: kit[: len(kit) // 2], "damaged"),
        (lambda kit: b"%PDF-1.7", "not a sealed kit"),
    ],
)
def test_a_kit_that_is_not_whole_is_refused(trial, sources, spoil, message):
    _files, kit = sealed(trial, sources)
    with pytest.raises(KitError, match=message):
        kit_seal.unseal(spoil(kit), [trial.owner], "kit.age")


def test_another_key_is_told_that_the_kit_is_not_for_it(trial, sources):
    _files, kit = sealed(trial, sources)
    with pytest.raises(KitError, match="not sealed to this key"):
        kit_seal.unseal(kit, [pyrage.x25519.Identity.generate()], "kit.age")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no key"),
        ("# only a comment\n", "holds no key"),
        ("AGE-SECRET-KEY-1NOTAKEY\n", "is no age key file"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\n", "locked with a passphrase"),
    ],
)
def test_a_file_that_is_no_key_is_refused_without_showing_it(text, message):
    with pytest.raises(KitError, match=message) as refused:
        kit_seal.identities(text, "owner.key")
    assert "NOTAKEY" not in str(refused.value)


def test_a_practice_can_be_built_anew_from_the_kit_alone(trial, sources, tmp_path):
    files, _kit = sealed(trial, sources)
    folder = tmp_path / "inventories" / "harbour-street"
    (folder / "group_vars" / "all").mkdir(parents=True)
    (folder / "certificates").mkdir()
    (folder / "practice.yml").write_bytes(files["practice.yml"])
    (folder / "evidence_signers").write_bytes(files["evidence_signers"])
    (folder / "certificates" / "nas1.pem").write_bytes(files["certificates/nas1.pem"])
    (folder / ".vault-password").write_text("a new password of the vault")
    encrypted = VaultLib().encrypt(
        files["vault-in-clear.yml"], VaultSecret(b"a new password of the vault"), vault_id="harbour-street"
    )
    (folder / secrets.VAULT_FILE).write_bytes(encrypted)
    practice, _ = load(folder / "practice.yml")
    made = secrets.apply(folder, practice, None, create_password=False)
    rebuilt = replace(trial, folder=folder)
    assert {name: rebuilt.vault[name] for name in recovery_kit.SECRETS} == sources.secrets
    assert (folder / "certificates" / "nas1.pem").read_bytes() == files["certificates/nas1.pem"]
    assert "vault_evidence_key" in made
    # what was signed with the old key can still be verified
    assert (folder / "evidence_signers").read_bytes().startswith(files["evidence_signers"])


# --- when a new one is due --------------------------------------------------------------------------------------------


def fingerprint(sources):
    printed = recovery_kit.content(sources)
    return recovery_kit.fingerprint(recovery_kit.members(sources, printed), printed, sources.secrets)


def other_password(sources):
    passwords = {**sources.secrets["vault_rest_passwords"], "desk1": "another-password-of-desk1"}
    return replace(sources, secrets={**sources.secrets, "vault_rest_passwords": passwords})


def test_what_is_true_of_the_moment_only_makes_no_new_kit(sources):
    later = replace(
        sources,
        made="2026-12-01T08:00:00Z",
        commit="another",
        records=[proof("2026-11-30T02:00:00Z", clinical_db="PASS")],
        ledger={"count": 9, "head": "ab" * 32},
    )
    assert fingerprint(later) == fingerprint(sources)
    assert recovery_kit.content(later)["as_of"]["evidence"] == {"records": 9, "head": "ab" * 32}


@pytest.mark.parametrize(
    "change",
    [
        other_password,
        lambda sources: replace(sources, facts={}),
        lambda sources: replace(sources, version="0.3.0"),
        lambda sources: replace(sources, document=sources.document + "# a remark\n"),
        lambda sources: replace(sources, signers=sources.signers + "# a remark\n"),
    ],
)
def test_a_change_that_matters_makes_a_new_kit(sources, change):
    changed = change(sources)
    assert changed != sources
    assert fingerprint(changed) != fingerprint(sources)


def test_the_fingerprint_depends_on_the_secrets_even_for_equal_content(sources):
    printed = recovery_kit.content(sources)
    files = recovery_kit.members(sources, printed)
    other = other_password(sources).secrets
    assert recovery_kit.fingerprint(files, printed, other) != recovery_kit.fingerprint(files, printed, sources.secrets)


def test_hosts_that_were_never_seen_are_said_to_be_unseen(sources):
    printed = recovery_kit.content(replace(sources, facts={}))
    assert [host["seen"] for host in printed["hosts"]] == [False] * 4
    assert "has not been seen yet" in page(printed)
    assert "in the version that the oracle names" in json.dumps(printed)
    assert [row["id"] for row in printed["repositories"]] == [None, None]
