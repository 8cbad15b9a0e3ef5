#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Publish the heads of an evidence ledger in a file on another machine, and read that machine's clock."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_head
short_description: Publish the heads of an evidence ledger elsewhere, and read that machine's clock
version_added: "0.1.0"
description:
  - Appends to a file a line for each record of an evidence ledger that is not there yet. The file is never shortened and
    nothing in it is replaced, so that C(bin/holdfast verify-evidence --published FOLDER) finds a ledger that was written
    anew or cut off by somebody who has its key.
  - Each ledger has a file of its own, named after its first record. One that was begun anew is published beside the one
    before it, and RV(others) tells.
  - What could not be published, as the machine was off, comes with the next record.
  - Refuses to add to a file that tells another history than O(heads), or to another practice's machine.
  - A place of another kind, such as a bucket, is another module with the same O(heads) and the same refusal
    (C(missing_heads) in the collection's module_utils/evidence.py).
options:
  practice:
    description: Id of the practice.
    type: str
    required: true
  host:
    description: Name of the machine in the practice document. When given, it has to carry the practice's stamp.
    type: str
  folder:
    description: Where the file lies. Made when it does not exist. Needed to append.
    type: path
  mountpoint:
    description: Where something has to be mounted for the folder to be where it is meant to be.
    type: path
  state:
    description:
      - V(present) appends what is missing.
      - V(read) changes nothing and reads the clock only.
    type: str
    choices: [present, read]
    default: present
  heads:
    description: Lines of all records, as M(holdfast.practice.evidence) returns them. Needed to append.
    type: list
    elements: str
  asked_at:
    description:
      - The clock of the control node when it asks, as in C(now(utc=true, fmt="%Y-%m-%dT%H:%M:%S.%fZ")). The way here
        takes a moment, which counts as skew.
    type: str
author: Holdfast maintainers (@holdfast)
attributes:
  check_mode:
    description: Says what would be appended and appends nothing.
    support: full
  diff_mode:
    description: Shows the lines.
    support: full
"""

EXAMPLES = r"""
- name: Publish the evidence on the NAS
  holdfast.practice.evidence_head:
    practice: harbour-street
    host: nas1
    mountpoint: /srv/holdfast
    folder: /srv/holdfast/evidence
    heads: "{{ recorded.heads }}"
  delegate_to: nas1
"""

RETURN = r"""
added:
  description: How many lines were appended, or would be.
  returned: O(state=present)
  type: int
  sample: 1
published:
  description: How many of the ledger's records are published in the file now.
  returned: O(state=present)
  type: int
  sample: 17
others:
  description: How many other ledgers of this practice are published there.
  returned: O(state=present)
  type: int
  sample: 0
clock:
  description:
    - The clock of this machine (C(at)), and by how many seconds it is ahead of the control node's (C(skew_s); behind when
      negative).
  returned: O(asked_at) is given
  type: dict
  sample: {at: "2026-11-21T20:35:00Z", skew_s: 0.4}
"""

import datetime as dt
import fcntl
import os
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import nas_storage as storage
from ansible_collections.holdfast.practice.plugins.module_utils import stamp
from ansible_collections.holdfast.practice.plugins.module_utils.evidence import (
    EvidenceError,
    Head,
    missing_heads,
    parse_heads,
)


def clock(asked_at: str) -> dict[str, Any]:
    """Compare this machine's clock with the one that asks."""
    try:
        asked = dt.datetime.strptime(asked_at, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=dt.timezone.utc)
    except ValueError:
        raise EvidenceError(f"asked_at is {asked_at}, expected a time in UTC such as 2026-11-21T20:35:00.5Z") from None
    now = time.time()
    return {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)), "skew_s": round(now - asked.timestamp(), 1)}


def publish(file: Path, practice: str, heads: list[Head], check_mode: bool) -> list[Head]:
    """Append what is missing, whole and on the disk when this returns; return it. Raises EvidenceError and OSError."""
    if check_mode:
        have = file.read_text(encoding="ascii", errors="replace") if file.exists() else ""
        return missing_heads(parse_heads(have, practice), heads)
    file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    with os.fdopen(fd, "r+b", buffering=0) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        have = handle.read().decode("ascii", "replace")
        missing = missing_heads(parse_heads(have, practice), heads)
        # a line that a crash cut short stays as it is, and does not run into the next one
        text = "".join(["\n" if have and not have.endswith("\n") else "", *(f"{head.line()}\n" for head in missing)])
        if missing:
            if handle.write(text.encode("ascii")) != len(text):
                raise EvidenceError(
                    f"{file}: the disk took only a part of it; free some space, and record something again"
                )
            os.fsync(handle.fileno())
    return missing


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str"},
            "folder": {"type": "path"},
            "mountpoint": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "read"], "default": "present"},
            "heads": {"type": "list", "elements": "str"},
            "asked_at": {"type": "str"},
        },
        required_if=[("state", "present", ("heads", "folder"))],
        supports_check_mode=True,
    )
    asked = module.params
    result: dict[str, Any] = {"changed": False}
    try:
        if asked["asked_at"]:
            result["clock"] = clock(asked["asked_at"])
        if asked["host"]:
            stamp.check(asked["practice"], asked["host"])
        if asked["state"] == "present":
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
            if asked["mountpoint"] and storage.mount_at(asked["mountpoint"].rstrip("/"), mounts) is None:
                raise EvidenceError(
                    f"{asked['mountpoint']}: nothing is mounted there, so nothing was published; mount it"
                )
            heads = parse_heads("\n".join(asked["heads"]), asked["practice"])
            if not heads:
                raise EvidenceError("heads holds no head of this practice, so there is nothing to publish")
            file = Path(asked["folder"]) / f"heads-{asked['practice']}-{heads[0].hash[:12]}.txt"
            missing = publish(file, asked["practice"], heads, module.check_mode)
            others = [each for each in file.parent.glob(f"heads-{asked['practice']}-*.txt") if each != file]
            after = "".join(f"{head.line()}\n" for head in missing)
            result.update(changed=bool(missing), added=len(missing), published=len(heads), others=len(others))
            result["diff"] = {"before": "", "after": after, "after_header": str(file)}
    except (EvidenceError, stamp.StampError) as error:
        module.fail_json(msg=f"{asked['practice']}/{asked['host'] or asked['folder']}: {error}")
    except OSError as error:
        module.fail_json(msg=f"{error.filename or asked['folder']}: {error.strerror}; nothing was published.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
