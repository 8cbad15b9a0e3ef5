# SPDX-License-Identifier: Apache-2.0
"""What the NAS must do and must never do, tried on a running one: from a client, from a disk, from a second play.

The tests run in their order: what they break they mend, and the last ones restart and dismantle the NAS.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import testinfra

SCENARIO = Path(__file__).resolve().parents[1]
PROJECT = SCENARIO.parents[1]
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
INVENTORY = EPHEMERAL / "inventory" / "machines.yml"
SECRETS = json.loads((EPHEMERAL / "nas_secrets.json").read_text())
URL = "https://198.18.0.11:8000"
DISKS = ["/dev/disk/by-id/lab-nas1-a", "/dev/disk/by-id/lab-nas1-b"]
REPOSITORIES = "/srv/holdfast/repositories"
SERVICE = "holdfast-rest-server"
SHELL = "ansible.builtin.shell"


def accounts(**quotas: str | None) -> list[dict[str, str]]:
    """Give the accounts option: name=quota."""
    rows = []
    for name, quota in quotas.items():
        row = {"name": name, "password_hash": SECRETS["nas_test_hashes"][name]}
        rows.append({**row, "quota": quota} if quota else row)
    return rows


USUAL = accounts(server1="600MiB", desk1="40MiB")


STORAGE = {
    "practice": "nas-test",
    "host": "nas1",
    "pool": {"profile": "raid1", "devices": DISKS},
}
REPOSITORY = {
    "practice": "nas-test",
    "host": "nas1",
    "listen": "198.18.0.11:8000",
    "certificate": SECRETS["nas_test_certificate"],
    "key": SECRETS["nas_test_key"],
    "accounts": USUAL,
}


def ansible_playbook(*arguments: Any) -> tuple[int, list[dict[str, Any]], str]:
    """Run a playbook: (exit code, result of each task of its first play on nas1, everything it printed)."""
    run = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", INVENTORY, *arguments],
        cwd=PROJECT,
        env={
            **os.environ,
            "ANSIBLE_INVENTORY_ENABLED": "yaml",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_COLLECTIONS_PATH": str(PROJECT / ".collections"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    start = re.search(r"^\{$", run.stdout, re.MULTILINE)
    assert start, run.stdout + run.stderr
    told = json.JSONDecoder().raw_decode(run.stdout[start.start() :])[0]
    results = [t["hosts"]["nas1"] for t in told["plays"][0]["tasks"] if "nas1" in t["hosts"]]
    return run.returncode, results, run.stdout + run.stderr


def play(*arguments: str) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Run the converge play again: (exit code, {module: result}, everything it printed)."""
    code, results, out = ansible_playbook(*arguments, SCENARIO / "converge.yml")
    return code, {r["action"].rsplit(".", 1)[-1]: r for r in results}, out


def modules(tmp_path: Path, *calls: tuple[str, dict[str, Any]], check: bool = False) -> list[dict[str, Any]]:
    """Call modules of ours, and shell(), on nas1, each whatever became of the one before: their results."""
    tasks = [
        {name: arguments, "ignore_errors": True, "check_mode": False}
        if name == SHELL
        else {f"holdfast.practice.{name}": arguments, "ignore_errors": True, "check_mode": check}
        for name, arguments in calls
    ]
    book = tmp_path / "calls.yml"
    book.touch(mode=0o600)
    book.write_text(json.dumps([{"hosts": "nas1", "gather_facts": False, "tasks": tasks}]))
    code, results, out = ansible_playbook(book)
    assert code == 0, out
    assert len(results) == len(calls), out
    return results


def shell(command: str) -> tuple[str, dict[str, Any]]:
    """Give a call of modules() that runs a command, in check mode too."""
    return SHELL, {"cmd": command}


def repository(tmp_path: Path, check: bool = False, **changes: Any) -> dict[str, Any]:
    """Call nas_repository with the usual arguments but for ``changes``; it must succeed."""
    (result,) = modules(tmp_path, ("nas_repository", {**REPOSITORY, **changes}), check=check)
    assert not result.get("failed"), result["msg"]
    return result


def storage(tmp_path: Path, check: bool = False, **changes: Any) -> dict[str, Any]:
    """Call nas_storage with the usual arguments but for ``changes``; whether it succeeds is the caller's question."""
    return modules(tmp_path, ("nas_storage", {**STORAGE, **changes}), check=check)[0]


def steps(results: dict[str, dict[str, Any]]) -> list[str]:
    """Give every step of both modules."""
    return [line for module in ("nas_storage", "nas_repository") for line in results.get(module, {}).get("changes", [])]


@pytest.fixture(scope="module")
def nas() -> Any:
    return testinfra.get_host(f"ansible://nas1?ansible_inventory={INVENTORY}")


