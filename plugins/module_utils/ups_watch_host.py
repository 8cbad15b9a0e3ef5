# SPDX-License-Identifier: Apache-2.0
"""What a host that watches UPSes looks like. Pure; the module ups_watch carries it out."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils import notice_host, stamp, ups_test
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Dir, File, Wanted

ETC, LIB, STATE = "/etc/holdfast-ups", "/usr/lib/holdfast-ups", "/var/lib/holdfast-ups"
RUN = "/run/holdfast-ups"
PACKAGE = "holdfast_ups"
COMMAND = "/usr/local/sbin/holdfast-ups"
PASSWORD = f"{ETC}/test-password"
KEPT = ("memory.json", "state.json", "need.json")
HOURS = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")

LAUNCHER = f"""\
#!/usr/bin/python3 -IB
# Holdfast: watches UPSes, and says how they are. Managed by Ansible.
import sys

sys.path.insert(0, "{LIB}")
from {PACKAGE}.ups_watch_run import main

sys.exit(main())
"""

WATCHER = notice_host.Watcher(
    unit="holdfast-ups",
    title="Holdfast: watch the UPSes",
    owner="ups_watch",
    etc=ETC,
    credential=f"{ETC}/mail-password",
    command=f"{COMMAND} watch",
    state="holdfast-ups",
    runtime="holdfast-ups",
    capabilities="",
    stays=True,
)


def faults_of(upses: Sequence[Mapping[str, Any]], hours: Mapping[str, str], test_password: str | None) -> list[str]:
    """Everything that is wrong with what is to be watched, in words."""
    names = [str(ups["name"]) for ups in upses]
    faults = [f"UPS {name}: named twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for ups in upses:
        name = ups["name"]
        if ups["primary"] not in ups["feeds"]:
            faults.append(f"UPS {name}: primary {ups['primary']}: expected one of feeds ({', '.join(ups['feeds'])})")
        unknown = sorted(set(ups.get("may_be_off") or ()) - set(ups["feeds"]))
        if unknown:
            faults.append(f"UPS {name}: may_be_off {', '.join(unknown)}: expected machines of feeds")
        if ups.get("self_test_every_s") and not ups["deputy"] and not test_password:
            faults.append(
                f"UPS {name}: self_test_every_s needs test_password, of a user with the right to that test only"
            )
        need = ups.get("need")
        if need is not None and not float(need.get("total_s") or 0) > 0:
            faults.append(f"UPS {name}: need.total_s {need.get('total_s')!r}: expected seconds above 0")
        for key in ("installed", "replace_by"):
            text = (ups.get("battery") or {}).get(key)
            try:
                datetime.date.fromisoformat(str(text)) if text else None
            except ValueError:
                faults.append(f"UPS {name}: battery.{key} {text!r}: expected a day such as 2030-03-01")
    for days, window in hours.items():
        try:
            ups_test.weekdays(str(days))
        except ValueError:
            faults.append(f"hours {days!r}: expected a day (mon tue wed thu fri sat sun) or a span such as mon-fri")
        if not HOURS.fullmatch(str(window)):
            faults.append(f"hours {days}: {window!r}: expected a window such as 08:00-18:30")
    return faults


def wanted(
    task: Mapping[str, Any], mail: Mapping[str, Any] | None, password: str | None, test_password: str | None,
    program: Mapping[str, str],
) -> Wanted:  # fmt: skip
    """The whole domain. task: {practice, host, timezone, hours, every_s, settle_s, absent_s, test_user, upses};
    program: {file name: text}. Raises NoticeError."""
    faults = faults_of(task["upses"], task["hours"], test_password)
    if faults:
        raise notice_host.NoticeError("; ".join(faults))
    tests = any(ups.get("self_test_every_s") and not ups["deputy"] for ups in task["upses"])
    watcher = replace(WATCHER, secrets={"test-password": PASSWORD} if tests else {})
    own = notice_host.wanted(watcher, mail, task["practice"], task["host"], task["timezone"], password)
    content = json.dumps({"schema": 1, **task}, indent=1) + "\n"  # in its order: feeds are listed as they are written
    secret = (test_password or "").encode() + b"\n" if tests else None
    dirs = [stamp.folder(), Dir(ETC, 0o700), Dir(LIB, 0o755), Dir(f"{LIB}/{PACKAGE}", 0o755), Dir(STATE, 0o700)]
    files = [
        stamp.wanted(task["practice"], task["host"]),
        File(f"{ETC}/watch.json", content.encode("ascii"), 0o600),
        File(PASSWORD, secret, 0o600, secret=True),
        File(COMMAND, LAUNCHER.encode(), 0o755),
        *(File(f"{LIB}/{PACKAGE}/{name}", text.encode(), 0o644) for name, text in sorted(program.items())),
    ]
    paths = tuple(item.path for item in files)
    units = [replace(unit, restart_when=(*unit.restart_when, *paths)) for unit in own.units]
    return Wanted(dirs, [*files, *own.files], units)


def unwanted(program: Iterable[str]) -> Wanted:
    """The same, gone, with what was kept; the practice's stamp stays."""
    own = notice_host.unwanted(WATCHER, f"{STATE}/{KEPT[0]}")
    files = [
        File(f"{ETC}/watch.json", None),
        File(PASSWORD, None, secret=True),
        File(COMMAND, None),
        *(File(f"{STATE}/{name}", None) for name in KEPT[1:]),
        *(File(f"{RUN}/{name}", None) for name in ("looked.json", "watch.lock")),
        *(File(f"{LIB}/{PACKAGE}/{name}", None) for name in sorted(program)),
    ]
    dirs = [Dir(path, absent=True) for path in (ETC, LIB, f"{LIB}/{PACKAGE}", RUN)]
    return Wanted([*dirs, *own.dirs], [*files, *own.files], own.units)


def stale(program: Iterable[str], found: Iterable[str]) -> list[File]:
    """Files of an earlier version. found: names in the program's folder."""
    return [File(f"{LIB}/{PACKAGE}/{name}", None) for name in sorted(set(found) - set(program)) if name.endswith(".py")]
