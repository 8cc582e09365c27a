"""The daemon on its own machine: who may call its API, what it refuses to start on, and what a failing disk does."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config

from peer.api.connections import FOR_ONE_OTHER_USER, FOR_OTHER_USERS, MAX_CONNECTIONS, serve_at_most
from peer.api.local_users import can_look_up, uid_of_peer
from peer.api.routes import MAX_STREAMS
from peer.client.blocking import find_daemon
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import DispatchError
from tests.conftest import HANG
from tests.system.world import Person, Program, World, connect, eventually

Pair = tuple[Person, Person]


def call(person: Person, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
    """One raw request with exactly these headers (underscores are dashes); status and document."""
    port, _ = find_daemon(person.state)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG)
    with closing(connection):
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body)), **headers}.items():
            if value:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        connection.send(body)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else {}


def token(person: Person) -> str:
    return f"Bearer {find_daemon(person.state)[1]}"


def kept(connection: socket.socket) -> bool:
    """Whether there is an answer on it, if only that it must not ask."""
    connection.settimeout(HANG)
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        return connection.recv(100) != b""
    except ConnectionError:
        return False


async def test_one_connection_more_than_there_may_be_is_closed() -> None:
    """With an idle time that does not pass. Seen to fail without the bound."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = Config()
    config.keep_alive_timeout = HANG * 2
    with ExitStack() as held:
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_at_most, 3, ASGIWrapper(app), config, listener)
            opened = [held.enter_context(socket.create_connection(listener.getsockname())) for _ in range(5)]
            answered = [await trio.to_thread.run_sync(kept, connection) for connection in opened]
            nursery.cancel_scope.cancel()
    assert answered == [True] * 3 + [False] * 2


OTHERS = """
import os, socket, sys
port, own_uid = int(sys.argv[1]), os.geteuid()
held, kept = [], 0
for uid in (65534, 65533, 65532, 65531, 65530, 65529):
    os.seteuid(uid)
    for _ in range(400 if uid == 65534 else 20):
        held.append(socket.socket())
        held[-1].connect(("127.0.0.1", port))
    os.seteuid(own_uid)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.root
def test_other_users_idle_connections_do_not_keep_the_owner_out(pair: Pair) -> None:
    """400 of one other user and 20 of each of five more: then 29 calls of the owner."""
    if os.geteuid() != 0:
        pytest.skip("becoming other users needs root")
    alice, _ = pair
    port, _ = find_daemon(alice.state)
    with subprocess.Popen(
        [sys.executable, "-c", OTHERS, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as others:
        assert others.stdout is not None and others.stdout.readline() == "held\n"
        with ExitStack() as own:
            for _ in range(MAX_CONNECTIONS - FOR_OTHER_USERS - 40):  # of programs of the owner
                own.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(29):
                assert alice.client.whoami()["user_id"] == alice.email
        others.communicate("")


async def test_places_of_this_user_come_first() -> None:
    """Seen to fail where all users share the places, where one of them has what all others have, and where these have
    as many as they are users."""
    own, opened_by = os.geteuid(), [1001] * 12 + [1002] * 12 + [None] * 12 + [1003] * 12 + [1004] * 12
    opened_by += [os.geteuid()] * 10

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = Config()
    config.keep_alive_timeout = HANG * 2
    uids = iter(opened_by)
    with ExitStack() as held:
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        async with trio.open_nursery() as nursery:
            serving = partial(
                serve_at_most,
                FOR_OTHER_USERS + 9,
                ASGIWrapper(app),
                config,
                listener,
                uid_of=lambda _socket: next(uids),
            )
            await nursery.start(serving)
            answered = []
            for _ in opened_by:
                connection = held.enter_context(socket.create_connection(listener.getsockname()))
                answered.append(await trio.to_thread.run_sync(kept, connection))
            nursery.cancel_scope.cancel()
    got = Counter(uid for uid, kept_open in zip(opened_by, answered, strict=True) if kept_open)
    assert got == {**dict.fromkeys((1001, 1002, None, 1003), FOR_ONE_OTHER_USER), own: 9}
    assert got.total() - got[own] == FOR_OTHER_USERS


def test_who_is_at_the_other_end() -> None:
    assert can_look_up(), "this test is for Linux"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert uid_of_peer(accepted) == os.geteuid()
    assert uid_of_peer(accepted) is None  # it is closed: nobody is there


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
)


def test_http_1_1_is_all_that_is_spoken(pair: Pair, world: World) -> None:
    """Seen to fail with Hypercorn's own protocol: both became HTTP/2, before anything was checked."""
    alice, _ = pair
    broker = int(world.broker.url.rpartition(":")[2])
    for port in (find_daemon(alice.state)[0], broker):
        for opening in (PREFACE, PREFACE.replace(b"2.0", b"3.0"), UPGRADE):
            with socket.create_connection(("127.0.0.1", port), timeout=HANG) as connection:
                connection.sendall(opening)
                received = connection.recv(65536)
            if opening is UPGRADE:
                assert re.match(rb"HTTP/1.1 (200|404) ", received), received[:200]
            else:
                assert received == b"" or received.startswith(b"HTTP/1.1 400 "), received[:200]


