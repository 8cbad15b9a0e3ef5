# SPDX-License-Identifier: Apache-2.0
"""Turn a checked practice into what each host needs: groups and role variables. Pure: no files, no clock, no network.

The same document gives the same bytes: order follows the document, and what is spread (minutes of timers) is derived from
names. The compiler is the only place that knows both the document and the roles' variables.
"""

from __future__ import annotations

import hashlib
import ipaddress
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import (
    CONTROL_NODE,
    DAY_S,
    SSH_PORT,
    bits_per_s,
    is_windows,
    seconds,
    size_bytes,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import (
    FINALDELAY_S,
    Application,
    Database,
    Item,
    Nas,
    Practice,
    RestoreHost,
    Retired,
    Server,
    Tripwires,
    Ups,
    Workstation,
    interval_s,
    schedule,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.proofs import EVERY_S, portions, turn, turns_needed
from ansible_collections.holdfast.practice.plugins.plugin_utils.rules_items import hides
from ansible_collections.holdfast.practice.plugins.plugin_utils.shutdown import (
    Budget,
    Stop,
    budget,
    deputy,
    patience_s,
    stops,
    units,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import (
    DAY_MIN,
    STAGGER_MIN,
    clock,
    minutes,
    usual_time,
    winter_offset_min,
)

GROUPS = (
    *("nas", "agents", "servers", "workstations", "restore_hosts", "power", "power_primary", "power_secondary"),
    "ups_watchers",
)
POOL_MOUNT = "/srv/holdfast"
SELF_TEST = "selftest"  # who may begin a battery's test, and nothing else
SPREAD_S = 300
TIME_LIMIT_S = 7200
CANARY = "Holdfast - please leave this file alone.pdf"
LATE_S = 3600  # what a run may be behind its schedule before anybody is told; covers the hour that clocks go back
RESTORE_ROOT = "/var/lib/holdfast/restore"
# As the engines themselves say (a test compares); importing all of them would cost each start of Ansible a tenth more.
RESTORE_PACKAGES = {
    "postgresql": ("postgresql-17",),
    "mariadb": ("mariadb-server",),
    "sqlite": ("python3",),
    "firebird": ("firebird4.0-server", "firebird4.0-utils"),
    "command": (),
    "pickup": (),
}
# Of a vendor's backup file: a nightly one, with two hours to spare
MAX_AGE, MIN_SIZE, WAIT = "26h", "1MiB", "10m"
PROVE_BY_CLASS = {"critical": "daily", "sensitive": "weekly", "ordinary": "weekly"}


class Template(str):
    """A string that Ansible is to template when it is used; every other string of the inventory is plain data."""

    __slots__ = ()


@dataclass(frozen=True)
class Inventory:
    """What Ansible needs to know: hosts of each group, and variables of all hosts and of each."""

    groups: dict[str, list[str]] = field(default_factory=dict)
    all_vars: dict[str, Any] = field(default_factory=dict)
    host_vars: dict[str, dict[str, Any]] = field(default_factory=dict)


def compile_practice(
    practice: Practice, folder: str, certificates: Mapping[str, str], measured: Mapping[str, Stop] | None = None
) -> Inventory:
    """Compile a practice.

    folder: the absolute path of the practice's folder. certificates: PEM text of each NAS that has one; for a NAS without,
    the variables hold a template that says how to make one, and fails only the play that needs it. measured: how long
    machines took to stop, which counts where it is longer than the document says.
    """
    return _Compiler(practice, folder, certificates, measured or {}).inventory()


def bracketed(address: str) -> str:
    """Write an address as it stands in a URL or before a port: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def stable_minute(*names: str) -> int:
    """Give a minute from 0 to 54 that depends on the names alone, so that hosts do not all begin at once."""
    digest = hashlib.blake2b("/".join(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % STAGGER_MIN


def calendar(item: Item, usual: str, zone: str, *names: str) -> list[str]:
    """Give systemd's OnCalendar expressions for an item; usual as in schedule(). Intervals begin at midnight in winter.

    An item without a time of its own starts within the usual hour, at a minute that its names decide.
    """
    every, at = schedule(item, usual)
    if at and not item.at:
        at = clock(minutes(at) + stable_minute(*names))
    if at:
        days = f"{item.days.title().replace('-', '..')} " if item.days else ""
        return [f"{days}*-*-* {at}:00 {zone}"]
    # In UTC: where clocks change, an interval would be an hour longer one night and shorter another
    length = seconds(every or "24h") // 60
    first = (stable_minute(*names) - winter_offset_min(zone)) % length
    hours = "*" if length == 60 else f"{first // 60:02d}" + (f"/{length // 60}" if length < DAY_MIN else "")
    return [f"*-*-* {hours}:{first % 60:02d}:00 UTC"]


def proof_intervals(practice: Practice) -> dict[str, str]:
    """Say how often each item's restore is proven (daily, weekly, monthly); left out: critical daily, the rest weekly."""
    said = practice.prove or {}
    return {name: said.get(name, PROVE_BY_CLASS[item.class_]) for name, item in practice.protect.items()}


def time_limit_s(item: Item) -> int:
    """Give the seconds after which a run is ended: two hours where none are said, but no longer than the next is due."""
    every = schedule(item, "")[0]
    return seconds(item.time_limit) if item.time_limit else min(TIME_LIMIT_S, seconds(every) if every else DAY_S)


def vaulted(variable: str, name: str) -> Template:
    """Give the template of one secret of the practice's vault."""
    return Template(f"{{{{ {variable}['{name}'] }}}}")


def ups_secrets(practice: Practice) -> dict[str, list[str]]:
    """Name the secret settings of each UPS that has any."""
    return {name: list(ups.vault_settings) for name, ups in (practice.power or {}).items() if ups.vault_settings}


class _Compiler:
    def __init__(
        self, practice: Practice, folder: str, certificates: Mapping[str, str], measured: Mapping[str, Stop]
    ) -> None:
        self.practice = practice
        self.id = practice.practice.id
        self.zone = practice.practice.timezone
        self.folder = folder
        self.certificates = certificates
        self.hosts = practice.hosts
        self.power = practice.power or {}
        self.stops = stops(practice.hosts, measured)
        self.gone = practice.retired or {}
        self.managed = {name: host for name, host in self.hosts.items() if not isinstance(host, RestoreHost)}
        self.agents: dict[str, list[str]] = {
            name: host.protect
            for name, host in self.hosts.items()
            if isinstance(host, (Server, Workstation)) and host.protect
        }
        self.store = practice.copies.onsite.on
        self.usual = usual_time(practice.hours, practice.practice.timezone)

    def inventory(self) -> Inventory:
        primaries = {ups.attached_to for ups in self.power.values()}
        fed = [name for name in self.managed if any(name in ups.feeds for ups in self.power.values())]
        kinds = {name: host.kind for name, host in self.hosts.items()}
        groups = {
            "nas": [name for name in self.hosts if kinds[name] == "nas"],
            "agents": list(self.agents),
            "servers": [name for name in self.hosts if kinds[name] == "server"],
            "workstations": [name for name in self.hosts if kinds[name] == "workstation"],
            "restore_hosts": [name for name in self.hosts if kinds[name] == "restore_host"],
            "power": fed,
            "power_primary": [name for name in fed if name in primaries],
            "power_secondary": [name for name in fed if name not in primaries],
            "ups_watchers": [name for name in fed if self.watched(name)],
        }
        host_vars = {name: self.host(name) for name in self.hosts}
        for name in fed:
            host_vars[name].update(self.powered(name, name in primaries))
            host_vars[name].update(self.watching(name))
        return Inventory(groups, self.everywhere(), host_vars)

    def everywhere(self) -> dict[str, Any]:
        return {
            "practice_id": self.id,
            "practice_name": self.practice.practice.name,
            "practice_timezone": self.zone,
            "practice_folder": self.folder,
            "practice_evidence_dir": f"{self.folder}/evidence",
            "practice_report_dir": f"{self.folder}/reports",
            "practice_results_dir": f"{self.folder}/results",
            "practice_summary": self.summary(),
            **self.mail_everywhere(),
            **({"practice_ups_secrets": secrets} if (secrets := ups_secrets(self.practice)) else {}),
            "practice_evidence_places": self.places(),
            "practice_retired": {name: self.retired(host) for name, host in self.gone.items()},
        }

    def mail_everywhere(self) -> dict[str, Any]:
        mail = self.practice.alerts.mail if self.practice.alerts else None
        facts = {"practice_mail_user": mail.user, "practice_mail_ca": mail.ca} if mail else {}
        return {key: value for key, value in facts.items() if value}

    def places(self) -> dict[str, Any]:
        """Say where heads of the evidence are published: a file on every NAS, and what the document adds to it."""
        publish = self.practice.evidence.publish if self.practice.evidence else None
        places: dict[str, Any] = {"mountpoint": POOL_MOUNT, "nas_folder": f"{POOL_MOUNT}/evidence"}
        if publish and publish.folder:
            places["folder"] = publish.folder
        mail = self.mail()
        if publish and publish.mail and mail:
            login = {"password": Template("{{ vault_mail_password }}")} if "user" in mail else {}
            places["mail"] = {**mail, "to": list(publish.mail), **login}
        return places

    def retired(self, host: Retired) -> dict[str, Any]:
        """Give what retire_host.yml needs to know of a host that is no part of the inventory any more."""
        shared = [each for each, known in self.hosts.items() if getattr(known, "address", None) == host.address]
        return {
            "date": host.date,
            "keep_until": host.keep_until,
            "nas": self.store,
            "connection": self.connection(host.address, host.ssh_port) if host.address else {},
            "replaced_by": shared[0] if host.address and shared else None,
        }

    def summary(self) -> dict[str, Any]:
        """Give what reports tell about the practice: times in seconds, no secrets.

        {practice: {id, name, country, timezone}, contacts: {ROLE: {name, role?, email}}, hours: {DAYS: WINDOW},
        objectives: {rpo_s, rto_s, rto_offsite_s, proven_s}, line: {down_bits_per_s} or {}, hosts: {NAME: {kind, address}},
        items: {NAME: {hosts, class, engine, schedule, interval_s, prove, levels}}, copies: {onsite: {on}},
        retention: {within: {NAME: DURATION}},
        power: {UPS: {primary, feeds, runtime_s}}}
        """
        practice = self.practice
        proofs = proof_intervals(practice)
        items = {}
        for name, item in practice.protect.items():
            every, at = schedule(item, self.usual)
            items[name] = {
                "hosts": [host for host, names in self.agents.items() if name in names],
                "class": item.class_,
                "engine": item.database.engine if item.database else None,
                "schedule": _schedule_words(item, every, at),
                "interval_s": interval_s(item),
                "prove": proofs[name],
                "levels": levels(item),
            }
        objectives = practice.objectives
        return {
            "practice": practice.practice.model_dump(exclude_none=True),
            "contacts": practice.contacts.model_dump(exclude_none=True),
            "hours": dict(practice.hours or {}),
            "objectives": {
                "rpo_s": seconds(objectives.rpo),
                "rto_s": seconds(objectives.rto),
                "rto_offsite_s": seconds(objectives.rto_offsite or objectives.rto),
                "proven_s": seconds(objectives.proven),
            },
            "line": {"down_bits_per_s": bits_per_s(practice.line.down)} if practice.line else {},
            "hosts": {
                name: {"kind": host.kind, "address": getattr(host, "address", None)}
                for name, host in self.hosts.items()
            },
            "items": items,
            "copies": {"onsite": {"on": self.store}},
            "retention": {"within": practice.retention.within.model_dump(exclude_none=True)},
            "power": {
                name: {
                    "primary": ups.attached_to,
                    "feeds": list(ups.feeds),
                    "runtime_s": seconds(ups.runtime),
                    "budget": self.budget(name).figures(),
                }
                for name, ups in self.power.items()
            },
        }

    def budget(self, ups: str) -> Budget:
        return budget(ups, self.power, self.stops)

    def host(self, name: str) -> dict[str, Any]:
        host = self.hosts[name]
        if isinstance(host, RestoreHost):
            return self.restore_host(name, host)
        variables = self.connection(host.address, host.ssh_port)
        if isinstance(host, Nas):
            variables.update(self.nas(name, host))
        elif name in self.agents:
            variables.update(self.agent(name))
        return variables

    def connection(self, address: str, port: int) -> dict[str, Any]:
        access = self.practice.access
        # ssh splits this option at spaces unless quoted, and expands %; Ansible splits the whole as a shell would
        known_hosts = f"{self.folder}/known_hosts".replace("%", "%%")
        options = [f'UserKnownHostsFile="{known_hosts}"', "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes"]
        digest = hashlib.blake2b(self.folder.encode(), digest_size=4).hexdigest()
        variables: dict[str, Any] = {
            "ansible_host": address,
            "ansible_user": access.user,
            "ansible_python_interpreter": "/usr/bin/python3",
            # Two practices may use equal addresses: a shared ssh control socket would send one's commands to the other.
            "ansible_control_path_dir": f"~/.ansible/cp/{digest}",
        }
        if port != SSH_PORT:
            variables["ansible_port"] = port
        if access.key:
            variables["ansible_ssh_private_key_file"] = f"{self.folder}/{access.key}"
            options.append("IdentitiesOnly=yes")
        if access.user != "root":
            variables["ansible_become"] = True
        variables["ansible_ssh_common_args"] = " ".join(f"-o {shlex.quote(option)}" for option in options)
        return variables

    def certificate(self, nas: str) -> str:
        if nas in self.certificates:
            return self.certificates[nas]
        hint = (
            f"certificates/{nas}.pem is missing beside practice.yml; make it with: bin/holdfast secrets PRACTICE_FOLDER"
        )
        return Template("{{ undef(hint='" + hint + "') }}")

    def nas(self, name: str, host: Nas) -> dict[str, Any]:
        accounts = []
        for agent in self.agents if name == self.store else ():
            account: dict[str, Any] = {
                "name": agent,
                "password_hash": Template(
                    f"{{{{ vault_rest_passwords['{agent}'] | holdfast.practice.bcrypt_hash('{self.id}/{agent}') }}}}"
                ),
            }
            quota = getattr(self.hosts[agent], "quota", None)
            if quota:
                account["quota"] = quota
            accounts.append(account)
        return {
            "nas_storage_practice": self.id,
            "nas_storage_host": name,
            "nas_storage_pool": {
                "label": f"holdfast-{name}",
                "profile": host.pool.profile,
                "devices": list(host.pool.devices),
                "mountpoint": POOL_MOUNT,
            },
            "nas_repository_practice": self.id,
            "nas_repository_host": name,
            "nas_repository_root": POOL_MOUNT,
            "nas_repository_listen": f"{bracketed(host.address)}:{host.repository_port}",
            "nas_repository_certificate": self.certificate(name),
            "nas_repository_key": vaulted("vault_tls_keys", name),
            "nas_repository_accounts": accounts,
            "nas_repository_retired": {
                gone: {"date": host.date, "keep_until": host.keep_until} for gone, host in self.gone.items()
            },
            "nas_watch_practice": self.id,
            "nas_watch_host": name,
            "nas_watch_root": POOL_MOUNT,
            "nas_watch_timezone": self.zone,
            "nas_watch_hosts": self.silences() if name == self.store else [],
            **self.mailing("nas_watch"),
        }

    def recipients(self) -> list[str]:
        """Name who is told: the practice's and the provider's people, and whoever the document adds."""
        contacts, mail = self.practice.contacts, self.practice.alerts and self.practice.alerts.mail
        people = [contacts.backup_owner, contacts.it_provider]
        found: dict[str, str] = {}
        for address in [person.email for person in people if person] + ((mail.to if mail else None) or []):
            found.setdefault(address.lower(), address)
        return list(found.values())

    def mail(self) -> dict[str, Any] | None:
        """Give what a role needs to send mail, without the password; None when nobody is told."""
        mail = self.practice.alerts.mail if self.practice.alerts else None
        if not mail:
            return None
        settings: dict[str, Any] = {
            "practice_name": self.practice.practice.name,
            "relay": mail.relay,
            "port": mail.port,
            "tls": mail.tls,
            "sender": mail.sender,
            "to": self.recipients(),
        }
        if mail.user:
            settings["user"] = mail.user
        if mail.ca:
            settings["ca"] = Template("{{ lookup('ansible.builtin.file', practice_folder ~ '/' ~ practice_mail_ca) }}")
        return settings

    def mailing(self, role: str) -> dict[str, Any]:
        """Give a role's variables for mail; none when nobody is told."""
        settings = self.mail()
        if not settings:
            return {}
        login = {f"{role}_mail_password": Template("{{ vault_mail_password }}")} if "user" in settings else {}
        return {f"{role}_mail": settings, **login}

    def silences(self) -> list[dict[str, Any]]:
        """Say for each host with a repository how long the NAS waits for something new from it, in seconds."""
        found = []
        for name, items in self.agents.items():
            may_be_off = getattr(self.hosts[name], "may_be_off")  # noqa: B009
            shortest = min(self.deadline_s(self.practice.protect[item]) for item in items)
            found.append({"name": name, "silent_after_s": shortest + (seconds(may_be_off) if may_be_off else 0)})
        return found

    def deadline_s(self, item: Item) -> int:
        """Give how long after a good backup of an item the next one is late."""
        return interval_s(item) + time_limit_s(item) + SPREAD_S + LATE_S

    def repository(self, agent: str) -> dict[str, Any]:
        store = self.hosts[self.store]
        assert isinstance(store, Nas)
        return {
            "url": f"rest:https://{bracketed(store.address)}:{store.repository_port}/{agent}/",
            "username": agent,
            "certificate": self.certificate(self.store),
        }

    def restic(self) -> dict[str, Any]:
        own = self.practice.programs.restic if self.practice.programs else None
        if not own:
            return {}
        place = {"file": f"{self.folder}/{own.file}"} if own.file else {"url": own.url}
        return {"backup_agent_restic": {**place, "sha256": own.sha256}}

    def agent(self, name: str) -> dict[str, Any]:
        return {
            **self.restic(),
            "backup_agent_practice": self.id,
            "backup_agent_host": name,
            "backup_agent_timezone": self.zone,
            "backup_agent_repository": self.repository(name),
            "backup_agent_repository_password": vaulted("vault_repository_passwords", name),
            "backup_agent_rest_password": vaulted("vault_rest_passwords", name),
            "backup_agent_jobs": [self.job(name, item) for item in self.agents[name]],
            **self.mailing("backup_agent"),
        }

    def job(self, host: str, name: str) -> dict[str, Any]:
        item = self.practice.protect[name]
        job: dict[str, Any] = {
            "name": name,
            "item": name,
            "class": item.class_,
            "calendar": calendar(item, self.usual, self.zone, self.id, host, name),
            "spread_s": SPREAD_S,
            "time_limit_s": time_limit_s(item),
            "deadline_s": self.deadline_s(item),
        }
        if item.database:
            job["database"] = {"engine": item.database.engine, **_source(item.database)}
            if item.images:
                job["database"]["images"] = {"query": item.images.query, "root": item.images.root}
            if item.probes:
                job["database"]["probes"] = dict(item.probes)
        job.update(
            paths=list(item.paths or []),
            exclude=list(item.exclude or []),
            must_have=list(item.must_have or []),
            min_files=item.min_files,
        )
        if item.hooks:
            hooks = {"before": item.hooks.before, "after": item.hooks.after, "on_failure": item.hooks.on_failure}
            job["hooks"] = {
                phase: {"run": list(hook.run), "limit_s": seconds(hook.limit), "user": hook.user}
                for phase, hook in hooks.items()
                if hook
            }
        fed = {ups_name: ups for ups_name, ups in self.power.items() if host in ups.feeds}
        if fed:
            job["power"] = self.supplies(host, fed)
        if item.min_size:
            job["min_size"] = size_bytes(item.min_size)
        if item.mounts is not None:
            job["mounts"] = list(item.mounts)
        if item.paths or item.images:
            job["tripwires"] = _tripwires(item)
        job.update(self.hours_of(item))
        if item.database:
            limit = seconds(item.dump_limit) if item.dump_limit else job["time_limit_s"] * 9 // 10
            job["dump_limit_s"] = limit
        if isinstance(self.hosts[host], Workstation):
            job["stay_awake"] = True
        return job

    def hours_of(self, item: Item) -> dict[str, Any]:
        """Give what a job says of its hours, rates and priority; nothing for what is as usual."""
        found: dict[str, Any] = {}
        if item.window:
            found.update(window=item.window, at_window_end=item.at_window_end)
        if item.throttle_to:
            found["throttle"] = bits_per_s(item.throttle_to)
        if item.limits:
            found["limits"] = {window: bits_per_s(rate) for window, rate in item.limits.items()}
        for key in ("nice", "io_class"):
            if key in item.model_fields_set:
                found[key] = getattr(item, key)
        return found

    def supplies(self, host: str, fed: Mapping[str, Ups]) -> dict[str, Any]:
        """Give what the agent asks before and during a run; the same machines as the host's upsmon asks."""
        addresses = {name: self.monitor(host, name, ups)["address"] for name, ups in fed.items()}
        return {
            "monitors": [f"{name}@{bracketed(address)}" for name, address in addresses.items()],
            "min_supplies": getattr(self.hosts[host], "min_supplies"),  # noqa: B009
        }

    def powered(self, name: str, primary: bool) -> dict[str, Any]:
        own = {ups_name: ups for ups_name, ups in self.power.items() if ups.attached_to == name}
        variables: dict[str, Any] = {
            "power_practice": self.id,
            "power_host": name,
            "power_role": "primary" if primary else "secondary",
            "power_monitors": [
                self.monitor(name, ups_name, ups) for ups_name, ups in self.power.items() if name in ups.feeds
            ],
            "power_min_supplies": getattr(self.hosts[name], "min_supplies"),  # noqa: B009
            "power_hostsync_s": patience_s(name, self.power, self.stops),
            "power_finaldelay_s": FINALDELAY_S,
            **self.stopping(name),
        }
        if primary:
            others = [host for host in self.managed if host != name and any(host in ups.feeds for ups in own.values())]
            peers = [getattr(self.hosts[host], "address") for host in others]  # noqa: B009
            # a firewall knows no names, and must not keep out the one host that has only that
            variables["power_peers"] = peers if all(is_ip(address) for address in peers) else []
            variables["power_standalone"] = not others
            wake = [getattr(self.hosts[host], "wake") for host in others]  # noqa: B009
            variables["power_wake"] = [address.lower() for address in wake if address]
            variables["power_ups"] = [self.ups(ups_name, ups) for ups_name, ups in own.items()]
            own_address = getattr(self.hosts[name], "address")  # noqa: B009
            variables["power_listen"] = ["127.0.0.1", own_address] if others else ["127.0.0.1"]
            variables["power_users"] = self.power_users(name, own)
        return variables

    def stopping(self, name: str) -> dict[str, Any]:
        """Give what a host's units may take to stop, and their order."""
        host = self.hosts[name]
        plan = units(host, [self.practice.protect[item] for item in self.agents.get(name, ())])
        ordered = plan.applications and plan.databases
        return {
            "power_applications": list(plan.applications),
            "power_databases": list(plan.databases),
            "power_stop_units": [{"units": list(plan.applications), "before": list(plan.databases)}] if ordered else [],
            "power_unit_stop_s": dict(plan.limits),
            "power_stop_s": seconds(getattr(host, "stop_time")),  # noqa: B009
        }

    def watched(self, name: str) -> list[str]:
        """Name the UPSs that a host watches: those wired to it, and those whose primary it stands in for."""
        kinds = {host: known.kind for host, known in self.hosts.items()}
        return [each for each, ups in self.power.items() if name in (ups.attached_to, deputy(ups, kinds))]

    def watching(self, name: str) -> dict[str, Any]:
        watched = self.watched(name)
        if not watched:
            return {}
        return {
            "ups_watch_practice": self.id,
            "ups_watch_host": name,
            "ups_watch_timezone": self.zone,
            "ups_watch_hours": dict(self.practice.hours or {}),
            "ups_watch_upses": [self.watched_ups(name, each) for each in watched],
            **self.mailing("ups_watch"),
            **(
                {"ups_watch_test_password": vaulted("vault_nut_passwords", SELF_TEST)}
                if any(self.power[each].self_test for each in watched if self.power[each].attached_to == name)
                else {}
            ),
        }

    def watched_ups(self, host: str, name: str) -> dict[str, Any]:
        ups, plan = self.power[name], self.budget(name)
        return {
            "name": name,
            "address": self.monitor(host, name, ups)["address"],
            "primary": ups.attached_to,
            "deputy": ups.attached_to != host,
            "feeds": {fed: getattr(self.hosts[fed], "address") for fed in ups.feeds},  # noqa: B009
            "may_be_off": [fed for fed in ups.feeds if getattr(self.hosts[fed], "may_be_off", None)],
            "runtime_s": plan.runtime_s,
            "low_s": plan.low_s,
            "need": plan.need(),
            "self_test_every_s": seconds(ups.self_test) if ups.self_test and ups.attached_to == host else None,
            "battery": ups.battery.model_dump() if ups.battery else None,
        }

    def ups(self, name: str, ups: Ups) -> dict[str, Any]:
        dummy = ups.driver == "dummy-ups"
        settings: dict[str, Any] = {"mode": "dummy-once"} if dummy else {}
        if low := self.budget(name).low_s:
            # Holdfast's own threshold instead of the UPS's, which knows nothing of what hangs on it
            settings |= {"ignorelb": True, "override.battery.runtime.low": str(low)}
        return {
            "name": name,
            "driver": ups.driver,
            "port": ups.port or (f"{name}.dev" if dummy else "auto"),
            "description": ups.description or f"{name} of {self.practice.practice.name}",
            "settings": {**settings, **(ups.settings or {})},
            **(
                {"secrets": {key: vaulted(f"vault_ups_secrets['{name}']", key) for key in ups.vault_settings}}
                if ups.vault_settings
                else {}
            ),
            "runtime_s": seconds(ups.runtime),
        }

    def power_users(self, primary: str, own: Mapping[str, Ups]) -> list[dict[str, Any]]:
        fed = [name for name in self.managed if any(name in ups.feeds for ups in own.values())]
        users: list[dict[str, Any]] = [
            {
                "name": name,
                "role": "primary" if name == primary else "secondary",
                "password": vaulted("vault_nut_passwords", name),
            }
            for name in fed
        ]
        if any(ups.self_test for ups in own.values()):
            users.append(
                {
                    "name": SELF_TEST,
                    "instcmds": ["test.battery.start", "test.battery.start.quick"],
                    "password": vaulted("vault_nut_passwords", SELF_TEST),
                }
            )
        if any(ups.driver == "dummy-ups" for ups in own.values()):
            # Only a simulated UPS lets a drill set its state
            users.append({"name": "drill", "actions": ["SET"], "password": vaulted("vault_nut_passwords", "drill")})
        return users

    def monitor(self, host: str, name: str, ups: Ups) -> dict[str, Any]:
        primary = ups.attached_to == host
        return {
            "ups": name,
            "address": "127.0.0.1" if primary else getattr(self.hosts[ups.attached_to], "address"),  # noqa: B009
            "user": host,
            "password": vaulted("vault_nut_passwords", host),
            "power_value": 1,
            "type": "primary" if primary else "secondary",
        }

    def read_from(self) -> list[dict[str, Any]]:
        """Give where restic reads backups: all that a machine which is cut off may still reach."""
        return [
            {"address": host.address, "port": port}
            for host in self.hosts.values()
            if isinstance(host, Nas)
            # and where maintenance is let in
            for port in (host.repository_port, host.repository_port + 1)
        ]

    def restore_host(self, name: str, host: RestoreHost) -> dict[str, Any]:
        databases = [item.database for item in self.practice.protect.values() if item.database]
        engines = {database.engine for database in databases}
        # what the checks of vendors' dumps need is for each item to say
        checks = [package for database in databases for package in database.packages or ()]
        software = [each.application for each in self.practice.protect.values() if each.application]
        checks += [package for each in software for package in each.packages or ()]
        objectives = self.practice.objectives
        proofs = proof_intervals(self.practice)
        within = {
            kind: seconds(reach) for kind, reach in self.practice.retention.within.model_dump(exclude_none=True).items()
        }
        here = {
            "ansible_connection": "local",
            "ansible_python_interpreter": Template("{{ ansible_playbook_python }}"),
        }
        return {
            **(here if host.on == CONTROL_NODE else self.connection(host.on, host.ssh_port)),
            "restore_host_practice": self.id,
            "restore_host_name": name,
            "restore_host_driver": host.driver,
            # age: a break-glass rehearsal opens the recovery kit there
            "restore_host_packages": [
                "age",
                *dict.fromkeys([*(each for engine in sorted(engines) for each in RESTORE_PACKAGES[engine]), *checks]),
                "restic",
            ],
            "restore_host_root": RESTORE_ROOT,
            "restore_host_store": host.store,
            "restore_host_size": size_bytes(host.space) if host.space else 0,
            "restore_host_spare_nas": self.read_from() if host.driver == "spare" else [],
            "restore_verify_items": [
                {
                    "item": item_name,
                    "job": item_name,
                    "host": agent,
                    "copy": "onsite",
                    "repository": self.repository(agent),
                    "rpo_s": seconds(objectives.rpo),
                    "rto_s": seconds(objectives.rto),
                    **({"engine": item.database.engine} if item.database else {}),
                    "levels": levels(item),
                    **({"application": _application(item.application)} if item.application else {}),
                }
                for agent, names in self.agents.items()
                for item_name, item in ((each, self.practice.protect[each]) for each in names)
            ],
            "restore_verify_reading": {
                agent: {
                    "within_s": seconds(objectives.read_within),
                    "portions": portions(seconds(objectives.read_within), [proofs[each] for each in names]),
                }
                for agent, names in self.agents.items()
            },
            "restore_verify_turns": {item: turn(often, self.id, item) for item, often in proofs.items()},
            "restore_verify_rules": {"within": within, "proven_s": seconds(objectives.proven)},
            "restore_verify_older": {
                item: turns_needed(within, seconds(objectives.proven), EVERY_S[often]) for item, often in proofs.items()
            },
            "restore_verify_credentials": {
                agent: {
                    "repository_password": vaulted("vault_repository_passwords", agent),
                    "rest_password": vaulted("vault_rest_passwords", agent),
                }
                for agent in self.agents
            },
        }


def _tripwires(item: Item) -> dict[str, Any]:
    """Settings of the tripwires; one canary in each folder where none is named and no exclude pattern hides it."""
    wires = item.tripwires or Tripwires()
    canaries = wires.canaries
    if canaries is None:
        laid = [f"{path}/{CANARY}" for path in item.paths or [] if not is_windows(path)]
        canaries = [path for path in laid if not any(hides(pattern, path) for pattern in item.exclude or [])]
    shares = {name: getattr(wires, name) for name in ("least", "magic", "entropy", "rename", "change")}
    off = wires.disable or []
    return {"canaries": list(canaries if "canary" not in off else []), "disable": list(off), **shares}


def _application(software: Application) -> dict[str, Any]:
    """Say how a copy of the practice's software is brought up and asked; what a question leaves out is left out."""
    return {
        "needs": list(software.needs or []),
        **({"owner": software.owner} if software.owner else {}),
        "units": list(software.units or []),
        "limit_s": seconds(software.limit),
        "ask": {name: question.model_dump(exclude_none=True) for name, question in software.ask.items()},
    }


def _source(database: Database) -> dict[str, Any]:
    """Say what of a database a job needs to know, without its engine. The defaults of pickup are here."""
    found: dict[str, Any] = {
        key: getattr(database, key) for key in ("name", "path", "dump", "user", "end_marker", "pattern")
    }
    if database.engine == "pickup":
        found |= {
            "max_age_s": seconds(database.max_age or MAX_AGE),
            "min_size": size_bytes(database.min_size or MIN_SIZE),
            "wait_s": seconds(database.wait or WAIT),
        }
    found["check"] = database.check
    return {key: list(each) if isinstance(each, list) else each for key, each in found.items() if each is not None}


def _schedule_words(item: Item, every: str | None, at: str | None) -> str:
    if every:
        return f"every {every}"
    if not item.at:
        return f"from {at}"
    return f"{item.days} at {at}" if item.days else f"at {at}"


def levels(item: Item) -> list[str]:
    """Name the levels of a proof that apply to an item."""
    files = item.database is None or item.images
    return [
        *("arrival", "structure"),
        *(["files"] if files else []),
        *(["database"] if item.database else []),
        *(["application"] if item.application else []),
    ]


def is_ip(address: str) -> bool:
    """Say whether an address is an IP address rather than a host name."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
