# SPDX-License-Identifier: Apache-2.0
"""What a practice's recovery kit holds: what is where, in which order to recover, with which tools, and the secrets. Pure.

content() is everything that may be printed; members() adds the secrets and gives the files that are sealed. The page that
is printed is drawn from content() alone, so it cannot show a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from ansible_collections.holdfast.practice.plugins.module_utils.agent_job import stored_oracle
from ansible_collections.holdfast.practice.plugins.module_utils.nas_repository import FOLDER
from ansible_collections.holdfast.practice.plugins.plugin_utils.compiler import Inventory, Template
from ansible_collections.holdfast.practice.plugins.plugin_utils.recovery_kit_steps import steps
from ansible_collections.holdfast.practice.plugins.plugin_utils.recovery_kit_text import recovery_text
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_words import duration
from cryptography import x509
from cryptography.hazmat.primitives import hashes

FORMAT = 1
REPOSITORY_PASSWORDS, REST_PASSWORDS, TLS_KEYS = "vault_repository_passwords", "vault_rest_passwords", "vault_tls_keys"
# The vault's other secrets stay out. Whoever has the evidence key can forge evidence, and recovering needs no signature;
# passwords of the UPS are made anew by bin/holdfast secrets; the vault's own password would open the evidence key.
SECRETS = (REPOSITORY_PASSWORDS, REST_PASSWORDS, TLS_KEYS)
CLASSES = ("critical", "sensitive", "ordinary")
TITLES = {"backup_owner": "Backup owner", "it_provider": "IT provider", "software_vendor": "Software vendor"}
MAKE_KEY = (
    "the owner runs `age-keygen -o holdfast-owner.key` on a machine of their own, keeps that file away from the practice and "
    "its provider, and gives the line that begins with age1"
)


class KitError(Exception):
    """No kit can be made; the text says what is missing and what to do. It never holds a secret."""


@dataclass(frozen=True)
class Sources:
    """What a kit is made of.

    secrets: the parts of the vault named in SECRETS. facts: by host, as recovery_facts gathers them. records, ledger: the
    verified evidence (see report_sources.read_ledger).
    """

    inventory: Inventory
    document: str
    signers: str
    secrets: Mapping[str, Mapping[str, str]]
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    records: Sequence[Mapping[str, Any]] = ()
    ledger: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    commit: str = ""
    made: str = ""


def recipients(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Say who can open the kit: every contact with a key, [{role, name, recipient}]. Raises KitError when nobody can."""
    contacts = summary.get("contacts") or {}
    found = [
        {"role": role, "name": contact["name"], "recipient": contact["recipient"]}
        for role, contact in contacts.items()
        if contact.get("recipient")
    ]
    if not found:
        raise KitError(
            "nobody could open the kit: practice.yml has no contacts.backup_owner.recipient. Add the public key of the "
            f"practice's backup owner there (recipient: age1...). To get one, {MAKE_KEY}."
        )
    return found


def check_whole(inventory: Inventory, secrets: Mapping[str, Mapping[str, str]], signers: str) -> None:
    """Raise KitError unless every secret and key is there that a recovery needs."""
    agents, stores = inventory.groups["agents"], inventory.groups["nas"]
    wanted = {REPOSITORY_PASSWORDS: agents, REST_PASSWORDS: agents, TLS_KEYS: stores}
    missing = [
        f"{variable}[{name}]"
        for variable, names in wanted.items()
        for name in names
        if not (secrets.get(variable) or {}).get(name)
    ]
    missing += [
        f"certificates/{name}.pem" for name in stores if isinstance(_var(inventory, name, "certificate"), Template)
    ]
    missing += [] if signers else ["evidence_signers"]
    if missing:
        raise KitError(
            f"the practice's folder lacks {', '.join(missing)}; make what is missing with: bin/holdfast secrets "
            f"{inventory.all_vars['practice_folder']}"
        )


def _var(inventory: Inventory, nas: str, name: str) -> Any:
    return inventory.host_vars[nas][f"nas_repository_{name}"]


# --- content ---------------------------------------------------------------------------------------------------------


