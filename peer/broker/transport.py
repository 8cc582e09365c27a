"""How one request reaches the broker: signed or with the token, over HTTP, bounded; its refusal as an error of ours.

Knows no call of the API: those are client.py's. A broker is not trusted: sizes and times are bounded.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeVar

import httpx
import trio

from peer.broker.responses import HttpResponse, OAuthError
from peer.dispatches import refusals
from peer.machine import certificates
from peer.protocol import base64url, codec, names
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, Invalid, Unauthorized, Unavailable, from_code
from peer.protocol.signing import sign_by_device
from peer.protocol.statements import BrokerRequest

CONNECT_SECONDS = 10
ANSWER_SECONDS = 20
MAX_ANSWER = 4 << 20
"""Bytes: a page of 25 invitations with the largest answers has 3.5 MiB, the presence of 16 devices 2.8 MiB."""
RENEWED_TOKEN = "dispatch-token"  # noqa: S105 - a header's name
UNREACHABLE_FIX = "check `dispatch whoami`; known contacts keep working"
SIGN_IN_UNREACHABLE_FIX = "check the address, and that the broker is running"
"""Whoever signs in for the first time has no `whoami` and no contacts."""

T = TypeVar("T")

TRUST_SECONDS = 60.0
"""How long the system's certificates are not read again."""
_trusted: tuple[float, tuple[str | None, ...], ssl.SSLContext] | None = None
"""When they were read, by which variables, and what came of it."""


class Unreachable(Unavailable):
    """Nothing answers at the broker's address, or not in time."""


