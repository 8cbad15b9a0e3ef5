"""The agent's accounts on a host come when a job needs them and go with the last one; PostgreSQL's is no superuser."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    mariadb_account,
    postgresql_account,
    system_account,
)
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import HostStateError

ROLE = {key: value for key, (value, _words) in postgresql_account.ATTRIBUTES.items()}
ROLE["rolconfig"] = [postgresql_account.SETTING]
GOOD = {"version": 17, "role": ROLE, "member_of": ["pg_read_all_data"], "connects": {"clinic": True}, "granted": []}
NONE = {**GOOD, "role": None, "member_of": []}


@pytest.mark.parametrize(("have", "names", "steps"), [
    (GOOD, ["clinic"], []),
    (GOOD, ["not there yet"], []),
    (NONE, [], []),
    (GOOD, [], ["DROP ROLE holdfast"]),
    ({**GOOD, "granted": ['a"b']}, [], ['REVOKE CONNECT ON DATABASE "a""b" FROM holdfast', "DROP ROLE holdfast"]),
    ({**GOOD, "connects": {"clinic": False}}, ["clinic"], ['GRANT CONNECT ON DATABASE "clinic" TO holdfast']),
    ({**GOOD, "role": {**ROLE, "rolsuper": True}}, ["clinic"], ["ALTER ROLE holdfast NOSUPERUSER"]),
    ({**GOOD, "role": {**ROLE, "rolbypassrls": False}}, ["clinic"], ["ALTER ROLE holdfast BYPASSRLS"]),
    ({**GOOD, "role": {**ROLE, "rolconfig": None}}, ["clinic"], ["ALTER ROLE holdfast SET lo_compat_privileges = on"]),
    ({**GOOD, "member_of": ["app"]}, ["clinic"],
     ['REVOKE "app" FROM holdfast', "GRANT pg_read_all_data TO holdfast"]),
])  # fmt: skip
def test_the_role_is_made_mended_and_removed(have, names, steps):
    assert postgresql_account.statements(have, names) == steps


def test_a_new_role_is_no_superuser_and_sees_every_row():
    made = postgresql_account.statements(NONE, ["clinic"])
    assert made[0].startswith("CREATE ROLE holdfast LOGIN BYPASSRLS INHERIT NOSUPERUSER ")
    assert made[1:] == [
        "ALTER ROLE holdfast SET lo_compat_privileges = on",
        "GRANT pg_read_all_data TO holdfast",
    ]


class Host:
    """Answers commands. down: engines that do not answer."""

    def __init__(self, have=NONE, user=False, down=()):
        self.have, self.user, self.down = have, user, down
        self.ran = []

    def __call__(self, argv, data=None):
        self.ran.append((list(argv), data))
        if argv[0] == "getent":
            return (0 if self.user else 2), "", ""
        if argv[0] == "mariadb":
            answer = {"select version();\n": "11.8.6\n"}.get(data, "0\n" if "count" in data else "")
            return (1, "", "down") if "mariadb" in self.down else (0, answer, "")
        if argv[0] == "runuser":
            return (2, "", "psql: error: down") if "postgresql" in self.down else (0, json.dumps(self.have), "")
        return 0, "", ""


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    for module in (mariadb_account, postgresql_account):
        monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}")


def verbs(host, databases, had=()):
    return [change.verb for change in system_account.Accounts(host).plan(databases, had)]


CLINIC = {"engine": "postgresql", "name": "clinic"}


def test_accounts_come_with_the_first_job_and_go_with_the_last():
    assert verbs(Host(), []) == []
    assert verbs(Host(), [{"engine": "sqlite", "path": "/x"}]) == []
    assert verbs(Host(), [CLINIC]) == ["useradd", "postgresql", "postgresql", "postgresql"]
    assert verbs(Host(GOOD, user=True), [CLINIC]) == []
    assert verbs(Host(GOOD, user=True), [], ["postgresql"]) == ["postgresql", "userdel"]
    assert verbs(Host(GOOD, user=True), [{"engine": "mariadb", "name": "b"}], ["postgresql"])[-1] == "postgresql"


@pytest.mark.parametrize(("databases", "had", "down", "refused"), [
    ([CLINIC], [], ["mariadb"], ""),
    ([CLINIC], ["mariadb"], ["mariadb"], "MariaDB did not let root in"),
    ([CLINIC], [], ["postgresql"], "PostgreSQL did not let postgres in"),
    ([], ["postgresql"], ["postgresql"], "PostgreSQL did not let postgres in"),
    ([], [], ["postgresql", "mariadb"], ""),
])  # fmt: skip
def test_an_engine_that_is_down_matters_only_to_who_uses_it(databases, had, down, refused):
    host = Host(GOOD, user=True, down=down)
    if not refused:
        system_account.Accounts(host).plan(databases, had)
        return
    with pytest.raises(HostStateError, match=refused):
        system_account.Accounts(host).plan(databases, had)


def test_a_login_that_a_run_would_not_have_is_refused_with_the_line_that_mends_it():
    def run(argv, data=None):
        if "holdfast" in argv:
            return 2, "", "psql: error: FATAL:  Peer authentication failed"
        return 0, json.dumps(GOOD), ""

    with pytest.raises(HostStateError, match="local all holdfast peer"):
        postgresql_account.PostgresqlAccount(run).check(["clinic"])


def test_an_old_server_is_named():
    with pytest.raises(HostStateError, match="upgrade it to 14 or later"):
        postgresql_account.PostgresqlAccount(Host({**GOOD, "version": 13})).plan(["clinic"])
