# SPDX-License-Identifier: Apache-2.0
"""What restic's answers mean for a proof: damaged data is a FAIL, a repository out of reach is INCONCLUSIVE.

restic's own words may hold file names, so only what is recognised leaves this file: ids and counts. Tried with restic
0.18 on damaged, cut, missing and foreign objects, through a folder and through rest-server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.holdfast.practice.plugins.module_utils.verify import INCONCLUSIVE, Reason

NO_REPOSITORY, LOCKED, WRONG_PASSWORD = 10, 11, 12
CANNOT_RUN, NOT_THERE = 126, 127  # of chroot, and of a shell

_ID = re.compile(r"[0-9a-f]{64}")
# Each is said of a stored object, never of the network or of the disk that is restored to.
_DAMAGE = re.compile(
    r"ciphertext verification failed|invalid data returned|not found in (repository|index)|unexpected file size"
    r"|file is too short|unexpected pack id|is damaged|contains? \d+ errors|index is damaged|repository contains errors"
    r"|does not match id|hash mismatch|wrong data returned|partial out of bounds|invalid pack|error loading index"
    r"|<(data|index|snapshot|key)/[0-9a-f]+> does not exist|pack [0-9a-f]+: does not exist"
    r"|Load\(<(data|index|snapshot)/[^\n]*(no such file|HTTP response \(5\d\d\))",
    re.IGNORECASE,
)
_PACK = re.compile(r"\bpack ([0-9a-f]{64})\b|<data/([0-9a-f]{10,64})>|from ([0-9a-f]{8,64}) failed")
_OBJECT = re.compile(r"<(index|snapshot|key)/([0-9a-f]{8,64})>|\b(index|key|snapshot) ([0-9a-f]{8,64})\b")
_OUT_OF_REACH = (
    ("certificate_mismatch", "the NAS shows another certificate than the pinned one", r"x509|tls:|certificate"),
    ("access_refused", "the NAS refuses the account or its password", r"\(40[13]\)|unauthorized|forbidden"),
    (
        "nas_unreachable",
        "the NAS cannot be reached",
        (
            r"connection refused|connection reset|no route to host|network is unreachable|i/o timeout|no such host"
            r"|dial tcp|TLS handshake timeout|Client\.Timeout|HTTP response \(5\d\d\)|unexpected EOF"
        ),
    ),
    ("not_enough_space", "the restore machine's disk is full", r"no space left on device|disk quota exceeded"),
)


class Done(NamedTuple):
    """How a command ended. ``rc`` is negative for a signal; ``seconds`` on the monotonic clock."""

    rc: int
    out: bytes
    err: str
    seconds: float
    timed_out: bool = False


def classify(done: Done, what: str) -> list[Reason]:
    """Say why a restic command did not end well; [] when it did. ``what`` names the step for people."""
    if done.rc == 0 and not done.timed_out:
        return []
    text = _unescaped(done.err + "\n" + done.out[-65536:].decode("utf-8", "replace"))
    if done.rc == WRONG_PASSWORD:
        return [Reason("wrong_password", f"{what}: wrong password (restic 12)", INCONCLUSIVE)]
    if done.rc == LOCKED:
        return [Reason("repository_locked", f"{what}: maintenance holds the repository (restic 11)", INCONCLUSIVE)]
    if done.rc == NO_REPOSITORY:
        return [Reason("repository_missing", f"{what}: there is no repository at this address (restic 10)")]
    if _DAMAGE.search(text):
        return [damage(what, text)]
    for code, sentence, pattern in _OUT_OF_REACH:
        if re.search(pattern, text, re.IGNORECASE):
            return [Reason(code, f"{what}: {sentence}", INCONCLUSIVE)]
    if done.timed_out:
        return [Reason("timeout", f"{what}: no end after {done.seconds:.0f} s", INCONCLUSIVE)]
    if done.rc in (CANNOT_RUN, NOT_THERE):
        return [Reason("restic_missing", f"{what}: restic could not be started ({done.rc})", INCONCLUSIVE)]
    if done.rc < 0:
        return [Reason("killed", f"{what}: restic was stopped by signal {-done.rc}", INCONCLUSIVE)]
    return [Reason("restic_failed", f"{what}: restic ended with {done.rc}")]


def damage(what: str, text: str) -> Reason:
    """Name the damaged objects that restic's words are about."""
    packs = packs_in(text)
    others = sorted({f"{m.group(1) or m.group(3)} {(m.group(2) or m.group(4))[:12]}" for m in _OBJECT.finditer(text)})
    named = [f"pack {pack}" for pack in packs[:8]] + others[:4]
    more = len(packs) + len(others) - len(named)
    if more > 0:
        named.append(f"{more} more")
    return Reason("repository_damaged", f"{what}: stored data is damaged" + (f" ({', '.join(named)})" if named else ""))


def packs_in(text: str) -> list[str]:
    """Ids of the packs that errors name; a short id is left out where a full one begins with it."""
    found = {next(group for group in match.groups() if group) for match in _PACK.finditer(text)}
    return sorted(one for one in found if not any(other != one and other.startswith(one) for other in found))


class Structure(NamedTuple):
    """What ``restic check --json`` found."""

    reasons: list[Reason]
    errors: int
    broken_packs: list[str]


def read_check(done: Done, words: str = "the whole repository") -> Structure:
    """Judge a read of the repository, or of what ``words`` say. No summary is no success."""
    summary: Mapping[str, Any] = {}
    messages = []
    for line in (done.out.decode("utf-8", "replace") + "\n" + done.err).splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("message_type") == "summary":
            summary = row
        elif isinstance(row, dict) and row.get("message_type") == "error":
            messages.append(str(row.get("message", "")))
    errors = int(summary.get("num_errors") or 0)
    broken = [str(pack) for pack in summary.get("broken_packs") or [] if _ID.fullmatch(str(pack))]
    what = f"reading {words}"
    reasons = classify(done, what)
    if broken or (errors and done.rc not in (LOCKED, WRONG_PASSWORD, NO_REPOSITORY) and _all_say_damage(reasons)):
        packs = "\n".join(f"pack {pack}" for pack in broken)
        reasons = [damage(what, packs + "\n" + "\n".join(messages))]
    elif not reasons and (errors or not summary):
        reasons = [Reason("restic_failed", f"{what}: restic ended with {done.rc} and without a clean summary")]
    return Structure(reasons, errors, broken or packs_in("\n".join(messages)))


def _all_say_damage(reasons: list[Reason]) -> bool:
    return all(reason.code in ("repository_damaged", "restic_failed") for reason in reasons)


def _unescaped(text: str) -> str:
    """restic's JSON writes < and > as escapes."""
    return text.replace("\\u003c", "<").replace("\\u003e", ">")