def test_connections_are_bounded_and_over_with_their_client(pair: Pair) -> None:
    """Seen to fail without the bound, and where Hypercorn ends a connection, seconds after its client."""
    alice, _ = pair
    port, _ = find_daemon(alice.state)

    def opened(held: ExitStack, count: int) -> list[socket.socket]:
        made = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
        return [connection for connection in made if kept(connection)]

    with ExitStack() as held:
        # Fewer where the machine is so busy that the first of them have been idle for too long.
        assert 0 < len(opened(held, MAX_CONNECTIONS + 20)) <= MAX_CONNECTIONS
    with ExitStack() as held:
        eventually(lambda: opened(held, 1), what="a place")
        assert alice.client.whoami()["user_id"] == alice.email


def test_only_this_users_own_programs_are_heard(pair: Pair) -> None:
    alice, _ = pair
    good = token(alice)
    assert call(alice, "GET", "/v1/whoami", Authorization=good)[0] == 200
    assert call(alice, "GET", "/v1/whoami", Authorization=good, Host="localhost:1")[0] == 200
    cases: list[tuple[int, dict[str, Any]]] = [
        (401, {}),
        (401, {"Authorization": "Bearer wrong"}),
        (401, {"Authorization": good + "x"}),
        (401, {"Authorization": good.removeprefix("Bearer ")}),
        (401, {"Authorization": "Bearer \u00e9"}),
        (403, {"Authorization": good, "Host": "evil.example"}),
        (403, {"Authorization": good, "Host": "127.0.0.1.evil.example:80"}),
        (403, {"Authorization": good, "Host": ""}),
        (403, {"Authorization": good, "Origin": "https://evil.example"}),
        (403, {"Authorization": good, "Origin": "null"}),
        (403, {"Authorization": good, "Sec_Fetch_Site": "cross-site"}),
        (403, {"Authorization": good, "Sec_Fetch_Site": "same-site"}),
    ]
    for code, headers in cases:
        status, document = call(alice, "GET", "/v1/contacts", **headers)
        if headers.get("Host") == "" and status == 400:
            continue  # refused by HTTP itself (RFC 9112, section 3.2)
        assert (status, document["error"]["code"]) == (code, code), (headers, document)
        assert set(document) == {"error"} and document["error"]["message"]
    assert (alice.state.local_token.stat().st_mode & 0o777) == 0o600


def test_no_answer_redirects(pair: Pair) -> None:
    alice, _ = pair
    port, word = find_daemon(alice.state)
    for path in ("/v1/whoami/", "/inbox/", "/v1/dispatches/", "//", "/static/"):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HANG)) as connection:
            connection.request("GET", path, headers={"Host": "localhost:1", "Authorization": f"Bearer {word}"})
            answer = connection.getresponse()
            assert not 300 <= answer.status < 400 and answer.getheader("Location") is None, path


