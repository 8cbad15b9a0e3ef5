# SPDX-License-Identifier: Apache-2.0
"""What NUT needs on a host, as files and units. Pure: no file, command or clock in here.

Facts about NUT 2.8.1 of Debian 13 and 2.8.0 of Debian 12 that shaped this:
- nut-driver-enumerator watches ups.conf and would start and stop drivers while we do. It is switched off, and the
  nut-driver@ instances are enabled by name.
- nut-monitor and nut.target pull in nut-server even when that is disabled. On a host that is no longer a primary the
  server would fail again and again, so it gets a condition: no upsd.conf, no server.
- A server that starts before its address exists listens on the others only, and says so in the log alone. So it waits
  for the network.
- Debian 12 starts neither a server nor a monitor again that died.
- Drivers run as user nut, to whom a serial device does not belong.
- upsmon 2.8.1 takes a UPS that says OFF for one that feeds nobody, on mains after OFFDURATION, on battery at once, and stops
  its host. Some say so without being off, and whoever asks is not off: see off_duration_s(). 2.8.0 does not know the word,
  says so in its log, and stops nobody for it.
- upsmon 2.8.1 takes a UPS for dead at once that is no longer heard while it was on battery, bypassed or calibrating: a restart
  of upsd or of a driver would stop everybody on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils import power_host, stamp
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Dir, File, Unit, Wanted
from ansible_collections.holdfast.practice.plugins.module_utils.nut import quote

FOLDER = "/etc/nut"
FLAG, HEADER, HOOK = power_host.FLAG, power_host.HEADER, power_host.HOOK
SERVER = "nut-server.service"
MONITOR = "nut-monitor.service"
DROP_IN_FOLDER = "/etc/systemd/system/nut-server.service.d"
DROP_IN = DROP_IN_FOLDER + "/holdfast.conf"
MONITOR_FOLDER = "/etc/systemd/system/nut-monitor.service.d"
MONITOR_DROP_IN = MONITOR_FOLDER + "/holdfast.conf"
ENUMERATORS = ("nut-driver-enumerator.path", "nut-driver-enumerator.service")
DRIVER_TARGET = "nut-driver.target"
TARGET = "nut.target"
DUMMY = "dummy-ups"
DUMMY_MODE = "dummy-once"

SECRET_KEYS = ("community", "authpassword", "privpassword", "password")
SERIAL = re.compile(r"/dev/[A-Za-z0-9._/-]+")
PRIMARY_FILES = ("ups.conf", "upsd.conf", "upsd.users")
SHARED_FILES = ("nut.conf", "upsmon.conf")
NOTICES = (
    "ONLINE", "ONBATT", "LOWBATT", "FSD", "COMMOK", "COMMBAD", "SHUTDOWN", "REPLBATT", "NOCOMM", "NOPARENT",
)  # fmt: skip
# the only commands that anybody gets: nothing in a practice has to switch a UPS off over the network
BATTERY_TESTS = ("test.battery.start", "test.battery.start.quick")
OFF_NEVER, OFF_S = -1, 30  # of upsmon; the second is its own
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
ADDRESS = re.compile(r"[A-Za-z0-9.:_-]{1,253}")
KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
# upsmon sends "PASSWORD <text>" without quotes: a blank, a quote, a backslash, # or = would reach upsd as another text
PASSWORD = re.compile(r"[!$-<>-\[\]-~]{8,128}")


class PowerError(Exception):
    """The wanted power configuration cannot be carried out; the text says why and what to change."""


@dataclass(frozen=True)
class Ups:
    """A UPS on this host's cable.

    ``settings``: further keys of ups.conf; True is a bare flag, False leaves it out. ``secrets``: those that nobody may see.
    """

    name: str
    driver: str
    port: str
    description: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    runtime_s: int | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class User:
    """Somebody who may speak with upsd: ``role`` primary or secondary for upsmon, ``actions`` such as SET or FSD.

    ``instcmds``: the commands that this user may give the UPS, each by its name.
    """

    name: str
    password: str = field(repr=False)
    role: str | None = None
    actions: tuple[str, ...] = ()
    instcmds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Monitor:
    """A UPS that feeds this host, wherever its cable ends."""

    ups: str
    address: str
    user: str
    password: str = field(repr=False)
    power_value: int = 1
    type: str = "secondary"


@dataclass(frozen=True)
class Power:
    """All that NUT has to know on one host. Times are in seconds."""

    role: str
    monitors: Sequence[Monitor]
    ups: Sequence[Ups] = ()
    listen: Sequence[str] = ()
    users: Sequence[User] = ()
    min_supplies: int = 1
    host_sync_s: int = 15
    final_delay_s: int = 5
    poll_s: int = 5
    dead_time_s: int = 15
    shutdown_command: str = "/usr/sbin/shutdown -h now"
    power_down_flag: str = FLAG
    notify: Sequence[str] = ("SYSLOG",)
    notify_command: str | None = None
    standalone: bool = False
    around: power_host.Surroundings = field(default_factory=power_host.Surroundings)


@dataclass(frozen=True)
class Present:
    """What an earlier configuration left.

    Driver units (full names), dummy files of ours, drivers that run, further files of ours, and files of a primary;
    ``ours`` when it was written by this module.
    """

    drivers: Sequence[str] = ()
    dummy_files: Mapping[str, bytes] = field(default_factory=dict)
    running: Sequence[str] = ()
    files: Sequence[str] = ()
    primary_files: Sequence[str] = ()
    ours: bool = False


def driver_unit(ups: str) -> str:
    """Name the unit that runs a UPS's driver."""
    return f"nut-driver@{ups}.service"


