"""Whose beacons were seen where. Pure: packets, time and keys in; contacts' devices, and ways to them, out.

Bounded against strangers and contacts alike: how many beacons are compared with the contacts' secrets, how many are
remembered, and how often one contact's beacons lead to a dial.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from peer.mesh.lan.links import Link
from peer.mesh.lan.packets import Seen
from peer.protocol import lan, names

COMPARED: Final = 100
"""Beacons of strangers that are compared in ten seconds: with a thousand contacts each takes some milliseconds."""
COMPARED_OF_ONE: Final = 10
"""Of these, from one address."""
JUDGED: Final = 512
"""Beacons whose verdict is remembered, so that one that comes again costs nothing."""
PLACES: Final = 4
"""Addresses at which one device is remembered."""
LIFE: Final = 20 * 60.0
"""Seconds for which a beacon counts: longer than a device keeps one."""
_WINDOW: Final = 10.0


@dataclass(frozen=True, slots=True)
class Way:
    """Where a contact's device listens, as its beacon said."""

    link: Link
    ip: str
    port: int
    nonce: bytes


@dataclass
class Sightings:
    """`own`: this device's id. Without contacts nothing is compared."""

    own: str
    _keys: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    """Device of a contact → its id in bytes, the secret with it."""
    _judged: OrderedDict[Way, str | None] = field(default_factory=OrderedDict)
    _ways: dict[str, dict[tuple[Link, str], tuple[Way, float]]] = field(default_factory=dict)
    """Device → link and address → the newest beacon from there, and until when it counts."""
    _compared: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=COMPARED))
    """When, and of which address."""
    _compared_here: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=COMPARED))
    """The same on loopback, apart: nobody on this machine keeps beacons of its networks from being compared."""

    def set_contacts(self, keys: Mapping[str, bytes]) -> None:
        """Recognise these devices alone: peer id → `rings.shared_key`."""
        self._keys = {device: (names.peer_id_bytes(device), key) for device, key in keys.items()}
        self._judged.clear()
        self._ways = {device: ways for device, ways in self._ways.items() if device in keys}

    def see(self, link: Link, ip: str, seen: Seen, now: float) -> str | None:
        """Return the contact's device whose beacon this is, None if it is nobody's or not to be looked at now."""
        way = Way(link, ip, seen.port, seen.nonce)
        if way in self._judged:
            device = self._judged[way]
            self._judged.move_to_end(way)
        else:
            if not (self._keys and self._may_compare(link, ip, now)):
                return None
            device = self._judged[way] = self._recognised(way, seen.marks)
            while len(self._judged) > JUDGED:
                self._judged.popitem(last=False)
        if device is not None:
            self._note(device, way, now)
        return device

    def ways(self, device: str, now: float) -> list[Way]:
        """Return where a device can be dialled, the newest first."""
        left = {at: found for at, found in self._ways.get(device, {}).items() if found[1] > now}
        if device in self._ways:
            self._ways[device] = left
        return [way for way, _ in reversed(left.values())]

    def at(self, ip: str) -> bool:
        """Return whether a contact's beacon came from an address."""
        return any(known == ip for ways in self._ways.values() for _, known in ways)

    def pair(self, device: str, way: Way) -> lan.Pair | None:
        """Return the beacon of a way as this device has it; None if that is no contact's device any more."""
        if device not in self._keys:
            return None
        theirs, key = self._keys[device]
        return lan.Pair(key, theirs, names.peer_id_bytes(self.own), way.nonce, lan.place(way.ip, way.port))

    def leave(self, link: Link) -> None:
        """Forget what was seen on a link: the same addresses may be other machines' tomorrow."""
        for device, ways in list(self._ways.items()):
            self._ways[device] = {at: found for at, found in ways.items() if at[0] != link}
        self._judged.clear()

    def _may_compare(self, link: Link, ip: str, now: float) -> bool:
        compared = self._compared_here if link.is_loopback else self._compared
        while compared and compared[0][0] <= now - _WINDOW:
            compared.popleft()
        # On loopback everybody has the same address.
        of_one = 0 if link.is_loopback else sum(of == ip for _, of in compared)
        if len(compared) == COMPARED or of_one >= COMPARED_OF_ONE:
            return False
        compared.append((now, ip))
        return True

    def _recognised(self, way: Way, marks: frozenset[bytes]) -> str | None:
        own, where = names.peer_id_bytes(self.own), lan.place(way.ip, way.port)
        for device, (theirs, key) in self._keys.items():
            if lan.Pair(key, theirs, own, way.nonce, where).mark in marks:
                return device
        return None

    def _note(self, device: str, way: Way, now: float) -> None:
        ways = self._ways.setdefault(device, {})
        at = (way.link, way.ip)
        until = now + LIFE
        if at in ways and ways[at][0] == way:
            until = ways[at][1]  # the same one, said again
        ways.pop(at, None)
        ways[at] = (way, until)
        while len(ways) > PLACES:
            del ways[next(iter(ways))]
