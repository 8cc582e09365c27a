"""Dials the addresses of a peer in parallel, staggered; the first success wins. No state of connections.

Stock py-libp2p tries one TCP address of a peer, without a deadline, after a fixed wait of 250 ms. Addresses come from
the peer, so which are dialled (dialable.py), when, and how many in a minute are ours to say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple, TypeVar

import trio
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from peer.protocol.errors import Invalid

MAX_ADDRESSES = 16
"""Addresses tried per dial; a contact could announce any number."""

STAGGER = 0.15
"""Seconds between starts: RFC 8305's "Connection Attempt Delay" of 250 ms, shortened for mostly local paths."""

A = TypeVar("A")
T = TypeVar("T")


class DialBudget:
    """Counts dials of each party, at most `most` in any `seconds`. Its memory: as many times, for who was dialled."""

    def __init__(self, most: int, seconds: float = 60.0) -> None:
        self._most = most
        self._seconds = seconds
        self._dials: dict[str, deque[float]] = {}

    def take(self, party: str, now: float) -> bool:
        """Count one dial at `now`, in seconds; return False if there were too many already."""
        for other in [name for name, dials in self._dials.items() if dials[-1] <= now - self._seconds]:
            del self._dials[other]
        dials = self._dials.setdefault(party, deque(maxlen=self._most))
        if len(dials) == self._most and dials[0] > now - self._seconds:
            return False
        dials.append(now)
        return True


def usable(addresses: Iterable[str], peer_id: str, may_dial: Callable[[str], bool]) -> list[Multiaddr]:
    """Return the distinct TCP addresses among `addresses` whose IP `may_dial`, at most MAX_ADDRESSES, in order.

    Leaves out what does not parse, is not TCP or names another peer in its /p2p part. Names of hosts too: where one
    leads is said anew at each look-up, by whoever answers for it.
    """
    found: dict[str, Multiaddr] = {}
    for text in addresses:
        parsed = _over_tcp(text)
        if parsed is not None and parsed.peer_id in (None, peer_id) and may_dial(parsed.ip):
            found.setdefault(parsed.text, parsed.address)
    return list(found.values())[:MAX_ADDRESSES]


class _OverTcp(NamedTuple):
    """A multiaddr of a TCP port at an IP address. `peer_id`: the one in its /p2p part; `text`: in its one form."""

    address: Multiaddr
    text: str
    ip: str
    peer_id: str | None


@lru_cache(maxsize=1024)
def _over_tcp(text: str) -> _OverTcp | None:
    """Parse what may be dialled; None for everything else. Cached: parsing takes half a millisecond, and attempts at a
    better path dial the same addresses again and again."""
    try:
        address = Multiaddr(text)
        names = [protocol.name for protocol in address.protocols()]
        ip = address.value_for_protocol("ip4" if "ip4" in names else "ip6")
        peer_id = str(address.value_for_protocol("p2p")) if "p2p" in names else None
    except (MultiaddrError, ValueError):
        return None
    if names not in (["ip4", "tcp"], ["ip4", "tcp", "p2p"], ["ip6", "tcp"], ["ip6", "tcp", "p2p"]):
        return None
    return _OverTcp(address, str(address), str(ip), peer_id)


TYPED_FIX: Final = (
    "write it as /ip4/ADDRESS/tcp/PORT or /ip6/ADDRESS/tcp/PORT; `dispatch whoami` on their machine shows its own"
)


def typed_address(text: str) -> tuple[str, str | None]:
    """Return an address that a person typed, without its /p2p/ part, and the peer id in that part. Raises Invalid.

    It may be of any network, of this machine too. A name is refused, since where it leads is said anew by whoever
    answers for it.
    """
    try:
        address = Multiaddr(text.strip())
        names = [protocol.name for protocol in address.protocols()]
    except (MultiaddrError, ValueError):
        raise Invalid("that is not a multiaddr", fix=TYPED_FIX) from None
    if any(name.startswith("dns") for name in names):
        raise Invalid("an address must be an IP number: a name could lead elsewhere tomorrow", fix=TYPED_FIX)
    if names[:2] not in (["ip4", "tcp"], ["ip6", "tcp"]) or names[2:] not in ([], ["p2p"]):
        raise Invalid("an address must be an IP address and a TCP port, and nothing else", fix=TYPED_FIX)
    ip, port = ip_address(str(address.value_for_protocol(names[0]))), int(address.value_for_protocol("tcp"))
    if not port or ip.is_unspecified or ip.is_multicast:
        raise Invalid("nobody can be reached at that address", fix=TYPED_FIX)
    if ip.version == 6 and ip.is_link_local:
        raise Invalid("an address that begins with fe80 works only with its interface", fix="give another address")
    peer = str(address.value_for_protocol("p2p")) if names[2:] else None
    return f"/{names[0]}/{ip}/tcp/{port}", peer


async def race(dial: Callable[[A], Awaitable[T]], addresses: list[A]) -> list[T]:
    """Dial each address STAGGER seconds after the one before, until one dial succeeds.

    Also where the one before has failed already: the peer sees when its own address is dialled, and would learn from a
    shorter wait how another one answers. Returns all successes: usually one, none if every dial failed, rarely more
    (dials that beat their cancellation).
    """
    won: list[T] = []
    async with trio.open_nursery() as nursery:

        async def attempt(address: A) -> None:
            try:
                won.append(await dial(address))
                nursery.cancel_scope.cancel()
            except Exception:  # noqa: S110 - one address of several; an empty result shows that all failed
                pass

        for address in addresses:
            nursery.start_soon(attempt, address)
            await trio.sleep(STAGGER)
    return won
