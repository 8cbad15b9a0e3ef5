"""The recovery kit on real machines: it opens everything, it says exactly what it does not open, and its commands restore."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

REPO = Path(__file__).resolve().parents[3]
HTPASSWD = "/etc/holdfast-nas/htpasswd"
IMAGES = Path("/var/cache/holdfast/images")


@dataclass
class Kit:
    """A copy of the practice whose owner has a key, and what the first run of the play printed."""

    folder: Path
    key: Path
    owner: object
    made: str

    @property
    def sealed(self) -> Path:
        return self.folder / "recovery" / "latest.age"

    def opened(self) -> dict[str, bytes]:
        """The kit's files, as the owner's key gives them."""
        import pyrage

        files = {}
        with tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(self.sealed.read_bytes(), [self.owner]))) as tar:
            for entry in tar:
                if entry.isfile():
                    files[entry.name.partition("/")[2]] = tar.extractfile(entry).read()
        return files

    def check(self, sealed: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Check with the command, which knows nothing of the practice's folder."""
        image = max(IMAGES.glob("restore-*/image.json"), key=lambda path: path.stat().st_mtime)
        layers = ":".join(json.loads(image.read_text())["layers"])
        command = [sys.executable, str(REPO / "bin/holdfast"), "kit-check", str(sealed or self.sealed)]
        command += ["--identity", str(self.key), "--restic-image", layers]
        return subprocess.run(command, cwd="/", text=True, capture_output=True, check=False)


def telling(secret):
    return secret.splitlines()[-2] if "\n" in secret else secret


def leaked(practice, text):
    return [place for place, secret in practice.secrets().items() if telling(secret) in text]


@pytest.fixture(scope="module")
def standing(practice, hosts):
    """The practice as site.yml builds it, with a backup: an earlier test may have removed it."""
    if not hosts["nas1"].service("holdfast-rest-server").is_running:
        for playbook in ("site.yml", "backup.yml"):
            done = practice.play(playbook)
            assert done.returncode == 0, done.stdout[-3000:]
    return practice


@pytest.fixture(scope="module")
def kit(standing, tmp_path_factory):
    import pyrage

    place = tmp_path_factory.mktemp("kit")
    folder = place / "harbour-street"
    shutil.copytree(standing.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("evidence"))
    # one practice has one ledger: a second history would be refused where heads are published
    (standing.folder / "evidence").mkdir(mode=0o750, exist_ok=True)
    (folder / "evidence").symlink_to(standing.folder / "evidence")
    owner = pyrage.x25519.Identity.generate()
    key = place / "owner.key"
    key.touch(mode=0o600)
    key.write_text(f"{owner}\n")
    text = (folder / "practice.yml").read_text()
    mail = "email: manager@harbour-street.example"
    assert mail in text
    (folder / "practice.yml").write_text(text.replace(mail, f"{mail}, recipient: {owner.to_public()}"))
    done = standing.play("recovery_kit.yml", "-vvv", "--diff", folder=folder)
    assert done.returncode == 0, done.stdout[-3000:]
    return Kit(folder, key, owner, done.stdout + done.stderr)


def test_without_a_reader_no_host_is_touched(standing):
    done = standing.play("recovery_kit.yml", "--diff")
    assert done.returncode != 0
    assert "contacts.backup_owner.recipient" in done.stdout
    assert "age-keygen" in done.stdout
    assert "Ask each host" not in done.stdout
    assert not (standing.folder / "recovery").exists()


def test_the_kit_tells_what_is_really_there(kit, hosts):
    files = kit.opened()
    told = json.loads(files["kit.json"])
    programs = {host["host"]: {p["name"]: p for p in host["programs"]} for host in told["hosts"]}
    for host, program in (("server1", "restic"), ("desk1", "restic"), ("nas1", "rest-server")):
        path = programs[host][program]["path"]
        assert hosts[host].check_output(f"sha256sum {path}").split()[0] == programs[host][program]["sha256"]
    assert programs["server1"]["restic"]["version"] in hosts["server1"].check_output("restic version")
    for row in told["repositories"]:
        pinned = json.loads(hosts[row["host"]].file("/etc/holdfast/repository.json").content)
        assert row["id"] == pinned["id"]
    assert re.fullmatch(r"postgresql 17\.\d+", told["items"][0]["engine"])


