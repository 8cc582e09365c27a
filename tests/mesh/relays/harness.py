"""Hosts that know each other, listen on loopback and are at a relay."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio
from nacl.public import PrivateKey

from peer.mesh.host import MeshHost, MeshLimits
from peer.mesh.relays import RelayLimits, Relays, Route
from peer.protocol import cose, names
from tests.conftest import HANG
from tests.mesh.harness import LOOPBACK


def now() -> int:
    return time.time_ns() // 1_000_000


def no_proxy(_host: str, _port: int) -> str:
    return ""


@dataclass
class Device:
    """One host with its relays."""

    host: MeshHost
    relays: Relays
    sealing_key: bytes
    seed: bytes

    @property
    def id(self) -> str:
        return self.host.peer_id

    @property
    def public(self) -> bytes:
        return bytes(PrivateKey(self.sealing_key).public_key)

    async def up(self) -> None:
        """Wait until it can be rung at each of its relays."""
        changed = trio.Event()

        def note() -> None:
            changed.set()

        self.relays.on_changed(note)
        with trio.fail_after(HANG):
            while not all(self.relays.state().values()):
                await changed.wait()
                changed = trio.Event()


def device(
    *,
    admits: Callable[[str], bool] = lambda _: True,
    limits: RelayLimits | None = None,
    mesh: MeshLimits | None = None,
    clock: Callable[[], int] = now,
    route: Route | None = None,
) -> Device:
    seed, sealing_key = os.urandom(32), os.urandom(32)
    relays = Relays(
        seed=seed,
        device=names.peer_id_text(names.peer_id_of(cose.public_key(seed))),
        sealing_key=sealing_key,
        route=route or Route(proxy=no_proxy, trusted=ssl.create_default_context, loopback_alone=True),
        clock=clock,
        limits=limits,
    )
    host = MeshHost(seed, listen=[LOOPBACK], admits=admits, relays=relays, limits=mesh)
    return Device(host, relays, sealing_key, seed)


def acquainted(*devices: Device) -> None:
    """Make each the contact of the others."""
    for one in devices:
        one.relays.set_contacts({other.id: other.public for other in devices if other is not one})


@asynccontextmanager
async def running(*devices: Device, at: str, token: bytes = b"") -> AsyncIterator[None]:
    """Run them, acquainted, at the relay with this origin."""
    acquainted(*devices)
    async with AsyncExitStack() as stack:
        for one in devices:
            one.relays.set_relays(chosen=[at], named=[], token=token)
            await stack.enter_async_context(one.host.running())
        for one in devices:
            await one.up()
        yield
