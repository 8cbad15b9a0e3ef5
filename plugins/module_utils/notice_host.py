# SPDX-License-Identifier: Apache-2.0
"""What a host looks like that watches and mails: the mail's settings, a service, a timer. Pure; two modules carry it out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Dir, File, Unit, Wanted

SYSTEMD = "/etc/systemd/system"
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


class NoticeError(Exception):
    """Mail cannot be had as asked; the text lists every fault."""


@dataclass(frozen=True)
class Watcher:
    """A program that looks and mails. etc: folder of mail.json; state: the name of its folder below /var/lib.

    stays: it runs all the time and tells systemd that it is alive, instead of being started by a timer. secrets: further
    credentials, {name: path}.
    """

    unit: str
    title: str
    owner: str
    etc: str
    credential: str
    command: str
    state: str
    runtime: str
    capabilities: str
    also: Sequence[str] = ()
    stays: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict)

    @property
    def service(self) -> str:
        """Path of the service."""
        return f"{SYSTEMD}/{self.unit}.service"

    @property
    def timer(self) -> str:
        """Path of the timer."""
        return f"{SYSTEMD}/{self.unit}.timer"


def faults_of(mail: Mapping[str, Any], password: str | None) -> list[str]:
    """Everything that is wrong with the settings of mail, in words."""
    faults = []
    for key in ("relay", "practice_name"):
        if not str(mail.get(key) or "").strip() or re.search(r"[\r\n]", str(mail.get(key))):
            faults.append(f"mail.{key} {mail.get(key)!r}: expected one line of text")
    if not 0 < int(mail.get("port") or 0) < 65536:
        faults.append(f"mail.port {mail.get('port')!r}: expected a port, 1 to 65535")
    if not mail.get("to"):
        faults.append("mail.to is empty: nobody would be told")
    for address in [mail.get("sender"), *(mail.get("to") or [])]:
        if not _ADDRESS.fullmatch(str(address)):
            faults.append(f"mail address {address!r}: expected NAME@DOMAIN")
    if mail.get("user") and not password:
        faults.append(
            f"mail.user is {mail['user']}, and mail_password is empty: put the password that the mail provider gave into "
            "the vault as vault_mail_password (ansible-vault edit group_vars/all/vault.yml)"
        )
    return faults


def settings(mail: Mapping[str, Any], practice: str, host: str, timezone: str) -> dict[str, Any]:
    """Content of mail.json. mail: practice_name, relay, port, tls, sender, to, user, ca (PEM)."""
    return {
        "schema": 1,
        "practice": practice,
        "practice_name": mail["practice_name"],
        "host": host,
        "timezone": timezone,
        "relay": mail["relay"],
        "port": mail["port"],
        "tls": mail["tls"],
        "sender": mail["sender"],
        "to": list(mail["to"]),
        "user": mail.get("user") or None,
        "ca": bool(mail.get("ca")),
    }


def service_text(watcher: Watcher, login: bool) -> str:
    """Write the service. It reads, keeps its memory and speaks to the mail server; nothing else is open to it."""
    credential = [f"LoadCredential=mail-password:{watcher.credential}"] if login else []
    credential += [f"LoadCredential={name}:{path}" for name, path in sorted(watcher.secrets.items())]
    runs = (
        # five minutes without a word and it is started anew; handing over a mail may take one
        ["Type=notify", "Restart=always", "RestartSec=5", "WatchdogSec=300"]
        if watcher.stays
        else ["Type=oneshot", "TimeoutStartSec=300"]
    )
    install = ["[Install]", "WantedBy=multi-user.target", ""] if watcher.stays else []
    return "\n".join(
        [
            f"# Managed by Ansible (holdfast.practice.{watcher.owner})",
            "[Unit]",
            f"Description={watcher.title}",
            "Wants=network-online.target",
            "After=network-online.target time-sync.target",
            "# it is started again, however often",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            *runs,
            f"ExecStart={watcher.command}",
            f"SyslogIdentifier={watcher.unit}",
            *credential,
            "UMask=0077",
            "Nice=10",
            f"StateDirectory={watcher.state}",
            "StateDirectoryMode=0700",
            f"RuntimeDirectory={watcher.runtime}",
            "RuntimeDirectoryMode=0700",
            "RuntimeDirectoryPreserve=yes",
            f"CapabilityBoundingSet={watcher.capabilities}",
            *watcher.also,
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "PrivateTmp=yes",
            "PrivateDevices=yes",
            "ProtectKernelTunables=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelLogs=yes",
            "ProtectControlGroups=yes",
            "ProtectClock=yes",
            "ProtectHostname=yes",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
            "RestrictNamespaces=yes",
            "RestrictRealtime=yes",
            "RestrictSUIDSGID=yes",
            "LockPersonality=yes",
            "MemoryDenyWriteExecute=yes",
            "SystemCallArchitectures=native",
            "SystemCallFilter=@system-service",
            "SystemCallFilter=~@privileged @resources",
            "SystemCallErrorNumber=EPERM",
            "",
            *install,
        ]
    )


def timer_text(watcher: Watcher) -> str:
    """Write the timer: every quarter of an hour, at a moment of the host's own."""
    return "\n".join(
        [
            f"# Managed by Ansible (holdfast.practice.{watcher.owner})",
            "[Unit]",
            f"Description={watcher.title}, every quarter of an hour",
            "",
            "[Timer]",
            "OnCalendar=*:0/15",
            "RandomizedDelaySec=5min",
            "FixedRandomDelay=true",
            "AccuracySec=1min",
            "",
            "[Install]",
            "WantedBy=timers.target",
            "",
        ]
    )


