# SPDX-License-Identifier: Apache-2.0
"""Read a practice's group_vars and host_vars, and leave its vault closed when nobody gave a password."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vault
short_description: Load host_vars and group_vars, and leave the vault closed when there is no password
version_added: "0.2.0"
author: Holdfast maintainers (@holdfast)
requirements:
  - Enabled by C(vars_plugins_enabled = holdfast.practice.vault) in ansible.cfg, in the place of
    P(ansible.builtin.host_group_vars#vars).
description:
  - Does what P(ansible.builtin.host_group_vars#vars) does, with one difference. Ansible ends at an encrypted file of variables
    when it was given no vault password, even where no secret is used. Here such a file is left alone, so that looking at hosts
    and writing reports need no secret; a play that does use one ends with a word on how to open the vault.
options:
  stage:
    description: When the plugin runs, as for every vars plugin.
    type: str
    choices: [all, task, inventory]
    ini:
      - key: stage
        section: vars_host_group_vars
    env:
      - name: ANSIBLE_VARS_PLUGIN_STAGE
  _valid_extensions:
    description: Suffixes of the files that are read.
    default: [.yml, .yaml, .json]
    type: list
    elements: string
    ini:
      - key: yaml_valid_extensions
        section: defaults
    env:
      - name: ANSIBLE_YAML_FILENAME_EXT
"""

from typing import Any  # noqa: E402 - Ansible wants the documentation first

from ansible.parsing.vault import is_encrypted_file  # noqa: E402
from ansible.plugins.vars import BaseVarsPlugin  # noqa: E402
from ansible.plugins.vars.host_group_vars import VarsModule as HostGroupVars  # noqa: E402
from ansible.template import trust_as_template  # noqa: E402
from ansible.utils.vars import combine_vars  # noqa: E402

# what plugin_utils/secrets.py keeps in a vault
NAMES = (
    "vault_practice_id",
    "vault_repository_passwords",
    "vault_rest_passwords",
    "vault_nut_passwords",
    "vault_tls_keys",
    "vault_evidence_key",
    "vault_mail_password",
)
HINT = "the vault is closed; run again with --vault-id PRACTICE@prompt, or PRACTICE@FILE for a file with its password"


def is_closed(loader: Any, path: str) -> bool:
    """Say whether a file is encrypted and no password was given for anything."""
    if loader._vault.secrets:
        return False
    with open(path, "rb") as stream:  # noqa: PTH123 - Ansible's function wants the stream
        return bool(is_encrypted_file(stream))


class _Reader(HostGroupVars):
    def load_found_files(self, loader: Any, data: dict[str, Any], found_files: list[str]) -> dict[str, Any]:
        """Read the files that can be read; the names of a closed vault explain themselves when they are used."""
        for path in found_files:
            if is_closed(loader, path):
                closed = {name: trust_as_template(f"{{{{ undef(hint='{HINT}') }}}}") for name in NAMES}
                data = combine_vars(data, closed)
            else:
                data = super().load_found_files(loader, data, [path])
        return data


class VarsModule(BaseVarsPlugin):
    """Reads the same files as Ansible's own plugin, which a subclass cannot be: it would be taken for an unenabled one."""

    is_stateless = True

    def __init__(self) -> None:
        super().__init__()
        self._reader = _Reader()

    def get_vars(self, loader: Any, path: str, entities: Any, cache: bool = True) -> dict[str, Any]:
        """Give the variables of hosts and groups that lie beside an inventory or a playbook."""
        found: dict[str, Any] = self._reader.get_vars(loader, path, entities, cache)
        return found
