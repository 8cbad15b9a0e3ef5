# SPDX-License-Identifier: Apache-2.0
"""Check practice documents; touches no host. Prints every mistake with its line, and what to write instead.

Several practices are also compared with each other: no two may share an id, a host's name or address, a machine's SSH key, a
bucket or another place of copies, a disk, or a secret. Secrets are compared without showing them; for that a vault is
opened with the practice's own password file, or with the ones given here.

Where playbooks/survey.yml or a power drill has measured a practice, its plan is also judged by what was measured.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.holdfast.practice.plugins.plugin_utils import (
    across,
    check,
    feasibility,
    rules_power,
    source,
    stop_times,
    survey,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import INVALID, fail
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import DOCUMENT
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import PathBeside
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Practice
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Document, Problem, value_at
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View, valid

VAULT_FILE = "group_vars/all/vault.yml"
PASSWORD_FILE = ".vault-password"  # noqa: S105  (a file name)
NAMED = 5  # practices that a note names


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a practice.yml, a practice's folder, or a folder of practices"
    )
    parser.add_argument(
        "--vault-id",
        action="append",
        default=[],
        metavar="ID@FILE",
        help="the file with the vault password of the practice with this id; may be given several times",
    )
    parser.add_argument(
        "--vault-password-file",
        metavar="FILE",
        type=Path,
        help="the vault password of all other practices; default: .vault-password in each folder",
    )


def run(options: argparse.Namespace) -> int:
    """Check what the paths stand for; returns the exit code."""
    passwords = {}
    for given in options.vault_id:
        name, _, file = given.partition("@")
        if not name or not file or file == "prompt":
            return fail(f"--vault-id {given}: expected ID@FILE, the practice's id and its vault password file")
        passwords[name] = Path(file)
    lines: list[str] = []
    notes: list[str] = []
    documents: dict[str, Path] = {}
    for given in options.paths:
        found = _documents(Path(given))
        if not found:
            lines.append(f"{given}: there is no {DOCUMENT} here; expected a practice's folder or a folder of practices")
        for each in found:
            documents.setdefault(os.path.realpath(each), each)
    mistakes = len(lines)
    several = _Several(passwords, options.vault_password_file) if len(documents) > 1 else None
    for path in documents.values():
        document, problems = source.read(path)
        practice, problems = check.check(document, problems) if document else (None, problems)
        if document and practice:
            problems = _measured(document, practice, path.parent, notes)
        if document and several:
            problems = sorted([*problems, *several.compare(document, path.parent)])
        mistakes += len(problems)
        lines += [str(problem) for problem in problems] or [f"{path}: ok: {_summary(practice)}"]
    lines += notes + (several.notes() if several else [])
    if mistakes:
        lines.append(f"{mistakes} {'mistake' if mistakes == 1 else 'mistakes'} found; nothing was touched")
    print(*lines, sep="\n")
    return INVALID if mistakes else 0


def _documents(path: Path) -> list[Path]:
    """Find the documents that a path stands for; a path that is not there is a document that cannot be read."""
    if not path.is_dir():
        return [path]
    own = path / DOCUMENT
    return [own] if own.exists() else sorted(path.glob(f"*/{DOCUMENT}"))


def _measured(document: Document, practice: Practice, folder: Path, notes: list[str]) -> list[Problem]:
    """Judge the plan by what was measured: the last survey, and how long machines took to stop. What cannot be used is said."""
    view, problems = View.of(document, practice), []
    try:
        if found := survey.stored(folder, practice.practice.id):
            problems += feasibility.problems_measured(view, found)
    except survey.InvalidSurveyError as error:
        notes.append(f"note: {error}")
    try:
        stops = stop_times.longest(stop_times.stored(folder, practice.practice.id))
        problems += rules_power.budget_problems(view, stops)
    except stop_times.InvalidStopTimesError as error:
        notes.append(f"note: {error}")
    return problems


def _summary(practice: Practice | None) -> str:
    if practice is None:
        raise ValueError("a document without a problem is a practice")
    agents = len({host for host, each in practice.hosts.items() if getattr(each, "protect", None)})
    items = len(practice.protect)
    return f"{practice.practice.id}: {len(practice.hosts)} hosts, {items} items on {agents} of them"


@dataclass
class _Several:
    """Compares practices with each other: their documents and what lies beside them."""

    passwords: dict[str, Path]
    password_file: Path | None
    neighbours: across.Neighbours = field(default_factory=across.Neighbours)
    said: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def compare(self, document: Document, folder: Path) -> list[Problem]:
        """Compare a practice with those before it."""
        self.neighbours.begin()
        things = [*across.of_document(document), *self.known_hosts(document, folder), *self.vault(document, folder)]
        self.key_file(document, folder)
        return self.neighbours.compare(things)

    def known_hosts(self, document: Document, folder: Path) -> Iterator[across.Thing]:
        file = folder / "known_hosts"
        if text := self.read(file):
            yield from across.of_known_hosts(document, text, str(file))

    def vault(self, document: Document, folder: Path) -> Iterator[across.Thing]:
        file = folder / VAULT_FILE
        if not file.exists():
            return
        name = str(value_at(document.data, ("practice", "id")) or "")
        if name in self.passwords:
            self.used.add(name)
        password = self.passwords.get(name) or self.password_file or folder / PASSWORD_FILE
        if not password.exists() and password == folder / PASSWORD_FILE:
            self.closed.append(str(folder))
            return
        from ansible_collections.holdfast.practice.plugins.plugin_utils import secrets  # half a second of Ansible

        try:
            _, content = secrets.open_vault(folder, name, password)
        except (secrets.SecretsError, OSError) as error:
            what = error if isinstance(error, secrets.SecretsError) else f"{error.filename}: {error.strerror}"
            self.said.append(f"note: {what}; its secrets were not compared")
            return
        yield from across.of_vault(content, str(file), self.neighbours.hash)

    def key_file(self, document: Document, folder: Path) -> None:
        name = value_at(document.data, ("access", "key"))
        text = self.read(folder / name) if isinstance(name, str) and valid(PathBeside, name) else ""
        if not text:
            return
        thing = across.of_key_file(document, text, self.neighbours.hash)
        if other := self.neighbours.other(thing.kind, thing.key, thing):
            self.said.append(
                f"note: {thing.file}:{thing.line}: {thing.path}: the same private key as {other}: whoever has it has both"
            )

    def read(self, file: Path) -> str:
        """Read a file that may be missing; one that cannot be read is said."""
        try:
            return file.read_text("utf-8", errors="replace") if file.exists() else ""
        except OSError as error:
            self.said.append(f"note: {file}: {error.strerror}; it was not compared")
            return ""

    def notes(self) -> list[str]:
        """Say what is no mistake, and what could not be compared."""
        result = list(self.said)
        if self.closed:
            listed = ", ".join(self.closed[:NAMED])
            more = f" and {len(self.closed) - NAMED} more" if len(self.closed) > NAMED else ""
            fix = "give --vault-id ID@FILE or --vault-password-file FILE"
            result.append(f"note: no vault password for {listed}{more}: secrets there were not compared; {fix}")
        result += [
            f"note: --vault-id {name}: no practice with a vault has this id"
            for name in self.passwords
            if name not in self.used
        ]
        return result
