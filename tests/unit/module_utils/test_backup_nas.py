"""Each way in which a NAS refuses has its own name, and a wrong certificate sees no password."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import ssl
import threading

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import backup_nas
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(folder, name, days=30):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(min(now, end) - datetime.timedelta(days=1)).not_valid_after(end)
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
    pem = serialization.Encoding.PEM
    (folder / f"{name}.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(secret)
    return str(folder / f"{name}.pem")


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(name, status):
        seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append((self.path, self.headers["Authorization"]))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"rest:https://127.0.0.1:{server.server_address[1]}/server1/", seen

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "exists"), [(200, True), (404, False)])
def test_a_repository_is_there_or_not(tmp_path, serve, status, exists):
    pin = certificate(tmp_path, "nas")
    url, seen = serve("nas", status)
    assert backup_nas.knock(url, pin, "server1", "secret") is exists
    assert seen[0][0] == "/server1/config"


@pytest.mark.parametrize(("status", "code"), [(401, "rest_login_refused"), (403, "rest_forbidden"), (500, "nas_error")])
def test_refusals_are_named(tmp_path, serve, status, code):
    pin = certificate(tmp_path, "nas")
    url, _seen = serve("nas", status)
    with pytest.raises(backup_nas.NasError) as caught:
        backup_nas.knock(url, pin, "server1", "secret")
    assert caught.value.code == code
    assert "secret" not in caught.value.message


def test_another_certificate_gets_no_credentials(tmp_path, serve):
    pin = certificate(tmp_path, "nas")
    certificate(tmp_path, "stranger")
    url, seen = serve("stranger", 200)
    with pytest.raises(backup_nas.NasError) as caught:
        backup_nas.knock(url, pin, "server1", "secret")
    assert caught.value.code == "certificate_mismatch"
    assert seen == []


def test_an_expired_certificate_is_called_that_with_its_date(tmp_path, serve):
    pin = certificate(tmp_path, "nas", days=-3)
    url, seen = serve("nas", 200)
    with pytest.raises(backup_nas.NasError) as caught:
        backup_nas.knock(url, pin, "server1", "secret")
    assert caught.value.code == "certificate_expired"
    year = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)).year
    assert str(year) in caught.value.message
    assert seen == []


def test_nobody_there_is_called_that(tmp_path):
    pin = certificate(tmp_path, "nas")
    with pytest.raises(backup_nas.NasError) as caught:
        backup_nas.knock("rest:https://127.0.0.1:1/server1/", pin, "server1", "secret")
    assert caught.value.code == "nas_unreachable"


@pytest.mark.parametrize("url", ["rest:http://x/", "https://x/", "rest:https://u:p@x/", "rest:https:///x", ""])
def test_addresses_that_would_leak_or_lead_nowhere_are_refused(url):
    with pytest.raises(ValueError, match="repository address"):
        backup_nas.split_url(url)


def test_an_address_is_taken_apart():
    assert backup_nas.split_url("rest:https://198.18.0.11:8000/server1") == ("198.18.0.11", 8000, "/server1/")
