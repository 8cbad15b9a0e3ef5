# SPDX-License-Identifier: Apache-2.0
"""Read a practice document together with the place and the source text of everything in it.

YAML forgets what was written: 22:00 becomes 1320, NO becomes false, 0750 becomes 488, of two equal keys the last one wins.
A person mends a document by line, so this loader keeps each line and says what was written. It accepts the part of YAML
that a practice document needs (mappings, lists, scalars) and names everything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20
# Stands in Problem.expected for a value that YAML reads otherwise than written; the model knows what was expected.
MISREAD = "text in quotes"

_HIDDEN_WORDS = "passwor[dt]|passwd|passphrase|kennwort|secret|token|api[_ -]?key|private[_ -]?key|credential"
_SECRET_KEY = re.compile(rf"(?:^|[^a-z])(?:{_HIDDEN_WORDS}|pwd|pw|pass)s?(?:$|[^a-z])")
_SECRET_TEXT = re.compile(rf"(?:{_HIDDEN_WORDS})", re.IGNORECASE)
_PRIVATE_KEY_TEXT = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|AGE-SECRET-KEY-1|PuTTY-User-Key-File", re.IGNORECASE)
# Where the keys are names that a practice chooses: an item may be called credentials.
_NAMED = ("hosts", "protect", "power", "retired")
_NAMED_VALUE = re.compile(r"(daily|weekly|monthly|select\s.*|with\s.*)", re.IGNORECASE | re.DOTALL)
_TAG = "tag:yaml.org,2002:"
_TAGS = ("null", "bool", "int", "float", "timestamp", "str", "value", "map", "seq")
_ALIAS = "tag:holdfast:alias"
_NO_ALIAS = ("got an alias (*)", "a value", "write the value out, or in quotes where the * belongs to it")
_CURLY_QUOTES = "\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u201a"
_INVISIBLE = re.compile("[\u00a0\u00ad\u2007\u202f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_TEMPLATE = re.compile(r"\{\{|\{%")
# U+0085, U+2028 and U+2029 are ends of lines for YAML and for no editor: every line number after them would be wrong.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]")
_COMMENT_CUT = re.compile(r"[ \t]+#[^\s#]")
_LONGEST = 800  # characters of one part of a message
_PLAIN_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_VAULT_FIX = (
    "take it out of this file: secrets live in group_vars/all/vault.yml (made by: bin/holdfast secrets PRACTICE_FOLDER)"
)


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a document, and how to mend it.

    line and column count from 1; line 0 means the file as a whole. got is what came, with its type, or a statement such as
    "missing"; fix is the last part of the sentence, for example: write "22:00" in quotes. No part ever holds a secret.
    """

    file: str
    line: int
    column: int
    path: str
    got: str
    expected: str
    fix: str = ""

    def __post_init__(self) -> None:
        # The last line of defence: one line of text, whatever came from the document.
        for name in ("file", "path", "got", "expected", "fix"):
            text = getattr(self, name)
            if not text.isprintable() or len(text) > _LONGEST:
                object.__setattr__(self, name, _printable(text))

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        parts = [self.got, f"expected {self.expected}" if self.expected else "", self.fix]
        return ": ".join(p for p in (place, self.path) if p) + ": " + "; ".join(p for p in parts if p)


def is_secret_name(key: str) -> bool:
    """Say whether a key by this name is taken for a secret."""
    return bool(_SECRET_KEY.search(key))


def _printable(text: str) -> str:
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in shown)


