# SPDX-License-Identifier: Apache-2.0
"""What a practice document may say: its parts, their types and defaults.

Field descriptions are what the error messages call "expected". What must hold between the parts is in rules.py; check.py
takes a document through both.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from ansible_collections.holdfast.practice.plugins.plugin_utils.source import did_you_mean, nearest, show
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

IN_QUOTES = "write it in quotes"
NOT_AVAILABLE = "not available in this version"
# Names that would collide with Ansible's groups, or with the power drill's own account
RESERVED_HOSTS = (
    *("all", "ungrouped", "localhost", "nas", "agents", "servers", "workstations", "power"),
    *("drill", "monitor"),
)
ENGINES = ("postgresql",)
ENGINES_LATER = ("mariadb", "mysql", "sqlite", "firebird", "sqlserver", "mssql", "oracle")
UPS_DRIVERS = frozenset(
    """
    adelsystem_cbi apc_modbus apcsmart apcsmart-old apcupsd-ups bcmxcp bcmxcp_usb belkin belkinunv bestfcom bestfortress
    bestuferrups bestups bicker_ser blazer_ser blazer_usb dummy-ups etapro everups gamatronic generic_modbus
    huawei-ups2000 hwmon_ina219 isbmex ivtscd liebert liebert-esp2 masterguard metasys mge-shut mge-utalk microdowell
    microsol-apc netxml-ups nutdrv_atcl_usb nutdrv_hashx nutdrv_qx nutdrv_siemens_sitop oneac optiups
    phoenixcontact_modbus pijuice powercom powerpanel rhino richcomm_usb riello_ser riello_usb safenet snmp-ups
    socomec_jbus solis tripplite tripplite_usb tripplitesu upscode2 usbhid-ups victronups
    """.split()  # noqa: SIM905  (a paragraph reads better than sixty quoted words)
)
_REGIONS = ("Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400, "y": 365 * 86400}
_SIZES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# Time the chain of a shutdown takes beyond the machines' own work: NUT's HOSTSYNC and FINALDELAY, and the slowest stop
HOSTSYNC_S, FINALDELAY_S, SLOWEST_STOP_S = 15, 5, 180
DAY_S = 86400


def seconds(duration: str) -> int:
    """Turn a checked duration (24h, 35d, 6mo) into seconds; a month counts 30 days, a year 365."""
    found = re.fullmatch(r"(\d+)([a-z]+)", duration)
    if not found:
        raise ValueError(duration)
    return int(found[1]) * _UNITS[found[2]]


# --- leaves ---------------------------------------------------------------------------------------------------------


def _refuse(expected: str = "", fix: str = "", got: str = "", leaf: str = "") -> PydanticCustomError:
    """Make an error; expected beats the field's description, which beats leaf."""
    return PydanticCustomError("holdfast", "refused", {"expected": expected, "fix": fix, "got": got, "leaf": leaf})


def _text(check: Callable[[str], None] | None = None, limit: int = 4096, expected: str = "") -> tuple[Any, ...]:
    """Validators for a string leaf: only strings, not empty, of bounded length, then the leaf's own check.

    expected is for leaves in lists and mappings, where the field's description speaks of the whole.
    """

    def before(value: Any) -> Any:
        if not isinstance(value, str):
            raise _refuse(fix=_fix_for_type(value, check), leaf=expected)
        if not value.strip():
            raise _refuse(got="got an empty text", leaf=expected)
        if len(value) > limit:
            raise _refuse(f"at most {limit} characters", got=f"got a text of {len(value)} characters")
        if check:
            try:
                check(value)
            except PydanticCustomError as error:
                said = error.context or {}
                raise _refuse(said["expected"], said["fix"], said["got"], leaf=expected) from None
        return value

    return (BeforeValidator(before),)


def _fix_for_type(value: Any, check: Callable[[str], None] | None) -> str:
    if isinstance(value, list):
        return "write one value, without [ ] or -"
    if isinstance(value, (bool, int, float)):
        try:
            if check:
                check(str(value))
        except PydanticCustomError:
            return ""  # in quotes it would be wrong as well
        return IN_QUOTES
    return ""


