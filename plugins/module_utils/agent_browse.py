# SPDX-License-Identifier: Apache-2.0
"""Walk through the files of a run on a terminal, and get some of them."""

from __future__ import annotations

import cmd
import fnmatch
import posixpath
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, Callable

from .agent_host import human

SHOWN = 200


def shown(path: str) -> str:
    """A name as a terminal can show it: what it would obey, or could not draw, is written out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in path)


class Tree:
    """The files of a run: {path: size}."""

    def __init__(self, files: Iterable[tuple[str, int]]) -> None:
        self.files = dict(files)
        self.folders: dict[str, dict[str, None]] = {"/": {}}
        for path in self.files:
            self._enter(path)

    def _enter(self, path: str) -> None:
        while path != "/":
            folder = posixpath.dirname(path)
            known = folder in self.folders
            self.folders.setdefault(folder, {})[path] = None
            if known:
                return
            path = folder

    def start(self) -> str:
        """The first folder in which there is a choice."""
        folder = "/"
        while len(self.folders[folder]) == 1 and next(iter(self.folders[folder])) in self.folders:
            folder = next(iter(self.folders[folder]))
        return folder

    def resolve(self, said: str, here: str = "/") -> str | None:
        """The path that somebody means: exact, or as it is shown. None when there is none."""
        path = posixpath.normpath(posixpath.join(here, said))
        path = "/" + path.lstrip("/")
        if path in self.files or path in self.folders:
            return path
        folder = self.resolve(posixpath.dirname(path)) if path != "/" else None
        name = posixpath.basename(path)
        return next(
            (each for each in self.folders.get(folder or "", ()) if shown(posixpath.basename(each)) == name), None
        )

    def below(self, path: str) -> list[str]:
        """Files at or below a path."""
        if path in self.files:
            return [path]
        start = path.rstrip("/") + "/"
        return [each for each in self.files if each.startswith(start)]

    def find(self, pattern: str, here: str = "/") -> list[str]:
        """Files below a folder whose name holds the text, or fits the pattern (``*``, ``?``); small and capital are one."""
        wanted = pattern.lower() if any(char in pattern for char in "*?[") else f"*{pattern.lower()}*"
        return [
            path for path in sorted(self.below(here)) if fnmatch.fnmatchcase(posixpath.basename(path).lower(), wanted)
        ]

    def listing(self, folder: str) -> list[str]:
        """The lines of ``ls``."""
        lines = []
        for path in sorted(self.folders[folder]):
            name = shown(posixpath.basename(path))
            if path in self.folders:
                inside = self.below(path)
                size = human(sum(self.files[each] for each in inside))
                lines.append(f"{size:>12}  {name}/  ({len(inside)} files)")
            else:
                lines.append(f"{human(self.files[path]):>12}  {name}")
        return lines


class Browser(cmd.Cmd):
    """ls, cd, find, get. ``get(paths) -> exit code`` restores."""

    doc_header = "Commands (help COMMAND for each):"

    def __init__(self, job: str, tree: Tree, get: Callable[[Sequence[str]], int], **streams: Any) -> None:
        super().__init__(**streams)
        self.job, self.tree, self._get = job, tree, get
        self.here = tree.start()
        self.code = 0
        self._look()

    def _look(self) -> None:
        self.prompt = f"{self.job} {shown(self.here)}> "

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line + "\n")

    def _words(self, line: str) -> list[str] | None:
        try:
            return shlex.split(line)
        except ValueError as error:
            self._say([f"{error}: put names with quotes into quotes of the other kind"])
            return None

    def _path(self, said: str) -> str | None:
        path = self.tree.resolve(said, self.here)
        if path is None:
            self._say([f"{said}: not in this run; `find {posixpath.basename(said) or said}` looks for it below here"])
        return path

    def do_ls(self, line: str) -> None:
        """ls [FOLDER]: what is in a folder"""
        for said in self._words(line) or ["."]:
            path = self._path(said)
            if path in self.tree.folders:
                self._say(self.tree.listing(path))
            elif path:
                self._say([f"{human(self.tree.files[path]):>12}  {shown(path)}"])

    def do_cd(self, line: str) -> None:
        """cd FOLDER: go there; .. is one up, cd alone goes back to the start"""
        words = self._words(line)
        if words is None:
            return
        path = self._path(words[0]) if words else self.tree.start()
        if path in self.tree.folders:
            self.here = path
            self._look()
        elif path:
            self._say([f"{shown(path)} is a file; get it with: get {shlex.quote(posixpath.basename(path))}"])

    def do_pwd(self, _line: str) -> None:
        """pwd: where you are"""
        self._say([shown(self.here)])

    def do_find(self, line: str) -> None:
        """find TEXT: files below here with TEXT in their name; * and ? stand for what you do not know"""
        words = self._words(line)
        if not words:
            self._say(["find what? For instance: find letter, or: find '*.pdf'"])
            return
        found = self.tree.find(" ".join(words), self.here)
        self._say(f"{human(self.tree.files[path]):>12}  {shown(path)}" for path in found[:SHOWN])
        more = f", the first {SHOWN} are shown" if len(found) > SHOWN else ""
        self._say([f"{len(found)} files{more}"])

    def do_get(self, line: str) -> None:
        """get FILE-OR-FOLDER...: restore it, into the new folder; . is all of this folder"""
        words = self._words(line)
        if not words:
            self._say(["get what? A file or folder of this listing; . is all of it"])
            return
        paths = [self._path(said) for said in words]
        if all(paths):
            self.code = max(self.code, self._get([path for path in paths if path]), key=lambda code: (code == 1, code))

    def do_quit(self, _line: str) -> bool:
        """quit: leave"""
        return True

    do_exit = do_quit

    def do_EOF(self, _line: str) -> bool:  # noqa: N802 - the name is cmd's
        """^D: leave"""
        self.stdout.write("\n")
        return True

    def emptyline(self) -> bool:
        """Do nothing: cmd would repeat the last command, which may have been a get."""
        return False

    def default(self, line: str) -> None:
        """Say what there is."""
        self._say([f"{line.split()[0]}: there is no such command. There are: ls, cd, pwd, find, get, help, quit"])

    def completedefault(self, text: str, *_ignored: Any) -> list[str]:
        """Names in the folder that begin so."""
        folder = self.tree.resolve(posixpath.dirname(text) or ".", self.here)
        start = posixpath.join(posixpath.dirname(text), "") if posixpath.dirname(text) else ""
        names = [
            start + shown(posixpath.basename(path)) + ("/" if path in self.tree.folders else "")
            for path in self.tree.folders.get(folder or "", {})
        ]
        return [name for name in names if name.startswith(text)]


def browse(browser: Browser) -> int:
    """Until they leave; the worst exit code of what they got. ^C ends a line, not the walk."""
    try:
        import readline

        readline.set_completer_delims(" \t\n")
    except ImportError:
        pass
    browser.stdout.write("ls, cd, find and get; help tells more, quit leaves.\n")
    while True:
        try:
            browser.cmdloop()
        except KeyboardInterrupt:
            browser.stdout.write("\n")
        else:
            return browser.code
