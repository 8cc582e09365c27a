"""Sign-in of a device: RFC 8628's device authorisation for programs. The pages a person sees: login_pages.py.

The device's request is a statement signed by the device for this origin, so nobody can ask in another device's name.
Whoever first proves an e-mail claims it with their root key; another root for it is refused, early and at approval.
"""

from __future__ import annotations

import hashlib
import secrets

from starlette.requests import Request
from starlette.responses import Response

from peer.protocol import names
from peer.protocol.errors import Forbidden, Internal, Invalid, Unavailable
from peer.protocol.statements import DeviceSet, open_as
from rendezvous import web
from rendezvous.broker import Broker
from rendezvous.letters import plain
from rendezvous.storage import accounts
from rendezvous.storage.accounts import Claim, Login
from rendezvous.storage.database import Connection
from rendezvous.tokens import LIFE_SECONDS

EXPIRES_SECONDS = 600
INTERVAL_SECONDS = 5
DEV_INTERVAL_SECONDS = 1
CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""RFC 8628 6.1: no vowels, so no words; 20^8 is 34 bits, enough for ten minutes behind a rate limit."""


def new_user_code() -> str:
    """Return a fresh code, XXXX-XXXX."""
    letters = [secrets.choice(CODE_LETTERS) for _ in range(8)]
    return "".join(letters[:4]) + "-" + "".join(letters[4:])


def normal_user_code(typed: str) -> str:
    """Return what a person typed in the form of a code; other characters than its letters are dropped."""
    letters = "".join(c for c in typed[:64].upper() if c in CODE_LETTERS)
    return f"{letters[:4]}-{letters[4:]}"


def read_claim(device_set: bytes) -> tuple[Claim, DeviceSet]:
    """Open a device-set and return the claim it makes. Raises Invalid, BadSignature."""
    statement, signed = open_as(DeviceSet, device_set)
    claim = Claim(
        user_id=statement.issuer_user,
        root=statement.root,
        epoch=statement.epoch,
        device_set=signed.raw,
        devices=tuple(device.device for device in statement.devices),
    )
    return claim, statement


class SignIn:
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
                "this broker can't send mail, so nobody can prove an e-mail address here",
                fix="its operator sets --smtp-host (and the rest), or --dev on a loopback address to try things out",
            )
        email = names.user_id(write.take("email", str))
        claim, statement = read_claim(write.take("device_set", bytes))
        mine = [device for device in statement.devices if device.device == write.device]
        if claim.user_id != email or write.user_id != email:
            raise Forbidden("the request, its device-set and its e-mail name different users")
        if not mine:
            raise Forbidden("the device that asks is not in the device-set it brings")
        device_code = secrets.token_urlsafe(32)
        now = broker.clock()
        interval = DEV_INTERVAL_SECONDS if broker.settings.dev else INTERVAL_SECONDS

        def step(db: Connection) -> str:
            accounts.use_nonce(db, write.device, write.nonce, write.nonce_expires)
            accounts.check_claim(db, claim)
            for _ in range(8):
                user_code = new_user_code()
                login = Login(
                    user_code=user_code,
                    user_id=email,
                    device=write.device,
                    device_name=plain(mine[0].name),
                    device_set=claim.device_set,
                    address=broker.address(request),
                    state="pending",
                    reason="",
                    expires=now + EXPIRES_SECONDS * 1000,
                )
                digest = hashlib.sha256(device_code.encode()).digest()
                if accounts.open_login(db, login, device_code=digest, interval_ms=interval * 1000, now=now):
                    return user_code
            raise Internal("no free code was found", fix="try again")

        user_code = await broker.db(step)
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
        """POST /v1/login/token (RFC 8628 3.4, 3.5): {device_code} → a token, or `error` as that RFC says."""
        broker = self._broker
        broker.by_address.take(broker.address(request), broker.clock())
        document = await web.read_json(request)
        if not isinstance(document, dict) or set(document) != {"device_code"}:
            raise Invalid('the body must be {"device_code": text}')
        device_code = document["device_code"]
        if not isinstance(device_code, str) or len(device_code) > 100:
            raise Invalid("device_code must be the text that /v1/login/device gave")
        digest = hashlib.sha256(device_code.encode("utf-8", "surrogatepass")).digest()
        outcome, login = await broker.db(accounts.poll, digest, broker.clock())
        if outcome == "ok":
            assert login is not None
            return web.document(
                {
                    "access_token": broker.tokens.issue(login.user_id, login.device),
                    "token_type": "Bearer",
                    "expires_in": LIFE_SECONDS,
                    "user_id": login.user_id,
                }
            )
        about, fix = {
            "authorization_pending": ("nobody has approved the sign-in yet", "approve it on the page"),
            "slow_down": ("asked again too early", "wait five seconds longer between polls"),
            "expired_token": ("the code has expired", "run `dispatch login` again"),
            "access_denied": (login.reason if login else "", "run `dispatch login` again, or ask whoever denied it"),
        }[outcome]
        return web.document({"error": outcome, "error_description": about, "fix": fix}, status=400)
