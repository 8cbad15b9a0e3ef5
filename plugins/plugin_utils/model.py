# SPDX-License-Identifier: Apache-2.0
"""What a practice document may say: its parts, their types and defaults.

Field descriptions are what the error messages call "expected". Single values are in leaves.py, what must hold between the
parts in rules.py, what this version does not do yet in available.py; check.py takes a document through all of them.
"""

# No postponed annotations here: pydantic would compile each of them from its text, at every start of Ansible.

from typing import Annotated, Literal

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import (
    CONTROL_NODE,
    DAY_S,
    SSH_PORT,
    AbsolutePath,
    Address,
    Argv,
    Bucket,
    Clock,
    Country,
    DatabaseName,
    Date,
    Days,
    Device,
    Driver,
    DriverPort,
    Email,
    Engine,
    FilePattern,
    HostId,
    ItemId,
    Line,
    LocalUrl,
    Long,
    Mac,
    Moment,
    Name,
    NamedParts,
    NetbiosName,
    NightWindow,
    NoneOrSeveral,
    Often,
    Package,
    PathBeside,
    Pattern,
    Phone,
    Place,
    Port,
    PracticeId,
    Rate,
    Recipient,
    RestoreDriver,
    Setting,
    SettingName,
    Several,
    Sha256,
    Short,
    Size,
    Sql,
    Unit,
    Unprivileged,
    Url,
    UserName,
    Uuid,
    Version,
    Window,
    Zone,
    choice,
    seconds,
    weekdays,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import DAY_MIN, minutes
from pydantic import BaseModel, ConfigDict, Field

FINALDELAY_S = 5  # NUT's pause before the primary goes
LATE_HOOK_S = 30  # of the hook that tells the UPS to cut the power, and of the UPS until it does
LOW_RESERVE_S = 60  # beyond what a shutdown needs, where the document does not say when a battery is low


class Part(BaseModel):
    """A mapping of the document: unknown keys are refused, types are taken as written."""

    # defer_build: the whole document's validator holds all the others; building each on its own doubles the start.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Identity(Part):
    """Who the practice is."""

    id: PracticeId = Field(description="an id such as harbour-street: 1-63 characters a-z 0-9 -")
    name: Line = Field(description="the name of the practice, one line of at most 255 characters")
    country: Country = Field(description='a country code of two capital letters in quotes, such as "AU"')
    timezone: Zone = Field(description="an IANA region zone such as Australia/Perth")
    location: Place | None = Field(
        default=None, description="[latitude, longitude] in degrees, such as [-33.86, 151.21]"
    )
    data_countries: Annotated[list[Country], Several] | None = Field(
        default=None, description='the countries that copies may lie in, such as ["AU", "NZ"]; left out: only its own'
    )


class Agreement(Part):
    """What was agreed with a provider, and when somebody last looked at it."""

    reference: Line = Field(description="the agreement's number or name")
    reviewed: Date = Field(description='a date as "YYYY-MM-DD" in quotes')
    until: Date | None = Field(default=None, description='a date as "YYYY-MM-DD" in quotes')


class Contact(Part):
    """A person or company to turn to."""

    name: Line = Field(description="a name")
    role: Line | None = Field(default=None, description="what the person does, such as practice manager")
    email: Email = Field(description="a mail address such as manager@example.org")
    phone: Phone | None = Field(default=None, description='a telephone number in quotes, such as "+61 2 5550 1234"')
    agreement: Agreement | None = Field(default=None, description='{reference: NAME, reviewed: "YYYY-MM-DD"}')
    recipient: Recipient | None = Field(
        default=None, description="an age recipient (age1...): the recovery kit is sealed to it"
    )


class Contacts(Part):
    """Whom reports go to."""

    backup_owner: Contact = Field(description="the person in the practice who answers for backups: {name, role, email}")
    it_provider: Contact | None = Field(default=None, description="the IT provider: {name, email}")
    software_vendor: Contact | None = Field(
        default=None, description="the maker of the practice's software: {name, email}"
    )


class Objectives(Part):
    """How much may be lost, and how long a restore may take."""

    rpo: Short = Field(default="24h", description="a time such as 24h or 2d (m, h, d, w)")
    rto: Short = Field(default="4h", description="a time such as 4h (m, h, d, w)")
    rto_offsite: Short | None = Field(
        default=None,
        description="how long a restore over the line may take, such as 3d (m, h, d, w); left out: as long as rto",
    )
    read_within: Short = Field(
        default="28d",
        description="within this time proofs have read every stored byte, such as 28d (m, h, d, w); a large repository is read "
        "in portions",
    )
    proven: Long = Field(
        default="180d",
        description="within what time everything that is kept has been proven, such as 180d (h, d, w, mo, y)",
    )


class Access(Part):
    """How the control node logs in."""

    user: UserName = Field(default="root", description="a user name such as root")
    key: PathBeside | None = Field(
        default=None, description="the name of a private key file in the practice's folder, such as ssh_key"
    )


class Pool(Part):
    """The disks that hold the backups."""

    profile: Annotated[
        str, *choice("single", "raid1", later=("raid0", "raid5", "raid6", "raid10", "raid1c3", "dup"))
    ] = Field(description="raid1 or single")
    devices: Annotated[list[Device], Several] = Field(
        description="a list of disks by a lasting name, such as [/dev/disk/by-id/ata-ONE, /dev/disk/by-id/ata-TWO]"
    )
    capacity: Size | None = Field(
        default=None, description='how much the pool holds, mirrors counted once, such as "4TiB" (KiB, MiB, GiB, TiB)'
    )


class _Machine(Part):
    address: Address = Field(description="an IPv4 or IPv6 address or a host name")
    ssh_port: Port = Field(default=SSH_PORT, description="a port, a whole number from 1 to 65535")
    netbios_name: NetbiosName | None = Field(
        default=None, description="a NetBIOS name: 1-15 characters a-z 0-9 - (needed when the host's name is longer)"
    )
    stop_time: Moment = Field(
        default="180s", description="how long the machine takes to stop at most, such as 180s or 5m (s, m, h)"
    )
    min_supplies: Annotated[int, Field(ge=1, le=4)] = Field(
        default=1,
        description="how many of its UPSs the machine needs to run: 1, or 2 when one feed alone cannot carry it",
    )

    applications: Annotated[list[Unit], NoneOrSeveral] | None = Field(
        default=None,
        description="a list of units that stop before the databases, such as [pms.service]; left out: those of its items' "
        "application",
    )
    stop_limits: Annotated[dict[Unit, Moment], NamedParts] | None = Field(
        default=None, description="how long a unit may take to stop, by its name, such as {pms.service: 60s} (s, m, h)"
    )
    wake: Mac | None = Field(
        default=None,
        description='the MAC address that wakes the machine over the network, in quotes, such as "52:54:00:12:34:56"',
    )


class Nas(_Machine):
    """The machine that keeps the onsite copies."""

    kind: Literal["nas"]
    pool: Pool = Field(description="{profile: raid1, devices: [/dev/disk/by-id/..., /dev/disk/by-id/...]}")
    repository_port: Port = Field(default=8000, description="a port, a whole number from 1 to 65535")


class Winrm(Part):
    """How a Windows host is spoken to."""

    port: Port = Field(default=5986, description="the port of WinRM over TLS, 5986")
    scheme: Annotated[str, *choice("https")] = Field(default="https", description="https")
    cert_validation: Annotated[str, *choice("validate")] = Field(default="validate", description="validate")


class _Agent(_Machine):
    os: Annotated[str, *choice("linux", "windows", later=("macos",))] = Field(
        default="linux", description="linux or windows"
    )
    winrm: Winrm | None = Field(default=None, description="{port: 5986}, for hosts with os: windows")
    protect: Annotated[list[Name], Several] | None = Field(
        default=None, description="a list of names that are described below protect:, such as [clinical_db, documents]"
    )
    quota: Size | None = Field(default=None, description='a size with its unit, such as "200GiB" (KiB, MiB, GiB, TiB)')


class Server(_Agent):
    """A machine that serves others."""

    kind: Literal["server"]
    may_be_off: Short | None = Field(
        default=None, description="how long beyond its schedule the machine may be silent, such as 2d (m, h, d, w)"
    )


class Workstation(_Agent):
    """A machine somebody sits at."""

    kind: Literal["workstation"]
    may_be_off: Short = Field(
        default="3d", description="how long beyond its schedule the machine may be silent, such as 3d (m, h, d, w)"
    )


class Standby(_Machine):
    """A machine that takes over when the server is lost."""

    kind: Literal["standby"]


class RestoreHost(Part):
    """A disposable machine on which restores are proven."""

    kind: Literal["restore_host"]
    driver: RestoreDriver = Field(
        default="nspawn",
        description="nspawn, spare or the full name of a role that is a driver, such as acme.proofs.vm",
    )
    on: Address = Field(
        default=CONTROL_NODE,
        description="localhost, or the address of a Linux machine that carries restores and does nothing else",
    )
    ssh_port: Port = Field(default=SSH_PORT, description="a port, a whole number from 1 to 65535")
    store: Annotated[str, *choice("encrypted", "memory")] = Field(
        default="encrypted",
        description="encrypted (on the disk, with a key that is thrown away) or memory (faster, when a restore fits)",
    )
    space: Size | None = Field(
        default=None, description='how much room it has for restored data, such as "500GiB" (KiB, MiB, GiB, TiB)'
    )


Host = Annotated[Nas | Server | Standby | Workstation | RestoreHost, Field(discriminator="kind")]
HOST_KINDS: dict[str, type[Part]] = {
    "nas": Nas,
    "server": Server,
    "standby": Standby,
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

    engine: Engine = Field(
        description="a supported engine (postgresql, mariadb, sqlite, firebird, sqlserver, command, pickup)"
    )
    name: DatabaseName | None = Field(default=None, description="the database's name, at most 63 characters")
    path: AbsolutePath | None = Field(
        default=None,
        description="the database's file, for engines that are one: an absolute path such as /srv/pms/pms.db",
    )
    version: Version | None = Field(
        default=None, description='the engine\'s version in quotes, such as "17" or "10.11"'
    )
    dump: Annotated[list[Line], Argv] | None = Field(
        default=None,
        description="for command: the vendor's program and its arguments, such as [/opt/vendor/bin/dump, --all]",
    )
    user: Unprivileged | None = Field(
        default=None, description="for command: the name of the user that the program runs as; left out: holdfast"
    )
    end_marker: Line | None = Field(
        default=None, description="for command: how the last line of a whole dump begins, in quotes"
    )
    pattern: FilePattern | None = Field(
        default=None, description='for pickup: a pattern of file names in quotes, such as "*.bak"'
    )
    max_age: Short | None = Field(
        default=None, description="for pickup: how old the newest file may be, such as 26h (m, h, d, w)"
    )
    min_size: Size | None = Field(
        default=None, description='for pickup: how small the newest file may be, such as "1MiB" (KiB, MiB, GiB, TiB)'
    )
    wait: Moment | None = Field(
        default=None, description="for pickup: how long to wait for a file that is still written, such as 10m (s, m, h)"
    )
    check: Annotated[list[Line], Argv] | None = Field(
        default=None,
        description='for command and pickup: what tries a restored dump, such as [/usr/bin/gzip, -t, "{dump}"]',
    )
    packages: Annotated[list[Package], Several] | None = Field(
        default=None, description="for command and pickup: Debian packages that the check needs, such as [gzip]"
    )


_WIRES = ("canary", "magic", "change", "rename", "entropy")
Percent = Annotated[int, Field(ge=1, le=100)]


class Tripwires(Part):
    """What makes a backup suspect of harmful software. Shares are in percent of the files that a wire judges."""

    canaries: Annotated[list[AbsolutePath], Several] | None = Field(
        default=None,
        description="a list of PDF files of our own to lay below paths; left out: one in each of them",
    )
    disable: Annotated[list[Annotated[str, *choice(*_WIRES)]], Several] | None = Field(
        default=None, description="a list of wires to switch off, such as [change]"
    )
    least: Annotated[int, Field(ge=1, le=10**6)] = Field(
        default=10, description="the fewest files that raise anything, a whole number from 1"
    )
    magic: Percent = Field(
        default=20, description="files of a known type that do not begin as it does: a percentage, 1 to 100"
    )
    entropy: Percent = Field(default=20, description="text files that look random: a percentage, 1 to 100")
    rename: Percent = Field(
        default=20, description="files that came back under an unknown ending: a percentage, 1 to 100"
    )
    change: Percent = Field(default=30, description="files that changed or went: a percentage, 1 to 100")


class Hook(Part):
    """A program of the practice's own that runs beside a backup."""

    run: Annotated[list[Line], Argv] = Field(
        description="a program by its absolute path and its arguments, such as [/usr/bin/systemctl, stop, pms.service]"
    )
    limit: Moment = Field(default="5m", description="a time such as 30s or 5m (s, m, h)")
    user: UserName = Field(default="root", description="a user name such as root")


class Hooks(Part):
    """Programs that run before a backup, after it and when it failed."""

    before: Hook | None = Field(default=None, description="{run: [PROGRAM, ...]}; where it fails, nothing is backed up")
    after: Hook | None = Field(default=None, description="{run: [PROGRAM, ...]}; runs whenever before has")
    on_failure: Hook | None = Field(default=None, description="{run: [PROGRAM, ...]}; runs when the backup failed")


class Ask(Part):
    """One question to a restored copy of the practice's software: http, port, query or command."""

    http: LocalUrl | None = Field(
        default=None, description='an address inside the machine in quotes, such as "http://127.0.0.1:8042/system"'
    )
    status: Annotated[int, Field(ge=100, le=599)] | None = Field(
        default=None, description="for http: the status that it answers with, 100 to 599; left out: 200"
    )
    contains: Line | None = Field(default=None, description="for http: a text that is in the answer")
    count: Sql | None = Field(
        default=None,
        description="for http: one select statement; the list that is answered has as many entries as it says",
    )
    rows: Sql | None = Field(
        default=None,
        description="for http: one select statement; its rows are asked for, their words being {1}, {2} ...",
    )
    file: Line | None = Field(
        default=None, description='for http with rows: the saved file that comes back, such as "{2}"'
    )
    port: Port | None = Field(default=None, description="a port, a whole number from 1 to 65535")
    query: Sql | None = Field(default=None, description="one select statement that gives something")
    command: Annotated[list[Line], Argv] | None = Field(
        default=None, description="a program by its absolute path and its arguments, such as [/usr/bin/pms, --check]"
    )
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = Field(
        default=None, description="for command: what it ends with, 0 to 255; left out: 0"
    )
    user: UserName | None = Field(default=None, description="for command: a user name such as orthanc; left out: root")


class Application(Part):
    """How a copy of the practice's software is brought up on the restore machine, and what it has to answer."""

    packages: Annotated[list[Package], Several] | None = Field(
        default=None, description="Debian packages that it needs, such as [orthanc, orthanc-postgresql]"
    )
    needs: Annotated[list[Name], Several] | None = Field(
        default=None, description="items of the same host whose files it needs besides, such as [imaging_settings]"
    )
    owner: UserName | None = Field(
        default=None, description="the user that the restored files belong to, such as orthanc"
    )
    units: Annotated[list[Unit], Several] | None = Field(
        default=None, description="the units that are started, such as [orthanc.service]"
    )
    limit: Moment = Field(default="2m", description="how long until all is answered, such as 30s or 5m (s, m, h)")
    ask: Annotated[dict[ItemId, Ask], NamedParts] = Field(
        description='named questions such as system: {http: "http://127.0.0.1:8042/system"}'
    )


class Item(Part):
    """Something to protect: a database or folders. Take its times from schedule(), which knows the defaults."""

    database: Database | None = Field(
        default=None, description="{engine: postgresql, name: NAME} or {engine: sqlite, path: FILE}"
    )
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
    min_size: Size | None = Field(default=None, description='a size with its unit, such as "1GiB" (KiB, MiB, GiB, TiB)')
    mounts: Annotated[list[AbsolutePath], NoneOrSeveral] | None = Field(
        default=None,
        description="a list of paths that must be mounted, such as [/srv/pms]; left out: those of the last good run",
    )
    class_: Annotated[str, *choice("critical", "sensitive", "ordinary")] = Field(
        default="ordinary", alias="class", description="critical, sensitive or ordinary"
    )
    every: Annotated[str, *choice("1h", "2h", "3h", "4h", "6h", "8h", "12h", "24h")] | None = Field(
        default=None, description="1h, 2h, 3h, 4h, 6h, 8h, 12h or 24h"
    )
    at: Clock | None = Field(default=None, description='a time of day as "HH:MM" in quotes, "00:00" to "23:59"')
    days: Days | None = Field(default=None, description="a day (sat) or a span (mon-fri), beside at: HH:MM")
    time_limit: Short | None = Field(default=None, description="a time such as 2h (m, h, d, w)")
    window: NightWindow | None = Field(
        default=None, description='when backups may run, as "HH:MM-HH:MM" in quotes; left out: at any time'
    )
    at_window_end: Annotated[str, *choice("stop", "throttle")] = Field(
        default="stop", description="stop, or throttle beside throttle_to: RATE"
    )
    throttle_to: Rate | None = Field(default=None, description='a rate such as "1Mbit/s" (kbit/s, Mbit/s, Gbit/s)')
    limits: Annotated[dict[NightWindow, Rate], NamedParts] | None = Field(
        default=None, description='rates by time of day such as {"08:00-18:00": 2Mbit/s}; the lowest in force counts'
    )
    dump_limit: Short | None = Field(default=None, description="a time such as 1h (m, h, d, w), for a database")
    nice: Annotated[int, Field(ge=0, le=19)] = Field(default=15, description="a whole number from 0 to 19 (gives way)")
    io_class: Annotated[str, *choice("best-effort", "idle")] = Field(
        default="best-effort", description="best-effort or idle"
    )
    size: Size | None = Field(default=None, description='how much there is, such as "200GiB" (KiB, MiB, GiB, TiB)')
    daily_change: Size | None = Field(
        default=None, description='how much of it changes or comes in a day, such as "2GiB" (KiB, MiB, GiB, TiB)'
    )
    images: Images | None = Field(default=None, description="{query: select ..., root: /srv/...}")
    probes: Annotated[dict[ItemId, Sql], NamedParts] | None = Field(
        default=None, description="named select statements that give one value each"
    )
    tripwires: Tripwires | None = Field(
        default=None, description="{canaries: [...], disable: [...], least: 10}; left out: all wires, as they come"
    )
    application: Application | None = Field(
        default=None,
        description="{packages: [...], units: [...], ask: {NAME: {http: ...}}}; left out: its level is not promised",
    )
    hooks: Hooks | None = Field(
        default=None, description="{before: {run: [PROGRAM, ...]}, after: {run: [PROGRAM, ...]}, on_failure: ...}"
    )


class Onsite(Part):
    """The copy in the house."""

    on: Name = Field(description="the name of a host of kind nas")


class S3(Part):
    """An S3 bucket."""

    bucket: Bucket = Field(description="a bucket's name: 3-63 characters a-z 0-9 - .")
    region: Line = Field(description="a region such as ap-southeast-2")
    endpoint: Url | None = Field(
        default=None, description='the address of a provider other than AWS, such as "https://s3.example.org"'
    )
    object_lock: Long | None = Field(default=None, description="a time such as 30d (h, d, w, mo, y)")


class Rest(Part):
    """A rest-server elsewhere."""

    url: Url = Field(description='an address such as "https://backup.example.org:8000"')


class Sftp(Part):
    """An SFTP account elsewhere."""

    host: Address = Field(description="an IPv4 or IPv6 address or a host name")
    port: Port = Field(default=SSH_PORT, description="a port, a whole number from 1 to 65535")
    user: UserName = Field(description="a user name such as holdfast")
    path: AbsolutePath = Field(description="an absolute path such as /srv/copies")


class Offsite(Part):
    """The copy in another place."""

    s3: S3 | None = Field(default=None, description="{bucket: NAME, region: REGION}")
    rest: Rest | None = Field(default=None, description='{url: "https://..."}')
    sftp: Sftp | None = Field(default=None, description="{host, user, path}")
    country: Country | None = Field(
        default=None, description="the country that the copy lies in, in quotes; AWS regions are known without it"
    )
    location: Place | None = Field(
        default=None, description="[latitude, longitude] in degrees, such as [-37.81, 144.96]"
    )
    min_distance_km: Annotated[int, Field(ge=1, le=20000)] = Field(
        default=20, description="a whole number of kilometres from 1"
    )
    at: Clock = Field(default="23:00", description='a time of day as "HH:MM" in quotes, "00:00" to "23:59"')
    window: NightWindow | None = Field(default=None, description='a window as "HH:MM-HH:MM" in quotes')
    limit_up: Rate | None = Field(default=None, description='a rate such as "10Mbit/s" (kbit/s, Mbit/s, Gbit/s)')
    first_copy: Annotated[str, *choice("line", "disk")] = Field(
        default="line", description="line, or disk when the first copy is carried there"
    )


class RemovableDisk(Part):
    """A disk that is carried away."""

    uuid: Uuid = Field(description="the UUID of the disk's file system, in quotes (blkid prints it)")


class Removable(Part):
    """Disks that are swapped and carried away."""

    on: Name = Field(description="the host that the disks are plugged into")
    disks: Annotated[dict[ItemId, RemovableDisk], NamedParts] = Field(
        description='{blue: {uuid: "..."}, red: {uuid: "..."}}'
    )
    rotate: Often = Field(default="weekly", description="daily, weekly or monthly")
    max_gap: Long | None = Field(
        default=None, description="the longest time without a swap, such as 7d (h, d, w, mo, y)"
    )


class StandbyCopy(Part):
    """The copy that a standby machine keeps ready."""

    on: Name = Field(description="the name of a host of kind standby")


class Archive(Part):
    """Restore points that are set aside for years."""

    on: Name = Field(description="the name of a host of kind nas")
    every: Annotated[str, *choice("monthly", "yearly")] = Field(default="yearly", description="monthly or yearly")
    keep: Long = Field(default="7y", description="a time such as 7y (h, d, w, mo, y)")


class Copies(Part):
    """Where copies go."""

    onsite: Onsite = Field(description="{on: NAME_OF_A_NAS}")
    offsite: Offsite | None = Field(
        default=None, description="{s3: {...}}, {rest: {url}} or {sftp: {host, user, path}}"
    )
    removable: Removable | None = Field(
        default=None, description="{on: NAME_OF_A_NAS, disks: {blue: {uuid}, red: {uuid}}}"
    )
    standby: StandbyCopy | None = Field(default=None, description="{on: NAME_OF_A_STANDBY}")
    archive: Archive | None = Field(default=None, description="{on: NAME_OF_A_NAS, every: yearly, keep: 7y}")


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


class Slot(Part):
    """When a piece of maintenance runs."""

    days: Days = Field(description="a day (mon tue wed thu fri sat sun) or a span such as mon-fri")
    window: NightWindow = Field(description='a window as "HH:MM-HH:MM" in quotes')


class Maintenance(Part):
    """When the NAS forgets, checks and restarts."""

    prune: Slot | None = Field(default=None, description='{days: sun, window: "HH:MM-HH:MM"}')
    check: Slot | None = Field(default=None, description='{days: sat, window: "HH:MM-HH:MM"}')
    reboot: Slot | None = Field(default=None, description='{days: sun, window: "HH:MM-HH:MM"}')


class Battery(Part):
    """How old a battery is."""

    installed: Date = Field(description='the day it was put in, as "YYYY-MM-DD" in quotes')
    replace_by: Date = Field(description='the day by which it is to be replaced, as "YYYY-MM-DD" in quotes')


class Ups(Part):
    """A battery and what hangs on it."""

    attached_to: Name = Field(
        description="the host that the UPS's data cable goes to (the primary, which cuts the power last)"
    )
    driver: Driver = Field(description="a NUT driver such as usbhid-ups or snmp-ups")
    port: DriverPort | None = Field(default=None, description="the driver's port: auto, a device or an address")
    description: Line | None = Field(default=None, description="one line about the UPS")
    settings: Annotated[dict[SettingName, Setting], NamedParts] | None = Field(
        default=None, description="further settings of the NUT driver, each a text in quotes"
    )
    vault_settings: Annotated[list[SettingName], Several] | None = Field(
        default=None,
        description="settings that nobody may read, such as [community]; their texts are vault_ups_secrets in the vault",
    )
    feeds: Annotated[list[Name], Several] = Field(description="a list of hosts such as [nas1, server1]")
    runtime: Short = Field(description="how long the battery carries everything, such as 10m")
    hostsync: Moment = Field(
        default="15s", description="how long the primary waits for the others to go, such as 15s or 2m (s, m, h)"
    )
    low_battery: Moment | None = Field(
        default=None,
        description="how much runtime is left when everything is told to stop, such as 8m (s, m, h); left out: what that "
        "needs and a minute more",
    )
    battery: Battery | None = Field(default=None, description='{installed: "YYYY-MM-DD", replace_by: "YYYY-MM-DD"}')
    self_test: Long | None = Field(
        default=None, description="how often the battery is tested, such as 4w or 1mo (h, d, w, mo, y); left out: never"
    )


class Network(Part):
    """The line between the practice and the world."""

    up: Rate = Field(description='a rate such as "20Mbit/s" (kbit/s, Mbit/s, Gbit/s)')
    down: Rate = Field(description='a rate such as "100Mbit/s" (kbit/s, Mbit/s, Gbit/s)')
    monthly: Size | None = Field(default=None, description='how much may be sent in a month, such as "500GiB"')


class Mail(Part):
    """How alerts leave as mail."""

    relay: Address = Field(description="the mail server's address")
    port: Port = Field(default=587, description="a port, a whole number from 1 to 65535")
    tls: Annotated[str, *choice("starttls", "tls")] = Field(default="starttls", description="starttls or tls")
    sender: Email = Field(description="a mail address such as holdfast@example.org")
    to: Annotated[list[Email], Several] | None = Field(
        default=None,
        description="a list of mail addresses, told beside backup_owner and it_provider of contacts",
    )
    user: Line | None = Field(
        default=None, description="the login at the mail server, whose password is vault_mail_password in the vault"
    )
    ca: PathBeside | None = Field(
        default=None,
        description="the name of a PEM file in the practice's folder with the mail server's certificate, such as mail.pem",
    )


class Publish(Part):
    """Where the heads of the evidence are kept beside the NAS, so that nobody can write the past anew."""

    folder: AbsolutePath | None = Field(
        default=None,
        description="a folder that the control node reaches and others keep, such as /media/manager/evidence",
    )
    mail: Annotated[list[Email], Several] | None = Field(
        default=None, description="a list of mail addresses that get a mail for each record, sent as alerts are"
    )


class Evidence(Part):
    """What is done with the signed records beyond keeping them."""

    publish: Publish = Field(description="{folder: /media/manager/evidence, mail: [manager@example.org]}")


class Alerts(Part):
    """Whom to tell when something is late, wrong or silent."""

    mail: Mail | None = Field(default=None, description="{relay: HOST, sender: ADDRESS}")
    heartbeat: Url | None = Field(
        default=None, description='an address outside the site that is called after a good day, such as "https://..."'
    )


class Retired(Part):
    """A host that was taken out; its data is kept."""

    date: Date = Field(description='the day it was retired, as "YYYY-MM-DD" in quotes')
    keep_until: Date | None = Field(
        default=None, description='the day before which its backups are not deleted, as "YYYY-MM-DD" in quotes'
    )
    address: Address | None = Field(
        default=None, description="an IPv4 or IPv6 address or a host name: where the machine is cleaned"
    )
    ssh_port: Port = Field(default=SSH_PORT, description="a port, a whole number from 1 to 65535")


Hours = Annotated[dict[Days, Window], NamedParts]


class Restic(Part):
    """A restic of the practice's own choice for hosts with backups, instead of their distribution's: one file, or one url."""

    file: PathBeside | None = Field(
        default=None, description="a file beside this document, such as restic_0.18.1_linux_amd64.bz2"
    )
    url: Url | None = Field(default=None, description="an address such as https://example.org/restic_linux_amd64.bz2")
    sha256: Sha256 = Field(description="the sha256 of that file: 64 characters 0-9 a-f")


class Programs(Part):
    """Programs that hosts are given instead of their distribution's."""

    restic: Restic | None = Field(default=None, description="{file: FILE or url: ADDRESS, sha256: SUM}")


class Practice(Part):
    """A whole practice document."""

    practice: Identity = Field(description="{id, name, country, timezone}")
    contacts: Contacts = Field(description="backup_owner: {name, role, email}")
    hours: Hours | None = Field(
        default=None, description='opening hours such as mon-fri: "08:00-18:30" or sat: "09:00-12:00"'
    )
    objectives: Objectives = Field(default_factory=Objectives, description="{rpo: 24h, rto: 4h}")
    access: Access = Field(default_factory=Access, description="{user: root, key: ssh_key}")
    hosts: Annotated[dict[HostId, Host], NamedParts] = Field(description="the machines, by name")
    protect: Annotated[dict[ItemId, Item], NamedParts] = Field(description="what is backed up, by name")
    copies: Copies = Field(description="{onsite: {on: NAME_OF_A_NAS}}")
    line: Network | None = Field(default=None, description='{up: "20Mbit/s", down: "100Mbit/s"}')
    retention: Retention = Field(
        default_factory=lambda: Retention(
            within=Within(hourly="2d", daily="35d", weekly="6mo", monthly="3y", yearly="7y")
        ),
        description="{within: {daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}}",
    )
    maintenance: Maintenance | None = Field(
        default=None, description='{prune: {days: sun, window: "HH:MM-HH:MM"}, check: ..., reboot: ...}'
    )
    power: Annotated[dict[HostId, Ups], NamedParts] | None = Field(default=None, description="the UPSs, by name")
    prove: Annotated[dict[Name, Often], NamedParts] | None = Field(
        default=None, description="how often a restore of an item is proven: daily, weekly or monthly"
    )
    evidence: Evidence | None = Field(
        default=None,
        description="{publish: {folder: FOLDER, mail: [ADDRESS]}}: where else heads of the evidence are kept",
    )
    alerts: Alerts | None = Field(default=None, description="{mail: {relay, sender}, heartbeat: ADDRESS}")
    programs: Programs | None = Field(default=None, description="{restic: {file: FILE, sha256: SUM}}")
    retired: Annotated[dict[HostId, Retired], NamedParts] | None = Field(
        default=None, description='hosts that were taken out, by name: {date: "YYYY-MM-DD"}'
    )


DEFAULT_EVERY = "4h"
HOUR_MIN = 60  # within it a job starts that has no time of its own


def schedule(item: Item, usual: str) -> tuple[str | None, str | None]:
    """Give (every, at) of an item, one of them None. Left out: critical databases every 4h, the rest at the usual time.

    With a window it is once a day: at the usual time, or where that is not well within the window, from its start.

    usual: "HH:MM", the practice's own time for backups (times.usual_time of its opening hours).
    """
    if item.every or item.at:
        return item.every, item.at
    if item.database and item.class_ == "critical" and not item.window:
        return DEFAULT_EVERY, None
    if item.window and usual and (minutes(usual) - minutes(item.window[:5])) % DAY_MIN + HOUR_MIN > open_min(item):
        return None, item.window[:5]
    return None, usual


def open_min(item: Item) -> int:
    """Minutes of a day within which an item's backups may run."""
    start, _, end = (item.window or "").partition("-")
    return (minutes(end) - minutes(start)) % DAY_MIN if item.window else DAY_MIN


def interval_s(item: Item) -> int:
    """Seconds from one backup of an item to the next, the longest gap where days are left out."""
    every = schedule(item, "")[0]
    if every:
        # what falls due outside of the window is made when it opens
        return max(seconds(every), min(DAY_S, seconds(every) + (DAY_MIN - open_min(item)) * 60 if item.window else 0))
    days = weekdays(item.days) if item.days else list(range(7))
    return max((after - day - 1) % 7 + 1 for day, after in zip(days, days[1:] + days[:1], strict=True)) * DAY_S
