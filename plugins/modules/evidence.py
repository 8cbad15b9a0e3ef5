#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Append one signed record to a practice's evidence ledger, or read what the ledger knows."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence
short_description: Append a signed record to the evidence ledger of a practice
version_added: "0.1.0"
description:
  - Appends one record to C(ledger.jsonl) in the evidence folder. Records are canonical JSON, chained by hash and signed
    with an SSH key; C(bin/holdfast verify-evidence) checks them without Ansible.
  - A line that a crash left half written is moved aside, and the next record notes the gap.
  - A record that was begun and never came, as its play was killed, is noted by the next one as well.
  - Refuses to add to a ledger whose last record is broken, to the ledger of another practice, and to sign with a key
    that O(signers) does not pin.
  - Runs where the ledger lies, which is the control node.
options:
  folder:
    description: The evidence folder (C(practice_evidence_dir)). Made when it does not exist.
    type: path
    required: true
  practice:
    description: Id of the practice. Every record of a ledger carries the same one.
    type: str
    required: true
  state:
    description:
      - V(present) appends a record, on every run.
      - V(read) changes nothing and returns what the ledger knows.
    type: str
    choices: [present, read]
    default: present
  kind:
    description: What the record is about. Needed to append.
    type: str
    choices: [proof, drill, backup, retention, retirement, deletion, kit_check, break_glass, sign_off]
  body:
    description: What is recorded. Counts, hashes, times and verdicts; no patient data, no file names. Needed to append.
    type: dict
  clocks:
    description:
      - What the clocks of other machines said, by machine, as C(clock) of M(holdfast.practice.evidence_head); an empty
        dict for one that did not answer. Kept in the record beside this machine's own time. One that is more than a
        minute off is named there and by C(bin/holdfast verify-evidence).
    type: dict
    default: {}
  run:
    description:
      - With which options the play was run that leave something out, C(tags), C(skip_tags) and C(limit), each as text
        and empty without one. Kept in the record.
    type: dict
    default: {}
  key:
    description: The OpenSSH private key that signs, as text. It is never written to a disk. Needed to append.
    type: str
  signers:
    description: An OpenSSH allowed_signers file. When given, O(key) has to be one that it pins.
    type: path
author: Holdfast maintainers (@holdfast)
attributes:
  check_mode:
    description: Says what would be appended and appends nothing.
    support: full
  diff_mode:
    description: Shows the record, without its signature.
    support: full
"""

EXAMPLES = r"""
- name: Record the proof
  holdfast.practice.evidence:
    folder: "{{ practice_evidence_dir }}"
    practice: "{{ practice_id }}"
    kind: proof
    body: "{{ proof.body }}"
    key: "{{ vault_evidence_key }}"
    signers: "{{ practice_folder }}/evidence_signers"

- name: Learn which snapshots the evidence names
  holdfast.practice.evidence:
    folder: "{{ practice_evidence_dir }}"
    practice: "{{ practice_id }}"
    state: read
  register: ledger
"""

RETURN = r"""
seq:
  description: Number of the new record (with O(state=read), of the last one; 0 for an empty ledger).
  returned: success
  type: int
  sample: 17
hash:
  description: BLAKE2b-256 of the record; keep it elsewhere to notice a ledger that is cut short. Empty in check mode.
  returned: success
  type: str
  sample: 5f0c2f0c5e1b6c3c6d0f3f5d0a3a1c0f6f3a4a1e5d1c9b8a7f6e5d4c3b2a1908
at:
  description: When the record was made, UTC.
  returned: O(state=present)
  type: str
  sample: "2026-11-21T20:35:00Z"
verdict:
  description: The verdict in the body, or an empty string when it has none.
  returned: O(state=present)
  type: str
  sample: PASS
gap:
  description: Whether the record notes a half-written line before it, or a record that was begun and never came.
  returned: O(state=present)
  type: bool
  sample: false
skewed:
  description: The machines of O(clocks) whose clock is too far from this one's.
  returned: O(state=present)
  type: list
  elements: str
  sample: []
heads:
  description: What to publish elsewhere of every record of the ledger, the new one included, as lines of text.
  returned: success
  type: list
  elements: str
  sample: ["holdfast-head harbour-street 1 5f0c2f0c... 2026-11-21T20:35:00Z"]
known:
  description: The snapshots that the newest evidence names, by C(host/job).
  returned: O(state=read)
  type: dict
  sample: {"server1/documents": ["0f3c..."]}
