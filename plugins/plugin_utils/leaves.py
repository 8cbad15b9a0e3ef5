# SPDX-License-Identifier: Apache-2.0
"""The single values of a practice document: their checks, and what an error says was expected.

A value that fails its check raises through refuse(); check.py turns that into a line for people.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from ansible_collections.holdfast.practice.plugins.plugin_utils.source import did_you_mean, nearest, show
from pydantic import BeforeValidator, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError

IN_QUOTES = "write it in quotes"
NOT_AVAILABLE = "not available in this version"
# Names that would collide with Ansible's groups, or with the accounts of power drills and of battery tests
RESERVED_HOSTS = (
    *("all", "ungrouped", "localhost", "nas", "agents", "servers", "workstations", "power"),
    *("drill", "selftest", "monitor", "retiring"),
)
ENGINES = ("postgresql", "mariadb", "sqlite", "firebird", "sqlserver", "command", "pickup")
VENDOR_ENGINES = ("command", "pickup")  # dumps of a vendor's own: nobody can ask them
FILE_ENGINES = ("sqlite", "firebird")  # their databases are files, the others' have names
# What people call them, and what they are here
_ENGINES_ALSO = {
    "postgres": "postgresql",
    "pg": "postgresql",
    "mysql": "mariadb",
    "mssql": "sqlserver",
    "interbase": "firebird",
}
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
# They tell how many seconds the battery has left, so that Holdfast can say when it is low
RUNTIME_DRIVERS = (
    "usbhid-ups",
    "snmp-ups",
    "netxml-ups",
    "apcupsd-ups",
    "apcsmart",
    "bcmxcp",
    "bcmxcp_usb",
    "mge-shut",
    "dummy-ups",
)
NETWORK_DRIVERS = ("snmp-ups", "netxml-ups", "apcupsd-ups")  # their UPS has an address of its own
SSH_PORT = 22
_REGIONS = ("Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400, "y": 365 * 86400}
_SIZES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_RATES = {"kbit/s": 10**3, "Mbit/s": 10**6, "Gbit/s": 10**9}
DAY_S = 86400


def seconds(duration: str) -> int:
    """Turn a checked duration (24h, 35d, 6mo) into seconds; a month counts 30 days, a year 365."""
    found = re.fullmatch(r"(\d+)([a-z]+)", duration)
    if not found:
        raise ValueError(duration)
    return int(found[1]) * _UNITS[found[2]]


def size_bytes(size: str) -> int:
    """Turn a checked size (200GiB) into bytes."""
    return int(size[:-3]) * _SIZES[size[-3:]]


def bits_per_s(rate: str) -> int:
    """Turn a checked rate (20Mbit/s) into bits per second."""
    return int(rate[:-6]) * _RATES[rate[-6:]]


def refuse(expected: str = "", fix: str = "", got: str = "", leaf: str = "") -> PydanticCustomError:
    """Make an error of a value; expected beats the field's description, which beats leaf."""
    return PydanticCustomError("holdfast", "refused", {"expected": expected, "fix": fix, "got": got, "leaf": leaf})


