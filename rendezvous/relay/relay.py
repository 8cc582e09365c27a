"""What all connections of one relay share: whose devices it serves, what it knows, its bounds, clocks and counts."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable

import trio

from peer.protocol.turns import Turns
from rendezvous.connections import ConnectionLimits, OpenConnections
from rendezvous.proxies import Network
from rendezvous.relay.admission import Admission
from rendezvous.relay.connection import Connection, ControlConnection, PipeEnd
from rendezvous.relay.handshakes import Handshakes
from rendezvous.relay.limits import RelayLimits
from rendezvous.relay.registry import Registry

DAY_MS = 24 * 3600 * 1000


def wall_clock() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Relay:
    """One running relay. `origin`: what devices dial, in its one form; they sign for it."""

    def __init__(
        self,
        origin: str,
        admission: Admission,
        *,
        limits: RelayLimits = RelayLimits(),
        proxies: tuple[Network, ...] = (),
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self.origin = origin
        self.admission = admission
        self.limits = limits
        self.proxies = proxies
        self.clock = clock
        self.registry: Registry[ControlConnection, PipeEnd] = Registry(limits, random=os.urandom)
        self.handshakes = Handshakes(total=limits.handshakes, per_network=limits.handshakes_per_network)
        bounds = ConnectionLimits(
            total=limits.connections, per_network=limits.connections_per_network, unbounded=proxies
        )
        self.open = OpenConnections(bounds)
        self.turns = Turns(lambda what: trio.lowlevel.current_trio_token().run_sync_soon(what))
        """Of connections that have proven nothing."""
        self.open_through_proxies = OpenConnections(bounds)
        """Those that came through the owner's proxies, by where they came from before."""
        self.connections: set[Connection] = set()
        self.contacts_problem = ""
        """Why no contact is admitted, although they should be: what is wrong with their list. "" for nothing."""
        self.refused: Counter[str] = Counter()
        """By reason; the reasons are in the code."""

    def now(self) -> int:
        """Return milliseconds on a clock that nobody sets."""
        return int(trio.current_time() * 1000)

    def day(self) -> int:
        """Return the number of the day, in UTC."""
        return self.clock() // DAY_MS

    def admit(self, connection: Connection, *, frames_per_second: float, burst: int) -> None:
        """Note that a connection has proven what it had to: it has its time, and may send as many frames."""
        self.handshakes.leave(connection.handshake)
        connection.plain.place.free()
        connection.scope.deadline = float("inf")
        assert connection.stream is not None
        connection.stream.allow(per_second=frames_per_second, burst=burst)

    def metrics(self) -> str:
        """Return numbers only, in the text format of Prometheus."""
        self.registry.expire(self.now())
        gauges = {
            "connections": len(self.open),
            "handshakes": len(self.handshakes),
            "devices": self.registry.devices_connected,
            "pipes": self.registry.pipes_open,
            "pipes_pending": self.registry.pipes_pending,
        }
        if self.admission.contacts_file:
            gauges["contacts"] = len(self.admission.contacts)
        lines = []
        for name, value in gauges.items():
            lines += [f"# TYPE dispatch_relay_{name} gauge", f"dispatch_relay_{name} {value}"]
        lines += ["# TYPE dispatch_relay_bytes_total counter"]
        lines += [f"dispatch_relay_bytes_total {self.registry.bytes_relayed}"]
        lines += ["# TYPE dispatch_relay_refused_total counter"]
        lines += [
            f'dispatch_relay_refused_total{{reason="{reason}"}} {count}'
            for reason, count in sorted(self.refused.items())
        ]
        return "\n".join(lines) + "\n"
