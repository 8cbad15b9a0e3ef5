# SPDX-License-Identifier: Apache-2.0
"""A mail server that is played, with real TLS: nothing is said before it, and every refusal has its name."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import mail_send
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PASSWORD = "correct horse"
TO = ["manager@clinic.example", "help@it.example"]


def make(folder, name, address="127.0.0.1"):
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made = x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=9))
    pem = made.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.pem").write_bytes(pem)
    (folder / f"{name}.key").write_bytes(secret)
    return folder / f"{name}.pem"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    make(folder, "mail")
    make(folder, "stranger")
    make(folder, "elsewhere", "127.0.0.9")
    return folder


class Server(threading.Thread):
    """Speaks SMTP with one client. ``clear``: what it heard before TLS; ``heard``: within. answers: {start of line: answer}."""

    def __init__(self, folder, name="mail", starttls=True, implicit=False, answers=None):
        super().__init__(daemon=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        self.offers, self.implicit, self.answers = starttls, implicit, answers or {}
        self.clear, self.heard = [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        plain, _who = self.listener.accept()
        plain.settimeout(10)
        try:
            if self.implicit:
                self.talk(self.context.wrap_socket(plain, server_side=True), self.heard, True)
            elif self.talk(plain, self.clear, True):
                self.talk(self.context.wrap_socket(plain, server_side=True), self.heard, False)
        except OSError:
            pass
        finally:
            plain.close()
            self.listener.close()

    def talk(self, channel, heard, greet):
        stream = channel.makefile("rb")
        secure = heard is self.heard

        def say(text):
            channel.sendall(text.encode() + b"\r\n")

        if greet:
            say("220 mail")
        data = False
        while line := stream.readline():
            text = line.decode("latin-1").rstrip("\r\n")
            heard.append(text)
            answer = next((a for start, a in self.answers.items() if text.upper().startswith(start.upper())), None)
            if data:
                data = text != "."
                if not data:
                    say("250 taken")
            elif answer:
                say(answer)
            elif text.startswith("ehlo"):
                offers = ["AUTH PLAIN"] if secure else ["STARTTLS"] if self.offers else []
                say("\r\n".join([*(f"250-{o}" for o in ["mail", *offers]), "250 HELP"]))
            elif text == "STARTTLS":
                say("220 go")
                return True
            elif text.startswith("AUTH"):
                say("235 come in")
            elif text.upper() == "DATA":
                data = True
                say("354 go on")
            elif text.upper() == "QUIT":
                say("221 bye")
            else:
                say("250 well")
        return False


def settings(server, tls="starttls", user="holdfast"):
    return {
        "relay": "127.0.0.1", "port": server.port, "tls": tls, "sender": "holdfast@clinic.example", "to": TO,
        "user": user, "host": "server1", "practice": "harbour-street",
    }  # fmt: skip


def send(server, ca, tls="starttls", user="holdfast"):
    known = settings(server, tls, user)
    mail = mail_send.compose(known, "Failed", "The backup failed.\n", 0.0, "id1")
    try:
        return mail_send.send(known, PASSWORD, str(ca) if ca else None, TO, mail)
    finally:
        server.join(10)


@pytest.mark.parametrize(("tls", "implicit"), [("starttls", False), ("tls", True)])
def test_one_mail_to_both_within_tls(certificates, tls, implicit):
    server = Server(certificates, implicit=implicit)
    assert send(server, certificates / "mail.pem", tls) == {}
    assert server.clear == ([] if implicit else ["ehlo server1.invalid", "STARTTLS"])
    assert [line for line in server.heard if line.startswith("rcpt")] == [f"rcpt TO:<{to}>" for to in TO]
    assert "The backup failed." in server.heard
    assert sum(line.startswith("AUTH") for line in server.heard) == 1


def test_without_a_user_there_is_no_login(certificates):
    server = Server(certificates)
    assert send(server, certificates / "mail.pem", user=None) == {}
    assert not [line for line in server.heard if line.startswith("AUTH")]
    assert "The backup failed." in server.heard


NOTHING = ["ehlo server1.invalid", "STARTTLS"]


@pytest.mark.parametrize(
    ("server", "ca", "tls", "code", "clear"),
    [
        ({"name": "stranger"}, "mail.pem", "starttls", "mail_certificate_refused", NOTHING),
        ({"name": "elsewhere"}, "elsewhere.pem", "starttls", "mail_certificate_refused", NOTHING),  # another address's
        ({}, None, "starttls", "mail_certificate_refused", NOTHING),  # nobody the system knows has signed it
        ({"name": "stranger", "implicit": True}, "mail.pem", "tls", "mail_certificate_refused", []),
        ({"starttls": False}, "mail.pem", "starttls", "mail_no_tls", ["ehlo server1.invalid"]),
        ({"answers": {"STARTTLS": "454 not now"}}, "mail.pem", "starttls", "mail_refused", NOTHING),
    ],
)
def test_without_a_safe_line_nothing_is_said(certificates, server, ca, tls, code, clear):
    playing = Server(certificates, **server)
    with pytest.raises(mail_send.MailError) as refused:
        send(playing, certificates / ca if ca else None, tls)
    assert refused.value.code == code
    # no login, no address and no text, neither in clear nor to a stranger
    said = [line for line in playing.clear if line not in ("QUIT", "quit", "rset")]
    assert said == clear
    assert playing.heard == []


def test_tls_spoken_to_a_server_that_does_not(certificates):
    server = Server(certificates)
    with pytest.raises(mail_send.MailError) as refused:
        send(server, certificates / "mail.pem", "tls")
    assert refused.value.code == "mail_no_tls"
    assert "587 with starttls, 465 with tls" in refused.value.message


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ({"AUTH": "535 wrong password"}, "mail_login_refused", "535 wrong password"),
        ({"MAIL": "553 not yours"}, "mail_sender_refused", "553 not yours"),
        ({"RCPT": "550 nobody"}, "mail_recipients_refused", "550 nobody"),
        ({"DATA": "554 spam"}, "mail_refused", "554 spam"),
    ],
)
def test_every_refusal_has_its_name(certificates, answers, code, said):
    server = Server(certificates, answers=answers)
    with pytest.raises(mail_send.MailError) as refused:
        send(server, certificates / "mail.pem")
    assert refused.value.code == code
    assert said in refused.value.message
    assert PASSWORD not in str(refused.value)
    assert "The backup failed." not in server.heard


def test_who_is_refused_while_others_are_taken(certificates):
    server = Server(certificates, answers={"RCPT TO:<help": "550 no\x07 such user"})
    assert send(server, certificates / "mail.pem") == {"help@it.example": (550, "no such user")}
    assert "The backup failed." in server.heard


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    known = {"relay": "127.0.0.1", "port": port, "tls": "starttls", "user": None, "host": "h", "sender": "a@b.example"}
    with pytest.raises(mail_send.MailError) as refused:
        mail_send.send(known, None, None, TO, b"x")
    assert refused.value.code == "mail_unreachable"


@pytest.mark.parametrize("name", ["Müller & Søn", "日本"])
def test_a_name_of_any_script_is_plain_ascii_on_the_line(name):
    known = {"sender": "a@b.example", "to": TO, "host": "server1", "practice": "p"}
    mail = mail_send.compose(known, f"[Holdfast] {name}", f"{name} has no backup.\n", 0.0, "id")
    assert mail.isascii()
    assert b"Auto-Submitted: auto-generated" in mail


def test_no_header_can_be_slipped_in():
    known = {"sender": "a@b.example", "to": TO, "host": "server1", "practice": "p"}
    with pytest.raises(ValueError, match="newline|linefeed"):
        mail_send.compose(known, "a\nBcc: x@y.example", "text", 0.0, "id")
