# SPDX-License-Identifier: Apache-2.0
"""What must hold between the protected items of a practice document, their hosts and their times."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import (
    FILE_ENGINES,
    VENDOR_ENGINES,
    bits_per_s,
    is_windows,
    seconds,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import (
    HOUR_MIN,
    Item,
    interval_s,
    open_min,
    schedule,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import KeyPath, Problem, nearest, show
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import changing_hours, clock, minutes, within
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View


def _protected_items(view: View) -> Iterator[Problem]:
    if not view.items or not view.hosts:
        return
    meant = set()
    for host, names in view.protected.items():
        for index, name in enumerate(names):
            if name not in view.items and view.items_sure:
                meant.add(nearest(name, view.items))
                yield view.unknown(("hosts", host, "protect", index), name, view.items, "an item below protect")
    used = {name for names in view.protected.values() for name in names} | meant
    # A host that cannot be read may be the one that protects an item
    readable = view.hosts_sure and all(
        host or view.kinds[name] in ("nas", "restore_host") or view.protected[name] for name, host in view.hosts.items()
    )
    for name in view.items if readable else ():
        if name not in used:
            fix = f"add {name} to the protect list of a server or workstation"
            yield view.problem(
                ("protect", name), "no host protects it", "each item on at least one host", fix, key=True
            )


def _items_whole(view: View) -> Iterator[Problem]:
    for name, item in view.items.items():
        if item is None:
            continue
        here = ("protect", name)
        if bool(item.database) == bool(item.paths):
            got = "there are both database and paths" if item.paths else "there is neither database nor paths"
            yield view.problem(
                here, got, "one of the two", "describe them as two items" if item.paths else "", key=True
            )
        for whole, keys in (("database", ("images", "probes")), ("paths", _ONLY_WITH_PATHS)):
            for key in keys if not getattr(item, whole) else ():
                if key in item.model_fields_set:
                    got = f"{key} without {'a database' if whole == 'database' else whole}"
                    yield view.problem((*here, key), got, f"{whole}: beside it", key=True)
        if item.tripwires and not item.paths and not item.images:
            got = "tripwires without paths or images"
            yield view.problem((*here, "tripwires"), got, "files to watch", "leave it out", key=True)
        yield from _database_whole(view, name, item)
        yield from _times_whole(view, name, item)


_ONLY_WITH_PATHS = ("must_have", "exclude", "min_files")


def _times_whole(view: View, name: str, item: Item) -> Iterator[Problem]:
    here = ("protect", name)
    if item.every and item.at:
        fix = "keep one of the two"
        yield view.problem((*here, "at"), "there are both every and at", "one schedule", fix, key=True)
    elif item.days and not item.at:
        fix = 'add at: "HH:MM", or leave days out'
        yield view.problem((*here, "days"), "days without at", "at: beside it", fix, key=True)
    if item.time_limit and seconds(item.time_limit) > interval_s(item):
        got, expected = f"got {show(item.time_limit)} (string)", "at most the time between two backups"
        yield view.problem((*here, "time_limit"), got, expected)
    yield from _window_whole(view, name, item)
    if item.dump_limit and not item.database:
        yield view.problem((*here, "dump_limit"), "dump_limit without a database", "database: beside it", key=True)
    elif item.dump_limit and seconds(item.dump_limit) >= seconds(item.time_limit or "2h"):
        got = f"got {show(item.dump_limit)} (string)"
        yield view.problem(
            (*here, "dump_limit"), got, f"less than the item's time_limit, which is {item.time_limit or '2h'}"
        )


SLOWEST = "100kbit/s"  # below it a single piece of a backup takes longer than restic waits for an answer


def _window_whole(view: View, name: str, item: Item) -> Iterator[Problem]:
    here = ("protect", name)
    for key in ("at_window_end", "throttle_to") if not item.window else ():
        if key in item.model_fields_set:
            yield view.problem((*here, key), f"{key} without a window", "window: beside it", key=True)
    if item.window and item.at_window_end == "throttle" and not item.throttle_to:
        got, fix = "at_window_end: throttle without a rate", 'add throttle_to: "1Mbit/s"'
        yield view.problem((*here, "at_window_end"), got, "throttle_to: beside it", fix, key=True)
    if item.window and item.throttle_to and item.at_window_end != "throttle":
        got, fix = "throttle_to where the window's end stops the run", "write at_window_end: throttle, or leave it out"
        yield view.problem((*here, "throttle_to"), got, "at_window_end: throttle beside it", fix, key=True)
    if item.window and open_min(item) < HOUR_MIN:
        got = f"the window {show(item.window)} is shorter than an hour"
        yield view.problem((*here, "window"), got, "a window of at least an hour")
    elif item.window and item.at and not within(minutes(item.window[:5]), open_min(item), minutes(item.at)):
        got, expected = f"got {show(item.at)} (string)", f"a time in the item's window {item.window}"
        yield view.problem((*here, "at"), got, expected, "correct at: or window:")
    rates: list[tuple[KeyPath, str | None]] = [((*here, "throttle_to"), item.throttle_to)]
    rates += [((*here, "limits", window), rate) for window, rate in (item.limits or {}).items()]
    for path, rate in rates:
        if rate and bits_per_s(rate) < bits_per_s(SLOWEST):
            yield view.problem(path, f"got {show(rate)} (string)", f"a rate of at least {SLOWEST}")


def _database_whole(view: View, name: str, item: Item) -> Iterator[Problem]:
    database = item.database
    if database is None:
        return
    here: KeyPath = ("protect", name, "database")
    yield from _vendors_own(view, name, item, here)
    if database.engine in VENDOR_ENGINES:
        return
    wanted, other = ("path", "name") if database.engine in FILE_ENGINES else ("name", "path")
    if getattr(database, wanted) is None:
        expected = "the file that is the database" if wanted == "path" else "the database's name"
        yield view.problem((*here, wanted), "missing", f"{expected} (for {database.engine})")
    if getattr(database, other) is not None:
        got = f"{other} for a database of {database.engine}"
        yield view.problem((*here, other), got, f"only {wanted}", f"leave {other} out", key=True)
    if database.path and (database.path.endswith("\\") or _holds_others(view, name, database.path)):
        got, fix = f"got {show(database.path)}, a folder", "write the path of the database's file"
        yield view.problem((*here, "path"), got, "a file", fix)


# what each key of a database is for; the keys that an engine cannot do without
_ONLY_FOR = {
    **dict.fromkeys(("dump", "user", "end_marker"), ("command",)),
    **dict.fromkeys(("pattern", "max_age", "min_size", "wait"), ("pickup",)),
    **dict.fromkeys(("check", "packages"), VENDOR_ENGINES),
}
_NEEDS = {"command": ("dump",), "pickup": ("path", "pattern")}
_NOT_FOR = {"command": ("name", "path", "version"), "pickup": ("name", "version")}


def _vendors_own(view: View, name: str, item: Item, here: KeyPath) -> Iterator[Problem]:
    """What a vendor's dump needs, and what only it has."""
    database = item.database
    assert database is not None
    engine = database.engine
    for key, engines in _ONLY_FOR.items():
        if getattr(database, key) is not None and engine not in engines:
            got, fix = f"{key} for a database of {engine}", f"leave {key} out"
            yield view.problem((*here, key), got, f"{key} with engine: {' or '.join(engines)}", fix, key=True)
    for key in _NEEDS.get(engine, ()):
        if getattr(database, key) is None:
            yield view.problem(
                (*here, key), "missing", f"{type(database).model_fields[key].description} (for {engine})"
            )
    for key in _NOT_FOR.get(engine, ()):
        if getattr(database, key) is not None:
            needs = " and ".join(_NEEDS[engine])
            yield view.problem(
                (*here, key), f"{key} with engine: {engine}", f"only {needs}", f"leave {key} out", key=True
            )
    for key in ("images", "probes") if engine in VENDOR_ENGINES else ():
        if getattr(item, key) is not None:
            got = f"{key} with engine: {engine}"
            yield view.problem(("protect", name, key), got, "no questions: a vendor's dump cannot be asked", key=True)
    if database.check and not any("{dump}" in word for word in database.check):
        yield view.problem((*here, "check"), "{dump} is not in it", 'the dump\'s path in the check, as "{dump}"')
    if database.packages and not database.check:
        yield view.problem((*here, "packages"), "packages without check", "check: beside it", key=True)


