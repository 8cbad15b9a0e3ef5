# SPDX-License-Identifier: Apache-2.0
"""Does a service answer, and with its own certificate?"""

from __future__ import annotations

import socket
import ssl
import time

ANSWER_WITHIN_S = 15


def wait_for(listen: str, certificate: str, within_s: float = ANSWER_WITHIN_S) -> str:
    """Connect until the service at ADDRESS:PORT shows this certificate (PEM); "" then, else what was seen last."""
    host, _colon, port = listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104 - asked, not bound
    expected = ssl.PEM_cert_to_DER_cert(certificate[: certificate.index("-----END CERTIFICATE-----") + 25])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # compared byte for byte below
    deadline, seen = time.monotonic() + within_s, "no answer"
    while time.monotonic() < deadline:
        try:
            plain = socket.create_connection((host, int(port)), timeout=3)
            with plain, context.wrap_socket(plain) as secure:
                if secure.getpeercert(binary_form=True) == expected:
                    return ""
                seen = "another certificate"
        except OSError as error:
            seen = error.strerror or type(error).__name__
        time.sleep(0.2)
    return seen
