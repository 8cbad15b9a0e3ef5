# SPDX-License-Identifier: Apache-2.0
"""What a NAS with a watch over silent hosts looks like. Pure; the module nas_watch carries it out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils import notice_host, stamp
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Dir, File, Wanted

ETC, LIB, STATE = "/etc/holdfast-nas-watch", "/usr/lib/holdfast-nas-watch", "/var/lib/holdfast-nas-watch"
PACKAGE = "holdfast_nas_watch"
FOLDER = "repositories"

LAUNCHER = f"""\
#!/usr/bin/python3 -IB
# Holdfast: mails when a host falls silent. Managed by Ansible.
import sys

sys.path.insert(0, "{LIB}")
from {PACKAGE}.nas_watch import main

sys.exit(main())
"""

WATCHER = notice_host.Watcher(
    unit="holdfast-nas-watch",
    title="Holdfast: tell by mail which hosts are silent",
    owner="nas_watch",
    etc=ETC,
    credential=f"{ETC}/mail-password",
    command=f"{LIB}/watch",
    state="holdfast-nas-watch",
    runtime="holdfast-nas-watch",
    # the repositories are another user's, and closed to everybody else
    capabilities="CAP_DAC_READ_SEARCH",
)


def wanted(
    practice: str,
    host: str,
    timezone: str,
    root: str,
    hosts: Sequence[Mapping[str, Any]],
    mail: Mapping[str, Any],
    password: str | None,
    program: Mapping[str, str],
) -> Wanted:
    """The whole domain. hosts: {name, silent_after_s}; program: {file name: text}. Raises NoticeError."""
    faults = [
        f"host {h['name']}: silent_after_s {h['silent_after_s']}: expected more than 0"
        for h in hosts
        if h["silent_after_s"] <= 0
    ]
    names = [str(h["name"]) for h in hosts]
    faults += [f"host {name}: named twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if faults:
        raise notice_host.NoticeError("; ".join(faults))
    own = notice_host.wanted(WATCHER, mail, practice, host, timezone, password)
    task = {"folder": f"{root}/{FOLDER}", "hosts": {str(h["name"]): int(h["silent_after_s"]) for h in hosts}}
    dirs = [stamp.folder(), Dir(ETC, 0o700), Dir(LIB, 0o755), Dir(f"{LIB}/{PACKAGE}", 0o755), Dir(STATE, 0o700)]
    files = [
        stamp.wanted(practice, host),
        File(f"{ETC}/watch.json", (json.dumps(task, indent=1, sort_keys=True) + "\n").encode("ascii"), 0o600),
        File(f"{LIB}/watch", LAUNCHER.encode(), 0o755),
        *(File(f"{LIB}/{PACKAGE}/{name}", text.encode(), 0o644) for name, text in sorted(program.items())),
    ]
    return Wanted(dirs, [*files, *own.files], own.units)


def unwanted(program: Iterable[str]) -> Wanted:
    """The same, gone; the practice's stamp stays."""
    own = notice_host.unwanted(WATCHER, f"{STATE}/memory.json")
    files = [
        File(f"{ETC}/watch.json", None),
        File(f"{LIB}/watch", None),
        *(File(f"{LIB}/{PACKAGE}/{name}", None) for name in sorted(program)),
    ]
    dirs = [Dir(path, absent=True) for path in (ETC, LIB, f"{LIB}/{PACKAGE}")]
    return Wanted([*dirs, *own.dirs], [*files, *own.files], own.units)


def stale(program: Iterable[str], found: Iterable[str]) -> list[File]:
    """Files of an earlier version. found: names in the program's folder."""
    return [File(f"{LIB}/{PACKAGE}/{name}", None) for name in sorted(set(found) - set(program)) if name.endswith(".py")]
