#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Remove from a host's repository what the practice's retention does not ask for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_retention
short_description: Remove from a repository what no rule asks for, or say why nothing may go
version_added: "0.4.0"
author: Holdfast maintainers (@holdfast)
description:
  - Decides job by job, by the arrival of snapshots on the NAS and never by what a client claims. What stays is of each hour, day,
    week, month and year the last run that its agent holds for nothing, as far back from the newest such run as O(within) says.
    A run that is held, because harmful software was suspected or a database was not yet found sound, never takes its place.
  - Refuses the whole repository while there is anything in it that looks forged or damaged, snapshots of another host or of
    another time, too many runs on a day, a newest run that is much smaller than those before it, a key that nobody knows of.
    Each refusal names ids. A person who has looked at them puts them into O(accept), or snapshots into O(discard).
  - Checks the repository before and after, and compares what is gone with what was to go.
  - Runs on the carrier of the restore machine. restic is the one of the machine's image, chrooted in the machine's disk, so the
    NAS never learns what opens the data.
attributes:
  check_mode:
    description: Says what would be removed; needs no more than the right to read.
    support: full
  diff_mode:
    description: Shows the runs that go.
    support: full
options:
  practice:
    description: Id of the practice.
    type: str
    required: true
  host:
    description: The host whose repository it is.
    type: str
    required: true
  jobs:
    description: The jobs of the host. Runs of others are left alone, and counted as strays.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the job.
        type: str
        required: true
      interval_s:
        description: From one run to the next, in seconds.
        type: float
        default: 86400
      frozen:
        description: Why nothing of it may go now; empty when it may.
        type: str
        default: ""
  within:
    description: How far back each class (C(hourly) to C(yearly)) is kept, in seconds.
    type: dict
    required: true
  timezone:
    description: The practice's, for its days and weeks.
    type: str
    default: UTC
  folder:
    description: Folder of the disposable machine.
    type: path
    required: true
  repository:
    description: Where the repository is.
    type: dict
    required: true
    suboptions:
      url:
        description: Address in restic's form.
        type: str
        required: true
      username:
        description: Account, and folder, on the NAS.
        type: str
        required: true
      certificate:
        description: The pinned certificate of the NAS, PEM.
        type: str
  repository_password:
    description: Opens the repository.
    type: str
    required: true
  rest_password:
    description: Password of the account.
    type: str
    required: true
  arrivals:
    description: The repository's snapshots and their arrival, as M(holdfast.practice.nas_maintenance) returns them.
    type: dict
    required: true
  key_ids:
    description: The repository's keys and their arrival, from there as well.
    type: dict
    required: true
  known_keys:
    description: The keys that an earlier maintenance saw. Without any, the oldest is taken for the host's own.
    type: list
    elements: str
    default: []
  accept:
    description: Ids, or how they begin (8 characters or more), of what a person has looked at and lets be.
    type: list
    elements: str
    default: []
  discard:
    description: The same of snapshots that are to be thrown away. Only such that are a reason to refuse.
    type: list
    elements: str
    default: []
  timeout:
    description: How long one call of restic may take, in seconds.
    type: float
    default: 7200
"""

EXAMPLES = r"""
- name: Remove what no rule asks for
  holdfast.practice.repository_retention:
    practice: harbour-street
    host: server1
    jobs: [{name: documents, interval_s: 86400}]
    within: {daily: 3024000, monthly: 94608000}
    timezone: Australia/Sydney
    folder: "{{ restore_host_machine.folder }}"
    repository: {url: "rest:https://192.0.2.11:8001/server1/", username: server1, certificate: "{{ nas_certificate }}"}
    repository_password: "{{ vault_repository_passwords['server1'] }}"
    rest_password: "{{ once }}"
    arrivals: "{{ door.arrivals }}"
    key_ids: "{{ door.key_ids }}"
"""

RETURN = r"""
verdict:
  description:
    - V(PASS) when all that may go is gone, V(FAIL) when the repository was refused or the removal went wrong, V(INCONCLUSIVE)
      when it could not be reached.
  returned: success
  type: str
  sample: PASS
doubts:
  description: Why the repository was refused (code, message, ids).
  returned: success
  type: list
  elements: dict
  sample: [{code: future_snapshots, message: 1 snapshots claim a time after their arrival on the NAS (4c2b8e0d), ids: [4c2b8e0d]}]
reasons:
  description: Why the removal did not end well (code and message).
  returned: success
  type: list
  elements: dict
  sample: []
removed:
  description: The runs that went, or would go in check mode.
  returned: success
  type: list
  elements: dict
  sample: [{job: documents, run: 20261101T220000Z-1, arrived: "2026-11-01T22:00:09Z", parts: {files: 4c2b}, snapshots: [4c2b]}]
discarded:
  description: The snapshots that a person had thrown away.
  returned: success
  type: list
  elements: str
  sample: []
kept:
  description: How many runs of each class stay, by job.
  returned: success
  type: dict
  sample: {documents: {daily: 35, monthly: 4}}
clean:
  description: The newest run of each job that nothing holds.
  returned: success
  type: dict
  sample: {documents: {run: 20261125T220000Z-1, arrived: "2026-11-25T22:00:09Z"}}
frozen:
  description: Why nothing of a job went, by job.
  returned: success
  type: dict
  sample: {clinical_db: its host does not answer}
strays:
  description: How many snapshots are no job's. They are left alone.
  returned: success
  type: int
  sample: 0
key_ids:
  description: The keys of the repository, for the next maintenance to know.
  returned: success
  type: list
  elements: str
  sample: [9d1c0f5e77]