@dataclass(frozen=True, eq=False)
class Checked(BeforeValidator):
    """A validator that also says in JSON Schema's words what it lets through, for editors.

    shape never refuses what the validator takes. What it cannot say (which zones there are) only the validator refuses.
    """

    shape: Mapping[str, Any] = field(default_factory=dict)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the shape to what pydantic knows of the type."""
        return {**handler(schema), **self.shape}


def text(
    check: Callable[[str], None] | None = None,
    limit: int = 4096,
    expected: str = "",
    pattern: str = r"^[\s\S]*\S",
    words: tuple[str, ...] = (),
) -> tuple[Any, ...]:
    """Validators for a string leaf: only strings, not empty, of bounded length, then the leaf's own check.

    expected is for leaves in lists and mappings, where the field's description speaks of the whole. pattern (the whole
    text, in words that JavaScript understands too) or words: what the check takes, for editors.
    """

    def before(value: Any) -> Any:
        if not isinstance(value, str):
            raise refuse(fix=_fix_for_type(value, check), leaf=expected)
        if not value.strip():
            raise refuse(got="got an empty text", leaf=expected)
        if len(value) > limit:
            raise refuse(f"at most {limit} characters", got=f"got a text of {len(value)} characters")
        if check:
            try:
                check(value)
            except PydanticCustomError as error:
                said = error.context or {}
                raise refuse(said["expected"], said["fix"], said["got"], leaf=expected) from None
        return value

    # no flags are possible in JSON Schema, and a pattern is looked for anywhere
    shape: dict[str, Any] = {"enum": list(words)} if words else {"pattern": pattern, "maxLength": limit}
    return (Checked(before, shape={**shape, **({"description": expected} if expected else {})}),)


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


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


_LINE = r"[^\n\r]*\S[^\n\r]*"


def _one_line(value: str) -> None:
    if "\n" in value or "\r" in value:
        raise refuse(got="got a text of several lines", expected="one line")


_PATTERN = rf"(?!!)(?!/+$){_LINE}"


def _pattern(value: str) -> None:
    _one_line(value)
    if value.startswith("!"):
        raise refuse(got=f"got {show(value)}: a pattern that brings back", expected="patterns that leave out")
    if not value.strip("/"):
        raise refuse(got=f"got {show(value)}, the whole machine")


_ID = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ITEM = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_HOST = rf"(?!(?:{'|'.join(RESERVED_HOSTS)})$){_ID}"


def _named(pattern: str, allowed: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if not re.fullmatch(pattern, value):
            better = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63].strip("-")
            fix = f"write {better}" if re.fullmatch(pattern, better) else ""
            raise refuse(f"1-63 characters {allowed}, beginning and ending with a letter or digit", fix)

    return check


def _host_name(value: str) -> None:
    _named(_ID, "a-z 0-9 -")(value)
    if value in RESERVED_HOSTS:
        raise refuse("a name that is not used otherwise", f"write {value}-1", f"the name {show(value)} is reserved")


@cache
def _zones() -> list[str]:
    return sorted(zone for zone in available_timezones() if zone.split("/")[0] in _REGIONS)


_NO_REGION = "a fixed offset such as EST or GMT+10 is not one, nor is an old name such as US/Eastern"


@cache
def _zone(value: str) -> None:
    expected = "an IANA region zone such as Australia/Perth"
    try:
        if value.split("/")[0] in _REGIONS and "/" in value:
            ZoneInfo(value)
            return
    except (OSError, ValueError, KeyError) as error:
        if not _zones():
            fix = "install tzdata"
            raise refuse("a time zone database", fix, "this machine has no time zone database") from error
    zones = _zones()
    cities = {z.rsplit("/", 1)[-1]: z for z in zones}
    near = "" if value in available_timezones() else nearest(value, zones)
    if not near and len(value) > 4 and "/" not in value:  # shorter ones are mostly fixed offsets such as EST
        near = cities.get(nearest(value.rsplit("/", 1)[-1].replace(" ", "_"), cities), "")
    raise refuse(expected, f'did you mean "{near}"?' if near else _NO_REGION)


def _duration(*units: str) -> tuple[Any, ...]:
    pattern = rf"(?!0+[a-z])[0-9]{{1,6}}(?:{'|'.join(units)})"

    def check(value: str) -> None:
        if not re.fullmatch(pattern, value):
            raise refuse()

    return text(check, pattern=_whole(pattern))


_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"


def _clock(value: str) -> None:
    if not re.fullmatch(_TIME, value):
        raise refuse()


def _span(value: str) -> tuple[str, str]:
    if not re.fullmatch(f"{_TIME}-{_TIME}", value):
        if re.fullmatch(r"[0-2][0-9]:[0-5][0-9]-24:00", value):
            raise refuse(fix=_ALL_DAY if value.startswith("00:00") else f'write "{value[:6]}23:59"')
        raise refuse()
    start, end = value.split("-")
    if start == end:
        fix = _ALL_DAY if start == "00:00" else "leave it out, or write two different times"
        raise refuse(got=f"the window {show(value)} is empty", fix=fix)
    return start, end


_ALL_DAY = 'write "00:00-23:59" for the whole day'


def _window(value: str) -> None:
    start, end = _span(value)
    if start > end:
        raise refuse(got=f"the window {show(value)} ends before it begins")


def _night_window(value: str) -> None:
    _span(value)


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPANS = "|".join(f"{day}(?:-(?:{'|'.join(WEEKDAYS[number:])}))?" for number, day in enumerate(WEEKDAYS[:-1], 1))
_DAYS = f"{_SPANS}|{WEEKDAYS[-1]}"


def _days(value: str) -> None:
    if not re.fullmatch(_DAYS, value):
        raise refuse()


def weekdays(value: str) -> list[int]:
    """Turn checked days (sat, mon-fri) into numbers, Monday being 0."""
    first, _, last = value.partition("-")
    return list(range(WEEKDAYS.index(first), WEEKDAYS.index(last or first) + 1))


_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"


def _date(value: str) -> None:
    try:
        if re.fullmatch(_DAY, value):
            date.fromisoformat(value)
            return
    except ValueError:
        raise refuse(got=f"got {show(value)}, a day that no calendar has") from None
    raise refuse()


_RATE = r"[1-9][0-9]{0,5}(?:kbit/s|Mbit/s|Gbit/s)"


def _rate(value: str) -> None:
    if not re.fullmatch(_RATE, value):
        short = re.fullmatch(r"([1-9][0-9]{0,5}) ?([kKMG])(b|bit|bps|bit/s|Bit/s)", value)
        unit = {"k": "kbit/s", "K": "kbit/s", "M": "Mbit/s", "G": "Gbit/s"}
        raise refuse(fix=f'write "{short[1]}{unit[short[2]]}"' if short else "")


_VERSION = r"[0-9]{1,4}(?:\.[0-9]{1,4}){0,3}"


def _version_text(value: str) -> None:
    if not re.fullmatch(_VERSION, value):
        raise refuse()


_BUCKET = r"(?!.*(?:\.\.|\.-|-\.))(?!xn--|sthree-)(?![0-9.]+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"


def _bucket(value: str) -> None:
    if not re.fullmatch(_BUCKET, value):
        better = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63].strip("-")
        raise refuse(fix=f"write {better}" if re.fullmatch(_BUCKET, better) else "")


_URL = r"https://(\[[0-9a-fA-F:.]+(?:%25[A-Za-z0-9._-]+)?\]|[^\s/:\[\]\"'@?#%\\]+)(:[0-9]{1,5})?(/[^\s\"'?#@]*)?"


def _url(value: str) -> None:
    if "@" in value:
        fix = "secrets live in group_vars/all/vault.yml"
        raise refuse(got="got an address with a user or password in it (hidden)", fix=fix)
    if value.startswith("http://"):
        fix = f"write {show('https' + value[4:])}"
        raise refuse(got=f"got {show(value)}: without TLS anybody on the way can read it", fix=fix)
    found = re.fullmatch(_URL, value)
    if not found:
        bare = re.fullmatch(r"https://([0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F]*)(/[^\s\"'?#@]*)?", value)
        if not bare:
            raise refuse()
        raise refuse(fix=f"write {show(f'https://[{bare[1]}]{bare[2] or ""}')}: IPv6 in brackets")
    host = found[1]
    if host.startswith("[") and ":" not in host:
        raise refuse(fix="only IPv6 addresses stand in brackets")
    if re.match(r"\[fe[89ab][^%]*\]$", host, re.IGNORECASE):
        raise refuse(fix=f"write [{host[1:-1]}%25INTERFACE]: a link-local address needs its interface")
    _address(host.strip("[]").replace("%25", "%"))
    if found[2]:
        _port_number(int(found[2][1:]))


def url_host(url: str) -> str:
    """Give the host of a checked address (https://[2001:db8::1]:8000/x) without brackets."""
    found = re.fullmatch(_URL, url)
    if not found:
        raise ValueError("not a checked address")
    return found[1].strip("[]").replace("%25", "%")


def _port_number(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        plain = re.fullmatch(r"([1-9][0-9]{0,4})(/(tcp|udp))?", value) if isinstance(value, str) else None
        raise refuse(fix=f"write {plain[1]}" if plain and int(plain[1]) <= 65535 else "", leaf=_PORT)
    return value


_PORT = "a port, a whole number from 1 to 65535"


_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9A-F]{4}-[0-9A-F]{4}"


def _uuid(value: str) -> None:
    if not re.fullmatch(_UUID, value):
        raise refuse()


_SHA256 = r"[0-9a-f]{64}"


def _sha256(value: str) -> None:
    if not re.fullmatch(_SHA256, value):
        raise refuse(fix="write it in small letters" if re.fullmatch(_SHA256, value.lower()) else "")


_RECIPIENT = r"age1[02-9ac-hj-np-z]{58}"


def _recipient(value: str) -> None:
    if value.upper().startswith("AGE-SECRET-KEY-"):
        raise refuse(got="got a secret key (hidden)", fix="write the public half: age-keygen -y FILE prints it")
    if not re.fullmatch(_RECIPIENT, value):
        raise refuse()


_NETBIOS = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,13}[A-Za-z0-9])?"


