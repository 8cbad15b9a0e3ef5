# SPDX-License-Identifier: Apache-2.0
"""Begin a practice: ask a short interview, and make its folder.

Writes a practice document with comments, a vault with strong secrets, the NAS's certificate, the key that signs evidence, and the
SSH keys of the hosts once their fingerprints are confirmed; then says what to do next. Nothing is written before all is answered,
and then the folder appears as a whole or not at all. A folder that exists is never touched.

Exit codes: 0 the folder is made; 1 a host shows another key than the expected one; 3 invalid input; 130 left with Ctrl-C.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils import (
    check,
    cli_pin,
    onboarding,
    pinning,
    secrets,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.answers import AGENT, GENERATE, AccessAnswer, Answers
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import fail
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import (
    DOCUMENT,
    InvalidPracticeError,
    certificates,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.interview import Interview, Terminal
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import PracticeId
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Practice
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import valid
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

INTERRUPTED = 130
REPOSITORY = Path(__file__).resolve().parents[2]
IGNORED = """# Private, or made again by every run: never into version control. The vault is encrypted and may go in.
/.vault-password
/ssh_key
/results/
/reports/
/recovery/
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("folder", metavar="FOLDER", help="the folder to make, such as inventories/my-practice")
    parser.add_argument("--answers", metavar="FILE", type=Path, help="take the answers from a YAML file; ask nothing")
    parser.add_argument(
        "--vault-password-file", metavar="FILE", type=Path, help="default: one is made, .vault-password in the folder"
    )
    confirm = parser.add_mutually_exclusive_group()
    confirm.add_argument(
        "--expect", metavar="FILE", type=Path, help="pin the hosts that show these keys: lines HOST SHA256:..."
    )
    confirm.add_argument("--yes", action="store_true", help="pin what the hosts show without asking")
    confirm.add_argument("--no-pin", action="store_true", help="do not look at the hosts now")


class _Screen:
    """The terminal itself."""

    def say(self, text: str) -> None:
        """Show a line."""
        print(text)

    def ask(self, prompt: str) -> str:
        """Show a prompt and give the line that was typed."""
        return input(prompt)


def _somebody(terminal: Terminal) -> bool:
    """Say whether there is a person to ask."""
    return sys.stdin.isatty() or not isinstance(terminal, _Screen)


class _RefusedError(Exception):
    """The folder cannot be made; code is the exit code, and what is wrong has been said unless there is a message."""

    def __init__(self, message: str = "", code: int = 3) -> None:
        self.code = code
        super().__init__(message)


@dataclass
class _Made:
    """What there is to tell at the end."""

    practice: Practice
    public_key: str = ""
    unpinned: bool = False


def run(options: argparse.Namespace, terminal: Terminal | None = None) -> int:
    """Ask, make the folder, say what is next; returns the exit code."""
    folder = Path(os.path.realpath(options.folder))
    try:
        _refuse_folder(folder, options.folder)
        password = options.vault_password_file
        if password and not password.is_file():
            raise _RefusedError(f"{password}: there is no such file; leave it out to have a password made")
        with _aside(folder) as unfinished:
            made = _make(folder, unfinished, options, terminal or _Screen())
            # a rename never replaces a folder that holds something
            unfinished.rename(folder)
    except InvalidPracticeError as error:
        print(*error.problems, sep="\n")
        return fail(f"there are mistakes ({len(error.problems)}); nothing was written")
    except (_RefusedError, secrets.SecretsError) as error:
        if str(error):
            fail(str(error))
        return getattr(error, "code", 3)
    except (KeyboardInterrupt, EOFError):
        print("\nholdfast: left; nothing was written", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}; nothing was written")
    _farewell(folder, options, made)
    return 0


# --- the folder -----------------------------------------------------------------------------------------------------


