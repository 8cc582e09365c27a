"""A person's invitations, behind the API's routes: invite, withdraw, accept, decline.

The person always chooses the tools: an acceptance without them gets the menu, and nothing changes.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import suppress

import msgspec

from peer.broker.brokers import Brokers
from peer.machine.settings import Settings
from peer.node.grantable import Grantable
from peer.node.scope_requests import (
    commands_of,
    histories,
    left_out,
    pins_of,
    require_confirmed,
    require_shown,
    scope_input,
    to_confirm,
)
from peer.protocol import names
from peer.protocol.documents import Document
from peer.protocol.errors import Conflict, DispatchError, Gone, NotFound
from peer.steps import invitation_answers, inviting
from peer.steps.journal import Journal
from peer.store import contacts, invitations, lists, rows, trust_views
from peer.trust import grants, invitation_address, menu


class InvitationService:
    """Invitations that were sent and received, until their edge is there."""

    def __init__(
        self,
        journal: Journal,
        settings: Callable[[], Settings],
        brokers: Brokers,
        machine: Grantable,
        *,
        changed: Callable[[], None],
    ) -> None:
        """`changed`: called after changes."""
        self._journal = journal
        self._context = journal.context
        self._settings = settings
        self._brokers = brokers
        self._machine = machine
        self._changed = changed

    async def invite(self, email: str, *, broker: str = "") -> Document:
        """Invite someone to grant this user an edge: {token, to, broker, emailed, link, page, expires, existing?}.

        `link` is the address to share, with its secret; `page` the broker's page about the invitation, without.
        `broker`: the URL of the one where it is posted; the first one unless an invitation is open at any.
        """
        user_id = await self._journal.read(lambda db: _contact_or_address(db, email))
        first = self._settings().require_broker()
        at = [broker] if broker else self._brokers.urls()
        sync = self._brokers.at(broker or first)
        invited = await self._journal.step(lambda tx: inviting.invite(tx, user_id, broker=sync.url, at=at))
        row = invited.row
        if invited.fresh or not row.emailed:
            try:
                posted = await self._brokers.post(row)
            except DispatchError:
                if invited.fresh:
                    # Undo it here, and at the broker in case only its reply was lost.
                    await self._journal.step(lambda tx: inviting.discard(tx, row.token))
                raise
            emailed = posted.emailed
            await self._journal.step(lambda tx: invitations.set_mailed(tx.db, row.token, emailed=emailed))
        else:
            emailed = bool(row.emailed)
        self._changed()
        document: Document = {
            "token": row.token,
            "to": user_id,
            "broker": row.broker,
            "emailed": emailed,
            "link": _link(row),
            "page": invitation_address.page_of(row.broker, row.token) if row.broker else "",
            "expires": lists.rfc3339(row.expires),
        }
        if not invited.fresh:
            document["existing"] = True
        return document

    async def listed(self, *, ended: bool = False, limit: int | None = None, before: str | None = None) -> Document:
        """Return {sent, received, more, next}: the open ones, with `ended` all."""
        now = self._context.clock()
        return await self._journal.read(
            lambda db: trust_views.invitation_rows(db, now, _link, ended=ended, limit=limit, before=before)
        )

    async def withdraw(self, token: str) -> Document:
        """Withdraw a sent invitation: {status, token}. Raises Conflict if it was answered first.

        Its broker decides which came first, so nothing is stored here before its reply. One that is not used any more
        is not asked: what it says is not taken either.
        """
        row = await self._journal.read(lambda db: inviting.get_withdrawable(db, token))
        if row.broker in self._brokers.urls():
            # The broker no longer has it, so nobody can answer it; or it has an answer that is not taken here.
            with suppress(NotFound, Gone, *((Conflict,) if row.other_key else ())):
                await self._brokers.withdraw_invitation(row)
        await self._journal.step(lambda tx: inviting.withdraw(tx.db, token))
        return {"status": "withdrawn", "token": token}

    async def accept(self, request: Document) -> Document:
        """Accept an invitation: {status, trust_link_id, peer, scopes}; without tools, return the menu only."""
        row = await self._find_invitation(request["token"])
        await self._journal.read(lambda db: invitation_answers.check_inviter(db, row))  # before any question is asked
        key = await self._journal.read(lambda db: trust_views.inviter_key(db, row))
        standing = menu.standing(row.peer, by_address=key.by_address, before=key.before)
        chosen = scope_input(request)
        found = await self._machine.installed()
        if chosen.tools is msgspec.UNSET:
            return {
                "status": "scope_choice_required",
                "inviter": row.peer,
                "heading": menu.heading(row.peer),
                "menu": msgspec.to_builtins(menu.menu(found.offers)),
                "afterwards": menu.AFTERWARDS,
                "installed_mcp_servers": list(grants.grantable_names(found.offers)),
                "mcp_servers_left_out": left_out(found),
                "fingerprint": key.fingerprint,
                "verified": key.verified,
                "standing": standing,
            }
        scope = grants.grant(chosen, installed=found.offers, now=self._context.clock())
        scope = await self._machine.checked(scope)
        require_shown(scope, request)
        beside = await self._machine.git_folders(scope)
        asked = to_confirm(
            row.peer,
            scope,
            widens=("a new edge", *histories(scope, beside)),
            histories=histories(scope, beside),
            fingerprint=key.fingerprint,
            verified=key.verified,
            by_proxy=self._machine.by_proxy(scope),
        )
        if request.get("unconfirmed"):
            return {**asked, "standing": standing}
        require_confirmed(asked, request)
        edge = await self._journal.step(
            lambda tx: invitation_answers.accept(
                tx, row.token, scope, mcp_commands=commands_of(scope, found), git_folders=pins_of(beside)
            )
        )
        return {
            "status": edge.status,
            "trust_link_id": edge.edge_id,
            "peer": edge.user_id,
            "scopes": msgspec.to_builtins(scope),
            "by_proxy": asked["by_proxy"],
            "git_folders": {folder: found.path for folder, found in beside.items()},
            "verified": key.verified,
            "standing": standing,
        }

    async def decline(self, token: str) -> Document:
        """Decline an invitation: {status, token}."""
        row = await self._find_invitation(token)
        await self._journal.step(lambda tx: invitation_answers.decline(tx, row.token))
        return {"status": "declined", "token": row.token}

    async def _find_invitation(self, text: str) -> rows.Invitation:
        """Return the open invitation that a token or address names, fetching it from the broker if needed."""
        pasted = invitation_address.parse(text)
        token = pasted.token
        known = await self._journal.read(lambda db: invitations.get(db, token))
        at = known.broker if known is not None else ""
        if not isinstance(pasted, invitation_address.Token):
            at = at or pasted.broker
        if at and at not in (urls := self._brokers.urls()):
            # Its answer goes there, and so do the look-ups of whoever sent it.
            raise Conflict(
                f"that invitation is at broker {at}, but you are signed in at {', '.join(urls) or 'no broker'}",
                fix=f"run `dispatch broker add {at}`",
            )
        if known is None:
            await self._brokers.fetch(token, at)
        if isinstance(pasted, invitation_address.Address):
            address = pasted
            await self._journal.step(lambda tx: invitation_answers.open_address(tx.db, address))
            self._changed()
        return await self._journal.read(lambda db: invitation_answers.get_answerable(db, self._context.clock(), token))


def _link(row: rows.Invitation) -> str:
    """Return the address to share of an invitation that was sent."""
    if not row.broker:
        return ""  # stored while no broker was known
    digest = hashlib.sha256(row.raw).digest()
    return invitation_address.build_address(row.broker, token=row.token, digest=digest, secret=row.secret)


def _contact_or_address(db: sqlite3.Connection, text: str) -> str:
    """Return the user with this alias, else the one with this address. Raises Invalid if it is neither."""
    with suppress(NotFound):
        return contacts.user_named(db, text)
    return names.user_id(text)