def _holds_others(view: View, name: str, path: str) -> bool:
    """Say whether the document itself names something below a path, on a host that has both."""
    together = {each for names in view.protected.values() if name in names for each in names}
    for other in together:
        item = view.items.get(other)
        paths = [*(item.paths or []), *(item.must_have or [])] if item else []
        paths += [item.database.path] if item and item.database and item.database.path else []
        if any(_below(each, [path]) and _plain(each) != _plain(path) for each in paths):
            return True
    return False


def _engines_fit(view: View) -> Iterator[Problem]:
    """Refuse engines and paths that the host's system does not have."""
    for host, names in view.protected.items():
        system = getattr(view.hosts.get(host), "os", None)
        for index, name in enumerate(names if system else ()):
            item = view.items.get(name)
            if item is None:
                continue
            here: KeyPath = ("hosts", host, "protect", index)
            if item.database and item.database.engine == "sqlserver" and system != "windows":
                got = f"{name} is a database of sqlserver, {host} has os: {system}"
                yield view.problem(
                    here, got, "sqlserver on hosts with os: windows", "write os: windows, or correct engine:"
                )
            paths = [*(item.paths or []), *(item.must_have or []), *(item.mounts or [])]
            paths += [item.database.path] if item.database and item.database.path else []
            foreign = next((path for path in paths if is_windows(path) != (system == "windows")), None)
            if foreign:
                kind = "C:\\..." if system == "windows" else "/srv/..."
                got = f"{name} has the path {show(foreign)}, {host} has os: {system}"
                yield view.problem(
                    here, got, f"paths of {system} such as {kind}", "correct the path, or the host's os:"
                )


