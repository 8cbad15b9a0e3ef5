# SPDX-License-Identifier: Apache-2.0
"""Filters: who proves now, and whether whoever claimed a place for restored data is still at work."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the machine started; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _node() -> tuple[str, str]:
    """(name of this control node, name of the time since it was switched on)."""
    return socket.gethostname(), Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def holder(practice: str) -> dict[str, Any]:
    """Say whose proof this is: {token, practice, who, node, node_boot, pid, started, since}. The token is new each time."""
    main = multiprocessing.parent_process()
    pid = (main.pid if main else None) or os.getpid()
    node, boot = _node()
    return {
        "token": secrets.token_hex(8),
        "practice": practice,
        "who": pwd.getpwuid(os.getuid()).pw_name,
        "node": node,
        "node_boot": boot,
        "pid": pid,
        "started": _started(pid),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def state(claim: Mapping[str, Any], rebooted: bool = False) -> str:
    """Say what is known of a claim's holder: nobody, alive, gone, or unknown when another control node made the claim."""
    if not claim:
        return "nobody"
    if rebooted:
        return "gone"
    node, boot = _node()
    if claim.get("node_boot") == boot:
        return "alive" if _started(int(claim["pid"])) == claim["started"] else "gone"
    # the same machine, switched on anew since
    return "gone" if claim.get("node") == node else "unknown"


class FilterModule:
    """Offer the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"restore_holder": holder, "restore_holder_state": state}
