"""What a newcomer is told when this machine lacks something: one line, and what to do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]
LAB_PROGRAMS = ["mmdebstrap", "systemd-nspawn", "apt-ftparchive", "ip", "nsenter", "losetup", "ssh", "ssh-keygen"]
LAB_PROGRAMS += ["openssl", "git", "age"]


@pytest.fixture
def bare(tmp_path):
    """A checkout and a PATH with nothing on it but the shell's helpers; more is added by each test."""
    checkout = tmp_path / "checkout"
    for script in ("tools/setup", "demo/run"):
        (checkout / script).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPO / script, checkout / script)
    (checkout / "requirements.txt").write_text("uv==1.0 \\\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "env", "dirname", "sha256sum", "cut", "cat", "sed", "rm", "sh"):
        (programs / name).symlink_to(shutil.which(name))
    return checkout, programs


def put(programs, name, text="exit 0"):
    (programs / name).write_text(f"#!/bin/sh\n{text}\n")
    (programs / name).chmod(0o755)


def told(checkout, programs, *command):
    environment = {"PATH": str(programs), "HOME": str(checkout), "PYENV_ROOT": str(checkout / "none")}
    done = subprocess.run(command, cwd=checkout, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not (checkout / ".venv").exists()
    return done.stderr


def test_no_python_that_is_new_enough(bare):
    checkout, programs = bare
    put(programs, "id", "echo 0")
    for name in LAB_PROGRAMS:
        put(programs, name)
    # a version manager's shim that is there and does not run
    put(programs, "python3", "exit 127")
    if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        put(programs, "apt-get")
    if any(Path("/usr/local/bin").glob("python3.1[2-9]")) or any(Path("/opt").glob("python*/bin/python3")):
        pytest.skip("this machine has a Python in a place that setup looks into whatever PATH says")
    message = told(checkout, programs, "tools/setup")
    assert "needs Python 3.12 or newer" in message
    assert "apt-get install python3.12" in message


def test_a_needed_package_and_no_way_to_be_root(bare):
    checkout, programs = bare
    put(programs, "id", "echo 1000")
    for name in [*LAB_PROGRAMS, "apt-get"]:
        if name != "git":
            put(programs, name)
    programs_of_system = [Path(place) / "git" for place in ("/usr/sbin", "/sbin")]
    assert not any(path.exists() for path in programs_of_system)
    message = told(checkout, programs, "tools/setup")
    assert message.startswith("setup: needs root to install: git")
    assert "install sudo" in message


def test_a_system_without_apt_is_told_the_packages(bare):
    checkout, programs = bare
    put(programs, "id", "echo 0")
    for name in LAB_PROGRAMS:
        if name != "openssl":
            put(programs, name)
    message = told(checkout, programs, "tools/setup")
    assert "needs the packages: openssl" in message


def test_the_demo_without_root(bare):
    checkout, programs = bare
    put(programs, "id", "echo 1000")
    assert "need root: run this as root, or install sudo" in told(checkout, programs, "demo/run", "up")