def test_neither_the_page_nor_the_play_shows_a_secret(practice, kit):
    page = (kit.folder / "recovery" / "latest.html").read_text()
    assert hashlib.sha256(kit.sealed.read_bytes()).hexdigest() in page
    assert len(kit.made) > 10_000
    assert leaked(practice, kit.made + page + (kit.folder / "recovery" / "state.json").read_text()) == []
    inside = b"\n".join(kit.opened().values()).decode()
    names = {place.partition(".")[0] for place in leaked(practice, inside)}
    assert names == {"vault_repository_passwords", "vault_rest_passwords", "vault_tls_keys"}


def test_a_second_run_keeps_the_kit(standing, kit):
    before = kit.sealed.read_bytes()
    done = standing.play("recovery_kit.yml", folder=kit.folder)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.findall(r"changed=([1-9]\d*)", done.stdout) == []
    assert kit.sealed.read_bytes() == before


def test_the_check_opens_every_repository_and_signs_what_it_saw(standing, kit):
    done = standing.play("recovery_kit_check.yml", "-v", "-e", f"identity={kit.key}", folder=kit.folder)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "2 of 2 repositories opened" in done.stdout
    assert leaked(standing, done.stdout + done.stderr) == []
    record = json.loads((kit.folder / "evidence/ledger.jsonl").read_text().splitlines()[-1])["record"]
    assert (record["kind"], record["body"]["verdict"]) == ("kit_check", "PASS")
    assert {row["host"]: row["code"] for row in record["body"]["repositories"]} == {
        "server1": "opened",
        "desk1": "opened",
    }
    assert min(row["snapshots"] for row in record["body"]["repositories"]) > 0
    assert standing.verify_evidence(kit.folder / "evidence").returncode == 0


