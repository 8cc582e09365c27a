"""Hosts on a local network of this process: a link each on 127.0.0.0/8, and multicast that is a function call."""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio
from nacl.public import PrivateKey

from peer.mesh.host import MeshHost, MeshLimits
from peer.mesh.lan import Lan, LanLimits, packets
from peer.mesh.lan.links import Link
from peer.mesh.lan.packets import Seen
from peer.protocol import cose, names
from peer.protocol.relays import rings
from tests.conftest import HANG
from tests.mesh.harness import LOOPBACK, until

NETWORK = ipaddress.ip_network("127.0.0.0/8")
QUICK = LanLimits(between_beacons=0.01, after_them=0.05, between_questions=0.05)


def link_at(ip: str) -> Link:
    return Link(1, ip, NETWORK)


@dataclass
class Wire:
    """The link: everybody who is on it, and what was sent."""

    on: dict[str, trio.MemorySendChannel[tuple[bytes, str]]] = field(default_factory=dict)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    isolated: bool = False
    """As by an access point that keeps its clients apart."""

    def air(self, link: Link) -> WireAir:
        sending, receiving = trio.open_memory_channel[tuple[bytes, str]](math.inf)
        self.on[link.address] = sending
        return WireAir(self, link.address, receiving)

    def send(self, ip: str, packet: bytes) -> None:
        self.sent.append((ip, packet))
        for other, channel in self.on.items():
            if other != ip and not self.isolated:
                channel.send_nowait((packet, ip))

    def beacons(self, ip: str) -> list[Seen]:
        """The beacons that were sent from an address, each once."""
        found = [packets.read(packet) for source, packet in self.sent if source == ip]
        return list(dict.fromkeys(each for each in found if isinstance(each, Seen)))


@dataclass
class WireAir:
    wire: Wire
    ip: str
    receiving: trio.MemoryReceiveChannel[tuple[bytes, str]]

    async def send(self, packet: bytes) -> None:
        self.wire.send(self.ip, packet)

    async def receive(self) -> tuple[bytes, str]:
        return await self.receiving.receive()

    def close(self) -> None:
        self.wire.on.pop(self.ip, None)


@dataclass
class Device:
    host: MeshHost
    lan: Lan
    sealing_key: bytes
    ip: str
    links: list[Link]

    @property
    def id(self) -> str:
        return self.host.peer_id

    @property
    def public(self) -> bytes:
        return bytes(PrivateKey(self.sealing_key).public_key)

    def secret_with(self, other: Device) -> bytes:
        return rings.shared_key(self.sealing_key, other.public)

    def knows(self, *others: Device, told: Sequence[Device] | None = None) -> None:
        """Have these for contacts."""
        tell = others if told is None else told
        self.lan.set_contacts([(each.id, each.public) for each in tell], {each.id: each.public for each in others})


def device(
    wire: Wire,
    number: int,
    *,
    admits: Callable[[str], bool] = lambda _: True,
    limits: LanLimits = QUICK,
    mesh: MeshLimits | None = None,
) -> Device:
    seed, sealing_key, ip = os.urandom(32), os.urandom(32), f"127.0.1.{number}"
    links = [link_at(ip)]
    name = names.peer_id_text(names.peer_id_of(cose.public_key(seed)))
    lan = Lan(device=name, sealing_key=sealing_key, limits=limits, look=lambda: list(links), air=wire.air)
    lan.set_on(True)
    return Device(MeshHost(seed, listen=[LOOPBACK], admits=admits, lan=lan, limits=mesh), lan, sealing_key, ip, links)


def acquainted(*devices: Device) -> None:
    for one in devices:
        one.knows(*(other for other in devices if other is not one))


@asynccontextmanager
async def running(*devices: Device) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for one in devices:
            await stack.enter_async_context(one.host.running())
        yield


async def beacon_of(wire: Wire, one: Device, *, after: Sequence[Seen] = ()) -> Seen:
    """Return the newest beacon of a device, once there is one beside those."""
    await until(lambda: bool(set(wire.beacons(one.ip)) - set(after)))
    return wire.beacons(one.ip)[-1]


async def connect(ip: str, port: int, *, source: str = "127.0.1.99") -> trio.SocketStream:
    """Connect as a stranger on the link."""
    opening = trio.socket.socket()
    await opening.bind((source, 0))
    with trio.fail_after(HANG):
        await opening.connect((ip, port))
    return trio.SocketStream(opening)
