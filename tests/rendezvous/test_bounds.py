"""Bounds on bodies, headers, rates and memory, the form of errors, and the database's refusals."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from peer.broker.client import LoginToken
from peer.protocol.errors import Invalid, RateLimited
from rendezvous import web
from rendezvous.connections import SPARED_DESCRIPTORS, ConnectionLimits
from rendezvous.limits import Limits
from rendezvous.mail import Mailer, SmtpSettings
from rendezvous.proxies import proxy_networks
from rendezvous.ratelimit import Buckets, TooMany, network_of
from rendezvous.storage.limits import StorageLimits
from tests.conftest import HANG
from tests.rendezvous.world import DAY_MS, People, Person, Running, people_at, running_broker


async def exchange(url: str, *pieces: bytes) -> bytes:
    """Send raw bytes and return all that comes back."""
    host, port = url.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        for piece in pieces:
            await stream.send_all(piece)
        received = b""
        with trio.fail_after(HANG):
            async for data in stream:
                received += data
        return received


async def test_a_body_that_is_too_large_is_refused_unread(broker: Running) -> None:
    head = (
        b"POST /v1/login/device HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    )
    said = await exchange(broker.url, head + b"Content-Length: 999999999999\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413") and b"the limit is 393216" in said
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    said = await exchange(broker.url, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 7)
    assert said.startswith(b"HTTP/1.1 413")


async def test_a_body_that_does_not_come_is_given_up(broker: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BODY_SECONDS", 0.3)
    head = (
        b"POST /v1/login/device HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    )
    said = await exchange(broker.url, head + b"Content-Length: 100\r\n\r\n{")
    assert said.startswith(b"HTTP/1.1 422") and b"did not arrive" in said


async def test_endless_headers_are_refused(broker: Running) -> None:
    said = await exchange(broker.url, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000)
    assert b" 431 " in said[:20] or b" 400 " in said[:20] or said == b""


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/nothing", 404), ("GET", "/v1/presence", 405), ("PATCH", "/v1/invitations", 405), ("GET", "/v1/", 404)],
)
async def test_every_refusal_is_problem_details(broker: Running, method: str, path: str, code: int) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        response = await http.request(method, broker.url + path)
    assert response.status_code == code
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == problem["code"] == code and problem["title"] and problem["detail"] and problem["fix"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert response.headers["cache-control"] == "no-store"
    assert "server" not in response.headers


async def test_open_connections_leave_room_for_others(tmp_path: Path) -> None:
    """Seen to fail without either limit, and where a connection ends later than its client."""

    async def held(host: str, count: int, stack: AsyncExitStack) -> list[trio.SocketStream]:
        """Open connections from one address; return those that the broker kept."""
        kept = []
        for _ in range(count):
            stream = await trio.open_tcp_stream(at, port, local_address=host)
            with trio.fail_after(HANG), suppress(trio.BrokenResourceError):
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if await stream.receive_some():
                    kept.append(await stack.enter_async_context(stream))
                    continue
            await stream.aclose()
        return kept

    limits = ConnectionLimits(total=4, per_network=2)
    async with running_broker(tmp_path / "broker", limits=limits) as broker, AsyncExitStack() as stack:
        at, port = "127.0.0.1", int(broker.url.rpartition(":")[2])
        first = await held("127.0.0.2", 4, stack)
        assert len(first) == 2
        assert len(await held("127.0.0.3", 1, stack)) == 1
        assert len(await held("127.0.0.4", 2, stack)) == 1
        counted = broker.broker.metrics.value
        refused = [counted("dispatch_refused_total", reason=f"connections{of}") for of in ("_per_network", "")]
        assert refused == [2, 1]
        await first[0].aclose()
        with trio.fail_after(HANG):
            while not await held("127.0.0.5", 1, stack):  # until the broker has noticed
                await trio.lowlevel.checkpoint()
    proxied = running_broker(tmp_path / "proxied", dev=False, limits=limits, proxies=("127.0.0.2",))
    async with proxied as broker, AsyncExitStack() as stack:
        at, port = "127.0.0.1", int(broker.url.rpartition(":")[2])
        assert len(await held("127.0.0.2", 3, stack)) == 3  # the operator's proxy
        assert len(await held("127.0.0.3", 6, stack)) == 1  # the rest of all


async def test_no_answer_redirects_to_the_host_that_a_request_names(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path / "b", dev=False) as running,
        httpx.AsyncClient(trust_env=False, verify=False) as http,
    ):
        for path in ("/login/", "/login/mail/", "/health/", "//login", "/v1/presence/", "/v1/invitations/x/answer/"):
            response = await http.get(running.url + path, headers={"host": "evil.example"})
            assert response.status_code in (404, 405) and "location" not in response.headers, path
            assert "evil.example" not in response.text


async def test_a_body_of_another_type_is_refused(broker: Running) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        for content, kind in (
            (b"{}", "text/plain"),
            (b"{", "application/json"),
            (b"\xff", "application/json"),
            (b"[" * 100_000, "application/json"),
        ):
            headers = {"content-type": kind}
            response = await http.post(f"{broker.url}/v1/login/token", content=content, headers=headers)
            assert response.status_code == 422
        for document in ({}, {"device_code": 1}, {"device_code": "x" * 101}, {"device_code": "x", "y": 1}, [1]):
            response = await http.post(f"{broker.url}/v1/login/token", json=document)
            assert response.status_code == 422
        response = await http.post(
            f"{broker.url}/v1/login/token",
            content=b'{"device_code": "\\ud800"}',
            headers={"content-type": "application/json"},
        )
        assert response.json()["error"] == "expired_token"


async def test_requests_in_flight_are_bounded(broker: Running, people: People) -> None:
    """Seen to fail without the bound, and where a request that is over still counts."""
    alice = await people.signed_in("alice@example.org")
    inside = broker.broker
    with trio.fail_after(HANG):
        while inside.requests_in_progress:  # a response is there before its request is over
            await trio.sleep(0.01)
    inside.settings = replace(inside.settings, limits=Limits(requests_at_once=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: alice.client.invitations(wait=3))
        with trio.fail_after(HANG):
            while not len(inside.changes):
                await trio.sleep(0.01)
        assert (await alice.raw("GET", "/health")).status_code == 503
        assert inside.metrics.value("dispatch_refused_total", reason="requests_at_once") == 1
        nursery.cancel_scope.cancel()
    with trio.fail_after(HANG):
        while (await alice.raw("GET", "/health")).status_code != 200:  # until the broker's wait is over
            await trio.sleep(0.05)


async def test_reads_of_one_account_are_limited(broker: Running, people: People) -> None:
    """Whatever address they come from. Seen to fail without it."""
    alice, bob = await people.signed_in("alice@example.org"), await people.signed_in("bob@example.org")
    broker.broker.by_account = Buckets(per_minute=1, burst=5)
    for _ in range(5):
        await alice.client.invitations()
    with pytest.raises(RateLimited):
        await alice.client.invitations()
    await bob.client.invitations()  # not of another


async def test_no_connection_becomes_a_web_socket(broker: Running) -> None:
    asks = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    asks += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    assert (await exchange(broker.url, asks)).startswith(b"HTTP/1.1 200")


async def test_writes_of_one_device_are_limited(broker: Running, people: People) -> None:
    alice, bob = await people.signed_in("alice@example.org"), await people.signed_in("bob@example.org")
    broker.broker.writes_by_device = Buckets(per_minute=1, burst=5)
    codes = []
    for _ in range(6):
        response = await alice.raw("DELETE", "/v1/presence", alice.statement("presence.withdraw", {"seq": 0}))
        codes.append(response.status_code)
    assert 429 not in codes[:5] and codes[5] == 429
    assert int(response.headers["retry-after"]) >= 1 and response.json()["fix"]
    await bob.client.withdraw_presence(seq=1)  # not of another
    broker.clock.move(seconds=60)
    await alice.client.withdraw_presence(seq=2)


@pytest.mark.parametrize("proxies", [("127.0.0.1", "10.0.0.0/8"), ("127.0.0.0/8", "10.1.2.3")])
async def test_one_address_is_limited_and_a_proxy_s_clients_apart(tmp_path: Path, proxies: tuple[str, ...]) -> None:
    async with (
        running_broker(tmp_path / "b", dev=False, proxies=proxies) as running,
        httpx.AsyncClient(trust_env=False, verify=False) as http,
    ):

        async def limited(lines: Callable[[int], list[str]]) -> bool:
            """Whether six requests, each with these lines, count as one client's. All six are there otherwise."""
            running.broker.by_address = Buckets(per_minute=1, burst=5)
            codes = []
            for number in range(6):
                headers = [("x-forwarded-for", line) for line in lines(number)]
                codes.append((await http.get(f"{running.url}/nothing", headers=headers)).status_code)
            assert codes in ([404] * 6, [404] * 5 + [429])
            return codes[-1] == 429

        assert await limited(lambda n: ["198.51.100.1"])
        assert not await limited(lambda n: [f"198.51.100.{n}"])
        # What the client itself put in front of the proxy's entry does not help, on the same line or on others.
        assert await limited(lambda n: [f"203.0.113.{n}, 198.51.100.1"])
        assert await limited(lambda n: [f"203.0.113.{n}", "198.51.100.1"])
        assert await limited(lambda n: [f"203.0.113.{n}", f"203.0.113.{n + 9}", "198.51.100.1"])
        assert await limited(lambda n: [f"203.0.113.{n}, 198.51.100.1, 10.1.2.3"])  # through two proxies
        assert await limited(lambda n: [f"203.0.113.{n}", "198.51.100.1, 10.1.2.3"])
        assert await limited(lambda n: [f"203.0.113.{n}", "198.51.100.1", "10.1.2.3"])
        assert await limited(lambda n: [f"10.1.2.3, 203.0.113.{n}, 198.51.100.1"])
        assert not await limited(lambda n: [f"198.51.100.{n}", "10.1.2.3"])
        # What is no address, or nothing, is no client of its own.
        assert await limited(lambda n: [f"unknown{n}"])
        assert await limited(lambda n: [f"203.0.113.{n}, junk{n}"])
        assert await limited(lambda n: [f"203.0.113.{n}", ""])
        assert await limited(lambda n: [f"203.0.113.{n}," + ", 10.1.2.3" * 40])


