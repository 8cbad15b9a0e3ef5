# SPDX-License-Identifier: Apache-2.0
"""Open every repository with nothing but a sealed recovery kit and its owner's age key, and say which one fails.

Needs neither the practice's folder nor its vault; only the kit, the key, restic and a way to the NAS. Nothing of the kit is
written to a disk but certificates, which are public.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ansible_collections.holdfast.practice.plugins.plugin_utils import kit_check, kit_seal
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import fail
from ansible_collections.holdfast.practice.plugins.plugin_utils.recovery_kit import KitError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("kit", metavar="KIT", type=Path, help="the sealed kit, such as recovery/latest.age")
    parser.add_argument(
        "--identity",
        metavar="FILE",
        required=True,
        help="a reader's age key file; - reads it from standard input, so that it need not lie on this machine",
    )
    parser.add_argument("--practice", metavar="ID", help="accept a kit of this practice only")
    parser.add_argument("--json", action="store_true", help="print the result for programs")
    parser.add_argument(
        "--restic-image",
        metavar="LAYER:...",
        default="",
        help="use the restic of an image: the folders of its layers, topmost first (root only)",
    )


def run(options: argparse.Namespace) -> int:
    """Check a kit; returns the exit code: 1 when a repository fails, 2 when one could not be judged."""
    name = "the key from standard input" if options.identity == "-" else options.identity
    try:
        key = sys.stdin.read() if options.identity == "-" else Path(options.identity).read_text("utf-8")
        sealed = options.kit.read_bytes()
        identities = kit_seal.identities(key, name)
        files = kit_seal.unseal(sealed, identities, str(options.kit))
        kit = kit_seal.read_kit(files, str(options.kit))
        layers = [layer for layer in options.restic_image.split(":") if layer]
        if options.practice and kit["practice"]["id"] != options.practice:
            return fail(f"{options.kit} is the kit of {kit['practice']['id']}, expected the one of {options.practice}")
        kit_check.need_restic(layers)
    except (KitError, kit_check.NoResticError) as error:
        return fail(str(error))
    except UnicodeDecodeError:
        return fail(f"{name} is no age key file; expected lines that begin with AGE-SECRET-KEY-1")
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}")
    rows = kit_check.Checker(kit, files, layers).check()
    if options.json:
        result = kit_check.body(kit, kit_seal.sha256(sealed), rows)
        print(json.dumps({"body": result, "lines": kit_check.describe(kit, rows)}))
    else:
        print(*kit_check.describe(kit, rows), sep="\n")
    return kit_check.EXIT[kit_check.verdict_of(rows)]
