#!/usr/bin/python
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

REBOOT = 133


def start_time(pid):
    """Return when a process was started, in clock ticks since boot: with the pid it names a process for good."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
        return int(stream.read().rpartition(")")[2].split()[19])


def note(folder, event, rc=None):
    line = json.dumps({"event": event, "at": round(time.time(), 3), "mono_ns": time.monotonic_ns(), "rc": rc})
    with open(folder + "/events.jsonl", "a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def supervise(folder):
    """Run the machine until it is off; returns nspawn's last exit code, or 75 when another supervisor is at work."""
    with open(folder + "/supervisor.lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 75
        with open(folder + "/start.json", encoding="utf-8") as stream:
            command = json.load(stream)
        while True:
            with open(folder + "/console.log", "ab") as console:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
            note(folder, "started")
            with open(folder + "/running.json.new", "w", encoding="utf-8") as stream:
                json.dump({"nspawn": [process.pid, start_time(process.pid)]}, stream)
            os.replace(folder + "/running.json.new", folder + "/running.json")
            rc = process.wait()
            note(folder, "exited", rc)
            if rc != REBOOT:
                note(folder, "stopped", rc)
                return rc


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1]) and 1)
