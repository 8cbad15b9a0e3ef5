#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: backup_run
short_description: Run a backup job now and wait for its record
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
description:
  - Starts the job's service, as its timer does, waits for its end and returns the status record.
  - When the job runs already, waits for that run instead of starting a second one.
  - Fails unless the record says OK. A run that left no record of its own is a failure.
  - Fails at once when the job is deferred (mains are out); the host goes on trying by itself.
attributes:
  check_mode:
    description: Runs nothing and says so; returns no record.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
options:
  practice:
    description: Id of the practice that the host belongs to; another practice's host is refused.
    type: str
    required: true
  host:
    description: Name of the host in the practice document.
    type: str
    required: true
  job:
    description: Name of the job.
    type: str
    required: true
  accept:
    description: States other than OK that are no failure.
    type: list
    elements: str
    choices: [INCOMPLETE]
    default: []
"""

EXAMPLES = r"""
- name: Back up the documents now
  holdfast.practice.backup_run:
    practice: harbour-street
    host: server1
    job: documents
  register: backup
"""

RETURN = r"""
record:
  description: The status record of the run, as the agent wrote it. Also returned when the module fails.
  returned: when the job ran
  type: dict
  sample:
    job: documents
    state: OK
    reasons: []
    started: "2026-11-21T10:00:03Z"
    finished: "2026-11-21T10:00:41Z"
    seconds: 38.2
    files: 1200
    bytes: 73400320
deferred:
  description: Why the job waits, and since when. The module fails then.
  returned: when the job is deferred
  type: dict
  sample:
    code: on_battery
    message: ups1 at 192.0.2.11 is on battery
    since: "2026-11-21T10:00:03Z"
"""

import json
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import agent_job, backup_host, stamp

POLL_S = 0.3
SHOWN = "ActiveState,SubState,Result,Job,ExecMainExitTimestampMonotonic"


def read_state(folder: str, job: str) -> dict[str, Any] | None:
    """A file of the agent's state (C(status): the last record); None when there is none that can be read."""
    try:
        found = json.loads(Path(f"{backup_host.STATE}/{folder}/{job}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_new(before: dict[str, Any] | None, after: dict[str, Any] | None) -> bool:
    """Is there a record, and of another run than before? Pure."""
    return after is not None and (before is None or before.get("run") != after.get("run"))


def judge(before: dict[str, Any] | None, after: dict[str, Any] | None, accept: list[str]) -> str:
    """Why the run is a failure; empty when it is none. Pure."""
    if after is None or not is_new(before, after):
        return "the run left no status record"
    state = after.get("state")
    if state == "OK" or state in accept:
        return ""
    reasons = "; ".join(f"{r.get('code')}: {r.get('message')}" for r in after.get("reasons") or [])
    return f"{state}: {reasons or 'no reason was recorded'}"


def settled(before: dict[str, str], now: dict[str, str]) -> bool:
    """Has the service come to an end since we asked for a start: gone, or waiting to be tried again? Pure."""
    if now.get("SubState") == "auto-restart":
        return now.get("ExecMainExitTimestampMonotonic") != before.get("ExecMainExitTimestampMonotonic")
    return now.get("ActiveState") in ("inactive", "failed") and now.get("Job", "") in ("", "0")


def start(module: AnsibleModule, unit: str) -> str:
    """Start the service and wait for its end; returns what systemd has to say of a failure.

    C(systemctl start) itself would wait until a deferred job has really run.
    """

    def show() -> dict[str, str]:
        code, out, err = module.run_command(["systemctl", "show", f"--property={SHOWN}", "--", unit])
        if code != 0:
            module.fail_json(msg=f"systemctl show {unit} failed ({code}): {err.strip()}")
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    before = show()
    # a deferred job is tried now, not at its next minute
    verb = "restart" if before.get("SubState") == "auto-restart" else "start"
    code, _out, err = module.run_command(["systemctl", verb, "--no-block", "--", unit])
    if code != 0:
        return str(err).strip()
    while not settled(before, now := show()):
        time.sleep(POLL_S)
    return f"result of the service: {now.get('Result')}"


def main() -> None:
    """Entry of the module."""
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "job": {"type": "str", "required": True},
            "accept": {"type": "list", "elements": "str", "choices": ["INCOMPLETE"], "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    job = params["job"]
    who = f"practice {params['practice']}, host {params['host']}, job {job}"
    try:
        stamp.check(params["practice"], params["host"])
    except stamp.StampError as error:
        module.fail_json(msg=str(error))
    if not agent_job.NAME.fullmatch(job) or not Path(f"{backup_host.ETC}/jobs/{job}.json").is_file():
        if module.check_mode:
            module.exit_json(changed=True, msg=f"{who}: check mode, nothing was run; the host has no such job yet")
        module.fail_json(msg=f"{who}: the host has no such job; run site.yml, then `{backup_host.LIB}/agent status`")
    if module.check_mode:
        module.exit_json(changed=True, msg=f"{who}: check mode, nothing was run")
    before = read_state("status", job)
    said = start(module, f"holdfast-backup@{job}.service")
    after = read_state("status", job)
    deferred = read_state("deferred", job)
    if deferred:
        why = f"deferred since {deferred.get('since')}: {deferred.get('code')}: {deferred.get('message')}"
        record = {"record": after} if is_new(before, after) else {}
        module.fail_json(msg=f"{who}: {why}; the host tries again every minute", deferred=deferred, **record)
    if not is_new(before, after):
        # killed: the service's own way to record that may still be under way
        settle_code, _out, settle_err = module.run_command([f"{backup_host.LIB}/agent", "settle", job])
        said += f"; {settle_err.strip()}" if settle_code != 0 else ""
        after = read_state("status", job)
    why = judge(before, after, params["accept"])
    if why:
        detail = f" ({said})" if "no status record" in why else ""
        module.fail_json(msg=f"{who}: {why}{detail}", record=after, changed=True)
    module.exit_json(changed=True, record=after)


if __name__ == "__main__":
    main()
