"""Invitations between users, and their answers, which the broker keeps sealed. Mail's words: letters.py.

The broker learns who invited whom, when, and whether it was accepted or declined. It sees the invitation, which holds
public keys; it cannot open an answer.
"""

from __future__ import annotations

from typing import Literal

import trio
from starlette.requests import Request
from starlette.responses import Response

from peer.protocol import base64url, names
from peer.protocol.errors import Forbidden, Gone, Invalid, NotFound, TooLarge
from peer.protocol.statements import DeviceSet, Invitation, open_as
from rendezvous import letters, web
from rendezvous.broker import Broker
from rendezvous.login_pages import MAILS_TO_ONE_ADDRESS
from rendezvous.storage import accounts, invitations
from rendezvous.storage.database import Connection
from rendezvous.storage.invitations import Stored
from rendezvous.writes import WINDOW_MS

MAX_LIFE_MS = 7 * 24 * 3600 * 1000
MAX_WAIT_SECONDS = 25
"""Below the 30 s after which proxies commonly give up on a silent response."""
MAILS_BY_ONE_ACCOUNT = 50
MAX_SEALED = 96 * 1024
"""Bytes for one device: the largest acceptance has a scope of 64 kB and a device-set of 8. A page of storage's PAGE
answers of this size stays below what a client reads (peer.broker.client.MAX_ANSWER)."""