def _netbios(value: str) -> None:
    if not re.fullmatch(_NETBIOS, value):
        raise refuse()


_PHONE = r"\+?[0-9][0-9 ()./-]{2,29}"


def _phone(value: str) -> None:
    if not re.fullmatch(_PHONE, value):
        raise refuse()


def _place(value: Any) -> Any:
    numbers = isinstance(value, list) and len(value) == 2
    if not numbers or not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in value):
        raise refuse()
    if not (-90 <= value[0] <= 90 and -180 <= value[1] <= 180):
        raise refuse(got=f"got {show(value)}, a place that no map has", fix="latitude comes first")
    return value


_COUNTRY = r"[A-Z]{2}"


def _country(value: str) -> None:
    if not re.fullmatch(_COUNTRY, value):
        raise refuse(fix=f'write "{value.upper()}"' if re.fullmatch(r"[A-Za-z]{2}", value) else "")


_EMAIL = r"[^\s@<>(),;:\"\\]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"


def _email(value: str) -> None:
    if not re.fullmatch(_EMAIL, value):
        raise refuse()


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_ADDRESS = (
    rf"(?![0-9.]+$){_LABEL}(?:\.{_LABEL})*|{_OCTET}(?:\.{_OCTET}){{3}}|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*(?:%.+)?"
)


