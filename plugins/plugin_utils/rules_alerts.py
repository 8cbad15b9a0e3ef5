# SPDX-License-Identifier: Apache-2.0
"""What must hold for the ways out of a site: alerts that arrive when it burns, and controls that stay switched on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import Url, plain_address, url_host
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Mail
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import KeyPath, Problem, show
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View, valid

_SWITCHED_OFF = re.compile(
    r"StrictHostKeyChecking\s*[= ]\s*[\"']?(no|off|false|accept-new)\b"
    r"|(UserKnownHostsFile|GlobalKnownHostsFile)\s*[= ]\s*/dev/null"
    r"|--insecure\b|--no-check-certificate|--no-verify(-ssl)?\b|--skip-ssl",
    re.IGNORECASE,
)
_OFF, _ON = ("false", "no", "off", "0", "none", "ignore", "disabled", "optional"), ("true", "yes", "on", "1")
_OFF_KEYS = {
    **dict.fromkeys(("insecure", "insecure_tls", "tls_insecure", "skip_tls_verify", "no_verify", "no_verify_ssl"), _ON),
    **dict.fromkeys(("verify", "verify_tls", "tls_verify", "verify_ssl", "ssl_verify", "validate_certs"), _OFF),
    **dict.fromkeys(("cert_validation", "server_cert_validation", "host_key_checking", "stricthostkeychecking"), _OFF),
    "scheme": ("http",),
}
_WINRM_PLAIN = 5985
_PIN = "pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER"


def controls(view: View) -> Iterator[Problem]:
    """Refuse whatever switches the check of a key or certificate off, wherever it is written.

    Says more than "unknown key" or "expected https" at the same place, and instead of it.
    """
    for path, value in _leaves(view.document.data, ()):
        key = str(path[-1]).lower().replace("-", "_")
        text = str(value).lower()
        plain = value == _WINRM_PLAIN and "winrm" in "_".join(map(str, path[-2:]))
        if plain or text in _OFF_KEYS.get(key, ()) or (isinstance(value, str) and _SWITCHED_OFF.search(value)):
            got = f"got {show(value)}: this switches a control off"
            yield view.problem(path, got, "no such setting; it is not allowed", _PIN)


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
    alerts = view.document.data.get("alerts")
    if not isinstance(alerts, dict):
        return
    inside = {plain_address(host.address): name for name, host in view.hosts.items() if hasattr(host, "address")}
    inside |= {name: name for name in view.hosts} | {"localhost": "localhost"}
    mail, heartbeat = valid(Mail, alerts.get("mail")), valid(Url, alerts.get("heartbeat"))
    own_relay = inside.get(plain_address(mail.relay)) if mail else None
    own_beat = inside.get(plain_address(url_host(heartbeat))) if heartbeat else None
    if own_beat:
        got = f"got {show(heartbeat)}, which is {own_beat}, a machine of this site"
        yield view.problem(("alerts", "heartbeat"), got, "an address outside the site")
    if ("mail" in alerts and not mail) or ("heartbeat" in alerts and not heartbeat):
        return  # which is said elsewhere, and may be the way out
    if not (mail and not own_relay) and not (heartbeat and not own_beat):
        got = f"the only route is {own_relay}, a machine of this site" if own_relay else "there is no route"
        path: KeyPath = ("alerts", "mail", "relay") if own_relay else ("alerts",)
        fix = 'add heartbeat: "https://...", or a relay elsewhere'
        if not own_beat or own_relay:
            yield view.problem(path, got, "at least one alert route outside the site", fix, key=not own_relay)


def _published(view: View) -> Iterator[Problem]:
    evidence = view.document.data.get("evidence")
    publish = evidence.get("publish") if isinstance(evidence, dict) else None
    alerts = view.document.data.get("alerts")
    if isinstance(publish, dict) and "mail" in publish and not (isinstance(alerts, dict) and "mail" in alerts):
        got = "there is no alerts.mail, which says how mails are sent"
        fix = "add alerts: {mail: {relay: HOST, sender: ADDRESS}}"
        yield view.problem(("evidence", "publish", "mail"), got, "a way to send them", fix)


RULES = (_routes, _published)
