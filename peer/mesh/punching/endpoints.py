"""Where this device's connections come from, as the internet sees it, and from where a peer's may be dialled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

import structlog
import trio

from peer.mesh.punching import ports
from peer.mesh.punching.ports import LocalPort
from peer.mesh.relays.observing import Connect, Seen
from peer.protocol.errors import DispatchError
from peer.protocol.punching import FIRST_PORT, Endpoint
from sandbox.network import dialing
from sandbox.network.addresses import is_public

log = structlog.get_logger(__name__)

ASKED_WITHIN: Final = 5.0
"""Seconds for a relay to say where this device is."""
DIALS: Final = 8
"""Of one endpoint in one attempt."""
FIRST_PAUSE: Final = 0.05
"""Seconds after the first dial that was refused; twice as many after each further one."""

Ask = Callable[[int, Connect], Awaitable[Seen]]
"""(IP version, connect) → where a relay sees the connection come from. Raises Unavailable."""


class Held(Protocol):
    """Ports of this device that are held for one attempt, and where they are."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """At most one of each family."""

    async def dial(self, endpoint: Endpoint) -> trio.SocketStream:
        """Dial from the port of the same family until that succeeds. Raises OSError after DIALS refusals."""


class _HeldPorts:
    def __init__(self) -> None:
        self.ports: dict[int, tuple[LocalPort, Endpoint]] = {}
        """IP version → port, and where it is."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(endpoint for _, endpoint in self.ports.values())

    async def dial(self, endpoint: Endpoint) -> trio.SocketStream:
        port, _ = self.ports[endpoint.address.version]
        pause = FIRST_PAUSE
        for left in reversed(range(DIALS)):
            try:
                return await port.connect(str(endpoint.address), endpoint.port)
            except OSError:
                # A NAT or the peer's kernel has refused what came before the peer dialled.
                if not left:
                    raise
            await trio.sleep(pause)
            pause *= 2
        raise AssertionError


@asynccontextmanager
async def held(ask: Ask) -> AsyncIterator[Held]:
    """Hold a port of each family that leads to the internet while the block runs; none where no relay says which."""
    found = _HeldPorts()
    with ExitStack() as stack:
        connections: list[trio.abc.Stream] = []
        try:
            with trio.move_on_after(ASKED_WITHIN):
                async with trio.open_nursery() as nursery:
                    for version in (6, 4):
                        nursery.start_soon(_hold, version, ask, found, stack, connections)
            yield found
        finally:
            for connection in connections:
                await trio.aclose_forcefully(connection)


async def _hold(
    version: int, ask: Ask, found: _HeldPorts, stack: ExitStack, connections: list[trio.abc.Stream]
) -> None:
    try:
        source = ports.source(version)
        port = LocalPort(source)
        stack.callback(port.close)
        if is_public(source):
            endpoint = Endpoint(source, port.number)  # a firewall may be in front, but no NAT
        else:
            seen = await ask(version, port.connect)
            connections.append(seen.connection)
            endpoint = seen.endpoint
    except (OSError, DispatchError) as error:
        log.debug("punch.no_endpoint", version=version, error=type(error).__name__)
        return
    if endpoint.address.version == version and may_offer(endpoint):
        found.ports[version] = port, endpoint


def may_offer(endpoint: Endpoint) -> bool:
    """Whether an endpoint is one of the internet. A relay could name any."""
    return is_public(endpoint.address) and endpoint.port >= FIRST_PORT


def dialable(
    offered: Sequence[Endpoint], held: Sequence[Endpoint], own: frozenset[IPv4Address | IPv6Address]
) -> list[Endpoint]:
    """Return which of a contact's endpoints are dialled: the first of each family in which this device holds a port.

    Only addresses of the internet, none of this machine's (`own`), and no port of services that everybody runs.
    """
    found: dict[int, Endpoint] = {}
    for endpoint in offered:
        if dialing.may_dial(str(endpoint.address), own) and endpoint.port >= FIRST_PORT:
            found.setdefault(endpoint.address.version, endpoint)
    return [found[each.address.version] for each in held if each.address.version in found]
