# SPDX-License-Identifier: Apache-2.0
"""Print the JSON Schema of practice documents, for editors. The shipped copy is docs/practice.schema.json.

An editor with a YAML language server checks while you type when a document begins with a line such as
# yaml-language-server: $schema=../../docs/practice.schema.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ansible_collections.holdfast.practice.plugins.plugin_utils import schema
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import fail

SHIPPED = Path(__file__).resolve().parents[2] / "docs" / "practice.schema.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--check", action="store_true", help="only say whether the shipped copy is current (1: it is not)"
    )


def run(options: argparse.Namespace) -> int:
    """Print the schema, or compare the shipped copy with it; returns the exit code."""
    text = schema.render()
    if not options.check:
        sys.stdout.write(text)
        return 0
    try:
        shipped = SHIPPED.read_text("utf-8")
    except OSError as error:
        return fail(f"{SHIPPED}: {error.strerror}; make it with: bin/holdfast schema > docs/practice.schema.json")
    if shipped != text:
        print(f"{SHIPPED}: not current; make it anew with: bin/holdfast schema > docs/practice.schema.json")
        return 1
    print(f"{SHIPPED}: ok")
    return 0