readings:
  description: What proofs have read of each host's repository and when, as M(holdfast.practice.restore_verify) wants it.
  returned: O(state=read)
  type: dict
  sample: {"server1": {"first": "2026-11-22T00:31:00Z", "portions": {"1/1": "2026-11-22T00:31:00Z"}}}
judged:
  description: When a proof judged each run and each class of an item last, by C(host/item/copy).
  returned: O(state=read)
  type: dict
  sample:
    server1/documents/onsite:
      runs: {"0f3c...": "2026-11-21T20:47:00Z"}
      classes: {daily: "2026-11-21T20:47:00Z"}
about:
  description: The newest records of what became of hosts that left, by C(retirement/host) and C(deletion/host).
  returned: O(state=read)
  type: dict
  sample: {"retirement/desk1": {"seq": 7, "at": "2026-11-22T00:31:00Z", "body": {"host": "desk1"}}}
maintained:
  description: What maintenance saw and was told before, the C(key_ids) of each host's repository and what was C(accepted).
  returned: O(state=read)
  type: dict
  sample: {"key_ids": {"server1": ["9d1c..."]}, "accepted": ["4c2b8e0d"]}
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils.evidence import (
    KINDS,
    EvidenceError,
    Ledger,
    SigningKey,
    canonical,
    clocks,
    head_of,
    last_about,
    last_known,
    maintained,
    new_record,
    parse_signers,
    utc_now,
)
from ansible_collections.holdfast.practice.plugins.module_utils.proof_history import last_judged
from ansible_collections.holdfast.practice.plugins.module_utils.verify_portion import history


def read(ledger: Ledger) -> dict[str, Any]:
    """Return what the ledger knows, as the module does for state=read."""
    entries = ledger.entries()
    last = entries[-1] if entries else None
    return {
        "seq": last["record"]["seq"] if last else 0,
        "hash": last["hash"] if last else "",
        "heads": [head_of(entry).line() for entry in entries],
        "known": last_known(entries),
        "readings": history(entries),
        "judged": last_judged(entries),
        "about": last_about(entries),
        "maintained": maintained(entries),
    }


def append(ledger: Ledger, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Append a record, or in check mode only make it; return the module's result."""
    key = SigningKey(params["key"])
    if params["signers"]:
        pinned = [signer.key_id for signer in parse_signers(Path(params["signers"]).read_text(encoding="utf-8"))]
        if key.key_id not in pinned:
            raise EvidenceError(
                f"The evidence key of practice {params['practice']} ({key.key_id}) is not pinned in "
                f"{params['signers']}. Expected the key that `bin/holdfast secrets` made for this practice: check "
                "vault_evidence_key and the signers file."
            )
    run = {name: str(text) for name, text in params["run"].items() if text}
    told = (
        {"clocks": clocks({name: seen or None for name, seen in params["clocks"].items()})} if params["clocks"] else {}
    )
    facts = {**told, **({"run": run} if run else {})}
    about = (params["practice"], params["kind"], params["body"])
    if check_mode:
        record = new_record(ledger.last(), *about, utc_now(), key.key_id, time.monotonic_ns(), facts=facts)
        record_hash = ""
    else:
        entry = ledger.append(*about, key, monotonic_ns=time.monotonic_ns(), facts=facts)
        record, record_hash = entry["record"], entry["hash"]
    return {
        "seq": record["seq"],
        "hash": record_hash,
        "at": record["at"],
        "verdict": str(params["body"].get("verdict", "")),
        "gap": "gap" in record,
        "skewed": record.get("clocks", {}).get("skewed", []),
        "heads": [head_of(entry).line() for entry in ledger.entries()],
        "diff": {
            "before": "",
            "after": canonical(record).decode() + "\n",
            "before_header": "",
            "after_header": "record",
        },
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "practice": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "read"], "default": "present"},
            "kind": {"type": "str", "choices": list(KINDS)},
            "body": {"type": "dict"},
            "clocks": {"type": "dict", "default": {}},
            "run": {"type": "dict", "default": {}},
            "key": {"type": "str", "no_log": True},
            "signers": {"type": "path"},
        },
        required_if=[("state", "present", ("kind", "body", "key"))],
        supports_check_mode=True,
    )
    ledger = Ledger(module.params["folder"])
    try:
        if module.params["state"] == "read":
            module.exit_json(changed=False, **read(ledger))
        module.exit_json(changed=True, **append(ledger, module.params, module.check_mode))
    except EvidenceError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or ledger.path}: {error.strerror}; the record was not written.")


if __name__ == "__main__":
    main()
