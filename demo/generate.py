#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the data of the example practice: see demo/generator. Same seed and same day give the same bytes.

    demo/generate.py --output DIR         everything, as files and as archives, into an empty folder
    demo/generate.py --cache DIR          archives only, in DIR/<generator version>-<day>; at once when already there

Prints the folder. Exit codes: 0 done, 1 failed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import pathlib
import sys
from zoneinfo import ZoneInfo

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

try:
    from demo import generator
except ModuleNotFoundError as missing:
    sys.exit(f"demo/generate.py: no {missing.name} here; run `make setup` once, then .venv/bin/python demo/generate.py")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and generate."""
    parser = argparse.ArgumentParser(description="Make the invented data of the example practice.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--output", type=pathlib.Path, metavar="DIR", help="empty folder for files and archives")
    where.add_argument("--cache", type=pathlib.Path, metavar="DIR", help="folder of cached archives")
    parser.add_argument(
        "--today",
        type=dt.date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="day the data pretends to be made on (default: today where the practice is)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is the full practice, 0.01 a hundredth of it")
    options = parser.parse_args(arguments)
    if not 0 < options.scale <= 2:
        parser.error("--scale: expected more than 0 and at most 2")
    # The practice's own day has begun there, so its yesterday is over: no entry is ahead of any clock.
    today = options.today or dt.datetime.now(ZoneInfo("Australia/Sydney")).date()
    try:
        if options.cache:
            print(generator.cached(options.cache, today, options.seed, options.scale))
        else:
            generator.build(options.output, today, options.seed, options.scale)
            print(options.output)
    except OSError as error:
        print(f"demo/generate.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
