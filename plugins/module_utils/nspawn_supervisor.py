# SPDX-License-Identifier: Apache-2.0
"""Keep one nspawn machine running: started beside the machine as FOLDER/supervise, detached from whoever started it.

It starts the command of FOLDER/start.json, starts it again after a reboot (exit code 133), ends with it otherwise, and
writes down what happened. It must run from its own text: nspawn_host copies this file into the machine's folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

REBOOT = 133


def note(folder: Path, event: str, rc: int | None = None) -> None:
    """Add a line to the machine's events."""
    line = json.dumps({"event": event, "at": round(time.time(), 3), "mono_ns": time.monotonic_ns(), "rc": rc})
    with (folder / "events.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def remove_cgroup(path: Path) -> None:
    """Remove an empty control group with those below it; OSError when a process is still in one of them."""
    if path.is_dir():
        for child in path.iterdir():
            if child.is_dir():
                remove_cgroup(child)
        path.rmdir()


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the machine in fresh control groups of its own: nspawn would give all machines one and the same."""
    spec = json.loads((folder / "start.json").read_text(encoding="utf-8"))
    cgroups = [Path(path) for path in spec["cgroups"]]
    for cgroup in cgroups:
        deadline = time.monotonic() + 10
        while True:
            try:
                remove_cgroup(cgroup)
                break
            except OSError:  # what ran before is still dying
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        cgroup.mkdir()

    def enter() -> None:
        for cgroup in cgroups:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    with (folder / "console.log").open("ab") as console:
        return subprocess.Popen(
            spec["command"],
            env={**os.environ, **spec["environment"]},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            preexec_fn=enter,  # this program has one thread
        )


def supervise(folder: Path) -> int:
    """Run the machine until it is off; returns nspawn's last exit code, or 75 when another supervisor is at work."""
    with (folder / "supervisor.lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 75
        while True:
            process = start(folder)
            note(folder, "started")
            rc = process.wait()
            note(folder, "exited", rc)
            if rc != REBOOT:
                note(folder, "stopped", rc)
                return rc


if __name__ == "__main__":
    sys.exit(1 if supervise(Path(sys.argv[1])) else 0)
