# SPDX-License-Identifier: Apache-2.0
"""The one door to restic: arguments, environment, exit codes and JSON lines turned into results and named errors.

Used by the agent on a host and by the modules. The caller brings ``run``, so that all of this is tested with a table of
(code, output, errors). Needs restic 0.17 or later: its exit codes 10, 11 and 12 and its JSON errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable
from urllib.parse import quote

MINIMUM_VERSION = (0, 17)
OK, FATAL, INCOMPLETE, NO_REPOSITORY, LOCKED, WRONG_PASSWORD, INTERRUPTED = 0, 1, 3, 10, 11, 12, 130

REASONS = {
    FATAL: ("restic_fatal", "restic could not do it"),
    2: ("restic_crashed", "restic itself broke down (Go run-time error)"),
    INCOMPLETE: ("files_unreadable", "some source files could not be read"),
    NO_REPOSITORY: ("repository_missing", "there is no repository at this address"),
    LOCKED: ("repository_locked", "another program holds the repository (maintenance may be running on the NAS)"),
    WRONG_PASSWORD: ("wrong_repository_password", "the repository password does not open this repository"),
    INTERRUPTED: ("stopped", "restic was stopped"),
}

# What a fatal error is really about, where its text tells: more use to a technician than "fatal".
_FATAL_TEXTS = (
    (re.compile(r"x509|certificate|tls:", re.IGNORECASE), "certificate_mismatch"),
    (re.compile(r"\b401\b|unauthorized", re.IGNORECASE), "rest_login_refused"),
    (re.compile(r"\b403\b|forbidden", re.IGNORECASE), "rest_forbidden"),
    (re.compile(r"\b(507|413)\b|no space left|quota exceeded|insufficient storage", re.IGNORECASE), "nas_full"),
    (re.compile(r"connection (refused|reset|timed out)|no route to host|network is (unreachable|down)|i/o timeout|"
                r"no such host|connection lost|broken pipe|request timeout|deadline exceeded|\": (unexpected )?EOF",
                re.IGNORECASE), "nas_unreachable"),
)  # fmt: skip


class ResticError(Exception):
    """restic ended with a code other than 0. ``code`` is our reason code, ``exit_code`` is restic's."""

    def __init__(self, code: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.exit_code = exit_code


@dataclass(frozen=True)
class Repository:
    """Where a repository is and which files open it. Holds no secret itself.

    password_file and cacert are paths; username and password_of_rest are put into the environment only.
    """

    url: str
    password_file: str
    cacert: str | None = None
    cache_dir: str | None = None


@dataclass(frozen=True)
class Summary:
    """What ``restic backup --json`` reported at its end. ``snapshot`` is the full id."""

    snapshot: str
    files: int = 0
    bytes: int = 0
    added: int = 0
    complete: bool = True
    errors: int = 0


@dataclass(frozen=True)
class Output:
    """JSON lines of a restic run, sorted: its summary, the errors of single items, the last words."""

    summary: Mapping[str, Any] | None = None
    item_errors: Sequence[str] = field(default_factory=tuple)
    last_words: str = ""


def environment(repository: Repository, rest_username: str, rest_password: str) -> dict[str, str]:
    """Environment of a restic process: secrets go here (readable by root only) and never into arguments."""
    env = {
        "RESTIC_REPOSITORY": repository.url,
        "RESTIC_PASSWORD_FILE": repository.password_file,
        "RESTIC_REST_USERNAME": rest_username,
        "RESTIC_REST_PASSWORD": rest_password,
        "RESTIC_PROGRESS_FPS": "0.016",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        # a restic that site.yml put beside the agent comes before the distribution's
        "PATH": "/usr/lib/holdfast:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    if repository.cache_dir:
        env["RESTIC_CACHE_DIR"] = repository.cache_dir
    return env


def command(repository: Repository, *arguments: str) -> list[str]:
    """Arguments of a restic process for this repository; the verb comes first in ``arguments``."""
    base = ["restic"]
    if repository.cacert:
        base += ["--cacert", repository.cacert]
    base += ["--retry-lock", "5m"]
    if not repository.cache_dir:
        base.append("--no-cache")
    return base + list(arguments)


def backup_arguments(host: str, tags: Sequence[str], *rest: str) -> list[str]:
    """Arguments that every backup has, then ``rest``."""
    arguments = ["backup", "--json", "--host", host]
    for tag in tags:
        arguments += ["--tag", tag]
    return arguments + list(rest)


def read_output(out: str, err: str) -> Output:
    """Sort the JSON lines (and stray text) of a ``--json`` run."""
    summary: Mapping[str, Any] | None = None
    item_errors: list[str] = []
    words: list[str] = []
    for line in out.splitlines() + err.splitlines():
        record = _json_object(line)
        kind = record.get("message_type") if record else None
        if record and kind == "summary":
            summary = record
        elif record and kind == "error":
            error = record.get("error")
            item_errors.append(str(error.get("message", error)) if isinstance(error, dict) else str(error))
        elif record and kind == "exit_error":
            words.append(str(record.get("message", "")))
        elif not record and line.strip():
            words.append(line.strip())
    return Output(summary, tuple(item_errors), " / ".join(words[-6:])[-1200:])


def reason_of(exit_code: int, text: str) -> tuple[str, str]:
    """Reason code and plain sentence for an exit code other than 0. Unknown codes are ``restic_unknown``."""
    code, sentence = REASONS.get(exit_code, ("restic_unknown", f"restic ended with the unknown code {exit_code}"))
    if exit_code == FATAL:
        code = next((name for pattern, name in _FATAL_TEXTS if pattern.search(text)), code)
    if exit_code < 0:
        code, sentence = "restic_killed", f"restic was killed by signal {-exit_code}"
    return code, f"{sentence}: {text}" if text else sentence


def check(exit_code: int, out: str, err: str) -> Output:
    """Raise ResticError unless the code is 0."""
    found = read_output(out, err)
    if exit_code != OK:
        raise ResticError(*reason_of(exit_code, found.last_words), exit_code)
    return found


def summary_of(exit_code: int, out: str, err: str) -> Summary:
    """Summary of a backup. Exit code 3 gives ``complete=False``; anything else but 0, or no snapshot, is an error."""
    found = read_output(out, err)
    if exit_code not in (OK, INCOMPLETE):
        raise ResticError(*reason_of(exit_code, found.last_words), exit_code)
    snapshot = str((found.summary or {}).get("snapshot_id") or "")
    if not re.fullmatch(r"[0-9a-f]{64}", snapshot):
        raise ResticError("restic_unknown", f"restic ended with {exit_code} but named no snapshot", exit_code)
    total = found.summary or {}
    return Summary(
        snapshot=snapshot,
        files=int(total.get("total_files_processed") or 0),
        bytes=int(total.get("total_bytes_processed") or 0),
        added=int(total.get("data_added_packed") or total.get("data_added") or 0),
        complete=exit_code == OK and not found.item_errors,
        errors=len(found.item_errors),
    )


def repository_id(out: str) -> str:
    """The id in the output of ``restic cat config``."""
    config = _json_object(out) or {}
    found = str(config.get("id") or "")
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise ResticError("restic_unknown", "restic cat config gave no repository id", OK)
    return found


def version_of(out: str) -> str:
    """The version number in the output of ``restic version``."""
    match = re.search(r"restic (\d+\.\d+(?:\.\d+)?)", out)
    return match.group(1) if match else ""


def check_version(version: str) -> None:
    """Raise ResticError when restic is too old for its exit codes to mean what we take them for."""
    parts = tuple(int(part) for part in version.split(".")[:2]) if version else (0, 0)
    if parts < MINIMUM_VERSION:
        need = ".".join(str(part) for part in MINIMUM_VERSION)
        message = (
            f"restic {need} or later is needed, found {version or 'none'}; give the hosts a newer one: from their packages, or "
            "with programs.restic in the practice document (backup_agent_restic of the role)"
        )
        raise ResticError("restic_too_old", message, OK)


class Restic:
    """restic with one repository. ``run(argv, env) -> (exit code, output, errors)``."""

    def __init__(
        self,
        run: Callable[[Sequence[str], Mapping[str, str]], tuple[int, str, str]],
        repository: Repository,
        rest_username: str,
        rest_password: str,
    ) -> None:
        self._run = run
        self.repository = repository
        self.env = environment(repository, rest_username, rest_password)

    def version(self) -> str:
        """Version of the program; raises ResticError when it is missing or too old."""
        code, out, err = self._run(["restic", "version"], self.env)
        if code != OK:
            raise ResticError("restic_missing", f"restic cannot be run on this host: {err.strip()}", code)
        found = version_of(out)
        check_version(found)
        return found

    def id(self) -> str:
        """Id of the repository; ResticError with exit_code 10 when there is none."""
        code, out, err = self._run(command(self.repository, "cat", "config", "--json"), self.env)
        check(code, "", err if code == OK else out + "\n" + err)
        return repository_id(out)

    def init(self, source: Restic | None = None) -> None:
        """Create the repository; source: the one that is to be copied into it."""
        arguments, env = ["init", "--json"], self.env
        if source:
            arguments += ["--copy-chunker-params", "--cacert", str(source.repository.cacert)]
            env = {**env, **source.as_source()}
        code, out, err = self._run(command(self.repository, *arguments), env)
        check(code, out, err)

    def as_source(self) -> dict[str, str]:
        """Environment that makes this repository the one that another reads from, beside that one's own.

        restic has one login for all REST servers, so this one's goes with its address. An environment is root's alone to read.
        """
        login = f"{quote(self.env['RESTIC_REST_USERNAME'], safe='')}:{quote(self.env['RESTIC_REST_PASSWORD'], safe='')}"
        return {
            "RESTIC_FROM_REPOSITORY": self.repository.url.replace("https://", f"https://{login}@", 1),
            "RESTIC_FROM_PASSWORD_FILE": self.repository.password_file,
        }

    def snapshots(self) -> list[dict[str, Any]]:
        """Every snapshot, as ``restic snapshots --json`` tells of it."""
        code, out, err = self._run(command(self.repository, "snapshots", "--json", "--no-lock"), self.env)
        check(code, "", err)
        found = json.loads(out or "null") or []
        return [each for each in found if isinstance(each, dict)]


def _json_object(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