class Client:
    """restic and curl on server1, with the credentials of one account."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.write("/root/nas-test/pem", SECRETS["nas_test_certificate"])
        self.write("/root/nas-test/repository", SECRETS["nas_test_repository_password"])

    def write(self, path: str, text: str) -> None:
        folder = shlex.quote(str(Path(path).parent))
        self.host.run_test(f"umask 077; mkdir -p {folder}; printf %s {shlex.quote(text)} > {shlex.quote(path)}")

    def restic(
        self,
        account: str,
        arguments: str,
        password: str = "",
        repository: str = "",
        pem: str = "pem",
        told: str = "",
    ) -> Any:
        """Run restic. It tries again for a quarter of an hour: with ``told`` it is stopped once it printed that."""
        secret = password or SECRETS["nas_test_passwords"][account]
        command = (
            f"RESTIC_REST_USERNAME={account} RESTIC_REST_PASSWORD={shlex.quote(secret)} "
            f"RESTIC_PASSWORD_FILE=/root/nas-test/repository timeout 120 restic --cacert /root/nas-test/{pem} --no-cache "
            f"--retry-lock 0s -r rest:{URL}/{repository or account}/ {arguments}"
        )
        if told:
            log = "/root/nas-test/told"
            command = (
                f"{command} > {log} 2>&1 & pid=$!; "
                f"while kill -0 $pid && ! grep -q {shlex.quote(told)} {log}; do sleep 0.2; done 2> /dev/null; "
                f"kill $pid 2> /dev/null; wait $pid; code=$?; cat {log} >&2; exit $code"
            )
        return self.host.run(command)

    def http(self, account: str, method: str, path: str, password: str = "", body: str = "x") -> int:
        secret = password or SECRETS["nas_test_passwords"][account]
        data = f"--data-binary {body}" if method == "POST" else "--head" if method == "HEAD" else f"-X {method}"
        answer = self.host.run(
            f"curl -s -o /dev/null -w '%{{http_code}}' --cacert /root/nas-test/pem "
            f"-u {account}:{shlex.quote(secret)} {data} {URL}{path}"
        )
        assert answer.rc == 0, answer.stderr
        return int(answer.stdout)

    def snapshots(self, account: str) -> list[dict[str, Any]]:
        listed = self.restic(account, "snapshots --json")
        assert listed.rc == 0, listed.stderr
        return list(json.loads(listed.stdout))


@pytest.fixture(scope="module")
def client() -> Client:
    return Client(testinfra.get_host(f"ansible://server1?ansible_inventory={INVENTORY}"))


def backed_up(client: Client, account: str, megabytes: int, name: str) -> Any:
    client.host.run_test(
        f"mkdir -p /root/nas-test/data && head -c {megabytes}M /dev/urandom > /root/nas-test/data/{name}"
    )
    return client.restic(account, f"backup --json /root/nas-test/data/{name}")


# --- the service ------------------------------------------------------------------------------------------------------


def test_a_client_makes_its_repository_backs_up_and_restores_the_same_bytes(client: Client) -> None:
    made = client.restic("server1", "init")
    assert made.rc == 0, made.stderr
    run = backed_up(client, "server1", 30, "first")
    assert run.rc == 0, run.stderr
    back = client.restic("server1", "restore latest --target /root/nas-test/back")
    assert back.rc == 0, back.stderr
    client.host.run_test("cmp /root/nas-test/data/first /root/nas-test/back/root/nas-test/data/first")


def test_more_can_be_appended(client: Client) -> None:
    before = len(client.snapshots("server1"))
    assert before > 0
    assert backed_up(client, "server1", 5, "second").rc == 0
    assert len(client.snapshots("server1")) == before + 1


def test_a_wrong_password_is_refused(client: Client) -> None:
    assert client.http("server1", "GET", "/server1/config", password="wrong") == 401
    refused = client.restic("server1", "snapshots", password="wrong")
    assert refused.rc != 0
    assert "401" in refused.stderr


def test_one_account_cannot_reach_anothers_repository(client: Client) -> None:
    assert client.http("server1", "GET", "/server1/config") == 200
    for method, path in (
        ("GET", "/server1/config"),
        ("GET", "/server1/snapshots/"),
        ("HEAD", "/server1/config"),
        ("POST", "/server1/snapshots/" + "0" * 64),
        ("POST", "/server1/?create=true"),
        ("GET", "/desk1/../server1/config"),
        ("GET", "/"),
    ):
        assert client.http("desk1", method, path) in (401, 403, 404, 405), (method, path)
    # 404 above would be an open door to an empty house: name the ones that matter exactly
    assert client.http("desk1", "GET", "/server1/config") == 401
    assert client.http("desk1", "POST", "/server1/snapshots/" + "0" * 64) == 401
    assert client.restic("desk1", "snapshots", repository="server1").rc != 0


def test_nothing_can_be_deleted_or_overwritten(client: Client, nas: Any) -> None:
    snapshot = client.snapshots("server1")[0]["id"]
    pack = nas.check_output(f"find {REPOSITORIES}/server1/data -type f | head -1").rsplit("/", 1)[-1]
    before = nas.check_output(
        f"cd {REPOSITORIES}/server1 && find . -path ./locks -prune -o -type f -print0 | sort -z | xargs -0 sha256sum"
    )
    assert client.http("server1", "DELETE", f"/server1/snapshots/{snapshot}") == 403
    assert client.http("server1", "DELETE", f"/server1/data/{pack}") == 403
    assert client.http("server1", "DELETE", "/server1/config") == 403
    assert client.http("server1", "DELETE", "/server1/") in (403, 405)
    assert client.http("server1", "POST", "/server1/config") == 403
    assert client.http("server1", "POST", f"/server1/data/{pack}") == 403
    # restic 0.18 may end with 0 here: what counts is what it could not do
    forgotten = client.restic("server1", f"forget {snapshot}")
    assert "403" in forgotten.stdout + forgotten.stderr
    assert snapshot in {s["id"] for s in client.snapshots("server1")}
    after = nas.check_output(
        f"cd {REPOSITORIES}/server1 && find . -path ./locks -prune -o -type f -print0 | sort -z | xargs -0 sha256sum"
    )
    assert len(before.splitlines()) > 5
    assert after == before


def test_a_false_object_is_refused(client: Client) -> None:
    # --no-verify-upload is never given: content must match its name
    assert client.http("server1", "POST", "/server1/data/" + "ab" * 32) == 400


def test_a_client_that_pins_another_certificate_stops_before_it_logs_in(client: Client) -> None:
    client.write("/root/nas-test/other-pem", SECRETS["nas_test_renewed"]["certificate"])
    refused = client.restic("server1", "snapshots", pem="other-pem", told="certificate")
    assert refused.rc != 0
    assert "x509: certificate signed by unknown authority" in refused.stderr


def test_plain_http_is_not_answered(client: Client) -> None:
    # Go's server says 400 to plain HTTP on a TLS port
    assert client.host.run("curl -s -o /dev/null -w '%{http_code}' http://198.18.0.11:8000/").stdout == "400"


def test_debians_own_service_never_ran(nas: Any) -> None:
    assert nas.run("systemctl is-active restic-rest-server").stdout.strip() == "inactive"
    assert nas.run("systemctl is-enabled restic-rest-server").stdout.strip() == "disabled"
    assert nas.check_output("journalctl -q --no-pager -u restic-rest-server") == ""


def test_the_files_of_one_host_are_closed_to_others(nas: Any) -> None:
    assert nas.check_output(f"stat -c '%U %a' {REPOSITORIES}/server1") == "restic-rest-server 700"
    for secret in ("/etc/holdfast-nas/tls.key", "/etc/holdfast-nas/htpasswd", f"{REPOSITORIES}/server1/config"):
        assert nas.run(f"runuser -u nobody -- cat {secret}").rc != 0
        assert nas.run(f"test -s {secret}").rc == 0


def stored(nas: Any, account: str) -> int:
    """Count the bytes in the files of an account, but for uploads that have not ended."""
    files = f"find {REPOSITORIES}/{account} -type f -not -name '*.rest-server-temp*'"
    sizes = nas.check_output(f"{files} -printf '%s\\n'").split()
    assert sizes
    return sum(int(size) for size in sizes)


def test_one_hosts_limit_does_not_stop_another(client: Client, nas: Any) -> None:
    assert client.restic("desk1", "init").rc == 0
    assert backed_up(client, "desk1", 5, "small").rc == 0
    client.host.run_test("head -c 60M /dev/urandom > /root/nas-test/data/flood")
    full = client.restic("desk1", "backup /root/nas-test/data/flood", told="507")
    assert full.rc != 0
    assert "507 Insufficient Storage" in full.stderr, full.stderr
    # 507 may also mean a full pool, and the server's log is silent about a refused write: ask the kernel for its reason
    for account, reason in (("desk1", "Disk quota exceeded"), ("server1", "")):
        probe = f"{REPOSITORIES}/{account}/probe"
        tried = nas.run(
            f"runuser -u restic-rest-server -- dd if=/dev/zero of={probe} bs=1M count=40 conv=fsync status=none"
        )
        nas.run_test(f"rm {probe}")
        assert ((tried.rc == 0), tried.stderr.strip().rpartition(": ")[2]) == (not reason, reason), tried.stderr
    assert 4_000_000 < stored(nas, "desk1") <= 40 * 1024 * 1024
    other = backed_up(client, "server1", 50, "third")
    assert other.rc == 0, other.stderr
    # what desk1 had before stays readable, even where there is no room for a lock, and nothing else came to be
    listed = client.restic("desk1", "snapshots --json --no-lock")
    assert listed.rc == 0, listed.stderr
    assert len(json.loads(listed.stdout)) == 1
    back = client.restic("desk1", "restore latest --no-lock --target /root/nas-test/back-small")
    assert back.rc == 0, back.stderr
    client.host.run_test("cmp /root/nas-test/data/small /root/nas-test/back-small/root/nas-test/data/small")


def test_a_killed_server_comes_back_and_leaves_no_half_uploads(client: Client, nas: Any) -> None:
    left = f"{REPOSITORIES}/server1/data/00/{'0' * 64}.rest-server-temp123"
    nas.run_test(f"runuser -u restic-rest-server -- touch {left}")
    old = nas.check_output(f"systemctl show -P MainPID {SERVICE}")
    nas.run_test(f"systemctl kill -s KILL {SERVICE}")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and nas.check_output(f"systemctl show -P MainPID {SERVICE}") in ("0", old):
        time.sleep(0.5)
    assert nas.check_output(f"systemctl show -P MainPID {SERVICE}") not in ("0", old)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and client.host.run(f"curl -s -k {URL}/").rc != 0:
        time.sleep(0.5)
    assert client.http("server1", "GET", "/server1/config") == 200
    assert not nas.file(left).exists


# --- a second play ----------------------------------------------------------------------------------------------------


def test_a_second_play_changes_nothing_and_restarts_nothing(nas: Any) -> None:
    nas.run_test("btrfs filesystem sync /srv/holdfast")  # use is counted when it is committed, every 30 s
    before = nas.check_output(f"systemctl show -P MainPID {SERVICE}")
    code, results, _out = play()
    assert code == 0
    assert steps(results) == []
    assert nas.check_output(f"systemctl show -P MainPID {SERVICE}") == before
    pool, service = results["nas_storage"], results["nas_repository"]
    assert (pool["mounted"], pool["degraded"], pool["profile"], pool["quota"]) == (True, False, "raid1", "simple")
    assert len(pool["devices"]) == 2
    assert 1_000_000_000 < pool["bytes"]["free"] < pool["bytes"]["total"]
    assert service["serving"] is True
    assert service["certificate"]["days_left"] in (3649, 3650)
    # inodes and trees count too
    held = stored(nas, "server1")
    assert held < service["accounts"]["server1"]["used"] < held * 1.1
    assert service["accounts"]["server1"]["quota"] == 600 * 1024 * 1024


def test_nothing_secret_is_printed(tmp_path: Path, nas: Any) -> None:
    """Password file and key are gone and would be written anew: the most that a diff could show."""
    nas.run_test("cp -a /etc/holdfast-nas /root/kept && rm /etc/holdfast-nas/htpasswd /etc/holdfast-nas/tls.key")
    code, results, out = play("-vvvv", "--check", "--diff")
    nas.run_test("rm -r /etc/holdfast-nas && mv /root/kept /etc/holdfast-nas")
    assert code == 0
    assert "write /etc/holdfast-nas/htpasswd (missing)" in steps(results)
    assert "write /etc/holdfast-nas/tls.key (missing)" in steps(results)
    for secret in (*SECRETS["nas_test_hashes"].values(), *SECRETS["nas_test_key"].splitlines()[1:-1]):
        assert secret not in out


def test_drifted_modes_are_reported_then_repaired(tmp_path: Path, nas: Any) -> None:
    loose = {"/etc/holdfast-nas/htpasswd": "640", "/etc/holdfast-nas/tls.key": "640", f"{REPOSITORIES}/server1": "700"}
    for path in loose:
        nas.run_test(f"chmod 777 {path}")
    assert sorted(repository(tmp_path, check=True)["repaired"]) == sorted(loose)
    assert {nas.check_output(f"stat -c %a {path}") for path in loose} == {"777"}
    assert sorted(repository(tmp_path)["repaired"]) == sorted(loose)
    assert {path: nas.check_output(f"stat -c %a {path}") for path in loose} == loose


def test_an_account_comes_and_goes_without_a_restart_and_keeps_its_data(
    tmp_path: Path, nas: Any, client: Client
) -> None:
    before = nas.check_output(f"systemctl show -P MainPID {SERVICE}")
    assert client.http("former", "GET", "/former/config") == 401
    repository(tmp_path, accounts=[*USUAL, *accounts(former="100MiB")])
    made = client.restic("former", "init")
    assert made.rc == 0, made.stderr
    (orphan,) = repository(tmp_path)["orphans"]
    assert (orphan["name"], orphan["snapshots"], orphan["newest"]) == ("former", 0, None)
    assert orphan["bytes"] > 0
    assert client.http("former", "GET", "/former/config") == 401
    assert nas.file(f"{REPOSITORIES}/former/config").exists
    assert nas.check_output(f"systemctl show -P MainPID {SERVICE}") == before


def test_only_root_reaches_what_is_kept_and_the_service_starts_beside_it(
    tmp_path: Path, nas: Any, client: Client
) -> None:
    kept = f"{REPOSITORIES}/former"
    assert nas.check_output(f"stat -c '%U:%G %a' {kept}") == "root:root 700"
    assert nas.run(f"runuser -u restic-rest-server -- ls {kept}").rc != 0
    half = f"{REPOSITORIES}/server1/data/00/x.rest-server-temp1"
    nas.run_test(f"install -o restic-rest-server -m 600 /dev/null {half}")
    nas.run_test(f"systemctl restart {SERVICE}")
    assert repository(tmp_path)["changed"] is False
    assert not nas.file(half).exists
    # the account is back, and so is its folder; nobody repaired anything
    back = repository(tmp_path, accounts=[*USUAL, *accounts(former="100MiB")])
    assert (back["orphans"], back["repaired"]) == ([], [])
    assert client.restic("former", "cat config").rc == 0
    assert [orphan["name"] for orphan in repository(tmp_path)["orphans"]] == ["former"]


def test_a_new_certificate_is_served_and_warned_about_when_short(tmp_path: Path) -> None:
    result = repository(tmp_path, **SECRETS["nas_test_renewed"])
    assert result["serving"] is True
    assert result["certificate"]["days_left"] in (19, 20)
    assert "the certificate expires on" in str(result["warnings"])
    result = repository(tmp_path)
    assert f"restart {SERVICE}.service (/etc/holdfast-nas/tls.pem changed)" in result["changes"]


def test_a_restart_that_was_lost_is_made_up_for(tmp_path: Path, nas: Any) -> None:
    """A run that died between writing a file and restarting leaves a file newer than the service."""
    before = nas.check_output(f"systemctl show -P MainPID {SERVICE}")
    nas.run_test("touch /etc/holdfast-nas/tls.key")
    assert [line for line in repository(tmp_path)["changes"] if line.startswith("restart")]
    assert nas.check_output(f"systemctl show -P MainPID {SERVICE}") != before


def test_wrong_wishes_are_refused_before_anything_is_written(tmp_path: Path, nas: Any) -> None:
    wishes: list[tuple[str, dict[str, Any], list[str]]] = [
        ("nas_repository", SECRETS["nas_test_expired"], ["nas-test/nas1", "expired on 20"]),
        ("nas_repository", {"key": SECRETS["nas_test_renewed"]["key"]}, ["does not belong to the certificate"]),
        ("nas_repository", {"practice": "other-street"}, ['practice "nas-test"', 'practice "other-street"']),
        ("nas_storage", {"practice": "other-street"}, ['practice "nas-test"', 'practice "other-street"']),
        ("nas_storage", {"host": "nas9"}, ['"nas1"', '"nas9"']),
        ("nas_repository", {"accounts": [{"name": "../up", "password_hash": "x"}]}, ["../up"]),
        ("nas_repository", {"accounts": [*USUAL, *USUAL]}, ["named twice"]),
        ("nas_repository", {"accounts": [{"name": "plain", "password_hash": "hunter22"}]}, ["plain", "bcrypt"]),
        ("nas_repository", {"accounts": accounts(server1="lots")}, ["server1", "200GiB"]),
        ("nas_repository", {"listen": "everywhere"}, ["everywhere", "ADDRESS:PORT"]),
        ("nas_repository", {"root": "/srv"}, ["/srv: no pool is mounted there"]),
    ]
    tree = "find /etc/holdfast /etc/holdfast-nas /etc/systemd/system /srv -xdev -printf '%p %m %u %T@\n' | sort | sha256sum"
    before = nas.check_output(tree)
    usual = {"nas_storage": STORAGE, "nas_repository": REPOSITORY}
    results = modules(tmp_path, *((name, {**usual[name], **change}) for name, change, _words in wishes))
    for (_name, _change, words), result in zip(wishes, results, strict=True):
        assert result.get("failed"), words
        assert all(word in result["msg"] for word in words), result["msg"]
        assert "hunter22" not in str(result)
    assert nas.check_output(tree) == before


# --- the pool ---------------------------------------------------------------------------------------------------------


def test_a_wrong_pool_is_refused_whatever_is_allowed(tmp_path: Path, nas: Any) -> None:
    nas.run_test(f"ln -sfn {DISKS[0]} /tmp/nas-link")
    gone = "/dev/disk/by-id/gone"
    wishes: list[tuple[dict[str, Any], list[str]]] = [
        ({"devices": [DISKS[0], DISKS[0]]}, ["same device"]),
        ({"devices": [DISKS[0], "/tmp/nas-link"]}, ["same device"]),
        ({"devices": [DISKS[0], gone]}, ["degraded", gone, "not there", "Nothing was formatted"]),
        ({"devices": [DISKS[0]]}, ["needs 2 devices"]),
        ({"profile": "single"}, ["does not have profile single", "btrfs balance start -dconvert=single,soft"]),
        ({"devices": [*DISKS, "/etc/hostname"]}, ["/etc/hostname", "not a block device"]),
        ({"mountpoint": "/srv/../etc"}, ["plain absolute path"]),
    ]
    state = "btrfs filesystem show --raw /srv/holdfast | grep -v used; cat /etc/systemd/system/srv-holdfast.mount"
    before = nas.check_output(state)
    calls = [
        ("nas_storage", {**STORAGE, "pool": {**STORAGE["pool"], **pool}, "allow_format": allow})  # type: ignore[dict-item]
        for pool, _words in wishes
        for allow in (False, True)
    ]
    results = modules(tmp_path, *calls)
    for number, result in enumerate(results):
        words = wishes[number // 2][1]
        assert result.get("failed"), words
        assert all(word in result["msg"] for word in words), result["msg"]
    assert [r["degraded"] for r in results[4:6]] == [True, True]
    assert nas.check_output(state) == before


def test_the_pool_keeps_two_copies_on_two_disks(nas: Any) -> None:
    kept = json.loads(nas.check_output("btrfs --format json filesystem df /srv/holdfast"))["filesystem-df"]
    assert {(k["bg-type"], k["bg-profile"]) for k in kept if k["bg-type"] != "GlobalReserve"} == {
        ("Data", "RAID1"),
        ("Metadata", "RAID1"),
        ("System", "RAID1"),
    }
    copies = copies_of(nas, biggest_pack(nas))
    assert sorted(device for device, _offset in copies) == sorted(DISKS)


def biggest_pack(nas: Any) -> str:
    listed = nas.check_output(f"find {REPOSITORIES}/server1/data -type f -printf '%s %p\\n' | sort -n | tail -1")
    return str(listed).split(" ", 1)[1]


def copies_of(nas: Any, path: str) -> list[tuple[str, int]]:
    """Say where a file's first block lies: (device, byte offset) of each copy."""
    nas.run_test("btrfs filesystem sync /srv/holdfast")
    # filefrag speaks of btrfs's logical addresses, in blocks of 4096 bytes
    first = re.search(r"^\s*0:\s+0\.\.\s*\d+:\s+(\d+)\.\.", nas.check_output(f"filefrag -v {path}"), re.MULTILINE)
    assert first, "the file has no extent on disk"
    mapped = nas.check_output(f"btrfs-map-logical -l {int(first.group(1)) * 4096} -b 4096 {DISKS[0]}")
    found = re.findall(r"^mirror \d+ logical \d+ physical (\d+) device (\S+)", mapped, re.MULTILINE)
    # the kernel may know a disk by another name than ours
    names = {nas.check_output(f"stat -Lc %t:%T {disk}"): disk for disk in DISKS}
    return [(names[nas.check_output(f"stat -Lc %t:%T {device}")], int(offset)) for offset, device in found]


