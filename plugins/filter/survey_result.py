# SPDX-License-Identifier: Apache-2.0
"""Filter: a survey's result and summary, from what the hosts said."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from ansible_collections.holdfast.practice.plugins.plugin_utils import check, feasibility, source, survey
    from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import DOCUMENT
    from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View
except ImportError as error:
    MISSING: str | None = str(error.name or error)
else:
    MISSING = None


def survey_result(found: Mapping[str, Any], folder: str) -> dict[str, Any]:
    if MISSING:
        raise AnsibleFilterError(f"the Python package {MISSING} is missing on this control node; run: make setup")
    path = Path(folder) / DOCUMENT
    document, problems = source.read(path)
    practice, problems = check.check(document, problems) if document else (None, problems)
    if document is None or practice is None:
        raise AnsibleFilterError(f"survey_result: {problems[0]}")
    try:
        before = survey.stored(Path(folder), practice.practice.id)
    except survey.InvalidSurveyError:
        before = None  # it is written anew
    result = survey.collect(practice, found, dt.datetime.now(dt.UTC), before)
    offered = survey.offers(document, practice, result)
    impossible = feasibility.problems_measured(View.of(document, practice), result)
    return {
        "survey": {**result, "unprotected": [asdict(offer) for offer in offered]},
        "lines": survey.summary(practice, result, offered, impossible),
        "unreached": survey.reach(practice, result),
        "impossible": [str(problem) for problem in impossible],
    }


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"survey_result": survey_result}
