# SPDX-License-Identifier: Apache-2.0
"""The exit code of a playbook that judges, with the real ansible-playbook."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.callback.verdict import exit_code

REPO = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("verdict", "promised", "failed", "code"),
    [
        ("PASS", True, False, None),
        ("PASS", True, True, None),  # something else failed: Ansible's own code says so
        ("FAIL", True, True, 1),
        ("FAIL", True, False, 1),
        ("INCONCLUSIVE", True, True, 2),
        ("INCONCLUSIVE", True, False, 2),
        (None, True, True, None),
        (None, True, False, 2),
        (None, False, False, None),
    ],
)
def test_exit_code(verdict, promised, failed, code):
    assert exit_code(verdict, promised, failed) == code


PLAY = """
- hosts: HOSTS
  gather_facts: false
  vars: {verdict_promised: true}
  tasks:
    - ansible.builtin.set_stats: {data: {verdict: VERDICT}}
    - ansible.builtin.assert: {that: "'VERDICT' == 'PASS'"}
"""


@pytest.mark.parametrize(
    ("verdict", "hosts", "code"),
    [
        ("PASS", "localhost", 0),
        ("FAIL", "localhost", 1),
        ("INCONCLUSIVE", "localhost", 2),
        ("PASS", "nobody", 2),
    ],
)
def test_ansible_playbook_ends_with_it(tmp_path, verdict, hosts, code):
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAY.replace("VERDICT", verdict).replace("HOSTS", hosts))
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(REPO / ".collections"),
        "ANSIBLE_CALLBACKS_ENABLED": "holdfast.practice.verdict",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", str(playbook)]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert hosts == "nobody" or "PLAY RECAP" in done.stdout
