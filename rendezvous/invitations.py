"""Invitations between users, and their answers, which the broker keeps sealed. The mail's text: mail_texts.py.

The broker learns who invited whom, when, and whether it was accepted or declined. The inviter is told whether the mail
server took the mail, and when a signed-in device of the invitee first fetched the invitation. The broker sees the
invitation, which contains public keys; it cannot open an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import trio
from starlette.requests import Request
from starlette.responses import Response

from peer.protocol import base64url, names
from peer.protocol.errors import Forbidden, Gone, Invalid, NotFound, TooLarge
from peer.protocol.signing import open_as
from peer.protocol.statements import DeviceSet, Invitation
from rendezvous import mail_texts, web
from rendezvous.broker import Broker
from rendezvous.join_pages import day, join_page
from rendezvous.storage.rows import (
    Decision,
    InvitationAnswer,
    InvitationStatus,
    NewInvitation,
    StoredInvitation,
)
from rendezvous.tokens import Bearer
from rendezvous.writes import WINDOW_MS

MAX_LIFE_MS = 7 * 24 * 3600 * 1000
MAX_WAIT_SECONDS = 25
"""Below the 30 s after which proxies commonly give up on a silent response."""
MAX_SEALED = 96 * 1024
"""Bytes for one device: the largest acceptance has a scope of 64 kB and a device-set of 16. A response with as many
answers of this size as StorageLimits.changes_at_once stays below what a client reads."""
DECISIONS: dict[str, Decision] = {
    "accepted": InvitationStatus.ACCEPTED,
    "declined": InvitationStatus.DECLINED,
}


class InvitationRoutes:
    """The routes under /v1/invitations."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def post(self, request: Request) -> Response:
        """POST /v1/invitations: action `invitations.post`, arguments {invitation} → {token, to, emailed, existing}.

        With an invitation to the same user still open, nothing changes and `token` is that one's, `existing` true.
        """
        broker = self._broker
        write = await broker.signed(request, "invitations.post", "invitation")
        invitation, signed = open_as(Invitation, write.take("invitation", bytes))
        now = broker.clock()
        if (invitation.issuer_user, invitation.issuer_device) != (write.user_id, write.device):
            raise Forbidden("the invitation was not signed by the device that posts it", fix="update dispatch")
        if invitation.audience_user == invitation.issuer_user:
            raise Invalid("you cannot invite yourself", fix="give another person's address")
        if invitation.expires <= now:
            raise Gone("the invitation has already expired", fix="set this machine's clock")
        if invitation.created > now + WINDOW_MS or invitation.expires - invitation.created > MAX_LIFE_MS:
            raise Invalid("an invitation has to start now and expire within 7 days", fix="set this machine's clock")

        posted = await broker.storage.post_invitation(
            write.author,
            NewInvitation(
                token=invitation.id,
                invitee=invitation.audience_user,
                statement=signed.raw,
                device_set=invitation.device_set,
                created=invitation.created,
                expires=invitation.expires,
            ),
            now,
        )
        emailed = False
        if posted.new:
            broker.changes.notify(write.user_id, invitation.audience_user)
            emailed = await self._mail(invitation)
            if broker.mailer is not None:
                await broker.storage.note_invitation_mail(invitation.id, broker.clock(), mailed=emailed)
        content: dict[str, object] = {
            "token": posted.token,
            "to": invitation.audience_user,
            "emailed": emailed,
            "existing": not posted.new,
        }
        return web.document(content, status=201 if posted.new else 200)

    async def changed(self, request: Request) -> Response:
        """GET /v1/invitations?version=n&wait=s → {version, more, sent, received, announced}: what changed after
        version n.

        With `wait` (≤ 25 s) the response is held back until something does. `more`: ask again from `version` at once.
        A version above the broker's (it lost its data) counts as 0. `announced`: the `seq` of the announcement that the
        broker has of this device, 0 for none, so that a device notices that it was lost.
        """
        storage, clock = self._broker.storage, self._broker.clock
        bearer = self._broker.reader(request)
        after = web.number(request, "version", default=0, most=(1 << 53) - 1)
        wait = web.number(request, "wait", default=0, most=MAX_WAIT_SECONDS)
        until = trio.current_time() + wait
        while True:
            # Subscribe before reading the version, so that a change between the two is not missed.
            with self._broker.changes.subscribe(bearer.user_id) if wait else nullcontext() as told:
                standing = await storage.standing(bearer.caller, clock())
                over = trio.current_time() >= until or self._broker.changes.closed
                if told is None or over or standing.version != after:
                    break
                # One change can wake twice, as what this process writes is also told by the database; and a client
                # takes an early response without a change for a broker that is stopping.
                await web.wait_while_connected(request, told, until=until)
        announced = {"announced": standing.announced}
        if standing.version == after:
            # Most waits end like this, and it costs a fraction of a look for what has changed.
            nothing = {"version": after, "more": False, "sent": [], "received": [], **announced}
            return web.document(nothing, headers=web.renewal(bearer))
        found = await storage.invitation_changes(bearer.caller, after)
        await self._note_fetched(bearer, found.received)
        content = {
            "version": found.version,
            "more": found.more,
            "sent": [self._shown_to_inviter(row) for row in found.sent],
            "received": [self._shown(row) for row in found.received],
            **announced,
        }
        return web.document(content, headers=web.renewal(bearer))

    async def one(self, request: Request) -> Response:
        """GET /v1/invitations/{token}: to its inviter and its invitee."""
        bearer = self._broker.reader(request)
        row = await self._broker.storage.invitation(bearer.caller, self._token(request))
        if row.inviter == bearer.user_id:
            return web.document(self._shown_to_inviter(row), headers=web.renewal(bearer))
        await self._note_fetched(bearer, (row,))
        return web.document(self._shown(row), headers=web.renewal(bearer))

    async def answer(self, request: Request) -> Response:
        """POST /v1/invitations/{token}/answer: action `invitations.answer`, arguments {token, kind, sealed}.

        `kind` is `accepted` or `declined`; `sealed` maps peer ids of the inviter's devices to boxes. An invitation is
        answered once: the same arguments again are taken as done, others are refused (409).
        """
        broker = self._broker
        write = await broker.signed(request, "invitations.answer", "token", "kind", "sealed")
        token = self._token(request)
        if write.take("token", str) != token:
            raise Forbidden("that answer was signed for a different invitation", fix="update dispatch")
        decision = DECISIONS[write.take("kind", str, lambda value: value in DECISIONS)]
        sealed: dict[str, bytes] = {}
        for device, box in write.take("sealed", dict).items():
            if not isinstance(device, str) or not isinstance(box, bytes) or not box:
                raise Invalid("sealed must map peer ids to boxes", fix="update dispatch")
            if len(box) > MAX_SEALED:
                raise TooLarge(
                    f"a sealed answer has {len(box)} bytes; the limit is {MAX_SEALED}", fix="update dispatch"
                )
            sealed[device] = box

        asked = await broker.storage.invitation(write.caller, token)
        invitation, _ = open_as(Invitation, asked.statement)
        device_set, _ = open_as(DeviceSet, invitation.device_set)
        if not sealed or not sealed.keys() <= {device.device for device in device_set.devices}:
            raise Invalid("an answer can only be sealed to devices named in the invitation", fix="update dispatch")
        answer = InvitationAnswer(token=token, decision=decision, sealed=sealed, digest=write.digest)
        row = await broker.storage.answer_invitation(write.author, answer, broker.clock())
        broker.changes.notify(row.inviter, row.invitee)
        return web.document({"token": token, "status": row.status.value})

    async def withdraw(self, request: Request) -> Response:
        """DELETE /v1/invitations/{token}: action `invitations.withdraw`, arguments {token}; by the inviter."""
        write = await self._broker.signed(request, "invitations.withdraw", "token")
        token = self._token(request)
        if write.take("token", str) != token:
            raise Forbidden("that request was signed for a different invitation", fix="update dispatch")
        row = await self._broker.storage.withdraw_invitation(write.author, token, self._broker.clock())
        self._broker.changes.notify(row.inviter, row.invitee)
        return web.document({"token": token, "status": row.status.value})

    async def _mail(self, invitation: Invitation) -> bool:
        broker = self._broker
        if broker.mailer is None:
            return False
        if not await broker.storage.reserve_invitation_mail(
            inviter=invitation.issuer_user, invitee=invitation.audience_user, now=broker.clock()
        ):
            broker.refused("invitation_mails")
            return False
        return await broker.send(
            mail_texts.invitation(
                to=invitation.audience_user,
                inviter=invitation.issuer_user,
                page=join_page(broker.settings.public_url, invitation.id),
                expires=day(invitation.expires),
                installing=broker.settings.installing,
            )
        )

    async def _note_fetched(self, bearer: Bearer, rows: Sequence[StoredInvitation]) -> None:
        """Tell the inviters of open invitations that a signed-in device of the invitee fetches them, the first time."""
        now = self._broker.clock()
        fresh = [row.token for row in rows if row.fetched is None and row.status_at(now) is InvitationStatus.PENDING]
        if fresh:
            self._broker.changes.notify(*await self._broker.storage.note_fetched(bearer.caller, fresh, now))

    def _shown_to_inviter(self, row: StoredInvitation) -> dict[str, object]:
        return {**self._shown(row), "mailed": row.mailed, "fetched": row.fetched}

    def _shown(self, row: StoredInvitation) -> dict[str, object]:
        return {
            "token": row.token,
            "from": row.inviter,
            "to": row.invitee,
            "status": row.status_at(self._broker.clock()).value,
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
            raise NotFound("that is not an invitation token", fix="copy it whole") from None
        return token