host:
  description: The host, as given.
  returned: success
  type: str
  sample: server1
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import retention, retention_host
from ansible_collections.holdfast.practice.plugins.module_utils.verify import (
    FAIL,
    PASS,
    utc,
    worst,
)
from ansible_collections.holdfast.practice.plugins.module_utils.verify_choice import zone_of
from ansible_collections.holdfast.practice.plugins.module_utils.verify_host import MachineRestic

SPEC = {
    "practice": {"type": "str", "required": True},
    "host": {"type": "str", "required": True},
    "jobs": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "interval_s": {"type": "float", "default": 86400},
            "frozen": {"type": "str", "default": ""},
        },
    },
    "within": {"type": "dict", "required": True},
    "timezone": {"type": "str", "default": "UTC"},
    "folder": {"type": "path", "required": True},
    "repository": {
        "type": "dict",
        "required": True,
        "options": {
            "url": {"type": "str", "required": True},
            "username": {"type": "str", "required": True},
            "certificate": {"type": "str"},
        },
    },
    "repository_password": {"type": "str", "required": True, "no_log": True},
    "rest_password": {"type": "str", "required": True, "no_log": True},
    "arrivals": {"type": "dict", "required": True},
    "key_ids": {"type": "dict", "required": True, "no_log": False},
    "known_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "accept": {"type": "list", "elements": "str", "default": []},
    "discard": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "float", "default": 7200},
}


class Decision:
    """What the options make of the snapshots that are there."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        within = {str(kind): float(reach) for kind, reach in params["within"].items()}
        self.rules = retention.Rules(within, zone_of(params["timezone"]))
        self.jobs = [retention.Job(row["name"], row["interval_s"], row["frozen"]) for row in params["jobs"]]

    def _seen(self, rows: Sequence[Mapping[str, Any]], accepted: Sequence[str]) -> retention.Seen:
        params = self.params
        arrivals = {str(name): float(at) for name, at in params["arrivals"].items()}
        keys = {str(name): float(at) for name, at in params["key_ids"].items()}
        return retention.Seen(params["practice"], params["host"], rows, arrivals, keys, params["known_keys"], accepted)

    def discarded(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """The snapshots that a person wants thrown away; raises ValueError for one that is no reason to refuse."""
        doubts = retention.make_plan(self._seen(rows, ()), self.jobs, self.rules).doubts
        bad = [name for doubt in doubts if doubt.snapshots for name in doubt.ids]
        found = [name for name in bad if any(name.startswith(head) for head in self.params["discard"])]
        # one that went at the last try is no fault of this one
        here = [str(row["id"]) for row in rows]
        wrong = [
            head
            for head in self.params["discard"]
            if any(name.startswith(head) for name in here) and not any(name.startswith(head) for name in found)
        ]
        if wrong:
            raise ValueError(f"discard names {', '.join(wrong)}, which is no snapshot that maintenance refused")
        return sorted(set(found))

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> retention_host.Decided:
        """Decide. What is thrown away raises no doubt any more."""
        discarded = self.discarded(rows)
        plan = retention.make_plan(self._seen(rows, [*self.params["accept"], *discarded]), self.jobs, self.rules)
        return retention_host.Decided(plan, discarded)


def told(params: Mapping[str, Any], outcome: retention_host.Outcome) -> dict[str, Any]:
    """The module's result."""
    decided = outcome.decided
    plan = decided.plan if decided else retention.Plan()
    verdicts = [FAIL] if plan.doubts else [reason.verdict for reason in outcome.reasons] or [PASS]
    gone = set(outcome.removed)
    return {
        "host": params["host"],
        "verdict": worst(verdicts),
        "doubts": [doubt.public() for doubt in plan.doubts],
        "reasons": [reason.public() for reason in outcome.reasons],
        "removed": [run for run in (each.public() for each in plan.remove) if gone & set(run["snapshots"])],
        "discarded": [name for name in (decided.discarded if decided else ()) if name in gone],
        "kept": {job: dict(count) for job, count in plan.kept.items()},
        "clean": {job: {"run": run.run, "arrived": utc(run.arrived)} for job, run in plan.clean.items()},
        "frozen": dict(plan.frozen),
        "strays": len(plan.strays),
        # what was not judged, or was doubted, is not known by now
        "key_ids": sorted(params["key_ids"] if decided and not plan.doubts else params["known_keys"]),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    short = [head for head in [*params["accept"], *params["discard"]] if not re.fullmatch(r"[0-9a-f]{8,64}", head)]
    if short:
        module.fail_json(msg=f"{', '.join(short)}: expected at least 8 characters of an id, as the refusal shows it")
    restic = MachineRestic(
        params["folder"] + "/root",
        params["repository"],
        params["repository_password"],
        params["rest_password"],
        params["timeout"],
        reading=module.check_mode,
    )
    try:
        decide = Decision(params)
        carry_out = retention_host.rehearse if module.check_mode else retention_host.carry_out
        result = told(params, carry_out(restic, decide))
    except ValueError as error:
        module.fail_json(msg=f"{params['practice']}/{params['host']}: {error}")
    lines = "".join(f"{row['job']} {row['arrived']} {row['run']}\n" for row in result["removed"])
    diff = {"before_header": "runs", "after_header": "runs (removed)", "before": lines, "after": ""}
    changed = bool(result["removed"] or result["discarded"])
    module.exit_json(changed=changed, **result, **({"diff": diff} if lines else {}))


if __name__ == "__main__":
    main()
