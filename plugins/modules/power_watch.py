#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Module: watch, from the control node, hosts going off or coming back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: power_watch
short_description: Record when hosts stop answering, or answer again
version_added: "0.1.0"
description:
  - Knocks at a TCP port of every host, some times a second, and records the times on the monotonic clock of the machine
    it runs on. That clock is the same for all programs of the machine, so times of several calls can be compared.
  - A refused connection counts as an answer, because the kernel that refuses is still running.
  - Optionally reads the status of the UPS meanwhile and records each change.
  - Changes nothing. Not reaching O(until) in time is no failure; the result says which hosts are still in which state.
options:
  hosts:
    description: The hosts to watch. May be empty for V(now).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host in the practice.
        type: str
        required: true
      address:
        description: Its address.
        type: str
        required: true
      port:
        description: Port to knock at.
        type: int
        default: 22
  until:
    description:
      - V(gone) ends when no host answers any more.
      - V(back) ends when all hosts have answered once.
      - V(now) only reads the clock.
    type: str
    choices: [gone, back, now]
    default: gone
  ups:
    description: A UPS to watch as well, as long as its primary answers.
    type: dict
    suboptions:
      name:
        description: Name of the UPS.
        type: str
        required: true
      address:
        description: Address of its primary.
        type: str
        required: true
  timeout_s:
    description: When to give up, in seconds. With 0 every host is asked once.
    type: int
    default: 600
  interval_s:
    description: Seconds between two knocks.
    type: float
    default: 0.25
  answer_s:
    description: How long, in seconds, a host may take to answer.
    type: float
    default: 1.0
  confirm_s:
    description: How long, in seconds, a silence has to last before the host counts as gone.
    type: float
    default: 4.0
attributes:
  check_mode:
    description: The module never changes anything.
    support: full
  diff_mode:
    description: There is never a difference to show.
    support: full
author:
  - Holdfast maintainers (@holdfast)
"""

EXAMPLES = r"""
- name: Watch both hosts go off
  holdfast.practice.power_watch:
    hosts:
      - name: nas1
        address: 198.18.0.11
      - name: server1
        address: 198.18.0.12
  delegate_to: localhost
  register: watched
"""

RETURN = r"""
complete:
  description: Whether O(until) was reached for every host.
  returned: always
  type: bool
  sample: true
clock_s:
  description: When the watch ended, in seconds since the epoch.
  returned: always
  type: float
  sample: 1795292312.5
started_s:
  description: When the watch began.
  returned: always
  type: float
  sample: 90210.25
ended_s:
  description: When the watch ended.
  returned: always
  type: float
  sample: 90244.75
hosts:
  description:
    - For each host C(gone), C(last_answer_s), C(gone_s) and C(back_s). The host went off between C(last_answer_s) and
      C(gone_s).
  returned: always
  type: dict
  sample: {"nas1": {"gone": true, "last_answer_s": 90236.0, "gone_s": 90236.25, "back_s": 90210.25}}
silent:
  description: Hosts that did not answer when last asked.
  returned: always
  type: list
  elements: str
  sample: [nas1]
ups_events:
  description: Each change of the UPS's status, with C(at_s) and C(status).
  returned: always
  type: list
  elements: dict
  sample: [{"at_s": 90220.5, "status": "OB DISCHRG LB"}]
"""

import threading
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import nut
from ansible_collections.holdfast.practice.plugins.module_utils.power_watch import Track, WatchError, probe


class Watch:
    """One thread a host, one for the UPS; they end together."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params
        self._end = threading.Event()
        self.tracks = {host["name"]: Track(params["confirm_s"]) for host in params["hosts"]}
        self.answered: dict[str, bool] = {}
        self.ups_events: list[dict[str, Any]] = []
        self.errors: list[WatchError] = []

    def _done(self, track: Track) -> bool:
        return track.gone if self._params["until"] == "gone" else track.back_s is not None

    def _host(self, host: dict[str, Any], deadline: float) -> None:
        track = self.tracks[host["name"]]
        while not self._end.is_set():
            at = time.monotonic()
            try:
                answered = probe(host["address"], host["port"], self._params["answer_s"])
            except WatchError as error:
                self.errors.append(error)
                self._end.set()
                return
            now = time.monotonic()
            track.note(at, answered, now)
            self.answered[host["name"]] = answered
            if self._done(track) or now >= deadline:
                return
            self._end.wait(max(0.0, self._params["interval_s"] - (now - at)))

    def _ups(self) -> None:
        ups = self._params["ups"]
        last = None
        while not self._end.is_set():
            at = time.monotonic()
            try:
                with nut.Nut(ups["address"], timeout_s=self._params["answer_s"]) as server:
                    while not self._end.is_set():
                        at = time.monotonic()
                        status = server.variable(ups["name"], "ups.status")
                        if status != last:
                            self.ups_events.append({"at_s": at, "status": status})
                            last = status
                        self._end.wait(self._params["interval_s"])
            except nut.NutError as error:
                # the primary goes off in a drill; that it cannot be asked is part of the record
                if last != error.code:
                    self.ups_events.append({"at_s": at, "status": None, "error": error.code})
                    last = error.code
                self._end.wait(self._params["interval_s"])

    def run(self) -> None:
        """Watch until the end that was asked for, or the timeout."""
        deadline = time.monotonic() + self._params["timeout_s"]
        threads = [threading.Thread(target=self._host, args=(host, deadline)) for host in self._params["hosts"]]
        helper = threading.Thread(target=self._ups) if self._params["ups"] else None
        for thread in [*threads, helper] if helper else threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._end.set()
        if helper:
            helper.join()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "hosts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "port": {"type": "int", "default": 22},
                },
            },
            "until": {"type": "str", "choices": ["gone", "back", "now"], "default": "gone"},
            "ups": {
                "type": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                },
            },
            "timeout_s": {"type": "int", "default": 600},
            "interval_s": {"type": "float", "default": 0.25},
            "answer_s": {"type": "float", "default": 1.0},
            "confirm_s": {"type": "float", "default": 4.0},
        },
        supports_check_mode=True,
    )
    started = time.monotonic()
    watch = Watch(module.params)
    if module.params["until"] != "now":
        if not module.params["hosts"]:
            module.fail_json(msg="hosts is empty: expected at least one host to watch")
        watch.run()
        if watch.errors:
            module.fail_json(msg=str(watch.errors[0]))
    reached = (t.gone if module.params["until"] == "gone" else t.back_s is not None for t in watch.tracks.values())
    module.exit_json(
        changed=False,
        complete=all(reached),
        started_s=started,
        ended_s=time.monotonic(),
        clock_s=time.time(),
        hosts={
            name: {"gone": t.gone, "last_answer_s": t.last_answer_s, "gone_s": t.gone_s, "back_s": t.back_s}
            for name, t in watch.tracks.items()
        },
        silent=sorted(name for name, answered in watch.answered.items() if not answered),
        ups_events=watch.ups_events,
    )


if __name__ == "__main__":
    main()