def _plain(path: str) -> str:
    return path.replace("\\", "/").lower().rstrip("/") if is_windows(path) else path.rstrip("/")


def _below(path: str, roots: Iterable[str]) -> bool:
    return any(f"{_plain(path)}/".startswith(f"{_plain(root)}/") for root in roots)


_ANY_FILE = ("holdfast-any-file", "Any other.x")  # a pattern that matches both of these matches everything


def hides(pattern: str, path: str) -> bool:
    """Say whether an exclude pattern hides a path, a folder above it, or all that lies in it, as the agent matches."""
    # most documents have no exclude, and each import costs something at every start of Ansible
    from ansible_collections.holdfast.practice.plugins.module_utils.agent_files import compile_excludes, excluded

    if is_windows(path):
        pattern = pattern.replace("\\", "/").lower()
        pattern = "/" + pattern.replace(":", "", 1).strip("/") if re.match("[a-z]:/|//", pattern) else pattern
        path = "/" + _plain(path).replace(":", "", 1).strip("/")
    wanted = compile_excludes([pattern])
    parts = path.strip("/").split("/")
    above = any(excluded("/" + "/".join(parts[:end]), wanted) for end in range(1, len(parts) + 1))
    return above or all(excluded(f"{path.rstrip('/')}/{name}", wanted) for name in _ANY_FILE)


def _items_paths(view: View) -> Iterator[Problem]:
    for name, item in view.items.items():
        if item is None or not item.paths:
            continue
        wanted = item.must_have or []
        for index, path in enumerate(wanted):
            if not _below(path, item.paths):
                got, expected = f"got {show(path)} (string)", "a path at or below one of paths"
                yield view.problem(("protect", name, "must_have", index), got, expected)
        for index, pattern in enumerate(item.exclude or []):
            hidden = next((path for path in [*wanted, *item.paths] if hides(pattern, path)), None)
            if hidden:
                what = "the must-have " if hidden in wanted else ""
                got = f"the pattern {show(pattern)} hides {what}{show(hidden)}"
                yield view.problem(("protect", name, "exclude", index), got, "patterns that leave it in the backup")


def _mounts(view: View) -> Iterator[Problem]:
    """Refuse a mount that an item's data cannot lie on."""
    for name, item in view.items.items():
        data = [*(item.paths or []), *([item.images.root] if item.images else [])] if item else []
        data += [item.database.path] if item and item.database and item.database.path else []
        for index, path in enumerate((item.mounts or []) if item else ()):
            # where a server keeps its databases is not in the document
            known = bool(item and (item.paths or (item.database and item.database.path)))
            if known and not any(_below(each, [path]) or _below(path, [each]) for each in data):
                got, expected = f"got {show(path)} (string)", "a mount point that holds this item's data, or lies in it"
                yield view.problem(("protect", name, "mounts", index), got, expected)


