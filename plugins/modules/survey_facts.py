#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Module: what a host holds, protected or not, and what it could protect it with. Changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: survey_facts
short_description: Look at what a host holds, before or after it is protected
version_added: "0.2.0"
description:
  - Adds up what the practice document protects on this host and how much of it is new, and looks for stores and databases
    that it may have forgotten, for disks, UPSs on USB, free space, time and the speed of links.
  - Reads only. Files are opened for their first bytes alone, and their access times are left as they are where the kernel
    allows that. PostgreSQL is asked as its own user, through its local socket, in a read-only session.
  - Needs nothing of Holdfast on the host. Ends its walk at a deadline or a number of entries, and says so.
  - Names folders down to where a store begins, and files that are a database. Other names stay on the host.
options:
  practice:
    description: Id of the practice. A host with another practice's stamp is not looked at.
    type: str
    required: true
  host:
    description: Name of the host in the practice.
    type: str
    required: true
  jobs:
    description:
      - What is protected here, as the backup agent's jobs say it. Only the keys below are read; others are allowed.
      - Each has C(item), and C(paths) with C(exclude), or C(database) with C(engine), C(name) or C(path), and C(images).
    type: list
    elements: dict
    default: []
  pool:
    description: The pool of a NAS, with C(mountpoint), C(profile) and C(devices). Empty on other hosts.
    type: dict
    default: {}
  restore_root:
    description: The folder of a restore host in which restores are tried. Only its free space is looked at.
    type: path
  data:
    description: Whether to look for data. V(false) for a machine that is not the practice's, such as the control node.
    type: bool
    default: true
  asked_at:
    description: The control node's time, in seconds since the epoch, to compare this host's clock with.
    type: float
  deadline_s:
    description: How long, in seconds, the walk over the folders may take.
    type: int
    default: 120
  most_entries:
    description: How many files and folders the walk looks at.
    type: int
    default: 2000000
attributes:
  check_mode:
    description: The module never changes anything.
    support: full
  diff_mode:
    description: There is never a difference to show.
    support: full
seealso:
  - module: holdfast.practice.backup_agent
  - module: holdfast.practice.power_facts
author:
  - Holdfast maintainers (@holdfast)
"""

EXAMPLES = r"""
- name: Look at the clinic server
  holdfast.practice.survey_facts:
    practice: harbour-street
    host: server1
    jobs:
      - item: documents
        paths: [/srv/clinic/documents]
  register: found