class Author(Protocol):
    """The identity that signs writes, e.g. peer.machine.identity.Identity."""

    @property
    def user_id(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def seed(self) -> bytes: ...


class BrokerTransport:
    """Requests of one device to one broker. Call `open` first, `close` last; the arguments are those of BrokerClient.

    Every method that asks raises Unavailable if the broker cannot be reached or its reply is malformed, and the
    broker's own refusals by their code.
    """

    def __init__(
        self,
        url: str,
        *,
        author: Author,
        token: str,
        proxy: str,
        on_token: Callable[[str], None] | None,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self._proxy = proxy
        self._author = author
        self._on_token = on_token
        self._clock = clock
        self._random = random
        self._http: httpx.AsyncClient | None = None
        self.ahead: float | None = None
        """Seconds by which the broker's clock was ahead of this device's in its last answer that says its date."""

    async def open(self) -> None:
        """Make the HTTP client. Raises Invalid for a file of certificates that cannot be used."""
        self._http = httpx.AsyncClient(
            trust_env=False,  # what of it counts, network_route.py says
            proxy=self._proxy or None,
            verify=await _trust(self.url),
            follow_redirects=False,
            # No compression: a small body could expand before the bound is checked.
            headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "dispatch"},
            # Below the 60 s after which the broker closes idle connections, so that the client closes first.
            limits=httpx.Limits(max_connections=8, keepalive_expiry=30),
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
        )

    async def close(self) -> None:
        """Close every connection."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    def signed(self, action: str, arguments: Mapping[str, object]) -> dict[str, str]:
        """Return the body of a write: a statement of this device for this broker's origin, used once."""
        now = self._clock()
        request = BrokerRequest(
            issuer_user=self._author.user_id,
            issuer_device=self._author.device,
            id=names.uuid7(now, self._random(10)),
            created=now,
            origin=self.url,
            action=action,
            arguments=codec.encode(arguments),
        )
        return {"statement": base64url.encode(sign_by_device(request, self._author.seed).raw)}

    async def write(
        self, method: str, path: str, action: str, arguments: Mapping[str, object], *, seconds: float = ANSWER_SECONDS
    ) -> Document:
        """Send a signed write; return the document of its answer."""
        body = self.signed(action, arguments)
        return await self.call(method, path, body, seconds=seconds, authorized=False, action=action)

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
        authorized: bool = True,
        action: str = "",
    ) -> Document:
        """Send a request, with the token if `authorized`; return the document of its answer."""
        answer = await self.send(method, path, body, seconds=seconds, authorized=authorized, action=action)
        document = answer.document()
        if document is None:
            raise self.not_a_broker()
        return document

    async def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
        authorized: bool = False,
        action: str = "",
    ) -> HttpResponse:
        """Send a request; return its answer, which is none of the refusals. `action`: of a signed write."""
        headers: dict[str, str] = {}
        if authorized:
            if not self.token:
                raise Unauthorized(f"no token for {self.url}", fix=f"run `dispatch login --broker {self.url}`")
            headers["authorization"] = f"Bearer {self.token}"
        answer = await self._exchange(method, path, body, headers, seconds)
        if not 200 <= answer.status < 300:
            raise self._refusal(answer, action)
        if authorized and (fresh := answer.headers.get(RENEWED_TOKEN, "")) and len(fresh) <= 4096:
            self.token = fresh
            if self._on_token is not None:
                self._on_token(fresh)
        return answer

    async def _exchange(
        self, method: str, path: str, body: Mapping[str, str] | None, headers: Mapping[str, str], seconds: float
    ) -> HttpResponse:
        if self._http is None:
            raise RuntimeError("a BrokerTransport is used between `open` and `close`")
        content = bytearray()
        try:
            with trio.fail_after(seconds):
                async with self._http.stream(method, self.url + path, json=body, headers=headers) as response:
                    async for piece in response.aiter_raw():
                        content += piece
                        if len(content) > MAX_ANSWER:
                            raise self.not_a_broker()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, trio.TooSlowError, OSError) as error:
            if (why := certificates.problem(error)) is not None:
                raise Unavailable(f"broker {self.url}: {why}", fix=certificates.FIX) from error
            fix = SIGN_IN_UNREACHABLE_FIX if path.startswith("/v1/login/") else UNREACHABLE_FIX
            raise Unreachable(f"can't reach broker {self.url}", fix=fix) from error
        self.ahead = self._seconds_ahead(response.headers.get("date", ""))
        return HttpResponse(response.status_code, response.headers, bytes(content))

    def _seconds_ahead(self, date: str) -> float | None:
        try:
            return parsedate_to_datetime(date).timestamp() - self._clock() / 1000
        except (ValueError, OverflowError):
            return None

    def _refusal(self, answer: HttpResponse, action: str) -> DispatchError:
        """Return the error in a response: problem details (RFC 9457), or RFC 8628's form for the token call.

        The broker's own `fix` is not read: what a person is advised to do is never another machine's text.
        """
        document = answer.document()
        if document is None or not 400 <= answer.status < 600:
            return self.not_a_broker()
        if isinstance(error := document.get("error"), str):
            return OAuthError(error, str(document.get("error_description", "")))
        if not isinstance(detail := document.get("detail"), str):
            return self.not_a_broker()
        message, fix = refusals.broker_reason(self.url, answer.status, detail, signing_in=action == "login")
        return from_code(answer.status, message, fix)

    def not_a_broker(self) -> Unavailable:
        """Return the error for an answer that no broker gives."""
        return Unavailable(f"what answers at {self.url} is not a dispatch broker", fix="check the broker's address")

    def read(self, make: Callable[[], T]) -> T:
        """Return `make()`, with a missing or mistyped member as Unavailable: the other side is no broker."""
        try:
            return make()
        except (KeyError, TypeError, ValueError, Invalid) as error:
            raise self.not_a_broker() from error


async def _trust(url: str) -> ssl.SSLContext | bool:
    """Return the TLS context: the system's certificates, or certifi's if Python finds none of the system's.

    Raises Invalid as certificates.check_named.
    """
    if not url.startswith("https:"):
        # Plain http is allowed for loopback only, and redirects are off: there is no certificate to verify.
        return False
    global _trusted
    now, named = time.monotonic(), tuple(map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR")))
    if _trusted is None or named != _trusted[1] or now - _trusted[0] > TRUST_SECONDS:
        # In a thread: reading some hundred certificates takes 0.1 s, and a client is made for each contact looked up.
        _trusted = (now, named, await trio.to_thread.run_sync(certificates.system_trust))
    return _trusted[2]