def _canaries(view: View) -> Iterator[Problem]:
    for name, item in view.items.items():
        if item is None or item.tripwires is None:
            continue
        for index, path in enumerate(item.tripwires.canaries or []):
            here: KeyPath = ("protect", name, "tripwires", "canaries", index)
            got = f"got {show(path)} (string)"
            if not path.lower().endswith(".pdf"):
                yield view.problem(here, got, "the name of a PDF that is not there yet", "let it end in .pdf")
            elif not _below(path, item.paths or []) or path in (item.paths or []):
                yield view.problem(here, got, "a path below one of paths")
            else:
                hidden = next((pattern for pattern in item.exclude or [] if hides(pattern, path)), None)
                if hidden:
                    got = f"the pattern {show(hidden)} of exclude hides {show(path)}"
                    yield view.problem(here, got, "a canary that the backup sees", "give it another name")


def _one_database_once(view: View) -> Iterator[Problem]:
    for host, names in view.protected.items():
        seen: dict[tuple[str, str], str] = {}
        for index, name in enumerate(names):
            item = view.items.get(name)
            if not item or not item.database:
                continue
            known = item.database
            own = " ".join([*(known.dump or []), known.pattern or ""]).strip()
            database = (known.engine, " ".join(part for part in (known.name or known.path or "", own) if part))
            if database in seen:
                got = f"{name} is the same database as {seen[database]} ({database[1]})"
                yield view.problem(("hosts", host, "protect", index), got, "each database once on a host")
            seen.setdefault(database, name)


def _proofs(view: View) -> Iterator[Problem]:
    for name in view.prove if view.items and view.items_sure else ():
        if name not in view.items:
            problem = view.unknown(("prove", name), name, view.items, "an item below protect")
            yield view.problem(("prove", name), f"unknown item {show(name)}", problem.expected, problem.fix, key=True)


def _rpo(view: View) -> Iterator[Problem]:
    if not view.objectives:
        return
    rpo = seconds(view.objectives.rpo)
    for name, item in view.items.items():
        if item and interval_s(item) > rpo:
            every, at = schedule(item, view.usual)
            written = "every" if item.every else "days" if item.days else "at" if item.at else ""
            path: KeyPath = ("protect", name, written) if written else ("protect", name)
            fitting = [choice for choice in ("12h", "8h", "6h", "4h", "3h", "2h", "1h") if seconds(choice) <= rpo]
            how_often = f"every {every}" if every else f"{item.days} at {at}" if item.days else f"once a day at {at}"
            how_often += f" within {item.window}" if item.window and item.every else ""
            hours = interval_s(item) // 3600
            got = f"a backup {how_often} cannot meet objectives.rpo {view.objectives.rpo}: at best {hours}h + the run"
            fix = f"write every: {fitting[0]}" if fitting else "write a longer objectives.rpo"
            if item.window and item.every and seconds(item.every) <= rpo:
                fix = "write a wider window, or leave it out"
            if item.days and rpo >= 24 * 3600:
                fix = "leave days out"
            yield view.problem(path, got, f"a backup at least every {view.objectives.rpo}", fix, key=True)


def _clock_changes(view: View) -> Iterator[Problem]:
    change = changing_hours(view.zone) if view.zone else None
    if change is None:
        return
    start, length = minutes(change[0]), (minutes(change[1]) - minutes(change[0])) % (24 * 60)
    for name, item in view.items.items():
        if item and item.at and within(start, length, minutes(item.at)):
            span = f"{change[0]}-{clock(start + length - 1)}"
            expected = f"a time outside {span}, when clocks change in {view.zone}"
            fix = f'write "{clock(start - 30)}" or "{change[1]}"'
            yield view.problem(("protect", name, "at"), f"got {show(item.at)} (string)", expected, fix)


RULES = (
    _protected_items,
    _items_whole,
    _items_paths,
    _mounts,
    _canaries,
    _engines_fit,
    _one_database_once,
    _proofs,
    _rpo,
    _clock_changes,
)
