"""Telling a person away from the desk: through an ntfy topic or by e-mail of their own choosing. Which occasions there
are is decided in notifications.py; how they are collapsed, sent, tried again and given up is here.

What is sent names the other person and the kind of the occasion, never what anybody wrote. Nothing of the node waits
for it: occasions are noted, a task of its own sends them.
"""

from __future__ import annotations

import smtplib
import ssl
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import partial
from typing import Final

import httpx
import structlog
import trio

from peer.dispatches import text
from peer.machine import certificates
from peer.machine.away_settings import IMPLICIT_TLS, smtp_server
from peer.machine.settings import Settings
from peer.protocol.errors import DispatchError, Unavailable

log = structlog.get_logger(__name__)

SETTLE_SECONDS: Final = 10.0
"""An occasion that is over by then, such as a call that was answered at the desk, is not told."""
PAUSE_SECONDS: Final = 30.0
"""Between two messages; what comes meanwhile is one message."""
RETRIES: Final = (0.0, 5.0, 30.0)
"""Seconds before each attempt."""
ATTEMPT_SECONDS: Final = 20.0
STEP_SECONDS: Final = 10.0
"""For each answer of the server within an attempt."""
MAX_PENDING: Final = 200
MAX_LINES: Final = 8
NAME_LENGTH: Final = 80
TEXTS: Final[Mapping[str, str]] = {
    "arrived": "a task waits for you",
    "asks": "a call waits for your answer",
    "changed": "changed files wait for you",
    "held": "a result waits for your review before it is sent",
    "completed": "a result has arrived",
    "failed": "your task failed",
    "declined": "your task was declined",
    "rejected": "your task was refused by their machine",
}
_PERMANENT: Final = range(400, 500)
_FIXES: Final = {
    "notify_url": "check it with `dispatch config get notify_url --reveal`; if it needs a token: "
    "`dispatch config set notify_token -`",
    "notify_email": "check `dispatch config get smtp`, and set its password: `dispatch config set smtp_password -`",
}


class Permanent(Exception):
    """The server refuses this for good, so that no further attempt is made. Its text is our own."""


class Temporary(Exception):
    """The server has not taken it now. Its text is our own."""


