# SPDX-License-Identifier: Apache-2.0
"""Check practice documents; touches no host. Prints every mistake with its line, and what to write instead."""

from __future__ import annotations

import argparse
from pathlib import Path

from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import INVALID
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import InvalidPracticeError, load


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a practice.yml, a practice's folder, or a folder of practices"
    )


def _documents(path: Path) -> list[Path]:
    """Find the documents that a path stands for; a path that is not there is a document that cannot be read."""
    if not path.is_dir():
        return [path]
    own = path / "practice.yml"
    return [own] if own.exists() else sorted(path.glob("*/practice.yml"))


def run(options: argparse.Namespace) -> int:
    """Check what the paths stand for; returns the exit code."""
    mistakes = 0
    seen: dict[str, Path] = {}
    documents: list[Path] = []
    for given in options.paths:
        found = _documents(Path(given))
        if not found:
            print(f"{given}: there is no practice.yml here; expected a practice's folder or a folder of practices")
            mistakes += 1
        documents += [document for document in found if document not in documents]
    for document in documents:
        try:
            practice, _ = load(document)
        except InvalidPracticeError as error:
            mistakes += len(error.problems)
            print(*error.problems, sep="\n")
            continue
        name = practice.practice.id
        if name in seen:
            mistakes += 1
            print(f"{document}: practice.id: got {name!r}, the id of {seen[name]}; expected an id of its own")
            continue
        seen[name] = document
        agents = len({host for host, each in practice.hosts.items() if getattr(each, "protect", None)})
        print(f"{document}: ok: {name}: {len(practice.hosts)} hosts, {len(practice.protect)} items on {agents} of them")
    if mistakes:
        print(f"{mistakes} {'mistake' if mistakes == 1 else 'mistakes'} found; nothing was touched")
        return INVALID
    return 0
