#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Restore a run of an item into a disposable machine and judge it, phase by phase."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_verify
short_description: Restore a backup into a disposable machine and judge it
version_added: "0.1.0"
description:
  - Proves a backup by restoring it, starting what needs starting, and comparing with what the agent saw at backup time
    (the oracle), never with the live system, which has moved on.
  - Works in phases, because the machine has to start between them. V(structure), once for each repository, checks index,
    snapshots and trees and reads the stored data, of a large repository one portion at a time. V(fetch), once for each row
    and before the machine starts, chooses a run by its arrival on the NAS, restores it into the machine's disk and
    compares the files. V(judge), once for each row after the machine has started, loads the dump and compares the database,
    asking what the oracle says was asked, and brings the practice's software up where the practice says how. V(conclude) puts
    the results together and names what was not run.
  - A bad backup is a result and not a failure of the task. What cannot be judged (NAS out of reach, wrong password) is
    INCONCLUSIVE, and what was not run is never a PASS.
  - Results hold counts, ids and table names; no file names and no data.
  - Runs on the carrier of the restore machine. restic is the one of the machine's image, chrooted in the machine's disk;
    credentials are in the environment of that process only.
options:
  phase:
    description: What to do now.
    type: str
    choices: [structure, fetch, judge, conclude]
    required: true
  practice:
    description: Id of the practice.
    type: str
    required: true
  items:
    description:
      - The items to be proved, as the practice's inventory gives them. One for V(fetch) and V(judge).
      - For V(conclude) all that there are; those that O(planned) does not have are named as not asked for.
    type: list
    elements: dict
    required: true
    suboptions: &row
      item:
        description: The protected item.
        type: str
        required: true
      id:
        description: What tells this row of the proof from all others; an item may be there with several runs. Left out, the item.
        type: str
        default: ""
      which:
        description:
          - The run to take. V(newest) is what the promises of age are about. V(oldest), and V(oldest-CLASS) within a class.
          - V(rotation), V(rotation-2) and so on is the older run that has to be proven first, second and so on.
          - Else the id of one of the run's snapshots, or how it begins, at least 8 characters.
        type: str
        default: newest
      copy:
        description: The copy that it is restored from.
        type: str
        default: onsite
      job:
        description: The job that saves it.
        type: str
        required: true
      host:
        description: The host that it is of.
        type: str
        required: true
      repository:
        description: Where its backups are.
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
      rpo_s:
        description: How much may be lost, in seconds.
        type: float
        required: true
      rto_s:
        description: How long a recovery may take, in seconds.
        type: float
        required: true
      engine:
        description: Database engine, or null for an item without a database.
        type: str
      levels:
        description: What has to be shown.
        type: list
        elements: str
        choices: [arrival, structure, files, database, application]
        required: true
      application:
        description: How a copy of the practice's software is brought up in the machine, and asked. For the level V(application).
        type: dict
        suboptions:
          needs:
            description: Items whose files it needs besides this item's.
            type: list
            elements: str
            default: []
          owner:
            description: User of the machine whom the restored files are given to. Left out, they keep their owner's number.
            type: str
          units:
            description: Units to start, in this order. None other that is not the machine's own is started.
            type: list
            elements: str
            default: []
          limit_s:
            description: How long it may take until every question is answered, in seconds.
            type: float
            required: true
          ask:
            description: The questions by name. None at all is a FAIL.
            type: dict
            required: true
  folder:
    description: Folder of the disposable machine. Needed but for V(conclude).
    type: path
  repository_password:
    description: Opens the repository. Needed for V(structure) and V(fetch).
    type: str
  rest_password:
    description: Password of the account on the NAS. Needed for V(structure) and V(fetch).
    type: str
  arrivals:
    description: For each account its snapshots and their arrival, as M(holdfast.practice.snapshot_arrivals) returns them.
    type: dict
    default: {}
  rules:
    description: What the choice of an older run goes by, for V(fetch).
    type: dict
    default: {}
    suboptions:
      within:
        description: How far back each class (C(hourly) to C(yearly)) is kept, in seconds.
        type: dict
        default: {}
      proven_s:
        description: Within what time everything that is kept has to be proven, in seconds.
        type: float
        default: 15552000
  history:
    description: What evidence says was judged of this item, as M(holdfast.practice.evidence) returns it. For V(fetch).
    type: dict
    default: {}
    suboptions:
      runs:
        description: When each run was judged last, by the id of its oracle.
        type: dict
        default: {}
      classes:
        description: When a run of each class was judged last.
        type: dict
        default: {}
  timezone:
    description: The practice's time zone, for the days and weeks of the classes and for records without a zone.
    type: str
    default: UTC
  known:
    description: Ids of snapshots that earlier evidence names for this item. They must still be there.
    type: list
    elements: str
    default: []
  portions:
    description:
      - For V(structure), into how many portions a large repository may be divided, of which one is read. It is the one that
        was read longest ago. A repository of up to some 17 GB is read whole whatever is said here.
    type: int
    default: 1
  read_within_s:
    description: Within this time everything has to have been read; 0 for no such promise. For V(structure), in seconds.
    type: float
    default: 0
  readings:
    description: What the evidence says was read of this host's repository, as M(holdfast.practice.evidence) returns it.
    type: dict
    default: {}
  leader:
    description: Process id of the machine's first process; 0 for the machine that this runs on. Needed for V(judge).
    type: int
  started_s:
    description: How long the machine took to start, in seconds.
    type: float
    default: 0
  timeout:
    description: Longest time for one command, in seconds.
    type: float
    default: 7200
  levels:
    description:
      - The levels that are asked for; what an item has beyond them is left out, named, and never a PASS. V(arrival) always comes
        with V(fetch). The images that a database names come with V(database).
    type: list
    elements: str
    default: [arrival, structure, files, database, application]
  planned:
    description: The rows that were to be proved; left out, O(items) as they are. For V(conclude).
    type: list
    elements: dict
    suboptions: *row
  results:
    description: What the phases returned; null or absent for what was not run. For V(conclude).
    type: dict
    default: {}
    suboptions:
      fetched:
        description: Results of V(fetch).
        type: list
        elements: dict
        default: []
      structures:
        description: Results of V(structure).
        type: list
        elements: dict
        default: []
      judged:
        description: Results of V(judge).
        type: list
        elements: dict
        default: []
  machine:
    description:
      - What became of the machine (C(driver), C(created), C(disposed), C(disposal), C(left_over), C(seconds)), and as C(broken)
        (C(code), C(message)) why it could not be had. For V(conclude).
    type: dict
    default: {}
