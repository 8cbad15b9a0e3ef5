# SPDX-License-Identifier: Apache-2.0
"""Hand one mail to a mail server. TLS first, its certificate verified, and no login and no address before that.

Whatever goes wrong has its own name, so that a technician reads what to mend and not a traceback.
"""

from __future__ import annotations

import contextlib
import email.policy
import email.utils
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from typing import Any

from . import backup_nas

TIMEOUT_S = 30.0


class MailError(Exception):
    """The mail was not accepted.

    ``code`` is one of mail_unreachable, mail_certificate_refused, mail_no_tls, mail_login_refused, mail_sender_refused,
    mail_recipients_refused, mail_refused.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def compose(settings: Mapping[str, Any], subject: str, body: str, moment: float, identity: str) -> bytes:
    """Write a mail. moment: its date in seconds since the epoch; identity: what makes it this mail and no other.

    A mail that is handed over twice has the same Message-ID, by which mail systems show it once.
    """
    # a subject that is folded shows a blank before it in some programs; one that is not ASCII is folded by its encoding
    message = EmailMessage(policy=email.policy.SMTP.clone(max_line_length=998 if subject.isascii() else 78))
    message["From"] = settings["sender"]
    message["To"] = ", ".join(settings["to"])
    message["Subject"] = subject
    message["Date"] = email.utils.formatdate(moment)
    message["Message-ID"] = f"<{identity}@{settings['host']}.{settings['practice']}.holdfast.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body, cte="7bit" if body.isascii() else "quoted-printable")
    return message.as_bytes()


def context_of(cafile: str | None) -> ssl.SSLContext:
    """TLS that verifies certificate and name: by the pinned certificate where there is one, else as the system does."""
    if cafile:
        return backup_nas.pinned_context(cafile)
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def send(
    settings: Mapping[str, Any], password: str | None, cafile: str | None, recipients: Sequence[str], mail: bytes
) -> dict[str, tuple[int, str]]:
    """Hand a mail over. Returns the recipients that were refused while others were taken: {address: (code, words)}.

    settings: relay, port, tls (starttls or tls), sender, user (None: no login), host. Raises MailError when nobody gets it.
    """
    where = f"{settings['relay']}:{settings['port']}"
    try:
        server = _connect(settings, cafile)
        try:
            if settings.get("user"):
                server.login(settings["user"], password or "")
            refused = server.sendmail(settings["sender"], list(recipients), mail)
            with contextlib.suppress(smtplib.SMTPException, OSError):  # the mail is the server's by now
                server.quit()
        finally:
            server.close()
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        raise judge(error, where) from error
    return {address: (code, _words(text)) for address, (code, text) in refused.items()}


def _connect(settings: Mapping[str, Any], cafile: str | None) -> smtplib.SMTP:
    """Open the conversation; what is returned speaks TLS with the right server."""
    relay, port, context = settings["relay"], int(settings["port"]), context_of(cafile)
    name = f"{settings['host']}.invalid"
    if settings["tls"] == "tls":
        return smtplib.SMTP_SSL(relay, port, local_hostname=name, timeout=TIMEOUT_S, context=context)
    server = smtplib.SMTP(relay, port, local_hostname=name, timeout=TIMEOUT_S)
    try:
        server.starttls(context=context)
    except BaseException:
        server.close()
        raise
    return server


def judge(error: Exception, where: str) -> MailError:
    """Name what went wrong. Pure."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return MailError(
            "mail_certificate_refused",
            f"{where} shows a certificate that is not accepted ({error.verify_message}). Neither the login nor the mail was "
            "sent. Look at relay and ca of alerts.mail, or find out who answers there",
        )
    if isinstance(error, (ssl.SSLError, smtplib.SMTPNotSupportedError)):
        why = getattr(error, "reason", None) or str(error)
        return MailError(
            "mail_no_tls",
            f"{where} does not speak TLS as asked ({why}). Neither the login nor the mail was sent. Look at port and tls of "
            "alerts.mail: 587 with starttls, 465 with tls",
        )
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return MailError(
            "mail_login_refused",
            f"{where} refuses the login ({error.smtp_code} {_words(error.smtp_error)}): look at user of alerts.mail and at "
            "vault_mail_password, then run site.yml",
        )
    if isinstance(error, UnicodeError):
        return MailError("mail_login_refused", f"{where}: user and password have to be ASCII")
    if isinstance(error, smtplib.SMTPSenderRefused):
        words = f"{error.smtp_code} {_words(error.smtp_error)}"
        return MailError(
            "mail_sender_refused", f"{where} refuses the sender ({words}): look at sender and user of alerts.mail"
        )
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        words = "; ".join(f"{code} {_words(text)}" for code, text in error.recipients.values())
        return MailError("mail_recipients_refused", f"{where} refuses every recipient ({words})")
    if isinstance(error, smtplib.SMTPResponseException):
        words = f"{error.smtp_code} {_words(error.smtp_error)}"
        return MailError("mail_refused", f"{where} refuses the mail ({words})")
    return MailError("mail_unreachable", f"{where} does not answer as a mail server ({_words(str(error))})")


def _words(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