def dotted(path: KeyPath) -> str:
    """Write a key path as people read it: hosts.server1.protect[1]."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if re.fullmatch(r"[^\s.\[\]]{1,80}", part) else show(part))
    return text


def show(value: object, limit: int = 60) -> str:
    """Write a value on one line for a message, shortened, control characters escaped."""
    if isinstance(value, str) and len(value) > limit:
        value = value[:limit]  # quick for texts of megabytes
        return json.dumps(value, ensure_ascii=False)[: limit - 4] + '..."'
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 4] + '..."'


def described(value: object) -> str:
    """Write a value with the name of its type, as a person who writes YAML knows it."""
    if value is None:
        return "got nothing (null)"
    if isinstance(value, dict):
        return "got a mapping (key: value lines)"
    if isinstance(value, list):
        return "got a list"
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
        if isinstance(value, kind):
            return f"got {show(value)} ({name})"
    return f"got {value} ({type(value).__name__})"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Give 'did you mean "x"?' for the nearest of the known names, or nothing."""
    near = nearest(name, known)
    return f"did you mean {show(near)}?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Give the nearest of the known names, or an empty string."""
    import difflib  # most documents are right and never ask

    if len(name) > 200:
        return ""
    by_lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[near[0]] if near else ""


def value_at(data: Any, path: KeyPath) -> Any:
    """Give what stands at a key path, or None when there is nothing."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


@dataclass
class Document:
    """A document as plain data, with the place and the source text of every part.

    hazards: what is wrong with a value whatever the field, by key path. Where YAML reads a value otherwise than written
    (expected is MISREAD), data holds the text as written and the model adds what it expected there.
    hidden: key paths at and below which no value may be shown; hidden_below: key paths below which neither values nor keys
    may. duplicates: keys that came twice; data holds the first. What is surely a secret is not in data at all.
    """

    file: str
    data: dict[str, Any] = field(default_factory=dict)
    key_marks: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    value_marks: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    texts: dict[KeyPath, str] = field(default_factory=dict)
    hazards: dict[KeyPath, Problem] = field(default_factory=dict)
    hidden: set[KeyPath] = field(default_factory=set)
    hidden_below: set[KeyPath] = field(default_factory=set)
    duplicates: set[KeyPath] = field(default_factory=set)

    def mark(self, path: KeyPath, key: bool = False) -> tuple[int, int]:
        """Give (line, column) of the value at path, of its key, or of the nearest part above that exists."""
        for end in range(len(path), -1, -1):
            for marks in (self.key_marks, self.value_marks) if key else (self.value_marks, self.key_marks):
                if path[:end] in marks:
                    return marks[path[:end]]
        return (1, 1)

    def is_hidden(self, path: KeyPath) -> bool:
        """Say whether the value at path may not be shown."""
        return bool(self.hidden or self.hidden_below) and (
            any(path[:end] in self.hidden for end in range(len(path) + 1))
            or any(path[:end] in self.hidden_below for end in range(len(path)))
        )

    def problem(self, path: KeyPath, got: str, expected: str, fix: str = "", key: bool = False) -> Problem:
        """Make a Problem at the place of a key path; values below a hidden path are never shown."""
        mark = self.mark(path, key)
        if self.is_hidden(path):
            below = next((end for end in range(len(path)) if path[:end] in self.hidden_below), len(path))
            if below < len(path):
                got, path = "unknown key (hidden)" if got.startswith("unknown key") else got, path[:below]
            if got != "missing" and "(hidden)" not in got and not (key and path not in self.hidden):
                got, fix = "got a value (hidden)", ""
        return Problem(self.file, *mark, dotted(path), got, expected, fix)


Refuse = Callable[[Any, str, str, str], None]


class _Composer(yaml.composer.Composer):
    """PyYAML's composer that notes what a practice document must not hold: anchors, aliases and very deep nesting."""

    refuse: Refuse
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[attr-defined]
        # The names of aliases and anchors are not said: they may be what somebody believes to be a password.
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[attr-defined]
            mark: Any = event.start_mark
            return yaml.ScalarNode(_ALIAS, "", mark, mark)
        if event.anchor:
            fix = "leave it out, or write the value in quotes where the & belongs to it"
            self.refuse(event.start_mark, "got an anchor (&)", "a value", fix)
            event.anchor = None
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_DEPTH} levels of nesting", event.start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Loader(_Composer, yaml.SafeLoader):
    """Reads with PyYAML alone: slow, and knows what to say about mistakes."""

    def __init__(self, stream: str, refuse: Refuse) -> None:
        self.refuse = refuse
        yaml.SafeLoader.__init__(self, stream)