def _address(value: str) -> None:
    if "@" in value:
        raise refuse(got="got an address with a user in it (hidden)", fix="write the address alone")
    if value.count("/") == 1 and re.fullmatch(r"[0-9a-fA-F.:]+/[0-9]+", value):
        raise refuse(fix=f"write {show(value.split('/')[0])}: a host has one address, not a network")
    if value.startswith("[") or value.count(":") == 1:
        raise refuse(fix="write the address alone, without brackets and port")
    try:
        ip = ipaddress.ip_address(value)
    except ValueError:
        last = value.rsplit(".", 1)[-1]
        # ssh and curl read 10.1, 0x0a000005 and 010.0.0.5 as addresses, and not as people do
        if ":" in value or last.isdigit() or re.fullmatch(r"0[xX][0-9a-fA-F]*", last):
            fix = "each part is 0-255 without leading zeros" if ":" not in value else ""
            raise refuse(got=f"{show(value)} is not an IP address", fix=fix) from None
        if len(value) > 253 or not all(re.fullmatch(_LABEL, label) for label in value.split(".")):
            raise refuse() from None
        return
    scope = getattr(ip, "scope_id", None)
    if ip.is_unspecified or ip.is_multicast or ip.is_loopback or value == "255.255.255.255":
        raise refuse(got=f"{show(value)} is not the address of a host in the practice's network")
    if isinstance(ip, ipaddress.IPv6Address) and ip.is_link_local and not scope:
        raise refuse(fix=f'write "{value}%INTERFACE": a link-local address needs its interface')
    if scope and not (ip.is_link_local and re.fullmatch(r"[A-Za-z0-9._-]{1,15}", scope)):
        raise refuse(fix="only a link-local address (fe80::...) has an interface, such as %eth0")


