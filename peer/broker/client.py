"""The broker's client: one method per call of its HTTP API, on trio. Imports no libp2p, so that sign-in starts fast.

What a call means to this device (who may be invited, what an answer does) is decided elsewhere. Reads carry the token;
writes are statements signed by this device for this broker's origin. A broker is not trusted: sizes and times are
bounded, and callers verify whatever it returns.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol, TypeVar
from urllib.parse import quote

import httpx
import trio

from peer.broker.responses import (
    BrokerInvitation,
    Health,
    HttpResponse,
    Invitations,
    LoginPrompt,
    LoginToken,
    OAuthError,
    PostedInvitation,
    RelayAccess,
    SealedPresence,
    read_bytes,
    read_device,
    read_invitation,
    read_list,
    read_number,
    read_prompt,
    read_relay_access,
    read_text,
)
from peer.dispatches import refusals
from peer.machine import certificates
from peer.protocol import base64url, codec, names
from peer.protocol.documents import Document
from peer.protocol.errors import (
    DispatchError,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Unauthorized,
    Unavailable,
    from_code,
)
from peer.protocol.statements import BrokerRequest, sign_by_device

CONNECT_SECONDS = 10
ANSWER_SECONDS = 20
MAIL_SECONDS = 60
"""Posting an invitation waits for the broker's mail server."""
MAX_WAIT_SECONDS = 25
SHORTEST_WAIT = 0.5
MAX_ANSWER = 4 << 20
"""Bytes: a page of 25 invitations with the largest answers has 3.5 MiB, the presence of 16 devices 2.8 MiB."""
RENEWED_TOKEN = "dispatch-token"  # noqa: S105 - a header's name
UNREACHABLE_FIX = "check `dispatch whoami`; known contacts keep working"
SIGN_IN_UNREACHABLE_FIX = "check the address, and that the broker is running"
"""Whoever signs in for the first time has no `whoami` and no contacts."""

__all__ = [
    "Author",
    "BrokerClient",
    "BrokerInvitation",
    "Health",
    "Invitations",
    "Kind",
    "LoginPrompt",
    "LoginToken",
    "PostedInvitation",
    "RelayAccess",
    "SealedPresence",
]

T = TypeVar("T")

TRUST_SECONDS = 60.0
"""How long the system's certificates are not read again."""
_trusted: tuple[float, tuple[str | None, ...], ssl.SSLContext] | None = None
"""When they were read, by which variables, and what came of it."""


class Unreachable(Unavailable):
    """Nothing answers at the broker's address, or not in time."""


Kind = Literal["accepted", "declined"]