def ups_of(unit: str) -> str:
    """Name the UPS whose driver a unit runs."""
    return unit[len("nut-driver@") : -len(".service")]


def is_secret(key: str, value: Any) -> bool:
    """Say whether a setting of a driver opens the UPS for whoever reads it."""
    return key.lower() in SECRET_KEYS and value != "public"


def _check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise PowerError(f'{what} "{name}": expected a letter, then up to 62 letters, digits, "_" or "-"')


def _check_text(what: str, text: str) -> None:
    if not text.isascii() or not text.isprintable():
        raise PowerError(f"{what}: expected plain ASCII text on one line (NUT drops every other character)")


def _check_password(whose: str, password: str) -> None:
    if not PASSWORD.fullmatch(password):
        raise PowerError(
            f"password of {whose}: expected 8 to 128 ASCII characters without blanks, quotation marks, \\, # and = "
            "(NUT sends it bare, so anything else would arrive as another password); choose another one"
        )


def _unique(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise PowerError(f"{what} given twice: {', '.join(twice)}")


def _check_ups(ups: Ups) -> None:
    _check_name("UPS", ups.name)
    _check_name("driver", ups.driver)
    _check_text(f"UPS {ups.name}", ups.port + ups.description)
    _unique(f"UPS {ups.name}: setting", [*ups.settings, *ups.secrets])
    for key, value in {**ups.settings, **ups.secrets}.items():
        if not KEY.fullmatch(key) or key in ("driver", "port", "desc"):
            raise PowerError(f'UPS {ups.name}: "{key}" is not a further setting of a driver')
        _check_text(f"UPS {ups.name}: {key}", str(value))
    for key, value in ups.settings.items():
        if is_secret(key, value):
            raise PowerError(
                f"UPS {ups.name}: {key} is a secret; move it from settings to secrets, and its text into the vault"
            )
    if ups.driver == DUMMY and not re.fullmatch(r"[A-Za-z0-9_-]+\.dev", ups.port):
        raise PowerError(f"UPS {ups.name}: the port of {DUMMY} is the name of its file, such as {ups.name}.dev")


def _check_rights(user: User) -> None:
    for action in user.actions:
        if action not in ("SET", "FSD"):
            raise PowerError(f"user {user.name}: action {action}, expected SET or FSD")
    for command in user.instcmds:
        if command not in BATTERY_TESTS:
            raise PowerError(f"user {user.name}: command {command}, expected one of {', '.join(BATTERY_TESTS)}")


def _check_primary(power: Power) -> None:
    if not power.ups:
        raise PowerError("a primary needs at least one entry in ups: the UPS whose cable ends in this host")
    if not power.listen:
        raise PowerError("a primary needs at least one address in listen, such as 127.0.0.1")
    _unique("UPS", [u.name for u in power.ups])
    _unique("user", [u.name for u in power.users])
    for ups in power.ups:
        _check_ups(ups)
    for address in power.listen:
        if not ADDRESS.fullmatch(address):
            raise PowerError(f'listen: "{address}" is not an address')
    for user in power.users:
        _check_name("user", user.name)
        _check_password(f"user {user.name}", user.password)
        if user.role not in (None, "primary", "secondary"):
            raise PowerError(f"user {user.name}: role is {user.role}, expected primary or secondary")
        if user.role == "secondary" and (user.actions or user.instcmds):
            raise PowerError(f"user {user.name}: a secondary only listens; give its actions to a user without a role")
        _check_rights(user)


def _check_monitors(power: Power) -> None:
    _unique("monitor", [f"{m.ups}@{m.address}" for m in power.monitors])
    for monitor in power.monitors:
        _check_name("UPS", monitor.ups)
        _check_name("user", monitor.user)
        _check_password(f"monitor {monitor.ups}", monitor.password)
        if not ADDRESS.fullmatch(monitor.address):
            raise PowerError(f'monitor {monitor.ups}: "{monitor.address}" is not an address')
        if monitor.type not in ("primary", "secondary"):
            raise PowerError(f"monitor {monitor.ups}: type is {monitor.type}, expected primary or secondary")
        if power.role == "secondary" and monitor.type == "primary":
            raise PowerError(f"monitor {monitor.ups}: a host with role secondary cannot watch as primary")


def check(power: Power) -> None:
    """Raise PowerError for anything that NUT would refuse, or worse, would take for something else."""
    if power.role not in ("primary", "secondary"):
        raise PowerError(f"role is {power.role}, expected primary or secondary")
    if not power.monitors:
        raise PowerError("monitors is empty: without a UPS to watch this host would never be shut down")
    if power.role == "primary":
        _check_primary(power)
    elif power.ups or power.users or power.listen:
        raise PowerError("ups, listen and users belong to a primary; a secondary only has monitors")
    _check_monitors(power)
    supplied = sum(m.power_value for m in power.monitors)
    if not 1 <= power.min_supplies <= supplied:
        raise PowerError(
            f"min_supplies is {power.min_supplies}, but the monitored UPSes supply {supplied}: "
            "the host would shut down at once or never"
        )
    if power.dead_time_s < 3 * power.poll_s:
        raise PowerError(f"dead_time_s is {power.dead_time_s}, expected at least three polls ({3 * power.poll_s} s)")
    _check_text("shutdown_command", power.shutdown_command)
    _check_text("notify_command", power.notify_command or "")
    if power.standalone and (power.role != "primary" or set(power.listen) - {"127.0.0.1", "::1"}):
        raise PowerError("a stand-alone host has its UPS to itself: role primary, and 127.0.0.1 alone in listen")
    faults = power_host.faults_of(power.around)
    if faults:
        raise PowerError("; ".join(faults))
    if not re.fullmatch(r"/[A-Za-z0-9._/-]+", power.power_down_flag):
        raise PowerError(f'power_down_flag is "{power.power_down_flag}", expected the full path of a file')


def render_nut_conf(power: Power) -> str:
    """nut.conf."""
    return (
        HEADER
        + f"MODE={'standalone' if power.standalone else 'netserver' if power.role == 'primary' else 'netclient'}\n"
    )


def render_ups_conf(power: Power) -> str:
    """ups.conf."""
    text = HEADER + "maxretry = 3\n"
    for ups in power.ups:
        text += f"\n[{ups.name}]\n  driver = {quote(ups.driver)}\n  port = {quote(ups.port)}\n"
        if ups.description:
            text += f"  desc = {quote(ups.description)}\n"
        settings = {**ups.settings, **ups.secrets}
        if ups.driver == DUMMY:
            settings.setdefault("mode", DUMMY_MODE)
        for key, value in sorted(settings.items()):
            if value is True:
                text += f"  {key}\n"
            elif value is not False and value is not None:
                text += f"  {key} = {quote(str(value))}\n"
    return text


def render_upsd_conf(power: Power) -> str:
    """upsd.conf."""
    return HEADER + "".join(f"LISTEN {address} 3493\n" for address in power.listen)


def render_upsd_users(power: Power) -> str:
    """upsd.users."""
    text = HEADER
    for user in power.users:
        text += f"\n[{user.name}]\n  password = {quote(user.password)}\n"
        if user.role:
            text += f"  upsmon {user.role}\n"
        for action in user.actions:
            text += f"  actions = {action}\n"
        for command in user.instcmds:
            text += f"  instcmds = {command}\n"
    return text


def off_duration_s(power: Power) -> int:
    """Seconds after which a UPS that says it is off counts as gone; negative: it never does.

    A host that would stop by that alone gets its power from it, whatever it says. With another feed it may be true, and the
    host must not count on this one when the other runs low.
    """
    supplied = [m.power_value for m in power.monitors]
    return OFF_NEVER if sum(supplied) - max(supplied, default=0) < power.min_supplies else OFF_S


def render_upsmon_conf(power: Power) -> str:
    """upsmon.conf."""
    text = HEADER
    for m in power.monitors:
        text += f"MONITOR {m.ups}@{m.address} {m.power_value} {m.user} {quote(m.password)} {m.type}\n"
    text += (
        f"MINSUPPLIES {power.min_supplies}\n"
        f"SHUTDOWNCMD {quote(power.shutdown_command)}\n"
        f"POWERDOWNFLAG {quote(power.power_down_flag)}\n"
        f"POLLFREQ {power.poll_s}\n"
        f"POLLFREQALERT {power.poll_s}\n"
        f"HOSTSYNC {power.host_sync_s}\n"
        f"DEADTIME {power.dead_time_s}\n"
        f"OFFDURATION {off_duration_s(power)}\n"
        f"FINALDELAY {power.final_delay_s}\n"
    )
    flags = list(power.notify)
    if power.notify_command:
        text += f"NOTIFYCMD {quote(power.notify_command)}\n"
        flags.append("EXEC")
    return text + "".join(f"NOTIFYFLAG {notice} {'+'.join(flags) or 'IGNORE'}\n" for notice in NOTICES)


def render_dummy(ups: Ups) -> str:
    """Render the file from which dummy-ups takes a UPS that is full and on mains."""
    text = HEADER + "ups.mfr: Holdfast\nups.model: practice UPS\nups.status: OL\nbattery.charge: 100\n"
    return text + (f"battery.runtime: {ups.runtime_s}\n" if ups.runtime_s else "")


def render_drop_in() -> str:
    """Render what we add to nut-server.service."""
    return HEADER + (
        "[Unit]\n"
        "# a host that is no longer a primary has no upsd.conf, and then needs no server\n"
        f"ConditionPathExists={FOLDER}/upsd.conf\n"
        "# its address has to be there first: upsd does not come back to one that it could not listen on\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        "StartLimitIntervalSec=0\n"
        "[Service]\n"
        "Restart=on-failure\n"
        "RestartSec=2s\n"
    )


def render_monitor_drop_in() -> str:
    """Render what we add to nut-monitor.service: a host without its monitor would not be stopped."""
    return HEADER + "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=on-failure\nRestartSec=2s\n"


def driver_drop_in(ups: str) -> str:
    """Name the drop-in of a UPS's driver."""
    return f"/etc/systemd/system/{driver_unit(ups)}.d/{power_host.DROP_IN}"


def render_driver_drop_in(ups: Ups) -> str:
    """Render what a driver on a serial device needs: its device, at each start, as the device is made anew at boot."""
    return HEADER + (
        f"[Service]\nExecStartPre=+/usr/bin/chgrp nut {ups.port}\nExecStartPre=+/usr/bin/chmod 0660 {ups.port}\n"
    )


def _nut_file(name: str, text: str | bytes | None, secret: bool = False) -> File:
    content = text.encode("ascii") if isinstance(text, str) else text
    return File(f"{FOLDER}/{name}", content, mode=0o640, owner="root", group="nut", secret=secret)


def _dummy_files(power: Power, present: Present) -> list[File]:
    contents: dict[str, bytes] = {}
    for ups in power.ups:
        if ups.driver == DUMMY and ups.settings.get("mode", DUMMY_MODE) == DUMMY_MODE:
            # the driver reads a changed file at once, which would end a drill or a test that is under way
            keep = ups.port in present.dummy_files and driver_unit(ups.name) in present.running
            contents[ups.port] = present.dummy_files[ups.port] if keep else render_dummy(ups).encode("ascii")
    files = [_nut_file(name, content) for name, content in sorted(contents.items())]
    ours = [name for name, content in sorted(present.dummy_files.items()) if content.startswith(HEADER.encode())]
    return files + [_nut_file(name, None) for name in ours if name not in contents]


def kept_dummies(power: Power, present: Present) -> list[str]:
    """Name the dummy files that differ from their description and are kept because their driver runs."""
    return [
        f"{FOLDER}/{ups.port}"
        for ups in power.ups
        if ups.driver == DUMMY
        and ups.port in present.dummy_files
        and driver_unit(ups.name) in present.running
        and present.dummy_files[ups.port] != render_dummy(ups).encode("ascii")
    ]


def wanted(power: Power, present: Present, practice: str, host: str, program: Mapping[str, str]) -> Wanted:
    """Turn a configuration that passed check() into files and units, without what an earlier one left behind.

    program: text of each file that the host's own programs are made of.
    """
    primary = power.role == "primary"
    serial = {driver_drop_in(ups.name): ups for ups in power.ups if SERIAL.fullmatch(ups.port)}
    files = [
        stamp.wanted(practice, host),
        File(DROP_IN, render_drop_in().encode("ascii")),
        File(MONITOR_DROP_IN, render_monitor_drop_in().encode("ascii")),
        *(File(path, render_driver_drop_in(ups).encode("ascii")) for path, ups in sorted(serial.items())),
        _nut_file("nut.conf", render_nut_conf(power)),
        *(_dummy_files(power, present) if primary else _dummy_files(Power(power.role, ()), present)),
        # secret for what it may hold now or may have held
        _nut_file("ups.conf", render_ups_conf(power) if primary else None, secret=True),
        _nut_file("upsd.conf", render_upsd_conf(power) if primary else None),
        _nut_file("upsd.users", render_upsd_users(power) if primary else None, secret=True),
        _nut_file("upsmon.conf", render_upsmon_conf(power), secret=True),
    ]
    drivers = [driver_unit(ups.name) for ups in power.ups]
    ups_conf, nut_conf = f"{FOLDER}/ups.conf", f"{FOLDER}/nut.conf"
    server_files = (ups_conf, f"{FOLDER}/upsd.conf", f"{FOLDER}/upsd.users", nut_conf, DROP_IN)
    found = [path for path in present.files if path not in serial]
    around = power_host.wanted(
        power.around,
        primary,
        [ups.name for ups in power.ups],
        power.power_down_flag,
        program,
        found,
        holding=any(monitor.type == "secondary" for monitor in power.monitors),
    )
    units = [
        *around.units,
        *(Unit(name, False, False) for name in ENUMERATORS),
        *(Unit(name, False, False) for name in sorted(present.drivers) if name not in drivers),
        *(Unit(driver_unit(u.name), True, True, (ups_conf, driver_drop_in(u.name))) for u in power.ups),
        Unit(DRIVER_TARGET, primary, primary),
        Unit(SERVER, primary, primary, server_files if primary else ()),
        Unit(MONITOR, True, True, (f"{FOLDER}/upsmon.conf", nut_conf)),
        Unit(TARGET, True, True),
    ]
    folders = [Dir(path.rsplit("/", 1)[0]) for path in sorted(serial)]
    dirs = [stamp.folder(), Dir(DROP_IN_FOLDER), Dir(MONITOR_FOLDER), *folders, *around.dirs]
    return Wanted(dirs, [*files, *around.files], units)


def ceded(power: Power | None, present: Present, practice: str, host: str, program: Mapping[str, str]) -> Wanted:
    """Describe what a host gives up before another becomes primary of a UPS that was its own. None: no UPS feeds it."""
    if power is None:
        return absent(present, FLAG, program) if present.ours else Wanted()
    if power.role == "primary":
        own = [driver_unit(ups.name) for ups in power.ups]
        return Wanted(units=[Unit(name, False, False) for name in sorted(present.drivers) if name not in own])
    if present.ours and (present.primary_files or present.drivers):
        return wanted(power, present, practice, host, program)
    return Wanted()


def absent(present: Present, power_down_flag: str, program: Mapping[str, str]) -> Wanted:
    """Describe a host without NUT: no configuration, no credential, no unit that runs or would run at boot."""
    names = [*SHARED_FILES, *PRIMARY_FILES]
    secret = ("ups.conf", "upsd.users", "upsmon.conf")
    files = [_nut_file(name, None, secret=name in secret) for name in names]
    around = power_host.absent(power_down_flag, program, present.files)
    units = [
        *around.units,
        *(Unit(name, False, False) for name in ENUMERATORS),
        *(Unit(name, False, False) for name in sorted(present.drivers)),
        *(Unit(name, False, False) for name in (DRIVER_TARGET, SERVER, MONITOR, TARGET)),
    ]
    return Wanted(
        [Dir(DROP_IN_FOLDER, absent=True), Dir(MONITOR_FOLDER, absent=True), *around.dirs],
        [
            *files,
            *_dummy_files(Power("secondary", ()), present),
            File(DROP_IN, None),
            File(MONITOR_DROP_IN, None),
            *around.files,
        ],
        units,
    )
