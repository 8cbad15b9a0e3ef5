# SPDX-License-Identifier: Apache-2.0
"""Invented, reproducible data of one medical practice: a clinic database, letters, images and a cluttered desk.

`build(output, today, seed, scale)` writes everything. The same arguments give the same bytes.
"""

from .build import FULL_TREE, TARS, build, cached, data_version

__all__ = ["FULL_TREE", "TARS", "build", "cached", "data_version"]
