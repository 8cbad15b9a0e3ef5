# SPDX-License-Identifier: Apache-2.0
"""How long a run waits for a NAS that is gone: restic itself tries again for most of an hour, and says little meanwhile."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass, field
from typing import Callable

from . import backup_nas
from .agent_watch import Answer, Gate

# A switch that starts anew, or a cable put elsewhere, is no reason to give up what is on the way.
PATIENCE_S = 300.0
EVERY_S = 20.0
CONNECT_S = 3.0


def answers(host: str, port: int) -> bool:
    """Does anything take a connection there?"""
    with contextlib.suppress(OSError), socket.create_connection((host, port), CONNECT_S):
        return True
    return False


def is_maintained(url: str, ask: Callable[[str, int], bool] = answers) -> bool:
    """Are the repositories of a NAS under maintenance? It then serves nobody but that, on the next port (nas_maintenance)."""
    try:
        host, port, _path = backup_nas.split_url(url)
    except ValueError:
        return False
    return ask(host, port + 1)


@dataclass
class Link:
    """The way to the NAS during one run. A NAS under maintenance is there: it takes up again what waits.

    ask(host, port) -> bool; clock: monotonic seconds.
    """

    host: str
    port: int
    ask: Callable[[str, int], bool] = answers
    clock: Callable[[], float] = time.monotonic
    heard: float = field(init=False)
    asked: float = field(init=False)

    def __post_init__(self) -> None:
        self.heard = self.asked = self.clock()

    def go_on(self) -> Answer | None:
        """Ask now and then; an answer once the NAS was silent for too long."""
        now = self.clock()
        if now - self.asked < EVERY_S:
            return None
        self.asked = now
        if self.ask(self.host, self.port) or self.ask(self.host, self.port + 1):
            self.heard = now
        if now - self.heard < PATIENCE_S:
            return None
        message = (
            f"{self.host}:{self.port} did not answer for {now - self.heard:.0f} s, and the run was ended; check that the NAS "
            f"is on, its backup server runs, and the network"
        )
        return Answer("nas_unreachable", message, retry=False)


def link_gate(url: str) -> list[Gate]:
    """The gate of a repository on a NAS: it lets every run begin, as that knocks there first."""
    try:
        host, port, _path = backup_nas.split_url(url)
    except ValueError:
        return []
    link = Link(host, port)
    return [Gate(lambda: None, link.go_on)]
