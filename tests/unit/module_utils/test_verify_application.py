# SPDX-License-Identifier: Apache-2.0
"""The practice's software on a restore machine: what is asked, what counts as an answer, and that nothing else starts."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import loopback_door
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import Copy, DatabaseError
from ansible_collections.holdfast.practice.plugins.module_utils.verify import FAIL, INCONCLUSIVE, PASS
from ansible_collections.holdfast.practice.plugins.module_utils.verify_application import (
    SAMPLE,
    filled,
    judge_command,
    judge_http,
    judge_unit,
    spread,
    stays,
    words,
)
from ansible_collections.holdfast.practice.plugins.module_utils.verify_application_host import (
    GONE,
    Trial,
    hash_of,
    quiet,
    sources_of,
)
from ansible_collections.holdfast.practice.plugins.module_utils.verify_files import DROPPED, EXTRA, VOLATILE, Expected
from ansible_collections.holdfast.practice.plugins.module_utils.verify_restic import Done

GOOD = {"status": 200, "bytes": 2, "blake2b": "ab" * 32, "contains": True, "entries": 4}
IMAGE = {"http": "http://127.0.0.1:8042/instances/{1}/file", "rows": "select name, path from image", "file": "{2}"}


# --- what counts as an answer


@pytest.mark.parametrize(
    ("question", "answer", "counted", "wanted", "code"),
    [
        ({}, GOOD, None, None, None),
        ({"status": 204}, {**GOOD, "status": 204}, None, None, None),
        ({}, {**GOOD, "status": 500}, None, None, "wrong_answer"),
        ({"status": 204}, GOOD, None, None, "wrong_answer"),
        ({"contains": "Smith"}, {**GOOD, "contains": False}, None, None, "wrong_answer"),
        ({}, GOOD, 4, None, None),
        ({}, GOOD, 5, None, "wrong_answer"),
        ({}, {**GOOD, "entries": None}, 0, None, "wrong_answer"),
        ({}, {**GOOD, "entries": 0}, 0, None, None),
        ({}, GOOD, None, "ab" * 32, None),
        ({}, GOOD, None, "cd" * 32, "file_differs"),
        ({}, {"error": "ConnectionRefusedError"}, None, None, "no_answer"),
    ],
)
def test_what_is_answered_over_http(question, answer, counted, wanted, code):
    found = judge_http("system", {"http": "http://127.0.0.1/", **question}, answer, counted, wanted)
    assert (found.code if found else None) == code
    assert "Smith" not in str(found)


@pytest.mark.parametrize(
    ("question", "rc", "timed_out", "code"),
    [({}, 0, False, None), ({}, 1, False, "wrong_answer"), ({"exit_code": 3}, 3, False, None), ({}, -9, True, "wrong_answer")],
)  # fmt: skip
def test_how_a_command_ends(question, rc, timed_out, code):
    found = judge_command("tool", question, rc, timed_out)
    assert (found.code if found else None) == code


@pytest.mark.parametrize(
    ("shown", "code", "verdict"),
    [
        ({"LoadState": "loaded", "ActiveState": "active"}, None, None),
        ({"LoadState": "loaded", "ActiveState": "activating"}, None, None),
        ({"LoadState": "loaded", "ActiveState": "failed", "Result": "exit-code"}, "application_not_started", FAIL),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, "unit_missing", INCONCLUSIVE),
    ],
)
def test_what_a_unit_does(shown, code, verdict):
    found = judge_unit("pms.service", shown)
    assert ((found.code, found.verdict) if found else (None, None)) == (code, verdict)


def test_rows_are_spread_over_all_of_them():
    rows = [str(number) for number in range(1000)]
    found = spread(rows)
    assert len(found) == len(set(found)) == SAMPLE
    assert (found[0], found[-1]) == ("0", "999")
    assert spread(["a", "b"]) == ["a", "b"]
    assert spread([]) == []


def test_the_words_of_a_row_take_their_places():
    assert words(IMAGE, "id-1 ab/cd/a file") == ["id-1", "ab/cd/a file"]
    assert filled(IMAGE["http"], ["a b/c", "x"], quote=True) == "http://127.0.0.1:8042/instances/a%20b%2Fc/file"
    assert filled("{2}", ["a", "{1}"]) == "{1}", "a row's own braces are no place"
    with pytest.raises(ValueError, match="1 words"):
        words(IMAGE, "id-1")


# --- the door: a real service on the loopback


class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://198.18.0.1/")
        else:
            self.send_response(404 if self.path == "/nothing" else 200)
        self.end_headers()
        self.wfile.write(b'["p1", "p2"]' if self.path == "/patients" else b"Smith, Robin")

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def service():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_door_describes_an_answer_and_gives_nothing_of_it_away(service):
    found = loopback_door.ask({"url": f"http://127.0.0.1:{service}/one?x=1", "contains": "Robin", "limit_s": 5})
    digest = hashlib.blake2b(b"Smith, Robin", digest_size=32).hexdigest()
    assert found == {"status": 200, "bytes": 12, "blake2b": digest, "contains": True, "entries": None}
    assert not loopback_door.ask({"url": f"http://127.0.0.1:{service}/", "contains": "Jones", "limit_s": 5})["contains"]


def test_the_door_counts_a_list_and_follows_no_redirection(service):
    assert loopback_door.ask({"url": f"http://localhost:{service}/patients", "limit_s": 5})["entries"] == 2
    assert loopback_door.ask({"url": f"http://127.0.0.1:{service}/moved", "limit_s": 5})["status"] == 302
    assert loopback_door.ask({"url": f"http://127.0.0.1:{service}/nothing", "limit_s": 5})["status"] == 404


def test_the_door_asks_nobody_elsewhere():
    assert loopback_door.ask({"url": "http://198.18.0.1/", "limit_s": 5}) == {"error": "OSError"}


def test_the_door_knocks_at_a_port(service):
    assert loopback_door.ask({"port": service, "limit_s": 5}) == {"open": True}
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert loopback_door.ask({"port": unused.getsockname()[1], "limit_s": 5}) == {"error": "ConnectionRefusedError"}


def test_the_door_runs_on_its_own(service):
    """Its text is sent to the machine, where nothing of ours is."""
    source = Path(loopback_door.__file__).read_text()
    question = json.dumps({"url": f"http://127.0.0.1:{service}/patients", "limit_s": 5})
    done = subprocess.run([sys.executable, "-IBc", source], input=question, text=True, capture_output=True, check=True)
    assert json.loads(done.stdout)["entries"] == 2


# --- the trial, with the machine played by a function


class Machine:
    def __init__(self, answers=None, **rcs):
        self.calls: list[tuple[str, ...]] = []
        self.asked: list[dict] = []
        self.answers = answers or [GOOD]
        self.answer = None
        self.rcs = rcs
        self.shown = "LoadState=loaded\nActiveState=active\nResult=success\n"

    def call(self, *argv, user="root", stdin=b"", timeout=None):
        self.calls.append(argv)
        if argv[0] == "python3":
            assert user == "nobody"
            self.asked.append(json.loads(stdin))
            if self.answer:
                answer = self.answer(self.asked[-1])
            else:
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            return Done(0, json.dumps(answer).encode(), "", 0.1)
        name = argv[1] if argv[0] == "systemctl" else argv[0]
        return Done(self.rcs.get(name, 0), self.shown.encode() if name == "show" else b"", "", 0.1)


class Questions:
    def __init__(self, rows=(), value="4"):
        self.rows, self.value = list(rows), value

    def images(self, _sql):
        return self.rows

    def probe(self, _sql):
        if self.value is None:
            return None
        if self.value == "broken":
            raise DatabaseError("query_failed", "42P01")
        return self.value


class Loaded(Copy):
    def __init__(self, questions, refuse=False):
        self._questions, self.refuse, self.served = questions, refuse, ""

    def wait(self, seconds):
        return True

    def load(self, dump):
        return []

    @property
    def questions(self):
        return self._questions

    def check(self):
        return "done", []

    def serve(self, owner):
        if self.refuse:
            raise DatabaseError("engine_failed", "no")
        self.served = owner


def tried(ask, machine=None, copy=None, listed=None, **more):
    application = {"needs": [], "owner": "pms", "units": ["pms.service"], "limit_s": 0.5, "ask": ask, **more}
    sources = {
        "/srv/pms": "/srv/holdfast-restore/pms/files/srv/pms",
        "/etc/pms": "/srv/holdfast-restore/pms.conf/files/etc/pms",
    }
    machine = machine or Machine()
    part = Trial(application, machine, sources, (listed or {}).__getitem__, "/srv/img", copy).do()
    level = part["levels"]["application"]
    return level, [reason["code"] for reason in level["reasons"]], machine, part


def test_a_copy_that_answers_passes_and_is_put_down_again():
    copy = Loaded(Questions())
    level, codes, machine, part = tried(
        {"system": {"http": "http://127.0.0.1:8042/"}, "rows": {"query": "select 1"}}, copy=copy
    )
    assert (level["verdict"], level["checked"], codes) == (PASS, 2, [])
    assert part["figures"]["phases"]["application_s"] > 0
    assert copy.served == "pms"
    said = [argv for argv in machine.calls if argv[0] != "python3"]
    assert [argv[-3:] for argv in said if argv[0] == "sh"] == [
        ("/srv/holdfast-restore/pms.conf/files/etc/pms", "/etc/pms", "pms"),
        ("/srv/holdfast-restore/pms/files/srv/pms", "/srv/pms", "pms"),
    ]
    assert said.index(("systemctl", "start", "--", "pms.service")) > said.index(said[1])
    assert [argv[-1] for argv in said[-3:]] == ["pms.service", "/srv/pms", "/etc/pms"]
    assert [argv[0] for argv in said[-3:]] == ["systemctl", "umount", "umount"]


def test_nothing_to_ask_is_a_fail():
    level, codes, _machine, _part = tried({})
    assert (level["verdict"], codes) == (FAIL, ["zero_checked"])


def test_a_service_that_does_not_start_fails_at_once():
    machine = Machine([{"error": "ConnectionRefusedError"}], start=1)
    machine.shown = "LoadState=loaded\nActiveState=failed\nResult=exit-code\n"
    level, codes, _machine, _part = tried({"system": {"http": "http://127.0.0.1/"}}, machine, limit_s=60.0)
    assert (level["verdict"], codes, machine.asked) == (FAIL, ["application_not_started"], [])


def test_a_service_that_fails_later_is_not_waited_for():
    machine = Machine([{"error": "ConnectionRefusedError"}])
    machine.shown = "LoadState=loaded\nActiveState=failed\nResult=core-dump\n"
    level, codes, _machine, _part = tried({"system": {"http": "http://127.0.0.1/"}}, machine, limit_s=60.0)
    assert (level["verdict"], set(codes)) == (FAIL, {"application_not_started"})


def test_a_unit_that_no_package_brought_is_inconclusive():
    machine = Machine(start=5)
    machine.shown = "LoadState=not-found\nActiveState=inactive\n"
    level, codes, _machine, _part = tried({"system": {"http": "http://127.0.0.1/"}}, machine)
    assert (level["verdict"], codes) == (INCONCLUSIVE, ["unit_missing"])


def test_a_service_that_is_still_starting_is_asked_again():
    machine = Machine([{"error": "ConnectionRefusedError"}, {**GOOD, "status": 503}, GOOD])
    level, codes, machine, _part = tried({"system": {"http": "http://127.0.0.1/"}}, machine, limit_s=20.0)
    assert (level["verdict"], codes, len(machine.asked)) == (PASS, [], 3)


@pytest.mark.parametrize(
    ("ask", "answer", "code"),
    [
        ({"port": 4242}, {"error": "ConnectionRefusedError"}, "port_closed"),
        ({"http": "http://127.0.0.1/"}, {**GOOD, "status": 500}, "wrong_answer"),
        ({"http": "http://127.0.0.1/", "count": "select 1"}, {**GOOD, "entries": 3}, "wrong_answer"),
        ({"http": "http://127.0.0.1/"}, {"error": "TimeoutError"}, "no_answer"),
    ],
)
def test_what_stays_wrong_until_the_time_is_over_fails(ask, answer, code):
    level, codes, machine, _part = tried({"it": ask}, Machine([answer]), Loaded(Questions()))
    assert (level["verdict"], codes) == (FAIL, [code])
    assert len(machine.asked) > 1


def test_what_is_right_is_not_blamed_for_what_takes_all_the_time():
    def answer(question):
        return GOOD if question["url"].endswith("/right") else {**GOOD, "status": 500}

    machine = Machine()
    machine.answer = answer
    ask = {"wrong": {"http": "http://127.0.0.1/wrong"}, "right": {"http": "http://127.0.0.1/right"}}
    level, codes, machine, _part = tried(ask, machine)
    assert (level["verdict"], codes, level["checked"]) == (FAIL, ["wrong_answer"], 2)
    urls = [each["url"].rsplit("/", 1)[1] for each in machine.asked]
    assert urls[:2] == ["wrong", "right"]
    assert urls.count("right") == 1
    assert urls.count("wrong") > 1


def test_what_was_asked_too_early_is_asked_once_more_when_the_time_is_over():
    machine = Machine([{"error": "ConnectionRefusedError"}, GOOD])
    level, codes, machine, _part = tried({"it": {"http": "http://127.0.0.1/"}}, machine, limit_s=0.01)
    assert (level["verdict"], codes, len(machine.asked)) == (PASS, [], 2)


@pytest.mark.parametrize(("value", "verdict"), [("7", PASS), (None, FAIL), ("", FAIL), ("broken", FAIL)])
def test_a_question_of_the_database(value, verdict):
    level, _codes, _machine, _part = tried({"rows": {"query": "select 1"}}, copy=Loaded(Questions(value=value)))
    assert level["verdict"] == verdict


def test_each_image_comes_back_as_it_was_saved():
    rows = ["i1 a/1", "i2 a/2", "i3 a/3"]
    listed = {"/srv/img/a/1": "ab" * 32, "/srv/img/a/2": None, "/srv/img/a/3": GONE}
    level, codes, machine, _part = tried({"images": IMAGE}, copy=Loaded(Questions(rows)), listed=listed)
    assert (level["verdict"], level["checked"], codes) == (PASS, 2, [])
    assert [each["url"].split("/")[-2] for each in machine.asked] == ["i1", "i2"]
    listed["/srv/img/a/1"] = "cd" * 32
    level, codes, _machine, _part = tried({"images": IMAGE}, copy=Loaded(Questions(rows)), listed=listed)
    assert (level["verdict"], codes) == (FAIL, ["file_differs"])
    assert "1 of 2 asked" in level["reasons"][0]["message"]


def test_an_index_row_without_its_file_fails():
    level, codes, _machine, _part = tried({"images": IMAGE}, copy=Loaded(Questions(["i1 a/1"])))
    assert (level["verdict"], codes) == (FAIL, ["file_missing"])
    assert "a/1" not in str(level)


def test_an_index_without_rows_asks_nothing_and_fails():
    level, codes, _machine, _part = tried({"images": IMAGE}, copy=Loaded(Questions([])))
    assert (level["verdict"], codes, level["checked"]) == (FAIL, ["nothing_asked"], 0)


@pytest.mark.parametrize(
    ("machine", "copy", "code"),
    [
        (Machine(sh=1), None, "not_laid_out"),
        (Machine(), Loaded(Questions(), refuse=True), "engine_failed"),
        (Machine(umount=1), None, "not_put_down"),
        (Machine(stop=1), None, "not_put_down"),
    ],
)
def test_what_the_machine_cannot_do_is_inconclusive(machine, copy, code):
    level, codes, _machine, _part = tried({"system": {"http": "http://127.0.0.1/"}}, machine, copy)
    assert (level["verdict"], codes) == (INCONCLUSIVE, [code])


# --- the machine before it starts


def test_nothing_of_the_software_starts_by_itself(tmp_path):
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    timers = tmp_path / "etc/systemd/system/timers.target.wants"
    runs = tmp_path / "etc/rc3.d"
    for folder in (wants, timers, runs):
        folder.mkdir(parents=True)
    for path in (wants / "orthanc.service", wants / "postgresql.service", wants / "cron.service", timers / "apt-daily.timer",
                 runs / "S01orthanc", runs / "S01postgresql"):  # fmt: skip
        path.symlink_to("/nowhere")
    assert quiet(str(tmp_path)) == 4
    assert [path.name for path in [*wants.iterdir(), *timers.iterdir(), *runs.iterdir()]] == [
        "postgresql.service",
        "S01postgresql",
    ]
    assert quiet(str(tmp_path)) == 0
    assert stays("ssh.service")
    assert not stays("anacron.service")


def test_only_what_came_back_is_laid_out(tmp_path):
    (tmp_path / "srv/holdfast-restore/pms/files/srv/pms").mkdir(parents=True)
    found = sources_of(str(tmp_path), "/srv/holdfast-restore/pms", ["/srv/pms", "/srv/gone"])
    assert found == {"/srv/pms": "/srv/holdfast-restore/pms/files/srv/pms"}


def test_what_changed_or_went_during_the_backup_has_no_hash():
    found = Expected("1", "0644", "1", "ab", 0, "same", "")
    assert hash_of("/a", [None, found]) == "ab"
    assert hash_of("/a", [found._replace(volatile=1, state=VOLATILE)]) is None
    assert hash_of("/a", [found._replace(state=DROPPED)]) == GONE
    for unknown in ([], [None], [found._replace(state=EXTRA)]):
        with pytest.raises(KeyError):
            hash_of("/a", unknown)
