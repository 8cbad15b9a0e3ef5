# SPDX-License-Identifier: Apache-2.0
"""In which order to recover, and with which commands. Pure; no secret is in any of it.

The commands run in the folder that the kit was opened in: repositories/HOST.env brings the secrets to restic.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.agent_job import stored_dump
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import Database
from ansible_collections.holdfast.practice.plugins.module_utils.engines import ENGINES


def steps(
    stores: Sequence[Mapping[str, Any]],
    repositories: Sequence[Mapping[str, Any]],
    items: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Say what to do, one after the other: [{number, title, item?, parts: [{say, commands}]}].

    All as in recovery_kit.content(); items in the order to recover.
    """
    found = [_storage(store) for store in stores]
    found.append(_repositories(repositories))
    by_host = {repository["host"]: repository for repository in repositories}
    found += [_item(item, by_host[item["host"]]) for item in items]
    return [{"number": number, **step} for number, step in enumerate(found, start=1)]


def _part(say: str, *commands: str) -> dict[str, Any]:
    return {"say": say, "commands": list(commands)}


def _storage(store: Mapping[str, Any]) -> dict[str, Any]:
    pool = store["pool"]
    devices = [shlex.quote(device) for device in pool["devices"]]
    mount = shlex.quote(pool["mountpoint"])
    others = "".join(f",device={device}" for device in devices[1:])
    parts = [
        _part(
            f"If {store['host']} ({store['address']}) runs, the pool is mounted there and this prints it:",
            f"ssh {store['user']}@{store['address']} findmnt {mount}",
        ),
        _part(
            "If not, put its disks into any Linux machine that knows btrfs and mount them read only. Disks may have other names "
            f"there; `btrfs filesystem show` lists them under the label {pool['label']}.",
            f"mkdir -p {mount}",
            f"mount -t btrfs -o ro{others} {devices[0]} {mount}",
        ),
    ]
    if pool["profile"] == "raid1":
        parts.append(
            _part(
                "If a disk is lost, those that are left are enough. With the first one gone:",
                f"mount -t btrfs -o ro,degraded {devices[-1]} {mount}",
            )
        )
    return {"title": f"Storage: {store['host']}", "parts": parts}


def _repositories(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    parts = [
        _part(
            "restic 0.17 or later is needed, best the version named under the tools. A repository that can be read prints its id."
        ),
        *(
            _part(
                f"Repository of {row['host']}, through the NAS:",
                f". repositories/{row['host']}.env",
                f"{_restic(row)} cat config",
            )
            for row in rows
        ),
        _part(
            "To read mounted disks instead of the NAS, say where the repository lies, after each `. repositories/HOST.env`:",
            *(f"export RESTIC_REPOSITORY={shlex.quote(row['path'])}   # {row['host']}" for row in rows),
        ),
    ]
    return {"title": "Repositories: can they be read?", "parts": parts}


def _restic(repository: Mapping[str, Any]) -> str:
    """Begin a restic command that only reads. --no-lock: the disks may be mounted read only."""
    return f"restic --no-lock --cacert {shlex.quote(repository['certificate'])}"


def _item(item: Mapping[str, Any], repository: Mapping[str, Any]) -> dict[str, Any]:
    restic = _restic(repository)
    job, database = item["job"], item["database"]
    newest = f"{restic} snapshots --json --tag job={job},part=oracle latest"
    parts = [
        _part(
            "Choose the newest whole run, which is one with an oracle, as that is saved last. If intruders may have been in, "
            "choose an older one from the list, and write RUN=run=... yourself.",
            f". repositories/{item['host']}.env",
            f"{restic} snapshots --tag job={job},part=oracle",
            f'RUN=$({newest} | grep -o \'run=[^"]*\' | tail -n 1); echo "$RUN"',
        ),
        _part(
            "The oracle says what has to come back: every file with its hash, every table with its rows.",
            f'{restic} dump --tag "$RUN,part=oracle" latest {shlex.quote(item["oracle"])} > {job}.oracle.json',
        ),
    ]
    if item["paths"]:
        parts.append(
            _part(
                f"Files: {', '.join(item['paths'])}. TARGET is an empty folder with room for them; on a new, empty machine "
                "TARGET=/ puts them in place.",
                "TARGET=/restored",
                f'{restic} restore --tag "$RUN,part=files" --target "$TARGET" --verify latest',
            )
        )
    if database:
        parts.append(_database(item, database, restic))
    kind = f"{ENGINES[database['engine']].title} database" if database else "files"
    return {"title": f"{item['item']} of {item['host']}: {item['class']}, {kind}", "item": item["item"], "parts": parts}


def _database(item: Mapping[str, Any], database: Mapping[str, str], restic: str) -> dict[str, Any]:
    job, engine = item["job"], ENGINES[database["engine"]]
    version = item["engine"].partition(" ")[2]
    known = f"{version} or later" if version else "in the version that the oracle names"
    wanted = Database(engine.name, database.get("name"), database.get("path"))
    words, commands = engine.recovery(wanted, version, f"{job}.dump", f"{job}.oracle.json")
    return _part(
        f"Database {wanted.label}: {engine.title} {known}; {words}.",
        f'{restic} dump --tag "$RUN,part=database" latest {shlex.quote(stored_dump(job))} > {job}.dump',
        *commands,
    )