@pytest.mark.parametrize("proxies", [(), ("192.0.2.1",)])
async def test_a_header_that_no_trusted_proxy_wrote_is_not_believed(tmp_path: Path, proxies: tuple[str, ...]) -> None:
    async with (
        running_broker(tmp_path / "b", dev=False, proxies=proxies) as running,
        httpx.AsyncClient(trust_env=False, verify=False) as http,
    ):
        running.broker.by_address = Buckets(per_minute=1, burst=5)
        codes = [
            (await http.get(f"{running.url}/nothing", headers={"x-forwarded-for": f"203.0.113.{n}"})).status_code
            for n in range(6)
        ]
    assert codes == [404] * 5 + [429]


@pytest.mark.parametrize("named", ["", "proxy.example", "192.0.2.1/8", "0.0.0.0/0", "::/0"])
def test_who_is_no_proxy_is_refused(named: str) -> None:
    with pytest.raises(Invalid, match="prox"):
        proxy_networks([named])


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "broker.example"},
        {"host": "broker.example:8800"},
        {"host": "127.0.0.1.nip.io"},
        {"host": "["},
        {"host": ""},
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-host": "localhost"},
        {"forwarded": "for=127.0.0.1"},
        {"via": "1.1 tunnel"},
        {"x-real-ip": "127.0.0.1"},
    ],
)
async def test_a_development_broker_is_not_reached_through_anything(
    broker: Running, people: People, headers: dict[str, str]
) -> None:
    alice = await people.new("alice@example.org")
    prompt = await alice.client.login_device(alice.who.device_set)
    form = {"user_code": prompt.user_code}
    response = await alice.http.post(f"{broker.url}/login", data=form, headers=headers)
    assert response.status_code == 403 and "without --dev" in response.json()["fix"]
    assert not isinstance(await alice.client.login_token(prompt.device_code), LoginToken)


