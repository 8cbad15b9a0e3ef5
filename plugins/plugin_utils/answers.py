# SPDX-License-Identifier: Apache-2.0
"""What the interview asks for: its parts, their types, and what can be proposed. The values are those of the document."""

from __future__ import annotations

import importlib.resources
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import (
    AbsolutePath,
    Address,
    AskedEngine,
    Country,
    DatabaseName,
    Device,
    Driver,
    DriverPort,
    Email,
    HostId,
    Line,
    Name,
    Port,
    PracticeId,
    Several,
    Short,
    UserName,
    Zone,
    refuse,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Hours, Images, Part
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import show
from pydantic import BeforeValidator, Field

GENERATE, AGENT = "generate", "agent"


class Person(Part):
    """Somebody to turn to."""

    name: Line = Field(description="a name")
    email: Email = Field(description="a mail address such as manager@example.org")


class DatabaseAnswer(Part):
    """A database of the practice's software."""

    engine: AskedEngine = Field(description="a supported engine (postgresql, mariadb, sqlite, firebird, sqlserver)")
    name: DatabaseName | None = Field(default=None, description="the database's name, at most 63 characters")
    path: AbsolutePath | None = Field(
        default=None, description="the database's file, for engines that are one: an absolute path"
    )
    images: Images | None = Field(default=None, description="{query: select ..., root: /srv/...}")


class NasAnswer(Part):
    """The machine that keeps the backups."""

    name: HostId = Field(default="nas1", description="a host name: 1-63 characters a-z 0-9 -")
    address: Address = Field(description="an IPv4 or IPv6 address or a host name")
    ssh_port: Port = Field(default=22, description="a port, a whole number from 1 to 65535")
    disks: Annotated[list[Device], Several] = Field(
        description="a list of disks by a lasting name, such as [/dev/disk/by-id/ata-ONE, /dev/disk/by-id/ata-TWO]"
    )


_FOLDERS = "a list of absolute paths such as [/srv/clinic/documents]"


class WorkstationAnswer(Part):
    """A machine somebody sits at."""

    name: HostId = Field(description="a host name: 1-63 characters a-z 0-9 -")
    address: Address = Field(description="an IPv4 or IPv6 address or a host name")
    ssh_port: Port = Field(default=22, description="a port, a whole number from 1 to 65535")
    folders: Annotated[list[AbsolutePath], Several] | None = Field(default=None, description=_FOLDERS)


class ServerAnswer(WorkstationAnswer):
    """A machine that serves others."""

    databases: Annotated[list[DatabaseAnswer], Several] | None = Field(
        default=None, description="a list of databases such as [{engine: postgresql, name: clinic}]"
    )


class UpsAnswer(Part):
    """A battery and what hangs on it."""

    name: HostId | None = Field(default=None, description="a name: 1-63 characters a-z 0-9 -")
    driver: Driver = Field(description="a NUT driver such as usbhid-ups or snmp-ups")
    port: DriverPort | None = Field(default=None, description="the driver's port: auto, a device or an address")
    attached_to: Name | None = Field(
        default=None, description="the host that the UPS's data cable goes to; left out: the NAS"
    )
    feeds: Annotated[list[Name], Several] | None = Field(
        default=None, description="a list of hosts such as [nas1, server1]; left out: every machine"
    )
    runtime: Short = Field(description="how long the battery carries everything, such as 10m")


_KEY = "generate, agent, or the path of a private key file"


def _key(value: Any) -> Any:
    """Accept what can stand for an SSH key: a word, or a file that holds a private key."""
    if not isinstance(value, str) or not value.strip():
        raise refuse(_KEY)
    if value in (GENERATE, AGENT):
        return value
    path = Path(value).expanduser()
    if not path.is_file():
        raise refuse(_KEY, got=f"got {show(value)}, where there is no file")
    try:
        text = path.read_text("ascii", "replace")
    except OSError as error:
        raise refuse(_KEY, got=f"{show(value)} cannot be read: {error.strerror}") from None
    if not re.match(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n", text):
        public = text.startswith(("ssh-", "ecdsa-", "sk-"))
        fix = f"write {value.removesuffix('.pub')}" if public and value.endswith(".pub") else ""
        got = f"got {show(value)}, which is {'the public half' if public else 'not a private key'}"
        raise refuse(_KEY, fix, got)
    return value


class AccessAnswer(Part):
    """How this machine logs in."""

    user: UserName = Field(default="root", description="a user name such as root")
    key: Annotated[str, BeforeValidator(_key)] = Field(default=GENERATE, description=_KEY)


class Answers(Part):
    """What the interview asks for."""

    name: Line = Field(description="the name of the practice, one line of at most 255 characters")
    id: PracticeId | None = Field(
        default=None, description="an id such as harbour-street: 1-63 characters a-z 0-9 -; left out: the folder's name"
    )
    country: Country = Field(description='a country code of two capital letters in quotes, such as "AU"')
    timezone: Zone | None = Field(default=None, description="an IANA region zone such as Australia/Perth")
    manager: Person = Field(description="who answers for backups in the practice: {name, email}")
    provider: Person | None = Field(default=None, description="the IT provider: {name, email}")
    hours: Hours | None = Field(
        default=None, description='opening hours such as mon-fri: "08:00-18:30" or sat: "09:00-12:00"'
    )
    nas: NasAnswer = Field(description="{address: ADDRESS, disks: [/dev/disk/by-id/..., /dev/disk/by-id/...]}")
    servers: Annotated[list[ServerAnswer], Several] | None = Field(
        default=None, description="a list of servers: {name, address, databases: [{engine, name}], folders: [...]}"
    )
    workstations: Annotated[list[WorkstationAnswer], Several] | None = Field(
        default=None, description="a list of workstations: {name, address, folders: [...]}"
    )
    ups: Annotated[list[UpsAnswer], Several] | None = Field(
        default=None, description="a list of UPSs: {driver, attached_to, feeds: [HOST], runtime: 10m}"
    )
    access: AccessAnswer = Field(default_factory=AccessAnswer, description="{user: root, key: generate}")


# --- proposals ------------------------------------------------------------------------------------------------------


@cache
def zones(country: str) -> tuple[str, ...]:
    """Give a country's time zones as the time zone database lists them; nothing when that table is not here."""
    for table in (importlib.resources.files("tzdata") / "zoneinfo/zone.tab", Path("/usr/share/zoneinfo/zone.tab")):
        if table.is_file():
            rows = (line.split("\t") for line in table.read_text("utf-8").splitlines() if not line.startswith("#"))
            return tuple(row[2].strip() for row in rows if row[0] == country)
    return ()


# Where most people of a country with several zones live
_LARGEST = {
    "AR": "America/Argentina/Buenos_Aires",
    "AU": "Australia/Sydney",
    "BR": "America/Sao_Paulo",
    "CA": "America/Toronto",
    "CL": "America/Santiago",
    "CN": "Asia/Shanghai",
    "DE": "Europe/Berlin",
    "ES": "Europe/Madrid",
    "ID": "Asia/Jakarta",
    "MX": "America/Mexico_City",
    "MY": "Asia/Kuala_Lumpur",
    "NZ": "Pacific/Auckland",
    "PT": "Europe/Lisbon",
    "US": "America/New_York",
}


def only_zone(country: str) -> str:
    """Give the zone of a country that has but one."""
    known = zones(country)
    return known[0] if len(known) == 1 else ""


def likely_zone(country: str, here: str = "") -> str:
    """Propose a zone: the only one, this machine's own when it is one of the country's, else where most people live."""
    return only_zone(country) or (here if here in zones(country) else _LARGEST.get(country, ""))


def slug(text: str, joint: str = "-", limit: int = 63) -> str:
    """Make a name of a text: small letters, digits and joints."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", joint, plain).strip(joint)[:limit].strip(joint)