def _refuse_folder(folder: Path, given: str) -> None:
    if "," in str(folder):
        raise _RefusedError(f"{given}: Ansible takes a path with a comma for a list of hosts; choose another folder")
    if not str(folder).isprintable():
        raise _RefusedError("the folder's name holds a character that cannot be shown; choose another")
    if (folder / DOCUMENT).exists():
        todo = f"change {given}/{DOCUMENT} and run bin/holdfast validate, secrets and pin, or choose another folder"
        raise _RefusedError(f"{given}: there is a practice in this folder, and it stays as it is; {todo}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise _RefusedError(f"{given}: it exists and is not an empty folder; choose another, or move it away")
    if not folder.parent.is_dir():
        raise _RefusedError(f"{given}: there is no folder {folder.parent}; make it first, or correct the path")


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """Give a folder near the wanted one to make everything in; whatever does not become the wanted one goes."""
    outer = folder.parent / f".{folder.name}.unfinished"
    if outer.is_symlink():
        raise _RefusedError(f"{outer}: it is a link; move it away")
    outer.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(outer, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _RefusedError(f"another bin/holdfast new is at work on {folder}; wait for it") from None
        try:
            # what a killed run left is worth nothing: nobody was told any of it
            shutil.rmtree(outer / "work", ignore_errors=True)
            (outer / "work").mkdir(mode=0o700)
            yield outer / "work"
        finally:
            shutil.rmtree(outer)
    finally:
        os.close(handle)


def _make(folder: Path, unfinished: Path, options: argparse.Namespace, terminal: Terminal) -> _Made:
    draft, access = _answers(folder, options, terminal)
    try:
        text, practice = onboarding.complete(draft, str(folder / DOCUMENT))
    except ValueError as error:
        raise _RefusedError(f"these answers do not make a practice: {error}") from None
    if options.answers is None:
        terminal.say(f"\n{text}")
        talk = Interview(terminal)
        if not talk.yes("Write this", "Everything can be changed in the file afterwards, but for id and names.", True):
            raise _RefusedError("nothing was written", INTERRUPTED)
    made = _Made(practice)
    _write_key(unfinished, access, made)
    known_hosts = _known_hosts(options, practice, made, terminal)
    if known_hosts:
        secrets.write(unfinished / pinning.KNOWN_HOSTS, known_hosts.encode(), 0o644)
    secrets.apply(unfinished, practice, options.vault_password_file, create_password=True)
    secrets.write(unfinished / ".gitignore", IGNORED.encode(), 0o644)
    # last: a folder with a document is a practice
    secrets.write(unfinished / DOCUMENT, text.encode(), 0o644)
    unfinished.chmod(0o755)
    return made


def _answers(folder: Path, options: argparse.Namespace, terminal: Terminal) -> tuple[onboarding.Draft, AccessAnswer]:
    proposed = folder.name if valid(PracticeId, folder.name) else ""
    if options.answers is None:
        if not _somebody(terminal):
            raise _RefusedError("the interview needs a terminal; give --answers FILE")
        raw: Any = Interview(terminal, proposed, _zone_here()).hold()
        document, _ = onboarding.document_of(raw)
        assert document is not None
        problems = [*onboarding.problems_of_parts(document)] or onboarding.problems_between(document, proposed)
        if problems:
            raise InvalidPracticeError(problems)
        answers, _ = check.check_parts(document, Answers)
        assert answers is not None
        return onboarding.compose(document.data, proposed), answers.access
    if not options.answers.is_file():
        raise _RefusedError(f"{options.answers}: there is no such file")
    draft, answers, problems = onboarding.check_answers(options.answers.read_bytes(), str(options.answers), proposed)
    if draft is None or answers is None:
        raise InvalidPracticeError(problems)
    return draft, answers.access


def _zone_here() -> str:
    """Give the name of this machine's own time zone, where it can be known."""
    target = os.path.realpath("/etc/localtime")
    return target.partition("/zoneinfo/")[2]


def _write_key(unfinished: Path, access: AccessAnswer, made: _Made) -> None:
    file = unfinished / onboarding.KEY_FILE
    if access.key == AGENT:
        return
    if access.key != GENERATE:
        secrets.write(file, Path(access.key).expanduser().read_bytes(), 0o600)
        return
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    made.public_key = f"{public} holdfast-{made.practice.practice.id}"
    secrets.write(file, private, 0o600)
    secrets.write(Path(f"{file}.pub"), f"{made.public_key}\n".encode(), 0o644)


def _known_hosts(options: argparse.Namespace, practice: Practice, made: _Made, terminal: Terminal) -> str:
    """Look at the hosts' SSH keys and have them confirmed; returns the text of known_hosts."""
    wanted = pinning.targets(practice)
    names = [target.name for target in wanted]
    expected = cli_pin.expectations(options.expect, names) if options.expect else None
    made.unpinned = True
    if options.no_pin:
        return ""
    print("\nThe SSH keys that the machines show:")
    findings = pinning.look(wanted, "")
    print(*pinning.table(findings), sep="\n")
    fresh = [each for each in findings if each.key]
    if fresh and (expected is not None or options.yes or _somebody(terminal)):
        command = f"bin/holdfast pin {shlex.quote(options.folder)}"
        code = cli_pin.confirmed(fresh, expected, options.yes, command, terminal.ask)
        if code == cli_pin.DIFFERS:
            raise _RefusedError("nothing was written", code)
        if code:
            fresh = []
    elif fresh:
        print("Nobody is there to confirm them, so none is pinned.")
        fresh = []
    made.unpinned = len(fresh) < len(wanted)
    return pinning.pinned("", {each.target: each.key for each in fresh if each.key})


# --- the end --------------------------------------------------------------------------------------------------------


def typed(folder: Path) -> str:
    """Write a path as it is typed in the checkout."""
    return str(folder.relative_to(REPOSITORY)) if folder.is_relative_to(REPOSITORY) else str(folder)


def _farewell(folder: Path, options: argparse.Namespace, made: _Made) -> None:
    path, practice = typed(folder), made.practice
    print(f"\nMade {path}:")
    for name in sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()):
        secret = "" if stat.S_IMODE((folder / name).stat().st_mode) & 0o077 else "   (private)"
        print(f"  {name}{secret}")
    print(*[f"  {line}" for line in cli_pin.certificate_lines(certificates(practice, folder))], sep="\n")
    password = options.vault_password_file
    if password is None:
        print(
            f"\nKeep a copy of {path}/{secrets.PASSWORD_FILE} outside this machine, now: without it no backup can be read."
        )
    if made.public_key:
        user = practice.access.user
        home = "/root" if user == "root" else f"~{user}"
        hosts = ", ".join(target.name for target in pinning.targets(practice))
        print(f"\nOn {hosts}, add this line to {home}/.ssh/authorized_keys:\n\n{made.public_key}")
    file = typed(Path(os.path.realpath(password))) if password else f"{path}/{secrets.PASSWORD_FILE}"
    print("\nNext, as root on this machine, in this order; each ends without an error before the next is begun:\n")
    for step in [*_surroundings(), *onboarding.next_steps(path, practice.practice.id, file, made.unpinned)]:
        print(f"  # {step.why}\n  {step.command}")


def _surroundings() -> list[onboarding.Step]:
    """Say how to get to where the commands work: the checkout, with its own Ansible first."""
    steps = []
    if Path.cwd() != REPOSITORY:
        steps.append(onboarding.Step("go to the checkout", f"cd {shlex.quote(str(REPOSITORY))}"))
    own = Path(sys.executable).parent
    found = shutil.which("ansible-playbook")
    if found is None or Path(found).parent != own:
        activate = own / "activate"
        path = typed(activate)
        steps.append(onboarding.Step("use its own Ansible in this shell", f". {shlex.quote(path)}"))
    return steps
