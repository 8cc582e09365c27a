"""The loopback client: finding the daemon, one request, errors, event streams that break and resume."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from peer.client import http
from peer.client.blocking import Client, DaemonUnreachable, EventStream, Interrupted, find_daemon
from peer.client.http import EndedEarly, EventParser, Response
from peer.client.on_trio import AsyncClient
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Conflict, DispatchError, Forbidden, Internal, NotFound
from tests.cli.fake_api import FakeApi, Stream, page_of_calls, running

ID = "0198c0de-1111-7222-8333-4444abcd5555"


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


@pytest.fixture
def api(folder: StateFolder) -> Iterator[FakeApi]:
    with running(folder) as fake:
        yield fake


def test_no_token_means_no_daemon(folder: StateFolder) -> None:
    with pytest.raises(DaemonUnreachable) as caught:
        Client(folder).whoami()
    assert caught.value.to_json() == {
        "code": 503,
        "message": f"no local daemon token at {folder.path}/local.token",
        "fix": "start it: `dispatch-daemon`",
    }


def test_nobody_on_the_port(folder: StateFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    folder.write_private(folder.local_token, b"t")
    folder.write_private(folder.daemon_json, json.dumps({"pid": os.getpid(), "port": port}).encode())
    with pytest.raises(DaemonUnreachable, match=rf"isn't reachable on 127\.0\.0\.1:{port}"):
        Client(folder).whoami()


def test_the_token_is_not_shown_to_whoever_has_the_port_of_a_dead_daemon(folder: StateFolder) -> None:
    with running(folder) as api:
        dead = subprocess.Popen([sys.executable, "-c", "pass"])
        dead.wait()
        folder.write_private(folder.daemon_json, json.dumps({"pid": dead.pid, "port": api.port}).encode())
        with pytest.raises(DaemonUnreachable):
            Client(folder).whoami()
        assert api.asked == []


@pytest.mark.parametrize("document", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "port": 1}'])
def test_a_broken_daemon_json_is_no_daemon(folder: StateFolder, document: str) -> None:
    folder.write_private(folder.local_token, b"t")
    folder.write_private(folder.daemon_json, document.encode())
    with pytest.raises(DaemonUnreachable, match=r"127\.0\.0\.1:8001"):
        Client(folder).whoami()


def test_a_token_that_others_can_read_is_not_used(folder: StateFolder, api: FakeApi) -> None:
    folder.local_token.chmod(0o644)
    with pytest.raises(Forbidden):
        Client(folder).whoami()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_document_comes_back_whole(folder: StateFolder, api: FakeApi, chunked: bool) -> None:
    api.chunked = chunked
    document = {"user_id": "álice@example.org", "list": list(range(5000))}
    api["GET /v1/whoami"] = document
    assert Client(folder).whoami() == document
    assert api.asked[0].headers["host"] == f"127.0.0.1:{api.port}"
    assert "origin" not in api.asked[0].headers


def test_a_proxy_in_the_environment_is_not_asked(
    folder: StateFolder, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    api["GET /v1/whoami"] = {"user_id": "a"}
    assert Client(folder).whoami() == {"user_id": "a"}


def test_errors_are_what_the_daemon_said(folder: StateFolder, api: FakeApi) -> None:
    api.fails(f"POST /v1/dispatches/{ID}/accept", 409, "nothing pending: it was declined", "re-check `inbox`")
    with pytest.raises(Conflict) as caught:
        Client(folder).accept(ID)
    assert (caught.value.message, caught.value.fix) == ("nothing pending: it was declined", "re-check `inbox`")
    api["GET /v1/whoami"] = (500, ["?"])
    with pytest.raises(Internal, match="status 500"):
        Client(folder).whoami()


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"X" * 100_000,
    ],
)
def test_another_program_on_the_port_is_named_as_such(folder: StateFolder, api: FakeApi, raw: bytes) -> None:
    api.raw = raw
    with pytest.raises(Internal):
        Client(folder).whoami()


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}"])
def test_a_daemon_that_dies_in_the_middle(folder: StateFolder, api: FakeApi, raw: bytes) -> None:
    api.raw = raw
    with pytest.raises(Interrupted):
        Client(folder).whoami()


def test_what_is_asked_is_what_was_given(folder: StateFolder, api: FakeApi) -> None:
    api["POST /v1/dispatches"] = {"dispatch_id": ID}
    Client(folder).send("bob@example.org", "do\n√", files=["/a"], meta={"k": "v"}, expires=60)
    assert api.asked[0].body == {
        "recipient": "bob@example.org",
        "task": "do\n√",
        "expires": 60,
        "meta": {"k": "v"},
        "files": ["/a"],
    }
    api["GET /v1/trust/a/b ü"] = {"peer": "x"}
    assert Client(folder).trust("a/b ü") == {"peer": "x"}
    api["GET /v1/dispatches"] = {"dispatches": []}
    Client(folder).dispatches("received", limit=5)
    assert api.asked[-1].query == {"direction": "received", "limit": "5"}


EVENTS = [("state", {"n": 1}), ("trace", {"n": 2}), ("approval", {"n": 3}), ("end", {"n": 4})]


def test_a_stream_that_breaks_resumes_after_the_last_event(
    folder: StateFolder, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventStream, "PAUSES", (0.0, 0.0))
    api.streams[ID] = [Stream(EVENTS, cut=1), Stream(EVENTS, cut=1), Stream(EVENTS, cut=3), Stream(EVENTS)]
    events = list(Client(folder).events(ID))
    assert [(e.kind, e.id, e.data["n"]) for e in events] == [
        ("state", "1", 1),
        ("trace", "2", 2),
        ("approval", "3", 3),
        ("end", "4", 4),
    ]
    assert [asked.headers.get("last-event-id") for asked in api.asked] == [None, "1", "1", "3"]


def test_a_stream_ends_when_the_daemon_stays_away(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventStream, "PAUSES", (0.0, 0.0))
    with running(folder) as api:
        api.streams[ID] = [Stream(EVENTS, cut=2)]
        stream = Client(folder).events(ID)
        assert [next(stream).id, next(stream).id] == ["1", "2"]
    with pytest.raises(DaemonUnreachable):
        next(stream)


def test_a_stream_that_is_refused_raises_at_once(folder: StateFolder, api: FakeApi) -> None:
    with pytest.raises(NotFound):
        list(Client(folder).events(ID))
    assert len(api.asked) == 1


async def test_trio_asks_the_same(folder: StateFolder, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventStream, "PAUSES", (0.0, 0.0))
    client = AsyncClient(folder)
    api["GET /v1/whoami"] = {"user_id": "a"}
    api["GET /v1/approvals"] = lambda asked: (
        page_of_calls({"request_id": "s"}) if asked.query else page_of_calls({"request_id": "r"}, next_page="d r")
    )
    assert await client.whoami() == {"user_id": "a"}
    assert await client.approvals() == [{"request_id": "r"}, {"request_id": "s"}]
    api.streams[ID] = [Stream(EVENTS, cut=2), Stream(EVENTS)]
    async with aclosing(client.events(ID)) as events:
        assert [event.id async for event in events] == ["1", "2", "3", "4"]
    with pytest.raises(NotFound):
        await client.trust("nobody")
    folder.local_token.unlink()
    with pytest.raises(DaemonUnreachable):
        await client.whoami()


async def test_cancelling_a_follower_lets_go_of_the_connection(folder: StateFolder, api: FakeApi) -> None:
    gate = threading.Event()
    api.streams[ID] = [Stream(EVENTS, gates={2: gate})]
    seen = []
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            async with aclosing(AsyncClient(folder).events(ID)) as events:
                async for event in events:
                    seen.append(event.id)
                    nursery.cancel_scope.cancel()

        nursery.start_soon(follow)
    gate.set()
    assert seen == ["1"]


def response_bytes(body: bytes, cuts: list[int]) -> bytes:
    chunks = [body[i:j] for i, j in zip([0, *cuts], [*cuts, len(body)], strict=True) if i < j]
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5), st.integers(1, 17))
def test_a_chunked_answer_is_the_same_however_it_arrives(body: bytes, cuts: list[int], step: int) -> None:
    raw = response_bytes(body, sorted(min(cut, len(body)) for cut in cuts))
    response, taken = Response(), b""
    for start in range(0, len(raw), step):
        response.feed(raw[start : start + step])
        taken += response.take()
    assert (response.complete, taken) == (True, body)


@given(st.binary(max_size=300))
def test_any_bytes_give_an_answer_or_one_of_our_errors(raw: bytes) -> None:
    response = Response()
    try:
        response.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + raw)
        response.feed(raw)
        response.feed(b"")
    except DispatchError as error:
        assert error.code == 500
    except EndedEarly:
        assert not response.complete


def test_a_chunk_has_no_negative_size() -> None:
    with pytest.raises(Internal):
        Response().feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nabcdefgh")


LINES = st.text(alphabet=st.characters(blacklist_characters="\r\n\0", codec="utf-8"), max_size=20)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), LINES), max_size=5),
    st.integers(1, 9),
    st.sampled_from(["\n", "\r\n"]),
)
def test_events_are_the_same_however_they_arrive(events: list[tuple[str, str]], step: int, end: str) -> None:
    text = "".join(
        f"event: {kind}{end}id: {number}{end}data: {data}{end}{end}" for number, (kind, data) in enumerate(events)
    )
    raw = text.encode()
    parser = EventParser()
    found = [event for i in range(0, len(raw), step) for event in parser.feed(raw[i : i + step])]
    assert [(e.kind, e.id, e.data) for e in found] == [(k, str(n), d) for n, (k, d) in enumerate(events)]


def test_an_event_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BODY", 1_000)
    parser = EventParser()
    for _ in range(3):  # of one event, not of all
        assert len(list(parser.feed(b"data: " + b"x" * 600 + b"\n\n"))) == 1
    for endless in (b"data: " + b"x" * 90 + b"\n", b"data:\n", b"x" * 90):
        parser, fed = EventParser(), 0
        with pytest.raises(Internal, match="too long"):
            while fed < 20_000:
                list(parser.feed(endless))
                fed += len(endless)


def test_a_token_is_not_shown_to_another_users_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.write_private(folder.local_token, b"secret")
    folder.write_private(folder.daemon_json, b'{"pid": 4242, "port": 8001}')

    def not_ours(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", not_ours)
    with pytest.raises(DaemonUnreachable):
        find_daemon(folder)
