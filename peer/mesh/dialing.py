"""Which of a peer's addresses answers first. Knows multiaddrs and time, not connections or peers' states.

Stock py-libp2p tries one TCP address of a peer, without a deadline, after a fixed wait of 250 ms.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

MAX_ADDRESSES = 16
"""A contact chooses its own addresses; more than this many are not tried."""

STAGGER = 0.15
"""Seconds between starts, RFC 8305's "Connection Attempt Delay" of 250 ms shortened for mostly local paths."""

T = TypeVar("T")


def usable(addresses: Iterable[str], peer_id: str) -> list[Multiaddr]:
    """Return the TCP addresses among `addresses`, without doubles, at most MAX_ADDRESSES, in their order.

    What does not parse, is not TCP or names another peer in its /p2p part is left out.
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
    """Dial all addresses, each STAGGER after the one before or as soon as that failed; the first success ends it.

    Returns what succeeded: nothing, or one, or rarely more (dials that were through before they could be stopped).
    """
    won: list[T] = []
    async with trio.open_nursery() as nursery:

        async def attempt(address: Multiaddr, over: trio.Event) -> None:
            try:
                won.append(await dial(address))
                nursery.cancel_scope.cancel()
            except Exception:  # noqa: S110 - one address of several; that all failed shows in the result
                pass
            finally:
                over.set()

        for address in addresses:
            over = trio.Event()
            nursery.start_soon(attempt, address, over)
            with trio.move_on_after(STAGGER):
                await over.wait()
    return won
