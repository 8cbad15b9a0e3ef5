# SPDX-License-Identifier: Apache-2.0
"""The repositories that a host uses: opened with their own credentials, and known by the id that was pinned."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Callable

from . import backup_nas, restic
from .agent_host import Places, read_json, write_json
from .agent_job import Job

KNOCK_S = 15.0
CREDENTIALS = ("repository-password", "rest-username", "rest-password")


class RunError(Exception):
    """The run cannot be OK any more: it ends here with this reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _folder(places: Places) -> Path:
    return Path(os.environ.get("CREDENTIALS_DIRECTORY") or places.etc / "credentials")


def credential(places: Places, name: str) -> str:
    """A secret of this host's. Raises RunError."""
    try:
        return (_folder(places) / name).read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        message = f"credential {error.filename} cannot be read ({error.strerror}); run site.yml for this host"
        raise RunError("credentials_missing", message) from error


def open_restic(url: str, places: Places, run: Callable[..., tuple[int, str, str]], store: str = "") -> restic.Restic:
    """restic with this host's repository and credentials; store: the name of a copy's. Raises RunError."""
    before = f"{store}." if store else ""
    found = {name: credential(places, f"{before}{name}") for name in CREDENTIALS}
    repository = restic.Repository(
        url=url,
        password_file=str(_folder(places) / f"{before}repository-password"),
        cacert=str(places.etc / f"{store or 'nas'}.pem"),
        cache_dir=str(places.cache),
    )
    return restic.Restic(run, repository, found["rest-username"], found["rest-password"])


def pin_name(store: str) -> str:
    """File that pins the repository of a store."""
    return f"repository.{store}.json" if store else "repository.json"


def check_stamp(job: Job, places: Places) -> None:
    """Is this host the practice's? Raises RunError."""
    stamp = read_json(places.etc / "practice.json") or {}
    if (stamp.get("practice"), stamp.get("host")) != (job.practice, job.host):
        raise RunError(
            "identity_mismatch",
            f"this machine is stamped {stamp.get('host')} of practice {stamp.get('practice')}, "
            f"the job is for {job.host} of {job.practice}; run site.yml of the right practice",
        )


def knock(opened: restic.Restic, timeout_s: float) -> bytes | None:
    """The sealed config of this host's repository; None when there is none for it. Raises NasError."""
    env, repository = opened.env, opened.repository
    user, password = env["RESTIC_REST_USERNAME"], env["RESTIC_REST_PASSWORD"]
    return backup_nas.config(repository.url, str(repository.cacert), user, password, timeout_s)


def identify(opened: restic.Restic, places: Places, store: str = "") -> str:
    """Id of the repository, which has to be the pinned one. Raises RunError, ResticError, NasError."""
    config = knock(opened, KNOCK_S)
    if config is None:
        where = f"the server of the copy {store}" if store else "the NAS"
        raise RunError(
            "repository_missing",
            f"{where} has no repository for this host. If one was there before, find out who removed it; "
            "nothing is created here. site.yml creates the first one",
        )
    pinned = (read_json(places.etc / pin_name(store)) or {}).get("id")
    if pinned and (read_json(places.seen) or {}).get(store) == sight(pinned, config):
        return str(pinned)
    found = opened.id()
    if found != pinned:
        raise RunError(
            "identity_mismatch",
            f"the repository is {found[:8]}, the one pinned on this host is {str(pinned)[:8]}; "
            "find out who replaced it before anything is stored",
        )
    remember(places, {store: sight(found, config)})
    return found


def sight(repository: str, config: bytes) -> dict[str, str]:
    """What is kept of a repository that was opened: its id, and a hash of its sealed config.

    restic takes a second to open a repository, whose config never changes: the same bytes are the same repository.
    """
    return {"id": repository, "config": hashlib.blake2b(config).hexdigest()}


def remember(places: Places, seen: Mapping[str, Mapping[str, str]]) -> None:
    """Keep the sights of repositories that were opened, by the names of their stores."""
    known = read_json(places.seen) or {}
    if {**known, **seen} != known:
        write_json(places.seen, {**known, **seen})