def test_a_wrong_address_is_a_page_for_a_browser_and_an_error_for_a_program(pair: Pair) -> None:
    """Seen to fail: a person saw JSON."""
    port, word = find_daemon(pair[0].state)
    for path, accept, kind in (
        ("/inbx", "text/html,application/xhtml+xml", "text/html; charset=utf-8"),
        ("/dispatches/x/y<b>", "text/html", "text/html; charset=utf-8"),
        ("/inbx", "application/json", "application/json"),
        ("/v1/inbx", "text/html", "application/json"),
    ):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HANG)) as connection:
            connection.request("GET", path, headers={"Accept": accept, "Authorization": f"Bearer {word}"})
            answer = connection.getresponse()
            body = answer.read()
            assert (answer.status, answer.getheader("Content-Type")) == (404, kind), path
            assert "frame-ancestors 'none'" in (answer.getheader("Content-Security-Policy") or "")
            assert (b"Page not found" in body) is kind.startswith("text/html") and b"<b>" not in body


def test_bodies_of_another_form(pair: Pair) -> None:
    alice, bob = pair
    good = token(alice)
    before = alice.count("dispatches")
    send = {"recipient": bob.email, "task": "x"}
    cases: list[tuple[int, str, bytes]] = [
        (413, "/v1/dispatches", json.dumps(send | {"background": "x" * 3_000_000}).encode()),
        (422, "/v1/dispatches", json.dumps(send | {"urgent": True}).encode()),
        (422, "/v1/dispatches", json.dumps({"recipient": bob.email}).encode()),
        (422, "/v1/dispatches", json.dumps(send | {"files": "one"}).encode()),
        (422, "/v1/dispatches", json.dumps(send | {"expires": "60"}).encode()),
        (422, "/v1/dispatches", b"[]"),
        (422, "/v1/dispatches", b'{"recipient": "\xff'),
        (422, "/v1/dispatches", b"[" * 10_000),
        (404, "/v1/nothing", b"{}"),
        (404, "/v1/dispatches/x/y/z", b"{}"),
    ]
    for code, path, body in cases:
        status, document = call(alice, "POST", path, body, Authorization=good)
        assert (status, document["error"]["code"]) == (code, code), (path, body[:80], document)
    for query in ("direction=trash", "limit=0", "limit=1001", "limit=x"):
        assert call(alice, "GET", f"/v1/dispatches?{query}", Authorization=good)[0] == 422
    assert alice.count("dispatches") == before


def test_a_live_view_goes_on_where_it_was(pair: Pair) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will(*({"say": f"line {n}"} for n in range(20)))
    dispatch_id = alice.client.send(bob.email, "Count")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    bob.state_of(dispatch_id, "completed")
    whole = [event for event in bob.client.events(dispatch_id) if event.kind == "trace"]
    assert [event.data["text"] for event in whole] == [f"line {n}" for n in range(20)]
    middle = whole[7].id
    rest = [event for event in bob.client.events(dispatch_id, after=middle) if event.kind == "trace"]
    assert [event.data["text"] for event in rest] == [f"line {n}" for n in range(8, 20)]


def test_a_view_that_nobody_reads_to_the_end_is_given_back(pair: Pair) -> None:
    alice, bob = pair
    dispatch_id = alice.client.send(bob.email, "Wait")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    port, word = find_daemon(bob.state)
    request = (
        f"GET /v1/dispatches/{dispatch_id}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {word}\r\n\r\n"
    ).encode()
    for _ in range(80):  # more than may be open at once
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request)
    with ExitStack() as held:

        def opened() -> bool:
            connection = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=HANG))
            connection.sendall(request)
            return connection.recv(4096).startswith(b"HTTP/1.1 200")

        for _ in range(60):
            eventually(opened, what="the views that were given up to be given back")
        assert [opened() for _ in range(MAX_STREAMS - 60 + 3)] == [True] * (MAX_STREAMS - 60) + [False] * 3


# --- starting


@pytest.fixture
def idle(world: World, tmp_path: Path) -> Iterator[Person]:
    """Somebody signed in on a machine of their own, whose daemon is down."""
    person = Person(f"idle{len(world.people)}", tmp_path / "idle", world.broker)
    world.people.append(person)
    person.sign_in()
    yield person
    person.stop()


