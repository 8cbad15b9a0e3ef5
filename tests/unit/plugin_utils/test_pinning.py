# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, cli, pinning, secrets
from ansible_collections.holdfast.practice.plugins.plugin_utils.pinning import Finding, Key, SilentError, Target
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "inventories" / "harbour-street" / "practice.yml"
NAMES = ["nas1", "server1", "desk1"]


def key(number):
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return Key("ssh-ed25519", paramiko.pkey.decodebytes(public.split()[1]))


# --- keys, names and fingerprints, as OpenSSH has them


def keygen(*arguments, **extra):
    return subprocess.run(["ssh-keygen", *map(str, arguments)], capture_output=True, text=True, check=False, **extra)


needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not on this machine")


@needs_ssh
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path, kind):
    keygen("-q", "-t", kind, "-N", "", "-f", tmp_path / "key")
    parsed = pinning.parse("host " + (tmp_path / "key.pub").read_text())[0].key
    printed = keygen("-l", "-f", tmp_path / "key.pub").stdout.split()
    assert str(parsed) == f"{printed[1]} {printed[-1]}"


@needs_ssh
@pytest.mark.parametrize(
    ("target", "looked_up"),
    [
        (Target("a", "198.18.0.11"), "198.18.0.11"),
        (Target("a", "NAS1.Example.org"), "nas1.example.org"),
        (Target("a", "198.18.0.11", 2222), "[198.18.0.11]:2222"),
        (Target("a", "2001:db8:0::5"), "2001:db8:0::5"),
        (Target("a", "2001:db8:0::5"), "2001:db8::5"),
        (Target("a", "2001:db8::5", 2222), "[2001:db8::5]:2222"),
        (Target("a", "fe80::1%eth0"), "fe80::1%eth0"),
    ],
)
def test_what_is_pinned_is_found_by_openssh(tmp_path, target, looked_up):
    file = tmp_path / "known_hosts"
    file.write_text(pinning.pinned("", {target: key(1)}))
    assert keygen("-F", looked_up, "-f", file).returncode == 0
    assert keygen("-F", "198.18.0.99", "-f", file).returncode == 1


def test_other_entries_stay_as_they_are_and_the_old_key_goes():
    hashed = paramiko.HostKeys.hash_host("198.18.0.12")
    old, other = key(1), key(2)
    lines = [
        "# by hand",
        pinning.pinned("", {Target("x", "198.18.0.11,desk"): old}).strip(),
        f"{hashed} ssh-ed25519 {blob(old)}",
        f"@revoked 198.18.0.11 ssh-ed25519 {blob(old)}",
        "",
        "198.18.0.12 ssh-ed25519 not-base64",
    ]
    after = pinning.pinned("\n".join(lines), {Target("nas1", "198.18.0.11"): other, Target("s", "198.18.0.12"): other})
    assert after.splitlines() == [
        "# by hand",
        f"desk ssh-ed25519 {blob(old)} x",
        f"@revoked 198.18.0.11 ssh-ed25519 {blob(old)}",
        "",
        "198.18.0.12 ssh-ed25519 not-base64",
        f"198.18.0.11 ssh-ed25519 {blob(other)} nas1",
        f"198.18.0.12 ssh-ed25519 {blob(other)} s",
    ]


def blob(a_key):
    return paramiko.pkey.encodebytes(a_key.blob).decode().replace("\n", "")


def test_a_hashed_pin_is_seen():
    text = f"{paramiko.HostKeys.hash_host('[198.18.0.12]:2222')} ssh-ed25519 {blob(key(3))}\n"
    assert pinning.pins(pinning.parse(text), Target("a", "198.18.0.12", 2222)) == (key(3),)
    assert pinning.pins(pinning.parse(text), Target("a", "198.18.0.12")) == ()


# --- real connections


