"""The blocking client of the daemon's loopback API, and what on_trio.py shares with it: finding the daemon, requests,
responses, the event stream. The routes are in routes.py. No display, no store.

An error response is raised as the same error (peer.protocol.errors); if no daemon is running, DaemonUnreachable.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple
from urllib.parse import quote

from peer.client.http import EndedEarly, EventParser, Response, request
from peer.client.routes import Routes
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
        self._path = f"/v1/dispatches/{quote(dispatch_id, safe='')}/events?follow=1"
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

    usual_fix = "check that `dispatch-daemon` is running, then look at `dispatch inbox` and `dispatch sent`"

    def __init__(self) -> None:
        super().__init__("the local daemon closed the connection before it answered")


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
        f"the local daemon did not answer within {ANSWER_SECONDS:.0f} s", fix="look at daemon.log in the state folder"
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
        raise Internal(f"the local daemon answered with status {response.status} and no error message") from None


def as_object(document: object) -> Document:
    """Return the document if it is an object. Raises Internal."""
    if not isinstance(document, dict):
        raise Internal("the local daemon's answer is not a JSON object")
    return document


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise Internal("the local daemon's answer is not JSON") from None


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
