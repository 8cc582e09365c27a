"""What a run has sent to and received from each host, and how much it may. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_MB = 1024 * 1024


@dataclass(slots=True)
class HostUse:
    """Connections, or requests of the fetcher; bytes in each direction, TLS and all."""

    connections: int = 0
    sent: int = 0
    received: int = 0

    def __str__(self) -> str:
        times = "1 connection" if self.connections == 1 else f"{self.connections:,} connections"
        return f"{times}, {_amount(self.sent)} sent, {_amount(self.received)} received"


class NetworkUsage:
    """Of one run. `most_bytes`: of all hosts and both directions together."""

    def __init__(self, most_bytes: int) -> None:
        self.hosts: dict[str, HostUse] = {}
        self.most_bytes = most_bytes
        self.total = 0

    def begin(self, host: str) -> bool:
        """Count a connection; return whether it is the first to this host."""
        first = host not in self.hosts
        self.hosts.setdefault(host, HostUse()).connections += 1
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


def _amount(size: int) -> str:
    return f"{size:,} bytes" if size < 10_000 else f"{size / _MB:,.1f} MB"
