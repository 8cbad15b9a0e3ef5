# SPDX-License-Identifier: Apache-2.0
"""Tests that are marked as a fault's are told of in the table of faults when they pass."""

from __future__ import annotations

import pytest
from faults_table import tell


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    mark = item.get_closest_marker("fault")
    if mark and report.when == "call" and report.passed:
        tell(seconds=round(call.duration, 1), **{"verdict": "FAIL", **mark.kwargs})
    return report