def raw(nas: Any, device: str, offset: int) -> str:
    """Hash one block as it is on the disk itself, past every cache."""
    block = f"dd if={device} bs=4096 skip={offset // 4096} count=1 iflag=direct status=none"
    return str(nas.check_output(f"{block} | sha256sum | cut -d' ' -f1"))


def test_scrub_mends_a_rotten_byte(tmp_path: Path, nas: Any, client: Client) -> None:
    path = biggest_pack(nas)
    whole = nas.check_output(f"sha256sum {path}")
    sound = nas.check_output(f"head -c 4096 {path} | sha256sum | cut -d' ' -f1")
    copies = copies_of(nas, path)
    assert len(copies) == 2
    assert {raw(nas, *copy) for copy in copies} == {sound}  # the offsets are the file's own, on both disks
    device, offset = copies[1]
    nas.run_test(
        f"dd if={device} of=/tmp/block bs=4096 skip={offset // 4096} count=1 iflag=direct status=none && "
        f"head -c 100 /dev/zero | dd of=/tmp/block bs=1 seek=1000 conv=notrunc status=none && "
        f"dd if=/tmp/block of={device} bs=4096 seek={offset // 4096} count=1 oflag=direct conv=notrunc status=none"
    )
    Path("/proc/sys/vm/drop_caches").write_text("3\n")  # one kernel for all machines of the lab
    assert raw(nas, device, offset) != sound, "the injection did not land"
    nas.run_test("systemctl start holdfast-scrub.service")
    assert "csum" in nas.check_output("btrfs scrub status -R /srv/holdfast")
    corrected = re.search(r"corrected_errors: (\d+)", nas.check_output("btrfs scrub status -R /srv/holdfast"))
    assert corrected
    assert int(corrected.group(1)) >= 1
    assert raw(nas, device, offset) == sound
    assert nas.check_output(f"sha256sum {path}") == whole
    found = storage(tmp_path)
    assert not found.get("failed"), found["msg"]
    assert found["device_errors"] >= 1
    assert [d["corruption_errs"] > 0 for d in found["devices"]] == [disk == device for disk in DISKS]
    nas.run_test("btrfs device stats --reset /srv/holdfast")
    checked = client.restic("server1", "check --read-data --no-lock")
    assert checked.rc == 0, checked.stderr