def _one_line(value: str) -> None:
    if "\n" in value or "\r" in value:
        raise _refuse(got="got a text of several lines", expected="one line")


_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ITEM = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")


def _named(pattern: re.Pattern[str], allowed: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if not pattern.fullmatch(value):
            better = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63].strip("-")
            fix = f"write {better}" if pattern.fullmatch(better) else ""
            raise _refuse(f"1-63 characters {allowed}, beginning and ending with a letter or digit", fix)

    return check


def _host_name(value: str) -> None:
    _named(_ID, "a-z 0-9 -")(value)
    if value in RESERVED_HOSTS:
        raise _refuse("a name that is not used otherwise", f"write {value}-1", f"the name {show(value)} is reserved")


def _zone(value: str) -> None:
    expected = "an IANA region zone such as Australia/Perth"
    try:
        if value.split("/")[0] in _REGIONS and "/" in value:
            ZoneInfo(value)
            return
    except (OSError, ValueError, KeyError) as error:
        if not available_timezones():
            fix = "install tzdata"
            raise _refuse("a time zone database", fix, "this machine has no time zone database") from error
    zones = [z for z in available_timezones() if z.split("/")[0] in _REGIONS]
    cities = {z.rsplit("/", 1)[-1]: z for z in sorted(zones)}
    near = nearest(value, zones)
    if not near and len(value) > 4:  # shorter ones are mostly fixed offsets such as EST
        near = cities.get(nearest(value.rsplit("/", 1)[-1].replace(" ", "_"), cities), "")
    raise _refuse(expected, f'did you mean "{near}"?' if near else "a fixed offset such as EST or GMT+10 is not one")


def _duration(*units: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        found = re.fullmatch(r"([0-9]{1,6})([a-z]+)", value)
        if not found or found[2] not in units or int(found[1]) == 0:
            raise _refuse()

    return check


def _clock(value: str) -> None:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
        raise _refuse()


def _window(value: str) -> None:
    found = re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]", value)
    if not found:
        raise _refuse()
    start, end = value.split("-")
    if start == end:
        raise _refuse(got=f"the window {show(value)} is empty", fix="leave the day out when the practice is closed")
    if start > end:
        raise _refuse(got=f"the window {show(value)} ends before it begins")


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _days(value: str) -> None:
    parts = value.split("-")
    known = all(part in _DAYS for part in parts)
    if not known or len(parts) > 2 or (len(parts) == 2 and _DAYS.index(parts[0]) >= _DAYS.index(parts[1])):
        raise _refuse()


def _country(value: str) -> None:
    if not re.fullmatch(r"[A-Z]{2}", value):
        raise _refuse(fix=f'write "{value.upper()}"' if re.fullmatch(r"[A-Za-z]{2}", value) else "")


def _email(value: str) -> None:
    if not re.fullmatch(r"[^\s@<>(),;:\"\\]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", value):
        raise _refuse()


_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def _address(value: str) -> None:
    if value.count("/") == 1 and re.fullmatch(r"[0-9a-fA-F.:]+/[0-9]+", value):
        raise _refuse(fix=f'write "{value.split("/")[0]}": a host has one address, not a network')
    if value.startswith("[") or (":" not in value.replace(":", "", 1) and ":" in value):
        raise _refuse(fix="write the address alone, without brackets and port")
    try:
        ip = ipaddress.ip_address(value)
    except ValueError:
        if re.fullmatch(r"[0-9.]+", value) or ":" in value:
            fix = "each part is 0-255 without leading zeros" if "." in value else ""
            raise _refuse(got=f"{show(value)} is not an IP address", fix=fix) from None
        if len(value) > 253 or not all(_LABEL.fullmatch(label) for label in value.split(".")):
            raise _refuse() from None
        return
    if ip.is_unspecified or ip.is_multicast or ip.is_loopback:
        raise _refuse(got=f"{show(value)} is not the address of a host in the practice's network")
    if isinstance(ip, ipaddress.IPv6Address) and ip.is_link_local and not ip.scope_id:
        raise _refuse(fix=f'write "{value}%INTERFACE": a link-local address needs its interface')


