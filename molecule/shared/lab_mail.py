"""What lies at the mail provider of tasks/mail_provider.yml, for tests."""

from __future__ import annotations

import base64
import email
import email.policy
import email.utils
import json
import time

SCRIPT = (
    "cd /home/keeper/mail || exit; for f in $(find . -type f -path '*/new/*' | sort -t/ -k4); do "
    'echo "{\\"to\\": \\"$(echo $f | cut -d/ -f2)\\", \\"text\\": \\"$(base64 -w0 $f)\\"}"; done'
)
BOTH = {"manager", "help"}


def mails(provider, count, wait_s=20):
    """So many messages that lie at the provider, the oldest first, each once for both recipients; waits for the last delivery.

    {to, subject, copies, body, raw, at}. More of them than were expected is a failure too.
    """
    deadline = time.monotonic() + wait_s
    while True:
        lines = [json.loads(line) for line in provider.check_output(SCRIPT).splitlines()]
        if len(lines) >= 2 * count or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    found = {}
    for line in lines:
        raw = base64.b64decode(line["text"])
        message = email.message_from_bytes(raw, policy=email.policy.default)
        known = found.setdefault(message["Message-ID"], {"to": set(), "subject": message["Subject"], "copies": 0})
        known.update(
            body=message.get_content(), raw=raw.decode(), at=email.utils.parsedate_to_datetime(message["Date"])
        )
        known["to"].add(line["to"])
        known["copies"] += 1
    listed = sorted(found.values(), key=lambda each: each["at"])
    assert len(listed) == count, [each["subject"] for each in listed]
    for each in listed:
        assert (each["to"], each["copies"]) == (BOTH, 2)
        assert "ESMTPSA" in each["raw"], "it did not come over TLS with a login"
    return listed


def empty(provider):
    """Throw away what lies there."""
    provider.check_output("find /home/keeper/mail -type f -delete")
