# SPDX-License-Identifier: Apache-2.0
"""Open every repository with nothing but an opened recovery kit, and say of each whether it could be.

Each repository is knocked at first (certificate, account, repository; see backup_nas), then opened with restic. Secrets are
in memory and in restic's environment only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils import restic
from ansible_collections.holdfast.practice.plugins.module_utils.backup_nas import NasError, knock
from ansible_collections.holdfast.practice.plugins.module_utils.verify_restic import Done, classify
from ansible_collections.holdfast.practice.plugins.plugin_utils.recovery_kit import REPOSITORY_PASSWORDS, REST_PASSWORDS

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
EXIT = {PASS: 0, FAIL: 1, INCONCLUSIVE: 2}
TIMEOUT_S = 60
_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What was found: the verdict on the kit, and words for it. {host}, {nas} and {where} are filled in.
FINDINGS: Mapping[str, tuple[str, str]] = {
    "opened": (PASS, "opened"),
    "wrong_password": (FAIL, "the repository password in the kit does not open it"),
    "access_refused": (
        FAIL,
        "{where} refuses the account {host} with the password in the kit: it was removed, or its password changed",
    ),
    "certificate_mismatch": (
        FAIL,
        "{where} shows another certificate than the one in the kit, so no password was sent",
    ),
    "certificate_unreadable": (FAIL, "the certificate in the kit cannot be read"),
    "certificate_expired": (FAIL, "the certificate of {where} is not valid today; renew it and make a new kit"),
    "repository_missing": (FAIL, "{where} lets the account {host} in, but there is no repository of it"),
    "repository_damaged": (
        FAIL,
        "what is stored at {where} is damaged; run playbooks/prove.yml, which reads all of it",
    ),
    "other_repository": (FAIL, "this is not the repository that the kit names ({found}, not {wanted})"),
    "repository_unreadable": (FAIL, "the password opens it, but its list of snapshots cannot be read (restic {rc})"),
    "nas_unreachable": (INCONCLUSIVE, "{where} does not answer; check that {nas} is on, and the network"),
    "nas_error": (INCONCLUSIVE, "{where} answers with an error; look at the backup server's journal on {nas}"),
    "timeout": (INCONCLUSIVE, "{where} did not answer in time"),
    "restic_failed": (INCONCLUSIVE, "restic ended with {rc} without saying anything that is known here"),
    "restic_unusable": (INCONCLUSIVE, "restic cannot be run here"),
}
_KNOCKS = {
    "rest_login_refused": "access_refused",
    "rest_forbidden": "access_refused",
    "certificate_mismatch": "certificate_mismatch",
    "certificate_expired": "certificate_expired",
    "nas_unreachable": "nas_unreachable",
    "nas_error": "nas_error",
}
# codes of run(), not restic's
_OURS = {124: "timeout", 127: "restic_unusable"}

Knock = Callable[[str, str, str, str], bool]
Run = Callable[[Sequence[str], Mapping[str, str]], "tuple[int, str, str]"]


class NoResticError(Exception):
    """There is no restic that could open a repository; the text says how to get one."""


@dataclass(frozen=True)
class Opened:
    """What came of one repository. ``snapshots`` is None when they were not counted."""

    host: str
    url: str
    code: str
    message: str
    verdict: str
    snapshots: int | None
    seconds: float


# --- pure ------------------------------------------------------------------------------------------------------------


def finding(row: Mapping[str, Any], code: str, seconds: float, snapshots: int | None = None, **more: Any) -> Opened:
    """Word what was found of a repository of the kit."""
    verdict, words = FINDINGS[code]
    where = str(row["url"]).removeprefix("rest:https://").partition("/")[0]
    message = words.format(host=row["host"], nas=row["nas"], where=where, **more)
    return Opened(str(row["host"]), str(row["url"]), code, message, verdict, snapshots, round(seconds, 2))


def verdict_of(rows: Sequence[Opened]) -> str:
    """FAIL beats INCONCLUSIVE beats PASS; nothing checked is a FAIL."""
    found = {row.verdict for row in rows}
    return next((verdict for verdict in (FAIL, INCONCLUSIVE, PASS) if verdict in found), FAIL)


def body(kit: Mapping[str, Any], sealed_sha256: str, rows: Sequence[Opened]) -> dict[str, Any]:
    """Give the check as a body of evidence: names of hosts, codes and counts; no address and no secret."""
    return {
        "check": "recovery_kit",
        "practice": kit["practice"]["id"],
        "verdict": verdict_of(rows),
        "kit": {"made": kit["as_of"]["made"], "sha256": sealed_sha256},
        "repositories": [
            {
                "host": row.host,
                "verdict": row.verdict,
                "code": row.code,
                "snapshots": row.snapshots,
                "seconds": row.seconds,
            }
            for row in rows
        ],
        "not_checked": [{"host": name, "why": "retired: no account"} for name in kit["retired"]],
        "figures": {"repositories": len(rows), "opened": sum(row.verdict == PASS for row in rows)},
    }


def describe(kit: Mapping[str, Any], rows: Sequence[Opened]) -> list[str]:
    """Say the check in a few lines."""
    opened = sum(row.verdict == PASS for row in rows)
    made = kit["as_of"]["made"]
    lines = [
        f"{verdict_of(rows)}: recovery kit of {kit['practice']['name']}, made {made}: {opened} of {len(rows)} repositories opened"
    ]
    for row in rows:
        counted = "" if row.snapshots is None else f", {row.snapshots} snapshots"
        empty = "; nothing was backed up into it yet" if row.snapshots == 0 else ""
        lines.append(f"  {row.verdict}: {row.host}: {row.message}{counted}{empty}")
    lines += [
        f"  not checked: {name}: retired, it has no account; its data lie on the disks" for name in kit["retired"]
    ]
    if not rows:
        lines.append("  the kit names no repository, so nothing was checked")
    return lines


def environment(row: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Environment of the restic process: the only place outside this process that sees the secrets."""
    return {
        "PATH": _PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "RESTIC_REPOSITORY": row["url"],
        "RESTIC_PASSWORD": secrets[REPOSITORY_PASSWORDS][row["host"]],
        "RESTIC_REST_USERNAME": row["username"],
        "RESTIC_REST_PASSWORD": secrets[REST_PASSWORDS][row["host"]],
        "RESTIC_PROGRESS_FPS": "0.016",
    }