class Invitations:
    """The routes under /v1/invitations."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def post(self, request: Request) -> Response:
        """POST /v1/invitations: action `invitations.post`, arguments {invitation} → {token, to, emailed, existing}.

        With an invitation to the same user still open, nothing changes and `token` is that one's, `existing` true.
        A development broker adds `dev_link`, the address of the page that the client's link is built on.
        """
        broker = self._broker
        write = await broker.signed(request, "invitations.post", "invitation")
        invitation, signed = open_as(Invitation, write.take("invitation", bytes))
        now = broker.clock()
        if (invitation.issuer_user, invitation.issuer_device) != (write.user_id, write.device):
            raise Forbidden("the invitation is not by the device that posts it")
        if invitation.audience_user == invitation.issuer_user:
            raise Invalid("nobody needs an invitation to themselves", fix="name another person's address")
        if invitation.expires <= now:
            raise Gone("the invitation has expired already", fix="set this machine's clock")
        if invitation.created > now + WINDOW_MS or invitation.expires - invitation.created > MAX_LIFE_MS:
            raise Invalid("an invitation starts now and lasts at most 7 days", fix="set this machine's clock")

        def step(db: Connection) -> tuple[str, bool]:
            known = accounts.account(db, write.user_id)
            if known is None or known.device_set != invitation.device_set:
                raise Forbidden("the invitation carries another device-set than the broker has", fix="sign in again")
            return invitations.post(
                db,
                token=invitation.id,
                inviter=write.user_id,
                invitee=invitation.audience_user,
                statement=signed.raw,
                created=invitation.created,
                expires=invitation.expires,
                now=now,
            )

        token, new = await broker.accept(write, step)
        emailed = False
        if new:
            broker.bells.ring(write.user_id, invitation.audience_user)
            emailed = await self._mail(invitation)
        content = {"token": token, "to": invitation.audience_user, "emailed": emailed, "existing": not new}
        if broker.settings.dev:
            content["dev_link"] = f"{broker.settings.public_url}/i"
        return web.document(content, status=201 if new else 200)

    async def changed(self, request: Request) -> Response:
        """GET /v1/invitations?version=n&wait=s → {version, more, sent, received}: what changed after version n.

        With `wait` (≤ 25 s) the answer is held back until something does. `more`: ask again from `version` at once.
        A version that the broker does not know (it lost its data) counts as 0.
        """
        bearer = await self._broker.reader(request)
        after = web.number(request, "version", default=0, most=(1 << 53) - 1)
        wait = web.number(request, "wait", default=0, most=MAX_WAIT_SECONDS)
        user = bearer.user_id
        if wait:
            # Hang on first, look second: a change between the two must not be slept through.
            with self._broker.bells.hang_on(user) as bell, trio.move_on_after(wait):
                if await self._broker.db(invitations.version, user) == after:
                    await bell.wait()

        def step(db: Connection) -> invitations.Page:
            known = invitations.version(db, user)
            return invitations.changed(db, user, bearer.device, after if after <= known else 0)

        page = await self._broker.db(step)
        content = {
            "version": page.version,
            "more": page.more,
            "sent": [self._shown(row) for row in page.sent],
            "received": [self._shown(row) for row in page.received],
        }
        return web.document(content, headers=web.renewal(bearer))

    async def one(self, request: Request) -> Response:
        """GET /v1/invitations/{token}: to its inviter and its invitee."""
        bearer = await self._broker.reader(request)
        token = self._token(request)
        row = await self._broker.db(invitations.one, token, bearer.user_id, bearer.device)
        return web.document(self._shown(row), headers=web.renewal(bearer))

    async def answer(self, request: Request) -> Response:
        """POST /v1/invitations/{token}/answer: action `invitations.answer`, arguments {token, kind, sealed}.

        `kind` is `accepted` or `declined`; `sealed` maps peer ids of the inviter's devices to boxes. Taken once: the
        same arguments again are taken as done, others are refused (409).
        """
        broker = self._broker
        write = await broker.signed(request, "invitations.answer", "token", "kind", "sealed")
        token = self._token(request)
        if write.take("token", str) != token:
            raise Forbidden("that answer was signed for another invitation")
        kind = write.take("kind", str, lambda value: value in ("accepted", "declined"))
        status: Literal["accepted", "declined"] = "accepted" if kind == "accepted" else "declined"
        sealed: dict[str, bytes] = {}
        for device, box in write.take("sealed", dict).items():
            if not isinstance(device, str) or not isinstance(box, bytes) or not box:
                raise Invalid("sealed must map peer ids to boxes")
            if len(box) > MAX_SEALED:
                raise TooLarge(f"a sealed answer has {len(box)} bytes, at most {MAX_SEALED} are kept")
            sealed[device] = box

        def step(db: Connection) -> Stored:
            row = invitations.one(db, token, write.user_id, write.device)
            invitation, _ = open_as(Invitation, row.statement)
            device_set, _ = open_as(DeviceSet, invitation.device_set)
            if not sealed or not sealed.keys() <= {device.device for device in device_set.devices}:
                raise Invalid("an answer is sealed to devices that the invitation names")
            return invitations.answer(
                db,
                token=token,
                invitee=write.user_id,
                status=status,
                sealed=sealed,
                digest=write.digest,
                now=broker.clock(),
            )

        row = await broker.accept(write, step)
        broker.bells.ring(row.inviter, row.invitee)
        return web.document({"token": token, "status": row.status})

    async def withdraw(self, request: Request) -> Response:
        """DELETE /v1/invitations/{token}: action `invitations.withdraw`, arguments {token}; by the inviter."""
        write = await self._broker.signed(request, "invitations.withdraw", "token")
        token = self._token(request)
        if write.take("token", str) != token:
            raise Forbidden("that was signed for another invitation")
        invitee = await self._broker.accept(
            write, invitations.withdraw, token=token, inviter=write.user_id, now=self._broker.clock()
        )
        self._broker.bells.ring(write.user_id, invitee)
        return web.document({"token": token, "status": "withdrawn"})

    async def _mail(self, invitation: Invitation) -> bool:
        broker = self._broker
        if broker.mailer is None or not await broker.db(
            accounts.may_mail,
            recipient=invitation.audience_user,
            sender=invitation.issuer_user,
            now=broker.clock(),
            per_recipient=MAILS_TO_ONE_ADDRESS,
            per_sender=MAILS_BY_ONE_ACCOUNT,
        ):
            return False
        return await broker.mailer.send(
            letters.invitation(
                to=invitation.audience_user,
                inviter=invitation.issuer_user,
                token=invitation.id,
                origin=broker.settings.public_url,
                expires_ms=invitation.expires,
                install_url=broker.settings.install_url,
            )
        )

    def _shown(self, row: Stored) -> dict[str, object]:
        expired = row.status == "pending" and row.expires <= self._broker.clock()
        return {
            "token": row.token,
            "from": row.inviter,
            "to": row.invitee,
            "status": "expired" if expired else row.status,
            "created": row.created,
            "expires": row.expires,
            "statement": base64url.encode(row.statement),
            "answered": row.answered,
            "sealed": base64url.encode(row.sealed) if row.sealed is not None else None,
        }

    def _token(self, request: Request) -> str:
        token = str(request.path_params["token"])
        try:
            names.uuid_bytes(token)
        except Invalid:
            raise NotFound("that is not an invitation's token", fix="copy it whole") from None
        return token
