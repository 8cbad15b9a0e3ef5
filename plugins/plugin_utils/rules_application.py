# SPDX-License-Identifier: Apache-2.0
"""What must hold for a copy of the practice's software to be brought up on the restore machine and asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import VENDOR_ENGINES
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Application, Ask, Item
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import KeyPath, Problem, show
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View

KINDS = ("http", "port", "query", "command")
# what each key of a question goes with
_ONLY_WITH = {
    **dict.fromkeys(("status", "contains", "count", "rows", "file"), "http"),
    **dict.fromkeys(("exit_code", "user"), "command"),
}
# Laid over the machine's own, they would take it away or bring restored jobs to life
_MACHINES_OWN = re.compile(
    r"/(bin|boot|dev|etc|lib|lib32|lib64|root|run|sbin|usr|var|tmp)|/(var|usr)/(lib|bin|sbin|spool|tmp|log|cache)"
    r"|(/usr/lib|/lib|/etc)/systemd(/.*)?|/etc/(cron.*|init\.d|rc.\.d|anacrontab|passwd|shadow|group|fstab)(/.*)?"
    r"|/var/spool/(cron|anacron|at)(/.*)?"
)


def _applications(view: View) -> Iterator[Problem]:
    for name, item in view.items.items():
        if item is None or item.application is None:
            continue
        here: KeyPath = ("protect", name, "application")
        if item.database and item.database.engine in VENDOR_ENGINES:
            got = f"application with engine: {item.database.engine}"
            fix = "let check: of the database try the dump"
            yield view.problem(
                here, got, "no application: a vendor's dump cannot be put to use by itself", fix, key=True
            )
            continue
        yield from _needs(view, name, item.application, (*here, "needs"))
        yield from _places(view, name, item)
        for asked, question in item.application.ask.items():
            yield from _question(view, item, question, (*here, "ask", asked))


def _needs(view: View, name: str, application: Application, here: KeyPath) -> Iterator[Problem]:
    others = [each for each in view.items if each != name]
    for index, other in enumerate(application.needs or []):
        path: KeyPath = (*here, index)
        if other == name:
            yield view.problem(path, f"got {show(other)}, the item itself", "another item")
        elif other not in view.items:
            if view.items_sure:
                yield view.unknown(path, other, others, "an item below protect")
        elif (known := view.items[other]) and not known.paths:
            yield view.problem(path, f"{show(other)} is a database", "an item with paths")
        else:
            for host, names in view.protected.items():
                if name in names and other not in names:
                    got = f"{host} protects {name}, and not {other}"
                    yield view.problem(
                        path, got, "an item of the same host", f"add {other} to the protect list of {host}"
                    )


def _places(view: View, name: str, item: Item) -> Iterator[Problem]:
    """Refuse what would be laid over the machine itself."""
    assert item.application is not None
    places: list[tuple[KeyPath, str]] = []
    for other in [name, *(item.application.needs or [])]:
        known = view.items.get(other)
        if known is None:
            continue
        places += [(("protect", other, "paths", index), path) for index, path in enumerate(known.paths or [])]
        if known.images:
            places.append((("protect", other, "images", "root"), known.images.root))
    if item.database and item.database.path:
        places.append((("protect", name, "database", "path"), item.database.path))
    for path, place in places:
        if _MACHINES_OWN.fullmatch(place):
            got = f"got {show(place)}, which the restore machine has itself: the application of {name} cannot be laid out there"
            yield view.problem(path, got, "a folder of the software alone, such as /etc/orthanc")


def _question(view: View, item: Item, question: Ask, here: KeyPath) -> Iterator[Problem]:
    given = [each for each in KINDS if getattr(question, each) is not None]
    if len(given) != 1:
        got = f"there are {' and '.join(given)}" if given else "there is nothing to ask"
        fix = "write each as a question of its own" if given else ""
        yield view.problem(here, got, "one of http, port, query and command", fix, key=True)
        return
    for key, whole in _ONLY_WITH.items():
        if getattr(question, key) is not None and whole != given[0]:
            yield view.problem((*here, key), f"{key} without {whole}", f"{whole}: beside it", key=True)
    for key in ("query", "count", "rows"):
        if getattr(question, key) is not None and not item.database:
            yield view.problem((*here, key), f"{key} without a database", "database: in the same item", key=True)
    if question.http is not None:
        yield from _http(view, item, question, here)


def _http(view: View, item: Item, question: Ask, here: KeyPath) -> Iterator[Problem]:
    asks_places = "{1}" in (question.http or "")
    if question.rows and question.count:
        got = "there are both rows and count"
        yield view.problem((*here, "count"), got, "one of the two", "write two questions", key=True)
    if question.rows and not asks_places:
        got = f"got {show(question.http)}, the same for each row"
        yield view.problem((*here, "http"), got, "an address with {1} in it, where a row's first word goes")
    if asks_places and not question.rows:
        yield view.problem((*here, "http"), "{1} without rows", "rows: beside it, to put something there")
    if question.file is None:
        return
    if not question.rows:
        yield view.problem((*here, "file"), "file without rows", "rows: beside it", key=True)
    assert item.application is not None
    if not (item.paths or item.images or item.application.needs):
        yield view.problem((*here, "file"), "file, and the item has no files", "images: in the same item", key=True)


RULES = (_applications,)
