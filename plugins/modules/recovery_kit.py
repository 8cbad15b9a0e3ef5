#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""The work is done by the action plugin of this name, in Ansible's own process: see plugins/action/recovery_kit.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_kit
short_description: Make the sealed recovery kit of a practice
version_added: "0.2.0"
author: Holdfast maintainers (@holdfast)
description:
  - Collects what a stranger needs to recover a practice (what is where, in which order, with which commands and tools, and the
    secrets), and encrypts it with age to every contact of the practice document that has a C(recipient).
  - The kit is a tar that C(age -d -i KEYFILE FILE | tar -x) opens. It suffices alone. It holds the passwords of all
    repositories and accounts and the certificates with their keys; it does not hold the key that signs evidence, nor the
    vault's password.
  - Writes C(recovery/kit-DATE.age), C(recovery/latest.age) and C(recovery/state.json) in the practice's folder.
  - A kit whose content would be the same is not made again. Dates, results of proofs and the head of the evidence do not
    count as content.
  - Runs on the control node, in Ansible's own process, so that no secret is in an argument, a log or a file in clear.
options:
  state:
    description:
      - V(sealed) makes the kit when its content changed, or when the last one is gone or damaged.
      - V(ready) only looks whether one can be made, which needs no host.
    type: str
    choices: [ready, sealed]
    default: sealed
  folder:
    description: The practice's folder, with its C(practice.yml).
    type: path
    required: true
  secrets:
    description: The parts of the practice's vault that go into the kit, by their names there.
    type: dict
    required: true
    suboptions:
      vault_repository_passwords:
        description: Passwords of the repositories, by host. Those of hosts that the practice no longer has are kept as well.
        type: dict
        required: true
      vault_rest_passwords:
        description: Passwords of the accounts on the backup server, by host.
        type: dict
        required: true
      vault_tls_keys:
        description: Private keys of the certificates, by NAS.
        type: dict
        required: true
  facts:
    description:
      - What M(holdfast.practice.recovery_facts) returned, by host. For a host without facts, those of the last kit are taken.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says whether a kit would be made, and makes none.
    support: full
  diff_mode:
    description: Shows what the kit is about; never a secret.
    support: full
"""

EXAMPLES = r"""
- name: Seal the kit
  holdfast.practice.recovery_kit:
    folder: "{{ practice_folder }}"
    secrets:
      vault_repository_passwords: "{{ vault_repository_passwords }}"
      vault_rest_passwords: "{{ vault_rest_passwords }}"
      vault_tls_keys: "{{ vault_tls_keys }}"
    facts: {server1: "{{ hostvars.server1.recovery_seen.facts }}"}
  register: recovery_kit
"""

RETURN = r"""
readers:
  description: Names of those who can open the kit.
  returned: O(state=ready)
  type: list
  elements: str
  sample: [Robin Example]
why:
  description: Why a new kit was (or in check mode, would be) made; empty when the last one still holds.
  returned: O(state=sealed)
  type: str
  sample: its content changed
page:
  description: Everything of the kit that may be printed, with C(file) and its C(sha256). No secret.
  returned: O(state=sealed)
  type: dict
  sample: {file: kit-2026-11-22.age, sha256: 9f86d081884c7d65}
"""
