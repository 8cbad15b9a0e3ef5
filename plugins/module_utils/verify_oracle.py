# SPDX-License-Identifier: Apache-2.0
"""Read an oracle whose lists of files may be longer than memory: they are handed over entry by entry.

An oracle is one JSON object as the agent stores it. All of it but the lists in ``files`` is returned like any document;
each list there gives way to the number of its entries. What is no oracle of this version raises one of ``UNREADABLE``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Callable, TextIO

from .verify import parse_time

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
# lists that are as long as a practice has files
LONG = ("manifest", "dropped")
_BLOCK = 1 << 20
# the longest path, with each of its bytes written as an escape, and some more
_LONGEST_ENTRY = 1 << 16
_LONGEST_VALUE = 64 << 20
_SPACE = re.compile(r"[ \t\n\r]*")

Take = Callable[[str, Any], None]


def read_oracle(stream: TextIO, take: Take) -> dict[str, Any]:
    """The oracle without its long lists. take(name, entry) hears of every entry of them, in the order of the document."""
    source = _Source(stream)
    oracle: dict[str, Any] = {}
    for key in source.members():
        files = key == "files" and source.peek() == "{"
        oracle[key] = _files(source, take) if files else source.value(_LONGEST_VALUE)
    source.end()
    _check_shape(oracle)
    return oracle


def _files(source: _Source, take: Take) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in source.members():
        if key not in LONG:
            found[key] = source.value(_LONGEST_VALUE)
            continue
        found[key] = 0
        for entry in source.elements():
            _check_entry(key, entry)
            take(key, entry)
            found[key] += 1
    return found


class _Source:
    """A JSON document of which no more than a block is held."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text, self._at = "", 0
        self._decode = json.JSONDecoder().raw_decode

    def _more(self) -> bool:
        rest = self._text[self._at :]
        block = self._stream.read(max(_BLOCK, len(rest)))
        self._text, self._at = rest + block, 0
        return bool(block)

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        """The next character, which has to be one of the expected ones."""
        found = self.peek()
        if not found or found not in expected:
            raise ValueError(f"expected one of {expected}, found {found or 'the end'}")
        self._at += 1
        return found

    def value(self, most: int) -> Any:
        """The next value, whole; most: so many characters it may have."""
        self.peek()
        while True:
            try:
                found, end = self._decode(self._text, self._at)
            except ValueError:
                if len(self._text) - self._at > most or not self._more():
                    raise
                continue
            # a number may go on in the next block
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return found

    def members(self) -> Iterator[str]:
        """Keys of the object that is next; whoever gets one takes its value before the next one."""
        self.take("{")
        seen: set[str] = set()
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            key = self.value(_LONGEST_ENTRY)
            if not isinstance(key, str) or key in seen:
                raise ValueError("a key that is no text, or is there twice")
            seen.add(key)
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def elements(self) -> Iterator[Any]:
        """Values of the array that is next."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value(_LONGEST_ENTRY)
            if self.take(",]") == "]":
                return

    def end(self) -> None:
        """Nothing may follow."""
        if self.peek():
            raise ValueError("something follows the document")


def _check_entry(key: str, entry: Any) -> None:
    if key == "dropped":
        right = isinstance(entry, str)
    else:
        right = (
            isinstance(entry["path"], str)
            and isinstance(entry["mtime_ns"], int)
            and isinstance(entry["size"], int)
            and isinstance(entry["mode"], str)
            and isinstance(entry["blake2b"], str)
        )
    if not right:
        raise TypeError(key)


def _check_shape(oracle: Mapping[str, Any]) -> None:
    """Raise when an oracle lacks what is read later on."""
    if oracle["schema"] != 1:
        raise ValueError("unknown schema")
    parse_time(oracle["taken"])
    oracle["snapshots"].get("database")
    oracle["identity"].get("repository_id")
    files, database = oracle["files"], oracle["database"]
    if files is not None:
        int(files["count"])
        int(files["manifest"])
    if database is not None:
        dict(database["tables"])
        dict(database["probes"])
        questions = database["questions"]
        dict(questions["probes"])
        if questions["images"] is not None:
            (questions["images"]["query"], questions["images"]["root"])
        str(database["dump_path"])
        if "stream" in database:
            (int(database["stream"]["bytes"]), database["stream"]["blake2b"], database["stream"]["end_marker"])
