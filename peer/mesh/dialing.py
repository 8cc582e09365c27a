"""Dials the addresses of a peer in parallel, staggered; the first success wins. No state of connections or peers.

Stock py-libp2p tries one TCP address of a peer, without a deadline, after a fixed wait of 250 ms.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

MAX_ADDRESSES = 16
"""Addresses tried per dial; a contact could announce any number."""

STAGGER = 0.15
"""Seconds between starts: RFC 8305's "Connection Attempt Delay" of 250 ms, shortened for mostly local paths."""

T = TypeVar("T")


def usable(addresses: Iterable[str], peer_id: str) -> list[Multiaddr]:
    """Return the distinct TCP addresses among `addresses`, at most MAX_ADDRESSES, in order.

    Leaves out what does not parse, is not TCP or names another peer in its /p2p part.
    """
    found: dict[str, Multiaddr] = {}
    for text in addresses:
        try:
            address = Multiaddr(text)
            names = [protocol.name for protocol in address.protocols()]
            named_peer = address.value_for_protocol("p2p") if "p2p" in names else peer_id
        except (MultiaddrError, ValueError):
            continue
        plain = set(names) <= {"ip4", "ip6", "dns", "dns4", "dns6", "tcp", "p2p"}
        if plain and "tcp" in names and named_peer == peer_id:
            found.setdefault(str(address), address)
    return list(found.values())[:MAX_ADDRESSES]


async def race(dial: Callable[[Multiaddr], Awaitable[T]], addresses: list[Multiaddr]) -> list[T]:
    """Dial each address STAGGER seconds after the one before, or as soon as that fails, until one dial succeeds.

    Returns all successes: usually one, none if every dial failed, rarely more (dials that beat their cancellation).
    """
    won: list[T] = []
    async with trio.open_nursery() as nursery:

        async def attempt(address: Multiaddr, ended: trio.Event) -> None:
            try:
                won.append(await dial(address))
                nursery.cancel_scope.cancel()
            except Exception:  # noqa: S110 - one address of several; an empty result shows that all failed
                pass
            finally:
                ended.set()

        for address in addresses:
            ended = trio.Event()
            nursery.start_soon(attempt, address, ended)
            with trio.move_on_after(STAGGER):
                await ended.wait()
    return won