@contextmanager
def ssh_server(*private, banner=None, address="127.0.0.1"):
    """Listen as an SSH server that shows these keys, or as something that says only banner."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family)
    stopping = threading.Event()

    def serve():
        while not stopping.is_set():
            connection, _ = listener.accept()
            if stopping.is_set():
                connection.close()
                return
            if banner is not None:
                connection.sendall(banner)
                connection.close()
                continue
            transport = paramiko.Transport(connection)
            for each in private:
                transport.add_server_key(each)
            try:
                transport.start_server(server=paramiko.ServerInterface())
            except (paramiko.SSHException, EOFError, OSError):  # who only came for the key leaves when it has it
                transport.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    try:
        yield Target("host", address, port)
    finally:
        stopping.set()
        socket.create_connection((address, port)).close()
        thread.join(10)
        listener.close()


def private_key(number=1):
    pem = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return paramiko.Ed25519Key.from_private_key(io.StringIO(pem.decode()))


RSA = paramiko.RSAKey.generate(2048)
ECDSA = paramiko.ECDSAKey.generate()


def test_a_host_shows_its_key_before_anybody_logs_in():
    with ssh_server(RSA, private_key(), ECDSA) as target:
        assert pinning.read_key(target) == key(1)


@pytest.mark.parametrize("own", [RSA, ECDSA], ids=["rsa", "ecdsa"])
def test_the_kind_that_is_pinned_is_the_kind_that_is_asked_for(own):
    with ssh_server(private_key(), own) as target:
        seen = pinning.read_key(target, [own.get_name()])
        text = pinning.pinned("", {target: seen})
        assert seen.kind == own.get_name()
        assert [each.state for each in pinning.look([target], text)] == ["same"]


def test_a_host_that_has_lost_the_pinned_kind_is_changed_not_silent():
    with ssh_server(RSA) as target:
        text = pinning.pinned("", {target: key(1)})
        found = pinning.look([target], text)[0]
    assert (found.state, found.key.kind, found.pinned) == ("changed", "ssh-rsa", (key(1),))


def test_another_key_is_changed():
    with ssh_server(private_key(2)) as target:
        assert pinning.look([target], pinning.pinned("", {target: key(1)}))[0].state == "changed"
        assert pinning.look([target], "")[0].state == "new"


@pytest.mark.parametrize("banner", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_is_not_ssh_is_silent_with_a_reason_and_nothing_on_the_screen(banner, capfd):
    with ssh_server(banner=banner) as target:
        found = pinning.look([target], "")[0]
    assert found.state == "silent"
    assert "not as SSH does" in found.reason
    assert capfd.readouterr() == ("", "")


def test_a_closed_port_is_silent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert pinning.look([Target("a", "127.0.0.1", port)], "")[0].reason == "connection refused"


@pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH is not on this machine")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_ssh_itself_accepts_the_pinned_key_and_no_other(tmp_path, address):
    with ssh_server(private_key(1), address=address) as target:
        for number, refused in ((1, False), (2, True)):
            (tmp_path / "known_hosts").write_text(pinning.pinned("", {target: key(number)}))
            options = ["-F", "none", "-o", f"UserKnownHostsFile={tmp_path}/known_hosts", "-o", "BatchMode=yes"]
            options += ["-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes"]
            done = subprocess.run(
                ["ssh", *options, "-p", str(target.port), f"nobody@{address}", "true"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 255
            assert ("Host key verification failed" in done.stderr) is refused, done.stderr
            assert ("Permission denied" in done.stderr) is not refused, done.stderr


# --- expectations


def test_expected_fingerprints_are_read():
    text = f"# from the consoles\n\nnas1 {key(1).fingerprint}\n  server1\t{key(2).fingerprint}  \n"
    assert pinning.expected(text, "f", NAMES) == ({"nas1": key(1).fingerprint, "server1": key(2).fingerprint}, [])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nas1", 'f:2: got "nas1"; expected HOST SHA256:...'),
        (f"nas2 {key(1).fingerprint}", 'f:2: got the host "nas2"; expected a host of this practice: nas1, server1, desk1; did '),
        ("nas1 SHA256:short", 'f:2: got "SHA256:short"; expected a fingerprint as ssh-keygen -l prints it'),
        (f"desk1 {key(2).fingerprint}", "f:2: a second line for desk1; expected one line for each host"),
    ],
)  # fmt: skip
def test_a_list_of_fingerprints_with_a_mistake_is_refused(line, said):
    _, problems = pinning.expected(f"desk1 {key(1).fingerprint}\n{line}\n", "f", NAMES)
    assert len(problems) == 1
    assert str(problems[0]).startswith(said)


def test_copied_machines_are_named():
    found = [
        Finding(Target(name, name), "new", each) for name, each in zip(NAMES, (key(1), key(2), key(1)), strict=True)
    ]
    assert pinning.twins(found) == [("nas1", "desk1")]


# --- the command


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "a practice"
    folder.mkdir()
    shutil.copy(EXAMPLE, folder / "practice.yml")
    return folder


@pytest.fixture
def live(monkeypatch):
    """What the practice's hosts show: a key by name; one without is switched off."""
    shown = {name: key(number) for number, name in enumerate(NAMES, 1)}

    def read(target, kinds=()):
        if target.name not in shown:
            raise SilentError("no answer within 5 s")
        return shown[target.name]

    monkeypatch.setattr(pinning, "read_key", read)
    return shown


