"""Who is told what, and what is not sent, with a real mail server. Every fault is shown to have landed, and mended."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import time
from pathlib import Path

import lab_mail
import pytest
import testinfra

FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
TRIAL = FOLDER / "notices"
SECRETS = [(TRIAL / name).read_text().strip() for name in ("rest", "repository", "mail")]
HERE = Path(__file__).resolve().parents[1]
PATIENT = "Jane Sample 1970"
MEMORY = "/var/lib/holdfast/notices/memory.json"
NAS_MEMORY = "/var/lib/holdfast-nas-watch/memory.json"


def machine(name):
    return testinfra.get_host(f"ansible://{name}?ansible_inventory={FOLDER}/inventory/machines.yml")


@pytest.fixture(scope="module")
def nas():
    return machine("nas1")


@pytest.fixture(scope="module")
def provider():
    """The machine of the mail provider."""
    return machine("desk1")


@pytest.fixture(scope="module")
def backed_up(host, nas):
    """Both jobs ran; from here on the timers do not join in."""
    host.check_output(
        "systemctl stop holdfast-watch.timer; systemctl start holdfast-backup@documents holdfast-backup@scans"
    )
    nas.check_output("systemctl stop holdfast-nas-watch.timer")
    wait(host)
    host.check_output("cp -a /var/lib/holdfast/status /root/status")
    yield
    host.check_output("rm -rf /root/status; systemctl start holdfast-watch.timer")
    nas.check_output("systemctl start holdfast-nas-watch.timer")


@pytest.fixture(autouse=True)
def clean(host, nas, provider, backed_up):
    """Nothing was told, all jobs are well, no mail lies about."""
    host.check_output(f"cp -a /root/status/. /var/lib/holdfast/status; rm -f {MEMORY}; systemctl start holdfast-watch")
    nas.check_output(f"rm -f {NAS_MEMORY}; systemctl start holdfast-nas-watch")
    lab_mail.empty(provider)
    yield
    host.check_output("systemctl reset-failed")


def watched(host, expected=0, times=1, unit="holdfast-watch"):
    """Let a watch look, as its timer does."""
    starts = "; ".join(f"systemctl start {unit}.service; code=$((code | $?))" for _each in range(times))
    assert host.run(f"code=0; {starts}; exit $code").rc == expected, host.run(f"journalctl -u {unit} -n 20").stdout


def mails(provider, count):
    """So many messages that lie at the provider, with nothing in them that may not be."""
    listed = lab_mail.mails(provider, count)
    for each in listed:
        assert PATIENT not in each["raw"]
        assert "/srv" not in each["raw"]
        assert not [secret for secret in SECRETS if secret in each["raw"]]
    return listed


def wait(host):
    """Until what the end of a run started has done its work."""
    script = (
        "for n in $(seq 100); do [ -z \"$(systemctl list-jobs --no-legend 'holdfast-*' --state=running,waiting)\" ] && "
        "[ -z \"$(systemctl list-units --no-legend --state=activating 'holdfast-*.service')\" ] && exit; sleep 0.1; done; exit 1"
    )
    host.check_output(script)


FAILED = {"code": "must_have_missing", "message": f"/srv/clinic/documents/letters/{PATIENT}.txt is missing"}


def claim(host, well):
    """Write the record that a run of documents would have left."""
    state, reasons = ("OK", []) if well else ("FAILED", [FAILED])
    edit(host, "/var/lib/holdfast/status/documents.json", f"d['state'] = {state!r}; d['reasons'] = {reasons!r}")


def memory(host, path=MEMORY):
    return json.loads(host.check_output(f"cat {path}"))


def edit(host, path, statement):
    """Change a JSON file on a host; the statement speaks of ``d``."""
    script = f"import json; p = {path!r}; d = json.load(open(p)); {statement}; json.dump(d, open(p, 'w'))"
    host.check_output(f"python3 -c {shlex.quote(script)}")


def test_one_failure_is_one_mail_to_both_and_its_end_another(host, provider):
    host.check_output("mv /srv/clinic/documents/letters /root/letters")
    try:
        for _again in range(2):
            assert host.run("systemctl start holdfast-backup@documents.service").rc == 1
            record = json.loads(host.check_output("cat /var/lib/holdfast/status/documents.json"))
            assert record["state"] == "FAILED"
            assert "/srv/clinic/documents/letters" in record["reasons"][0]["message"], (
                "there is nothing that could leak"
            )
            wait(host)
            first = mails(provider, 1)[0]
    finally:
        host.check_output("mv /root/letters /srv/clinic/documents/letters")
    assert first["subject"] == "[Holdfast] Notice Test Clinic: backup of documents on server1 FAILED"
    assert "must_have_missing" in first["body"]
    assert "Last good backup: " in first["body"]
    assert "What to do: " in first["body"]
    # by the timer, and after the host was off
    edit(host, MEMORY, "d['looked'] -= 9 * 3600; d['awake'] = d['looked']")
    watched(host, times=2)
    mails(provider, 1)
    host.check_output("systemctl start holdfast-backup@documents.service")
    wait(host)
    watched(host)
    subjects = [each["subject"] for each in mails(provider, 2)]
    assert "[Holdfast] Notice Test Clinic: backup of documents on server1 recovered" in subjects


def test_a_failure_that_lasts_is_reminded_of_once_a_day(host, provider):
    claim(host, well=False)
    watched(host)
    edit(host, MEMORY, "d['told']['documents']['at'] -= 23.9 * 3600")
    watched(host)
    mails(provider, 1)
    edit(host, MEMORY, "d['told']['documents']['at'] -= 3600")
    watched(host, times=2)
    assert any(each["subject"].endswith("still FAILED") for each in mails(provider, 2))


def late(host, job, hours):
    """Move a job's last good run into the past, and the first look at it."""
    moved = f"datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours={hours})"
    edit(
        host,
        f"/var/lib/holdfast/status/{job}.json",
        f"import datetime; d['finished'] = d['last_ok']['finished'] = ({moved}).strftime('%Y-%m-%dT%H:%M:%SZ')",
    )
    edit(host, MEMORY, f"d['seen'][{job!r}]['at'] -= 3600 * {hours}")