def refuses(person: Person, *arguments: str, **environment: str) -> str:
    """Start the daemon, which must refuse; return what it says."""
    log = person.home / "refusal"
    log.unlink(missing_ok=True)
    given = arguments or ("--port", "0", "--listen", "/ip4/127.0.0.1/tcp/0")
    program = Program("peer.programs.daemon", given, person.environment | environment, log)
    assert program.process.wait(HANG) == 1, program.errors()
    assert program.process.stdout is not None
    program.process.stdout.close()
    said = program.errors()
    assert re.match(r"error \d{3}: .+\nfix: .+\n\Z", said), said
    return said


def test_port_taken_and_second_daemon(idle: Person, pair: Pair) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        idle.start("--port", str(port), "--listen", "/ip4/127.0.0.1/tcp/0")
        assert idle.program is not None
        said = idle.program.errors()
        assert f"port {port} is taken" in said and f"pid {os.getpid()}" in said
        document = json.loads(idle.state.daemon_json.read_bytes())
        assert port < document["port"] <= port + 20 and document["pid"] == idle.program.pid
        assert idle.cli("whoami", "--json").json["daemon"]["port"] == document["port"]
        with socket.create_connection(("127.0.0.1", port), timeout=HANG):
            pass  # whoever had the port still has it
    said = refuses(idle)
    assert said.startswith("error 409") and f"pid {idle.program.pid}" in said and str(idle.state.path) in said
    assert idle.client.whoami()["daemon"]["pid"] == idle.program.pid, "the first one lives on"


def test_what_a_daemon_does_not_start_on(idle: Person) -> None:
    state = idle.state
    idle.start()
    idle.stop()
    assert not state.local_token.exists() and not state.daemon_json.exists()

    state.device_key.chmod(0o640)
    said = refuses(idle)
    assert said.startswith("error 403") and "mode 0640" in said and "doctor --fix" in said
    assert idle.refused("whoami")["code"] == 403
    state.device_key.chmod(0o600)

    config = state.config.read_bytes()
    for broken in (b"{", b'{"brokers": 1}'):
        state.write_private(state.config, broken)
        said = refuses(idle)
        assert said.startswith("error 422") and "config.json" in said, said
        assert idle.refused("whoami")["code"] == 422
        assert state.config.read_bytes() == broken, "what a person wrote is left for them to mend"
    state.write_private(state.config, config)

    with closing(sqlite3.connect(state.store)) as db:
        db.execute("PRAGMA user_version = 99")
    content = state.store.read_bytes()
    said = refuses(idle)
    assert said.startswith("error 409") and "99" in said and "update" in said
    assert idle.refused("inbox")["code"] == 409
    assert state.store.read_bytes() == content, "a newer store is not touched"
    with closing(sqlite3.connect(state.store)) as db:
        db.execute("PRAGMA user_version = 1")

    state.store.write_bytes(b"not a database, for sure" * 100)
    said = refuses(idle)
    assert said.startswith("error 503") and "damaged" in said

    # A machine that has not signed in is led through that, unless what it would be led by is broken.
    fresh = StateFolder(idle.home / "nothing-yet")
    fresh.create()
    fresh.write_private(fresh.config, b"{")
    said = refuses(idle, DISPATCH_HOME=str(fresh.path))
    assert said.startswith("error 422") and "config.json" in said and not fresh.daemon_json.exists()