if yaml.__with_libyaml__:

    class _FastLoader(_Composer, yaml.CSafeLoader):
        """Reads with libyaml, ten times as fast. Whatever it refuses is read again by the other one."""

        def __init__(self, stream: str, refuse: Refuse) -> None:
            self.refuse = refuse
            yaml.CSafeLoader.__init__(self, stream)
            _Composer.__init__(self)


def _compose(text: str, refuse: Refuse, fast: bool) -> Any:
    loader: Any = (_FastLoader if fast else _Loader)(text, refuse)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def read(path: Path, name: str = "") -> tuple[Document | None, list[Problem]]:
    """Read one file. Returns the document (None when it cannot be read at all) and everything found wrong so far."""
    name = name or str(path)
    try:
        if not path.is_file():
            reason = "is not a file" if path.exists() else "there is no such file"
            return None, [Problem(name, 0, 0, "", reason, "a practice document (practice.yml)")]
        raw = path.read_bytes()
    except OSError as error:
        return None, [Problem(name, 0, 0, "", f"cannot be read: {error.strerror}", "a readable file")]
    return parse(raw, name)


def parse(raw: bytes, name: str) -> tuple[Document | None, list[Problem]]:
    """Parse the bytes of a document called name in messages. See read."""
    text, problem = _decode(raw, name)
    if problem:
        return None, [problem]
    problems: list[Problem] = []

    def refuse(mark: Any, got: str, expected: str, fix: str) -> None:
        problems.append(Problem(name, mark.line + 1, mark.column + 1, "", got, expected, fix))

    node: Any = None
    # libyaml lets tabs pass where PyYAML names them.
    for fast in (True, False) if yaml.__with_libyaml__ and "\t" not in text else (False,):
        problems.clear()
        try:
            node = _compose(text, refuse, fast)
            break
        except yaml.YAMLError as error:
            if not fast:
                return None, sorted({*problems, *_syntax_problems(error, text, name)})
        except RecursionError:
            return None, [Problem(name, 1, 1, "", "the nesting is too deep", f"at most {MAX_DEPTH} levels")]
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null" and not node.value):
        fix = "start with the example in inventories/harbour-street/practice.yml"
        return None, [Problem(name, 1, 1, "", "the document is empty", "a practice document", fix)]
    reader = _Reader(Document(name), problems, text)
    data = reader.value(node, ())
    if not isinstance(data, dict):
        got = described(data)
        problems.append(
            Problem(name, 1, 1, "", got, "a mapping with practice:, hosts:, protect: ... at the left margin")
        )
        return None, problems
    reader.document.data = data
    return reader.document, problems


def _decode(raw: bytes, name: str) -> tuple[str, Problem | None]:
    if len(raw) > MAX_BYTES:
        return "", Problem(name, 1, 1, "", f"the file has {len(raw)} bytes", f"at most {MAX_BYTES} bytes")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        fix = "save the file as UTF-8"
        return "", Problem(name, 1, 1, "", "the file is UTF-16 text", "UTF-8 text", fix)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        got = f"the byte 0x{raw[error.start]:02x} is not UTF-8 text"
        return "", Problem(name, line, column, "", got, "UTF-8 text", "save the file as UTF-8")
    found = _CONTROL.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        return "", Problem(name, line, column, "", _control(found[0]), "text", "delete it")
    return text, None


def _control(char: str) -> str:
    return f"there is a control character (U+{ord(char):04X})"


