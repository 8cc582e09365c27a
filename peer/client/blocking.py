"""The blocking client of the daemon's loopback API, and the routes that both clients share. No display, no store.

`Routes` defines each route once; `Client` here (blocking) and `AsyncClient` in on_trio.py differ in how a request is
sent. Methods return the decoded documents of the API; their shapes are in each docstring. An error response is raised
as the same error (peer.protocol.errors); if no daemon is running, DaemonUnreachable.
"""

from __future__ import annotations

import json
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, Literal, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from peer.client.http import EndedEarly, EventParser, Response, request
from peer.machine.state_folder import StateFolder, read_private
from peer.protocol.documents import Direction as Direction  # programs take these from here
from peer.protocol.documents import Document as Document
from peer.protocol.errors import DispatchError, Internal, NotFound, Unavailable, WithUsualFix, from_code

HOST = "127.0.0.1"
DEFAULT_PORT = 8001
CONNECT_SECONDS = 5.0
BROKER_HEADER = "X-Dispatch-Broker"
DIGEST_HEADER = "X-Dispatch-Token-Digest"
ANSWER_SECONDS = 90.0
"""Longer than any route takes: an invitation waits for the broker, which waits up to 60 s for a mail server."""

D = TypeVar("D")


class DaemonUnreachable(WithUsualFix, Unavailable):
    """No daemon answers on this machine: none is running, or none with this state folder."""

    usual_fix = "start it: `dispatch-daemon`"


class Event(NamedTuple):
    """One event of a dispatch: kind (trace, state, approval, end), its id in the stream, and its document."""

    kind: str
    id: str
    data: Document


class SignIn(NamedTuple):
    """The sign-in that a request is meant for: a broker's URL in normal form, a token. What is empty, is not named."""

    broker: str
    token: str

    def headers(self) -> dict[str, str]:
        """Return the headers by which the daemon recognises another sign-in than its own, which it refuses (409)."""
        named = {}
        if self.broker:
            named[BROKER_HEADER] = quote(self.broker, safe=":/[]%")
        if self.token:
            import hashlib  # loads OpenSSL, which the other requests do not need

            named[DIGEST_HEADER] = hashlib.sha256(self.token.encode()).hexdigest()
        return named


