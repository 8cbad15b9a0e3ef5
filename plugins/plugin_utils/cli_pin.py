# SPDX-License-Identifier: Apache-2.0
"""Pin the SSH keys of a practice's hosts, after a person or a list of fingerprints confirmed them.

Reads the keys that the hosts show (no login needed), prints their fingerprints, and writes PRACTICE_FOLDER/known_hosts: the only
keys that Ansible accepts. A host whose key is not the pinned one is an alarm, and then nothing is changed.

Exit codes: 0 every host is pinned (--check: and shows its pinned key); 1 a key is not the pinned or expected one; 2 a host did
not answer, or was not confirmed; 3 invalid input.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ansible_collections.holdfast.practice.plugins.plugin_utils import pinning, secrets
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import fail
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import (
    DOCUMENT,
    InvalidPracticeError,
    certificates,
    load,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.pinning import Finding, Target
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import did_you_mean

DIFFERS, INCONCLUSIVE = 1, 2
QUESTION = "Do all of them match what the machines' own consoles print? (yes or no) "


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("folder", metavar="PRACTICE_FOLDER", help="the folder that holds practice.yml")
    confirm = parser.add_mutually_exclusive_group()
    confirm.add_argument("--yes", action="store_true", help="pin what the hosts show without asking")
    confirm.add_argument(
        "--expect", metavar="FILE", type=Path, help="pin only what FILE says: a line for each host, HOST SHA256:..."
    )
    confirm.add_argument("--check", action="store_true", help="compare only; write nothing")
    parser.add_argument(
        "--replace",
        metavar="HOST",
        action="append",
        default=[],
        help="pin HOST's new key in place of the old one, once you have seen it on the machine's console",
    )


def run(options: argparse.Namespace) -> int:
    """Pin or compare; returns the exit code."""
    folder = Path(options.folder)
    try:
        practice, _ = load(folder / DOCUMENT)
        wanted = pinning.targets(practice)
        names = [target.name for target in wanted]
        for name in options.replace:
            if name not in names:
                return fail(f"--replace {name}: no host has this name; {_which(name, names)}")
        expected = expectations(options.expect, names) if options.expect else None
        with secrets.locked(folder):
            code = _pin(folder, wanted, options, expected)
        for line in certificate_lines(certificates(practice, folder)):
            print(line)
    except InvalidPracticeError as error:
        print(*error.problems, sep="\n")
        return fail(f"there are mistakes ({len(error.problems)}); nothing was pinned")
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}")
    except UnicodeDecodeError:
        return fail(f"{folder / pinning.KNOWN_HOSTS} or a certificate beside it is not text")
    except EOFError:
        return fail("left; nothing was pinned")
    except secrets.SecretsError as error:
        return fail(str(error))
    return code


def _which(name: str, names: Sequence[str]) -> str:
    return did_you_mean(name, names) or f"there are {', '.join(names)}"


def expectations(file: Path, names: Sequence[str]) -> dict[str, str]:
    """Read a file of expected fingerprints; raises InvalidPracticeError for what is wrong with it, or OSError."""
    found, problems = pinning.expected(file.read_text("utf-8", "replace"), str(file), names)
    if problems:
        raise InvalidPracticeError(problems)
    return found


def _pin(folder: Path, wanted: Sequence[Target], options: argparse.Namespace, expected: dict[str, str] | None) -> int:
    # a link is followed: replacing it would leave the file that it means behind
    path = Path(os.path.realpath(folder / pinning.KNOWN_HOSTS))
    text = path.read_text("utf-8") if path.exists() else ""
    findings = pinning.look(wanted, text)
    print(*pinning.table(findings), sep="\n")
    command = f"bin/holdfast pin {shlex.quote(str(folder))}"
    alarms = [each for each in findings if each.state == "changed" and each.target.name not in options.replace]
    for each in alarms:
        print("", *pinning.alarm(each, f"{command} --replace {each.target.name}"), sep="\n")
    if alarms:
        print("\nNothing was changed.")
        return DIFFERS
    if options.check:
        return _conclude_check(findings, command)
    fresh = [each for each in findings if each.state in ("new", "changed")]
    # a list of fingerprints speaks of hosts that are pinned already, too
    asked = [each for each in findings if each.key and expected and each.target.name in expected and each not in fresh]
    ask = input if sys.stdin.isatty() else None
    code = confirmed([*fresh, *asked], expected, options.yes, command, ask) if fresh or asked else 0
    keys = {each.target: each.key for each in fresh if each.key}
    if code == 0 and keys:
        secrets.write(path, pinning.pinned(text, keys).encode(), 0o644)
        print(f"pinned {', '.join(target.name for target in keys)} in {folder / pinning.KNOWN_HOSTS}")
    silent = [each.target.name for each in findings if each.state == "silent"]
    if silent:
        print(f"{', '.join(silent)}: no key was seen. When the machine is up and reachable from here: {command}")
    return code or (INCONCLUSIVE if silent else 0)


def _conclude_check(findings: Sequence[Finding], command: str) -> int:
    missing = [each.target.name for each in findings if each.state == "new"]
    silent = [each.target.name for each in findings if each.state == "silent"]
    if missing:
        print(f"not pinned yet: {', '.join(missing)}; {command}")
    if silent:
        print(f"did not answer, so nothing is known: {', '.join(silent)}")
    if missing or silent:
        return INCONCLUSIVE
    print(f"ok: all {len(findings)} hosts show the key that is pinned for them")
    return 0


def confirmed(
    fresh: Sequence[Finding],
    expected: Mapping[str, str] | None,
    yes: bool,
    command: str,
    ask: Callable[[str], str] | None,
) -> int:
    """Have keys confirmed: by a list, by the word, or by a person (ask; None when nobody is there).

    Returns 0, or as an exit code why they are not.
    """
    for first, second in pinning.twins(fresh):
        print(f"{first} and {second} show the same key: one was copied from the other, and can pose as it.")
        print(f"  Give {second} keys of its own (on it, as root): rm /etc/ssh/ssh_host_*_key* && ssh-keygen -A")
    if expected is not None:
        return _as_expected(fresh, expected)
    if yes:
        return 0
    if ask is None:
        return fail(f"nobody is there to confirm these; give {command} --expect FILE (HOST SHA256:...), or --yes")
    families = {each.key.family: each.key for each in fresh if each.key}
    print("Compare these with the machines themselves. On each machine's own console (not over the network):")
    print(*[f"  {pinning.on_console(key)}" for key in families.values()], sep="\n")
    while True:
        answer = ask(QUESTION).strip().lower()
        if answer == "yes":
            return 0
        if answer == "no":
            print("Nothing was pinned. Find out which machine answers there before anything is sent to it.")
            return INCONCLUSIVE
        print('Write "yes" or "no".')


def _as_expected(fresh: Sequence[Finding], expected: Mapping[str, str]) -> int:
    wrong = [each for each in fresh if each.key and expected.get(each.target.name, "") != each.key.fingerprint]
    for each in wrong:
        name = each.target.name
        if name in expected:
            print(
                f"{name} does not show the key that is expected:\n  expected  {expected[name]}\n  shown     {each.key}"
            )
        else:
            print(f"{name}: there is no expected fingerprint for it; shown: {each.key}")
    if wrong:
        print("Nothing was pinned.")
    return DIFFERS if any(each.target.name in expected for each in wrong) else INCONCLUSIVE if wrong else 0


def certificate_lines(present: Mapping[str, str]) -> list[str]:
    """Say which certificates are pinned: fingerprint, names and end of each."""
    return [f"certificates/{name}.pem  {secrets.certificate_facts(pem)}" for name, pem in present.items()]
