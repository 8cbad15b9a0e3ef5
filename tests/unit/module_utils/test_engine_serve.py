# SPDX-License-Identifier: Apache-2.0
"""A loaded copy is put where the practice's software looks for it, and taken away again: what the machine is told."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import DatabaseError
from ansible_collections.holdfast.practice.plugins.module_utils.engines import ENGINES
from ansible_collections.holdfast.practice.plugins.module_utils.verify_restic import Done


class Machine:
    def __init__(self, refuse=""):
        self.calls: list[tuple[str, ...]] = []
        self.fed: list[bytes] = []
        self.refuse = refuse

    def call(self, *argv, user="root", stdin=b"", timeout=None):
        self.calls.append(argv)
        self.fed.append(stdin)
        text = " ".join(argv)
        out = b"/etc/postgresql/17/main/pg_hba.conf\n" if "show hba_file" in text else b""
        return Done(1 if self.refuse and self.refuse in text else 0, out, "", 0.1)

    def said(self, program):
        return [argv for argv in self.calls if argv[0] == program]


def copy_of(engine, machine, name):
    return ENGINES[engine].copy(machine, "imaging", {"name": name, "engine": engine})


def test_postgresql_gets_its_own_name_and_lets_everybody_in_the_machine_in():
    machine = Machine()
    copy = copy_of("postgresql", machine, 'or"thanc')
    copy.drop()
    assert machine.calls == [], "what was never served goes with the next item"
    copy.serve("orthanc")
    assert machine.said("tee") == [("tee", "/etc/postgresql/17/main/pg_hba.conf")]
    opened = next(each for each in machine.fed if each).decode()
    assert all(line.split()[-1] == "trust" for line in opened.splitlines())
    assert {line.split()[3] for line in opened.splitlines()[1:]} == {"127.0.0.1/32", "::1/128"}
    asked = [argv[-1] for argv in machine.said("psql")]
    assert 'alter database "restored_imaging" rename to "or""thanc"' in asked
    copy.query("select 1")
    assert machine.calls[-1][-3] == 'or"thanc'
    copy.drop()
    assert machine.calls[-1][0] == "dropdb"
    assert machine.calls[-1][-1] == 'or"thanc'


@pytest.mark.parametrize("refuse", ["tee", "rename"])
def test_postgresql_that_refuses_is_named(refuse):
    with pytest.raises(DatabaseError, match="opened to its software"):
        copy_of("postgresql", Machine(refuse), "orthanc").serve("orthanc")


def test_mariadb_forgets_its_grants_and_learns_them_again_for_the_next():
    machine = Machine()
    copy = copy_of("mariadb", machine, "accounts")
    copy.serve("root")
    copy.drop()
    said = [argv[1:] for argv in machine.said("systemctl")]
    assert said == [
        ("set-environment", "MYSQLD_OPTS=--skip-grant-tables"), ("restart", "mariadb.service"),
        ("set-environment", "MYSQLD_OPTS="), ("restart", "mariadb.service"),
    ]  # fmt: skip
    with pytest.raises(DatabaseError, match="opened to its software"):
        copy_of("mariadb", Machine("restart"), "accounts").serve("root")


@pytest.mark.parametrize("engine", ["sqlite", "firebird"])
def test_a_file_is_copied_to_its_own_path_for_its_owner(engine):
    machine = Machine()
    copy = copy_of(engine, machine, "/srv/pms/a b.db")
    copy.load("/srv/holdfast-restore/imaging.dump")
    copy.serve("pms")
    assert machine.calls[-1][0] == "sh"
    assert machine.calls[-1][-2:] == ("/srv/pms/a b.db", "pms")
    with pytest.raises(DatabaseError, match="in its place"):
        copy_of(engine, Machine("install"), "/srv/pms/a.db").serve("pms")


@pytest.mark.parametrize("engine", ["command", "pickup"])
def test_a_vendors_dump_cannot_be_put_to_use(engine):
    section = {"name": "x", "engine": engine, "stream": {"bytes": 1, "blake2b": "0", "end_marker": None}}
    with pytest.raises(DatabaseError, match="by itself"):
        ENGINES[engine].copy(Machine(), "vendor", section).serve("root")
