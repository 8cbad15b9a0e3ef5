# SPDX-License-Identifier: Apache-2.0
"""Filter: everything the practice's report shows, from the summary of the practice and its folders."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError


def report_model(summary: Mapping[str, Any], results: str, evidence: str, signers: str) -> dict[str, Any]:
    # here and not above: plugins are listed where their packages are not
    from ansible_collections.holdfast.practice.plugins.plugin_utils.report import build_report
    from ansible_collections.holdfast.practice.plugins.plugin_utils.report_sources import (
        read_ledger,
        read_power,
        read_published,
        read_statuses,
    )

    practice = (summary.get("practice") or {}).get("id") if isinstance(summary, Mapping) else None
    if not practice:
        raise AnsibleFilterError(
            "report_model: expected practice_summary of a compiled practice; name the practice with -i inventories/PRACTICE"
        )
    records, ledger = read_ledger(Path(evidence), Path(signers), practice)
    ledger["published"] = read_published(Path(results))
    statuses = read_statuses(Path(results), practice)
    return build_report(summary, statuses, records, ledger, dt.datetime.now(dt.UTC), read_power(Path(results)))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"report_model": report_model}
