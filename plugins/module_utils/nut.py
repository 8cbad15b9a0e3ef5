# SPDX-License-Identifier: Apache-2.0
"""The one door to a NUT server (upsd): its line protocol over TCP.

``upsc`` would do for reading, but ``upsrw`` and ``upscmd`` take the password as an argument, where every user of the
machine can read it. Here it goes through the socket only.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Callable

PORT = 3493
UNREACHABLE = "UNREACHABLE"
PROTOCOL = "PROTOCOL"
DENIED = "ACCESS-DENIED"
DENIED_ANSWER = f"ERR {DENIED}\n"
# longest answer that we read; a UPS has about a hundred variables of one line each
LIMIT = 1 << 20

HINTS = {
    DENIED: "user or password differ from upsd.users on the primary, or the user has no such right",
    "UNKNOWN-UPS": "the primary's ups.conf has no UPS of this name",
    "DRIVER-NOT-CONNECTED": "the driver of this UPS does not run; look at systemctl status 'nut-driver@*' there",
    "DATA-STALE": "the driver no longer hears from the UPS; look at the cable and at systemctl status 'nut-driver@*'",
    "VAR-NOT-SUPPORTED": "this UPS has no such variable",
    "READONLY": "this UPS does not let the variable be set",
    "CMD-NOT-SUPPORTED": "this UPS has no such command",
}


class NutError(Exception):
    """upsd said no, or nothing. ``code`` is NUT's own word (ACCESS-DENIED ...), UNREACHABLE or PROTOCOL."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class UpsState:
    """What a UPS says of itself; numbers are None when it does not say. Runtimes are in seconds, charge in percent."""

    status: tuple[str, ...]
    charge: float | None
    runtime_s: float | None
    low_runtime_s: float | None
    driver: str | None

    @property
    def online(self) -> bool:
        """Mains are there and nobody has ordered a shutdown."""
        return "OL" in self.status and not {"OB", "LB", "FSD"} & set(self.status)

    @property
    def on_battery(self) -> bool:
        """Mains are gone, or a forced shutdown is on."""
        return bool({"OB", "FSD"} & set(self.status))


def words(line: str) -> list[str]:
    """Split a protocol line: words, or "words in quotes" in which a backslash takes the next character as it is."""
    found: list[str] = []
    word: list[str] | None = None
    quoted = escaped = False
    for character in line:
        if escaped:
            word = [*(word or []), character]
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
            word = word or []
        elif character.isspace() and not quoted:
            if word is not None:
                found.append("".join(word))
            word = None
        else:
            word = [*(word or []), character]
    if quoted or escaped:
        raise NutError(PROTOCOL, "upsd: a line ended inside quotes")
    if word is not None:
        found.append("".join(word))
    return found


def quote(text: str) -> str:
    """Write a text as one word of the protocol or of a NUT configuration file."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def state_of(variables: Mapping[str, str]) -> UpsState:
    """Read the few variables that matter out of a UPS's list."""
    return UpsState(
        status=tuple(variables.get("ups.status", "").split()),
        charge=_number(variables.get("battery.charge")),
        runtime_s=_number(variables.get("battery.runtime")),
        low_runtime_s=_number(variables.get("battery.runtime.low")),
        driver=variables.get("driver.name"),
    )


