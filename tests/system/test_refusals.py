"""Bad input from people and from peers: the code, a sentence, a fix, and nothing half done left behind.

The peer that misbehaves is a real contact's device whose keys we hold, speaking libp2p to a real daemon by hand.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from peer.client.blocking import Client
from peer.machine import identity
from peer.mesh import blobs as blob_protocol
from peer.mesh.courier.wire import (
    COURIER,
    MAX_FRAME,
    MAX_REPLY,
    AcknowledgementFrame,
    StatementFrame,
    decode,
    encode,
)
from peer.mesh.host import MeshHost
from peer.mesh.streams import Stream
from peer.protocol import names
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.content import MAX_FILE_BYTES, Content, FileRef
from peer.protocol.errors import DispatchError
from peer.protocol.signing import open_statement, sign_by_device
from peer.protocol.statements import Cancel, Dispatch, Result
from peer.trust.invitation_address import build_address
from tests.conftest import HANG
from tests.system.world import Document, Person, World, connected, eventually

Pair = tuple[Person, Person]
Act = Callable[[Client], object]
ODD = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe\u2066\u200b\r\x00"
"""A terminal's title, colours, text that runs backwards, an invisible space, a return, a null."""


def kept(person: Person) -> tuple[object, ...]:
    """Everything that a refused request must leave as it was."""
    # Not what waits for somebody of another test, who is away for good.
    to_the_pair = (
        "SELECT 1 FROM outbox JOIN contact_devices USING (device) WHERE user_id LIKE 'alice%' OR user_id LIKE 'bob%'"
    )
    eventually(lambda: not person.rows(to_the_pair), what="what was said before to be heard")
    tables = ("dispatches", "outbox", "files", "approvals", "edges", "invitations", "edge_rules")
    return *(person.count(table) for table in tables), person.blobs()


def refused(act: Callable[[], object], what: str = "") -> DispatchError:
    try:
        done = act()
    except DispatchError as raised:
        error = raised
    else:
        raise AssertionError(f"{what} was not refused: {done}")
    assert error.message and "\n" not in error.message and "Traceback" not in error.message
    return error


# --- what people ask of their own daemon


def test_payloads_that_cannot_be_sent(pair: Pair, tmp_path: Path) -> None:
    alice, bob = pair

    def file(name: str, size: int) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)
        return str(path)

    good = file("good", 10)
    cases: dict[str, tuple[int, Document]] = {
        "51 files": (413, {"files": [file(f"many/{n}", 1) for n in range(51)]}),
        "a byte too many": (413, {"files": [good, file("big", MAX_FILE_BYTES + 1)]}),
        "an empty file": (422, {"files": [good, file("empty", 0)]}),
        "no such file": (404, {"files": [good, str(tmp_path / "absent")]}),
        "a folder": (422, {"files": [good, str(tmp_path)]}),
        "a device": (422, {"files": [good, "/dev/zero"]}),
        "not absolute": (422, {"files": [good, "good"]}),
        "one name twice": (422, {"files": [good, file("other/good", 5)]}),
        "a name of control characters": (422, {"files": [good, file("a\x1b[31m", 5)]}),
        "too short a life": (422, {"expires": 59}),
        "too long a life": (422, {"expires": 86_401}),
        "too long a task": (413, {"task": "x" * 100_001}),
        "an empty task": (422, {"task": ""}),
        "too many pairs": (413, {"meta": {str(n): "" for n in range(33)}}),
        "too long a link": (413, {"links": ["https://" + "x" * 500]}),
        "too many links": (413, {"links": ["https://a"] * 11}),
        "too long a project": (413, {"project": "x" * 201}),
        "too long a background": (413, {"background": "x" * 20_001}),
        "an unknown parent": (404, {"parent": "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"}),
        "another device": (422, {"device": alice.client.whoami()["device_id"], "files": [good]}),
        "no contact": (403, {"recipient": "nobody@example.org", "files": [good]}),
        "myself": (422, {"recipient": alice.email}),
        "no address": (422, {"recipient": "no body@"}),
        "no alias": (404, {"recipient": "bobby"}),
    }
    before = kept(alice)
    seen = {}
    for name, (code, change) in cases.items():
        arguments = {"recipient": bob.email, "task": "Do it", **change}
        error = refused(partial(alice.client.send, **arguments), name)
        seen[name] = (error.code, error.message, error.fix)
        assert error.code == code, (name, seen[name])
        assert kept(alice) == before, name
    assert not [name for name, (_, _, fix) in seen.items() if not fix], "every refusal says what to do"


