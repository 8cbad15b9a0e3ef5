# SPDX-License-Identifier: Apache-2.0
"""The commands of bin/holdfast: which there are, and how their arguments are read.

A command is a module cli_NAME beside this one with arguments(parser) and run(options), which returns the exit code. It is
imported only when it is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path
from typing import NoReturn

INVALID = 3
COMMANDS = {
    "new": "begin a practice: a short interview, then its folder with document, secrets and pinned keys",
    "validate": "check practice documents; touches no host",
    "explain": "show the whole policy in force, and where each value comes from",
    "coverage": "show what was proven when, what is overdue, and what never was",
    "schema": "print the JSON Schema of practice documents, for editors",
    "secrets": "make the secrets, certificates and keys that a practice still lacks",
    "pin": "pin the SSH keys of a practice's hosts, once their fingerprints are confirmed",
    "kit-check": "open every repository with a sealed recovery kit only, and say which one fails",
    "retire": "take a host out of use: its lines in the document, its logins in the vault",
    "forget": "forget a retired host whose backups were deleted",
    "verify-evidence": "verify a folder of evidence against a pinned key",
}
EPILOG = """examples:
  bin/holdfast new inventories/my-practice                begin a practice; asks what it needs to know
  bin/holdfast validate inventories/harbour-street        check a practice before anything is touched
  bin/holdfast validate inventories                       check all practices in a folder, and against each other
  bin/holdfast explain inventories/harbour-street         the whole policy, with where each value comes from
  bin/holdfast coverage inventories/harbour-street        what was proven when, and what never was
  bin/holdfast secrets inventories/harbour-street --vault-password-file FILE
  bin/holdfast pin inventories/harbour-street --check     do the hosts still show the keys that are pinned?
  bin/holdfast kit-check inventories/harbour-street/recovery/latest.age --identity KEYFILE
  bin/holdfast verify-evidence inventories/harbour-street/evidence --signers inventories/harbour-street/evidence_signers

exit codes: 0 all good; 1 evidence is not genuine and whole, a proof is overdue, or a kit does not open a repository;
  2 it could not be judged; 3 invalid input
"""


class Parser(argparse.ArgumentParser):
    """Ends with our code for invalid input: argparse's own, 2, means "inconclusive" here."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments."""
        self.print_usage(sys.stderr)
        sys.exit(fail(message))


def fail(message: str) -> int:
    """Say why a command could not do its work; returns the exit code for invalid input."""
    print(f"holdfast: {message}", file=sys.stderr)
    return INVALID


def main(arguments: list[str], repository: Path) -> int:
    """Run one command; returns the exit code."""
    parser = Parser(
        prog="holdfast",
        description="Check, explain and begin practice documents, make secrets, verify evidence.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"holdfast {_version(repository)}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    asked = next((argument for argument in arguments if not argument.startswith("-")), "")
    module = None
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == asked and name != "verify-evidence":  # bin/holdfast does that without our packages
            module = importlib.import_module(f"{__name__}_{name.replace('-', '_')}")
            command.description = module.__doc__
            module.arguments(command)
    options = parser.parse_args(arguments)
    return int(module.run(options)) if module else fail("no such command")


def _version(repository: Path) -> str:
    found = re.search(r"^version:\s*[\"']?([^\s\"']+)", (repository / "galaxy.yml").read_text("utf-8"), re.MULTILINE)
    return found[1] if found else "unknown"
