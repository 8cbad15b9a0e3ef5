# SPDX-License-Identifier: Apache-2.0
"""Whose host is this? The practice's id is stamped on every host, and asked before the first write.

Practice A's play cannot touch practice B's machine, whatever an address or a limit says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Dir, File

FOLDER = "/etc/holdfast"
PATH = FOLDER + "/practice.json"


class StampError(Exception):
    """The host carries another practice's stamp, or one that cannot be read."""


def wanted(practice: str, host: str) -> File:
    """Give the stamp as a file for a module's ``Wanted`` (put ``folder()`` before it)."""
    return File(PATH, (json.dumps({"host": host, "practice": practice}, sort_keys=True) + "\n").encode(), mode=0o644)


def folder() -> Dir:
    """Give the folder that holds the stamp and everything of ours that is secret."""
    return Dir(FOLDER, mode=0o700)


def judge(text: str, practice: str, host: str, path: str = PATH) -> None:
    """Compare a stamp's text with who we think the host is; raises StampError on any difference. Pure."""
    try:
        found: dict[str, Any] = json.loads(text)
        stamped = (str(found["practice"]), str(found["host"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StampError(f'{path}: not a stamp ({error}); expected {{"practice": ..., "host": ...}}') from error
    if stamped != (practice, host):
        raise StampError(
            f'{path}: this machine is "{stamped[1]}" of practice "{stamped[0]}", but the play is for "{host}" of '
            f'practice "{practice}"; correct the address in the practice document, or retire the machine there first'
        )


def check(practice: str, host: str, path: str = PATH) -> None:
    """Raise StampError when this machine belongs to somebody else. A machine without a stamp is free."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    judge(text, practice, host, path)