def test_scopes_that_cannot_be_granted(pair: Pair) -> None:
    alice, bob = pair
    link = bob.projects / "link"
    if not link.is_symlink():
        link.symlink_to(bob.home)
    before = bob.client.trust(alice.email)
    cases: dict[str, Document] = {
        "an unknown tool": {"tools": "Read,Nope"},
        "a tool of dispatch": {"tools": "Read,mcp__dispatch__dispatch_send"},
        "an unknown server": {"mcp_servers": "nowhere"},
        "the home": {"paths": str(bob.home)},
        "above the home": {"paths": "/"},
        "the state folder": {"paths": str(bob.state.path)},
        "inside the state folder": {"paths": str(bob.state.blobs)},
        "a link to the home": {"paths": str(link)},
        "no such folder": {"paths": str(bob.projects / "absent")},
        "an unknown mode": {"approval": "maybe"},
        "no number": {"max_per_day": "many"},
        "in the past": {"expires": "2020-01-01"},
        "an unknown rule": {"remove_rule": 4711},
    }
    for name, change in cases.items():
        error = refused(partial(bob.client.edit_trust, alice.email, change))
        assert error.code in (403, 404, 422) and error.fix, (name, error.to_json())
        assert bob.client.trust(alice.email) == before, name


def test_names_of_nothing(pair: Pair) -> None:
    alice, bob = pair
    absent = "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"
    elsewhere = build_address("https://elsewhere.example", token=absent, digest=bytes(32), secret=bytes(32))
    before = kept(bob)
    cases: list[tuple[int, Act]] = [
        (404, lambda c: c.accept(absent)),
        (404, lambda c: c.decline(absent)),
        (404, lambda c: c.cancel(absent)),
        (404, lambda c: c.dispatch(absent)),
        (409, lambda c: c.approve(absent, "call")),
        (404, lambda c: c.withdraw_invitation(absent)),
        (404, lambda c: c.accept_invitation(absent, {"tools": "Read"})),
        (404, lambda c: c.decline_invitation(absent)),
        (404, lambda c: c.trust("nobody@example.org")),
        (404, lambda c: c.revoke_trust("nobody@example.org")),
        (404, lambda c: c.name_contact("nobody@example.org", "Nobody")),
        (422, lambda c: c.name_contact(alice.email, "alice@home")),
        (404, lambda c: c.add_address("nobody@example.org", "/ip4/192.0.2.7/tcp/1")),
        (422, lambda c: c.add_address(alice.email, "alice.example.org")),
        (404, lambda c: c.remove_address(alice.email, "/ip4/192.0.2.7/tcp/1")),
        (422, lambda c: c.accept_invitation("rubbish", {"tools": "Read"})),
        (422, lambda c: c.accept_invitation(f"{bob.broker.url}/i#{absent}.cut", {"tools": "Read"})),
        (422, lambda c: c.accept_invitation(f"dispatch:invitation:{absent}:cut", {"tools": "Read"})),
        (422, lambda c: c.invite("no address")),
        (422, lambda c: c.invite(bob.email)),
        (409, lambda c: c.accept_invitation(elsewhere, {})),
    ]
    for n, (code, act) in enumerate(cases):
        error = refused(partial(act, bob.client))
        assert error.code == code, (n, error.to_json())
        assert error.fix, (n, error.to_json())
    assert kept(bob) == before
    # The edge that is there already is named, and no invitation made.
    error = refused(lambda: alice.client.invite(bob.email))
    assert error.code == 409 and bob.email in error.message


def test_no_daemon_and_no_sign_in(world: World, tmp_path: Path) -> None:
    nobody = Person("nobody", tmp_path / "nobody", world.broker)
    error = nobody.refused("send", "bob@example.org", "Hello")
    assert error["code"] == 401 and "no token" in error["message"] and "dispatch login" in error["fix"]
    nobody.sign_in()
    error = nobody.refused("send", "bob@example.org", "Hello")
    assert error["code"] == 503 and "no local daemon token at" in error["message"]
    assert "dispatch-daemon" in error["fix"]
    # A daemon that died leaves its token and its port behind.
    nobody.state.write_private(nobody.state.local_token, b"token")
    nobody.state.write_private(nobody.state.daemon_json, b'{"pid": 4194304, "port": 9}')
    error = nobody.refused("approvals")
    assert error["code"] == 503 and "isn't reachable on 127.0.0.1:9" in error["message"]


