"""What a person does about trust, as the API's routes call it: invite, accept, edit, pause, revoke, block.

The person always chooses the tools: where they are missing, the answer is the menu, and nothing happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import trio

from peer.machine import mcp_servers
from peer.protocol import names
from peer.protocol.errors import Conflict, DispatchError, Gone, Invalid, NotFound
from peer.protocol.statements import Invitation, open_as
from peer.steps import granting, inviting
from peer.store import contacts, edges, invitations, lists, rows, views
from peer.trust import aliases, fingerprints, grants, menu, paths, scopes
from peer.trust import invitations as invitation_life

if TYPE_CHECKING:
    from peer.node.node import Node

Document = dict[str, Any]

SCOPE_FIELDS = ("tools", "mcp_servers", "paths", "approval", "max_per_day", "expires", "results", "budget")


class Installed(NamedTuple):
    """MCP servers of this machine: as menus take them, the names that can be granted, why others cannot."""

    offers: list[grants.McpServer]
    grantable: list[str]
    left_out: list[str]


class TrustService:
    """The trust half of a node's API."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._context = node.context

    # --- invitations

    async def invite(self, email: str) -> Document:
        """Ask someone to let me dispatch to them: {token, to, emailed, link, dev_link?, existing?}."""
        user_id = names.user_id(email)
        broker = self._node.settings.require_broker()
        invited = await self._context.store.write(lambda db: inviting.invite(db, self._context, user_id))
        row = invited.row
        if invited.fresh or not row.emailed:
            try:
                posted = await self._node.broker.post(row)
            except DispatchError:
                if invited.fresh:
                    # As if it had never been made, also at a broker whose answer was lost on the way.
                    await self._node.step(lambda db, effects: inviting.discard(db, self._context, row.token, effects))
                raise
            await self._context.store.write(
                lambda db: invitations.set_mailed(db, row.token, emailed=posted.emailed, dev_link=posted.dev_link)
            )
            emailed, dev_link = posted.emailed, posted.dev_link
        else:
            emailed, dev_link = bool(row.emailed), row.dev_link
        self._node.changes.note("invitations")
        self._node.bells.ring()
        document: Document = {
            "token": row.token,
            "to": user_id,
            "emailed": emailed,
            "link": self._link(broker, row),
            "expires": lists.rfc3339(row.expires),
        }
        if dev_link:
            document["dev_link"] = dev_link
        if not invited.fresh:
            document["existing"] = True
        return document

    async def invitations(self) -> Document:
        """Return {sent, received}."""
        broker = self._node.settings.broker

        def link(row: rows.Invitation) -> str:
            return self._link(broker, row) if broker else ""

        return await self._context.store.read(lambda db: views.invitation_rows(db, self._context.clock(), link))

    async def withdraw(self, token: str) -> Document:
        """Take a sent invitation back: {status, token}. Raises Conflict when its answer was quicker.

        The broker decides which of the two came first: nothing is noted here before it has.
        """
        await self._context.store.read(lambda db: inviting.withdrawable(db, token))
        with suppress(NotFound, Gone):  # it has forgotten the invitation: nobody can answer that either
            await self._node.broker.withdraw_invitation(token)
        await self._context.store.write(lambda db: inviting.withdraw(db, token))
        return {"status": "withdrawn", "token": token}

    async def accept(self, request: Mapping[str, Any]) -> Document:
        """Grant an edge: {status, trust_link_id, peer, scopes}; without tools the menu, and nothing happens."""
        row = await self._received(request["token"])
        invitation, _ = open_as(Invitation, row.raw)
        fingerprint = views.inviter_fingerprint(row)
        chosen = _chosen(request)
        found = await self._installed()
        if chosen.tools is msgspec.UNSET:
            return {
                "status": "scope_choice_required",
                "inviter": invitation.issuer_user,
                "heading": menu.heading(invitation.issuer_user),
                "menu": msgspec.to_builtins(menu.menu(found.offers)),
                "afterwards": menu.AFTERWARDS,
                "installed_mcp_servers": list(grants.grantable_names(found.offers)),
                "mcp_servers_left_out": _left_out(found),
                "fingerprint": fingerprint,
                "verified": bool(row.verified),
            }
        scope = grants.grant(chosen, installed=found.offers, now=self._context.clock())
        scope = await self._with_checked_paths(scope)
        if request.get("unconfirmed"):
            return _to_confirm(
                invitation.issuer_user,
                scope,
                widens=("a new edge",),
                fingerprint=fingerprint,
                verified=bool(row.verified),
            )
        self._confirm(scope, request, verified=bool(row.verified), inviter=invitation.issuer_user, key=fingerprint)
        edge = await self._node.step(
            lambda db, effects: inviting.accept(
                db, self._context, row.token, scope, effects, mcp_commands=_commands(scope, found)
            )
        )
        return {
            "status": edge.status,
            "trust_link_id": edge.edge_id,
            "peer": edge.user_id,
            "scopes": msgspec.to_builtins(scope),
            "verified": bool(row.verified),
        }

    async def decline(self, token: str) -> Document:
        """Decline an invitation: {status, token}."""
        row = await self._received(token)
        await self._node.step(lambda db, effects: inviting.decline(db, self._context, row.token, effects))
        return {"status": "declined", "token": row.token}

    async def block(self, email: str) -> Document:
        """Refuse someone from now on: {status, peer}."""
        user_id = names.user_id(email)
        await self._node.step(lambda db, effects: granting.block(db, self._context, user_id, effects))
        return {"status": "blocked", "peer": user_id}

    # --- edges

    async def contacts(self) -> Document:
        """Return {trust: […]}."""
        live = self._node.live()
        return await self._context.store.read(lambda db: views.trust_rows(db, live))

    async def name(self, peer: str, alias: str) -> Document:
        """Give a contact a local alias, '' takes it away: {peer, alias}. Raises NotFound, Invalid, Conflict."""
        user_id = await self._node.user_named(peer)
        chosen = aliases.check(alias) if alias else ""
        await self._node.step(lambda db, effects: granting.set_alias(db, user_id, chosen, effects))
        return {"peer": user_id, "alias": chosen}

    async def show(self, peer: str) -> Document:
        """Return the edge that I granted `peer`, with its rules and budgets."""
        user_id = await self._node.user_named(peer)
        live = self._node.live()
        return await self._context.store.read(lambda db: views.trust_row(db, granting.granted(db, user_id), live))

    async def edit(self, peer: str, request: Mapping[str, Any]) -> Document:
        """Change what an edge I granted permits; what is not named keeps its value. Returns what `show` returns.

        A request that nobody has confirmed changes nothing when it would permit more, and says what that is.
        """
        user_id = await self._node.user_named(peer)
        if request.get("remove_rule") is not None:
            rule = int(request["remove_rule"])
            await self._node.step(lambda db, _effects: granting.remove_rule(db, user_id, rule))
        chosen = _chosen(request)
        if chosen != grants.ScopeInput():
            edge, verified = await self._context.store.read(lambda db: _edge_and_verified(db, user_id))
            old = scopes.decode(edge.scope)
            found = await self._installed()
            new = await self._with_checked_paths(
                grants.edit(old, chosen, installed=found.offers, now=self._context.clock()), unless=old
            )
            commands = None if chosen.mcp_servers is msgspec.UNSET else _commands(new, found)
            pinned = await self._context.store.read(lambda db: edges.mcp_servers(db, edge.edge_id))
            others = any(
                pinned[name].command != command for name, command in (commands or {}).items() if name in pinned
            )
            wider = (*scopes.widens(old, new), *(("another program as an MCP server",) if others else ()))
            if wider and request.get("unconfirmed"):
                key = await self._fingerprint(user_id)
                return _to_confirm(user_id, new, widens=wider, fingerprint=key, verified=verified)
            if wider:
                self._confirm(new, request, verified=verified, inviter=user_id, key=await self._fingerprint(user_id))
            await self._node.step(
                lambda db, effects: granting.edit(db, self._context, user_id, new, effects, mcp_commands=commands)
            )
        return await self.show(peer)

    async def set_paused(self, peer: str, *, paused: bool) -> Document:
        """Pause or resume: {status, trust_link_id}."""
        user_id = await self._node.user_named(peer)
        edge = await self._node.step(
            lambda db, effects: granting.set_paused(db, self._context, user_id, effects, paused=paused)
        )
        return {"status": edge.status, "trust_link_id": edge.edge_id}

    async def revoke(self, peer: str) -> Document:
        """End an edge I granted: {status, trust_link_id}."""
        user_id = await self._node.user_named(peer)
        edge = await self._node.step(lambda db, effects: granting.revoke(db, self._context, user_id, effects))
        return {"status": edge.status, "trust_link_id": edge.edge_id}

    # --- inside

    async def _received(self, text: str) -> rows.Invitation:
        """Find the invitation that a token or a link means, asking the broker for one not yet here."""
        pasted = invitation_life.parse(text)
        token = pasted.token
        known = await self._context.store.read(lambda db: invitations.get(db, token))
        if known is None:
            if isinstance(pasted, invitation_life.Link) and pasted.broker != self._node.settings.broker:
                raise Conflict(
                    f"that invitation is at {pasted.broker}, and you are signed in at "
                    f"{self._node.settings.broker or 'no broker'}",
                    fix=f"run `dispatch login --broker {pasted.broker}`",
                )
            await self._node.broker.fetch(token)
        if isinstance(pasted, invitation_life.Link):
            link = pasted
            await self._context.store.write(lambda db: inviting.open_link(db, link))
            self._node.changes.note("invitations")
        return await self._context.store.read(lambda db: inviting.answerable(db, self._context, token))

    async def installed(self) -> Installed:
        """Return which MCP servers an edge could be given now, and why others could not."""
        found = await self._installed()
        return Installed(list(found.offers), list(grants.grantable_names(found.offers)), _left_out(found))

    async def preview(self, peer: str, request: Mapping[str, Any]) -> tuple[scopes.Scope, list[str]]:
        """Return the scope that these choices make, of a new edge or of the one that `peer` has, and what in it is
        powerful. Nothing is changed. Raises as `accept` and `edit` do.
        """
        chosen = _chosen(request)
        found = await self._installed()
        user_id = await self._node.user_named(peer)
        edge = await self._context.store.read(lambda db: edges.current(db, user_id, "incoming"))
        old = scopes.decode(edge.scope) if edge is not None and edge.status in edges.OPEN else None
        now = self._context.clock()
        if old is None:
            scope = grants.grant(chosen, installed=found.offers, now=now)
        else:
            scope = grants.edit(old, chosen, installed=found.offers, now=now)
        scope = await self._with_checked_paths(scope, unless=old)
        return scope, list(scopes.needs_confirmation(scope))

    async def _installed(self) -> mcp_servers.Found:
        return await trio.to_thread.run_sync(mcp_servers.discover, self._context.state.path)

    async def _with_checked_paths(self, scope: scopes.Scope, *, unless: scopes.Scope | None = None) -> scopes.Scope:
        if not scope.paths or (unless is not None and scope.paths == unless.paths):
            return scope
        checked = await trio.to_thread.run_sync(lambda: paths.check_roots(scope.paths, self._node.folders.facts()))
        return msgspec.structs.replace(scope, paths=checked)

    def _confirm(
        self, scope: scopes.Scope, request: Mapping[str, Any], *, verified: bool, inviter: str, key: str
    ) -> None:
        """Ask once more before a powerful grant to somebody whose key nobody compared."""
        powerful = scopes.needs_confirmation(scope)
        if powerful and not verified and not request.get("confirm_unverified"):
            raise Conflict(
                f"{inviter} is unverified, and you would grant {', '.join(powerful)}; their fingerprint is {key}",
                fix="compare the fingerprint with them by another way, then repeat with --yes-unverified; or use the "
                "link that they share with you",
            )

    async def _fingerprint(self, user_id: str) -> str:
        contact = await self._context.store.read(lambda db: contacts.get(db, user_id))
        return str(fingerprints.fingerprint(contact.root)) if contact else ""

    def _link(self, broker: str, row: rows.Invitation) -> str:
        digest = hashlib.sha256(row.raw).digest()
        return invitation_life.build_link(broker, token=row.token, digest=digest, secret=row.secret)