author: Holdfast maintainers (@holdfast)
attributes:
  check_mode:
    description: Nothing is restored, so the verdict is INCONCLUSIVE.
    support: full
  diff_mode:
    description: A verdict has no diff.
    support: none
"""

EXAMPLES = r"""
- name: Restore the documents into the machine's disk
  holdfast.practice.restore_verify:
    phase: fetch
    practice: harbour-street
    items:
      - item: documents
        job: documents
        host: server1
        repository: {url: "rest:https://198.18.0.11:8000/server1/", username: server1, certificate: "{{ pinned }}"}
        rpo_s: 86400
        rto_s: 14400
        levels: [arrival, structure, files]
    folder: /var/lib/holdfast/restore/harbour-street
    repository_password: "{{ restore_verify_credentials.server1.repository_password }}"
    rest_password: "{{ restore_verify_credentials.server1.rest_password }}"
    arrivals: "{{ arrived.arrivals }}"
  register: fetched

- name: Draw the conclusion
  holdfast.practice.restore_verify:
    phase: conclude
    practice: harbour-street
    items: "{{ restore_verify_items }}"
    results: {fetched: "{{ fetched.results }}"}
    machine: {driver: nspawn, created: true, disposed: true}
  register: proof
"""

RETURN = r"""
row:
  description: The id of the row. Empty for V(structure) and V(conclude).
  returned: success
  type: str
  sample: server1.documents.newest
item:
  description: The item. Empty for V(structure) and V(conclude).
  returned: success
  type: str
  sample: documents
host:
  description: The host whose repository it is. Empty for V(conclude).
  returned: success
  type: str
  sample: server1
verdict:
  description: PASS, FAIL or INCONCLUSIVE for what this phase looked at; for V(conclude), of the proof.
  returned: success
  type: str
  sample: PASS
levels:
  description: For each level its verdict, how much was C(checked), and the C(reasons) (code and message).
  returned: phase is not conclude
  type: dict
  sample: {files: {verdict: PASS, checked: 500, reasons: []}}
figures:
  description: Age and loss in seconds, counts, and seconds by phase.
  returned: phase is not conclude
  type: dict
  sample: {age_s: 3600.0, data_loss_s: 3725.0, files: 500, phases: {fetch_s: 1.2, restore_s: 8.1}}
snapshots:
  description: The snapshots of the run, by part.
  returned: phase is fetch
  type: dict
  sample: {files: 4c2b, oracle: 8e0d}