def test_the_scrub_timer_is_set(nas: Any) -> None:
    assert nas.run("systemctl is-enabled holdfast-scrub.timer").stdout.strip() == "enabled"
    assert nas.check_output("systemctl show -P NextElapseUSecRealtime holdfast-scrub.timer")


def test_arrivals_are_the_nass_own_times(tmp_path: Path, nas: Any, client: Client) -> None:
    claimed = client.restic("server1", "backup --json --time '2035-01-01 00:00:00' /root/nas-test/data/second")
    assert claimed.rc == 0, claimed.stderr
    snapshot = next(s["id"] for s in client.snapshots("server1") if s["time"].startswith("2035"))
    asked = {"practice": "nas-test", "host": "nas1"}
    found, strange, missing = modules(
        tmp_path,
        ("snapshot_arrivals", {**asked, "sizes": True}),
        ("snapshot_arrivals", {**asked, "practice": "other-street"}),
        ("snapshot_arrivals", {**asked, "accounts": ["nobody"]}),
        check=True,
    )
    assert "other-street" in strange["msg"]
    assert "no repository folder for nobody" in missing["msg"]
    assert found["repositories"]["server1"]["bytes"] == stored(nas, "server1")
    arrivals = found["arrivals"]
    assert abs(arrivals["server1"][snapshot] - time.time()) < 120
    assert set(arrivals["server1"]) == {s["id"] for s in client.snapshots("server1")}
    assert set(arrivals) == {"server1", "desk1", "former"}
    assert arrivals["former"] == {}


