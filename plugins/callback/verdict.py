# SPDX-License-Identifier: Apache-2.0
"""Give ansible-playbook the exit code of a verdict."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verdict
type: aggregate
short_description: Give ansible-playbook the exit code of a verdict
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
requirements:
  - Enabled by C(callbacks_enabled = holdfast.practice.verdict) in ansible.cfg, as the last one of the list.
description:
  - ansible-playbook ends with 2 for every failed task. Holdfast's commands end with 1 when something was judged bad and with
    2 when it could not be judged. So a play that judges says C(verdict) with M(ansible.builtin.set_stats) and then fails a
    task unless the verdict is PASS; this callback turns the code into 1 for FAIL.
  - A playbook with a play that sets the variable C(verdict_promised) to V(true), and that ends without a verdict (because of
    C(--limit), C(--tags) or a play without hosts), ends with 2. What was skipped is never a PASS.
  - Without this callback nothing is hidden. A bad verdict then ends with 2 like any failed task.
"""

from typing import TYPE_CHECKING  # noqa: E402 - Ansible wants the documentation first

from ansible.plugins.callback import CallbackBase  # noqa: E402

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.playbook import Playbook

EXIT_FAIL = 1
EXIT_INCONCLUSIVE = 2


def exit_code(verdict: str | None, promised: bool, failed: bool) -> int | None:
    """Return the code to end with, or None to leave it to Ansible.

    verdict: PASS, FAIL, INCONCLUSIVE or None for none. promised: whether the playbook promised one. failed: whether a
    task failed or a host was unreachable, so that Ansible ends with a code other than 0 by itself.
    """
    if verdict == "FAIL":
        return EXIT_FAIL
    if verdict == "INCONCLUSIVE" or (promised and verdict is None and not failed):
        return EXIT_INCONCLUSIVE
    return None


class CallbackModule(CallbackBase):
    """Ends the process in v2_playbook_on_stats, after the recap."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "holdfast.practice.verdict"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._promised = False

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Note whether this playbook is one that judges."""
        self._promised = any(play.get_vars().get("verdict_promised") is True for play in playbook.get_plays())

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Leave with the verdict's code."""
        verdict = stats.custom.get("_run", {}).get("verdict")
        code = exit_code(verdict, self._promised, bool(stats.failures or stats.dark))
        if code is None:
            return
        if verdict is None:
            self._display.error(
                "Nothing was judged: no play reached its verdict (see --limit, --tags, the groups' hosts)."
            )
        # SystemExit passes Ansible's handling of callback errors and still runs its own cleaning up.
        raise SystemExit(code)
