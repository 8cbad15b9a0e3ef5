# SPDX-License-Identifier: Apache-2.0
"""What a run has come to so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import agent_watch
from .agent_host import VERSION


@dataclass
class Outcome:
    """What a run has come to so far."""

    reasons: list[dict[str, str]] = field(default_factory=list)
    # names of what must not be rotated over while this run is the newest; each comes with a reason
    holds: list[str] = field(default_factory=list)
    # the run was ended to be tried again
    deferred: agent_watch.Answer | None = None
    failed: bool = False
    snapshots: dict[str, str | None] = field(default_factory=lambda: {"database": None, "files": None, "oracle": None})
    files: int = 0
    bytes: int = 0
    dump_bytes: int | None = None
    # of a copy: the newest run that is in it
    copied: str | None = None
    repository_id: str | None = None
    mounts: list[str] = field(default_factory=list)
    dumping_since: float | None = None
    tools: dict[str, str | None] = field(default_factory=lambda: {"agent": VERSION, "restic": None, "engine": None})

    def add(self, code: str, message: str, failed: bool = False) -> None:
        """Note a reason; without ``failed`` the run is INCOMPLETE."""
        self.reasons.append({"code": code, "message": message})
        self.failed = self.failed or failed

    def hold(self, name: str) -> None:
        """Keep what was stored before this run; say why with ``add``."""
        if name not in self.holds:
            self.holds.append(name)

    @property
    def state(self) -> str:
        """OK, INCOMPLETE or FAILED; an OK without an oracle would be a lie."""
        if self.failed or (not self.reasons and not self.snapshots["oracle"]):
            return "FAILED"
        return "INCOMPLETE" if self.reasons else "OK"