class Nut:
    """A conversation with one upsd. Use as a context manager; every method raises NutError."""

    def __init__(
        self,
        address: str,
        port: int = PORT,
        timeout_s: float = 5.0,
        connect: Callable[..., Any] = socket.create_connection,
    ) -> None:
        self._where = f"upsd at {address} port {port}"
        self._buffer = b""
        try:
            self._socket = connect((address, port), timeout=timeout_s)
        except OSError as error:
            raise NutError(
                UNREACHABLE, f"{self._where}: no answer ({error}); is nut-server running there, and does it listen?"
            ) from error

    def __enter__(self) -> Nut:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye (upsd then counts us out at once) and hang up."""
        try:
            self._socket.sendall(b"LOGOUT\n")
        except OSError:
            # the other side hung up first: then there is nobody to say goodbye to
            self._buffer = b""
        finally:
            self._socket.close()

    def _line(self) -> str:
        try:
            while b"\n" not in self._buffer:
                chunk = self._socket.recv(4096)
                if not chunk:
                    raise NutError(UNREACHABLE, f"{self._where}: hung up in the middle of an answer")
                self._buffer += chunk
                if len(self._buffer) > LIMIT:
                    raise NutError(PROTOCOL, f"{self._where}: an answer without end; is this really upsd?")
        except OSError as error:
            raise NutError(UNREACHABLE, f"{self._where}: no answer ({error})") from error
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode("ascii", "replace").rstrip("\r")

    def _ask(self, command: str, about: str) -> list[str]:
        """Send a line, give back the answer's words. ``about`` names it in errors, as the line may hold a secret."""
        try:
            self._socket.sendall(command.encode("ascii") + b"\n")
        except UnicodeEncodeError as error:
            # "from None": the original error carries the whole line
            raise NutError(PROTOCOL, f"{self._where}: {about}: only ASCII can be sent ({error.reason})") from None
        except OSError as error:
            raise NutError(UNREACHABLE, f"{self._where}: {about}: no answer ({error})") from error
        answer = words(self._line())
        if not answer:
            raise NutError(PROTOCOL, f"{self._where}: {about}: an empty answer")
        if answer[0] == "ERR":
            code = answer[1] if len(answer) > 1 else PROTOCOL
            hint = HINTS.get(code)
            raise NutError(code, f"{self._where}: {about}: {code}" + (f" ({hint})" if hint else ""))
        return answer

    def _list(self, what: str) -> list[list[str]]:
        about = f"LIST {what}"
        answer = self._ask(about, about)
        if answer[:2] != ["BEGIN", "LIST"]:
            raise NutError(PROTOCOL, f"{self._where}: {about}: expected a list, got {answer[0]}")
        rows: list[list[str]] = []
        while True:
            row = words(self._line())
            if row[:2] == ["END", "LIST"]:
                return rows
            rows.append(row)

    def login(self, user: str, password: str) -> None:
        """Say who we are. upsd answers OK to anything here; a wrong password shows at the first thing that needs it."""
        self._ask(f"USERNAME {quote(user)}", "USERNAME")
        self._ask(f"PASSWORD {quote(password)}", "PASSWORD")

    def attach(self, ups: str) -> None:
        """Be counted among the machines that hang on this UPS until we hang up (NUT's LOGIN). Needs login()."""
        self._ask(f"LOGIN {quote(ups)}", f"LOGIN {ups}")

    def variables(self, ups: str) -> dict[str, str]:
        """All variables of a UPS: name -> text."""
        return {row[2]: row[3] for row in self._list(f"VAR {ups}") if len(row) == 4 and row[0] == "VAR"}

    def variable(self, ups: str, name: str) -> str:
        """One variable of a UPS."""
        answer = self._ask(f"GET VAR {ups} {name}", f"GET VAR {ups} {name}")
        if len(answer) != 4 or answer[:3] != ["VAR", ups, name]:
            raise NutError(PROTOCOL, f"{self._where}: GET VAR {ups} {name}: an answer to another question")
        return answer[3]

    def state(self, ups: str) -> UpsState:
        """How a UPS is."""
        return state_of(self.variables(ups))

    def clients(self, ups: str) -> list[str]:
        """Addresses of the machines that are attached to a UPS."""
        return [row[2] for row in self._list(f"CLIENT {ups}") if len(row) == 3 and row[0] == "CLIENT"]

    def commands(self, ups: str) -> list[str]:
        """Instant commands that a UPS understands, such as test.battery.start.quick."""
        return [row[2] for row in self._list(f"CMD {ups}") if len(row) == 3 and row[0] == "CMD"]

    def command(self, ups: str, name: str) -> None:
        """Give an instant command. Needs login() as a user who may give exactly this one (instcmds)."""
        self._ask(f"INSTCMD {ups} {name}", f"INSTCMD {ups} {name}")

    def set_variable(self, ups: str, name: str, value: str) -> None:
        """Set a variable. Needs login() as a user with the action SET."""
        self._ask(f"SET VAR {ups} {name} {quote(value)}", f"SET VAR {ups} {name}")


def ask_each(
    monitors: Sequence[Mapping[str, Any]], connect: Callable[..., Any] = socket.create_connection, attach: bool = False
) -> list[dict[str, Any]]:
    """How each monitored UPS looks from here: [{ups, address, status, charge, runtime_s, low_runtime_s, error}].

    monitors: {"ups", "address"} each, with "port", and with "user" and "password" when ``attach`` asks for a trial
    login. ``error`` is null or {"code", "message"}; the other values are null then.
    """
    found = []
    for monitor in monitors:
        entry: dict[str, Any] = {"ups": monitor["ups"], "address": monitor["address"], "error": None}
        entry.update(status=None, charge=None, runtime_s=None, low_runtime_s=None, driver=None)
        try:
            with Nut(monitor["address"], int(monitor.get("port") or PORT), connect=connect) as nut:
                state = nut.state(monitor["ups"])
                if attach:
                    nut.login(monitor["user"], monitor["password"])
                    nut.attach(monitor["ups"])
                entry.update(
                    status=" ".join(state.status),
                    charge=state.charge,
                    runtime_s=state.runtime_s,
                    low_runtime_s=state.low_runtime_s,
                    driver=state.driver,
                )
        except NutError as error:
            entry["error"] = {"code": error.code, "message": str(error)}
        found.append(entry)
    return found