def wanted(
    watcher: Watcher, mail: Mapping[str, Any] | None, practice: str, host: str, timezone: str, password: str | None
) -> Wanted:
    """Files and units of a watcher. Raises NoticeError with every fault of the settings. Without mail it tells the journal."""
    faults = faults_of(mail, password) if mail is not None else []
    if faults:
        raise NoticeError("; ".join(faults))
    told = mail or {}
    content = json.dumps(settings(mail, practice, host, timezone), indent=1, sort_keys=True) + "\n" if mail else None
    login = bool(told.get("user"))
    ca = told["ca"].strip().encode() + b"\n" if told.get("ca") else None
    files = [
        File(f"{watcher.etc}/mail.json", content.encode("ascii") if content else None, 0o600),
        File(f"{watcher.etc}/mail.pem", ca, 0o644),
        File(watcher.credential, (password or "").encode() + b"\n" if login else None, 0o600, secret=True),
        File(watcher.service, service_text(watcher, login).encode()),
    ]
    if watcher.stays:
        return Wanted([], files, [Unit(f"{watcher.unit}.service", True, True, tuple(item.path for item in files))])
    files.append(File(watcher.timer, timer_text(watcher).encode()))
    return Wanted([], files, [Unit(f"{watcher.unit}.timer", True, True, (watcher.timer,))])


def unwanted(watcher: Watcher, memory: str) -> Wanted:
    """The same, gone. memory: path of what the watcher remembers."""
    files = [
        File(f"{watcher.etc}/mail.json", None),
        File(f"{watcher.etc}/mail.pem", None),
        File(watcher.credential, None, secret=True),
        File(watcher.service, None),
        *([] if watcher.stays else [File(watcher.timer, None)]),
        File(memory, None),
    ]
    folder = memory.rsplit("/", 1)[0]
    if watcher.stays:
        return Wanted([Dir(folder, absent=True)], files, [Unit(f"{watcher.unit}.service", False, False)])
    units = [Unit(f"{watcher.unit}.service", None, False), Unit(f"{watcher.unit}.timer", False, False)]
    return Wanted([Dir(folder, absent=True)], files, units)