def pin(folder, *options):
    return cli.main(["pin", str(folder), *map(str, options)], REPOSITORY)


def known(folder):
    file = folder / "known_hosts"
    return file.read_text() if file.exists() else None


def all_pinned():
    addresses = {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"}
    return "".join(f"{addresses[n]} ssh-ed25519 {blob(key(i))} {n}\n" for i, n in enumerate(NAMES, 1))


def test_keys_are_shown_and_pinned(folder, live, capsys):
    assert pin(folder, "--yes") == 0
    said = capsys.readouterr().out
    for number, name in enumerate(NAMES, 1):
        assert f"{name} " in said
        assert f"{key(number).fingerprint} (ED25519)" in said
    assert known(folder) == all_pinned()
    assert pin(folder, "--check") == 0
    assert "all 3 hosts show the key that is pinned" in capsys.readouterr().out


def test_without_a_person_nothing_is_pinned_unasked(folder, live, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    assert pin(folder) == 3
    assert "--expect FILE" in capsys.readouterr().err
    assert known(folder) is None


@pytest.mark.parametrize(("answers", "code"), [(b"no\n", 2), (b"\x04", 3), (b"perhaps\nyes\n", 0)])
def test_a_person_at_the_terminal_decides(folder, live, capsys, monkeypatch, answers, code):
    master, slave = pty.openpty()
    os.write(master, answers)
    with os.fdopen(slave, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert pin(folder) == code
    os.close(master)
    said = capsys.readouterr().out
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in said
    assert known(folder) == (all_pinned() if code == 0 else None)


def test_a_changed_key_is_an_alarm_and_changes_nothing(folder, live, capsys):
    pin(folder, "--yes")
    live["server1"] = key(9)
    del live["desk1"]
    before = known(folder)
    for options in (["--yes"], ["--check"], ["--yes", "--replace", "nas1"]):
        capsys.readouterr()
        assert pin(folder, *options) == 1
        said = capsys.readouterr().out
        assert f"pinned  {key(2).fingerprint}" in said
        assert f"shown   {key(9).fingerprint}" in said
        assert f"bin/holdfast pin '{folder}' --replace server1" in said
        assert known(folder) == before


def test_a_changed_key_is_replaced_when_asked_by_name(folder, live, capsys):
    pin(folder, "--yes")
    live["server1"] = key(9)
    assert pin(folder, "--replace", "server1", "--yes") == 0
    assert f"198.18.0.12 ssh-ed25519 {blob(key(9))} server1" in known(folder)
    assert blob(key(2)) not in known(folder)
    assert blob(key(1)) in known(folder)
    assert pin(folder, "--replace", "server2", "--yes") == 3
    assert 'did you mean "server1"?' in capsys.readouterr().err


def test_a_silent_host_is_named_and_the_others_are_kept(folder, live, capsys):
    del live["desk1"]
    assert pin(folder, "--yes") == 2
    assert "desk1: no key was seen" in capsys.readouterr().out
    assert known(folder) == "".join(all_pinned().splitlines(True)[:2])
    assert pin(folder, "--check") == 2


def test_check_writes_nothing(folder, live):
    assert pin(folder, "--check") == 2
    assert known(folder) is None


def expect(folder, **keys):
    file = folder.parent / "expected"
    file.write_text("".join(f"{name} {each.fingerprint}\n" for name, each in keys.items()))
    return file


def test_only_expected_keys_are_pinned(folder, live, capsys):
    good = dict(zip(NAMES, (key(1), key(2), key(3)), strict=True))
    assert pin(folder, "--expect", expect(folder, **{**good, "desk1": key(8)})) == 1
    assert f"expected  {key(8).fingerprint}" in capsys.readouterr().out
    assert known(folder) is None
    assert pin(folder, "--expect", expect(folder, nas1=key(1), server1=key(2))) == 2
    assert "desk1: there is no expected fingerprint" in capsys.readouterr().out
    assert known(folder) is None
    assert pin(folder, "--expect", expect(folder, **good)) == 0
    assert known(folder) == all_pinned()
    # a list speaks of hosts that are pinned already, too
    assert pin(folder, "--expect", expect(folder, nas1=key(7))) == 1
    assert pin(folder, "--expect", expect(folder, nas1=key(1))) == 0


def test_a_link_is_followed(folder, live):
    real = folder.parent / "elsewhere"
    real.write_text("")
    (folder / "known_hosts").symlink_to(real)
    assert pin(folder, "--yes") == 0
    assert (folder / "known_hosts").is_symlink()
    assert real.read_text() == all_pinned()


def test_copied_machines_are_told(folder, live, capsys):
    live["desk1"] = live["nas1"]
    assert pin(folder, "--yes") == 0
    assert "nas1 and desk1 show the same key" in capsys.readouterr().out


def test_a_certificate_is_shown_and_a_damaged_one_is_named(folder, live, capsys):
    secrets.apply(folder, check.load(folder / "practice.yml")[0], None, create_password=True)
    assert pin(folder, "--yes") == 0
    assert re.search(
        r"certificates/nas1.pem  SHA-256 ([0-9A-F]{2}:){31}[0-9A-F]{2}, for nas1, 198.18.0.11, until 20",
        capsys.readouterr().out,
    )
    (folder / "certificates/nas1.pem").write_text("damaged")
    assert pin(folder, "--check") == 3
    assert "is no PEM with names" in capsys.readouterr().err


def test_a_wrong_document_pins_nothing(folder, live, capsys):
    (folder / "practice.yml").write_text("practice: {}\n")
    assert pin(folder, "--yes") == 3
    assert known(folder) is None


def test_hosts_that_are_logged_in_to_are_the_targets():
    practice = check.load(EXAMPLE)[0]
    assert [target.name for target in pinning.targets(practice)] == NAMES


def test_a_machine_that_carries_restores_is_logged_in_to_unless_it_is_this_one(tmp_path):
    text = EXAMPLE.read_text("utf-8").replace("on: localhost", "on: 198.18.0.29, ssh_port: 2222")
    (tmp_path / "practice.yml").write_text(text)
    practice = check.load(tmp_path / "practice.yml")[0]
    assert Target("proof1", "198.18.0.29", 2222) in pinning.targets(practice)
