# SPDX-License-Identifier: Apache-2.0
"""The agent's accounts on a host: holdfast of the system, and one of that name in each database engine that asks the kernel
who is at its socket. None has a password; all go with the last job that needs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Change, HostStateError
from ansible_collections.holdfast.practice.plugins.module_utils.mariadb_account import MariadbAccount
from ansible_collections.holdfast.practice.plugins.module_utils.postgresql_account import PostgresqlAccount

USER = "holdfast"


class Accounts:
    """All of them on this host. run(argv, data=None) -> (code, out, err), as AnsibleModule.run_command."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run
        self._postgresql = PostgresqlAccount(run)
        self._engines: dict[str, MariadbAccount | PostgresqlAccount] = {
            "mariadb": MariadbAccount(run),
            "postgresql": self._postgresql,
        }

    def of_system(self) -> bool:
        """Is there the account of the system?"""
        return bool(self._run(["getent", "passwd", USER])[0] == 0)

    def plan(self, databases: Sequence[Mapping[str, Any]], had: Iterable[str] = ()) -> list[Change]:
        """Steps to the accounts that these databases (of jobs) need.

        had: engines that the host's jobs had until now. An engine that neither has nor had a job may be out of reach.
        """
        there = self.of_system()
        # a vendor's program runs as holdfast unless it is given another user
        needed = any(
            each["engine"] in self._engines or (each["engine"] == "command" and each.get("user") in (None, USER))
            for each in databases
        )
        if not needed and not there:
            return []
        steps = [] if there else [Change("useradd", USER, "the agent's account for databases")]
        for engine, account in self._engines.items():
            steps += account.plan([each["name"] for each in databases if each["engine"] == engine], engine in set(had))
        return steps if needed else [*steps, Change("userdel", USER, "no database needs it")]

    def apply(self, changes: Iterable[Change]) -> None:
        """Carry out steps of a plan."""
        for change in changes:
            if change.verb in self._engines:
                self._engines[change.verb].apply(change.target)
                continue
            argv = ["userdel", USER]
            if change.verb == "useradd":
                argv = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
                argv += ["--shell", "/usr/sbin/nologin", USER]
            code, _out, err = self._run(argv)
            if code != 0:
                raise HostStateError(f"{' '.join(argv)} ended with {code}: {err.strip()}")

    def check(self, databases: Sequence[Mapping[str, Any]]) -> None:
        """Log in as a run will."""
        self._postgresql.check([each["name"] for each in databases if each["engine"] == "postgresql"])
