#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Module: play a mains failure, or the return of the mains, on a UPS that is not real."""

from __future__ import annotations

DOCUMENTATION = r"""
module: power_mains
short_description: Play a mains failure on a dummy UPS
version_added: "0.1.0"
description:
  - Sets C(ups.status) of a UPS that is played by the NUT driver dummy-ups, and waits until the server shows it.
  - Runs on the primary, and speaks with its NUT server itself, because the password of C(upsrw) is an argument that
    every user of the machine can read.
  - Refuses any UPS with another driver.
options:
  practice:
    description: Id of the practice. Compared with the host's stamp before anything is set.
    type: str
    required: true
  host:
    description: Name of the primary in the practice.
    type: str
    required: true
  ups:
    description: Name of the UPS.
    type: str
    required: true
  status:
    description: Status words, such as V(OL), V(OB DISCHRG) or V(OB DISCHRG LB).
    type: str
    required: true
  user:
    description: A user of the NUT server with the action SET.
    type: str
    required: true
  password:
    description: That user's password.
    type: str
    required: true
  address:
    description: Where the NUT server listens.
    type: str
    default: 127.0.0.1
  wait_s:
    description: How long, in seconds, to wait until the server shows the status.
    type: int
    default: 10
attributes:
  check_mode:
    description: Says whether the status would change, changes nothing.
    support: full
  diff_mode:
    description: Shows the status as it is and becomes.
    support: full
seealso:
  - module: holdfast.practice.power
author:
  - Holdfast maintainers (@holdfast)
"""

EXAMPLES = r"""
- name: Let the mains fail
  holdfast.practice.power_mains:
    practice: harbour-street
    host: nas1
    ups: ups1
    status: OB DISCHRG
    user: drill
    password: "{{ vault_nut_passwords['drill'] }}"
"""

RETURN = r"""
status:
  description: The status that the server shows.
  returned: always
  type: str
  sample: OB DISCHRG
runtime_s:
  description: Battery runtime in seconds, or null.
  returned: always
  type: float
  sample: 600.0
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import nut, power, stamp


def set_status(params: dict[str, Any], dry: bool) -> dict[str, Any]:
    """Set the status unless it is there already. Returns the module's result, raises NutError or PowerError."""
    name, wanted = params["ups"], " ".join(params["status"].split())
    with nut.Nut(params["address"]) as server:
        state = server.state(name)
        if state.driver != power.DUMMY:
            raise power.PowerError(
                f"{name} has the driver {state.driver}: a mains failure is played on {power.DUMMY} only. For a real UPS "
                "pull its plug, with somebody standing beside it"
            )
        before = " ".join(state.status)
        # FSD is upsd's own mark; it stays until upsd starts again
        shown = " ".join(word for word in state.status if word != "FSD")
        changed = shown != wanted
        if changed and not dry:
            server.login(params["user"], params["password"])
            server.set_variable(name, "ups.status", wanted)
            end = time.monotonic() + params["wait_s"]
            while shown != wanted:
                if time.monotonic() > end:
                    raise power.PowerError(
                        f"{name} still shows {shown} {params['wait_s']} s after it was set to {wanted}"
                    )
                time.sleep(0.1)
                status = server.variable(name, "ups.status").split()
                shown = " ".join(word for word in status if word != "FSD")
        return {
            "changed": changed,
            "status": before if dry else shown,
            "runtime_s": state.runtime_s,
            "diff": {"before": before + "\n", "after": (wanted if changed else before) + "\n"},
        }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "ups": {"type": "str", "required": True},
            "status": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "address": {"type": "str", "default": "127.0.0.1"},
            "wait_s": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    try:
        stamp.check(module.params["practice"], module.params["host"])
        result = set_status(module.params, module.check_mode)
    except (stamp.StampError, power.PowerError, nut.NutError) as error:
        module.fail_json(msg=f"{module.params['practice']}/{module.params['host']}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
