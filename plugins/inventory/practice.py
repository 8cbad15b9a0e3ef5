# SPDX-License-Identifier: Apache-2.0
"""Inventory plugin: one practice document becomes hosts, groups and role variables."""

from __future__ import annotations

DOCUMENTATION = r"""
name: practice
version_added: "0.1.0"
short_description: Read a Holdfast practice document
author: Holdfast maintainers (@holdfast)
description:
  - Reads C(practice.yml), checks it as a whole, and gives each host the variables of the roles that work on it.
  - Makes no connection and needs no vault itself. Secrets are only named. They come from C(group_vars/all/vault.yml) beside the
    document.
  - Refuses a document with any mistake. C(bin/holdfast validate FILE) prints all of them.
  - Certificates are read from C(certificates/) beside the document. Where one is missing, only a play that needs it fails.
requirements:
  - pydantic >= 2
options: {}
notes:
  - Enable this plugin alone (C(enable_plugins = holdfast.practice.practice)). Otherwise a document that it refuses is tried as
    another kind of inventory.
"""

EXAMPLES = r"""
# ansible-playbook -i inventories/harbour-street playbooks/site.yml
practice: {id: harbour-street, name: Harbour Street Medical Centre, country: AU, timezone: Australia/Sydney}
contacts:
  backup_owner: {name: Robin Example, email: manager@harbour-street.example}
hosts:
  nas1: {kind: nas, address: 198.18.0.11, pool: {profile: raid1, devices: [/dev/disk/by-id/ata-1, /dev/disk/by-id/ata-2]}}
  server1: {kind: server, address: 198.18.0.12, protect: [documents]}
  proof1: {kind: restore_host}
protect:
  documents: {paths: [/srv/clinic/documents], at: "21:00"}
copies:
  onsite: {"on": nas1}
"""

import gc
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.template import trust_as_template

# Importing makes much that stays and no garbage; looking for some all the while is a sixth of what this plugin costs.
COLLECTING = gc.isenabled()
gc.disable()
try:
    from ansible_collections.holdfast.practice.plugins.plugin_utils.compiler import Template
    from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import (
        InvalidPracticeError,
        load_inventory,
    )
    from ansible_collections.holdfast.practice.plugins.plugin_utils.stop_times import InvalidStopTimesError
except ImportError as error:
    MISSING: str | None = str(error.name or error)
else:
    MISSING = None
finally:
    if COLLECTING:
        gc.enable()


def ready(value: Any) -> Any:
    """Mark the compiler's templates as trusted, all the way down; everything else stays plain data."""
    if isinstance(value, Template):
        return trust_as_template(str(value))
    if isinstance(value, dict):
        return {key: ready(item) for key, item in value.items()}
    if isinstance(value, list):
        return [ready(item) for item in value]
    return value


class InventoryModule(BaseInventoryPlugin):
    """Give Ansible the hosts of one practice."""

    NAME = "holdfast.practice.practice"

    def verify_file(self, path: str) -> bool:
        """Accept files called practice.yml."""
        return bool(super().verify_file(path)) and Path(path).name == "practice.yml"

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory, or raise AnsibleParserError with the first mistake and their number."""
        super().parse(inventory, loader, path, cache)
        if MISSING:
            raise AnsibleParserError(f"the Python package {MISSING} is missing on this control node; run: make setup")
        try:
            compiled = load_inventory(Path(path), _short(path))
        except InvalidPracticeError as error:
            # Ansible prints this text up to three times: the full list is for bin/holdfast validate
            count = len(error.problems)
            more = f" ({count} mistakes in all; run: bin/holdfast validate {_short(path)})" if count > 1 else ""
            raise AnsibleParserError(f"{error.problems[0]}{more}") from None
        except InvalidStopTimesError as error:
            raise AnsibleParserError(str(error)) from None
        except OSError as error:
            raise AnsibleParserError(f"{error.filename}: {error.strerror}") from None
        for group, hosts in compiled.groups.items():
            self.inventory.add_group(group)
            for host in hosts:
                self.inventory.add_host(host, group=group)
        for name, value in compiled.all_vars.items():
            self.inventory.set_variable("all", name, ready(value))
        for host, variables in compiled.host_vars.items():
            self.inventory.add_host(host)
            for name, value in variables.items():
                self.inventory.set_variable(host, name, ready(value))


def _short(path: str) -> str:
    """Write a path relative to the working directory where that is shorter to read."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