def test_what_is_shown_of_others_cannot_play_with_the_terminal(pair: Pair) -> None:
    alice, bob = pair
    sent = alice.client.send(
        bob.email, f"Task {ODD}", project=f"p {ODD}"[:100], deliverable=ODD, background=ODD, meta={"k": ODD}, links=[]
    )["dispatch_id"]
    alice.state_of(sent, "pending")
    assert bob.client.dispatch(sent)["task"] == f"Task {ODD}", "the words arrive verbatim"
    for arguments in (("inbox",), ("status", sent)):
        shown = bob.cli(*arguments)
        assert "Task" in shown
        assert not set(shown) & set("\x1b\x07\x00\r\u202e\u2066\u200b"), (arguments, shown)
    bob.client.decline(sent, reason=f"No {ODD}")
    alice.state_of(sent, "declined")
    assert not set(alice.cli("status", sent)) & set("\x1b\x07\x00\r\u202e\u2066\u200b")


# --- what a contact's device says to a daemon


class Peer:
    """A contact's device in our hands, connected to a daemon."""

    def __init__(self, who: identity.Identity, host: MeshHost, to: Person) -> None:
        self.who = who
        self.host = host
        self.to = to.client.whoami()
        self.heard: list[Any] = []
        self.bell = trio.Event()
        self._stream: Stream | None = None
        self._seq = 0
        self._lock = trio.Lock()
        host.handle(COURIER, self._hear)

    async def _hear(self, stream: Stream) -> None:
        while True:
            frame = decode(await stream.receive(max_bytes=MAX_FRAME))
            if not isinstance(frame, StatementFrame):
                continue
            self.heard.append(open_statement(frame.raw).statement)
            self.bell.set()
            self.bell = trio.Event()
            await stream.write(encode(AcknowledgementFrame(frame.seq, Acknowledgement(200))), deadline=HANG)

    async def told(self, wanted: Callable[[Any], bool]) -> Any:
        with trio.fail_after(HANG):
            while True:
                bell = self.bell
                if found := [each for each in self.heard if wanted(each)]:
                    return found[0]
                await bell.wait()

    async def say(self, raw: bytes) -> Acknowledgement:
        """Send one statement; return its answer."""
        async with self._lock:
            if self._stream is None:
                await self.host.connect(self.to["device_id"], self.to["daemon"]["addresses"])
                self._stream = await self.host.open_stream(self.to["device_id"], COURIER)
                self._seq = 0
            await self._stream.write(encode(StatementFrame(self._seq, raw)), deadline=HANG)
            frame = None
            with trio.fail_after(HANG):
                while not isinstance(frame, AcknowledgementFrame):
                    frame = decode(await self._stream.receive(max_bytes=MAX_REPLY))
            assert frame.seq == self._seq
            self._seq += 1
            return frame.acknowledgement

    def dispatch(
        self, edge_id: str, *, task: str = "by hand", files: tuple[FileRef, ...] = (), **change: Any
    ) -> Dispatch:
        now = time.time_ns() // 1_000_000
        fields: dict[str, Any] = {
            "issuer_user": self.who.user_id,
            "issuer_device": self.who.device,
            "audience_user": self.to["user_id"],
            "audience_device": self.to["device_id"],
            "id": names.uuid7(now, os.urandom(10)),
            "created": now,
            "expires": now + 600_000,
            "edge_id": edge_id,
            "content": Content(task=task, files=files),
        }
        return Dispatch(**(fields | change))

    def sign(self, statement: Any) -> bytes:
        return sign_by_device(statement, self.who.seed).raw