def content(sources: Sources) -> dict[str, Any]:
    """Give everything that may be printed; no secret in it.

    What only tells of the moment (date, last proofs, head of the evidence, commit) is below "as_of": a kit is not made anew
    for it. Raises KitError when nobody could open the kit or something is missing.
    """
    inventory = sources.inventory
    summary = inventory.all_vars["practice_summary"]
    readers = recipients(summary)
    check_whole(inventory, sources.secrets, sources.signers)
    stores = [_store(sources, name) for name in inventory.groups["nas"]]
    repositories = [_repository(sources, name, stores) for name in inventory.groups["agents"]]
    proofs = last_proofs(sources.records)
    items = _items(sources, repositories)
    known = {str(row["host"]) for row in repositories}
    return {
        "format": FORMAT,
        "practice": summary["practice"],
        "folder": f"recovery-{summary['practice']['id']}",
        "contacts": [
            {"title": TITLES.get(role, role), **contact} for role, contact in (summary.get("contacts") or {}).items()
        ],
        "recipients": readers,
        "objectives": {
            "rpo": duration(summary["objectives"]["rpo_s"]),
            "rto": duration(summary["objectives"]["rto_s"]),
        },
        "stores": stores,
        "repositories": repositories,
        "retired": sorted(set(sources.secrets[REPOSITORY_PASSWORDS]) - known),
        "items": items,
        "steps": steps(stores, repositories, items),
        "hosts": [_host(sources, name, host) for name, host in summary["hosts"].items()],
        "ups": [
            {"name": name, "primary": ups["primary"], "feeds": list(ups["feeds"]), "runtime_s": ups["runtime_s"]}
            for name, ups in (summary.get("power") or {}).items()
        ],
        "holdfast": sources.version,
        "as_of": {
            "made": sources.made,
            "commit": sources.commit,
            "proofs": {name: proofs[name] for name in (str(item["item"]) for item in items) if name in proofs},
            "evidence": {"records": sources.ledger.get("count") or 0, "head": sources.ledger.get("head") or ""},
        },
    }


def fingerprint_of_certificate(pem: str) -> tuple[str, str]:
    """SHA-256 of a certificate as openssl and browsers show it, and the day it ends."""
    certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper(), certificate.not_valid_after_utc.date().isoformat()


def _store(sources: Sources, name: str) -> dict[str, Any]:
    variables = sources.inventory.host_vars[name]
    pool = variables["nas_storage_pool"]
    try:
        sha256, expires = fingerprint_of_certificate(variables["nas_repository_certificate"])
    except ValueError:
        raise KitError(f"certificates/{name}.pem is not a certificate in PEM; put the right one back") from None
    return {
        "host": name,
        "address": variables["ansible_host"],
        "user": variables["ansible_user"],
        "listen": variables["nas_repository_listen"],
        "pool": {**pool, "devices": list(pool["devices"])},
        "folder": f"{pool['mountpoint']}/{FOLDER}",
        "certificate": {"file": f"certificates/{name}.pem", "sha256": sha256, "expires": expires},
    }