NO_SIGN_IN = SignIn("", "")
"""Whatever the daemon uses."""


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
        unconfirmed: bool = False,
    ) -> D:
        """Return {status, trust_link_id, peer, scopes}, or without tools {status: "scope_choice_required", menu, …}.

        `scope` contains any of tools, mcp_servers, paths, approval, max_per_day, expires, results, and budget with any
        of {minutes, turns, usd, output_bytes}. With `unconfirmed` nothing is granted; the answer describes the grant:
        {status: "confirmation_required", peer, scopes, widens, powerful, fingerprint, verified}.
        """
        body = {"token": token, **scope, "confirm_unverified": confirm_unverified}
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
        unconfirmed: bool = False,
        preview: bool = False,
    ) -> D:
        """Apply `changes` (fields as in `accept_invitation`, also remove_rule); return what `trust` returns.

        With `unconfirmed`, changes that permit more are not made, with `preview` none; the answer is then that of
        `accept_invitation`.
        """
        body = {**changes, "confirm_unverified": confirm_unverified}
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
        """Return {cwd, obstacles}: where an accept with this `cwd` would run, and what will not work there."""
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
        """Return {…, state, landed, entries: [{number, path, change, marks, …}], more, next}: what a run changed."""
        query = _query(attempt=attempt, limit=limit, after=after)
        return self._ask("GET", f"/v1/dispatches/{_segment(dispatch_id)}/changes{query}")

    def change(self, dispatch_id: str, number: int, *, attempt: int | None = None) -> D:
        """Return one of these entries with its `diff`."""
        query = _query(attempt=attempt)
        return self._ask("GET", f"/v1/dispatches/{_segment(dispatch_id)}/changes/{number}{query}")

    def apply(self, dispatch_id: str, **choice: object) -> D:
        """Put changes in place; return {dispatch_id, ok, landed, refused, left, irreversible}.

        `choice`: the members of ApplyBody.
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


class Client(Routes[Document]):
    """Blocking client of the daemon that uses this state folder. Reads files and connects only when called."""

    def __init__(self, folder: StateFolder, sign_in: SignIn = NO_SIGN_IN) -> None:
        self._folder = folder
        self._sign_in = sign_in

    def approvals(self) -> list[Document]:
        """Return every tool call that waits for an answer, as `approvals_page` has them, read page by page."""
        page = self.approvals_page()
        found: list[Document] = page["approvals"]
        while page["more"]:
            page = self.approvals_page(before=page["next"])
            found += page["approvals"]
        return found

    def events(self, dispatch_id: str, *, after: str = "") -> Iterator[Event]:
        """Yield a dispatch's events, past and then live, until `end`; reconnect if the stream breaks.

        `after` is the id of the last event seen. Raises DaemonUnreachable if reconnecting fails repeatedly.
        """
        stream = EventStream(dispatch_id, after)
        while True:
            failure: DispatchError | None = None
            try:
                for event in self._stream(stream):
                    yield event
                    if event.kind == "end":
                        return
            except (DaemonUnreachable, Interrupted) as error:
                failure = error
            time.sleep(stream.pause(failure))

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Document:
        return as_object(self._exchange(method, path, body))

    def _exchange(self, method: str, path: str, body: Mapping[str, object] | None) -> object:
        port, token = find_daemon(self._folder)
        response = Response()
        with _connected(port) as connection:
            connection.sendall(encode(method, path, port=port, token=token, body=body, sign_in=self._sign_in))
            while not response.complete:
                response.feed(connection.recv(65536))
        return decode(response)

    def _stream(self, stream: EventStream) -> Iterator[Event]:
        port, token = find_daemon(self._folder)
        response = Response()
        with _connected(port) as connection:
            connection.settimeout(None)  # events may be hours apart; a daemon that dies closes the connection
            connection.sendall(stream.request(port, token, self._sign_in))
            while not response.complete:
                response.feed(connection.recv(65536))
                if response.status == 200:
                    yield from stream.read(response)
        if response.status != 200:
            decode(response)


class EventStream:
    """The state of following one dispatch across connections: the last event, and the number of failures in a row."""

    PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
    """Seconds between attempts; enough for a daemon to be restarted by hand or by a service manager."""

    def __init__(self, dispatch_id: str, after: str = "") -> None:
        self._path = f"/v1/dispatches/{_segment(dispatch_id)}/events?follow=1"
        self._parser = EventParser(after)
        self._failures = 0

    def request(self, port: int, token: str, sign_in: SignIn = NO_SIGN_IN) -> bytes:
        """Return the bytes of the request that continues after the last event seen."""
        self._parser = EventParser(self._parser.last_id)
        headers = {"Accept": "text/event-stream", **sign_in.headers()}
        if self._parser.last_id:
            headers["Last-Event-ID"] = self._parser.last_id
        return request("GET", self._path, host=f"{HOST}:{port}", token=token, body=None, headers=headers)

    def read(self, response: Response) -> Iterator[Event]:
        """Yield the events that are complete."""
        for kind, identity, data in self._parser.feed(response.take()):
            self._failures = 0
            yield Event(kind, identity, as_object(_json(data)))

    def pause(self, failure: DispatchError | None) -> float:
        """Return the seconds to wait before the next attempt; raise after the last one."""
        if self._failures >= len(self.PAUSES):
            raise failure or Interrupted()
        self._failures += 1
        return self.PAUSES[self._failures - 1]


class Interrupted(WithUsualFix, Unavailable):
    """The daemon closed the connection before answering: the request may or may not have been executed."""

    usual_fix = "is `dispatch-daemon` still running? then look at `dispatch inbox`, `dispatch sent`"

    def __init__(self) -> None:
        super().__init__("the local daemon closed the connection before it had answered")


HostedBy = Literal["daemon", "session"]


class Daemon(NamedTuple):
    """The node that serves a state folder. `hosted_by`: `dispatch-daemon`, or the MCP server of an agent's session."""

    port: int
    token: str
    pid: int
    hosted_by: HostedBy


