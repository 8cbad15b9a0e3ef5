# SPDX-License-Identifier: Apache-2.0
"""The fault kit: one good backup of every kind, a repository of its own for each fault, and one machine to prove them on.

A repository is copied in no time on the NAS (btrfs shares what is equal) and served beside the real one, without a password of
its own, so a fault may do to it what it likes. What a fault changes (the dump, the tree of files, the oracle, the repository, the
loaded copy) is changed by shell or SQL on real machines, is seen to have landed, and is stored by restic as the agent stores it.
Then the phases of the module restore_verify run as prove.yml runs them: fetch, structure where it matters, judge, conclude.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.testing import patch_module_args
from ansible_collections.holdfast.practice.plugins.module_utils import nas_arrivals
from ansible_collections.holdfast.practice.plugins.module_utils.engines import ENGINES
from ansible_collections.holdfast.practice.plugins.module_utils.verify_host import PLACE
from ansible_collections.holdfast.practice.plugins.modules import restore_verify
from cryptography.hazmat.primitives import poly1305
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from faults_lab import REPO, ssh

HERE = Path(__file__).resolve().parent
PRACTICE, HOST = "agent-test", "server1"
FAIL, INCONCLUSIVE, PASS = "FAIL", "INCONCLUSIVE", "PASS"
ENGINE_OF = {
    "clinical_db": "postgresql",
    "billing_db": "mariadb",
    "pms_db": "sqlite",
    "ward_db": "firebird",
    "vendor_dump": "command",
}
JOBS = (*ENGINE_OF, "documents")
SERVED, PORT, UNIT = "/srv/holdfast/kit", 8200, "kit.service"
PATIENCE_S = 120  # a pack that is gone makes restic try for a quarter of an hour; a proof has an end

# What a fault's shell may use: F (the dump), T (the tree), and one function for each engine that loads the dump, runs SQL on the
# copy and dumps it again.
TOOLS = r"""
set -euo pipefail; cd /
pg() {
  runuser -u postgres -- psql -Xq -c 'drop database if exists forged' -c 'create database forged template template0 encoding utf8'
  runuser -u postgres -- pg_restore -d forged < "$F"
  runuser -u postgres -- psql -Xq -v ON_ERROR_STOP=1 forged <<< "$1" > /dev/null
  runuser -u postgres -- pg_dump -Fc -Z0 ${2:-} forged > "$F"
  runuser -u postgres -- dropdb forged
}
maria() {
  mariadb -e 'set foreign_key_checks = 0; create or replace database forged character set utf8mb4'
  mariadb forged < "$F"
  mariadb forged <<< "$1" > /dev/null
  mariadb-dump --single-transaction --quick --routines --events --triggers --hex-blob --skip-dump-date --no-tablespaces \
    --default-character-set=utf8mb4 ${2:-} forged > "$F"
  mariadb -e 'set foreign_key_checks = 0; drop database forged'
}
lite() {
  python3 -c 'import sqlite3, sys
d = sqlite3.connect(sys.argv[1]); d.executescript(sys.argv[2]); d.commit(); d.close()' "$F" "$1"
}
fire() {
  rm -rf /var/tmp/forged; install -d -o firebird /var/tmp/forged; install -o firebird "$F" /var/tmp/forged/in.fbk
  cd /var/tmp/forged
  runuser -u firebird -- gbak -c -user SYSDBA in.fbk /var/tmp/forged/x.fdb
  runuser -u firebird -- isql-fb -q -bail -nodbtriggers -user SYSDBA /var/tmp/forged/x.fdb <<< "$1" > /dev/null
  runuser -u firebird -- gbak -b -nodbtriggers -user SYSDBA /var/tmp/forged/x.fdb stdout > "$F"
  cd /; rm -r /var/tmp/forged
}
flip() { python3 -c 'import os, sys
f = os.open(sys.argv[1], os.O_RDWR); n = int(sys.argv[2]); n = n if n >= 0 else os.fstat(f).st_size // 2
b = os.pread(f, 1, n); os.pwrite(f, bytes([b[0] ^ 255]), n)' "$1" "${2:--1}"; }
encrypt() { openssl enc -aes-256-cbc -pbkdf2 -iter 1 -k x -in "$1" -out "$2"; }
listing() {
  (cd "$1"; find . -printf '%y %m %s %T@ %p\0' | sort -z | sha256sum; find . -type f -print0 | sort -z | xargs -0r sha256sum)
}
"""
RESTIC = """
export RESTIC_REPOSITORY={url} RESTIC_PASSWORD_FILE=/etc/holdfast/credentials/repository-password
restic() {{ command restic --no-cache "$@"; }}
id_of() {{ python3 -c 'import json, sys; print(json.loads(sys.stdin.read().splitlines()[-1])["snapshot_id"])'; }}
"""
KEY_N = 1024  # of scrypt; restic takes what costs it half a second, a dozen times for each fault


MANIFEST = r"""
import hashlib, json, os, stat, sys
tree, rows = os.fsencode(sys.argv[1]), []
for here, folders, names in os.walk(tree):
    for path in (os.path.join(here, name) for name in names):
        facts = os.lstat(path)
        if stat.S_ISREG(facts.st_mode):
            digest = hashlib.blake2b(open(path, "rb").read(), digest_size=32).hexdigest()
            mode = f"{stat.S_IMODE(facts.st_mode):04o}"
            place = os.fsdecode(path[len(tree):])
            rows.append({"path": place, "size": facts.st_size, "mode": mode, "mtime_ns": facts.st_mtime_ns, "blake2b": digest})
print(json.dumps(sorted(rows, key=lambda row: row["path"])))
"""


def cheap_key(master: bytes, password: str) -> bytes:
    """A key file of restic's that costs next to nothing to open. (Its MAC is Poly1305-AES over the ciphertext.)"""
    salt, nonce = os.urandom(64), os.urandom(16)
    made = hashlib.scrypt(password.encode(), salt=salt, n=KEY_N, r=8, p=1, dklen=64)
    encryptor = Cipher(algorithms.AES256(made[:32]), modes.CTR(nonce)).encryptor()
    text = encryptor.update(master) + encryptor.finalize()
    block = Cipher(algorithms.AES128(made[32:48]), modes.ECB()).encryptor()
    mac = poly1305.Poly1305.generate_tag(made[48:64] + block.update(nonce) + block.finalize(), text)
    row = {
        "created": "2026-01-01T00:00:00Z",
        "username": "kit",
        "hostname": "kit",
        "kdf": "scrypt",
        "N": KEY_N,
        "r": 8,
        "p": 1,
    }
    row.update(salt=base64.b64encode(salt).decode(), data=base64.b64encode(nonce + text + mac).decode())
    return json.dumps(row).encode()


# Programs that write rows while a backup runs.
BUSY = {
    "billing_db": "systemd-run -q --collect --unit=busy /usr/local/sbin/busy mariadb",
    "ward_db": "systemd-run -q --collect --unit=busy /usr/local/sbin/busy firebird",
    "pms_db": "systemd-run -q --collect --unit=busy --uid=pms /usr/local/sbin/busy sqlite",
}
WORK = r"""
set -eu; cd /srv/clinic/documents/letters
for n in 1 2 3 4 5 6; do echo "letter $n of day {number}" > "day {number} letter $n.txt"; done
echo "and was seen again on day {number}" >> plain.txt
rm -f "day $(({number} - 2)) letter "[123].txt
cd /; runuser -u postgres -- psql -Xq -v ON_ERROR_STOP=1 clinic <<E
insert into patient (name, born) select 'Day {number} patient ' || n, current_date from generate_series(1, 7) n;
insert into appointment (patient, starts) select id, now() from patient order by id desc limit 7;
update note set body = 'day {number}' where id = 1 + {number} % 50;
E
{busy}
"""


@dataclass(frozen=True)
class Fault:
    """One way to lose data. codes: what a proof has to say, all of them; verdict PASS: it must say nothing.

    dump, tree: shell on the server that changes $F or the files below $T. noticed: the oracle is made after the tree was changed,
    as when an encryptor was quicker than the backup. oracle: changes the oracle. repository: shell on the NAS in the repository's
    folder. loaded: shell in the restore machine, after the dump was loaded and asked and before the engine checks itself.
    wanted: other keys of the item. known: snapshots of the run that the evidence names.
    """

    id: str
    title: str
    job: str
    codes: frozenset[str] | set[str]
    verdict: str = FAIL
    quick: bool = False
    dump: str = ""
    tree: str = ""
    noticed: bool = False
    oracle: Callable[[dict[str, Any]], None] | None = None
    host: str = HOST
    tags: dict[str, str] = field(default_factory=dict)
    repository: str = ""
    loaded: str = ""
    structure: bool = False
    wanted: dict[str, Any] = field(default_factory=dict)
    password: str = ""
    known: bool = False
    passes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its repository."""
        return "f-" + self.id.lower()


@dataclass
class Proved:
    """What came of it."""

    body: dict[str, Any]
    lines: list[str]
    seconds: float

    @property
    def item(self) -> dict[str, Any]:
        """The one item."""
        return self.body["items"][0]

    @property
    def codes(self) -> set[str]:
        """Of its reasons."""
        return {reason["code"] for reason in self.item["reasons"]}

    def levels(self, codes: set[str] | frozenset[str]) -> list[str]:
        """Levels that said one of these."""
        return [
            name
            for name, found in self.item["levels"].items()
            if found["verdict"] != PASS and codes & {reason["code"] for reason in found["reasons"]}
        ]


class Kit:
    """The machines, the good backups, and a way from a fault to a proof."""

    def __init__(self, trial: Path) -> None:
        self.folder = trial / "restore-kit" / PRACTICE
        self._password = (trial / "repository-server1").read_text().strip()
        self._outcome = trial / "kit-machine.json"
        self._oracles: dict[str, dict[str, Any]] = {}
        self._known: dict[str, list[str]] = {}
        self._machine: dict[str, Any] = {}

    # --- what is there before the first fault

    def begin(self) -> None:
        """Back everything up, serve copies of the repository, start the machine."""
        ssh(HOST, "runuser -u pms -- /usr/local/sbin/busy sqlite 3000")
        # a program that was killed leaves rows in the log beside its file
        wait = "for n in $(seq 100); do [ -s /srv/pms/pms.db-wal ] && break; sleep 0.1; done"
        ssh(HOST, f"{BUSY['pms_db']}; {wait}; systemctl kill -s KILL busy.service; [ -s /srv/pms/pms.db-wal ]")
        for job in JOBS:
            ssh(HOST, f"systemctl start holdfast-backup@{job}.service")
            self._oracles[job] = json.loads(ssh(HOST, f"cat /var/lib/holdfast/oracle/{job}.json"))
        serve = (
            f"rm -rf {SERVED}; mkdir -m 700 {SERVED}; cp -a --reflink=always /srv/holdfast/repositories/server1 {SERVED}/base; "
            f"systemctl stop {UNIT} 2>/dev/null || true; "  # of a run that was cut off; else there is none to stop
            f"systemd-run -q --collect --unit={UNIT} restic-rest-server --path {SERVED} --no-auth --listen 198.18.0.11:{PORT}; "
            f"for n in $(seq 100); do ss -ltn | grep -q :{PORT} && break; sleep 0.1; done; ss -ltn | grep :{PORT}"
        )
        ssh("nas1", serve)
        master = ssh(HOST, RESTIC.format(url=self._url("base")) + "cd /; restic cat masterkey").encode()
        key = cheap_key(master, self._password)
        name = hashlib.sha256(key).hexdigest()
        ssh("nas1", f"set -e; cd {SERVED}/base/keys; rm -f *; cat > {name}", key.decode())
        script = [TOOLS, RESTIC.format(url=self._url("base")), "rm -rf /root/kit; mkdir -m 700 /root/kit"]
        for job, oracle in self._oracles.items():
            parts = oracle["snapshots"]
            if parts.get("database"):
                script.append(
                    f"restic dump -q {parts['database']} {oracle['database']['dump_path']} > /root/kit/{job}.dump"
                )
            if parts.get("files"):
                script.append(f"restic restore -q {parts['files']} --target /root/kit/tree-{job}")
        ssh(HOST, "\n".join(script))
        self._play("started")
        self._machine = json.loads(self._outcome.read_text())

    def end(self) -> None:
        """Leave nothing behind."""
        self._play("absent")
        ssh("nas1", f"systemctl stop {UNIT}; rm -rf {SERVED}")
        ssh(HOST, "rm -rf /root/kit /holdfast.*.dump")
        assert not self.folder.exists(), "the machine with restored data was left behind"

    def _play(self, state: str) -> None:
        given = {"kit_state": state, "kit_folder": str(self.folder), "kit_outcome": str(self._outcome)}
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
        environment.update(ANSIBLE_CONFIG=str(REPO / "ansible.cfg"), ANSIBLE_INVENTORY_ENABLED="host_list")
        command = [str(REPO / ".venv/bin/ansible-playbook"), "-i", "localhost,", str(HERE / "kit_machine.yml")]
        command += ["-e", json.dumps(given)]
        done = subprocess.run(command, cwd=REPO, env=environment, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]

    @staticmethod
    def _url(name: str) -> str:
        return f"rest:http://198.18.0.11:{PORT}/{name}/"

    # --- from a fault to a backup that has it

    def forge(self, fault: Fault) -> None:
        """Make the fault's repository."""
        ssh("nas1", f"rm -rf {SERVED}/{fault.name}; cp -a --reflink=always {SERVED}/base {SERVED}/{fault.name}")
        oracle = copy.deepcopy(self._oracles[fault.job])
        if fault.dump or fault.tree:
            made = json.loads(ssh(HOST, self._parts(fault, oracle)))
            oracle["snapshots"].update(made["snapshots"])
            if fault.noticed:
                oracle["files"].update(manifest=made["manifest"], count=len(made["manifest"]))
        if fault.oracle:
            before = json.dumps(oracle)
            fault.oracle(oracle)
            assert json.dumps(oracle) != before, "the fault did not land"
        if fault.dump or fault.tree or fault.oracle or fault.host != HOST or fault.tags:
            self._store_oracle(fault, oracle)
        if fault.known:
            arrived = self.arrivals(f"{SERVED}/{fault.name}")
            self._known[fault.id] = [max(arrived, key=lambda snapshot: arrived[snapshot])]
        if fault.repository:
            self._spoil_repository(fault)

    def _parts(self, fault: Fault, oracle: dict[str, Any]) -> str:
        """Script that changes what is to be changed, stores it, and prints {"snapshots", "manifest"}."""
        job, roots = fault.job, (oracle["files"] or {}).get("roots") or []
        store = (
            f"restic backup --json --host {HOST} --tag practice={PRACTICE} --tag job={job} --tag run={oracle['run']}"
        )
        script = [TOOLS, RESTIC.format(url=self._url(fault.name)), "snapshots= manifest=null"]
        if fault.dump:
            script += [
                f"F=/holdfast.{job}.dump; rm -rf $F; cp /root/kit/{job}.dump $F",
                fault.dump,
                f"if cmp -s $F /root/kit/{job}.dump; then echo 'the fault did not land' >&2; exit 9; fi",
                f"snapshots='\"database\": \"'$({store} --tag part=database $F | id_of)'\"'; rm -rf $F",
            ]
        if fault.tree:
            binds = "; ".join(f"mount --bind /root/kit/tree{root} {root}" for root in roots)
            named = " ".join(shlex.quote(root) for root in roots)
            script += [
                f"T=/root/kit/tree; rm -rf $T; cp -a /root/kit/tree-{job} $T",
                "before=$(listing $T)",
                fault.tree,
                'if [ "$before" = "$(listing $T)" ]; then echo \'the fault did not land\' >&2; exit 9; fi',
                "export -f restic",
                f"part=$(unshare -m bash -euc '{binds}; {store} --tag part=files {named}' | id_of)",
                'snapshots="$snapshots${snapshots:+, }\\"files\\": \\"$part\\""',
                f"manifest=$(python3 -c {shlex.quote(MANIFEST)} $T)",
            ]
        script.append('echo "{\\"snapshots\\": {$snapshots}, \\"manifest\\": $manifest}"')
        return "\n".join(script)

    def _store_oracle(self, fault: Fault, oracle: dict[str, Any]) -> None:
        tags = {"practice": PRACTICE, "job": fault.job, "run": oracle["run"], "part": "oracle", **fault.tags}
        words = " ".join(f"--tag {name}={value}" for name, value in tags.items())
        name = f"holdfast.{fault.job}.oracle.json"
        text = oracle.get("kit_text") or json.dumps(oracle)
        script = f"restic backup -q --host {fault.host} {words} --stdin --stdin-filename {name}"
        ssh(HOST, f"set -e; cd / {RESTIC.format(url=self._url(fault.name))} {script}", text)

    def _spoil_repository(self, fault: Fault) -> None:
        tree = "find . -type f -printf '%p %s %T@ ' -exec sha256sum {} + | sort | sha256sum"
        script = f"{TOOLS} cd {SERVED}/{fault.name}; before=$({tree}); chmod -R u+w .; {fault.repository}\n"
        ssh(
            "nas1",
            script
            + f'cd {SERVED}/{fault.name}; [ "$before" != "$({tree})" ] || {{ echo \'the fault did not land\' >&2; exit 9; }}',
        )

    def work(self, job: str, number: int) -> None:
        """Let the practice work: letters come, are edited and go, rows come, and the database's program goes on meanwhile."""
        ssh(HOST, WORK.format(number=number, busy=BUSY.get(job, "true")))

    def back_up(self, job: str) -> Fault:
        """Run the agent while the practice works on; a copy of the repository as it is now, as what is to be proved."""
        try:
            ssh(HOST, f"systemctl start holdfast-backup@{job}.service")
        finally:
            ssh(HOST, "systemctl stop busy.service 2>/dev/null || true")  # documents have no program that goes on
        self._oracles[job] = json.loads(ssh(HOST, f"cat /var/lib/holdfast/oracle/{job}.json"))
        clean = Fault("clean", "", job, set(), verdict=PASS)
        place = f"{SERVED}/{clean.name}"
        keys = f"rm -rf {place}/keys; cp -a {SERVED}/base/keys {place}/keys"
        ssh(
            "nas1", f"set -e; rm -rf {place}; cp -a --reflink=always /srv/holdfast/repositories/server1 {place}; {keys}"
        )
        return clean

    # --- from a backup to a verdict

    def arrivals(self, folder: str) -> dict[str, float]:
        """As the module snapshot_arrivals reads them, of a repository that is none of the practice's."""
        source = Path(nas_arrivals.__file__).read_text(encoding="utf-8")
        return json.loads(
            ssh("nas1", "python3 -", f"{source}\nimport json\nprint(json.dumps(snapshots_in(Path({folder!r}))))")
        )

    def prove(self, fault: Fault) -> Proved:
        """Prove the fault's repository."""
        repository = {"url": self._url(fault.name), "username": fault.name}
        arrived = self.arrivals(f"{SERVED}/{fault.name}")
        return self.judge(fault, repository, {fault.name: arrived})

    def judge(self, fault: Fault, repository: dict[str, str], arrivals: dict[str, dict[str, float]]) -> Proved:
        """Fetch, read the repository where that is asked for, load and compare, conclude."""
        levels = ["arrival", "files", "database"] if self._oracles[fault.job]["files"] else ["arrival", "database"]
        if fault.job not in ENGINE_OF:
            levels.remove("database")
        if fault.structure:
            levels.insert(1, "structure")
        row = {
            "item": fault.job,
            "job": fault.job,
            "host": HOST,
            "repository": repository,
            "rpo_s": 86400,
            "rto_s": 3600,
        }
        row.update({"levels": levels, **fault.wanted})
        given = {
            "practice": PRACTICE,
            "items": [row],
            "folder": str(self.folder),
            "repository_password": fault.password or self._password,
            "rest_password": "not asked for",
            "arrivals": arrivals,
            "known": self._known.get(fault.id, []),
            "timeout": PATIENCE_S,
            **self._machine,
        }
        began = time.monotonic()
        try:
            with self._after_loading(fault):
                results: dict[str, Any] = {"fetched": [self._phase("fetch", given)]}
                if "structure" in row["levels"]:
                    results["structures"] = [self._phase("structure", given)]
                if "database" in row["levels"]:
                    results["judged"] = [self._phase("judge", given)]
        finally:
            self._clear(row["item"])
        machine = {"driver": "nspawn", "created": True, "disposed": True}
        done = self._phase("conclude", {"practice": PRACTICE, "items": [row], "results": results, "machine": machine})
        return Proved(done["body"], done["lines"], time.monotonic() - began)

    @staticmethod
    def _phase(phase: str, given: dict[str, Any]) -> dict[str, Any]:
        """A phase of the module, run here instead of by ansible-playbook."""
        said = io.StringIO()
        # as every module ends
        ended = contextlib.suppress(SystemExit)
        with patch_module_args({**given, "phase": phase}), contextlib.redirect_stdout(said), ended:
            restore_verify.main()
        found = json.loads(said.getvalue())
        assert not found.get("failed"), found
        return found

    def _after_loading(self, fault: Fault) -> Any:
        return Damaged(fault, self._machine.get("leader", 0)) if fault.loaded else Untouched()

    def _clear(self, item: str) -> None:
        """Of one item in the machine, so that the next one finds it as it was."""
        place = Path(f"{self.folder}/root{PLACE}")
        shutil.rmtree(place / item, ignore_errors=True)
        (place / f"{item}.dump").unlink(missing_ok=True)
        shutil.rmtree(self.folder / "proof", ignore_errors=True)


class Untouched:
    """Nothing happens between loading and the engine's check."""

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return


class Damaged(Untouched):
    """A shell runs in the machine between what the copy is asked and its engine's check."""

    def __init__(self, fault: Fault, leader: int) -> None:
        self._engine = ENGINES[ENGINE_OF[fault.job]]
        self._fault = fault
        self._leader = leader
        self._landed = False

    def __enter__(self) -> None:
        def copied(machine: Any, item: str, section: Any) -> Any:
            made = type(self._engine).copy(self._engine, machine, item, section)
            check = made.check

            def damaged() -> Any:
                done = machine.call("bash", "-c", TOOLS + self._fault.loaded)
                assert done.rc == 0, f"the fault did not land: {done.err[-1000:]}"
                self._landed = True
                return check()

            made.check = damaged
            return made

        self._engine.copy = copied

    def __exit__(self, *_: object) -> None:
        del self._engine.copy
        assert self._landed, "the fault did not land"