def test_a_password_that_is_wrong_in_the_kit_fails_exactly_that_repository(standing, kit, tmp_path):
    import pyrage

    files = kit.opened()
    told = json.loads(files["kit.json"])
    told["secrets"]["vault_repository_passwords"]["server1"] += "x"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in {**files, "kit.json": json.dumps(told).encode()}.items():
            entry = tarfile.TarInfo(f"recovery/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    spoilt = tmp_path / "spoilt.age"
    spoilt.write_bytes(pyrage.encrypt(out.getvalue(), [kit.owner.to_public()]))
    options = ["-e", f"identity={kit.key}", "-e", f"kit={spoilt}"]
    done = standing.play("recovery_kit_check.yml", *options, folder=kit.folder)
    assert done.returncode == 1, done.stdout[-3000:]
    assert "FAIL: server1: the repository password in the kit does not open it" in done.stdout
    assert "PASS: desk1: opened" in done.stdout
    record = json.loads((kit.folder / "evidence/ledger.jsonl").read_text().splitlines()[-1])["record"]
    assert {row["host"]: row["code"] for row in record["body"]["repositories"]} == {
        "server1": "wrong_password",
        "desk1": "opened",
    }


def test_an_account_that_was_removed_on_the_nas_fails_exactly_that_repository(kit, hosts):
    nas = hosts["nas1"]
    nas.check_output(f"cp -p {HTPASSWD} {HTPASSWD}.kept && sed -i /^desk1:/d {HTPASSWD}")
    try:
        nas.check_output("systemctl reload holdfast-rest-server")
        done = kit.check()
    finally:
        nas.check_output(f"mv {HTPASSWD}.kept {HTPASSWD} && systemctl reload holdfast-rest-server")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL: desk1: 198.18.0.11:8000 refuses the account desk1" in done.stdout
    assert "PASS: server1: opened" in done.stdout


def test_a_nas_that_is_down_is_not_judged(kit, hosts):
    hosts["nas1"].check_output("systemctl stop holdfast-rest-server")
    try:
        done = kit.check()
    finally:
        hosts["nas1"].check_output("systemctl start holdfast-rest-server")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout.startswith("INCONCLUSIVE")
    assert len(re.findall("INCONCLUSIVE: (?:server1|desk1): 198.18.0.11:8000 does not answer", done.stdout)) == 2


def test_the_commands_of_the_kit_bring_back_files_and_database(kit, hosts):
    files = kit.opened()
    server = hosts["server1"]
    told = json.loads(files["kit.json"])
    steps = {step["item"]: step for step in told["steps"] if "item" in step}
    server.check_output("rm -rf /root/kit /restored && mkdir -m 0700 -p /root/kit/repositories /root/kit/certificates")
    for name in ("repositories/server1.env", "certificates/nas1.pem"):
        _put(server, f"/root/kit/{name}", files[name])
    try:
        for item in ("documents", "clinical_db"):
            lines = [line for part in steps[item]["parts"] for line in part["commands"]]
            # the host has its engine, and its own database is not to be touched
            lines = [line for line in lines if not line.startswith("apt-get ")]
            lines = [re.sub(r"(--dbname=|-- )clinic\b", r"\1kit_trial", line) for line in lines]
            _put(server, "/root/kit/step", "\n".join(["set -eu", *lines, ""]).encode())
            done = server.run("cd /root/kit && sh step")
            assert done.rc == 0, done.stdout[-1500:] + done.stderr[-1500:]
        same = "cd %s && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum"
        for folder in ("/srv/clinic/documents", "/srv/clinic/images"):
            assert server.check_output(same % folder) == server.check_output(same % f"/restored{folder}")
        oracle = json.loads(server.file("/root/kit/clinical_db.oracle.json").content)
        tables = oracle["database"]["tables"]
        assert sum(tables.values()) > 10_000
        name, rows = max(tables.items(), key=lambda table: table[1])
        asked = server.check_output(f"runuser -u postgres -- psql -XAtd kit_trial -c 'select count(*) from {name}'")
        assert int(asked) == rows
    finally:
        server.run("rm -rf /root/kit /restored; runuser -u postgres -- dropdb --if-exists kit_trial")


def test_a_blank_machine_with_the_kit_alone_comes_back(standing, kit):
    done = standing.play(
        "break_glass.yml", "-v", "-e", f"identity={kit.key}", "-e", "items=clinical_db,documents", folder=kit.folder
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert leaked(standing, done.stdout + done.stderr) == []
    assert kit.key.read_text().strip() not in done.stdout + done.stderr
    record = json.loads((kit.folder / "evidence/ledger.jsonl").read_text().splitlines()[-1])["record"]
    body = record["body"]
    assert (record["kind"], body["verdict"]) == ("break_glass", "PASS")
    assert {item["item"]: item["verdict"] for item in body["items"]} == {"clinical_db": "PASS", "documents": "PASS"}
    others = {"accounts", "recalls", "laboratory", "imaging", "imaging_settings", "desk_files"}
    assert {row["item"] for row in body["not_run"]} == others
    database, documents = body["items"]
    assert database["rows"] > 10_000
    assert database["queries"] > 5
    assert documents["files"] > 100
    # doors that are open to others and shut to the machine, and the data came through the one that was left
    blocked = body["blocked"]
    assert (blocked["open_from_machine"], blocked["default_route"]) == (0, False)
    assert blocked["open_from_here"] >= 2
    assert blocked["bytes_of_nas"] > 1_000_000
    assert set(body["figures"]["phases"]) == {
        "tools_s",
        "open_kit_s",
        "fetch_s",
        "restore_s",
        "load_s",
        "first_query_s",
    }
    assert min(body["figures"]["phases"].values()) > 0
    assert body["kit"]["sha256"] == hashlib.sha256(kit.sealed.read_bytes()).hexdigest()
    assert not (standing.restores / "harbour-street-break-glass").exists()
    assert standing.verify_evidence(kit.folder / "evidence").returncode == 0


def _put(host, path, content):
    done = host.run(f"install -m 0600 /dev/stdin {path} <<'HOLDFAST_END'\n{content.decode()}\nHOLDFAST_END")
    assert done.rc == 0, done.stderr
