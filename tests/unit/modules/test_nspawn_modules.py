# SPDX-License-Identifier: Apache-2.0
"""The nspawn modules' faces: what they refuse, and that a dry run runs dry."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.holdfast.practice.plugins.modules import nspawn_image, nspawn_machine


def run(module, capsys, **args):
    with patch_module_args(args), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        (nspawn_image, {"name": "restore", "kind": "layer", "packages": ["restic"]}, "the image below it"),
        (nspawn_image, {"name": "lab", "kind": "shelf", "base": "/x"}, "needs packages"),
        (nspawn_machine, {"name": "nas1", "folder": "/a/b"}, "at least one image folder"),
        (nspawn_machine, {"name": "Nas", "folder": "/a/b", "layers": ["/l"]}, "is no host name"),
        (
            nspawn_machine,
            {"name": "nas1", "folder": "/a/b", "layers": ["/l"], "disks": [{"name": "d", "size": "big"}]},
            "look like 2GiB",
        ),
    ],
)
def test_refusals(module, args, message, capsys):
    result = run(module, capsys, **args)
    assert result["failed"]
    assert message in result["msg"]


def test_check_mode_names_an_image_and_builds_nothing(tmp_path, capsys):
    base = run(nspawn_image, capsys, name="base", cache=str(tmp_path / "cache"), _ansible_check_mode=True)
    assert base["changed"]
    assert base["layers"] == [base["path"] + "/root"]
    layer = run(
        nspawn_image,
        capsys,
        name="restore",
        kind="layer",
        base=base["path"],
        packages=["restic"],
        cache=str(tmp_path / "cache"),
        _ansible_check_mode=True,
    )
    assert layer["changed"]
    assert not (tmp_path / "cache").exists()


def test_a_layer_on_an_unfinished_image_is_refused(tmp_path, capsys):
    args = {"name": "restore", "kind": "layer", "packages": ["restic"], "base": str(tmp_path / "images/base-1")}
    assert "holds no finished image" in run(nspawn_image, capsys, cache=str(tmp_path), **args)["msg"]


def test_absent_removes_every_build_of_a_name_and_no_other(tmp_path, capsys):
    for name in ("restore-0123456789ab", "restore-ba9876543210", "restore-own-0123456789ab", "base-0123456789ab"):
        (tmp_path / "images" / name).mkdir(parents=True)
    args = {"name": "restore", "kind": "layer", "state": "absent", "cache": str(tmp_path)}
    assert run(nspawn_image, capsys, **args)["changed"]
    left = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert left == ["base-0123456789ab", "restore-own-0123456789ab"]
    assert not run(nspawn_image, capsys, **args)["changed"]