def plain_address(address: str) -> str:
    """Write a checked address or host name in the one way in which equal ones are equal."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address.lower().rstrip(".")
    return str(getattr(ip, "ipv4_mapped", None) or ip).lower()


_WINDOWS = r"[A-Za-z]:[\\/]|\\\\[^\\/]"


def is_windows(path: str) -> bool:
    """Say whether an absolute path is one of Windows: a drive (C:\\Users) or a share (\\\\server\\share)."""
    return bool(re.match(_WINDOWS, path))


_PATH_BYTES, _NAME_BYTES = 4095, 255  # of Linux


def _absolute(value: str) -> None:
    _one_line(value)
    windows = is_windows(value)
    if not windows and not value.startswith("/"):
        raise refuse()
    parts = [part for part in re.split(r"[\\/]" if windows else "/", value) if part]
    if ".." in parts or "." in parts:
        raise refuse(got=f"got {show(value)}, which goes through .. or .")
    fix = "write the folders that hold the practice's data"
    if len(parts) <= windows:
        raise refuse(got=f"got {show(value)}, the whole {'drive' if windows else 'machine'}", fix=fix)
    length, longest = len(value.encode()), max(len(part.encode()) for part in parts)
    if length > _PATH_BYTES or longest > _NAME_BYTES:
        got = f"got a path of {length} bytes" if length > _PATH_BYTES else f"got a path with a name of {longest} bytes"
        raise refuse(f"paths of at most {_PATH_BYTES} bytes, and names in them of at most {_NAME_BYTES}", got=got)
    if windows:
        return
    tidy = "/" + "/".join(parts)
    if tidy != value:
        raise refuse(got=f"got {show(value)}, which has more slashes than it needs", fix=f"write {show(tidy, 200)}")
    if parts[0] in ("proc", "sys", "dev", "run"):
        raise refuse(got=f"got {show(value)}, which holds no files but the kernel's view of the machine")
    if parts[:2] == ["srv", "holdfast"] or parts[:3] == ["var", "lib", "holdfast"]:
        raise refuse(got=f"got {show(value)}, where Holdfast keeps the backups themselves")


_DEVICE = r"/dev/(?:disk/by-[a-z]{1,20}|mapper)/(?!\.\.?$)[A-Za-z0-9_.:+@-]+"


def _device(value: str) -> None:
    if re.fullmatch(r"/dev/[a-z]+[a-z0-9-]*", value):
        got = f"got {show(value)}, a name that may be another disk's after the next start"
        raise refuse(got=got, fix="ls -l /dev/disk/by-id tells which one it is now")
    if not re.fullmatch(_DEVICE, value):
        raise refuse()


_BESIDE = rf"(?![/~])(?!(?:.*/)?\.\.(?:/|$)){_LINE}"


def _beside(value: str) -> None:
    _one_line(value)
    if not re.fullmatch(_BESIDE, value):
        raise refuse()


_SIZE = r"[1-9][0-9]{0,8}(?:KiB|MiB|GiB|TiB)"


def _size(value: str) -> None:
    if not re.fullmatch(_SIZE, value):
        decimal = re.fullmatch(r"([1-9][0-9]{0,8}) ?([kKMGT])i?[bB]?", value)
        raise refuse(fix=f'write "{decimal[1]}{decimal[2].upper()}iB"' if decimal else "")


_SQL = r"\s*(?:[Ss][Ee][Ll][Ee][Cc][Tt]|[Ww][Ii][Tt][Hh])\b[\s\S]*"


# not what pg_dump would take for an option or for another server's address, nor what no file of a dump can be called
_DATABASE = r"(?!-)(?!\.\.?$)[^/=\n\r]*[^/=\s][^/=\n\r]*"


def _database(value: str) -> None:
    if not re.fullmatch(_DATABASE, value):
        raise refuse("a database's name: at most 63 characters, no / or =, not beginning with -")


def _sql(value: str) -> None:
    if not re.fullmatch(_SQL, value):
        raise refuse()
    if ";" in value.rstrip().rstrip(";"):
        raise refuse(got="got more than one statement")


def _engine(value: str) -> None:
    if value in ENGINES:
        return
    bare = re.sub(r"[^a-z]", "", value.lower())
    also = _ENGINES_ALSO.get(bare) or (bare if bare in ENGINES else "")
    fix = f"did you mean {show(also)}?" if also else did_you_mean(value, ENGINES)
    expected = f"a supported engine ({', '.join(ENGINES)})"
    raise refuse(expected, fix, f"got {show(value)} (string), an unknown engine")


def _asked_engine(value: str) -> None:
    if value in VENDOR_ENGINES:
        known = ", ".join(name for name in ENGINES if name not in VENDOR_ENGINES)
        fix = "leave it out here, and write it into practice.yml afterwards"
        raise refuse(known, fix, f"the engine {show(value)} needs more than these answers")
    _engine(value)


CONTROL_NODE = "localhost"
RESTORE_DRIVERS = ("nspawn", "spare")
_ROLE = r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*){2}"
_DRIVERS_LATER = ("ssh", "vm", "qemu", "libvirt", "docker", "podman", "cloud")


def _restore_driver(value: str) -> None:
    if value in _DRIVERS_LATER:
        fix = "a role of your own can be a driver: see docs/restore-hosts.md"
        raise refuse(got=f"{show(value)} is {NOT_AVAILABLE}", fix=fix)
    if value not in RESTORE_DRIVERS and not re.fullmatch(_ROLE, value):
        raise refuse(fix=did_you_mean(value, RESTORE_DRIVERS))


_FILES = r"[^/\n\r]*[^\s/][^/\n\r]*"


def _files(value: str) -> None:
    if not re.fullmatch(_FILES, value):
        raise refuse()


_PACKAGE = r"[a-z0-9][a-z0-9+.-]{1,127}"


def _package(value: str) -> None:
    if not re.fullmatch(_PACKAGE, value):
        raise refuse()


_UNIT = r"[A-Za-z0-9][A-Za-z0-9:_.@-]*\.(?:service|socket|target)"


def _unit(value: str) -> None:
    if not re.fullmatch(_UNIT, value):
        fix = f"write {show(value + '.service')}" if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:_@-]*", value) else ""
        raise refuse(fix=fix)


_MAC = r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}"


def _mac(value: str) -> None:
    if not re.fullmatch(_MAC, value):
        dashes = value.replace("-", ":")
        raise refuse(fix=f'write "{dashes}"' if re.fullmatch(_MAC, dashes) else "")
    if value.lower() in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff") or int(value[:2], 16) & 1:
        raise refuse(got=f"got {show(value)}, which is no machine's own")


_LOCAL = r"https?://(?:127\.0\.0\.1|localhost|\[::1\])(?::[1-9][0-9]{0,4})?(?:/[!-~]*)?"


def _local(value: str) -> None:
    _one_line(value)
    if re.match(r"https?://", value) and not re.match(r"https?://(?:127\.0\.0\.1|localhost|\[::1\])(?=[:/]|$)", value):
        fix = 'write "http://127.0.0.1:PORT/...": the restored copy is asked inside its machine, which has no network'
        raise refuse(got=f"got {show(value)}, an address outside of the machine", fix=fix)
    if not re.fullmatch(_LOCAL, value):
        raise refuse()


def _unprivileged(value: str) -> None:
    _user(value)
    if value == "root":
        raise refuse(got='got "root"', fix="name the user that the vendor's program runs as, or leave it out")


def _driver(value: str) -> None:
    if value not in UPS_DRIVERS:
        raise refuse(fix=did_you_mean(value, UPS_DRIVERS))


_USER = r"[a-z_][a-z0-9_-]{0,31}"


def _user(value: str) -> None:
    if not re.fullmatch(_USER, value):
        raise refuse()


# as NUT's own drivers call them: authPassword, override.battery.charge.low
_SETTING = r"[A-Za-z][A-Za-z0-9_.-]{0,62}"


def _setting_name(value: str) -> None:
    if not re.fullmatch(_SETTING, value):
        raise refuse()


def _setting(value: str) -> None:
    _one_line(value)
    if '"' in value:
        raise refuse("a value without double quotes")


def choice(*choices: str, later: tuple[str, ...] = ()) -> tuple[Any, ...]:
    """Validators for one of a few words; later: words that are known, and not available in this version."""
    expected = ", ".join(choices[:-1]) + (" or " if len(choices) > 1 else "") + choices[-1]

    def check(value: str) -> None:
        if value in later:
            raise refuse(got=f"{show(value)} is {NOT_AVAILABLE}")
        if value not in choices:
            raise refuse(fix=did_you_mean(value, choices))

    return text(check, expected=expected, words=choices)


_PORT_TEXT = r"[^\s\"#]+"


def _port_text(value: str) -> None:
    _one_line(value)
    if not re.fullmatch(_PORT_TEXT, value):
        raise refuse()


def _several(value: Any) -> Any:
    if not isinstance(value, list):
        plain = isinstance(value, str) and re.fullmatch(r"[\w./-]{1,100}", value)
        fix = f"write [{value}]" if plain else "write a list: [ONE, TWO]" if isinstance(value, str) else ""
        raise refuse(fix=fix)
    if not value:
        raise refuse(got="got an empty list")
    return _each_once(value)


def _none_or_several(value: Any) -> Any:
    return _each_once(value) if value == [] else _several(value)


def _each_once(value: list[Any]) -> list[Any]:
    for index, item in enumerate(value):
        if item in value[:index]:
            raise refuse(got=f"{show(item)} is listed twice", fix="write it once")
    return value


def _argv(value: Any) -> Any:
    if not isinstance(value, list):
        raise refuse(fix="write a list: [PROGRAM, ARGUMENT]; no shell reads it" if isinstance(value, str) else "")
    if not value:
        raise refuse(got="got an empty list")
    if isinstance(value[0], str) and not value[0].startswith("/"):
        raise refuse(got=f"got {show(value[0])} first", expected="a program by its absolute path first")
    return value


def _named_parts(value: Any) -> Any:
    if not isinstance(value, dict):
        raise refuse()
    if not value:
        raise refuse(got="it is empty")
    return value


_ABSOLUTE = "an absolute path such as /srv/clinic/documents"
_SELECT = "one select statement"
PracticeId = Annotated[str, *text(_named(_ID, "a-z 0-9 -"), pattern=_whole(_ID))]
HostId = Annotated[str, *text(_host_name, expected="a host name: 1-63 characters a-z 0-9 -", pattern=_whole(_HOST))]
ItemId = Annotated[
    str,
    *text(_named(_ITEM, "a-z 0-9 _ -"), expected="a name: 1-63 characters a-z 0-9 _ -", pattern=_whole(_ITEM)),
]
Name = Annotated[str, *text(_one_line, 255, "a name that is described in this document", _whole(_LINE))]
Line = Annotated[str, *text(_one_line, 255, pattern=_whole(_LINE))]
Pattern = Annotated[str, *text(_pattern, 255, 'a pattern in quotes such as "*.tmp"', _whole(_PATTERN))]
Zone = Annotated[str, *text(_zone, pattern=_whole(rf"(?:{'|'.join(_REGIONS)})/[A-Za-z0-9_+/-]+"))]
Clock = Annotated[str, *text(_clock, pattern=_whole(_TIME))]
Window = Annotated[
    str,
    *text(
        _window,
        expected='a window as "HH:MM-HH:MM" in quotes, such as "08:00-18:30"',
        pattern=_whole(f"{_TIME}-{_TIME}"),
    ),
]
Days = Annotated[
    str,
    *text(_days, expected="a day (mon tue wed thu fri sat sun) or a span such as mon-fri", pattern=_whole(_DAYS)),
]
Country = Annotated[str, *text(_country, expected='a country code in quotes, such as "AU"', pattern=_whole(_COUNTRY))]
Email = Annotated[str, *text(_email, 254, "a mail address such as help@example.org", _whole(_EMAIL))]
Address = Annotated[str, *text(_address, pattern=_whole(_ADDRESS))]
AbsolutePath = Annotated[str, *text(_absolute, expected=_ABSOLUTE, pattern=rf"^(?:/|{_WINDOWS})[^\n\r]*$")]
Device = Annotated[str, *text(_device, expected="a disk such as /dev/disk/by-id/ata-NAME", pattern=_whole(_DEVICE))]
UserName = Annotated[str, *text(_user, pattern=_whole(_USER))]
FilePattern = Annotated[str, *text(_files, 255, pattern=_whole(_FILES))]
Package = Annotated[str, *text(_package, expected="the name of a Debian package", pattern=_whole(_PACKAGE))]
Unit = Annotated[str, *text(_unit, expected="a unit of systemd such as orthanc.service", pattern=_whole(_UNIT))]
Mac = Annotated[str, *text(_mac, pattern=_whole(_MAC))]
LocalUrl = Annotated[str, *text(_local, pattern=_whole(_LOCAL))]
Unprivileged = Annotated[str, *text(_unprivileged, pattern=_whole(rf"(?!root$){_USER}"))]
AskedEngine = Annotated[str, *text(_asked_engine, words=tuple(name for name in ENGINES if name not in VENDOR_ENGINES))]
Engine = Annotated[str, *text(_engine, words=ENGINES)]
Driver = Annotated[str, *text(_driver, words=tuple(sorted(UPS_DRIVERS)))]
RestoreDriver = Annotated[str, *text(_restore_driver, 200, pattern=_whole("|".join([*RESTORE_DRIVERS, _ROLE])))]
DriverPort = Annotated[str, *text(_port_text, pattern=_whole(_PORT_TEXT))]
DatabaseName = Annotated[str, *text(_database, 63, pattern=_whole(_DATABASE))]
PathBeside = Annotated[str, *text(_beside, pattern=_whole(_BESIDE))]
SettingName = Annotated[
    str,
    *text(
        _setting_name,
        expected="a name of a NUT driver setting, such as community or authPassword",
        pattern=_whole(_SETTING),
    ),
]
Setting = Annotated[str, *text(_setting, expected="a text in quotes", pattern=_whole(r"[^\n\r\"]*[^\s\"][^\n\r\"]*"))]
Size = Annotated[str, *text(_size, pattern=_whole(_SIZE))]
Sql = Annotated[str, *text(_sql, expected=_SELECT, pattern=_whole(_SQL))]
NightWindow = Annotated[
    str,
    *text(
        _night_window,
        expected='a window as "HH:MM-HH:MM" in quotes, such as "22:00-05:30" (it may cross midnight)',
        pattern=_whole(f"{_TIME}-{_TIME}"),
    ),
]
Date = Annotated[str, *text(_date, expected='a date as "YYYY-MM-DD" in quotes', pattern=_whole(_DAY))]
Rate = Annotated[str, *text(_rate, pattern=_whole(_RATE))]
Version = Annotated[str, *text(_version_text, pattern=_whole(_VERSION))]
Bucket = Annotated[str, *text(_bucket, pattern=_whole(_BUCKET))]
Url = Annotated[str, *text(_url, pattern=_whole(_URL))]
Port = Annotated[int, Checked(_port_number, shape={"minimum": 1, "maximum": 65535})]
Uuid = Annotated[str, *text(_uuid, pattern=_whole(_UUID))]
Sha256 = Annotated[str, *text(_sha256, expected="a sha256: 64 characters 0-9 a-f", pattern=_whole(_SHA256))]
Recipient = Annotated[
    str,
    *text(_recipient, expected="an age recipient (age1...), the public half of a key", pattern=_whole(_RECIPIENT)),
]
NetbiosName = Annotated[str, *text(_netbios, pattern=_whole(_NETBIOS))]
Phone = Annotated[str, *text(_phone, pattern=_whole(_PHONE))]
_DEGREES = [{"type": "number", "minimum": -limit, "maximum": limit} for limit in (90, 180)]
Place = Annotated[list[float], Checked(_place, shape={"prefixItems": _DEGREES, "items": False, "minItems": 2})]
Moment = Annotated[str, *_duration("s", "m", "h")]
Short = Annotated[str, *_duration("m", "h", "d", "w")]
Long = Annotated[str, *_duration("h", "d", "w", "mo", "y")]
Often = Annotated[str, *choice("daily", "weekly", "monthly")]
Several = Checked(_several, shape={"minItems": 1, "uniqueItems": True})
NoneOrSeveral = Checked(_none_or_several, shape={"uniqueItems": True})
Argv = Checked(_argv, shape={"minItems": 1})
NamedParts = Checked(_named_parts, shape={"minProperties": 1})
