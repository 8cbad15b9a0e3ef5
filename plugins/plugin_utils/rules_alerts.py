# SPDX-License-Identifier: Apache-2.0
"""What must hold for the ways out of a site: alerts that arrive when it burns, and controls that stay switched on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.source import KeyPath, Problem, show, value_at
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View, mapping

_SWITCHED_OFF = {
    "stricthostkeychecking": r"StrictHostKeyChecking\s*[= ]\s*(no|off|false|accept-new)",
    "userknownhostsfile": r"UserKnownHostsFile\s*[= ]\s*/dev/null",
    "insecure": r"--insecure-(tls|no-password)|--no-check-certificate|--no-verify(-upload|-ssl)?\b",
}
_OFF_KEYS = {
    "insecure_tls": (True, "yes"),
    "insecure": (True, "yes"),
    "validate_certs": (False, "no"),
    "verify_tls": (False, "no"),
    "tls_verify": (False, "no"),
    "verify": (False, "no"),
    "host_key_checking": (False, "no"),
    "cert_validation": ("ignore",),
    "scheme": ("http",),
}
_PIN = "pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER"


def _controls(view: View) -> Iterator[Problem]:
    """Refuse whatever switches the check of a key or certificate off, wherever it is written."""
    for path, value in _leaves(view.document.data, ()):
        key = str(path[-1]).lower() if path else ""
        text = value if isinstance(value, str) else ""
        off = (
            key in _OFF_KEYS
            and value in _OFF_KEYS[key]
            and not (isinstance(value, int) and not isinstance(value, bool))
        )
        if off or any(re.search(pattern, text, re.IGNORECASE) for pattern in _SWITCHED_OFF.values()):
            yield view.problem(
                path, f"got {show(value)}: this switches a control off", "no such setting; it is not allowed", _PIN
            )


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _routes(view: View) -> Iterator[Problem]:
    alerts = mapping(view.document.data.get("alerts"))
    if not alerts:
        return
    relay = value_at(alerts, ("mail", "relay"))
    inside = {name: getattr(host, "address", None) for name, host in view.hosts.items()}
    own = next((name for name, address in inside.items() if relay and relay in (name, address)), None)
    if not alerts.get("heartbeat") and (relay is None or own):
        got = f"the only route is {own}, a machine of this site" if own else "there is no route"
        expected = "at least one alert route outside the site"
        path: KeyPath = ("alerts", "mail", "relay") if own else ("alerts",)
        yield view.problem(path, got, expected, "add heartbeat: https://..., or a relay elsewhere", key=not own)


RULES = (_controls, _routes)
