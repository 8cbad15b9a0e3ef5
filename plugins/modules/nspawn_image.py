#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a cached image for nspawn machines."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_image
short_description: Build and cache images for nspawn machines
version_added: "0.1.0"
description:
  - Builds a Debian system as a folder, a layer of packages over such an image, or a shelf of packages that machines
    without a way out install from.
  - An image is kept under a key made of everything that goes into it (suite, packages, image below), and built only
    when there is none of that key. A cached image needs no network.
  - A build is completed in a folder of its own and moved into place; what an interrupted build left is removed by the
    next.
  - The mirror is the one of the machine's own apt sources; on machines other than Debian, mmdebstrap's default.
author:
  - Holdfast maintainers (@holdfast)
options:
  name:
    description: Name of the image, the first part of its folder's name.
    type: str
    required: true
  kind:
    description:
      - V(base) is a whole system.
      - V(layer) is what installing packages adds to the image O(base).
      - V(shelf) is a package source with O(packages) and all they need on top of the image O(base).
    type: str
    choices: [base, layer, shelf]
    default: base
  suite:
    description: Debian release.
    type: str
    default: trixie
  packages:
    description:
      - Packages of a V(layer) or a V(shelf).
      - For a V(base), packages besides those that every machine needs (systemd, sshd, Python).
    type: list
    elements: str
    default: []
  base:
    description: Folder of the image below, as returned in RV(path). A V(layer) and a V(shelf) need it.
    type: path
  shelf:
    description: For O(kind=layer), folder of a shelf to install from instead of the mirror.
    type: path
  cache:
    description: Where images are kept.
    type: path
    default: /var/cache/holdfast
  state:
    description:
      - V(present) builds the image when it is not there.
      - V(absent) removes all images of this name, whatever went into them, unless a machine or another image needs one.
        For O(kind=shelf) it removes the shelf with these packages.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Says whether an image would be built, and where.
    support: full
  diff_mode:
    description: An image has no diff beyond its being there.
    support: none
notes:
  - Needs root and the programs mmdebstrap, apt-ftparchive, unshare and setpriv.
"""

EXAMPLES = r"""
- name: Build the base image
  holdfast.practice.nspawn_image:
    name: base
  register: base

- name: Add what a restore host needs
  holdfast.practice.nspawn_image:
    name: restore
    kind: layer
    base: "{{ base.path }}"
    packages: [postgresql-17, restic]
"""

RETURN = r"""
path:
  description: Folder of the image.
  returned: state is present
  type: str
  sample: /var/cache/holdfast/images/base-0123456789ab
layers:
  description: Folders that an overlay over this image needs, topmost first. Empty for a shelf.
  returned: state is present
  type: list
  elements: str
  sample: [/var/cache/holdfast/images/base-0123456789ab/root]
key:
  description: Stands for everything that went into the image.
  returned: state is present
  type: str
  sample: 0123456789ab
removed:
  description: Folders that were removed.
  returned: state is absent
  type: list
  elements: str
seconds:
  description: How long it took.
  returned: always
  type: float
"""

import platform
import re
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import BASE_PACKAGES, NspawnError, image_key
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn_host import ImageStore


def packages_of(params: dict[str, Any]) -> list[str]:
    """Return the packages that go into an image, those every machine needs included."""
    return [*BASE_PACKAGES, *params["packages"]] if params["kind"] == "base" else list(params["packages"])


def path_of(store: ImageStore, params: dict[str, Any]) -> tuple[str, Path]:
    """Return (key, folder) of the wanted image."""
    below = Path(params["base"]).name if params["kind"] != "base" else None
    key = image_key(params["kind"], params["suite"], packages_of(params), below, platform.machine())
    return key, store.path(params["kind"], params["name"], key)


def present(module: AnsibleModule, store: ImageStore) -> dict[str, Any]:
    params = module.params
    key, path = path_of(store, params)
    changed = not store.complete(path)
    base = Path(params["base"]) if params["base"] else None
    if changed and not module.check_mode:
        if base is not None and not store.complete(base):
            raise NspawnError(f"base: {base} holds no finished image; build it first")
        changed = store.build(params["kind"], path, params["suite"], packages_of(params), base, params["shelf"])
    layers = [] if params["kind"] == "shelf" else store.layers(path)
    return {"changed": changed, "path": str(path), "layers": layers, "key": key}


def absent(module: AnsibleModule, store: ImageStore) -> dict[str, Any]:
    params = module.params
    if params["kind"] == "shelf":
        found = [path for path in [path_of(store, params)[1]] if path.is_dir()]
    else:
        pattern = re.compile(re.escape(params["name"]) + "-[0-9a-f]{12}")
        found = [path for path in sorted(store.cache.glob("images/*")) if pattern.fullmatch(path.name)]
    for path in found:
        if not module.check_mode:
            store.remove(path)
    return {"changed": bool(found), "removed": [str(path) for path in found]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "kind": {"type": "str", "choices": ["base", "layer", "shelf"], "default": "base"},
            "suite": {"type": "str", "default": "trixie"},
            "packages": {"type": "list", "elements": "str", "default": []},
            "base": {"type": "path"},
            "shelf": {"type": "path"},
            "cache": {"type": "path", "default": "/var/cache/holdfast"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    started = time.monotonic()
    needs_base = module.params["kind"] == "shelf" or (
        module.params["kind"] == "layer" and module.params["state"] == "present"
    )
    if needs_base and not (module.params["base"] and module.params["packages"]):
        module.fail_json(msg="a layer or a shelf needs packages, and base: the folder of the image below it")
    store = ImageStore(module.run_command, module.params["cache"])
    try:
        result = present(module, store) if module.params["state"] == "present" else absent(module, store)
    except (NspawnError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(seconds=round(time.monotonic() - started, 3), **result)


if __name__ == "__main__":
    main()