# A private set of mounts that goes with the process: nothing to clean up, whatever happens to it.
_IN_IMAGE = """set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$2"
mkdir "$2/root" "$2/up" "$2/work"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/up,workdir=$2/work" "$2/root"
mkdir "$2/root/kit"
mount --bind "$3" "$2/root/kit"
for file in resolv.conf hosts; do
    if test -e "/etc/$file"; then
        test -e "$2/root/etc/$file" || : > "$2/root/etc/$file"
        mount --bind "/etc/$file" "$2/root/etc/$file"
    fi
done
root="$2/root"; shift 3
exec chroot "$root" restic "$@"
"""


def command(layers: Sequence[str], folder: str, certificate: str, arguments: Sequence[str]) -> list[str]:
    """Give the restic command, with the restic of this machine or that of an image.

    folder: holds the certificates, and an empty folder "disk" for the image's mounts.
    """
    options = ["--no-cache", "--no-lock", "--cacert"]
    if not layers:
        return ["restic", *options, f"{folder}/{certificate}", *arguments]
    mounts = ["unshare", "--mount", "/bin/sh", "-c", _IN_IMAGE, "sh", ":".join(layers), f"{folder}/disk", folder]
    return [*mounts, *options, f"/kit/{certificate}", *arguments]


# --- do it -----------------------------------------------------------------------------------------------------------