@given(
    per_minute=st.integers(1, 6000),
    burst=st.integers(1, 20),
    steps=st.lists(st.integers(0, 5_000), min_size=1, max_size=60),
)
def test_a_bucket_never_gives_more_than_burst_and_rate(per_minute: int, burst: int, steps: list[int]) -> None:
    buckets, now, taken = Buckets(per_minute=per_minute, burst=burst), 0, 0
    for step in steps:
        now += step
        try:
            buckets.take("x", now)
            taken += 1
        except TooMany as error:
            # It tells the truth about when: then, one is given.
            Buckets.take(buckets, "x", now + error.retry_after * 1000)
            now += error.retry_after * 1000
            taken += 1
        assert taken <= burst + now * per_minute / 60_000 + 1e-6


def test_a_bucket_is_empty_after_its_burst_and_never_fuller() -> None:
    """Seen to fail where nothing is refused, and where a bucket goes on filling while nobody takes from it."""
    buckets = Buckets(per_minute=60, burst=3)
    for now in (0, 3_600_000):
        for _ in range(3):
            buckets.take("x", now)
        with pytest.raises(TooMany):
            buckets.take("x", now)


def test_there_are_no_more_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail with the number that was wanted."""
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 200))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    assert ConnectionLimits().within_descriptors().total == 200 - SPARED_DESCRIPTORS
    assert ConnectionLimits(total=10).within_descriptors().total == 10
    assert raised == [(200, 200), (100, 200)]


def test_a_clock_set_back_gives_nothing_for_free() -> None:
    buckets = Buckets(per_minute=1, burst=1)
    buckets.take("x", 10_000_000)
    with pytest.raises(RateLimited):
        buckets.take("x", 0)


def test_the_memory_of_buckets_is_bounded() -> None:
    buckets = Buckets(per_minute=1, burst=1, max_keys=10)
    for number in range(1000):
        buckets.take(str(number), 0)
    assert len(buckets) == 10


def test_the_bucket_that_was_used_last_is_forgotten_last() -> None:
    buckets = Buckets(per_minute=1, burst=1, max_keys=2)
    for key in ("alice", "bob"):
        buckets.take(key, 0)
    with pytest.raises(TooMany):
        buckets.take("alice", 0)
    buckets.require("carol", 0)  # takes nothing, and so takes no place
    buckets.take("carol", 0)
    with pytest.raises(TooMany):
        buckets.require("alice", 0)
    buckets.take("bob", 0)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("x" * 1000, "unknown"),
    ],
)
def test_what_counts_as_one_client(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_expired_rows_are_purged(tmp_path: Path) -> None:
    async with running_broker(tmp_path / "b") as running, people_at(running, tmp_path / "p") as people:
        alice, bob = await people.signed_in("alice@example.org"), await people.signed_in("bob@example.org")
        posted = await alice.client.post_invitation(alice.signed_invitation("bob@example.org"))
        await bob.client.answer(posted.token, kind="declined", sealed={alice.who.device: b"x"})
        await alice.client.put_presence(seq=1, expires=running.clock() + 60_000, box=b"x")
        await alice.client.login_device(alice.who.device_set)

        def left() -> dict[str, int]:
            tables = running.tables()
            return {
                name: len(tables[name]) for name in ("logins", "nonces", "presence", "invitations", "answers", "users")
            }

        await running.broker.storage.purge(running.clock())
        before = left()
        assert before["logins"] == 1 and before["answers"] == 1 and before["presence"] == 1 and before["nonces"] >= 5
        await running.broker.storage.purge(running.clock() + DAY_MS)
        assert left() == {"logins": 0, "nonces": 0, "presence": 0, "invitations": 1, "answers": 1, "users": 2}
        await running.broker.storage.purge(running.clock() + 31 * DAY_MS)
        assert left()["answers"] == 0


async def test_health(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    await alice.client.post_invitation(alice.signed_invitation("bob@example.org"))
    health = await alice.client.health()
    assert (health.origin, health.dev, health.mail) == (broker.url, True, False)


async def test_a_client_that_stops_reading_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response larger than the socket buffers, not read: it is dropped after a while, and the broker can stop."""
    monkeypatch.setattr("rendezvous.listening.STALLED_MS", 500)
    monkeypatch.setattr("rendezvous.web.problem", lambda _error: Response(b"x" * 30_000_000))
    with socket.socket() as stalled, trio.fail_after(HANG):
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with running_broker(tmp_path / "b") as running, people_at(running, tmp_path / "p") as people:
            alice = await people.new("alice@example.org")
            host, port = running.url.removeprefix("http://").split(":")
            stalled.connect((host, int(port)))
            stalled.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while not running.broker.metrics.value("dispatch_http_requests_total", status="200"):
                await trio.sleep(0.01)
            await alice.client.health()  # others are served


