"""Sending mail by SMTP with STARTTLS and authentication, in worker threads. The texts: mail_texts.py.

smtplib, because the asynchronous clients do not run on trio.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from functools import partial
from pathlib import Path

import structlog
import trio

from peer.protocol.errors import Invalid

STEP_SECONDS = 10
"""For each reply of the server; RFC 5321 section 4.5.3.2 allows minutes, but a person is waiting."""
WHOLE_SECONDS = 25
"""For all of one mail."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """The operator's mail server. `ca` is a PEM file of certificates to trust instead of the system's."""

    host: str
    port: int
    sender: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail: the recipient's address, a subject of one line, and plain text."""

    to: str
    subject: str
    text: str


class Mailer:
    """Sends mails, four at a time. Raises Invalid for settings that cannot work."""

    def __init__(self, settings: SmtpSettings) -> None:
        address = parseaddr(settings.sender)[1]
        if "@" not in address or any(ord(c) < 32 for c in settings.sender):
            raise Invalid(
                f"{settings.sender!r} can't be used as a sender",
                fix="give --smtp-from 'dispatch <dispatch@example.org>'",
            )
        self._settings = settings
        self._envelope_sender = address
        try:
            self._tls = ssl.create_default_context(cafile=settings.ca)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(f"can't use --smtp-ca {settings.ca}: {error}", fix="give --smtp-ca a PEM file") from error
        self._limiter = trio.CapacityLimiter(4)

    async def send(self, mail: Mail) -> bool:
        """Send one mail; False, and a line in the log, when the server did not accept it in time."""
        outcome: dict[str, object] = {"kind": "timeout"}
        with trio.move_on_after(WHOLE_SECONDS):
            try:
                await trio.to_thread.run_sync(  # type: ignore[call-arg]  # trio-stubs has the old name
                    partial(self._deliver, mail), limiter=self._limiter, abandon_on_cancel=True
                )
                outcome = {}
            except (OSError, smtplib.SMTPException, ValueError) as error:
                # The text of an SMTP error may quote addresses: only its kind and code are logged.
                outcome = {"kind": type(error).__name__, "smtp_code": getattr(error, "smtp_code", None)}
        if outcome:
            log.warning("mail.failed", **outcome)
        return not outcome

    def try_connection(self) -> None:
        """Connect, encrypt and authenticate as for a mail, and send none. Blocking, STEP_SECONDS for each reply.

        Raises OSError (ssl.SSLError among them) and smtplib.SMTPException.
        """
        with self._connection() as server:
            server.quit()

    def compose(self, mail: Mail) -> EmailMessage:
        """Return the message. Raises ValueError for a line break in a header (email.message refuses it)."""
        message = EmailMessage()
        message["From"] = self._settings.sender
        message["To"] = mail.to
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = make_msgid(domain=self._envelope_sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        return message

    def _deliver(self, mail: Mail) -> None:
        message = self.compose(mail)
        with self._connection() as server:
            server.send_message(message, from_addr=self._envelope_sender, to_addrs=[mail.to])
            with suppress(OSError, smtplib.SMTPException):  # the mail is accepted already
                server.quit()

    @contextmanager
    def _connection(self) -> Iterator[smtplib.SMTP]:
        server = smtplib.SMTP(self._settings.host, self._settings.port, timeout=STEP_SECONDS)
        try:
            server.starttls(context=self._tls)
            if self._settings.user:
                server.login(self._settings.user, self._settings.password)
            yield server
        finally:
            # Not `with`: it sends QUIT also on a connection whose TLS just failed, and waits for the reply.
            server.close()