taken:
  description: When the data were seen, by the host's clock.
  returned: phase is fetch
  type: str
  sample: "2026-11-21T20:30:12Z"
arrived:
  description: When the run arrived, by the clock of the NAS.
  returned: phase is fetch
  type: str
  sample: "2026-11-21T20:31:40Z"
class:
  description: The class of the run, V(hourly) to V(yearly), or V(other) when no rule asks for it.
  returned: phase is fetch and there is such a run
  type: str
  sample: daily
kept:
  description: How many runs of each class are kept.
  returned: phase is fetch and there is such a run
  type: dict
  sample: {hourly: 12, daily: 33}
passed_over:
  description: Why there is no such run, where that is no fault.
  returned: phase is fetch and there is no such run
  type: str
  sample: no run but the newest is kept
notes:
  description: What people should know although it is no reason to fail.
  returned: phase is fetch
  type: list
  elements: dict
  sample: []
body:
  description: The whole proof, fit for evidence.
  returned: phase is conclude
  type: dict
  sample: {verdict: PASS}
lines:
  description: The proof in words.
  returned: phase is conclude
  type: list
  elements: str
  sample: ["PASS: restore proof of practice harbour-street"]
"""

import time
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils.verify import (
    INCONCLUSIVE,
    LEVELS,
    Reason,
    Wanted,
    conclude,
    describe,
    level,
    parse_time,
    worst,
)
from ansible_collections.holdfast.practice.plugins.module_utils.verify_choice import WHICH, Choice, Past, Rules, zone_of
from ansible_collections.holdfast.practice.plugins.module_utils.verify_host import (
    Fetch,
    Machine,
    MachineRestic,
    Reading,
    judge,
    structure,
)

REPOSITORY = {
    "url": {"type": "str", "required": True},
    "username": {"type": "str", "required": True},
    "certificate": {"type": "str"},
}
APPLICATION = {
    "needs": {"type": "list", "elements": "str", "default": []},
    "owner": {"type": "str"},
    "units": {"type": "list", "elements": "str", "default": []},
    "limit_s": {"type": "float", "required": True},
    "ask": {"type": "dict", "required": True},
}
ITEM = {
    "item": {"type": "str", "required": True},
    "id": {"type": "str", "default": ""},
    "which": {"type": "str", "default": "newest"},
    "copy": {"type": "str", "default": "onsite"},
    "job": {"type": "str", "required": True},
    "host": {"type": "str", "required": True},
    "repository": {"type": "dict", "required": True, "options": REPOSITORY},
    "rpo_s": {"type": "float", "required": True},
    "rto_s": {"type": "float", "required": True},
    "engine": {"type": "str"},
    "levels": {"type": "list", "elements": "str", "choices": list(LEVELS), "required": True},
    "application": {"type": "dict", "options": APPLICATION},
}
ROWS = {"type": "list", "elements": "dict", "default": []}
SPEC = {
    "phase": {"type": "str", "choices": ["structure", "fetch", "judge", "conclude"], "required": True},
    "practice": {"type": "str", "required": True},
    "items": {"type": "list", "elements": "dict", "required": True, "options": ITEM},
    "folder": {"type": "path"},
    "repository_password": {"type": "str", "no_log": True},
    "rest_password": {"type": "str", "no_log": True},
    "arrivals": {"type": "dict", "default": {}},
    "rules": {
        "type": "dict",
        "default": {},
        "options": {
            "within": {"type": "dict", "default": {}},
            "proven_s": {"type": "float", "default": Rules().proven_s},
        },
    },
    "history": {
        "type": "dict",
        "default": {},
        "options": {"runs": {"type": "dict", "default": {}}, "classes": {"type": "dict", "default": {}}},
    },
    "timezone": {"type": "str", "default": "UTC"},
    "known": {"type": "list", "elements": "str", "default": []},
    "portions": {"type": "int", "default": 1},
    "read_within_s": {"type": "float", "default": 0},
    "readings": {"type": "dict", "default": {}},
    "leader": {"type": "int"},
    "started_s": {"type": "float", "default": 0},
    "timeout": {"type": "float", "default": 7200},
    "levels": {"type": "list", "elements": "str", "default": list(LEVELS)},
    "planned": {"type": "list", "elements": "dict", "options": ITEM},
    "results": {
        "type": "dict",
        "default": {},
        "options": {"fetched": ROWS, "structures": ROWS, "judged": ROWS},
    },
    "machine": {"type": "dict", "default": {}},
}


def wanted(practice: str, row: Mapping[str, Any]) -> Wanted:
    """Turn an item of the inventory into what the decisions work with."""
    return Wanted(
        practice=practice,
        item=row["item"],
        job=row["job"],
        host=row["host"],
        username=row["repository"]["username"],
        rpo_s=row["rpo_s"],
        rto_s=row["rto_s"],
        levels=tuple(row["levels"]),
        id=row["id"],
        which=row["which"],
        copy=row["copy"],
        application=row.get("application") if "application" in row["levels"] else None,
    )


def choice(params: Mapping[str, Any], zone: tzinfo) -> Choice:
    """Turn the module's options into what an older run is chosen by; raises ValueError for what is no time or no number."""
    rules, history = params["rules"], params["history"]
    within = {str(kind): float(reach) for kind, reach in (rules.get("within") or {}).items()}
    past = {
        part: {str(name): parse_time(str(at)) for name, at in (history.get(part) or {}).items()}
        for part in ("runs", "classes")
    }
    return Choice(Rules(within, float(rules.get("proven_s") or Rules().proven_s)), Past(**past), zone)


