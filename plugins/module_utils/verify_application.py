# SPDX-License-Identifier: Apache-2.0
"""What a restored copy of the practice's software has to answer before its level counts: pure, no command and no clock.

An application is a mapping, as the practice's inventory gives it: {"needs": [ITEM], "owner": USER or None, "units": [UNIT],
"limit_s": seconds, "ask": {NAME: QUESTION}}. A QUESTION is one of

    {"http": URL, "status": 200, "contains": TEXT, "count": SELECT, "rows": SELECT, "file": PATH}
    {"port": NUMBER}
    {"query": SELECT}
    {"command": ARGV, "exit_code": 0, "user": USER}

``rows`` puts a question once for each of some rows that its SELECT gives: the words of a row take the places {1}, {2} ... of the
URL and of ``file``, and what comes back has to be that restored file. Nothing that a service answers is in a message.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.verify import INCONCLUSIVE, Reason

SAMPLE = 20  # of the rows of a question
_PLACE = re.compile(r"\{([1-9])\}")


def kind(question: Mapping[str, Any]) -> str:
    """Which of the four it is."""
    return next(name for name in ("http", "port", "query", "command") if question.get(name))


def spread(rows: Sequence[str], most: int = SAMPLE) -> list[str]:
    """At most so many of the rows, evenly spread, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[number * (len(rows) - 1) // (most - 1)] for number in range(most)]


def words(question: Mapping[str, Any], row: str) -> list[str]:
    """The words of a row, as many as the question has places; the last one takes the rest. ValueError: there are too few."""
    text = f"{question['http']} {question.get('file') or ''}"
    places = max((int(number) for number in _PLACE.findall(text)), default=1)
    found = row.split(None, places - 1)
    if len(found) < places:
        raise ValueError(f"a row has {len(found)} words, the question has {places} places")
    return found


def filled(text: str, given: Sequence[str], quote: bool = False) -> str:
    """Put words into their places; quote: as it has to be in a URL."""
    return _PLACE.sub(
        lambda place: urllib.parse.quote(given[int(place[1]) - 1], safe="") if quote else given[int(place[1]) - 1],
        text,
    )


def judge_http(
    name: str, question: Mapping[str, Any], answer: Mapping[str, Any], counted: int | None, wanted_hash: str | None
) -> Reason | None:
    """What is wrong with an answer, None for nothing. counted: what ``count`` gave; wanted_hash: of the file."""
    if "error" in answer:
        return Reason("no_answer", f"{name}: nothing answered ({answer['error']})")
    status = question.get("status") or 200
    if answer["status"] != status:
        return Reason("wrong_answer", f"{name}: answered with status {answer['status']}, expected {status}")
    if not answer["contains"]:
        return Reason("wrong_answer", f"{name}: the answer does not contain the text that it should")
    if counted is not None and answer["entries"] != counted:
        got = "no list" if answer["entries"] is None else f"{answer['entries']} entries"
        return Reason("wrong_answer", f"{name}: the answer has {got}, the database counts {counted}")
    if wanted_hash is not None and answer["blake2b"] != wanted_hash:
        return Reason(
            "file_differs",
            f"{name}: what came back is not the file that was saved (hash {answer['blake2b'][:12]}, expected {wanted_hash[:12]})",
        )
    return None


def judge_port(name: str, question: Mapping[str, Any], answer: Mapping[str, Any]) -> Reason | None:
    """A port is open or not."""
    return None if answer.get("open") else Reason("port_closed", f"{name}: nothing listens on port {question['port']}")


def judge_query(name: str, value: str | None) -> Reason | None:
    """A question to the database has to give something."""
    return None if value else Reason("wrong_answer", f"{name}: the database gives nothing")


def judge_command(name: str, question: Mapping[str, Any], rc: int, timed_out: bool) -> Reason | None:
    """A command has to end as it was said."""
    wanted = question.get("exit_code") or 0
    if timed_out:
        return Reason("wrong_answer", f"{name}: the command came to no end in time")
    return None if rc == wanted else Reason("wrong_answer", f"{name}: the command ended with {rc}, expected {wanted}")


def parse_show(text: str) -> dict[str, str]:
    """Read ``systemctl show``."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def judge_unit(unit: str, shown: Mapping[str, str]) -> Reason | None:
    """Why a unit is not at work; None while it is, or still on its way."""
    if shown.get("LoadState") == "not-found":
        message = f"the machine has no unit {unit}: name its package in application.packages"
        return Reason("unit_missing", message, INCONCLUSIVE)
    if shown.get("ActiveState") == "failed" or shown.get("LoadState") in ("error", "bad-setting"):
        return Reason("application_not_started", f"{unit} did not start ({shown.get('Result', 'no reason given')})")
    return None


def merged(reasons: Sequence[Reason], asked: int) -> list[Reason]:
    """One reason for each way in which a question failed, with how often it did where it was put more than once."""
    kept: dict[str, list[Reason]] = {}
    for reason in reasons:
        kept.setdefault(reason.code, []).append(reason)
    return [
        each[0] if asked <= 1 else each[0]._replace(message=f"{each[0].message} ({len(each)} of {asked} asked)")
        for each in kept.values()
    ]


# --- what of a fresh machine starts by itself ------------------------------------------------------------------------

# What every machine needs, and the engines that a proof itself drives. All else waits until it is named: a package of the
# practice's software must not begin its work on its own, least of all before its data are there.
_STARTS = re.compile(
    r"(getty@.*|ssh\.service|sshd-keygen\.service|remote-fs\.target|systemd-(networkd|pstore)\.service|"
    r"postgresql\.service|mariadb\.service)"
)
_SCRIPTS = re.compile(r"[SK]\d\d(dbus|ssh|postgresql|mariadb)")


def stays(name: str) -> bool:
    """Whether an entry of a ``.wants`` folder or of a run level is left as it is."""
    return bool(_STARTS.fullmatch(name) or _SCRIPTS.fullmatch(name))
