# SPDX-License-Identifier: Apache-2.0
"""Show the whole policy of a practice: every value in force, and the line, default or calculation that it comes from.

Needs no vault and touches no host. Figures are those of the last playbooks/survey.yml, where there is one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from io import TextIOWrapper
from pathlib import Path

from ansible_collections.holdfast.practice.plugins.plugin_utils import check, explain, source, survey
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import INVALID
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import DOCUMENT


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("folder", metavar="PRACTICE_FOLDER", help="the folder that holds practice.yml")
    parser.add_argument("--json", action="store_true", help="for programs: one JSON object")


def run(options: argparse.Namespace) -> int:
    """Explain a practice; returns the exit code."""
    given = Path(options.folder)
    path = given / DOCUMENT if given.is_dir() else given
    document, problems = source.read(path)
    practice, problems = check.check(document, problems) if document else (None, problems)
    if document is None or practice is None:
        print(*problems, sep="\n")
        print(f"{len(problems)} {'mistake' if len(problems) == 1 else 'mistakes'} found; nothing to explain")
        return INVALID
    try:
        measured = survey.stored(path.parent, practice.practice.id)
    except survey.InvalidSurveyError as error:
        print(f"note: {error}", file=sys.stderr)
        measured = None
    rows = explain.explain(document, practice, measured)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 still shows the rest
    if options.json:
        print(json.dumps(explain.as_data(practice, str(path), rows), indent=2, ensure_ascii=False))
    else:
        print(*explain.table(practice, str(path), rows, shutil.get_terminal_size().columns), sep="\n")
    return 0
