# SPDX-License-Identifier: Apache-2.0
"""What the module that installs the agent does once, so that the first run need not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_host
from ansible_collections.holdfast.practice.plugins.modules import backup_agent


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Commands that were run on the host, whose agent does not start when ``broken``."""
    here = agent_host.Places(state=tmp_path)
    monkeypatch.setattr(agent_host, "Places", lambda: here)

    def host(broken=False):
        commands = []

        def run_command(argv):
            commands.append(argv)
            return (1, "", "Traceback\nImportError: no module named lost\n") if broken else (0, "usage", "")

        return SimpleNamespace(run_command=run_command), commands

    return host


def test_a_new_program_is_started_once(started):
    module, commands = started()
    backup_agent.make_ready(module, {}, new_program=False)
    assert commands == []
    backup_agent.make_ready(module, {}, new_program=True)
    assert commands == [["/usr/local/sbin/holdfast-agent", "--help"]]


def test_a_program_that_does_not_start_fails_the_play_and_says_why(started):
    module, _commands = started(broken=True)
    with pytest.raises(
        backup_agent.RefusedError, match="does not start with this host's Python: ImportError: no module"
    ):
        backup_agent.make_ready(module, {}, new_program=True)


def test_repositories_are_remembered(started, tmp_path):
    module, _commands = started()
    backup_agent.make_ready(module, {"": {"id": "abc", "config": "0"}}, new_program=False)
    assert agent_host.read_json(tmp_path / "repositories.json") == {"": {"id": "abc", "config": "0"}}
