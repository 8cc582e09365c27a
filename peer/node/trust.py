"""A person's contacts and the edges granted to them, behind the API's routes: edit, pause, revoke, block, forget a key.

How an edge comes about: invitations.py.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import NamedTuple

import msgspec

from peer.broker.brokers import Brokers
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
from peer.protocol.documents import Document
from peer.protocol.errors import Invalid
from peer.steps import granting
from peer.steps.journal import Journal
from peer.store import contacts, edges, invitations, rows, trust_views
from peer.trust import aliases, fingerprints, grants, scopes


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
    """Contacts and edges."""

    def __init__(self, journal: Journal, brokers: Brokers, queries: QueryService, machine: Grantable) -> None:
        self._journal = journal
        self._context = journal.context
        self._brokers = brokers
        self._queries = queries
        self._machine = machine

    # --- contacts

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

    # --- edges

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


def _edge_and_verified(db: sqlite3.Connection, user_id: str) -> tuple[rows.Edge, bool]:
    contact = contacts.get(db, user_id)
    return granting.get_granted(db, user_id), bool(contact and contact.verified)