def _absolute(value: str) -> None:
    _one_line(value)
    if not value.startswith("/"):
        fix = "Windows paths are not available in this version" if re.match(r"[A-Za-z]:[\\/]", value) else ""
        raise _refuse(fix=fix)
    parts = [part for part in value.split("/") if part]
    if ".." in parts or "." in parts:
        raise _refuse(got=f"got {show(value)}, which goes through .. or .")
    if not parts:
        raise _refuse(got='got "/", the whole machine', fix="write the folders that hold the practice's data")
    if parts[0] in ("proc", "sys", "dev", "run"):
        raise _refuse(got=f"got {show(value)}, which holds no files but the kernel's view of the machine")
    if parts[:2] == ["srv", "holdfast"] or parts[:3] == ["var", "lib", "holdfast"]:
        raise _refuse(got=f"got {show(value)}, where Holdfast keeps the backups themselves")


def _device(value: str) -> None:
    if not re.fullmatch(r"/dev/[A-Za-z0-9_./:+@-]+", value) or ".." in value.split("/"):
        raise _refuse()


def _beside(value: str) -> None:
    _one_line(value)
    if value.startswith(("/", "~")) or ".." in value.split("/"):
        raise _refuse()


def _size(value: str) -> None:
    found = re.fullmatch(r"([1-9][0-9]{0,8})(KiB|MiB|GiB|TiB)", value)
    if not found:
        decimal = re.fullmatch(r"([1-9][0-9]{0,8}) ?([kKMGT])i?[bB]?", value)
        raise _refuse(fix=f'write "{decimal[1]}{decimal[2].upper()}iB"' if decimal else "")


def _sql(value: str) -> None:
    if not re.match(r"\s*(select|with)\b", value, re.IGNORECASE):
        raise _refuse()
    if ";" in value.rstrip().rstrip(";"):
        raise _refuse(got="got more than one statement")


def _engine(value: str) -> None:
    if value in ENGINES:
        return
    expected = "postgresql"
    if value.lower() in ENGINES_LATER:
        raise _refuse(expected, got=f"the engine {show(value)} is {NOT_AVAILABLE}")
    known = [*ENGINES, *ENGINES_LATER]
    fix = did_you_mean(value, known) or did_you_mean(re.sub(r"[^a-z]", "", value.lower()), known)
    raise _refuse(f"a supported engine ({expected})", fix, f"got {show(value)} (string), an unknown engine")


def _driver(value: str) -> None:
    if value not in UPS_DRIVERS:
        raise _refuse(fix=did_you_mean(value, UPS_DRIVERS))


def _user(value: str) -> None:
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", value):
        raise _refuse()


def _setting(value: str) -> None:
    _one_line(value)
    if '"' in value:
        raise _refuse("a value without double quotes")


def _later(value: Any) -> Any:
    raise _refuse("a document without it", "leave it out", NOT_AVAILABLE)


def _choice(*choices: str, later: tuple[str, ...] = ()) -> tuple[Any, ...]:
    expected = ", ".join(choices[:-1]) + (" or " if len(choices) > 1 else "") + choices[-1]

    def check(value: str) -> None:
        if value in later:
            raise _refuse(got=f"{show(value)} is {NOT_AVAILABLE}")
        if value not in choices:
            raise _refuse(fix=did_you_mean(value, choices))

    return _text(check, expected=expected)


def _port_text(value: str) -> None:
    _one_line(value)
    if re.search(r"[\s\"#]", value):
        raise _refuse()


def _several(value: Any) -> Any:
    if not isinstance(value, list):
        fix = f"write [{value}]" if isinstance(value, str) else ""
        raise _refuse(fix=fix)
    if not value:
        raise _refuse(got="got an empty list")
    for index, item in enumerate(value):
        if item in value[:index]:
            raise _refuse(got=f"{show(item)} is listed twice", fix="write it once")
    return value


def _named_parts(value: Any) -> Any:
    if not isinstance(value, dict):
        raise _refuse()
    if not value:
        raise _refuse(got="it is empty")
    return value