def test_one_mail_for_all_that_are_late_but_not_before_they_could_catch_up(host, provider):
    late(host, "documents", 72)
    late(host, "scans", 72)
    # the machine was off for three days, and it is on since five minutes
    edit(host, MEMORY, "d['looked'] -= 72 * 3600")
    watched(host)
    mails(provider, 0)
    edit(host, MEMORY, "d['awake'] -= 600")
    watched(host)
    mails(provider, 0)
    edit(host, MEMORY, "d['awake'] -= 3600")
    watched(host, times=2)
    found = mails(provider, 1)[0]
    assert found["subject"] == "[Holdfast] Notice Test Clinic, server1: 2 in trouble"
    assert found["body"].count("LATE\n  What happened: no good backup came within its deadline (missed)") == 2
    host.check_output("cp -a /root/status/documents.json /var/lib/holdfast/status/")
    watched(host)
    assert any("documents on server1 recovered" in each["subject"] for each in mails(provider, 2))


def test_a_mail_server_that_is_down_loses_nothing_and_doubles_nothing(host, provider):
    provider.check_output("systemctl stop opensmtpd.service")
    try:
        assert host.run("timeout 2 bash -c '</dev/tcp/198.18.0.13/587'").rc != 0, "the fault did not land"
        claim(host, well=False)
        watched(host, expected=1, times=2)
        time.sleep(1)  # dates of mails have whole seconds
        claim(host, well=True)
        watched(host, expected=1)
        assert len(memory(host)["queue"]) == 2
        status = host.run("holdfast-agent status").stdout
        assert "mail_unreachable" in status
        assert "2 kept" in status
        assert "not sent, it is kept: mail_unreachable" in host.check_output(
            "journalctl -u holdfast-watch -n 20 -o cat"
        )
    finally:
        provider.check_output("systemctl start opensmtpd.service")
    mails(provider, 0)
    watched(host, times=2)
    assert [each["subject"].rsplit(" ", 1)[-1] for each in mails(provider, 2)] == ["FAILED", "recovered"]
    assert "MAIL" not in host.run("holdfast-agent status").stdout


