"""Asking a router over sockets: what is asked, by which way, and that one that means harm gets nothing from it."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest
import trio

from peer.mesh.port_mapping import mappings, pcp, upnp
from peer.mesh.port_mapping.mappings import LEASE, SHORTEST, Mapping, Surrounding
from peer.protocol.errors import DispatchError, Invalid, Unavailable
from tests.conftest import HANG
from tests.mesh.port_mapping.fakes import OWN, WAN, FakeIgd, FakePcp, an_address

NONCE = bytes(range(12))
PORT = 4001


async def add(gateway: IPv4Address, known: Mapping | None = None) -> Mapping:
    with trio.fail_after(HANG):
        return await mappings.add(Surrounding(gateway, OWN), PORT, nonce=NONCE, known=known)


async def remove(mapping: Mapping) -> None:
    with trio.fail_after(HANG):
        await mappings.remove(mapping, nonce=NONCE)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here waits for a router that does not answer for as long as a device would."""
    monkeypatch.setattr(pcp, "TRIES", (0.05, 0.05))
    monkeypatch.setattr(upnp, "SEARCH_SECONDS", 0.3)
    monkeypatch.setattr(upnp, "SEARCH_PAUSE", 0.05)


# --- PCP and NAT-PMP


async def test_pcp_maps_renews_and_ends() -> None:
    async with FakePcp(external=40_000, seconds=3600).running() as gateway:
        mapping = await add(gateway.address)
        assert (mapping.internal, mapping.external, mapping.seconds) == (PORT, 40_000, 3600)
        assert await add(gateway.address, mapping) == mapping
        await remove(mapping)
    first, again, end = gateway.requests
    assert [request[:2] for request in gateway.requests] == [b"\2\1"] * 3
    assert [struct.unpack(">I", request[4:8])[0] for request in gateway.requests] == [LEASE, LEASE, 0]
    assert [struct.unpack(">H", request[42:44])[0] for request in gateway.requests] == [PORT, 40_000, 0]
    assert first[24:36] == again[24:36] == end[24:36] == NONCE


async def test_a_gateway_of_nat_pmp_alone_maps_and_ends() -> None:
    async with FakePcp(speaks_pcp=False, external=40_000).running() as gateway:
        mapping = await add(gateway.address)
        assert (mapping.external, mapping.seconds) == (40_000, LEASE)
        await remove(mapping)
    assert gateway.requests[1] == struct.pack(">BBHHHI", 0, 2, 0, PORT, PORT, LEASE)
    assert gateway.requests[3] == struct.pack(">BBHHHI", 0, 2, 0, PORT, 0, 0)


async def test_a_request_that_got_lost_is_sent_again() -> None:
    async with FakePcp(lost=1).running() as gateway:
        assert (await add(gateway.address)).external == PORT
    assert len(gateway.requests) == 2 and gateway.requests[0] == gateway.requests[1]


async def test_a_short_lease_is_not_renewed_without_end() -> None:
    async with FakePcp(seconds=1).running() as gateway:
        assert (await add(gateway.address)).seconds == SHORTEST


def garbage(request: bytes) -> list[bytes]:
    return [b"", b"\2", b"\xff" * 2000, request, bytes(60)] * 10


def nothing_mapped(request: bytes) -> list[bytes]:
    """Success, and port 0."""
    (answer,) = FakePcp().answers(request)
    return [answer[:42] + b"\0\0" + answer[44:]]


def no_time(request: bytes) -> list[bytes]:
    (answer,) = FakePcp().answers(request)
    return [answer[:4] + bytes(4) + answer[8:]]


@pytest.mark.parametrize("answer", [garbage, nothing_mapped, no_time])
async def test_a_hostile_gateway_maps_nothing(answer: object) -> None:
    async with FakePcp(answer=answer).running() as gateway:  # type: ignore[arg-type]
        with pytest.raises(DispatchError):
            await add(gateway.address)
    assert len(gateway.requests) <= len(pcp.TRIES)


async def test_what_comes_from_another_address_is_not_read() -> None:
    """A stranger on the link who knows everything, the asker's port too, answers in place of the gateway."""
    address = an_address()
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as gateway:
        await gateway.bind((str(address), 5351))
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as stranger:
            await stranger.bind((str(an_address()), 5351))

            async def answer() -> None:
                while True:
                    request, sender = await gateway.recvfrom(2000)
                    for datagram in FakePcp().answers(request):
                        await stranger.sendto(datagram, sender)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                with pytest.raises(Unavailable):
                    await add(address)
                nursery.cancel_scope.cancel()


async def test_a_refusal_is_final_for_this_way_and_upnp_is_asked() -> None:
    address = an_address()
    async with FakePcp(address=address, result=2).running(), FakeIgd(address=address).running() as router:
        mapping = await add(address)
    assert mapping.service is not None and router.mapped == {PORT: (str(OWN), PORT, LEASE)}


async def test_nobody_answers() -> None:
    with pytest.raises(Unavailable):
        await add(an_address())


# --- UPnP


@pytest.mark.parametrize("multicast", [False, True], ids=["asked itself", "heard on the link"])
async def test_upnp_maps_renews_and_ends(multicast: bool) -> None:
    async with FakeIgd(multicast=multicast).running() as router:
        mapping = await add(router.address)
        assert (mapping.internal, mapping.external, mapping.seconds) == (PORT, PORT, LEASE)
        assert router.mapped == {PORT: (str(OWN), PORT, LEASE)}
        searched = len(router.spoken)
        assert await add(router.address, mapping) == mapping
        assert [(method, target) for method, target, _ in router.spoken[searched:]] == [("POST", "/ctl")]
        await remove(mapping)
        assert router.mapped == {}