@pytest.fixture(scope="module")
def eve(world: World) -> Person:
    """Somebody whose device is a contact of Bob's, her daemon stopped: the tests speak for her."""
    (bob,) = [person for person in world.people if person.name == "bob"]
    eve = world.person("eve")
    # A token alone, as in a mail, proves nobody's key: what is powerful asks once more.
    token = eve.client.invite(bob.email)["token"]
    error = bob.refused("accept-invitation", token, "--tools", "Read,Write")
    assert error["code"] == 403 and eve.client.whoami()["fingerprint"] in error["message"], error
    assert bob.edge(eve, "incoming") is None
    bob.cli("accept-invitation", token, "--tools", "Read,Write", "--yes-unverified")
    assert connected(eve, bob)["verified"] is False
    eve.stop()
    return eve


@asynccontextmanager
async def speaking_as(person: Person, to: Person) -> AsyncIterator[Peer]:
    who = identity.load(person.state)
    host = MeshHost(who.seed, listen=["/ip4/127.0.0.1/tcp/0"], admits=lambda _: True)
    peer = Peer(who, host, to)
    async with host.running():
        yield peer


def edge_of(bob: Person, peer: Person) -> str:
    edge = bob.edge(peer, "incoming")
    assert edge is not None
    return str(edge["trust_link_id"])


