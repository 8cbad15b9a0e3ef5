# SPDX-License-Identifier: Apache-2.0
"""Take a host out of use on the control node: the document's lines about it and its logins in the vault.

Shows what changes and asks before it does. The backups stay on the NAS, and the password that opens them stays in the vault.
Then run playbooks/retire_host.yml, which closes the accounts and cleans the machine; the command is printed.

Exit codes: 0 done, or nothing left to do; 2 not confirmed, nothing was changed; 3 invalid input.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import sys
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from ansible_collections.holdfast.practice.plugins.plugin_utils import retiring, secrets
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import fail
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import DOCUMENT, InvalidPracticeError, load
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Practice

NOT_CONFIRMED = 2


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    common_arguments(parser)
    parser.add_argument(
        "--keep-until",
        metavar="YYYY-MM-DD",
        help="before that day the backups are not deleted; default: as long as the document's retention reaches",
    )


def common_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what retire and forget have in common."""
    parser.add_argument("folder", metavar="PRACTICE_FOLDER", help="the folder that holds practice.yml")
    parser.add_argument("host", metavar="HOST", help="the name of the host")
    parser.add_argument("--confirm", metavar="HOST", help="its name once more: do it without asking")
    parser.add_argument(
        "--vault-password-file", metavar="FILE", type=Path, help="default: .vault-password in the folder"
    )


def run(options: argparse.Namespace) -> int:
    """Show, ask, change; returns the exit code."""
    folder = Path(options.folder)
    document = folder / DOCUMENT
    try:
        with secrets.locked(folder):
            practice, _ = load(document)
            today = datetime.now(ZoneInfo(practice.practice.timezone)).date()
            return _retire(folder, practice, options, today)
    except InvalidPracticeError as error:
        print(*error.problems, sep="\n")
        return fail(f"the document has mistakes ({len(error.problems)}); nothing was changed")
    except (retiring.RetiringError, secrets.SecretsError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}")


def _retire(folder: Path, practice: Practice, options: argparse.Namespace, today: date) -> int:
    host, identity = options.host, practice.practice.id
    document = folder / DOCUMENT
    raw = document.read_bytes()
    edit = retiring.retire(raw, str(document), host, today, options.keep_until)
    secret, vault = secrets.open_vault(folder, identity, options.vault_password_file)
    left, taken = retiring.revoke(vault, host)
    if edit is None and not taken:
        print(f"{host} is retired in {document}, and the vault holds no login of it: nothing to change here.")
        _say_next(folder, identity, options)
        return 0
    if edit:
        show(document, raw, edit.text)
        for item in edit.items:
            print(f"{item} goes with it: no other host protects it")
        for ups in edit.ups:
            print(f"{ups} goes with it: it feeds no other host")
    for name in taken:
        print(f"the vault loses {name}")
    if host in (vault.get(retiring.KEPT) or {}):
        print(f"the vault keeps {retiring.KEPT}[{host}]: without it nobody can read what was backed up")
    else:
        print(f"ATTENTION: the vault has no {retiring.KEPT}[{host}]; what was backed up cannot be read by anybody")
    if not confirmed(host, options.confirm):
        return NOT_CONFIRMED
    if edit:
        replace(document, edit.text)
    if taken:
        secrets.save_vault(folder, identity, secret, left)
    print(f"{host} is retired in {document}.")
    _say_next(folder, identity, options)
    return 0


def _say_next(folder: Path, identity: str, options: argparse.Namespace) -> None:
    file = options.vault_password_file or folder / secrets.PASSWORD_FILE
    print(
        "Next, close its accounts and clean the machine (also when it is dead and does not answer):\n  "
        + playbook("retire_host.yml", folder, identity, file, f"-e host={options.host} -e confirm={options.host}")
    )


def playbook(name: str, folder: Path, identity: str, file: Path, variables: str) -> str:
    """Write the command that runs a playbook."""
    vault = shlex.quote(f"{identity}@{file}")
    return f"ansible-playbook -i {shlex.quote(str(folder))} --vault-id {vault} playbooks/{name} {variables}"


def show(document: Path, raw: bytes, text: str) -> None:
    """Print what changes in a document."""
    before = raw.decode("utf-8-sig").splitlines()
    lines = difflib.unified_diff(before, text.splitlines(), str(document), f"{document} (after)", n=1, lineterm="")
    print(*lines, "", sep="\n")


def replace(document: Path, text: str) -> None:
    """Write a document in one step, with the mode it had; a link is followed."""
    path = Path(os.path.realpath(document))
    secrets.write(path, text.encode(), path.stat().st_mode & 0o777)


def confirmed(host: str, said: str | None) -> bool:
    """Ask for the host's name, unless it was given; says what to do when it was not, or is another."""
    if said is None and sys.stdin.isatty():
        said = input(f"Type {host} to do this: ").strip()
    if said == host:
        return True
    if said is None:
        print(f"Nothing was changed. To do this, add: --confirm {host}")
    else:
        print(f"Nothing was changed: {said!r} is not {host!r}")
    return False
