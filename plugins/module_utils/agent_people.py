# SPDX-License-Identifier: Apache-2.0
"""``holdfast-agent``: the program as people use it. A run at night does without what only they need."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from . import agent_restore, agent_snapshots, agent_start, agent_status, agent_tripwires
from .agent import main
from .agent_host import EXIT_INVALID

PARTS = (agent_status, agent_start, agent_snapshots, agent_restore, agent_tripwires)


def people(argv: Sequence[str]) -> int:
    """Entry of ``holdfast-agent``."""
    if os.geteuid() != 0:
        sys.stderr.write("holdfast-agent: only root can see backups: sudo holdfast-agent ...\n")
        return EXIT_INVALID
    return main(argv, parts=PARTS, prog="holdfast-agent")
