"""Sign-in of a device: device authorization for programs (RFC 8628). The pages that a person sees: signin_pages.py.

A device's request is a statement that it signs for this origin, so that nobody can ask in another device's name. The
first root key that proves an e-mail address claims it; another root is refused, at the request and at the approval.
"""

from __future__ import annotations

import hashlib
import secrets

from starlette.requests import Request
from starlette.responses import Response

from peer.protocol import names
from peer.protocol.errors import Forbidden, Internal, Invalid, Unavailable
from peer.protocol.signing import open_as
from peer.protocol.statements import DeviceSet, Membership
from rendezvous import web
from rendezvous.broker import Broker
from rendezvous.storage.errors import UserCodeTaken
from rendezvous.storage.rows import AccountClaim, PollOutcome, SignIn
from rendezvous.text import printable
from rendezvous.tokens import LIFE_SECONDS
from rendezvous.writes import Write

EXPIRES_SECONDS = 600
INTERVAL_SECONDS = 5
DEV_INTERVAL_SECONDS = 1
CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""RFC 8628 section 6.1: no vowels, so no words; 20^8 is 34 bits, enough for ten minutes behind a rate limit."""
CODE_DRAWS = 8
"""With 10,000 sign-ins open, one draw is taken with a probability of 4 in 10^7."""


def new_user_code() -> str:
    """Return a fresh code, XXXX-XXXX."""
    letters = [secrets.choice(CODE_LETTERS) for _ in range(8)]
    return "".join(letters[:4]) + "-" + "".join(letters[4:])


def normal_user_code(typed: str) -> str:
    """Return what a person typed in the form of a code; characters other than its letters are dropped."""
    letters = "".join(c for c in typed[:64].upper() if c in CODE_LETTERS)
    return f"{letters[:4]}-{letters[4:]}"


def read_claim(device_set: bytes) -> tuple[AccountClaim, DeviceSet]:
    """Verify a device-set and return the claim it makes. Raises Invalid, BadSignature."""
    statement, signed = open_as(DeviceSet, device_set)
    claim = AccountClaim(
        user_id=statement.issuer_user,
        root=statement.root,
        epoch=statement.epoch,
        device_set=signed.raw,
        devices={entry.device: open_as(Membership, entry.membership)[0].counter for entry in statement.devices},
    )
    return claim, statement


class SignInRoutes:
    """The two calls of RFC 8628."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def device(self, request: Request) -> Response:
        """POST /v1/login/device (RFC 8628 3.1, 3.2): action `login`, arguments {email, device_set}."""
        broker = self._broker
        broker.sign_ins_by_address.take(broker.address(request), broker.clock())
        write = await broker.signed(request, "login", "email", "device_set")
        if not broker.settings.dev and broker.mailer is None:
            raise Unavailable(
                "this broker cannot send mail, so nobody can sign in here",
                fix="ask its operator to set --smtp-host and --smtp-from (or --dev on loopback, to try dispatch out)",
            )
        email = names.user_id(write.take("email", str))
        claim, statement = read_claim(write.take("device_set", bytes))
        mine = [device for device in statement.devices if device.device == write.device]
        if claim.user_id != email or write.user_id != email:
            raise Forbidden(
                "the request, its device set and its e-mail address name different users", fix="update dispatch"
            )
        if not mine:
            raise Forbidden("the device that asks is not in the device set that it sent", fix="update dispatch")
        device_code = secrets.token_urlsafe(32)
        interval = DEV_INTERVAL_SECONDS if broker.settings.dev else INTERVAL_SECONDS
        user_code = await self._open(
            write,
            claim,
            device_name=printable(mine[0].name),
            address=broker.address(request),
            device_code=_digest(device_code),
            interval=interval * 1000,
        )
        page = f"{broker.settings.public_url}/login"
        return web.document(
            {
                "device_code": device_code,
                "user_code": user_code,
                "verification_uri": page,
                "verification_uri_complete": f"{page}?code={user_code}",
                "expires_in": EXPIRES_SECONDS,
                "interval": interval,
            }
        )

    async def token(self, request: Request) -> Response:
        """POST /v1/login/token (RFC 8628 3.4, 3.5): {device_code} → a token, or `error` as that RFC has it."""
        broker = self._broker
        document = await web.read_json(request)
        if not isinstance(document, dict) or set(document) != {"device_code"}:
            raise Invalid('the body must be {"device_code": text}', fix="update dispatch")
        device_code = document["device_code"]
        if not isinstance(device_code, str) or len(device_code) > 100:
            raise Invalid("device_code must be the text from /v1/login/device", fix="update dispatch")
        poll = await broker.storage.poll_sign_in(_digest(device_code), broker.clock())
        sign_in = poll.sign_in
        if poll.outcome is PollOutcome.APPROVED and sign_in is not None:
            return web.document(
                {
                    "access_token": broker.tokens.issue(sign_in.user_id, sign_in.device),
                    "token_type": "Bearer",
                    "expires_in": LIFE_SECONDS,
                    "user_id": sign_in.user_id,
                }
            )
        about, fix = {
            PollOutcome.AUTHORIZATION_PENDING: ("nobody has approved the sign-in yet", "approve it on the page"),
            PollOutcome.SLOW_DOWN: ("polled too early", "wait five seconds longer between polls"),
            PollOutcome.EXPIRED_TOKEN: ("the code has expired", "run `dispatch login` again"),
            PollOutcome.ACCESS_DENIED: (
                sign_in.reason if sign_in else "",
                "run `dispatch login` again, or ask whoever denied it",
            ),
        }[poll.outcome]
        content = {"error": poll.outcome.value, "error_description": about, "fix": fix}
        return web.document(content, status=400)

    async def _open(
        self, write: Write, claim: AccountClaim, *, device_name: str, address: str, device_code: bytes, interval: int
    ) -> str:
        now = self._broker.clock()
        for _ in range(CODE_DRAWS):
            sign_in = SignIn(
                user_code=new_user_code(),
                user_id=claim.user_id,
                device=write.device,
                device_name=device_name,
                device_set=claim.device_set,
                address=address,
                expires=now + EXPIRES_SECONDS * 1000,
            )
            try:
                await self._broker.storage.open_sign_in(
                    write.author, claim, sign_in, device_code=device_code, interval=interval, now=now
                )
            except UserCodeTaken:
                continue
            return sign_in.user_code
        raise Internal("no free sign-in code was found", fix="try again")


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()