_ABSOLUTE = "an absolute path such as /srv/clinic/documents"
_SELECT = "one select statement"
PracticeId = Annotated[str, *_text(_named(_ID, "a-z 0-9 -"))]
HostId = Annotated[str, *_text(_host_name, expected="a host name: 1-63 characters a-z 0-9 -")]
ItemId = Annotated[str, *_text(_named(_ITEM, "a-z 0-9 _ -"), expected="a name: 1-63 characters a-z 0-9 _ -")]
Name = Annotated[str, *_text(_one_line, 255, "a name that is described in this document")]
Line = Annotated[str, *_text(_one_line, 255)]
Pattern = Annotated[str, *_text(_one_line, 255, 'a pattern in quotes such as "*.tmp"')]
Zone = Annotated[str, *_text(_zone)]
Clock = Annotated[str, *_text(_clock)]
Window = Annotated[str, *_text(_window, expected='a window as "HH:MM-HH:MM" in quotes, such as "08:00-18:30"')]
Days = Annotated[str, *_text(_days, expected="a day (mon tue wed thu fri sat sun) or a span such as mon-fri")]
Country = Annotated[str, *_text(_country)]
Email = Annotated[str, *_text(_email, 254)]
Address = Annotated[str, *_text(_address)]
AbsolutePath = Annotated[str, *_text(_absolute, expected=_ABSOLUTE)]
Device = Annotated[str, *_text(_device, expected="a disk such as /dev/disk/by-id/ata-NAME")]
PathBeside = Annotated[str, *_text(_beside)]
SettingName = Annotated[str, *_text(_user, expected="a name of a NUT driver setting")]
Setting = Annotated[str, *_text(_setting, expected="a text in quotes")]
Size = Annotated[str, *_text(_size)]
Sql = Annotated[str, *_text(_sql, expected=_SELECT)]
Short = Annotated[str, *_text(_duration("m", "h", "d", "w"))]
Long = Annotated[str, *_text(_duration("h", "d", "w", "mo", "y"))]
Often = Annotated[str, *_choice("daily", "weekly", "monthly")]
Unavailable = Annotated[None, BeforeValidator(_later)]
Several = BeforeValidator(_several)
NamedParts = BeforeValidator(_named_parts)


# --- the document ---------------------------------------------------------------------------------------------------


class Part(BaseModel):
    """A mapping of the document: unknown keys are refused, types are taken as written."""

    # defer_build: the whole document's validator holds all the others; building each on its own doubles the start.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _remember(cls, data: Any, info: ValidationInfo) -> Any:
        # Which class stands behind which mapping: lets an error name the keys that are possible there.
        if isinstance(info.context, dict) and isinstance(data, dict):
            info.context[id(data)] = cls
        return data


class Identity(Part):
    """Who the practice is."""

    id: PracticeId = Field(description="an id such as harbour-street: 1-63 characters a-z 0-9 -")
    name: Line = Field(description="the name of the practice, one line of at most 255 characters")
    country: Country = Field(description='a country code of two capital letters in quotes, such as "AU"')
    timezone: Zone = Field(description="an IANA region zone such as Australia/Perth")


class Contact(Part):
    """A person or company to turn to."""

    name: Line = Field(description="a name")
    role: Line | None = Field(default=None, description="what the person does, such as practice manager")
    email: Email = Field(description="a mail address such as manager@example.org")


class Contacts(Part):
    """Whom reports go to."""

    backup_owner: Contact = Field(description="the person in the practice who answers for backups: {name, role, email}")
    it_provider: Contact | None = Field(default=None, description="the IT provider: {name, email}")


class Objectives(Part):
    """How much may be lost, and how long a restore may take."""

    rpo: Short = Field(default="24h", description="a time such as 24h or 2d (m, h, d, w)")
    rto: Short = Field(default="4h", description="a time such as 4h (m, h, d, w)")


class Access(Part):
    """How the control node logs in."""

    user: Annotated[str, *_text(_user)] = Field(default="root", description="a user name such as root")
    key: PathBeside | None = Field(
        default=None, description="the name of a private key file in the practice's folder, such as ssh_key"
    )


