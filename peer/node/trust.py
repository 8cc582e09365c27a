"""A person's acts of trust, behind the API's routes: invite, accept, edit, pause, revoke, block.

The person always chooses the tools: a request without them gets the menu, and nothing changes.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from peer.broker.brokers import Brokers
from peer.machine.settings import Settings
from peer.mesh.dialing import typed_address
from peer.node.grantable import Grantable
from peer.node.queries import QueryService
from peer.node.scope_requests import (
    commands_of,
    histories,
    left_out,
    pin_of,
    pins_of,
    require_confirmed,
    require_shown,
    scope_input,
    to_confirm,
)
from peer.protocol import names
from peer.protocol.documents import Document
from peer.protocol.errors import Conflict, DispatchError, Gone, Invalid, NotFound
from peer.steps import granting, invitation_answers, inviting
from peer.steps.journal import Journal
from peer.store import contacts, edges, invitations, lists, rows, trust_views
from peer.trust import aliases, fingerprints, grants, invitation_address, menu, scopes
from peer.trust.filesystem import LocalFacts


class Installed(NamedTuple):
    """MCP servers of this machine: as menu items, the grantable names, and why others cannot be granted."""

    offers: list[grants.McpServer]
    grantable: list[str]
    left_out: list[str]


class Preview(NamedTuple):
    """A scope, its powerful parts, the stored rules that would act in it, its hosts whose names this machine's HTTP
    proxy resolves, and those of them that are to be confirmed.
    """

    scope: scopes.Scope
    powerful: list[str]
    rules: list[Document]
    by_proxy: list[str]
    to_confirm: list[str]


class TrustService:
    """Invitations, contacts and edges."""

    def __init__(
        self,
        journal: Journal,
        settings: Callable[[], Settings],
        brokers: Brokers,
        queries: QueryService,
        *,
        facts: Callable[[], LocalFacts],
        invitations_changed: Callable[[], None],
    ) -> None:
        """`facts`: local facts for checks of granted folders, blocking. `invitations_changed`: called after changes."""
        self._journal = journal
        self._context = journal.context
        self._settings = settings
        self._brokers = brokers
        self._queries = queries
        self._machine = Grantable(journal.context.state.path, facts, settings)
        self._invitations_changed = invitations_changed

    # --- invitations

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
        self._invitations_changed()
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

    async def invitations(
        self, *, ended: bool = False, limit: int | None = None, before: str | None = None
    ) -> Document:
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

    async def block(self, email: str) -> Document:
        """Block a user, by address or alias: {status, peer}."""
        user_id = await self._user_named(email)
        await self._journal.step(lambda tx: granting.block(tx, user_id))
        return {"status": "blocked", "peer": user_id}

    async def unblock(self, peer: str) -> Document:
        """Take a user's invitations again; edges that the block ended stay ended: {status, peer}. Raises NotFound."""
        user_id = await self._user_named(peer)
        await self._journal.step(lambda tx: granting.unblock(tx, user_id))
        return {"status": "unblocked", "peer": user_id}

    # --- edges

    async def contacts(self, *, limit: int | None = None, before: str | None = None) -> Document:
        """Return {trust: […], blocked, more, next}."""
        live = self._queries.live()
        return await self._journal.read(lambda db: trust_views.trust_rows(db, live, limit=limit, before=before))

    async def set_alias(self, peer: str, alias: str) -> Document:
        """Set a contact's local alias; '' removes it: {peer, alias}. Raises NotFound, Invalid, Conflict."""
        user_id = await self._user_named(peer)
        chosen = aliases.check(alias) if alias else ""
        await self._journal.step(lambda tx: granting.set_alias(tx, user_id, chosen))
        return {"peer": user_id, "alias": chosen}

    async def add_address(self, peer: str, address: str) -> Document:
        """Remember an address of a contact: {peer, address, devices}. Raises NotFound, Invalid, Conflict."""
        user_id, (plain, device) = await self._user_named(peer), typed_address(address)
        devices = await self._journal.step(lambda tx: granting.type_address(tx, user_id, plain, device))
        return {"peer": user_id, "address": plain, "devices": devices}

    async def remove_address(self, peer: str, address: str) -> Document:
        """Forget an address that was typed: {peer, address, devices}. Raises NotFound, Invalid."""
        user_id, (plain, device) = await self._user_named(peer), typed_address(address)
        devices = await self._journal.step(lambda tx: granting.remove_address(tx, user_id, plain, device))
        return {"peer": user_id, "address": plain, "devices": devices}

    async def show(self, peer: str) -> Document:
        """Return the edge granted to `peer`, with its rules and budgets."""
        user_id = await self._user_named(peer)
        live = self._queries.live()
        edge = await self._journal.read(lambda db: granting.get_granted(db, user_id))
        row = await self._journal.read(lambda db: trust_views.trust_row(db, edge, live))
        with suppress(Invalid):  # a proxy's address that is none is an error of the next grant and run
            row["by_proxy"] = self._machine.by_proxy(scopes.decode(edge.scope))
        return row

    async def edit(self, peer: str, request: Document) -> Document:
        """Edit the scope of a granted edge; fields not given keep their values. Returns what `show` returns.

        An unconfirmed request that would permit more changes nothing and returns what a person must confirm; a preview
        always does.
        """
        user_id = await self._user_named(peer)
        if request.get("remove_rule") is not None and not request.get("preview"):
            rule = int(request["remove_rule"])
            await self._journal.step(lambda tx: granting.remove_rule(tx.db, user_id, rule))
        chosen = scope_input(request)
        if chosen != grants.ScopeInput():
            edge, verified = await self._journal.read(lambda db: _edge_and_verified(db, user_id))
            old = scopes.decode(edge.scope)
            found = await self._machine.installed()
            new = await self._machine.checked(
                grants.edit(old, chosen, installed=found.offers, now=self._context.clock()), unless=old
            )
            require_shown(new, request)
            commands = None if chosen.mcp_servers is msgspec.UNSET else commands_of(new, found)
            pinned = await self._journal.read(lambda db: edges.mcp_servers(db, edge.edge_id))
            others = any(
                pinned[name].command != command for name, command in (commands or {}).items() if name in pinned
            )
            beside = None if chosen.paths is msgspec.UNSET else await self._machine.git_folders(new)
            pins = await self._journal.read(lambda db: edges.git_folders(db, edge.edge_id))
            more = {folder: each for folder, each in (beside or {}).items() if pin_of(each) != pins.get(folder)}
            wider = (
                *scopes.widens(old, new),
                *(("another program as an MCP server",) if others else ()),
                *histories(new, more),
            )
            asked = to_confirm(
                user_id,
                new,
                widens=wider,
                histories=histories(new, more),
                fingerprint=await self._fingerprint(user_id),
                verified=verified,
                by_proxy=self._machine.by_proxy(new, unless=old),
            )
            if request.get("preview") or (wider and request.get("unconfirmed")):
                rules = await self._journal.read(lambda db: granting.rules_that_would_act(db, edge, new))
                return {**asked, "rules": trust_views.rule_rows(rules)}
            if wider:
                require_confirmed(asked, request)
            named = None if beside is None else pins_of(beside)
            await self._journal.step(
                lambda tx: granting.edit(tx, user_id, new, mcp_commands=commands, git_folders=named)
            )
        return await self.show(peer)

    async def set_paused(self, peer: str, *, paused: bool) -> Document:
        """Pause or resume: {status, trust_link_id}."""
        user_id = await self._user_named(peer)
        edge = await self._journal.step(lambda tx: granting.set_paused(tx, user_id, paused=paused))
        return {"status": edge.status, "trust_link_id": edge.edge_id}

    async def revoke(self, peer: str) -> Document:
        """Revoke a granted edge: {status, trust_link_id}."""
        user_id = await self._user_named(peer)
        edge = await self._journal.step(lambda tx: granting.revoke(tx, user_id))
        return {"status": edge.status, "trust_link_id": edge.edge_id}

    async def forget_key(self, peer: str) -> Document:
        """Believe a contact's root key no longer: {status, peer, answered}. Raises NotFound, Conflict.

        `answered`: they answered an invitation under another key; that answer is taken now.
        """
        user_id = await self._user_named(peer)
        await self._journal.step(lambda tx: granting.forget_key(tx, user_id))
        waiting = await self._journal.read(lambda db: invitations.open_to(db, user_id, self._context.clock()))
        self._brokers.reconnect()  # an answer under the new key, which was refused before, is brought again
        return {"status": "forgotten", "peer": user_id, "answered": waiting is not None}

    async def believe_key_again(self, peer: str) -> Document:
        """Undo `forget_key`: {status, peer}. Raises NotFound, Conflict."""
        user_id = await self._user_named(peer)
        await self._journal.step(lambda tx: granting.believe_key_again(tx, user_id))
        self._brokers.reconnect()  # an answer that was refused meanwhile is brought again
        return {"status": "known", "peer": user_id}

    # --- internal

    async def _user_named(self, name: str) -> str:
        return await self._journal.read(lambda db: contacts.user_named(db, name))

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
            self._invitations_changed()
        return await self._journal.read(lambda db: invitation_answers.get_answerable(db, self._context.clock(), token))

    async def installed(self) -> Installed:
        """Return the MCP servers that can be granted now, and why others cannot."""
        found = await self._machine.installed()
        return Installed(list(found.offers), list(grants.grantable_names(found.offers)), left_out(found))

    async def preview(self, peer: str, request: Document) -> Preview:
        """Return what `accept` or `edit` would make of these choices. Changes nothing. Raises as they do."""
        chosen = scope_input(request)
        found = await self._machine.installed()
        user_id = await self._user_named(peer)
        edge = await self._journal.read(lambda db: edges.current(db, user_id, "incoming"))
        old = scopes.decode(edge.scope) if edge is not None and edge.status in edges.OPEN else None
        now = self._context.clock()
        if old is None:
            scope = grants.grant(chosen, installed=found.offers, now=now)
        else:
            scope = grants.edit(old, chosen, installed=found.offers, now=now)
        scope = await self._machine.checked(scope, unless=old)
        beside = {} if chosen.paths is msgspec.UNSET else await self._machine.git_folders(scope)
        powerful = [*scopes.needs_confirmation(scope), *histories(scope, beside)]
        by_proxy = self._machine.by_proxy(scope), self._machine.by_proxy(scope, unless=old)
        if edge is None or old is None:
            return Preview(scope, powerful, [], *by_proxy)
        rules = await self._journal.read(lambda db: granting.rules_that_would_act(db, edge, scope))
        return Preview(scope, powerful, trust_views.rule_rows(rules), *by_proxy)

    async def _fingerprint(self, user_id: str) -> str:
        contact = await self._journal.read(lambda db: contacts.get(db, user_id))
        return str(fingerprints.fingerprint(contact.root)) if contact else ""


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


def _edge_and_verified(db: sqlite3.Connection, user_id: str) -> tuple[rows.Edge, bool]:
    contact = contacts.get(db, user_id)
    return granting.get_granted(db, user_id), bool(contact and contact.verified)
