# SPDX-License-Identifier: Apache-2.0
"""The conversation with upsd: parsing, refusals, and that no password reaches an error."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import nut

SECRET = "Canary-7391-secret"


class Wire:
    """A socket that answers each line from a table and remembers what was sent."""

    def __init__(self, answers: dict[str, str], chunk: int = 4096) -> None:
        self.answers, self.chunk = answers, chunk
        self.sent: list[str] = []
        self.pending = b""
        self.closed = False

    def __call__(self, where, timeout):
        self.where = where
        return self

    def sendall(self, data: bytes) -> None:
        line = data.decode().rstrip("\n")
        self.sent.append(line)
        self.pending += self.answers.get(line, "OK\n").encode()

    def recv(self, size: int) -> bytes:
        take = min(size, self.chunk)
        data, self.pending = self.pending[:take], self.pending[take:]
        return data

    def close(self) -> None:
        self.closed = True


LISTING = (
    "BEGIN LIST VAR ups1\n"
    'VAR ups1 battery.charge "100"\n'
    'VAR ups1 battery.runtime "600"\n'
    'VAR ups1 driver.name "dummy-ups"\n'
    'VAR ups1 ups.model "He said \\"hi\\" \\\\ ok"\n'
    'VAR ups1 ups.status "OB DISCHRG LB"\n'
    "END LIST VAR ups1\n"
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("OK", ["OK"]),
        ('VAR ups1 ups.status "OL CHRG"', ["VAR", "ups1", "ups.status", "OL CHRG"]),
        ('a "" b', ["a", "", "b"]),
        ('x "a\\"b\\\\c"', ["x", 'a"b\\c']),
        ("a\\ b c", ["a b", "c"]),
        ("", []),
    ],
)
def test_words(line, expected):
    assert nut.words(line) == expected


@pytest.mark.parametrize("line", ['VAR "open', "ends in \\"])
def test_a_line_that_ends_inside_quotes_is_refused(line):
    with pytest.raises(nut.NutError) as caught:
        nut.words(line)
    assert caught.value.code == nut.PROTOCOL


@pytest.mark.parametrize("text", ["plain", 'with "quotes"', "back\\slash", "a b", "#=;'"])
def test_what_is_quoted_is_read_back(text):
    assert nut.words(nut.quote(text)) == [text]


@pytest.mark.parametrize("chunk", [4096, 1, 7])
def test_a_list_is_read_however_it_is_cut(chunk):
    wire = Wire({"LIST VAR ups1": LISTING}, chunk)
    with nut.Nut("198.18.0.11", connect=wire) as server:
        state = server.state("ups1")
    assert state == nut.UpsState(("OB", "DISCHRG", "LB"), 100.0, 600.0, None, "dummy-ups")
    assert wire.where == ("198.18.0.11", 3493)
    assert wire.sent[-1] == "LOGOUT"
    assert wire.closed


def test_setting_a_variable_says_who_and_what():
    wire = Wire({})
    with nut.Nut("x", connect=wire) as server:
        server.login("drill", SECRET)
        server.set_variable("ups1", "ups.status", "OB DISCHRG")
    assert wire.sent[:3] == ['USERNAME "drill"', f'PASSWORD "{SECRET}"', 'SET VAR ups1 ups.status "OB DISCHRG"']


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        ("ERR ACCESS-DENIED\n", "ACCESS-DENIED", "upsd.users"),
        ("ERR UNKNOWN-UPS\n", "UNKNOWN-UPS", "ups.conf"),
        ("ERR SOMETHING-NEW\n", "SOMETHING-NEW", "SOMETHING-NEW"),
        ("ERR\n", nut.PROTOCOL, "PROTOCOL"),
        ("\n", nut.PROTOCOL, "empty"),
        ("", nut.UNREACHABLE, "hung up"),
    ],
)
def test_refusals_are_named(answer, code, text):
    with pytest.raises(nut.NutError, match=text) as caught:
        nut.Nut("x", connect=Wire({'LOGIN "ups1"': answer})).attach("ups1")
    assert caught.value.code == code


@pytest.mark.parametrize("password", [SECRET, SECRET + "-\u00fc"])
def test_no_error_carries_the_password(password):
    wire = Wire({f'PASSWORD "{password}"': "ERR INVALID-PASSWORD\n"})
    with pytest.raises(nut.NutError) as caught:
        nut.Nut("x", connect=wire).login("drill", password)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_answer_to_another_question_is_refused():
    wire = Wire({"GET VAR ups1 ups.status": 'VAR ups2 ups.status "OL"\n'})
    with pytest.raises(nut.NutError, match="another question"):
        nut.Nut("x", connect=wire).variable("ups1", "ups.status")


def test_nobody_there():
    def refuse(where, timeout):
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(nut.NutError) as caught:
        nut.Nut("198.18.0.11", connect=refuse)
    assert caught.value.code == nut.UNREACHABLE
    assert "198.18.0.11" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "online", "on_battery"),
    [
        (("OL",), True, False),
        (("OL", "CHRG"), True, False),
        (("OL", "RB"), True, False),  # a worn battery is an alert, not an outage
        (("OB", "DISCHRG"), False, True),
        (("OB", "LB"), False, True),
        (("FSD", "OL"), False, True),  # mains are back, but the shutdown has been ordered
        ((), False, False),
    ],
)
def test_states(status, online, on_battery):
    state = nut.UpsState(status, None, None, None, None)
    assert (state.online, state.on_battery) == (online, on_battery)


def test_each_ups_is_asked_and_a_silent_one_is_an_error_of_its_own():
    def connect(where, timeout):
        if where[0] == "dead":
            raise TimeoutError("timed out")
        return Wire({"LIST VAR ups1": LISTING})

    found = nut.ask_each([{"ups": "ups1", "address": "a"}, {"ups": "ups2", "address": "dead"}], connect=connect)
    assert found[0]["status"] == "OB DISCHRG LB"
    assert found[0]["error"] is None
    assert found[1]["status"] is None
    assert found[1]["error"]["code"] == nut.UNREACHABLE


def test_a_trial_login_needs_the_password_to_be_right():
    wire = Wire({"LIST VAR ups1": LISTING, 'LOGIN "ups1"': "ERR ACCESS-DENIED\n"})
    monitor = {"ups": "ups1", "address": "a", "user": "server1", "password": SECRET}
    [found] = nut.ask_each([monitor], connect=wire, attach=True)
    assert found["error"]["code"] == nut.DENIED
    assert SECRET not in str(found)


def test_commands_are_listed_and_given():
    listing = "BEGIN LIST CMD ups1\nCMD ups1 load.off\nCMD ups1 test.battery.start.quick\nEND LIST CMD ups1\n"
    wire = Wire({"LIST CMD ups1": listing, "INSTCMD ups1 load.off": "ERR ACCESS-DENIED\n"})
    with nut.Nut("a", connect=wire) as server:
        assert server.commands("ups1") == ["load.off", "test.battery.start.quick"]
        server.login("selftest", SECRET)
        server.command("ups1", "test.battery.start.quick")
        with pytest.raises(nut.NutError) as caught:
            server.command("ups1", "load.off")
    assert caught.value.code == nut.DENIED
    assert "INSTCMD ups1 test.battery.start.quick" in wire.sent
