# SPDX-License-Identifier: Apache-2.0
"""The database engines that can be backed up and proved. Another one is another name here, and two lines below.

Each is read when it is asked for: a job that backs up files needs none of them, and the agent should be small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .database_engine import Engine

NAMES = ("postgresql", "mariadb", "sqlite", "firebird", "command", "pickup")


class Engines(Mapping[str, Engine]):
    """Engines by name."""

    def __init__(self) -> None:
        self._loaded: dict[str, Engine] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)

    def __getitem__(self, name: str) -> Engine:
        if name not in self._loaded:
            self._loaded[name] = _load(name)
        return self._loaded[name]


def _load(name: str) -> Engine:
    # written out, so that whoever packs a module for a host finds what it imports
    if name == "postgresql":
        from .engine_postgresql import Postgresql as Found
    elif name == "mariadb":
        from .engine_mariadb import Mariadb as Found  # type: ignore[assignment]
    elif name == "sqlite":
        from .engine_sqlite import Sqlite as Found  # type: ignore[assignment]
    elif name == "firebird":
        from .engine_firebird import Firebird as Found  # type: ignore[assignment]
    elif name == "command":
        from .engine_command import Command as Found  # type: ignore[assignment]
    elif name == "pickup":
        from .engine_pickup import Pickup as Found  # type: ignore[assignment]
    else:
        raise KeyError(name)
    return Found()


ENGINES = Engines()