# --- the end: these leave the NAS changed -----------------------------------------------------------------------------


def wait_for(host: Any, command: str, seconds: int) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if host.run(command).rc == 0:
                return
        except RuntimeError:  # ssh itself failed: not up yet
            pass
        time.sleep(1)
    pytest.fail(f"not within {seconds} s: {command}")


def test_pool_and_service_come_back_after_a_restart(nas: Any, client: Client) -> None:
    boot = nas.check_output("cat /proc/1/stat | cut -d' ' -f22")
    count = len(client.snapshots("server1"))
    with contextlib.suppress(RuntimeError):  # the connection goes with the machine
        nas.run("systemctl reboot")
    wait_for(nas, f"test $(cut -d' ' -f22 /proc/1/stat) != {boot} && systemctl is-active {SERVICE}", 90)
    assert nas.mount_point("/srv/holdfast").filesystem == "btrfs"
    assert len(client.snapshots("server1")) == count
    code, results, _out = play()
    assert code == 0
    assert steps(results) == []


def test_without_its_pool_the_service_does_not_start(nas: Any, client: Client) -> None:
    nas.run_test("systemctl stop srv-holdfast.mount")
    assert nas.run(f"systemctl is-active {SERVICE}").rc != 0
    assert nas.run("mountpoint -q /srv/holdfast").rc != 0
    broken = "/run/systemd/system/srv-holdfast.mount.d"
    nas.run_test(f"mkdir -p {broken} && printf '[Mount]\\nOptions=subvol=none-such\\n' > {broken}/broken.conf")
    nas.run_test("systemctl daemon-reload")
    assert nas.run(f"systemctl start {SERVICE}").rc != 0
    assert nas.run(f"systemctl is-active {SERVICE}").rc != 0
    assert client.host.run(f"curl -s -k {URL}/").rc == 7
    nas.run_test(f"rm -r {broken} && systemctl daemon-reload")
    code, _results, _out = play()
    assert code == 0
    assert nas.run(f"systemctl is-active {SERVICE}").rc == 0


