# SPDX-License-Identifier: Apache-2.0
"""A practice's folder: the document and what lies beside it. The only reader of both."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.holdfast.practice.plugins.plugin_utils import check, stop_times
from ansible_collections.holdfast.practice.plugins.plugin_utils.compiler import Inventory, compile_practice
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Nas, Practice
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Problem

DOCUMENT = "practice.yml"


class InvalidPracticeError(Exception):
    """A document that is refused; problems holds everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def certificates(practice: Practice, folder: Path) -> dict[str, str]:
    """Read the pinned certificates that are there: PEM text by NAS."""
    found = {}
    for name, host in practice.hosts.items():
        path = folder / "certificates" / f"{name}.pem"
        if isinstance(host, Nas) and path.is_file():
            found[name] = path.read_text("ascii")
    return found


def load(document: Path, name: str = "") -> tuple[Practice, Path]:
    """Read a practice document. Returns the practice and the real path of its folder; raises InvalidPracticeError.

    name is how messages call the file; by default its path as given.
    """
    practice, problems = check.load(document, name or str(document))
    if practice is None:
        raise InvalidPracticeError(problems)
    return practice, Path(os.path.realpath(document)).parent


def load_inventory(document: Path, name: str = "") -> Inventory:
    """Read, check and compile a practice document. Raises InvalidPracticeError, or OSError for files beside it."""
    practice, folder = load(document, name)
    measured = stop_times.longest(stop_times.stored(folder, practice.practice.id))
    return compile_practice(practice, str(folder), certificates(practice, folder), measured)