def _syntax_problems(error: yaml.YAMLError, text: str, name: str) -> Iterator[Problem]:
    """Turn PyYAML's complaint into the likely cause: what the line holds says more than what the parser was missing."""
    lines = text.splitlines()
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    at = min(mark.line if mark else 0, max(len(lines) - 1, 0))
    column = mark.column + 1 if mark else 1
    tabs = [n for n, line in enumerate(lines) if re.match(r" *\t", line)]
    for number in tabs:
        got, place = "there is a tab character in the indentation", lines[number].index("\t") + 1
        yield Problem(name, number + 1, place, "", got, "spaces", "write two spaces for each level")
    if tabs:
        return
    line = lines[at][:2000] if lines else ""
    for pattern, got, expected, fix in _SYNTAX_HINTS:
        found = pattern.search(line)
        if found:
            yield Problem(name, at + 1, found.start() + 1, "", got.format(*found.groups()), expected, fix)
            return
    begin = getattr(error, "context_mark", None)
    for number in range(begin.line if begin else at, at):
        found = re.search(r"\s#[^\s#]", lines[number][:2000])
        if found:
            fix = "write the text in quotes where the # belongs to it"
            yield Problem(name, number + 1, found.start() + 2, "", _CUT, "the end of what began here", fix)
            return
    # PyYAML quotes from the document in places; that may be what somebody believes to be a password.
    reason = re.sub(r"'[^'<]{2,}'", "(hidden)", str(getattr(error, "problem", None) or error).split("\n", 1)[0])
    context = getattr(error, "context", None) or ""
    if "escape" in reason:
        got, expected = "there is a backslash in double quotes", "text in single quotes"
        fix = "write '...' in single quotes: there a backslash is only a backslash"
    elif "expected a single document" in (context + reason):
        got, expected, fix = "a second document begins here (---)", "one document in a file", "delete the --- line"
    else:
        got, expected, fix = (
            f"this line cannot be read: {reason}",
            "YAML",
            "compare indentation, colons and quotes with the lines above",
        )
    yield Problem(name, at + 1, column, "", got, expected, fix)


_CUT = "what follows # is a comment"
_SYNTAX_HINTS = [
    (
        re.compile(r"\{\{|\{%"),
        "got a template",
        "the value itself",
        "write the value out; a practice document is not templated",
    ),
    (re.compile(r"(?<=\S)\t|\t(?=\S)"), "there is a tab character", "spaces", "write a space instead"),
    (re.compile(rf"[{_CURLY_QUOTES}]"), "there are curly quotes", 'straight quotes "', 'write straight quotes: "text"'),
    (
        re.compile(r"(?:^|(?<=[:\-,\[] )|(?<=[\[{,]))([%@`*&!|>])(?=\S)"),
        "the text begins with {}",
        "text in quotes",
        'write it in straight quotes: "..."',
    ),
    (
        re.compile(r":\s+[^\"'\[{#\s][^#]*:(\s|$)"),
        'there is a second ": " on the line',
        "text in quotes",
        'write the text in quotes: "..."',
    ),
]


