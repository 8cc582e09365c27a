"""The broker's client: one method per call of its HTTP API, on trio. Imports no libp2p, so that sign-in starts fast.

What a call means to this device (who may be invited, what an answer does) is decided elsewhere, and how a request
travels in transport.py. Reads carry the token; writes are statements signed by this device for this broker's origin.
A broker is not trusted: callers verify whatever it returns.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import quote

import trio

from peer.broker.responses import (
    BrokerInvitation,
    Health,
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
from peer.broker.transport import ANSWER_SECONDS, UNREACHABLE_FIX, Author, BrokerTransport
from peer.dispatches import refusals
from peer.protocol.errors import Forbidden, Gone, NotFound, Unavailable

MAIL_SECONDS = 60
"""Posting an invitation waits for the broker's mail server."""
LEAST_ANNOUNCED_SECONDS = 10
"""Between two announcements that a broker asks for."""
MAX_WAIT_SECONDS = 25
SHORTEST_WAIT = 0.5

__all__ = [
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

Kind = Literal["accepted", "declined"]


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
        self._clock = clock
        self._author = author
        self._http = BrokerTransport(
            url, author=author, token=token, proxy=proxy, on_token=on_token, clock=clock, random=random
        )

    async def __aenter__(self) -> BrokerClient:
        await self._http.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    @property
    def url(self) -> str:
        """The broker's origin, without a trailing slash."""
        return self._http.url

    @property
    def token(self) -> str:
        """The token of the sign-in, as renewed since; "" for none."""
        return self._http.token

    @token.setter
    def token(self, token: str) -> None:
        self._http.token = token

    @property
    def ahead(self) -> float | None:
        """Seconds by which the broker's clock was ahead of this device's in its last answer that says its date."""
        return self._http.ahead

    async def health(self) -> Health:
        """GET /health, without a token."""
        document = await self._http.call("GET", "/health", authorized=False)
        return self._http.read(
            lambda: Health(read_text(document, "origin"), document["dev"] is True, document["mail"] is True)
        )

    async def login_device(self, device_set: bytes) -> LoginPrompt:
        """Ask for a sign-in of this device. Raises Conflict when another root key holds the e-mail."""
        arguments = {"email": self._author.user_id, "device_set": device_set}
        document = await self._http.write("POST", "/v1/login/device", "login", arguments)
        return self._http.read(lambda: read_prompt(document, self.url))

    async def login_token(self, device_code: str) -> LoginToken | Literal["authorization_pending", "slow_down"]:
        """Poll once. Raises Gone when the code has expired, Forbidden when the sign-in was denied."""
        try:
            document = await self._http.call("POST", "/v1/login/token", {"device_code": device_code}, authorized=False)
        except OAuthError as error:
            if error.error == "authorization_pending":
                return "authorization_pending"
            if error.error == "slow_down":
                return "slow_down"
            if error.error == "expired_token":
                raise Gone("the code was not approved in time", fix="run `dispatch login` again") from None
            message, fix = refusals.broker_reason(self.url, 403, error.message, signing_in=True)
            raise Forbidden(f"the sign-in was denied: {message}", fix=fix) from None
        token = self._http.read(
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
        answer = await self._http.send("PUT", "/v1/presence", self._http.signed("presence.put", arguments))
        after = answer.headers.get("reannounce-after", "")
        if not re.fullmatch(r"[0-9]{1,9}", after):
            return 1800.0
        # Bounded: a broker must not make a device announce itself without pause, or never again.
        return float(min(max(int(after), LEAST_ANNOUNCED_SECONDS), 7200))

    async def withdraw_presence(self, *, seq: int) -> None:
        """Withdraw this device's announcement."""
        await self._http.send("DELETE", "/v1/presence", self._http.signed("presence.withdraw", {"seq": seq}))

    async def get_presence(self, user_id: str) -> list[SealedPresence]:
        """Return the announcements of a user's devices; none for an unknown or offline user."""
        document = await self._http.call("GET", f"/v1/presence/{quote(user_id, safe='@')}")
        return self._http.read(
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
            document = await self._http.write("POST", "/v1/relays", "relays.get", {})
        except NotFound:
            return None
        return self._http.read(lambda: read_relay_access(document, broker=self.url, now=self._clock()))

    async def post_invitation(self, invitation: bytes) -> PostedInvitation:
        """Post a signed invitation; waits while the broker sends the mail."""
        document = await self._http.write(
            "POST", "/v1/invitations", "invitations.post", {"invitation": invitation}, seconds=MAIL_SECONDS
        )
        return self._http.read(
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
        document = await self._http.call("GET", path, seconds=ANSWER_SECONDS + wait)
        page = self._http.read(
            lambda: Invitations(
                read_number(document, "version"),
                document["more"] is True,
                [read_invitation(entry) for entry in read_list(document, "sent", 200)],
                [read_invitation(entry) for entry in read_list(document, "received", 200)],
                None if document.get("announced") is None else read_number(document, "announced"),
            )
        )
        if page.more and page.version <= version and not (page.sent or page.received):
            raise self._http.not_a_broker()
        if wait and page.version == version and trio.current_time() - began < min(wait, SHORTEST_WAIT):
            raise Unavailable(f"broker {self.url} keeps no request open right now", fix=UNREACHABLE_FIX)
        return page

    async def get_invitation(self, token: str) -> BrokerInvitation:
        """Return one invitation to or from this user. Raises NotFound."""
        document = await self._http.call("GET", f"/v1/invitations/{quote(token, safe='')}")
        return self._http.read(lambda: read_invitation(document))

    async def answer(self, token: str, *, kind: Kind, sealed: Mapping[str, bytes]) -> None:
        """Answer an invitation, sealed to each of the inviter's devices by peer id.

        Sending the same bytes again is no error; another answer raises Conflict. Raises Gone, NotFound.
        """
        arguments = {"token": token, "kind": kind, "sealed": dict(sealed)}
        await self._http.write(
            "POST", f"/v1/invitations/{quote(token, safe='')}/answer", "invitations.answer", arguments
        )

    async def withdraw(self, token: str) -> None:
        """Withdraw a sent invitation. Raises Conflict if it was answered, Gone, NotFound."""
        path = f"/v1/invitations/{quote(token, safe='')}"
        await self._http.write("DELETE", path, "invitations.withdraw", {"token": token})
