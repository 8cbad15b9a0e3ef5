#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Rehearse a recovery with nothing but the sealed kit, its owner's key and the NAS."""

from __future__ import annotations

DOCUMENTATION = r"""
module: break_glass
short_description: Rehearse a recovery with nothing but the sealed kit, its owner's key and the NAS
version_added: "0.1.0"
description:
  - Drives a blank machine (M(holdfast.practice.nspawn_machine)) through the recovery kit's own commands, word for word, as
    a person would have to when everything else is gone, until the recovered database answers.
  - The machine reaches one port of the NAS and nothing else. The control node and the practice's other doors are tried
    from it, and have to be closed.
  - Names what would have stopped the person, a key, a tool or a step. Its result holds counts and no names of files.
  - Runs on the carrier of the machine. The kit's password and the key are in the machine's memory only, and go with it.
options:
  phase:
    description:
      - V(plan) says how the machine's own network is to be laid out.
      - V(rehearse) does it in the started machine.
      - V(conclude) makes the record of whatever was reached.
    type: str
    choices: [plan, rehearse, conclude]
    required: true
  practice:
    description: Id of the practice.
    type: str
    required: true
  nas:
    description: Address of the NAS, as the practice document has it. For V(plan) and V(rehearse).
    type: str
  port:
    description: The port of its repositories.
    type: int
    default: 8000
  folder:
    description: The machine's folder, as for M(holdfast.practice.nspawn_machine). For V(plan) and V(rehearse).
    type: path
  leader:
    description: The machine's first process, as returned when it was started. For V(rehearse).
    type: int
  kit:
    description: The sealed kit. For V(rehearse).
    type: path
  identity:
    description: A reader's age key, as text. For V(rehearse).
    type: str
  items:
    description: The items to recover. The first database of the kit when there is none, or its first item.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds after which one item's commands are ended.
    type: float
    default: 14400
  result:
    description: What V(rehearse) returned, empty when it was not reached. For V(conclude).
    type: dict
    default: {}
  machine:
    description: C(driver), C(created), C(disposed) and C(seconds) of the machine. For V(conclude).
    type: dict
    default: {}
author: Holdfast maintainers (@holdfast)
attributes:
  check_mode:
    description: V(rehearse) does nothing; the others change nothing in any mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Lay out the network of the rehearsal
  holdfast.practice.break_glass:
    phase: plan
    practice: harbour-street
    nas: 198.18.0.11
    folder: /var/lib/holdfast/restore/harbour-street-break-glass
  register: plan
"""

RETURN = r"""
network:
  description: Namespace and addresses for the machine's own network.
  returned: when O(phase=plan)
  type: dict
result:
  description: What was reached, for O(phase=conclude).
  returned: when O(phase=rehearse)
  type: dict
verdict:
  description: PASS, FAIL or INCONCLUSIVE.
  returned: when O(phase=conclude)
  type: str
  sample: PASS
body:
  description: The whole rehearsal, fit for evidence.
  returned: when O(phase=conclude)
  type: dict
lines:
  description: The same in a few lines, for people.
  returned: when O(phase=conclude)
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import break_glass as glass
from ansible_collections.holdfast.practice.plugins.module_utils.break_glass_host import Rehearsal, sha256
from ansible_collections.holdfast.practice.plugins.module_utils.verify_host import Machine


def plan(asked: dict[str, Any]) -> dict[str, Any]:
    """Say how the network is laid out; it is named after the machine's folder."""
    return {"network": glass.network(asked["nas"], asked["folder"])}


def rehearse(asked: dict[str, Any]) -> dict[str, Any]:
    """Rehearse in the started machine."""
    rehearsal = Rehearsal(
        Machine(asked["leader"], asked["timeout"]),
        asked["folder"] + "/root",
        glass.network(asked["nas"], asked["folder"]),
        (asked["nas"], asked["port"]),
        asked["practice"],
    )
    found = rehearsal.do(asked["kit"], asked["identity"], asked["items"])
    return {"changed": True, "result": {**found, "sha256": sha256(asked["kit"])}}


def conclude(asked: dict[str, Any]) -> dict[str, Any]:
    """Make the record."""
    found = dict(asked["result"])
    body = glass.conclude(asked["practice"], {"sha256": found.pop("sha256", "")}, found, asked["machine"])
    return {"verdict": body["verdict"], "body": body, "lines": glass.describe(body)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "phase": {"type": "str", "choices": ["plan", "rehearse", "conclude"], "required": True},
            "practice": {"type": "str", "required": True},
            "nas": {"type": "str"},
            "port": {"type": "int", "default": 8000},
            "folder": {"type": "path"},
            "leader": {"type": "int"},
            "kit": {"type": "path"},
            "identity": {"type": "str", "no_log": True},
            "items": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "float", "default": 14400},
            "result": {"type": "dict", "default": {}},
            "machine": {"type": "dict", "default": {}},
        },
        required_if=[
            ("phase", "plan", ("nas", "folder")),
            ("phase", "rehearse", ("nas", "folder", "leader", "kit", "identity")),
        ],
        supports_check_mode=True,
    )
    asked = module.params
    if asked["phase"] == "rehearse" and module.check_mode:
        module.exit_json(changed=True, result={})
    try:
        done = {"plan": plan, "rehearse": rehearse, "conclude": conclude}[asked["phase"]](asked)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; the rehearsal ended there.")
    module.exit_json(**{"changed": False, **done})


if __name__ == "__main__":
    main()
