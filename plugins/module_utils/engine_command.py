# SPDX-License-Identifier: Apache-2.0
"""A vendor's own dump program: whatever it writes to standard output, streamed, and kept only when it ends well.

It runs as a user without privileges, with an environment that holds nothing of ours, inside the sandbox of the agent's service:
it can write below /tmp and /var/tmp, which are its own and go with the run. What it says on standard error may quote
patients, so it goes to the host's journal and nowhere else.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .agent_host import say
from .database_engine import ENV, Database, DatabaseError, Tools
from .engine_stream import StreamEngine, StreamView, faults_of_texts
from .piped_dump import PipedDump

USER = "holdfast"
LAST_WORDS = 20


def account(name: str) -> pwd.struct_passwd:
    """The user that a program runs as. Raises DatabaseError."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        message = f"there is no user {name} on this host: name the user that the vendor's program runs as"
        raise DatabaseError("user_missing", message) from None
    if found.pw_uid == 0:
        raise DatabaseError("user_is_root", f"{name} is root: a vendor's program must not read what the agent can")
    return found


class CommandView(StreamView):
    """The program, under way."""

    def __init__(self, database: Database, tools: Tools) -> None:
        super().__init__(database)
        self._program = str(database.settings["dump"][0])
        try:
            user = account(str(database.settings.get("user") or USER))
            if not os.path.exists(self._program):  # noqa: PTH110
                raise DatabaseError("program_missing", f"{self._program} does not exist on this host")
            become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--"]
            env = {**ENV, "HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
            self._dump = PipedDump(tools, become, database.settings["dump"], env)
        except BaseException:
            super().close()
            raise

    def dump_command(self) -> list[str]:
        """What passes on its output."""
        return self.measured(self._dump.pipe, self._dump.status)

    def complaint(self) -> str:
        """Where it is said."""
        lines = self._dump.complaint().splitlines()
        for line in lines[-LAST_WORDS:]:
            say(f"{Path(self._program).name}: {line[:300]}", 4)
        return f"{self._program} said why in the journal of this run" if lines else ""

    def close(self) -> None:
        """End it, finished or not."""
        self._dump.close()
        super().close()


class Command(StreamEngine):
    """A program of the software's vendor."""

    name = "command"
    title = "vendor's"
    settings = ("dump", "user", "end_marker", "check")

    def open(self, database: Database, tools: Tools) -> CommandView:
        """Start it."""
        return CommandView(database, tools)

    def faults(self, database: Mapping[str, Any]) -> list[str]:
        """Of the program, its user, its marker and its check."""
        faults = faults_of_texts(database, "dump", *(["check"] if database.get("check") else []))
        user, marker = database.get("user"), database.get("end_marker")
        if user is not None and (user == "root" or not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", str(user))):
            faults.append(f"database.user {user!r}: expected the name of a user without privileges")
        if marker is not None and (not isinstance(marker, str) or not marker.strip() or "\n" in marker):
            faults.append(f"database.end_marker {marker!r}: expected one line of text")
        faults += [
            f"database.{key}: {self.name} has a program and no {key}" for key in ("name", "path") if database.get(key)
        ]
        return faults