class _Reader:
    """Turn YAML nodes into plain data, keeping places and texts, and noting what was written otherwise than meant."""

    def __init__(self, document: Document, problems: list[Problem], text: str) -> None:
        self.document = document
        self.problems = problems
        self.text = text

    def value(self, node: Any, path: KeyPath) -> Any:
        doc = self.document
        doc.value_marks[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if node.tag.removeprefix(_TAG) not in _TAGS:
            if node.tag == _ALIAS:
                self.hazard(path, *_NO_ALIAS)
                return None
            tag = show(node.tag.replace(_TAG, "!!"))[1:-1]
            fix = _VAULT_FIX if tag.startswith("!vault") else f"leave {tag} out"
            self.hazard(path, f"got a tag ({tag})", "a plain value", fix)
            return None
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]

    def mapping(self, node: Any, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        doc = self.document
        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                template = isinstance(key_node, yaml.MappingNode)
                got = "got a template" if template else "got a list as a key"
                fix = (
                    "write the value out; a practice document is not templated"
                    if template
                    else "write a name as the key"
                )
                # {{ x }} without quotes is a mapping in a mapping for YAML: the value above is what was meant
                doc.hazards[path] = Problem(doc.file, *place, dotted(path), got, "the value itself", fix)
                continue
            if key_node.tag == _ALIAS:
                self.problems.append(Problem(doc.file, *place, dotted(path), *_NO_ALIAS))
                continue
            key = str(key_node.value)
            refused = self.key(key_node, value_node, path) if _SUSPECT_KEY.search(key) else None
            if refused and refused[0] == _IN_A_KEY:
                key = "(hidden)"
            here = (*path, key)
            if key in result:
                doc.duplicates.add(here)
                got = f"duplicate key {show(key)} at lines {doc.key_marks[here][0]} and {place[0]}"
                fix = f"keep one of the two {show(key)}"
                self.problems.append(Problem(doc.file, *place, dotted(here), got, "each key once", fix))
                continue
            doc.key_marks[here] = place
            if refused:
                result[key] = None
                doc.hidden.add(here)
                doc.hazards[here] = Problem(doc.file, *place, dotted(here), *refused)
                doc.value_marks[here] = place
            else:
                result[key] = self.value(value_node, here)
        return result

    def key(self, node: Any, value: Any, above: KeyPath) -> tuple[str, str, str] | None:
        """Say what is wrong with a key (got, expected, fix); its value is then not looked at any more."""
        key = node.value
        mapping = isinstance(value, yaml.MappingNode)
        words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key).lower()
        alone = isinstance(value, yaml.ScalarNode) and not value.style and not value.value
        if _secret_in(key) or (alone and _SECRET_TEXT.search(key) and not _SECRET_KEY.search(f"{words}s")):
            return _IN_A_KEY, "no secrets in this document", _VAULT_FIX
        if node.tag == _TAG + "merge":
            return "got a merge key (<<)", "plain keys", "write the keys out"
        if _TEMPLATE.search(key):
            return "got a template as a key", "a name", "write the name out"
        if not node.style and key[:1] in _CURLY_QUOTES:
            return "there are curly quotes", 'straight quotes "', "write the key without quotes"
        if _INVISIBLE.search(key) or _CONTROL.search(key):
            return "there is an invisible character in the key", "a plain name", "type the key again"
        if key.startswith("ansible_"):
            fix = "leave it out: user and key are set below access:, the rest is worked out"
            return f"the key {show(key)} is reserved", "keys of a practice document", fix
        if not _SECRET_KEY.search(words):
            return None
        if mapping and len(above) == 1 and above[0] in _NAMED:
            self.document.hidden_below.add((*above, key))
        elif not (isinstance(value, yaml.ScalarNode) and _NAMED_VALUE.fullmatch(value.value)):
            if not re.fullmatch(r"[A-Za-z_-]{1,40}", key):
                return _IN_A_KEY, "no secrets in this document", _VAULT_FIX
            return _IN_PLAIN_TEXT, "no secrets in this document", _VAULT_FIX
        return None

    def scalar(self, node: Any, path: KeyPath) -> Any:
        doc, text = self.document, node.value
        doc.texts[path] = text
        kind = node.tag.rsplit(":", 1)[-1]
        plain = not node.style  # PyYAML says None, libyaml ""
        if _SUSPECT_TEXT.search(text):
            secret = _secret_in(text)
            if secret or _SECRET_TEXT.search(text):
                doc.hidden.add(path)
            if secret:
                self.hazard(path, secret, "no secrets in this document", _VAULT_FIX)
                return None
            if _TEMPLATE.search(text):
                fix = "write the value out; a practice document is not templated"
                self.hazard(path, f"got a template {show(text)} (string)", "the value itself", fix)
                return text
            if plain and text[0] in _CURLY_QUOTES:
                fix = f"write {show(text[1:-1].strip())}"
                self.hazard(path, f"got curly quotes: {show(text)}", "straight quotes", fix)
                return text
            found = _CONTROL.search(text)
            if found:
                self.hazard(path, _control(found[0]), "text", "delete it")
                return None
        if not plain:
            return _CONSTRUCT[kind](text) if kind in _CONSTRUCT else text
        if kind == "str":
            if _COMMENT_CUT.match(self.text, node.end_mark.index):
                fix = "write a blank after the # where a comment is meant"
                self.hazard(path, f"got {show(text)} (string): {_CUT}", "all of the text in quotes", fix)
            return text
        value = _CONSTRUCT[kind](text) if kind in _CONSTRUCT and len(text) <= _LONGEST_NUMBER else text
        reading = _MISREAD[kind](text, value) if kind in _MISREAD else None
        if reading:
            self.hazard(path, reading[0], MISREAD, reading[1])
            return text  # what was meant, so that the model can say whether it would do in quotes
        return value

    def hazard(self, path: KeyPath, got: str, expected: str, fix: str) -> None:
        self.document.hazards[path] = self.document.problem(path, got, expected, fix)