def _repository(sources: Sources, host: str, stores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    summary = sources.inventory.all_vars["practice_summary"]
    repository = sources.inventory.host_vars[host]["backup_agent_repository"]
    store = next(store for store in stores if store["host"] == summary["copies"]["onsite"]["on"])
    return {
        "host": host,
        "nas": store["host"],
        "url": repository["url"],
        "username": repository["username"],
        "certificate": store["certificate"]["file"],
        "path": f"{store['folder']}/{repository['username']}",
        "id": (sources.facts.get(host) or {}).get("repository_id"),
    }


def _items(sources: Sources, repositories: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give every item of every host, in the order to recover.

    Servers before workstations, then by class, then databases before files, then as the document has them.
    """
    summary = sources.inventory.all_vars["practice_summary"]
    rows = []
    for repository in repositories:
        host = str(repository["host"])
        for job in sources.inventory.host_vars[host]["backup_agent_jobs"]:
            item = summary["items"][job["item"]]
            database = job.get("database")
            images = (database or {}).get("images")
            engines = (sources.facts.get(host) or {}).get("engines") or {}
            rows.append(
                {
                    "item": job["item"],
                    "job": job["name"],
                    "host": host,
                    "workstation": summary["hosts"][host]["kind"] == "workstation",
                    "class": item["class"],
                    "schedule": item["schedule"],
                    "paths": [*job["paths"], *([images["root"]] if images else [])],
                    "must_have": list(job["must_have"]),
                    "database": {
                        **({"name": database["dump"][0]} if database.get("dump") else {}),
                        **{key: database[key] for key in ("engine", "name", "path") if database.get(key)},
                    }
                    if database
                    else None,
                    "engine": engines.get(job["name"]) or (database["engine"] if database else ""),
                    "oracle": stored_oracle(job["name"]),
                }
            )
    return sorted(rows, key=lambda row: (row["workstation"], CLASSES.index(row["class"]), not row["database"]))


def _host(sources: Sources, name: str, host: Mapping[str, Any]) -> dict[str, Any]:
    facts = sources.facts.get(name) or {}
    return {
        "host": name,
        "kind": host["kind"],
        "address": host["address"] or "localhost",
        "os": facts.get("os") or "",
        "machine": facts.get("machine") or "",
        "programs": [dict(program) for program in facts.get("programs") or []],
        "seen": bool(facts),
    }


def last_proofs(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give the newest proof of each item's newest run that passed: {item: {at, restore_s, restored_in, bytes}}."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        for row in record["body"].get("items") or [] if record["kind"] == "proof" else []:
            if row.get("verdict") == "PASS" and row.get("which", "newest") == "newest":
                figures = row.get("figures") or {}
                seconds = figures.get("restore_s")
                found[str(row.get("item"))] = {
                    "at": str(record["at"]),
                    "restore_s": seconds,
                    "restored_in": duration(seconds) if seconds is not None else "",
                    "bytes": figures.get("bytes"),
                }
    return found


def listing(printed: Mapping[str, Any]) -> str:
    """Say in a few lines what a kit is about, to compare two of them."""
    lines = [f"reader {each['name']} {each['recipient']}" for each in printed["recipients"]]
    lines += [f"{contact['title']}: {contact['name']} {contact['email']}" for contact in printed["contacts"]]
    for store in printed["stores"]:
        lines.append(f"storage {store['host']} {store['address']} {' '.join(store['pool']['devices'])}")
        lines.append(f"certificate {store['host']} {store['certificate']['sha256']}")
    lines += [f"repository {row['host']} {row['url']} {row['id'] or 'not seen yet'}" for row in printed["repositories"]]
    lines += [f"repository {name} (no longer in the practice)" for name in printed["retired"]]
    lines += [f"step {step['number']}: {step['title']}" for step in printed["steps"]]
    for host in printed["hosts"]:
        lines.append(f"host {host['host']} {host['address']} {host['os']}".rstrip())
        lines += [f"  {tool['name']} {tool['version']} {tool['sha256']}" for tool in host["programs"]]
    lines.append(f"Holdfast {printed['holdfast']}")
    return "\n".join(lines) + "\n"


# --- what is sealed --------------------------------------------------------------------------------------------------


def members(sources: Sources, printed: Mapping[str, Any]) -> dict[str, bytes]:
    """Give the files of the kit, by their names below its folder. This is where the secrets come in."""
    secrets = {variable: dict(sources.secrets[variable]) for variable in SECRETS}
    whole = {**printed, "secrets": secrets}
    files = {
        "RECOVERY.txt": recovery_text(printed, secrets).encode(),
        "kit.json": (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode(),
        "practice.yml": sources.document.encode(),
        "evidence_signers": sources.signers.encode(),
        "vault-in-clear.yml": _vault(printed["practice"]["id"], secrets).encode(),
    }
    for store in printed["stores"]:
        name = store["host"]
        files[f"certificates/{name}.pem"] = _var(sources.inventory, name, "certificate").encode("ascii")
        files[f"certificates/{name}.key"] = secrets[TLS_KEYS][name].encode("ascii")
    for row in printed["repositories"]:
        files[f"repositories/{row['host']}.env"] = _environment(row, secrets).encode()
    return files


def _vault(practice: str, secrets: Mapping[str, Mapping[str, str]]) -> str:
    head = "# The practice's vault, in clear and without the evidence key. RECOVERY.txt says how it becomes a vault again.\n"
    return head + yaml.safe_dump({"vault_practice_id": practice, **secrets}, sort_keys=False, allow_unicode=True)


def _environment(row: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]) -> str:
    values = {
        "RESTIC_REPOSITORY": row["url"],
        "RESTIC_PASSWORD": secrets[REPOSITORY_PASSWORDS][row["host"]],
        "RESTIC_REST_USERNAME": row["username"],
        "RESTIC_REST_PASSWORD": secrets[REST_PASSWORDS][row["host"]],
    }
    lines = [f"# The repository of {row['host']}. In a shell: . repositories/{row['host']}.env"]
    return "\n".join([*lines, *(f"export {name}={shlex.quote(value)}" for name, value in values.items()), ""])


def fingerprint(
    files: Mapping[str, bytes], printed: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]
) -> str:
    """Give a keyed hash by which the next run knows that nothing changed. Its key is made of the secrets: it reveals nothing.

    Left out is what is only true as of the moment.
    """
    key = hashlib.blake2b(json.dumps(secrets, sort_keys=True).encode(), person=b"holdfast kit").digest()
    lasting = {name: value for name, value in printed.items() if name != "as_of"}
    beside = {name: text for name, text in files.items() if name not in ("RECOVERY.txt", "kit.json")}
    mac = hmac.new(key, json.dumps(lasting, sort_keys=True).encode(), hashlib.sha256)
    for name in sorted(beside):
        mac.update(json.dumps([name, hashlib.sha256(beside[name]).hexdigest()]).encode())
    return mac.hexdigest()