class Author(Protocol):
    """The identity that signs writes, e.g. peer.machine.identity.Identity."""

    @property
    def user_id(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def seed(self) -> bytes: ...


class BrokerClient:
    """One broker, for one device. Use as `async with BrokerClient(…) as broker:`.

    Every method raises Unavailable if the broker cannot be reached or its reply is malformed, and the broker's own
    refusals by their code (Unauthorized, Forbidden, NotFound, Conflict, Gone, TooLarge, Invalid, RateLimited).
    `proxy`: the address of the HTTP proxy on the way, "" for none. `on_token` is called with a renewed token; `clock`
    returns milliseconds since the epoch, `random(n)` n bytes.
    """

    def __init__(
        self,
        url: str,
        *,
        author: Author,
        token: str = "",
        proxy: str = "",
        on_token: Callable[[str], None] | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random: Callable[[int], bytes] = os.urandom,
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

    async def __aenter__(self) -> BrokerClient:
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
        return self

    async def __aexit__(self, *_: object) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def health(self) -> Health:
        """GET /health, without a token."""
        document = await self._call("GET", "/health", authorized=False)
        return self._read(
            lambda: Health(read_text(document, "origin"), document["dev"] is True, document["mail"] is True)
        )

    async def login_device(self, device_set: bytes) -> LoginPrompt:
        """Ask for a sign-in of this device. Raises Conflict when another root key holds the e-mail."""
        arguments = {"email": self._author.user_id, "device_set": device_set}
        document = await self._write("POST", "/v1/login/device", "login", arguments)
        return self._read(lambda: read_prompt(document, self.url))

    async def login_token(self, device_code: str) -> LoginToken | Literal["authorization_pending", "slow_down"]:
        """Poll once. Raises Gone when the code has expired, Forbidden when the sign-in was denied."""
        try:
            document = await self._call("POST", "/v1/login/token", {"device_code": device_code}, authorized=False)
        except OAuthError as error:
            if error.error == "authorization_pending":
                return "authorization_pending"
            if error.error == "slow_down":
                return "slow_down"
            if error.error == "expired_token":
                raise Gone("the code was not approved in time", fix="run `dispatch login` again") from None
            message, fix = refusals.broker_reason(self.url, 403, error.message, signing_in=True)
            raise Forbidden(f"the sign-in was denied: {message}", fix=fix) from None
        token = self._read(
            lambda: LoginToken(
                read_text(document, "access_token"), read_text(document, "user_id"), read_number(document, "expires_in")
            )
        )
        self.token = token.access_token
        return token

    async def wait_for_login(self, prompt: LoginPrompt) -> LoginToken:
        """Poll until the sign-in is decided (RFC 8628 3.5); a poll that fails is retried. Raises Gone, Forbidden."""
        interval = prompt.interval
        with trio.move_on_after(prompt.expires_in + interval):
            while True:
                await trio.sleep(interval)
                try:
                    outcome = await self.login_token(prompt.device_code)
                except Unavailable:
                    interval = min(30, interval * 2)  # RFC 8628 3.5: exponential back-off on connection time-outs
                    continue
                if isinstance(outcome, LoginToken):
                    return outcome
                if outcome == "slow_down":
                    interval += 5
        raise Gone("the code was not approved in time", fix="run `dispatch login` again")

    async def put_presence(self, *, seq: int, expires: int, box: bytes) -> float:
        """Announce this device until `expires` (ms, at most two hours ahead). Returns the seconds until the next one.

        Raises Conflict if `seq` did not grow.
        """
        arguments = {"seq": seq, "expires": expires, "box": box}
        answer = await self._send("PUT", "/v1/presence", self._signed("presence.put", arguments))
        after = answer.headers.get("reannounce-after", "")
        # Bounded: a broker must not make a device announce itself without pause, or never again.
        return float(min(max(int(after), 10), 7200)) if re.fullmatch(r"[0-9]{1,9}", after) else 1800.0

    async def withdraw_presence(self, *, seq: int) -> None:
        """Withdraw this device's announcement."""
        await self._send("DELETE", "/v1/presence", self._signed("presence.withdraw", {"seq": seq}))

    async def get_presence(self, user_id: str) -> list[SealedPresence]:
        """Return the announcements of a user's devices; none for an unknown or offline user."""
        document = await self._call("GET", f"/v1/presence/{quote(user_id, safe='@')}")
        return self._read(
            lambda: [
                SealedPresence(
                    read_device(entry),
                    read_number(entry, "seq"),
                    read_number(entry, "expires"),
                    read_bytes(entry, "box"),
                )
                for entry in read_list(document, "devices", 64)
            ]
        )

    async def relays(self) -> RelayAccess | None:
        """Return a new token for relays and the relays that the broker names; None if it knows nothing of relays.

        An older broker has no such call (404). Without a token this device can use those relays alone that admit it by
        another way than the broker's word.
        """
        try:
            document = await self._write("POST", "/v1/relays", "relays.get", {})
        except NotFound:
            return None
        return self._read(lambda: read_relay_access(document, broker=self.url, now=self._clock()))

    async def post_invitation(self, invitation: bytes) -> PostedInvitation:
        """Post a signed invitation; waits while the broker sends the mail."""
        document = await self._write(
            "POST", "/v1/invitations", "invitations.post", {"invitation": invitation}, seconds=MAIL_SECONDS
        )
        return self._read(
            lambda: PostedInvitation(
                read_text(document, "token"),
                read_text(document, "to"),
                document["emailed"] is True,
                document["existing"] is True,
            )
        )

    async def invitations(self, *, version: int = 0, wait: int = 0) -> Invitations:
        """Return what changed after `version`, waiting up to `wait` seconds (≤ 25) for a change.

        Also raises Unavailable if the broker replies at once with nothing new although it was asked to wait: it is
        stopping, or would make its client poll without pause.
        """
        wait = min(wait, MAX_WAIT_SECONDS)
        path = f"/v1/invitations?version={version}&wait={wait}"
        began = trio.current_time()
        document = await self._call("GET", path, seconds=ANSWER_SECONDS + wait)
        page = self._read(
            lambda: Invitations(
                read_number(document, "version"),
                document["more"] is True,
                [read_invitation(entry) for entry in read_list(document, "sent", 200)],
                [read_invitation(entry) for entry in read_list(document, "received", 200)],
            )
        )
        if page.more and page.version <= version and not (page.sent or page.received):
            raise self._not_a_broker()
        if wait and page.version == version and trio.current_time() - began < min(wait, SHORTEST_WAIT):
            raise Unavailable(f"broker {self.url} keeps no request open right now", fix=UNREACHABLE_FIX)
        return page

    async def get_invitation(self, token: str) -> BrokerInvitation:
        """Return one invitation to or from this user. Raises NotFound."""
        document = await self._call("GET", f"/v1/invitations/{quote(token, safe='')}")
        return self._read(lambda: read_invitation(document))

    async def answer(self, token: str, *, kind: Kind, sealed: Mapping[str, bytes]) -> None:
        """Answer an invitation, sealed to each of the inviter's devices by peer id.

        Sending the same bytes again is no error; another answer raises Conflict. Raises Gone, NotFound.
        """
        arguments = {"token": token, "kind": kind, "sealed": dict(sealed)}
        await self._write("POST", f"/v1/invitations/{quote(token, safe='')}/answer", "invitations.answer", arguments)

    async def withdraw(self, token: str) -> None:
        """Withdraw a sent invitation. Raises Conflict if it was answered, Gone, NotFound."""
        path = f"/v1/invitations/{quote(token, safe='')}"
        await self._write("DELETE", path, "invitations.withdraw", {"token": token})

    def _signed(self, action: str, arguments: Mapping[str, object]) -> dict[str, str]:
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

    async def _write(
        self, method: str, path: str, action: str, arguments: Mapping[str, object], *, seconds: float = ANSWER_SECONDS
    ) -> Document:
        body = self._signed(action, arguments)
        return await self._call(method, path, body, seconds=seconds, authorized=False, action=action)

    async def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
        authorized: bool = True,
        action: str = "",
    ) -> Document:
        answer = await self._send(method, path, body, seconds=seconds, authorized=authorized, action=action)
        document = answer.document()
        if document is None:
            raise self._not_a_broker()
        return document

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
        authorized: bool = False,
        action: str = "",
    ) -> HttpResponse:
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
            raise RuntimeError("a BrokerClient is used inside `async with`")
        content = bytearray()
        try:
            with trio.fail_after(seconds):
                async with self._http.stream(method, self.url + path, json=body, headers=headers) as response:
                    async for piece in response.aiter_raw():
                        content += piece
                        if len(content) > MAX_ANSWER:
                            raise self._not_a_broker()
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
            return self._not_a_broker()
        if isinstance(error := document.get("error"), str):
            return OAuthError(error, str(document.get("error_description", "")))
        if not isinstance(detail := document.get("detail"), str):
            return self._not_a_broker()
        message, fix = refusals.broker_reason(self.url, answer.status, detail, signing_in=action == "login")
        return from_code(answer.status, message, fix)

    def _not_a_broker(self) -> Unavailable:
        return Unavailable(f"what answers at {self.url} is not a dispatch broker", fix="check the broker's address")

    def _read(self, make: Callable[[], T]) -> T:
        """Return `make()`, with a missing or mistyped member as Unavailable: the other side is no broker."""
        try:
            return make()
        except (KeyError, TypeError, ValueError, Invalid) as error:
            raise self._not_a_broker() from error


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
