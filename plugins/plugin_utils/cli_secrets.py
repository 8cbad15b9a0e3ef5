# SPDX-License-Identifier: Apache-2.0
"""Make the secrets, certificates and keys that a practice still lacks. What is there stays as it is.

Secrets go into group_vars/all/vault.yml, encrypted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ansible_collections.holdfast.practice.plugins.plugin_utils import secrets
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import fail
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import (
    DOCUMENT,
    InvalidPracticeError,
    certificates,
    load,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("folder", metavar="PRACTICE_FOLDER", help="the folder that holds practice.yml")
    parser.add_argument(
        "--vault-password-file", metavar="FILE", type=Path, help="default: .vault-password in the folder"
    )
    parser.add_argument(
        "--create-password",
        action="store_true",
        help="make the vault password file when there is none (keep a copy of it!)",
    )


def run(options: argparse.Namespace) -> int:
    """Make what is missing; returns the exit code."""
    folder = Path(options.folder)
    try:
        practice, _ = load(folder / DOCUMENT)
        made = secrets.apply(folder, practice, options.vault_password_file, options.create_password)
        facts = {
            f"certificates/{name}.pem": secrets.certificate_facts(pem)
            for name, pem in certificates(practice, folder).items()
        }
    except InvalidPracticeError as error:
        print(*error.problems, sep="\n")
        return fail(f"the document has mistakes ({len(error.problems)}); no secret was made")
    except secrets.SecretsError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}")
    for name in made:
        print(f"made {name}" + (f"  {facts[name]}" if name in facts else ""))
    print(f"{folder}: ok: {len(made)} made, the rest was there")
    if secrets.PASSWORD_FILE in made:
        print(
            f"Keep a copy of {folder / secrets.PASSWORD_FILE} outside this machine: without it no backup can be read."
        )
    return 0
