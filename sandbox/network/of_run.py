"""The network proxy of one run, out of what its start frame grants."""

from __future__ import annotations

from sandbox import frames
from sandbox.model_api.route import checked_proxy, trust
from sandbox.network.proxy import Host, NetworkProxy, Tell
from sandbox.network.usage import NetworkUsage


def network_proxy(granted: frames.Network, most_bytes: int, tell: Tell) -> NetworkProxy:
    """Raises SandboxError 422 for a proxy or a file of authorities that cannot be used."""
    trusted = trust(granted.ca_file, granted.more_ca_file)
    return NetworkProxy(
        {Host(host.name, host.port): host.by_proxy for host in granted.hosts},
        usage=NetworkUsage(most_bytes),
        tell=tell,
        trusted=trusted,
        http_proxy=checked_proxy(granted.http_proxy, trusted) if granted.http_proxy else None,
    )
