# SPDX-License-Identifier: Apache-2.0
"""What is told, and what is not told again; pure decisions by table, the queue with a mail server that is played."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import mail_send, notice
from ansible_collections.holdfast.practice.plugins.module_utils.notice import Condition, Memory, News, Words

H, D = 3600.0, 86400.0
T = 1_000 * D
SETTINGS = {
    "practice": "harbour-street", "practice_name": "Harbour Street", "host": "server1", "timezone": "Australia/Sydney",
    "relay": "mail.example", "port": 587, "tls": "starttls", "sender": "holdfast@clinic.example",
    "to": ["manager@clinic.example", "help@it.example"], "user": None, "ca": False,
}  # fmt: skip
OK, FULL = Condition("OK", (), 0.0, T - H), Condition("FAILED", ("nas_full",), T, T - D)
AWAY = Condition("FAILED", ("nas_unreachable",), T, T - D)
GAP = Condition("INCOMPLETE", ("files_unreadable",), T, T - D)


def told(state="FAILED", codes=("nas_full",), ago=H, since=T - 9 * H, recent=()):
    return {
        "state": state,
        "codes": list(codes),
        "since": since,
        "at": T - ago,
        "recent": [T - each for each in recent],
    }


@pytest.mark.parametrize(
    ("before", "found", "kind"),
    [
        (None, OK, None),
        (None, FULL, "problem"),
        (told("OK", ()), FULL, "problem"),
        (told("OK", (), ago=90 * D), OK, None),
        (told(), FULL, None),
        (told(ago=23.9 * H), FULL, None),
        (told(ago=24 * H), FULL, "reminder"),
        (told(ago=-5 * H), FULL, None),  # the clock went back: not before it has caught up
        (told(), AWAY, "other"),
        (told(), GAP, "other"),
        (told(), OK, "recovered"),
        (told(ago=30 * D), OK, "recovered"),
        # nothing can be said: what was told stands
        (told(), Condition(notice.WAITING), None),
        (None, Condition(notice.WAITING), None),
        # it keeps changing: four times, and then at most every six hours
        (told("OK", (), recent=(9 * H, 5 * H, 1 * H)), FULL, "problem"),
        (told("OK", (), recent=(9 * H, 5 * H, 2 * H, 1 * H)), FULL, None),
        (told("OK", (), recent=(30 * H, 5 * H, 2 * H, 1 * H)), FULL, "problem"),
        (told("OK", (), recent=(12 * H, 9 * H, 7 * H, 6 * H)), FULL, "problem"),
        (told(recent=(9 * H, 5 * H, 2 * H, 1 * H)), OK, None),
        (
            told("OK", (), recent=(-9 * H, -5 * H, -2 * H, -1 * H)),
            FULL,
            "problem",
        ),  # times ahead of the clock do not count
    ],
)
def test_what_is_told(before, found, kind):
    news, after = notice.decide({"documents": before} if before else {}, {"documents": found}, T)
    assert [each.kind for each in news] == ([kind] if kind else [])
    if kind is None:
        assert after == ({"documents": before} if before else {})
    else:
        assert (after["documents"]["state"], tuple(after["documents"]["codes"])) == (found.state, found.codes)
        assert (after["documents"]["at"], after["documents"]["recent"][-1]) == (T, T)


def test_the_second_look_has_nothing_to_say():
    found = {"a": FULL, "b": GAP, "c": OK}
    news, after = notice.decide({}, found, T)
    assert [each.subject for each in news] == ["a", "b"]
    assert notice.decide(after, found, T + 60) == ([], after)


def test_a_problem_is_old_since_it_began_and_not_since_it_changed():
    news, after = notice.decide({"a": told(since=T - 9 * H)}, {"a": AWAY}, T)
    assert (news[0].kind, news[0].since, after["a"]["since"]) == ("other", T - 9 * H, T - 9 * H)
    news, _after = notice.decide(after, {"a": OK}, T + H)
    assert (news[0].kind, news[0].since) == ("recovered", T - 9 * H)


def test_flapping_ends_in_what_holds():
    """Every ten minutes another state for two days: a handful of mails, and the last one is true."""
    memory, mails, now = {}, [], T
    for step in range(288):
        now = T + step * 600
        news, memory = notice.decide(memory, {"a": FULL if step % 2 else OK}, now)
        mails += news
    assert 5 <= len(mails) <= notice.MANY + 2 * (24 * H / notice.CALM_S)
    assert any(each.often for each in mails)
    for step in range(40):
        news, memory = notice.decide(memory, {"a": OK}, now + step * 600)
        mails += news
    assert memory["a"]["state"] == "OK"
    assert mails[-1].kind == "recovered"


def test_one_reminder_a_day_for_all_of_them():
    memory = {"a": told(ago=24 * H), "b": told(ago=13 * H), "c": told(ago=11 * H)}
    news, _after = notice.decide(memory, dict.fromkeys("abc", FULL), T)
    assert [(each.kind, each.subject) for each in news] == [("reminder", "a"), ("reminder", "b")]


def test_no_reminder_joins_mails_that_wait():
    before = {"a": told(ago=30 * H), "b": told(ago=H)}
    news, after = notice.decide(before, {"a": FULL, "b": AWAY}, T, remind=False)
    assert [(each.kind, each.subject) for each in news] == [("other", "b")]
    assert after["a"] == before["a"]


@pytest.mark.parametrize(
    ("last", "seen", "awake", "late"),
    [
        (T - 26 * H, T - 90 * D, T - 9 * D, None),
        (T - 28 * H, T - 90 * D, T - 9 * D, T - H),
        (None, T - 28 * H, T - 9 * D, T - H),  # it never ran since it was installed
        (None, T - 26 * H, T - 9 * D, None),
        (T - 3 * D, T - 90 * D, T - 2 * H, None),  # off for three days: its chance to catch up comes first
        (T - 3 * D, T - 90 * D, T - 3 * H, T - 3 * D + 27 * H),
        (T + 9 * D, T - 28 * H, T - 9 * D, T - H),  # what lies ahead of the clock proves nothing
        (T + 60, T - 28 * H, T - 9 * D, None),
        (T - 28 * H, T - H, T - 9 * D, None),  # its deadline is new
    ],
)
def test_late(last, seen, awake, late):
    assert notice.late_since(last, seen, awake, 27 * H, 2.5 * H, T) == late


def test_a_machine_is_awake_since_the_first_look_after_a_gap():
    memory = Memory()
    notice.look(memory, {"a": 5.0}, T)
    assert (memory.awake, memory.seen) == (T, {"a": {"at": T, "deadline_s": 5.0}})
    for step in range(1, 5):
        notice.look(memory, {"a": 5.0, "b": 7.0}, T + step * 900)
    assert (memory.awake, memory.seen["a"]["at"], memory.seen["b"]["at"]) == (T, T, T + 900)
    notice.look(memory, {"a": 5.0, "b": 8.0}, T + 3 * D)
    assert (memory.awake, memory.seen["a"]["at"], memory.seen["b"]["at"]) == (T + 3 * D, T, T + 3 * D)
    memory.told = {"b": told()}
    notice.look(memory, {"a": 5.0}, T + 3 * D + 60)
    assert (list(memory.seen), memory.told) == (["a"], {})  # a job that is gone is forgotten
    notice.look(memory, {"a": 5.0}, T - 9 * D)
    assert (memory.awake, memory.seen["a"]["at"]) == (T - 9 * D, T - 9 * D)  # the clock was put back


def words(each):
    return Words(f"backup of {each.subject}", ["the NAS is full (nas_full)"], ["Make room."])


def test_one_mail_for_all():
    news = [
        News("recovered", "a", OK, T - D),
        News("problem", "b", FULL, T),
        News("reminder", "c", GAP, T - 3 * D, True),
    ]
    subject, body = notice.letter(SETTINGS, news, words, "The end.", T)
    assert subject == "[Holdfast] Harbour Street, server1: 2 in trouble, 1 recovered"
    heads = [line for line in body.splitlines() if line.startswith("Backup of")]
    assert heads == ["Backup of b FAILED", "Backup of c still INCOMPLETE", "Backup of a recovered"]
    assert "This changes often." in body
    assert "  Last good backup: " in body
    assert body.count("What to do") == 2


def test_how_one_reads():
    _subject, body = notice.letter(SETTINGS, [News("problem", "b", FULL, T)], words, "The end.", T)
    assert body == (
        "Harbour Street (harbour-street), seen on server1 at Wed 27 Sep 1972 10:00 (Australia/Sydney)\n"
        "\n"
        "Backup of b FAILED\n"
        "  What happened: the NAS is full (nas_full)\n"
        "  Since: Wed 27 Sep 1972 10:00 (Australia/Sydney)\n"
        "  Last good backup: Tue 26 Sep 1972 10:00 (Australia/Sydney), 1 d ago\n"
        "  What to do: Make room.\n"
        "\n"
        "The end.\n"
        "\n"
        "You hear of it again once a day while it lasts, when it becomes something else, and when it is over.\n"
    )
    subject, body = notice.letter(SETTINGS, [News("recovered", "b", OK, T - D)], words, "The end.", T)
    assert subject == "[Holdfast] Harbour Street: backup of b recovered"
    assert "You hear of it again" not in body


def test_what_has_no_last_good_says_what_it_was_when_it_is_over():
    def of_a_ups(_each):
        return Words("ups1", ["the mains failed"], ["Wait."], ["The mains were away for 40 s."], None)

    news = [News("problem", "a", FULL, T), News("recovered", "b", OK, T - D)]
    _subject, body = notice.letter(SETTINGS, news, of_a_ups, "The end.", T)
    assert "Last good" not in body
    assert body.count("The mains were away for 40 s.") == 1
    assert body.index("recovered") < body.index("The mains were away")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 min"), (59 * 60, "59 min"), (3600, "1 h 0 min"), (25 * H, "1 d 1 h"), (3 * D, "3 d"), (-5, "0 min")],
)
def test_span(seconds, text):
    assert notice.span(seconds) == text


@pytest.mark.parametrize("zone", ["", "No/Where", "../../etc/passwd"])
def test_a_zone_that_is_not_there_is_utc(zone):
    assert notice.moment(0, zone) == "Thu 1 Jan 1970 00:00 (UTC)"


# --- the queue ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def post(tmp_path):
    (tmp_path / "password").write_text("pw\n")
    return notice.Post(
        SETTINGS, tmp_path / "memory.json", tmp_path / "run" / "lock", tmp_path / "ca", tmp_path / "password"
    )


@pytest.fixture
def server(monkeypatch):
    """A mail server: ``answers`` are given one after the other, an error or the refused recipients; then all is well."""

    class Server:
        pass

    server = Server()
    server.answers, server.taken = [], []

    def send(_settings, _password, _cafile, recipients, mail):
        answer = server.answers.pop(0) if server.answers else {}
        if isinstance(answer, Exception):
            raise answer
        server.taken.append((sorted(set(recipients) - set(answer)), mail))
        return answer

    monkeypatch.setattr(mail_send, "send", send)
    return server


DOWN = mail_send.MailError("mail_unreachable", "mail.example:587 does not answer")


def subjects(server):
    return [line for _to, mail in server.taken for line in mail.decode().splitlines() if line.startswith("Subject:")]


def test_what_could_not_be_sent_is_sent_later_once_and_in_order(post, server):
    memory = Memory()
    server.answers = [DOWN, DOWN]
    for step, (found, kind) in enumerate([(FULL, "problem"), (OK, "recovered")]):
        post.tell(memory, [News(kind, "b", found, T)], words, "", T + step)
        post.save(memory)
        assert post.send(memory, T + step) is False
        memory = post.load()
    assert len(memory.queue) == 2
    assert notice.standing(post.memory) == {
        "waiting": 2,
        "code": "mail_unreachable",
        "message": "mail.example:587 does not answer",
        "since": "1972-09-27T00:00:00Z",
    }
    assert post.send(memory, T + 9) is True
    assert [line.endswith("recovered") for line in subjects(server)] == [False, True]
    assert post.load().queue == []
    assert notice.standing(post.memory) is None
    assert post.send(post.load(), T + 10) is True
    assert len(server.taken) == 2


def test_a_mail_keeps_its_identity_and_its_date(post, server):
    memory = Memory()
    post.tell(memory, [News("problem", "b", FULL, T)], words, "", T)
    first = mail_send.compose(SETTINGS, *(memory.queue[0][key] for key in ("subject", "body", "at", "id")))
    post.send(memory, T + D)
    assert server.taken[0][1] == first
    assert b"Date: Wed, 27 Sep 1972" in first


def test_recipients_that_are_refused_for_now_get_it_later_and_the_others_only_once(post, server):
    memory = Memory()
    post.tell(memory, [News("problem", "b", FULL, T)], words, "", T)
    server.answers = [{"help@it.example": (451, "try later")}]
    assert post.send(memory, T) is False
    assert post.send(post.load(), T + 900) is True
    assert [to for to, _mail in server.taken] == [["manager@clinic.example"], ["help@it.example"]]
    assert notice.standing(post.memory) is None


def test_a_recipient_that_is_refused_for_good_holds_up_nobody_and_is_said(post, server, capsys):
    memory = Memory()
    for step in range(2):
        post.tell(memory, [News("problem", f"b{step}", FULL, T)], words, "", T)
    server.answers = [{"help@it.example": (550, "no such user")}, {"help@it.example": (550, "no such user")}]
    assert post.send(memory, T) is True
    assert len(server.taken) == 2
    standing = notice.standing(post.memory)
    assert (standing["waiting"], standing["code"]) == (0, "mail_recipients_refused")
    assert "refuses help@it.example (550 no such user), others got the notice" in capsys.readouterr().out


def test_the_queue_is_bounded_and_says_what_it_drops(post, capsys):
    memory = Memory()
    for step in range(notice.KEPT + 2):
        post.tell(memory, [News("problem", f"b{step}", FULL, T)], words, "", T + step)
    assert len(memory.queue) == notice.KEPT
    assert memory.queue[0]["at"] == T + 2
    assert capsys.readouterr().out.count("dropped") == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_memory_is_begun_anew_and_said(post, text, capsys):
    post.memory.write_text(text)
    assert post.load() == Memory()
    assert "damaged" in capsys.readouterr().out


def test_the_memory_is_kept_for_root_alone(post):
    memory = Memory(told={"a": told()}, queue=[{"id": "x"}], awake=3.0, looked=4.0)
    post.save(memory)
    assert post.load() == memory
    assert post.memory.stat().st_mode & 0o777 == 0o600
    assert json.loads(post.memory.read_text())["schema"] == 1


def test_one_watch_at_a_time(post):
    with post.locked() as first, post.locked() as second:
        assert (first, second) == (True, False)