def test_what_is_kept_is_deleted_on_its_own_demand_only(tmp_path: Path, nas: Any) -> None:
    def call(name: str, state: str) -> tuple[str, dict[str, Any]]:
        return ("nas_orphan", {"practice": "nas-test", "host": "nas1", "name": name, "state": state})

    nas.run_test(f"mkdir {REPOSITORIES}/by-hand")
    in_use, odd, no_subvolume, seen = modules(
        tmp_path,
        call("server1", "absent"),
        call("../server1", "absent"),
        call("by-hand", "absent"),
        call("former", "present"),
    )
    assert "still has an account" in in_use["msg"]
    assert "expected the name of a host" in odd["msg"]
    assert "expected a subvolume" in no_subvolume["msg"]
    assert (seen["changed"], seen["orphan"]["name"]) == (False, "former")
    nas.run_test(f"rmdir {REPOSITORIES}/by-hand")
    assert nas.file(f"{REPOSITORIES}/former/config").exists
    (dry,) = modules(tmp_path, call("former", "absent"), check=True)
    assert dry["changed"]
    assert nas.file(f"{REPOSITORIES}/former/config").exists
    gone, again = modules(tmp_path, call("former", "absent"), call("former", "absent"))
    assert (gone["changed"], gone["orphan"]["name"]) == (True, "former")
    assert not nas.file(f"{REPOSITORIES}/former").exists
    assert (again["changed"], again["orphan"]) == (False, None)
    assert repository(tmp_path)["orphans"] == []