def finished(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Mapping[str, Any]]:
    """Index the results of a phase, leaving out tasks that were skipped or broke."""
    return {row[key]: row for row in rows if row.get("levels") is not None and row.get(key) and not row.get("failed")}


def do_conclude(params: Mapping[str, Any]) -> dict[str, Any]:
    """Make the body of the proof record."""
    results = params["results"] or {}
    planned = params["items"] if params["planned"] is None else params["planned"]
    body = conclude(
        params["practice"],
        [wanted(params["practice"], row) for row in params["items"]],
        [wanted(params["practice"], row) for row in planned],
        finished(results.get("fetched") or [], "row"),
        finished(results.get("structures") or [], "host"),
        finished(results.get("judged") or [], "row"),
        params["machine"],
        params["levels"],
    )
    return {"row": "", "item": "", "host": "", "verdict": body["verdict"], "body": body, "lines": describe(body)}


def do_phase(params: Mapping[str, Any], by: Choice) -> dict[str, Any]:
    """Run one of the phases that touch the machine."""
    row = params["items"][0]
    asked = [name for name in row["levels"] if name in params["levels"]]
    item = wanted(params["practice"], {**row, "levels": asked})
    if params["phase"] == "judge":
        machine = Machine(params["leader"], params["timeout"])
        return judge(item, params["folder"], machine, params["started_s"], by.zone)
    restic = MachineRestic(
        params["folder"] + "/root",
        row["repository"],
        params["repository_password"],
        params["rest_password"],
        params["timeout"],
    )
    if params["phase"] == "structure":
        reading = Reading(params["portions"], params["read_within_s"], params["readings"], time.time())
        return structure(restic, reading)
    arrivals = params["arrivals"].get(item.username)
    return Fetch(item, params["folder"], restic, arrivals, params["known"], time.time(), by).do()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=SPEC,
        required_if=[
            ("phase", "structure", ("folder", "repository_password", "rest_password")),
            ("phase", "fetch", ("folder", "repository_password", "rest_password")),
            ("phase", "judge", ("folder", "leader")),
        ],
        supports_check_mode=True,
    )
    params = module.params
    phase = params["phase"]
    if phase == "conclude":
        module.exit_json(changed=False, **do_conclude(params))
    if not params["items"]:
        module.fail_json(msg=f"phase {phase} needs an item: expected one in `items`, found none")
    row = params["items"][0]
    if not WHICH.fullmatch(row["which"]):
        expected = "newest, oldest, oldest-CLASS, rotation, or at least 8 characters of a snapshot's id"
        module.fail_json(msg=f"which is {row['which']!r}; expected {expected}")
    try:
        by = choice(params, zone_of(params["timezone"]))
    except ValueError as error:
        module.fail_json(msg=str(error))
    if module.check_mode:
        reason = Reason("check_mode", "nothing was restored: this was a run in check mode", INCONCLUSIVE)
        mine = {"structure": ["structure"], "judge": ["database", "application"]}.get(phase, ["arrival", "files"])
        part = {"levels": {name: level(0, [reason]) for name in mine if name in row["levels"]}, "figures": {}}
    else:
        part = do_phase(params, by)
    verdict = worst([found["verdict"] for found in part["levels"].values()] or ["PASS"])
    whose = {"row": "", "item": ""}
    if phase != "structure":
        whose = {"row": wanted(params["practice"], row).key, "item": row["item"]}
    module.exit_json(changed=phase != "structure", **{"verdict": verdict, **part, **whose, "host": row["host"]})


if __name__ == "__main__":
    main()