class Pool(Part):
    """The disks that hold the backups."""

    profile: Annotated[
        str, *_choice("single", "raid1", later=("raid0", "raid5", "raid6", "raid10", "raid1c3", "dup"))
    ] = Field(description="raid1 or single")
    devices: Annotated[list[Device], Several] = Field(
        description="a list of disks by a lasting name, such as [/dev/disk/by-id/ata-ONE, /dev/disk/by-id/ata-TWO]"
    )


class Nas(Part):
    """The machine that keeps the onsite copies."""

    kind: Literal["nas"]
    address: Address = Field(description="an IPv4 or IPv6 address or a host name")
    pool: Pool = Field(description="{profile: raid1, devices: [/dev/disk/by-id/..., /dev/disk/by-id/...]}")


class _Agent(Part):
    os: Annotated[str, *_choice("linux", later=("windows", "macos"))] = Field(default="linux", description="linux")
    address: Address = Field(description="an IPv4 or IPv6 address or a host name")
    protect: Annotated[list[Name], Several] | None = Field(
        default=None, description="a list of names that are described below protect:, such as [clinical_db, documents]"
    )
    quota: Size | None = Field(default=None, description='a size with its unit, such as "200GiB" (KiB, MiB, GiB, TiB)')


class Server(_Agent):
    """A machine that serves others."""

    kind: Literal["server"]


class Workstation(_Agent):
    """A machine somebody sits at."""

    kind: Literal["workstation"]


class RestoreHost(Part):
    """A disposable machine on which restores are proven."""

    kind: Literal["restore_host"]
    driver: Annotated[str, *_choice("nspawn", later=("ssh", "vm", "qemu", "libvirt", "docker", "podman", "cloud"))] = (
        Field(default="nspawn", description="nspawn")
    )
    on: Annotated[str, *_text()] = Field(default="localhost", description="localhost, the control node")


Host = Annotated[Nas | Server | Workstation | RestoreHost, Field(discriminator="kind")]
HOST_KINDS: dict[str, type[Part]] = {
    "nas": Nas,
    "server": Server,
    "workstation": Workstation,
    "restore_host": RestoreHost,
}
KINDS = tuple(HOST_KINDS)


class Images(Part):
    """Files that a database names."""

    query: Sql = Field(description="one select statement that gives one path a row")
    root: AbsolutePath = Field(description="an absolute path such as /srv/clinic/images")


class Database(Part):
    """A database of the practice's software."""

    engine: Annotated[str, *_text(_engine)] = Field(description="a supported engine (postgresql)")
    name: Annotated[str, *_text(_one_line, 63)] = Field(description="the database's name, at most 63 characters")


class Item(Part):
    """Something to protect: a database or folders. Take its times from schedule(), which knows the defaults."""

    database: Database | None = Field(default=None, description="{engine: postgresql, name: NAME}")
    paths: Annotated[list[AbsolutePath], Several] | None = Field(
        default=None, description="a list of absolute paths such as [/srv/clinic/documents]"
    )
    exclude: Annotated[list[Pattern], Several] | None = Field(
        default=None, description='a list of patterns such as ["*.tmp"]'
    )
    must_have: Annotated[list[AbsolutePath], Several] | None = Field(
        default=None, description="a list of absolute paths that every backup must hold"
    )
    min_files: Annotated[int, Field(ge=1, le=10**9)] = Field(default=1, description="a whole number from 1")
    class_: Annotated[str, *_choice("critical", "important", "normal")] = Field(
        default="normal", alias="class", description="critical, important or normal"
    )
    every: Annotated[str, *_choice("1h", "2h", "3h", "4h", "6h", "8h", "12h", "24h")] | None = Field(
        default=None, description="1h, 2h, 3h, 4h, 6h, 8h, 12h or 24h"
    )
    at: Clock | None = Field(default=None, description='a time of day as "HH:MM" in quotes, "00:00" to "23:59"')
    time_limit: Short | None = Field(default=None, description="a time such as 2h (m, h, d, w)")
    images: Images | None = Field(default=None, description="{query: select ..., root: /srv/...}")
    probes: Annotated[dict[ItemId, Sql], NamedParts] | None = Field(
        default=None, description="named select statements that give one value each"
    )