def _chosen(request: Mapping[str, Any]) -> grants.ScopeInput:
    given = {name: request[name] for name in SCOPE_FIELDS if request.get(name) is not None}
    try:
        return msgspec.convert(given, grants.ScopeInput)
    except msgspec.ValidationError as error:
        raise Invalid(f"the scope is not of the form it must have: {error}") from error


def _to_confirm(
    peer: str, scope: scopes.Scope, *, widens: tuple[str, ...], fingerprint: str, verified: bool
) -> Document:
    """Return what a person is shown before more is permitted than now."""
    return {
        "status": "confirmation_required",
        "peer": peer,
        "scopes": msgspec.to_builtins(scope),
        "widens": list(widens),
        "powerful": list(scopes.needs_confirmation(scope)),
        "fingerprint": fingerprint,
        "verified": verified,
    }


def _commands(scope: scopes.Scope, found: mcp_servers.Found) -> dict[str, str]:
    """Return what to pin of each granted MCP server: name → command, JSON."""
    return {name: msgspec.json.encode(found.servers[name].command).decode() for name in scope.mcp_servers}


def _left_out(found: mcp_servers.Found) -> list[str]:
    """Return, in sentences, which MCP servers cannot be granted and which configuration cannot be read."""
    said = [f"{server.name}: {server.unusable}" for server in found.servers.values() if server.unusable]
    return [*said, *found.warnings]


def _edge_and_verified(db: Any, user_id: str) -> tuple[rows.Edge, bool]:
    contact = contacts.get(db, user_id)
    return granting.granted(db, user_id), bool(contact and contact.verified)