"""

RETURN = r"""
survey:
  description:
    - What was found, with os, zone, clock_offset_s (to within a second or two), items, databases, stores, filesystems, disks,
      ups, pool, restore, link_bits_per_s, runs (the agent's last good runs) and notes (what could not be looked at).
    - C(items) has bytes, changed_bytes_per_day, files and missing (paths that are not there) of each protected item; the
      numbers are null when they are not known.
  returned: success
  type: dict
  sample:
    os: Debian 13
    zone: Australia/Sydney
    items: {documents: {bytes: 16521038, changed_bytes_per_day: 0, files: 2000, missing: []}}
    stores: [{kind: mail, path: /home/reception/Maildir, files: 40, bytes: 120000, changed_bytes_per_day: 900, item: null}]
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import stamp, survey_host, survey_walk

STATUS = "/var/lib/holdfast/status"


def databases(module: AnsibleModule) -> tuple[list[dict[str, Any]], list[str], set[str]]:
    """List the databases of servers that run here. Returns them, what could not be asked, and the servers' data folders."""
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    folders: set[str] = set()
    sockets = survey_host.read_sockets(survey_host.text_of(Path("/proc/net/unix")))
    for engine in survey_host.running_engines():
        folders |= engine.folders - {"/"}
        port = min(engine.ports) if engine.ports else None
        if engine.engine == "postgresql":
            psql = module.get_bin_path("psql") or ""
            listed, silent = survey_host.postgresql(module.run_command, sockets if psql else [], psql)
            notes += silent
        else:
            folders |= set(survey_host.DATA_FOLDERS.get(engine.engine, ()))
            listed = survey_host.engine_databases(engine)
        found += listed
        if not listed and engine.engine != "firebird":  # Firebird's databases are files, found by the walk
            found.append({"engine": engine.engine, "name": None, "path": None, "port": port, "bytes": None})
    running = {folder for folder in folders if folder.startswith("/var/lib/postgresql/")}
    for cluster in survey_host.sleeping_clusters(running):
        notes.append(f"a PostgreSQL data folder without a running server: {cluster}")
    return found, notes, folders


def item_sizes(found: survey_walk.Found, jobs: list[dict[str, Any]], servers: list[dict[str, Any]]) -> None:
    """Add to each item what its database holds beside its folders; a database that was not measured leaves it unknown."""
    for job in jobs:
        wanted = job.get("database")
        facts = found.items.get(job["item"])
        if not wanted or facts is None or wanted.get("path"):
            continue
        same = [each for each in servers if each["engine"] == wanted["engine"] and each["name"] == wanted.get("name")]
        if not same:
            facts["missing"].append(f"{wanted['engine']} {wanted.get('name')}")
        for key in ("bytes", "changed_bytes_per_day"):
            own = same[0].get(key) if same else None
            facts[key] = None if own is None or facts[key] is None else facts[key] + own


def capacity(pool: dict[str, Any], disks: list[dict[str, Any]]) -> dict[str, int] | None:
    """Give size and free space of the pool: of its file system, or by its disks when it is not made yet."""
    mounts = survey_walk.read_mounts(survey_host.text_of(Path("/proc/self/mountinfo")))
    if any(mount.path == pool.get("mountpoint") for mount in mounts):
        return survey_host.space_at(str(pool["mountpoint"]))
    sizes = sorted(disk["bytes"] for disk in disks if disk["used_for"] == "pool")
    if not sizes or len(sizes) < len(pool.get("devices") or []):
        return None
    # two copies of everything, on different disks
    total = sum(sizes) if pool.get("profile") == "single" else min(sum(sizes) // 2, sum(sizes[:-1]))
    return {"bytes": total, "free": total}


def look(module: AnsibleModule) -> dict[str, Any]:
    """Look at the host once."""
    asked = module.params
    now = time.time()
    result: dict[str, Any] = {
        "os": survey_host.read_os(survey_host.text_of(Path("/etc/os-release"))),
        "zone": survey_host.read_zone(),
        "clock_offset_s": round(now - asked["asked_at"], 1) if asked["asked_at"] else None,
        "restore": survey_host.space_at(asked["restore_root"]) if asked["restore_root"] else None,
        "notes": [],
    }
    if not asked["data"]:
        return result
    mounts = survey_walk.read_mounts(survey_host.text_of(Path("/proc/self/mountinfo")))
    blkid = module.get_bin_path("blkid", opt_dirs=["/sbin", "/usr/sbin"])

    def probe(device: str) -> str:
        # ends with 2 when nothing is written there; a disk that cannot be probed is not called empty
        code, out, _ = module.run_command([blkid, "-p", "-o", "export", device]) if blkid else (1, "", "")
        return out if code == 0 else "" if code == 2 else "unknown"

    disks = survey_host.disks(mounts, asked["pool"].get("devices") or [], probe)
    servers, notes, folders = databases(module)
    if asked["pool"].get("mountpoint"):
        folders.add(asked["pool"]["mountpoint"])
    walk = survey_walk.Walk(
        survey_walk.wanted_of(asked["jobs"]), mounts, now, asked["deadline_s"], asked["most_entries"], leave_out=folders
    )
    found = walk.run()
    item_sizes(found, asked["jobs"], servers)
    notes += [f"not this host's own: {each}" for each in found.elsewhere]
    if found.unreadable:
        notes.append(f"{found.unreadable} files or folders could not be read")
    if found.stopped:
        notes.append(f"the walk ended early, {found.stopped}; more time: -e survey_deadline_s=SECONDS")
    return {
        **result,
        "items": found.items,
        "databases": [*servers, *found.databases],
        "stores": found.stores,
        "filesystems": survey_host.filesystems(mounts),
        "disks": disks,
        "ups": survey_host.usb_ups(),
        "pool": capacity(asked["pool"], disks) if asked["pool"] else None,
        "link_bits_per_s": survey_host.link_speed(),
        "runs": survey_host.runs(Path(STATUS)),
        "notes": notes,
        "complete": not found.stopped,
        "entries": found.entries,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "jobs": {"type": "list", "elements": "dict", "default": []},
            "pool": {"type": "dict", "default": {}},
            "restore_root": {"type": "path"},
            "data": {"type": "bool", "default": True},
            "asked_at": {"type": "float"},
            "deadline_s": {"type": "int", "default": 120},
            "most_entries": {"type": "int", "default": 2000000},
        },
        supports_check_mode=True,
    )
    try:
        if module.params["data"]:  # the control node carries no stamp, and need not be asked as root
            stamp.check(module.params["practice"], module.params["host"])
        found = look(module)
    except (stamp.StampError, OSError, ValueError) as error:
        module.fail_json(msg=f"{module.params['practice']}/{module.params['host']}: {error}")
    module.exit_json(changed=False, survey=found)


if __name__ == "__main__":
    main()
