# SPDX-License-Identifier: Apache-2.0
"""The database engines that can be backed up and proved. Another one is another line here."""

from __future__ import annotations

from .database_engine import Engine
from .engine_command import Command
from .engine_firebird import Firebird
from .engine_mariadb import Mariadb
from .engine_pickup import Pickup
from .engine_postgresql import Postgresql
from .engine_sqlite import Sqlite

ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (Postgresql(), Mariadb(), Sqlite(), Firebird(), Command(), Pickup())
}