def run(argv: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
    """Run a command; an end that had to be forced is code 124, a program that is not there 127."""
    try:
        done = subprocess.run(
            list(argv), env=dict(env), stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, "", ""
    except OSError as error:
        return 127, "", error.strerror or ""
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def need_restic(layers: Sequence[str], runner: Run = run) -> None:
    """Make sure that there is a restic to use; raises NoResticError."""
    gone = [layer for layer in layers if not Path(layer).is_dir()]
    if gone:
        raise NoResticError(f"{gone[0]} is not a folder; expected the layers of an image with restic in it")
    if layers and (os.geteuid() != 0 or not shutil.which("unshare")):
        raise NoResticError("the restic of an image can only be used by root, with the program unshare (util-linux)")
    if layers:
        return
    code, out, _err = runner(["restic", "version"], {"PATH": _PATH, "HOME": "/root"})
    if code != 0:
        raise NoResticError(
            "there is no restic on this machine: install restic 0.17 or later, or use playbooks/recovery_kit_check.yml, which "
            "takes the one of the restore host's image"
        )
    try:
        restic.check_version(restic.version_of(out))
    except restic.ResticError as error:
        raise NoResticError(error.message) from None


class Checker:
    """Opens the repositories of one kit. ``files`` are those of the opened kit (kit_seal.unseal)."""

    def __init__(
        self,
        kit: Mapping[str, Any],
        files: Mapping[str, bytes],
        layers: Sequence[str] = (),
        knocker: Knock = knock,
        runner: Run = run,
    ) -> None:
        self._kit, self._files, self._layers = kit, files, layers
        self._knock, self._run = knocker, runner

    def check(self) -> list[Opened]:
        """Open every repository, all of them whatever happens to one. Only certificates, which are public, touch a disk."""
        with tempfile.TemporaryDirectory(prefix="holdfast-kit-") as folder:
            (Path(folder) / "disk").mkdir()
            for store in self._kit["stores"]:
                name = store["certificate"]["file"]
                (Path(folder) / Path(name).name).write_bytes(self._files[name])
            rows = self._kit["repositories"]
            with ThreadPoolExecutor(max_workers=4) as pool:
                return list(pool.map(lambda row: self._open(row, folder), rows))

    def _open(self, row: Mapping[str, Any], folder: str) -> Opened:
        began = time.monotonic()
        code, more = self._look(row, folder)
        return finding(row, code, time.monotonic() - began, **more)

    def _look(self, row: Mapping[str, Any], folder: str) -> tuple[str, dict[str, Any]]:
        """Return a code of FINDINGS, and what its words need."""
        env = environment(row, self._kit["secrets"])
        certificate = Path(row["certificate"]).name
        try:
            there = self._knock(
                row["url"], f"{folder}/{certificate}", env["RESTIC_REST_USERNAME"], env["RESTIC_REST_PASSWORD"]
            )
        except NasError as error:
            return _KNOCKS[error.code], {}
        except ssl.SSLError:
            return "certificate_unreadable", {}
        if not there:
            return "repository_missing", {}
        code, out, err = self._run(command(self._layers, folder, certificate, ["cat", "config"]), env)
        if code != 0:
            return _why(code, out, err), {"rc": code}
        found = re.search(r'"id":\s*"([0-9a-f]{64})"', out)
        if row["id"] and (found is None or found[1] != row["id"]):
            seen = found[1][:8] if found else "no id"
            return "other_repository", {"found": seen, "wanted": row["id"][:8]}
        code, out, err = self._run(command(self._layers, folder, certificate, ["snapshots", "--json"]), env)
        if code != 0:
            return _why(code, out, err, "repository_unreadable"), {"rc": code}
        snapshots = _counted(out)
        if snapshots is None:
            return "repository_unreadable", {"rc": code}
        return "opened", {"snapshots": snapshots}


def _why(code: int, out: str, err: str, unknown: str = "restic_failed") -> str:
    if code in _OURS:
        return _OURS[code]
    found = classify(Done(code, out.encode(), err, 0.0), "")[0].code
    return found if found in FINDINGS and found != "restic_failed" else unknown


def _counted(out: str) -> int | None:
    try:
        return len(json.loads(out) or [])
    except (ValueError, TypeError):
        return None