def test_removal_leaves_no_service_and_no_secret_but_all_data(tmp_path: Path, nas: Any, client: Client) -> None:
    count = len(client.snapshots("server1"))
    gone = {"practice": "nas-test", "host": "nas1", "state": "absent"}
    too_early, first, again, unmounted, nothing = modules(
        tmp_path,
        ("nas_storage", {**STORAGE, "state": "absent"}),
        ("nas_repository", gone),
        ("nas_repository", gone),
        ("nas_storage", {**STORAGE, "state": "absent"}),
        ("nas_storage", {**STORAGE, "state": "absent"}),
    )
    assert "nas_repository_state: absent" in too_early["msg"]
    assert first["changed"]
    assert [orphan["name"] for orphan in first["orphans"]] == ["desk1", "server1"]
    assert (again["changed"], again["orphans"]) == (False, first["orphans"])
    assert (unmounted["changed"], unmounted["mounted"]) == (True, False)
    assert not nothing["changed"]
    assert not nas.file("/etc/holdfast-nas").exists
    assert nas.run(f"systemctl cat {SERVICE}").rc != 0
    assert client.host.run(f"curl -s -k {URL}/").rc == 7
    assert not nas.file("/srv/holdfast").exists
    assert not re.search("srv-holdfast|holdfast-scrub", nas.check_output("systemctl list-unit-files --no-legend"))
    code, results, _out = play()
    assert code == 0
    assert not [line for line in steps(results) if line.startswith("format")]
    assert len(client.snapshots("server1")) == count