async def test_statements_that_are_not_what_they_say(pair: Pair, eve: Person) -> None:
    alice, bob = pair
    mine, hers = edge_of(bob, eve), edge_of(bob, alice)
    before = kept(bob)
    async with speaking_as(eve, bob) as peer:
        now = time.time_ns() // 1_000_000
        other = MeshHost(seed := os.urandom(32), listen=[], admits=lambda _: True)
        plain = peer.dispatch(mine)
        raw = peer.sign(plain)
        huge = FileRef("a", MAX_FILE_BYTES + 1, bytes(32))

        def files(*names: str) -> tuple[FileRef, ...]:
            return tuple(FileRef(name, 1, hashlib.sha256(name.encode()).digest()) for name in names)

        cases: dict[str, tuple[int, bytes]] = {
            "another user's name": (403, peer.sign(replace(plain, issuer_user=alice.email))),
            "another device, which signed it": (
                403,
                sign_by_device(replace(plain, issuer_device=other.peer_id), seed).raw,
            ),
            "to somebody else": (403, peer.sign(replace(plain, audience_user=alice.email))),
            "to another device": (403, peer.sign(replace(plain, audience_device=other.peer_id))),
            "another's edge": (403, peer.sign(peer.dispatch(hers))),
            "no edge": (403, peer.sign(peer.dispatch(plain.id))),
            "from the future": (422, peer.sign(peer.dispatch(mine, created=now + 360_000, expires=now + 900_000))),
            "expired": (410, peer.sign(peer.dispatch(mine, created=now - 120_000, expires=now - 1))),
            "59 seconds": (422, peer.sign(peer.dispatch(mine, expires=now + 59_000, created=now))),
            "86,401 seconds": (422, peer.sign(peer.dispatch(mine, expires=now + 86_401_000, created=now))),
            "an upper folder": (422, peer.sign(peer.dispatch(mine, files=files("../x")))),
            "an absolute name": (422, peer.sign(peer.dispatch(mine, files=files("/etc/x")))),
            "a hidden turn": (422, peer.sign(peer.dispatch(mine, files=files("a\u202eb")))),
            "one name twice": (422, peer.sign(peer.dispatch(mine, files=files("a", "a")))),
            "too large a file": (413, peer.sign(peer.dispatch(mine, files=(huge,)))),
            "an empty file": (422, peer.sign(peer.dispatch(mine, files=(FileRef("a", 0, bytes(32)),)))),
            "an empty task": (422, peer.sign(peer.dispatch(mine, task=""))),
            "not to be sent by courier": (415, identity.load(eve.state).device_set),
            "not CBOR": (422, b"\xff" * 100),
            "nothing": (422, b""),
        }
        for name, (code, statement) in cases.items():
            answer = await peer.say(statement)
            assert answer.code == code and answer.message and answer.fix, (name, answer)
        for place in range(0, len(raw), max(1, len(raw) // 40)):
            altered = bytearray(raw)
            altered[place] ^= 1
            answer = await peer.say(bytes(altered))
            assert 400 <= answer.code < 500, (place, answer)
        # The words that the broken ones carried were not taken for theirs: the true one is still new.
        assert kept(bob) == before
        first = await peer.say(raw)
        assert first.code == 200
        assert await peer.say(raw) == first, "the same bytes, the same answer"
        again = await peer.say(peer.sign(replace(plain, content=Content(task="other words"))))
        assert again.code == 409, again
        assert bob.client.dispatch(plain.id)["task"] == "by hand"
        # Cancelled before it came: buried.
        unborn = peer.dispatch(mine)
        letter = Cancel(
            **{
                name: getattr(unborn, name)
                for name in ("issuer_user", "issuer_device", "audience_user", "audience_device")
            },
            id=names.uuid7(now, os.urandom(10)),
            created=now,
            dispatch_id=unborn.id,
        )
        assert (await peer.say(peer.sign(letter))).code == 200
        assert (await peer.say(peer.sign(unborn))).code == 410
        # Somebody else's dispatch is not hers to cancel.
        theirs = await trio.to_thread.run_sync(lambda: alice.client.send(bob.email, "Mine")["dispatch_id"])
        await trio.to_thread.run_sync(lambda: alice.state_of(theirs, "pending"))
        letter = replace(letter, id=names.uuid7(now, os.urandom(10)), dispatch_id=theirs)
        assert (await peer.say(peer.sign(letter))).code == 403
        assert bob.client.dispatch(theirs)["status"] == "pending"


async def test_files_that_are_not_what_was_named(pair: Pair, eve: Person, tmp_path: Path) -> None:
    _, bob = pair
    mine = edge_of(bob, eve)
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"other bytes")
    absent = hashlib.sha256(b"absent").digest()

    async def lookup(_peer: str, _statement: bytes, digest: bytes) -> Path | None:
        return None if digest == absent else wrong

    async with speaking_as(eve, bob) as peer:
        blob_protocol.serve(peer.host, lookup)
        for digest in (absent, hashlib.sha256(b"named bytes").digest()):
            statement = peer.dispatch(mine, files=(FileRef("a", 11, digest),))
            answer = await peer.say(peer.sign(statement))
            assert answer.code == 202, answer
            result = await peer.told(partial(_is_about, statement.id))
            assert isinstance(result, Result) and (result.status, result.code) == ("failed", 422), result
            assert result.reason and bob.client.dispatch(statement.id)["status"] == "rejected"
        assert not [name for name in bob.blobs() if name.endswith(".part")]


async def test_frames_without_end(pair: Pair, eve: Person) -> None:
    _, bob = pair
    mine = edge_of(bob, eve)
    async with speaking_as(eve, bob) as peer:
        for flood in (b"\xff" * 64, b"\x80\x80\x80\x80\x01" + b"x" * 4096, b"\xff\xff\xff\x7f"):
            await peer.host.connect(peer.to["device_id"], peer.to["daemon"]["addresses"])
            stream = await peer.host.open_stream(peer.to["device_id"], COURIER)
            with pytest.raises(DispatchError), trio.fail_after(HANG):
                await stream.write(flood, deadline=HANG)
                await stream.receive(max_bytes=1024, deadline=HANG)
        assert (await peer.say(peer.sign(peer.dispatch(mine)))).code == 200
    assert bob.up


async def test_revoked_and_unknown_devices(pair: Pair, eve: Person, world: World) -> None:
    _, bob = pair
    mine = edge_of(bob, eve)
    bob.client.pause_trust(eve.email)
    async with speaking_as(eve, bob) as peer:
        assert (await peer.say(peer.sign(peer.dispatch(mine)))).code == 403
        bob.client.revoke_trust(eve.email)
        assert (await peer.say(peer.sign(peer.dispatch(mine)))).code == 403
        # A stranger's device is turned away right after Noise, and only counted.
        before = bob.client.whoami()["daemon"]["refused_connections"]
        stranger = MeshHost(os.urandom(32), listen=[], admits=lambda _: True)
        async with stranger.running():
            with trio.fail_after(HANG), pytest.raises(DispatchError):
                await stranger.connect(peer.to["device_id"], peer.to["daemon"]["addresses"])
                await stranger.open_stream(peer.to["device_id"], COURIER)
        await trio.to_thread.run_sync(
            lambda: eventually(
                lambda: bob.client.whoami()["daemon"]["refused_connections"] > before, what="the refusal to be counted"
            )
        )
    assert bob.up


def _is_about(dispatch_id: str, statement: object) -> bool:
    return getattr(statement, "dispatch_id", "") == dispatch_id
