"""The routes of the loopback API, each once for both clients: its method, its path, its body. No transport.

The methods return the decoded documents of the API; their shapes are in each docstring. A client is a subclass that
says how one request is sent: Client in blocking.py, AsyncClient in on_trio.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar
from urllib.parse import quote, urlencode

from peer.protocol.documents import Direction, Document

D = TypeVar("D")


class Routes(ABC, Generic[D]):
    """Every route. D is the return type of a call: a JSON object, or a coroutine of one."""

    @abstractmethod
    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> D: ...

    def whoami(self) -> D:
        """Return {user_id, device_id, device_name, fingerprint, broker, daemon:{…}, runtime:{…}, sandbox:{…}, …}."""
        return self._ask("GET", "/v1/whoami")

    def doctor(self, *, fix: bool = False, part: str | None = None) -> D:
        """Return {checks:[{name, ok, detail, fix, proven?}]}: the checks that only the running daemon can make.

        `part`: `quick`, or `proof`, which are sandbox and gate and take up to a minute; else all of them. `proven` is
        false where nothing is wrong, and nothing has shown that it works.
        """
        return self._ask("GET", f"/v1/doctor{_query(fix=int(fix), part=part)}")

    def remove_broker(self, url: str, *, confirmed: bool = False) -> D:
        """Return {status: "removed", url, broker_told, first}; while something waits for it and unless `confirmed`,
        {status: "confirmation_required", url, waiting: {answers, withdrawals, sent, received}}, and nothing changes.
        """
        return self._ask("POST", "/v1/brokers/remove", {"url": url, "confirmed": confirmed})

    def contacts(self, *, limit: int | None = None, before: str | None = None) -> D:
        """Return {trust:[{trust_link_id, from_user, to_user, direction, peer, alias, scopes, …}], blocked, more, next}.

        All without `limit`. `next` is then the trust_link_id to give as the next page's `before`.
        """
        return self._ask("GET", f"/v1/contacts{_query(limit=limit, before=before)}")

    def name_contact(self, peer: str, alias: str) -> D:
        """Set a contact's local alias ("" removes it); return {peer, alias}."""
        return self._ask("PATCH", f"/v1/contacts/{_segment(peer)}", {"alias": alias})

    def add_address(self, peer: str, address: str) -> D:
        """Remember an address of a contact's device, of each without a /p2p/ part; return {peer, address, devices}."""
        return self._ask("POST", f"/v1/contacts/{_segment(peer)}/addresses", {"address": address})

    def remove_address(self, peer: str, address: str) -> D:
        """Forget an address that was typed; return {peer, address, devices}."""
        return self._ask("DELETE", f"/v1/contacts/{_segment(peer)}/addresses", {"address": address})

    def invite(self, email: str) -> D:
        """Return {token, to, emailed, link, existing?}; `link` is the address to share."""
        return self._ask("POST", "/v1/invitations", {"email": email})

    def invitations(self, *, ended: bool = False, limit: int | None = None, before: str | None = None) -> D:
        """Return {sent:[…], received:[…], more, next}: the open ones, with `ended` the others too.

        All without `limit`, which counts both together. `next` is then the token to give as the next page's `before`.
        """
        return self._ask("GET", f"/v1/invitations{_query(ended=int(ended), limit=limit, before=before)}")

    def withdraw_invitation(self, token: str) -> D:
        """Withdraw an invitation that this user sent."""
        return self._ask("DELETE", f"/v1/invitations/{_segment(token)}")

    def accept_invitation(
        self,
        token: str,
        scope: Mapping[str, object],
        *,
        confirm_unverified: bool = False,
        confirm_by_proxy: Sequence[str] = (),
        unconfirmed: bool = False,
    ) -> D:
        """Return {status, trust_link_id, peer, scopes}, or without tools {status: "scope_choice_required", menu, …}.

        `scope` contains any of tools, mcp_servers, paths, approval, max_per_day, expires, results, and budget with any
        of {minutes, turns, usd, output_bytes}. With `unconfirmed` nothing is granted; the answer describes the grant:
        {status: "confirmation_required", peer, scopes, widens, powerful, fingerprint, verified, by_proxy}. `by_proxy`
        names the hosts to confirm because this machine's HTTP proxy resolves their names.
        """
        body: Document = {"token": token, **scope, "confirm_unverified": confirm_unverified}
        if confirm_by_proxy:
            body["confirm_by_proxy"] = list(confirm_by_proxy)
        if unconfirmed:
            body["unconfirmed"] = True
        return self._ask("POST", "/v1/invitations/accept", body)

    def decline_invitation(self, token: str) -> D:
        """Return {status}."""
        return self._ask("POST", "/v1/invitations/decline", {"token": token})

    def block(self, email: str) -> D:
        """Return {status}."""
        return self._ask("POST", "/v1/block", {"email": email})

    def unblock(self, peer: str) -> D:
        """Return {status, peer}."""
        return self._ask("DELETE", f"/v1/block/{_segment(peer)}")

    def trust(self, peer: str) -> D:
        """Return the contacts row of the edge that this user granted to `peer`, with its rules and budgets."""
        return self._ask("GET", f"/v1/trust/{_segment(peer)}")

    def edit_trust(
        self,
        peer: str,
        changes: Mapping[str, object],
        *,
        confirm_unverified: bool = False,
        confirm_by_proxy: Sequence[str] = (),
        unconfirmed: bool = False,
        preview: bool = False,
    ) -> D:
        """Apply `changes` (fields as in `accept_invitation`, also remove_rule); return what `trust` returns.

        With `unconfirmed`, changes that permit more are not made, with `preview` none; the answer is then that of
        `accept_invitation`.
        """
        body: Document = {**changes, "confirm_unverified": confirm_unverified}
        if confirm_by_proxy:
            body["confirm_by_proxy"] = list(confirm_by_proxy)
        if unconfirmed:
            body["unconfirmed"] = True
        if preview:
            body["preview"] = True
        return self._ask("PATCH", f"/v1/trust/{_segment(peer)}", body)

    def pause_trust(self, peer: str) -> D:
        """Return {status, trust_link_id}."""
        return self._ask("POST", f"/v1/trust/{_segment(peer)}/pause")

    def resume_trust(self, peer: str) -> D:
        """Return {status, trust_link_id}."""
        return self._ask("POST", f"/v1/trust/{_segment(peer)}/resume")

    def revoke_trust(self, peer: str) -> D:
        """Return {status, trust_link_id}."""
        return self._ask("POST", f"/v1/trust/{_segment(peer)}/revoke")

    def forget_key(self, peer: str) -> D:
        """Believe a contact's root key no longer, which ends all edges with them; return {status, peer}."""
        return self._ask("DELETE", f"/v1/trust/{_segment(peer)}/key")

    def believe_key_again(self, peer: str) -> D:
        """Undo `forget_key`, unless a new key has taken its place; return {status, peer}."""
        return self._ask("POST", f"/v1/trust/{_segment(peer)}/key")

    def send(
        self,
        recipient: str,
        task: str,
        **more: object,
    ) -> D:
        """Sign and queue a dispatch; return {dispatch_id, status, expires_at, peer_online}.

        `more` are other fields of `SendRequest`. Raises TypeError for unknown ones.
        """
        import msgspec  # takes 17 ms; the other requests do not need it

        from peer.client.requests import SendRequest

        fields: Document = {"recipient": recipient, "task": task, **more}
        return self._ask("POST", "/v1/dispatches", msgspec.to_builtins(SendRequest(**fields)))

    def dispatches(
        self, direction: Direction, *, status: str | None = None, limit: int | None = None, before: str | None = None
    ) -> D:
        """Return {dispatches:[…], more, next}, newest first: the inbox, or what was sent.

        `more` is true if there are older ones; `next`, the last id of this page, is then the next page's `before`.
        """
        query = _query(direction=direction, status=status, limit=limit, before=before)
        return self._ask("GET", f"/v1/dispatches{query}")

    def dispatch(self, dispatch_id: str) -> D:
        """Return one dispatch with its payload, events, result, approvals and the suggested run folder."""
        return self._ask("GET", f"/v1/dispatches/{_segment(dispatch_id)}")

    def folder(self, dispatch_id: str, cwd: str) -> D:
        """Return {cwd, obstacles, toolchains, link, runs}: what an accept with this `cwd` would do."""
        return self._ask("GET", f"/v1/dispatches/{_segment(dispatch_id)}/folder?{urlencode({'cwd': cwd})}")

    def accept(self, dispatch_id: str, *, cwd: str | None = None) -> D:
        """Return {dispatch_id, decision: "accepted", ok, approval, cwd}."""
        body = {"cwd": cwd} if cwd is not None else {}
        return self._ask("POST", f"/v1/dispatches/{_segment(dispatch_id)}/accept", body)

    def decline(self, dispatch_id: str, *, reason: str | None = None) -> D:
        """Decline a dispatch and end its run, if any; return {dispatch_id, decision: "declined", ok}."""
        body = {"reason": reason} if reason is not None else {}
        return self._ask("POST", f"/v1/dispatches/{_segment(dispatch_id)}/decline", body)

    def held(self, dispatch_id: str, *, after: int | None = None, limit: int | None = None) -> D:
        """Return {dispatch_id, events, more, next}: of a held result, its events as they would be sent."""
        return self._ask("GET", f"/v1/dispatches/{_segment(dispatch_id)}/held{_query(after=after, limit=limit)}")

    def release(self, dispatch_id: str, *, without: Sequence[str] = ()) -> D:
        """Send a held result, without some of reply, trace, files; return {dispatch_id, status, without, ok}."""
        return self._ask("POST", f"/v1/dispatches/{_segment(dispatch_id)}/release", {"without": list(without)})

    def cancel(self, dispatch_id: str, *, reason: str | None = None) -> D:
        """Return {dispatch_id, status, ok}."""
        body = {"reason": reason} if reason is not None else {}
        return self._ask("POST", f"/v1/dispatches/{_segment(dispatch_id)}/cancel", body)

    def changes(
        self, dispatch_id: str, *, attempt: int | None = None, limit: int | None = None, after: int | None = None
    ) -> D:
        """Return {…, state, landed, entries: [{number, path, change, marks, …}], more, next, network}: what a run did.

        `network`: [{host, use}], what it sent to and received from each host.
        """
        query = _query(attempt=attempt, limit=limit, after=after)
        return self._ask("GET", f"/v1/dispatches/{_segment(dispatch_id)}/changes{query}")

    def change(self, dispatch_id: str, number: int, *, attempt: int | None = None) -> D:
        """Return one of these entries with its `diff`."""
        query = _query(attempt=attempt)
        return self._ask("GET", f"/v1/dispatches/{_segment(dispatch_id)}/changes/{number}{query}")

    def apply(self, dispatch_id: str, **choice: object) -> D:
        """Put changes in place; return {dispatch_id, ok, landed, refused, left, irreversible}.

        `choice`: the members of ApplyBody in peer/api/bodies.py.
        """
        return self._ask("POST", f"/v1/dispatches/{_segment(dispatch_id)}/apply", choice)

    def discard(self, dispatch_id: str, *, attempt: int | None = None) -> D:
        """Throw away the changes that wait; return {dispatch_id, attempt, ok}."""
        body: Document = {} if attempt is None else {"attempt": attempt}
        return self._ask("POST", f"/v1/dispatches/{_segment(dispatch_id)}/discard", body)

    def undo(self, dispatch_id: str, *, attempt: int | None = None) -> D:
        """Take back what was put in place last; return {dispatch_id, ok, undone, refused}."""
        body: Document = {} if attempt is None else {"attempt": attempt}
        return self._ask("POST", f"/v1/dispatches/{_segment(dispatch_id)}/undo", body)

    def approvals_page(self, *, limit: int | None = None, before: str | None = None) -> D:
        """Return {approvals:[{dispatch_id, request_id, tool, input, resolved_path, diff, …}], more, next}.

        Oldest first, 50 without `limit`. `next`, of the last one, is then the next page's `before`.
        """
        return self._ask("GET", f"/v1/approvals{_query(limit=limit, before=before)}")

    def approve(self, dispatch_id: str, request_id: str, *, grant: str = "once", rule: int | None = None) -> D:
        """Allow one waiting call (`grant`: once, session, always); return {…, decision, ok, rule?}.

        `rule`: the index of one of the call's `rule_choices`; None is the narrowest.
        """
        body: Document = {"decision": "allow", "grant": grant}
        if rule is not None:
            body["rule"] = rule
        return self._ask("POST", f"/v1/approvals/{_segment(dispatch_id)}/{_segment(request_id)}", body)

    def deny(self, dispatch_id: str, request_id: str, *, note: str | None = None, decline_dispatch: bool = False) -> D:
        """Deny one waiting call, with `decline_dispatch` the whole dispatch; return what `approve` returns."""
        body: Document = {"decision": "deny"}
        if note is not None:
            body["note"] = note
        if decline_dispatch:
            body["decline_dispatch"] = True
        return self._ask("POST", f"/v1/approvals/{_segment(dispatch_id)}/{_segment(request_id)}", body)

    def page_code(self) -> D:
        """Return {code, port, expires_in}: a code that signs in to the local page once."""
        return self._ask("POST", "/v1/page/codes")

    def reload(self) -> D:
        """Make the daemon read config.json again."""
        return self._ask("POST", "/v1/reload")


def _query(**wanted: str | int | None) -> str:
    """Return what is given as a query, with its question mark; "" for nothing."""
    given = urlencode({name: value for name, value in wanted.items() if value is not None})
    return f"?{given}" if given else ""


def _segment(text: str) -> str:
    return quote(text, safe="")