def test_a_disk_that_carries_anything_is_not_formatted(tmp_path: Path) -> None:
    """The pool is given up for good here: its disks get other owners."""
    gone = {"practice": "nas-test", "host": "nas1", "state": "absent"}
    modules(tmp_path, ("nas_repository", gone), ("nas_storage", {**STORAGE, "state": "absent"}))
    first, second = DISKS
    ext4 = f"mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 -L PATIENTS {second}"
    # what is done to the disks, what the refusal must say, and whether the setting would overrule it
    cases: list[tuple[str, list[str], bool]] = [
        (f"wipefs -q -a {second}", ["degraded", "Nothing was formatted", second], False),
        (
            f"wipefs -q -a {first} && dd if=/dev/zero of={first} bs=1M count=1 status=none && {ext4}",
            ['ext4 "PATIENTS"'],
            True,
        ),
        (f"mount -o ro {second} /mnt", [second, "in use", "/mnt"], False),
        (f"umount /mnt && wipefs -q -a {second}", ["data of an unknown kind"], True),
        (f"mkswap -q -f {second}", [second, "swap"], True),
        (
            f"wipefs -q -a {second} && mkfs.btrfs -q -f -L holdfast:other-street {second}",
            ["other-street", "never"],
            False,
        ),
    ]
    state = f"sync; for disk in {first} {second}; do head -c 8M $disk | sha256sum; done"
    calls: list[tuple[str, dict[str, Any]]] = []
    for prepare, _words, setting_helps in cases:
        calls += [shell(f"{prepare} && {state}"), ("nas_storage", STORAGE)]
        calls += [("nas_storage", {**STORAGE, "allow_format": not setting_helps}), shell(state)]
    results = modules(tmp_path, *calls)
    for number, (prepare, words, setting_helps) in enumerate(cases):
        before, refused, allowed, after = results[4 * number : 4 * number + 4]
        assert before["rc"] == 0, before["stderr"]
        for result in (refused, allowed):
            assert result.get("failed"), prepare
            assert all(word in result["msg"] for word in words), result["msg"]
            assert ("nas_storage_allow_format: true" in result["msg"]) is setting_helps
        assert len(before["stdout_lines"]) == len(DISKS)
        assert after["stdout_lines"] == before["stdout_lines"], prepare


def test_allow_format_erases_a_free_disk_once_asked(tmp_path: Path) -> None:
    prepared, told, kept = modules(
        tmp_path,
        shell(f"wipefs -q -a {DISKS[1]} && mkfs.ext4 -q -F {DISKS[1]}"),
        ("nas_storage", {**STORAGE, "allow_format": True}),
        shell(f"wipefs -n {DISKS[1]}"),
        check=True,
    )
    assert prepared["rc"] == 0, prepared["stderr"]
    assert any(line.startswith("format") for line in told["changes"])
    assert "ext4" in kept["stdout"]
    done = storage(tmp_path, allow_format=True)
    assert not done.get("failed"), done["msg"]
    assert [line for line in done["changes"] if line.startswith("format")]
    code, _results, _out = play()
    assert code == 0
    code, results, _out = play()
    assert (code, steps(results)) == (0, [])