class Onsite(Part):
    """The copy in the house."""

    on: Name = Field(description="the name of a host of kind nas")


class Copies(Part):
    """Where copies go."""

    onsite: Onsite = Field(description="{on: NAME_OF_A_NAS}")
    offsite: Unavailable = Field(default=None, description="")
    removable: Unavailable = Field(default=None, description="")
    standby: Unavailable = Field(default=None, description="")


class Within(Part):
    """How far back restore points reach, by how dense they are."""

    hourly: Long | None = Field(default=None, description="a time such as 2d (h, d, w, mo, y)")
    daily: Long | None = Field(default=None, description="a time such as 35d (h, d, w, mo, y)")
    weekly: Long | None = Field(default=None, description="a time such as 6mo (h, d, w, mo, y)")
    monthly: Long | None = Field(default=None, description="a time such as 3y (h, d, w, mo, y)")
    yearly: Long | None = Field(default=None, description="a time such as 7y (h, d, w, mo, y)")


class Retention(Part):
    """What maintenance keeps."""

    within: Within = Field(description="{daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}")


class Ups(Part):
    """A battery and what hangs on it."""

    attached_to: Name = Field(
        description="the host that the UPS's data cable goes to (the primary, which cuts the power last)"
    )
    driver: Annotated[str, *_text(_driver)] = Field(description="a NUT driver such as usbhid-ups or snmp-ups")
    port: Annotated[str, *_text(_port_text)] | None = Field(
        default=None, description="the driver's port: auto, a device or an address"
    )
    description: Line | None = Field(default=None, description="one line about the UPS")
    settings: Annotated[dict[SettingName, Setting], NamedParts] | None = Field(
        default=None, description="further settings of the NUT driver, each a text in quotes"
    )
    feeds: Annotated[list[Name], Several] = Field(description="a list of hosts such as [nas1, server1]")
    runtime: Short = Field(description="how long the battery carries everything, such as 10m")


class Practice(Part):
    """A whole practice document."""

    practice: Identity = Field(description="{id, name, country, timezone}")
    contacts: Contacts = Field(description="backup_owner: {name, role, email}")
    hours: Annotated[dict[Days, Window], NamedParts] | None = Field(
        default=None, description='opening hours such as mon-fri: "08:00-18:30" or sat: "09:00-12:00"'
    )
    objectives: Objectives = Field(default_factory=Objectives, description="{rpo: 24h, rto: 4h}")
    access: Access = Field(default_factory=Access, description="{user: root, key: ssh_key}")
    hosts: Annotated[dict[HostId, Host], NamedParts] = Field(description="the machines, by name")
    protect: Annotated[dict[ItemId, Item], NamedParts] = Field(description="what is backed up, by name")
    copies: Copies = Field(description="{onsite: {on: NAME_OF_A_NAS}}")
    retention: Retention = Field(
        default_factory=lambda: Retention(
            within=Within(hourly="2d", daily="35d", weekly="6mo", monthly="3y", yearly="7y")
        ),
        description="{within: {daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}}",
    )
    power: Annotated[dict[HostId, Ups], NamedParts] | None = Field(default=None, description="the UPSs, by name")
    prove: Annotated[dict[Name, Often], NamedParts] | None = Field(
        default=None, description="how often a restore of an item is proven: daily, weekly or monthly"
    )


DEFAULT_AT, DEFAULT_EVERY = "21:00", "4h"


def schedule(item: Item) -> tuple[str | None, str | None]:
    """Give (every, at) of an item, one of them None. Left out: critical databases every 4h, the rest at 21:00."""
    if item.every or item.at:
        return item.every, item.at
    return (DEFAULT_EVERY, None) if item.database and item.class_ == "critical" else (None, DEFAULT_AT)


def interval_s(item: Item) -> int:
    """Seconds from one backup of an item to the next."""
    every = schedule(item)[0]
    return seconds(every) if every else DAY_S