class AwayNotifier:
    """Occasions for a person away from the desk, until they are told, over, or given up."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        """`settings`: those in force at each message."""
        self._settings = settings
        self._pending: OrderedDict[str, str] = OrderedDict()
        """The text of each occasion that is to be told, by its key."""
        self._more = 0
        self._news = trio.Event()
        self._problems: dict[str, tuple[str, DispatchError]] = {}
        """By setting: its value when it failed, and how."""

    @property
    def outlets(self) -> list[str]:
        """The settings by which the person is told."""
        settings = self._settings()
        return [name for name in ("notify_url", "notify_email") if getattr(settings, name)]

    @property
    def problems(self) -> list[DispatchError]:
        """Why the last message did not arrive, for each outlet whose setting is still the same."""
        settings = self._settings()
        return [error for name, (value, error) in self._problems.items() if value == getattr(settings, name)]

    def note(self, what: str, peer: str, key: str) -> None:
        """Note an occasion (a Notification's three members), if the person is told of any away from the desk."""
        if not self.outlets:
            return
        if len(self._pending) >= MAX_PENDING:
            self._more += 1
        else:
            self._pending[key] = text_of(what, peer)
        self._news.set()

    def keep(self, dispatch_id: str, keys: Collection[str]) -> None:
        """Forget what was noted of a dispatch and is over. `keys`: of its occasions now."""
        for key in [each for each in self._pending if each.startswith(f"{dispatch_id} ") and each not in keys]:
            del self._pending[key]

    async def run(self) -> None:
        """Send what is noted. Runs until cancelled."""
        while True:
            await self._news.wait()
            await trio.sleep(SETTLE_SECONDS)
            self._news = trio.Event()
            body = message(list(self._pending.values()), self._more)
            self._pending.clear()
            self._more = 0
            if not body:
                continue
            settings = self._settings()
            async with trio.open_nursery() as nursery:
                for name, send in (("notify_url", publish), ("notify_email", mail)):
                    if value := getattr(settings, name):
                        nursery.start_soon(self._deliver, name, value, partial(send, settings, body))
            await trio.sleep(PAUSE_SECONDS)

    async def _deliver(self, name: str, value: str, send: Callable[[], Awaitable[None]]) -> None:
        """Try to send; keep the reason of a failure for `doctor`, and log it once until one arrives."""
        why = ""
        for pause in RETRIES:
            await trio.sleep(pause)
            try:
                with trio.fail_after(ATTEMPT_SECONDS):
                    await send()
            except (OSError, trio.TooSlowError, httpx.HTTPError, smtplib.SMTPException, ssl.SSLError) as error:
                why = certificates.problem(error) or _reason(error)
            except (DispatchError, Temporary) as error:
                why = str(error)
            except Permanent as error:
                why = str(error)
                break
            else:
                self._problems.pop(name, None)
                return
        if self._problems.get(name, ("",))[0] != value:
            log.warning("notification.undelivered", by=name, why=why)
        self._problems[name] = (value, Unavailable(f"notifications by {name} fail: {why}", fix=_FIXES[name]))


def _reason(error: BaseException) -> str:
    """Say why without what a server wrote, or the address with its topic."""
    code = getattr(error, "smtp_code", None)
    return f"{type(error).__name__}{f' {code}' if isinstance(code, int) else ''}"


def text_of(what: str, peer: str) -> str:
    """Return `alice@example.org: a task waits for you`, one line of bounded length."""
    return f"{text.line(peer, limit=NAME_LENGTH)}: {TEXTS[what]}"


def message(texts: list[str], more: int) -> str:
    """Return the body of one message about all of them, equal ones counted; "" for none. `more`: those not kept."""
    lines = [line if count == 1 else f"{line} (×{count})" for line, count in Counter(texts).items()]
    left_out = sum(Counter(texts).values()) + more - sum(list(Counter(texts).values())[:MAX_LINES])
    return "\n".join([*lines[:MAX_LINES], *([f"and {left_out} more"] if left_out else [])])


async def publish(settings: Settings, body: str) -> None:
    """POST the text to the topic, as ntfy has it. Raises Permanent, Temporary, OSError, httpx.HTTPError."""
    headers = {"Title": "dispatch", "Tags": "package", "Content-Type": "text/plain; charset=utf-8"}
    if settings.notify_token:
        headers["Authorization"] = f"Bearer {settings.notify_token}"
    secure = settings.notify_url.startswith("https:")
    trusted = await trio.to_thread.run_sync(certificates.system_trust) if secure else False
    # No redirects: they could lead anywhere, with the token. Of the answer nothing but its first line is read.
    async with (
        httpx.AsyncClient(verify=trusted, timeout=STEP_SECONDS, follow_redirects=False) as client,
        client.stream("POST", settings.notify_url, content=body.encode(), headers=headers) as response,
    ):
        status = response.status_code
    if status in _PERMANENT and status not in (408, 429):
        raise Permanent(f"the server answered {status}")
    if not 200 <= status < 300:
        raise Temporary(f"the server answered {status}")


async def mail(settings: Settings, body: str) -> None:
    """Send a mail to `notify_email`, from the same address. Raises OSError, smtplib.SMTPException, Permanent."""
    if not settings.smtp:
        raise Permanent("no mail server is set (`dispatch config set smtp NAME@HOST`)")
    await trio.to_thread.run_sync(partial(_mail, settings, body), abandon_on_cancel=True)  # type: ignore[call-arg]


def _mail(settings: Settings, body: str) -> None:
    server, address = smtp_server(settings.smtp), settings.notify_email
    letter = EmailMessage()
    letter["From"] = letter["To"] = address
    letter["Subject"] = f"dispatch: {body.splitlines()[0]}"
    letter["Date"] = formatdate()
    letter["Message-ID"] = make_msgid(domain=address.rpartition("@")[2])
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(body + "\n")
    trusted = certificates.system_trust()
    if server.port == IMPLICIT_TLS:
        connection: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=STEP_SECONDS, context=trusted)
    else:
        connection = smtplib.SMTP(server.host, server.port, timeout=STEP_SECONDS)
    try:
        if server.port != IMPLICIT_TLS:
            connection.starttls(context=trusted)
        if server.user:
            connection.login(server.user, settings.smtp_password)
        connection.send_message(letter, from_addr=address, to_addrs=[address])
        with suppress(OSError, smtplib.SMTPException):  # the mail is accepted already
            connection.quit()
    except (smtplib.SMTPAuthenticationError, smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused) as error:
        raise Permanent(f"the mail server refused it: {_reason(error)}") from error
    finally:
        connection.close()
