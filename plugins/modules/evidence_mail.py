#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Publish the newest heads of an evidence ledger by mail."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_mail
short_description: Publish the newest heads of an evidence ledger by mail
version_added: "0.1.0"
description:
  - Mails the heads of the newest records to people who keep them. A mailbox is a place that nobody who has the ledger and
    its key gets at. C(bin/holdfast verify-evidence --published FILE) reads mails as they were saved.
  - Sends on every run. The mail names records by number, hash and time, and nothing that is in them.
options:
  practice:
    description: Id of the practice.
    type: str
    required: true
  settings:
    description:
      - How mails are sent, C(relay), C(port), C(tls) (V(starttls) or V(tls)), C(sender), C(to), C(practice_name), and where
        they are needed C(user) and C(ca), the mail server's certificate in PEM.
    type: dict
    required: true
  password:
    description: Password of C(user) at the mail server.
    type: str
  heads:
    description: Lines of all records, as M(holdfast.practice.evidence) returns them. The newest ten are mailed.
    type: list
    elements: str
    required: true
author: Holdfast maintainers (@holdfast)
attributes:
  check_mode:
    description: Says that a mail would be sent, and sends none.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Mail the newest heads to the practice manager
  holdfast.practice.evidence_mail:
    practice: harbour-street
    settings:
      relay: mail.example.org
      port: 587
      tls: starttls
      sender: holdfast@example.org
      to: [manager@harbour-street.example]
      practice_name: Harbour Street Medical Centre
    heads: "{{ recorded.heads }}"
"""

RETURN = r"""
published:
  description: How many of the ledger's records were mailed by now, if every mail before this one was taken.
  returned: success
  type: int
  sample: 17
"""

import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils.evidence import Head, parse_heads
from ansible_collections.holdfast.practice.plugins.module_utils.mail_send import MailError, compose, send

MOST = 10


def words(name: str, heads: list[Head]) -> tuple[str, str]:
    """Write subject and text."""
    lines = [
        f"The newest records of the evidence of {name}. Keep this mail: it shows later on whether the past was changed.",
        "bin/holdfast verify-evidence FOLDER --signers FILE --published SAVED-MAIL compares it.",
        "",
        *(head.line() for head in heads[-MOST:]),
    ]
    return f"Holdfast evidence of {name}: record {heads[-1].seq}", "\n".join(lines) + "\n"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "settings": {"type": "dict", "required": True},
            "password": {"type": "str", "no_log": True},
            "heads": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    asked = module.params
    heads = parse_heads("\n".join(asked["heads"]), asked["practice"])
    if not heads:
        module.fail_json(msg="heads holds no head of this practice, so there is nothing to mail.")
    settings = {**asked["settings"], "practice": asked["practice"], "host": "evidence"}
    subject, text = words(settings["practice_name"], heads)
    mail = compose(settings, subject, text, time.time(), f"head-{heads[-1].hash[:16]}")
    refused = {}
    try:
        if not module.check_mode:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as certificate:
                certificate.write(settings.get("ca") or "")
                certificate.flush()
                cafile = certificate.name if settings.get("ca") else None
                refused = send(settings, asked["password"], cafile, settings["to"], mail)
    except MailError as error:
        module.fail_json(msg=f"{error.message}.")
    if refused:
        module.fail_json(msg="The mail server took the mail, but not for " + ", ".join(sorted(refused)) + ".")
    module.exit_json(changed=True, published=heads[-1].seq)


if __name__ == "__main__":
    main()
