# SPDX-License-Identifier: Apache-2.0
"""RECOVERY.txt of a recovery kit: everything a stranger needs, as plain text to read in a terminal. Pure.

It is sealed with the kit, so it may hold secrets; the printed page is drawn by playbooks/templates/recovery_kit.html.j2.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.report_words import duration

_WIDTH = 100


def recovery_text(kit: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]) -> str:
    """Write the whole text. kit: recovery_kit.content(). secrets: by variable of the vault and name."""
    practice = kit["practice"]
    as_of = kit["as_of"]
    blocks = [
        f"RECOVERY KIT OF {practice['name'].upper()} ({practice['id']})",
        _wrapped(
            f"Made {as_of['made']} by Holdfast {kit['holdfast']} (commit {as_of['commit'] or 'unknown'}). This folder holds "
            "the passwords that open every backup of the practice. Keep it in memory (/dev/shm) or on an encrypted disk, and "
            "remove it afterwards."
        ),
        _section("WHAT IS IN THIS FOLDER", _folder(kit)),
        _section("WHOM TO CALL", [_contact(contact) for contact in kit["contacts"]]),
        _section("WHAT IS WHERE", _places(kit)),
        _section("IN WHICH ORDER TO RECOVER", _order(kit)),
        *(_section(f"STEP {step['number']}. {step['title']}", _parts(step["parts"])) for step in kit["steps"]),
        _section(f"STEP {len(kit['steps']) + 1}. Protect the practice again with Holdfast", _again(kit)),
        _section("TOOLS AND THEIR CHECKSUMS", _tools(kit["hosts"], kit["holdfast"], as_of["commit"])),
        _section("SECRETS", _secrets(secrets)),
        _section("WHAT IS NOT IN THIS KIT", [_NOT_IN_IT]),
    ]
    return "\n\n".join(blocks) + "\n"


_NOT_IN_IT = (
    "The key that signs the practice's evidence: recovering needs no signature, and whoever has it could forge evidence. The "
    "password of the vault, because it would open that key. Passwords of the UPS service, which are made anew. The practice's "
    "own passwords (Windows, software, e-mail), which Holdfast does not know."
)


def _folder(kit: Mapping[str, Any]) -> list[str]:
    return [
        "RECOVERY.txt                this text",
        "kit.json                    the same for programs",
        "repositories/HOST.env       what restic needs to open a host's repository; in a shell: . repositories/HOST.env",
        "certificates/NAS.pem .key   certificate of the backup server, and its private key",
        "practice.yml, evidence_signers, vault-in-clear.yml   to build the practice anew with Holdfast (last step)",
    ]


def _contact(contact: Mapping[str, Any]) -> str:
    agreement = contact.get("agreement") or {}
    parts = [contact["name"], contact.get("role"), contact.get("phone"), contact.get("email")]
    if agreement:
        parts.append(f"agreement {agreement['reference']}, reviewed {agreement['reviewed']}")
    return f"{contact['title']}: " + ", ".join(part for part in parts if part)


def _places(kit: Mapping[str, Any]) -> list[str]:
    lines = []
    for store in kit["stores"]:
        pool, certificate = store["pool"], store["certificate"]
        lines += [
            f"{store['host']} at {store['address']}: backups below {store['folder']}, served at {store['listen']}",
            f"  pool {pool['label']}, btrfs {pool['profile']}, mounted at {pool['mountpoint']}, on:",
            *(f"    {device}" for device in pool["devices"]),
            f"  certificate {certificate['file']}, valid to {certificate['expires']}, SHA-256",
            f"    {certificate['sha256']}",
        ]
    for row in kit["repositories"]:
        lines.append(
            f"repository of {row['host']}: {row['url']}  (on the disks: {row['path']}), id {_or_unknown(row['id'])}"
        )
    for name in kit["retired"]:
        lines.append(f"repository of {name}, which the practice no longer has: no account; only from the disks")
    for item in kit["items"]:
        database = item["database"]
        what = f"database {database.get('name') or database['path']} ({item['engine']})" if database else ""
        lines.append(
            f"{item['item']} of {item['host']}: {item['class']}, {item['schedule']}: "
            + "; ".join(part for part in (what, ", ".join(item["paths"])) if part)
        )
    lines += [
        f"host {host['host']}: {host['kind']} at {host['address']} {host['os']}".rstrip() for host in kit["hosts"]
    ]
    lines += [
        f"{ups['name']}: UPS attached to {ups['primary']}, feeds {', '.join(ups['feeds'])}, {duration(ups['runtime_s'])}"
        for ups in kit["ups"]
    ]
    return lines


def _order(kit: Mapping[str, Any]) -> list[str]:
    proofs = kit["as_of"]["proofs"]
    lines = []
    for step in kit["steps"]:
        proof = proofs.get(step.get("item"))
        took = f" (restored in {proof['restored_in']} at the proof of {proof['at'][:10]})" if proof else ""
        unproved = " (no proof on record)" if step.get("item") and not proof else ""
        lines.append(f"{step['number']}. {step['title']}{took}{unproved}")
    lines.append(f"{len(kit['steps']) + 1}. Protect the practice again with Holdfast")
    objective = kit["objectives"]
    lines.append("")
    lines.append(f"Agreed: at most {objective['rpo']} of work lost, working again after {objective['rto']}.")
    return lines


def _parts(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for part in parts:
        lines += [part["say"], *(f"    {command}" for command in part["commands"]), ""]
    return lines[:-1]


def _again(kit: Mapping[str, Any]) -> list[str]:
    practice = kit["practice"]["id"]
    folder = f"inventories/{practice}"
    return _parts(
        [
            {
                "say": f"Get Holdfast {kit['holdfast']} on a new control node, and run `make setup` in it. KIT is this folder. "
                "Give the hosts the addresses that practice.yml names, or correct it; put an SSH key that they know beside "
                "it where it names one, and pin their host keys in known_hosts (bin/holdfast pin).",
                "commands": [
                    f"mkdir -p {folder}/group_vars/all {folder}/certificates",
                    f'cp "$KIT"/practice.yml "$KIT"/evidence_signers {folder}/',
                    f'cp "$KIT"/certificates/*.pem {folder}/certificates/',
                    f'install -m 0600 "$KIT"/vault-in-clear.yml {folder}/group_vars/all/vault.yml',
                    f".venv/bin/ansible-vault encrypt --vault-id {practice}@prompt {folder}/group_vars/all/vault.yml",
                    f"bin/holdfast secrets {folder} --vault-password-file FILE   # makes what the kit does not hold",
                ],
            },
            {
                "say": "Repositories that are there are taken as they are, and no disk is formatted unless asked for. Do this "
                "when the data are back on the hosts, so that nothing empty is backed up.",
                "commands": [f"ansible-playbook -i {folder} --vault-id {practice}@prompt playbooks/site.yml"],
            },
        ]
    )


def _tools(hosts: Sequence[Mapping[str, Any]], version: str, commit: str) -> list[str]:
    lines = [f"Holdfast {version}, commit {commit or 'unknown'}"]
    for host in hosts:
        if host["kind"] == "restore_host":
            continue
        lines.append(
            f"{host['host']}: " + (f"{host['os']}, {host['machine']}" if host["seen"] else "has not been seen yet")
        )
        for program in host["programs"]:
            package = f"  (package {program['package']})" if program["package"] else ""
            lines.append(f"  {program['name']} {program['version']}  {program['path']}{package}")
            lines.append(f"    sha256 {program['sha256']}")
    return lines


def _secrets(secrets: Mapping[str, Mapping[str, str]]) -> list[str]:
    words = {
        "vault_repository_passwords": "password of the repository of",
        "vault_rest_passwords": "password of the account on the backup server of",
    }
    lines = [
        f"{what} {name}:\n    {value}" for variable, what in words.items() for name, value in secrets[variable].items()
    ]
    return [*lines, "private keys of certificates: certificates/*.key"]


def _or_unknown(value: Any) -> str:
    return str(value)[:8] if value else "not seen yet"


def _section(title: str, lines: Sequence[str]) -> str:
    shown = [line if line.startswith(" ") else _wrapped(line) for line in lines]
    return "\n".join([title, "-" * len(title), *shown])


def _wrapped(text: str) -> str:
    """Fold prose; commands and lines of several are left as they are."""
    if "\n" in text or "  " in text:
        return text
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
