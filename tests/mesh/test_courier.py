"""The courier between two real hosts: delivery, order, retries, reconnection, and peers that misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from peer.mesh.courier import Courier, CourierLimits
from peer.mesh.host import MeshHost
from peer.protocol.answers import Answer
from tests.mesh.harness import MemoryOutbox, make_host

OK = Answer(200)
QUICK = CourierLimits(first_retry=0.05, longest_retry=0.2, answer=1.0, receive=0.5)


@dataclass
class Device:
    """A host with a courier: what it sends is in `outbox`, what it got in `received`."""

    host: MeshHost
    courier: Courier = field(init=False)
    outbox: MemoryOutbox = field(default_factory=MemoryOutbox)
    received: list[tuple[str, bytes]] = field(default_factory=list)
    book: dict[str, list[str]] = field(default_factory=dict)
    receive: Callable[[str, bytes], Awaitable[Answer]] | None = None

    def __post_init__(self) -> None:
        self.courier = Courier(
            self.host, outbox=self.outbox, receive=self._receive, addresses=self._addresses, limits=QUICK
        )

    async def _receive(self, peer_id: str, raw: bytes) -> Answer:
        answer = await self.receive(peer_id, raw) if self.receive else OK
        self.received.append((peer_id, raw))
        return answer

    async def _addresses(self, peer_id: str) -> list[str]:
        return self.book.get(peer_id, [])

    def send(self, to: Device, key: str, raw: bytes | None = None, **kwargs: object) -> None:
        self.outbox.put(to.host.peer_id, key, raw or key.encode(), **kwargs)  # type: ignore[arg-type]
        self.courier.wake(to.host.peer_id)

    @property
    def got(self) -> list[bytes]:
        return [raw for _, raw in self.received]


@asynccontextmanager
async def up(*devices: Device) -> AsyncIterator[None]:
    """All devices running, each knowing the others' addresses."""
    async with trio.open_nursery() as nursery:
        for device in devices:

            async def live(
                device: Device = device, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
            ) -> None:
                async with device.host.running(), device.courier.running():
                    task_status.started()
                    await trio.sleep_forever()

            await nursery.start(live)
        for device in devices:
            for other in devices:
                device.book[other.host.peer_id] = other.host.addresses()
        yield
        nursery.cancel_scope.cancel()


async def test_a_statement_is_brought_and_its_answer_noted() -> None:
    ana, ben = Device(make_host()), Device(make_host())

    async def refuse(peer_id: str, raw: bytes) -> Answer:
        return Answer(403, "no edge", "ask")

    ben.receive = refuse
    async with up(ana, ben):
        ana.send(ben, "one", b"\x00opaque\xff")
        await ana.outbox.settled("one")
    assert ben.received == [(ana.host.peer_id, b"\x00opaque\xff")]
    assert ana.outbox.answers["one"] == Answer(403, "no edge", "ask")