@contextlib.contextmanager
def smtpd(provider, command):
    """The mail server with another configuration."""
    provider.check_output("cp -a /etc/smtpd.conf /root/smtpd.conf; cp -a /etc/smtpd/people /root/people")
    provider.check_output(f"{command} && systemctl reset-failed && systemctl restart opensmtpd.service")
    try:
        yield
    finally:
        provider.check_output("cp -a /root/smtpd.conf /etc/smtpd.conf; cp -a /root/people /etc/smtpd/people")
        provider.check_output("systemctl reset-failed; systemctl restart opensmtpd.service")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("sed -i 's#/mail\\.#/stranger.#' /etc/smtpd.conf", "mail_certificate_refused"),
        ('echo "holdfast $(smtpctl encrypt another)" > /etc/smtpd/people', "mail_login_refused"),
        (
            "sed -i 's# tls-require .*##; /smtps/d; /^pki/d; /^table/d; s/match auth/match/' /etc/smtpd.conf",
            "mail_no_tls",
        ),
    ],
)
def test_who_is_not_the_mail_server_hears_nothing(host, provider, command, code):
    with smtpd(provider, command):
        claim(host, well=False)
        watched(host, expected=1)
        assert memory(host)["trouble"]["code"] == code
        # of this start of the server alone: the one before may have taken mail in the same second
        start = provider.check_output("systemctl show -P InvocationID opensmtpd.service")
        log = provider.check_output(f"journalctl -q -o cat _SYSTEMD_INVOCATION_ID={start}")
        assert "smtp connected address=198.18.0.12" in log, "it was never asked"
        assert "smtp message" not in log
        assert "result=ok" not in log
        if code != "mail_login_refused":
            assert "authentication" not in log, "the login was tried without a safe line"
        said = host.check_output("journalctl -u holdfast-watch -n 20 -o cat")
        assert not [secret for secret in SECRETS if secret in said]
        mails(provider, 0)
    watched(host)
    mails(provider, 1)


def test_the_nas_tells_of_a_silent_host_once_and_of_its_return(host, nas, provider):
    snapshots = "/srv/holdfast/repositories/server1/snapshots"
    nas.check_output(f"find {snapshots} -type f -exec touch -d '-28 hours' {{}} +")
    assert nas.check_output(f"find {snapshots} -type f -mmin -1440 | wc -l") == "0"
    watched(nas, unit="holdfast-nas-watch")
    mails(provider, 0)  # it has not seen this host for that long itself
    edit(nas, NAS_MEMORY, "d['awake'] -= 100 * 3600; d['seen']['server1']['at'] -= 100 * 3600")
    watched(nas, unit="holdfast-nas-watch", times=2)
    found = mails(provider, 1)[0]
    assert found["subject"] == "[Holdfast] Notice Test Clinic: server1, seen from nas1, SILENT"
    assert "nothing new arrived from this host" in found["body"]
    # what a client claims is nothing; that something came is enough
    host.check_output("systemctl start holdfast-backup@scans.service")
    wait(host)
    watched(nas, unit="holdfast-nas-watch", times=2)
    assert any(each["subject"].endswith("recovered") for each in mails(provider, 2))


def test_the_nas_tells_when_its_pool_is_gone(nas, provider):
    nas.check_output("systemctl stop holdfast-rest-server.service; umount /srv/holdfast")
    try:
        assert nas.run("mountpoint /srv/holdfast").rc != 0
        watched(nas, unit="holdfast-nas-watch", times=2)
        assert [each["subject"] for each in mails(provider, 1)] == [
            "[Holdfast] Notice Test Clinic: repositories on nas1 MISSING"
        ]
    finally:
        nas.check_output("mount /srv/holdfast || systemctl start srv-holdfast.mount")
        nas.check_output("systemctl start holdfast-rest-server.service")
    watched(nas, unit="holdfast-nas-watch")
    mails(provider, 2)


def test_both_watches_can_do_nothing_else(host, nas):
    for each, unit in ((host, "holdfast-watch"), (nas, "holdfast-nas-watch")):
        line = each.check_output(f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
        assert float(line.split(":")[1].split()[0]) < 5.0, line
        assert each.run(f"systemctl is-enabled {unit}.timer").stdout.strip() == "enabled"
        for secret in SECRETS:
            found = each.run(
                f"grep -rlsF --exclude-dir=journal -e {shlex.quote(secret)} /etc /var/lib /usr/lib/holdfast*"
            )
            for path in found.stdout.splitlines():
                assert each.file(path).mode == 0o600, path


def test_a_new_password_is_hidden_in_the_diff_and_check_mode_tells_the_truth():
    play = [
        "ansible-playbook", "-i", str(HERE.parent / "shared" / "inventory.yml"), "-i", str(FOLDER / "inventory" / "machines.yml"),
        str(HERE / "converge.yml"), "--check", "--diff", "-e", "trial_mail_password=an0ther-s3cret",
    ]  # fmt: skip
    done = subprocess.run(play, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "an0ther-s3cret" not in done.stdout + done.stderr
    assert "write /etc/holdfast/credentials/mail-password" in done.stdout or "mail-password (write" in done.stdout
    assert done.stdout.count("changed=1") == 2