def test_no_program_uses_a_state_folder_that_others_reach(idle: Person) -> None:
    """A 0777 state folder was used in silence, and a store that another user had put there."""
    state = idle.state
    idle.start()
    idle.stop()

    def refused() -> str:
        said = refuses(idle)
        assert said.startswith("error 403"), said
        for command in (("inbox",), ("whoami",), ("config", "list"), ("login", "--no-browser"), ("sent",)):
            assert idle.refused(*command)["code"] == 403, command
        with subprocess.Popen(
            [sys.executable, "-m", "mcp_plugin.main"],
            env=idle.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as mcp:
            assert "so nothing in" in mcp.communicate(timeout=HANG)[1] and mcp.returncode == 1
        row = next(row for row in idle.cli("doctor", "--json", status=1).json["checks"] if row["name"] == "permissions")
        assert row["ok"] is False and row["fix"]
        return said

    for path in (state.path, state.store):
        mode = path.stat().st_mode
        path.chmod(0o777)
        said = refused()
        assert f"{path} can be reached by others (mode 0777)" in said and "doctor --fix" in said
        idle.cli("doctor", "--fix", "--json", status=1)  # the daemon does not run
        assert path.stat().st_mode == mode
    if os.geteuid() == 0:
        os.chown(state.store, 65534, 65534)
        assert f"{state.store} belongs to another user (uid 65534)" in refused()
        os.chown(state.store, 0, 0)
    idle.start()


def test_a_broker_with_another_secret(pair: Pair, world: World) -> None:
    alice, _ = pair
    world.broker.stop()
    world.broker.start(secret="another secret of at least thirty-two bytes")
    try:
        # What only the token opens is refused; a person reads why, and what to do.
        absent = "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"
        error = alice.refused("accept-invitation", absent, "--tools", "Read")
        assert error["code"] == 401 and "DISPATCH_JWT_SECRET" in error["message"], error
        assert "dispatch login" in error["fix"]
        eventually(lambda: alice.client.whoami()["broker_signed_in"] is False, what="whoami to know")
        alice.sign_in()  # the same root at the same address: taken, and the running daemon told
        assert alice.refused("accept-invitation", absent, "--tools", "Read")["code"] == 404
        eventually(lambda: alice.client.whoami()["broker_signed_in"] is True, what="whoami to know")
    finally:
        world.broker.stop()
        world.broker.start()
        alice.sign_in()


# --- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "dispatch-test", str(place)], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.root
def test_a_full_disk(pair: Pair, world: World, small_disk: Path) -> None:
    _, bob = pair
    judy = Person("judy", world.folder / "judy", world.broker, state=small_disk / "state")
    world.people.append(judy)
    judy.sign_in()
    judy.start()
    connect(judy, bob)
    connect(bob, judy)
    try:
        first = judy.client.send(bob.email, "Before")["dispatch_id"]
        judy.state_of(first, "pending")
        waiting = bob.client.send(judy.email, "For the full one")["dispatch_id"]
        bob.state_of(waiting, "pending")
        eventually(lambda: judy.count("outbox") == 0)
        before = (judy.count("dispatches"), judy.count("outbox"), judy.count("files"))

        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 4096)
        taken = 0
        with pytest.raises(DispatchError) as caught:
            for _ in range(300):  # what the log had set aside is used up first
                judy.client.send(bob.email, "x" * 5_000)
                taken += 1
        assert caught.value.code == 503 and "full" in caught.value.message and "space" in caught.value.fix
        attachment = judy.home / "attachment"
        attachment.write_bytes(b"y" * 100_000)
        with pytest.raises(DispatchError) as caught:
            judy.client.send(bob.email, "With a file", files=[str(attachment)])
        assert caught.value.code == 503 and "space" in caught.value.fix
        with pytest.raises(DispatchError) as caught:
            judy.client.accept(waiting)
            raise AssertionError(judy.client.dispatch(waiting)["status"])
        assert caught.value.code == 503
        # Reading goes on, the daemon lives, and no word of a refused step was sent or is kept.
        sent = judy.client.dispatches("sent", limit=500)["dispatches"]
        assert judy.client.dispatch(waiting)["status"] == "pending"
        assert judy.up and judy.blobs() == []
        assert (judy.count("dispatches"), judy.count("files")) == (before[0] + taken, before[2])
        assert judy.count("outbox") <= taken
        late = bob.client.send(judy.email, "z" * 50_000)["dispatch_id"]

        filler.unlink()
        assert len(judy.client.dispatches("sent", limit=500)["dispatches"]) == len(sent) >= before[0] - 1
        bob.state_of(late, "pending")  # what could not be stored was not lost: it came again
        judy.will({"say": "there is room again"})
        judy.client.accept(waiting)
        bob.state_of(waiting, "completed")
        judy.state_of(judy.client.send(bob.email, "After")["dispatch_id"], "pending")
        assert judy.rows("PRAGMA integrity_check") == [("ok",)]
    finally:
        judy.stop()
