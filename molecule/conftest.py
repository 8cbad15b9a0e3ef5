"""What takes long is tried when it is asked for: HOLDFAST_LONG is empty in `make test` and set everywhere else."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked long."""
    if os.environ.get("HOLDFAST_LONG", "1"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