def find_daemon(folder: StateFolder) -> tuple[int, str]:
    """Return (port, token) of the daemon that uses this state folder. Raises DaemonUnreachable."""
    found = look_for_daemon(folder)
    return found.port, found.token


def look_for_daemon(folder: StateFolder) -> Daemon:
    """Return the daemon that uses this state folder. Raises DaemonUnreachable.

    If the process in daemon.json is gone, the daemon died: another program may have its port by now, and must not
    receive the token.
    """
    try:
        token = read_private(folder.local_token, limit=4096).decode("ascii", "replace").strip()
    except NotFound:
        raise DaemonUnreachable(f"no local daemon token at {folder.local_token}") from None
    try:
        document = json.loads(read_private(folder.daemon_json))
        port, pid = int(document["port"]), int(document["pid"])
        hosted_by: HostedBy = "session" if document.get("hosted_by") == "session" else "daemon"
    except (NotFound, OSError, ValueError, KeyError, TypeError, RecursionError):
        raise unreachable(DEFAULT_PORT) from None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError, OverflowError):
        # The process is gone, or the pid now belongs to another user; a daemon of this folder always runs as this one.
        raise unreachable(port) from None
    return Daemon(port, token, pid, hosted_by)


def unreachable(port: int) -> DaemonUnreachable:
    """Return the error for a daemon that does not accept connections on this port."""
    return DaemonUnreachable(f"the local daemon isn't reachable on {HOST}:{port}")


def not_answered() -> Unavailable:
    """Return the error for a daemon that accepted the request and does not answer."""
    return Unavailable(
        f"the local daemon has not answered within {ANSWER_SECONDS:.0f} s", fix="look at daemon.log in the state folder"
    )


def encode(
    method: str,
    path: str,
    *,
    port: int,
    token: str,
    body: Mapping[str, object] | None,
    sign_in: SignIn = NO_SIGN_IN,
) -> bytes:
    """Return the bytes of one API request."""
    raw = None if body is None else json.dumps(body).encode()
    return request(method, path, host=f"{HOST}:{port}", token=token, body=raw, headers=sign_in.headers())


def decode(response: Response) -> object:
    """Return the document of a complete response. Raises the error in an error response."""
    text = response.take().decode("utf-8", "replace")
    if 200 <= response.status < 300:
        return _json(text) if text else {}
    try:
        error = json.loads(text)["error"]
        raise from_code(int(error["code"]), str(error["message"]), str(error.get("fix", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Internal(f"the local daemon answered {response.status} without saying why") from None


def as_object(document: object) -> Document:
    """Return the document if it is an object. Raises Internal."""
    if not isinstance(document, dict):
        raise Internal("the local daemon answered with something that is not an object")
    return document


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise Internal("the local daemon answered with something that is not JSON") from None


@contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    """Connect to the daemon; errors of the connection inside the block are raised as ours."""
    try:
        connection = socket.create_connection((HOST, port), timeout=CONNECT_SECONDS)
    except OSError:
        raise unreachable(port) from None
    with connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            yield connection
        except TimeoutError:
            raise not_answered() from None
        except (OSError, EndedEarly):
            raise Interrupted() from None


def _query(**wanted: str | int | None) -> str:
    """Return what is given as a query, with its question mark; "" for nothing."""
    given = urlencode({name: value for name, value in wanted.items() if value is not None})
    return f"?{given}" if given else ""


def _segment(text: str) -> str:
    return quote(text, safe="")