_LONGEST_NUMBER = 100
_IN_PLAIN_TEXT = "there is a plain-text secret (hidden)"
_IN_A_KEY = "there is a secret in a key (hidden)"
# What most keys and values are free of, so that one look is enough for them
_SUSPECT_KEY = re.compile(rf"[^\w -]|^(ansible_|<<)|{_HIDDEN_WORDS}|pwd|pw|pass|[^\x00-\x7f]|^=", re.IGNORECASE)
_SUSPECT_TEXT = re.compile(
    rf"[{{@\x00-\x08\x0b-\x1f]|{_HIDDEN_WORDS}|^[{_CURLY_QUOTES}]|[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]"
    r"|PRIVATE KEY|AGE-SECRET|PuTTY",
    re.IGNORECASE,
)


def _secret_in(text: str) -> str:
    """Say what is surely secret in a text, or nothing."""
    if _PRIVATE_KEY_TEXT.search(text):
        return "there is a private key (hidden)"
    # From the first // to the last @, blanks or not: a password may hold anything
    start = text.find("://")
    return "got an address with a user or password in it (hidden)" if 0 <= start < text.rfind("@") else ""


def _to_int(text: str) -> int | str:
    try:
        digits = text.replace("_", "")
        sign = -1 if digits.startswith("-") else 1
        digits = digits.lstrip("+-")
        if ":" in digits:
            total = 0
            for part in digits.split(":"):
                total = total * 60 + int(part)
            return sign * total
        if digits.lower().startswith(("0x", "0b")):
            return sign * int(digits, 0)
        if digits.startswith("0") and digits != "0":
            return sign * int(digits, 8)
        return sign * int(digits)
    except ValueError:
        return text


def _to_float(text: str) -> float | str:
    digits = text.replace("_", "").lower()
    try:
        if digits.lstrip("+-") in (".inf", ".nan"):
            return float(digits.replace(".", ""))
        if ":" in digits:
            sign, total = (-1.0 if digits.startswith("-") else 1.0), 0.0
            for part in digits.lstrip("+-").split(":"):
                total = total * 60 + float(part)
            return sign * total
        return float(digits)
    except ValueError:
        return text


def _int_misread(text: str, value: Any) -> tuple[str, str] | None:
    if _PLAIN_INTEGER.fullmatch(text):
        return None
    if ":" in text:
        why = f"YAML reads {text} as a base-60 number"
    elif text.lstrip("+-").lower().startswith("0x"):
        why = f"YAML reads {text} as a hexadecimal number"
    elif text.lstrip("+-").lower().startswith("0b"):
        why = f"YAML reads {text} as a binary number"
    elif text.lstrip("+-").startswith("0"):
        why = f"YAML reads {text} as an octal number"
    else:
        why = f"YAML reads {show(text)[1:-1]} as a number"
    return described(value), why


def _float_misread(text: str, value: Any) -> tuple[str, str] | None:
    if ":" in text:
        return described(value), f"YAML reads {text} as a base-60 number"
    return None  # only the field knows whether a number with a fraction was meant


def _bool_misread(text: str, value: Any) -> tuple[str, str] | None:
    return None if text in ("true", "false") else (described(value), f"YAML reads {text} as a boolean")


def _date_misread(text: str, value: Any) -> tuple[str, str] | None:
    return f"got {text} (date)", f"YAML reads {text} as a date"


_CONSTRUCT: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() in ("true", "yes", "on"),
    "int": _to_int,
    "float": _to_float,
}
_MISREAD: dict[str, Callable[[str, Any], tuple[str, str] | None]] = {
    "int": _int_misread,
    "float": _float_misread,
    "bool": _bool_misread,
    "timestamp": _date_misread,
}
