"""A device in a process of its own, for tests that kill or stop it: `python -m … SEED_HEX [PORT]`.

It prints its address, answers every statement with 200 and the number of statements so far, serves an echo, and a
transfer that stops in the middle and waits there. Two more for whoever floods it: one refuses, one never reads.
"""

from __future__ import annotations

import sys

import trio

from peer.mesh.courier import Courier
from peer.mesh.host import MeshHost
from peer.mesh.streams import Stream
from peer.protocol.acknowledgements import Acknowledgement
from tests.mesh.harness import MemoryOutbox

ECHO = "/test/echo/1"
HALF = "/test/half/1"
REFUSED = "/test/refused/1"
UNREAD = "/test/unread/1"


async def main(seed: bytes, port: int) -> None:
    host = MeshHost(seed, listen=[f"/ip4/127.0.0.1/tcp/{port}"], admits=lambda _: True)
    received = 0

    async def receive(peer_id: str, raw: bytes) -> Acknowledgement:
        nonlocal received
        received += 1
        return Acknowledgement(200, str(received))

    async def addresses(peer_id: str) -> list[str]:
        return []

    async def echo(stream: Stream) -> None:
        while True:
            await stream.send(await stream.receive(max_bytes=1 << 20), deadline=60)

    async def half(stream: Stream) -> None:
        await stream.send([200, 1_000_000, "", ""], deadline=60)
        await stream.write(bytes(300_000), deadline=60)
        await trio.sleep_forever()

    async def refuse(stream: Stream) -> None:
        await stream.send([503], deadline=60)

    async def never_read(stream: Stream) -> None:
        await trio.sleep_forever()

    courier = Courier(host, outbox=MemoryOutbox(), receive=receive, addresses=addresses)
    host.handle(ECHO, echo)
    host.handle(HALF, half)
    host.handle(REFUSED, refuse)
    host.handle(UNREAD, never_read)
    async with host.running(), courier.running():
        print(host.addresses()[0], flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, bytes.fromhex(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