async def test_a_slow_request_delays_nobody(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    host, port = broker.url.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as slow:
        await slow.send_all(b"POST /v1/login/device HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        await slow.send_all(b"Content-Length: 100\r\n\r\n{")
        await alice.client.invitations()
        assert not broker.broker.metrics.value(
            "dispatch_http_requests_total", status="422"
        )  # the slow one is not given up yet: nobody waited for it


async def test_nobody_keeps_somebody_else_from_signing_in(tmp_path: Path) -> None:
    """Sign-ins that wait are bounded for one user from one address, not for the user: that would lock the user out."""
    kept = StorageLimits(open_sign_ins_from_one=3, open_sign_ins=4)
    unused = SmtpSettings(host="127.0.0.1", port=1, sender="dispatch@example.org")
    async with (
        running_broker(tmp_path / "b", dev=False, mailer=Mailer(unused), proxies=("127.0.0.1",), kept=kept) as running,
        people_at(running, tmp_path / "p") as people,
    ):
        mallory, alice = await people.new("alice@example.org"), await people.new("alice@example.org")

        async def ask(person: Person, address: str) -> int:
            arguments = {"email": "alice@example.org", "device_set": person.who.device_set}
            response = await person.http.post(
                f"{running.url}/v1/login/device",
                json=person.statement("login", arguments),
                headers={"x-forwarded-for": address},
            )
            return response.status_code

        assert [await ask(mallory, "203.0.113.1") for _ in range(4)] == [200, 200, 200, 429]
        assert await ask(alice, "203.0.113.2") == 200
        assert await ask(alice, "203.0.113.2") == 200  # in all, there are four: one of Mallory's makes room
        assert [len(running.tables()["logins"]), await ask(mallory, "203.0.113.1")] == [4, 200]
        running.clock.move(seconds=600)
        assert await ask(alice, "203.0.113.2") == 200
