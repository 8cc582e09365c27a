"""What a run has sent to and received from each host, and how much it may. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_MB = 1024 * 1024


@dataclass(slots=True)
class HostUse:
    """Connections of the run's own, TLS and all, and requests for packages; bytes in each direction."""

    connections: int = 0
    requests: int = 0
    sent: int = 0
    received: int = 0

    def __str__(self) -> str:
        counts = {"connection": self.connections, "request for packages": self.requests}
        times = [_times(count, what) for what, count in counts.items() if count]
        return f"{', '.join(times)}, {_amount(self.sent)} sent, {_amount(self.received)} received"


class NetworkUsage:
    """Of one run. `most_bytes`: of all hosts and both directions together."""

    def __init__(self, most_bytes: int) -> None:
        self.hosts: dict[str, HostUse] = {}
        self.most_bytes = most_bytes
        self.total = 0
        self.told_used_up = False
        """Whether the trace says so."""

    def begin(self, host: str, *, fetched: bool = False) -> bool:
        """Count a connection, or a request for a package; return whether it is the first to this host."""
        first = host not in self.hosts
        use = self.hosts.setdefault(host, HostUse())
        if fetched:
            use.requests += 1
        else:
            use.connections += 1
        return first

    def count(self, host: str, *, sent: int = 0, received: int = 0) -> bool:
        """Count bytes; return whether they are within the budget."""
        use = self.hosts.setdefault(host, HostUse())
        use.sent += sent
        use.received += received
        self.total += sent + received
        return self.total <= self.most_bytes

    @property
    def used_up(self) -> bool:
        """Whether nothing more may be sent or received."""
        return self.total >= self.most_bytes


def _times(count: int, what: str) -> str:
    noun, space, rest = what.partition(" ")
    return f"1 {what}" if count == 1 else f"{count:,} {noun}s{space}{rest}"


def _amount(size: int) -> str:
    return f"{size:,} bytes" if size < 10_000 else f"{size / _MB:,.1f} MB"