async def test_a_router_that_was_started_anew_is_searched_again() -> None:
    address = an_address()
    async with FakeIgd(address=address).running() as router:
        mapping = await add(address)
    async with FakeIgd(address=address, control="/other").running() as router:
        renewed = await add(address, mapping)
    assert renewed.service != mapping.service and router.mapped == {PORT: (str(OWN), PORT, LEASE)}


async def test_a_port_that_somebody_else_has_is_left_to_them() -> None:
    async with FakeIgd(taken={PORT}).running() as router:
        mapping = await add(router.address)
    assert mapping.internal == PORT and mapping.external >= 49152 and PORT not in router.mapped


async def test_conflicts_without_end_are_a_refusal() -> None:
    async with FakeIgd(error=718).running() as router:
        with pytest.raises(Invalid):
            await add(router.address)
    assert sum(method == "POST" for method, _, _ in router.spoken) == upnp.PORTS_TRIED


async def test_a_router_that_maps_for_ever_alone_maps_nothing() -> None:
    async with FakeIgd(error=725).running() as router:
        with pytest.raises(Invalid):
            await add(router.address)
    assert all(b"<NewLeaseDuration>7200<" in body for method, _, body in router.spoken if method == "POST")


async def test_other_hosts_are_not_asked_whatever_the_router_says() -> None:
    """Its answer, its description and a redirect name somebody else; who is there hears nothing."""
    async with FakeIgd().running() as other:
        there = f"http://{other.address}:{other.port}"
        for router in (
            FakeIgd(location=f"{there}/desc.xml"),
            FakeIgd(control=f"{there}/ctl"),
            FakeIgd(base=f"<URLBase>{there}</URLBase>"),
            FakeIgd(status=302, headers=[("Location", f"{there}/desc.xml")]),
        ):
            async with router.running():
                with pytest.raises(DispatchError):
                    await add(router.address)
        assert other.spoken == [] and other.mapped == {}


async def test_the_answer_of_somebody_else_is_dropped_and_the_gateways_is_waited_for() -> None:
    """Everybody on the link hears the search. They do not get to be the gateway by answering first."""
    async with FakeIgd(multicast=True).running() as other, FakeIgd(multicast=True).running() as router:
        mapping = await add(router.address)
    assert mapping.service is not None and router.mapped and not other.spoken


async def test_somebody_else_does_not_say_where_the_gateway_describes_itself() -> None:
    """They answer first, with a place at the gateway's own address."""
    router = FakeIgd(deaf=1)
    other = FakeIgd(multicast=True, location=f"http://{router.address}:1/desc.xml")
    async with router.running(), other.running():
        mapping = await add(router.address)
    assert mapping.service is not None and router.mapped


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", ""])
async def test_wrong_ports(port: str) -> None:
    async with FakeIgd(location="http://{address}:" + port + "/desc.xml").running() as router:
        with pytest.raises(DispatchError):
            await add(router.address)
    assert router.spoken == []


async def without_end(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<root>")
    while True:
        await stream.send_all(b"<a>" * 10_000)


async def headers_without_end(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"X-A: b\r\n" * 1000)


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def slow(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        await stream.send_all(b"<")
        await trio.sleep(0.01)


async def no_http(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\0\xff" * 100)


async def gone(stream: trio.SocketStream) -> None: ...


async def cut(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<root>")


@pytest.mark.parametrize("raw", [without_end, headers_without_end, silent, slow, no_http, gone, cut])
async def test_hostile_http_ends(raw: object, monkeypatch: pytest.MonkeyPatch) -> None:
    if raw in (silent, slow):
        monkeypatch.setattr(upnp, "EXCHANGE_SECONDS", 0.2)
    async with FakeIgd(raw=raw).running() as router:  # type: ignore[arg-type]
        with pytest.raises(DispatchError):
            await add(router.address)


async def test_a_description_that_is_too_long_is_not_read_whole() -> None:
    async with FakeIgd(description=b"<a/>" + b" " * upnp.MAX_BODY).running() as router:
        with pytest.raises(Unavailable, match="did not end"):
            await add(router.address)


async def test_services_that_are_called_are_bounded() -> None:
    one = f"<service><serviceType>{WAN}</serviceType><controlURL>/ctl</controlURL></service>"
    description = f"<root>{one * 50}</root>".encode()
    async with FakeIgd(description=description, error=501).running() as router:
        with pytest.raises(Invalid):
            await add(router.address)
    assert sum(method == "POST" for method, _, _ in router.spoken) == upnp.SERVICES


async def test_the_fake_router_is_one_for_miniupnpc_too() -> None:
    """A client of somebody else, which libp2p brings along; else the fake might be what our client believes."""
    miniupnpc = pytest.importorskip("miniupnpc")

    def asked(url: str) -> None:
        client = miniupnpc.UPnP()
        client.selectigd(url)
        assert client.addportmapping(PORT, "TCP", str(OWN), PORT, "dispatch", "", LEASE)

    async with FakeIgd().running() as router:
        with trio.fail_after(HANG):
            await trio.to_thread.run_sync(asked, f"http://{router.address}:{router.port}/desc.xml")
    assert router.mapped == {PORT: (str(OWN), PORT, LEASE)}


async def test_answers_to_a_search_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers without end is left as soon as the number is full, not when the time is over."""
    monkeypatch.setattr(upnp, "SEARCH_SECONDS", float("inf"))
    async with FakeIgd(location="http://8.8.8.8/desc.xml").running() as router:
        with pytest.raises(Unavailable):
            await add(router.address)
    # Not all of them need be this router's: one of another test, on the same machine, hears the same multicast.
    assert router.searched and router.spoken == []
