"""The network proxy of one run, out of what its start frame grants."""

from __future__ import annotations

from sandbox import frames
from sandbox.model_api.route import checked_proxy, trust
from sandbox.network.packages.fetcher import PackageFetcher, Registry
from sandbox.network.packages.upstream import Upstream
from sandbox.network.packages.wanted import KINDS, Wanted, normal_name
from sandbox.network.proxy import Host, NetworkProxy, Tell
from sandbox.network.usage import NetworkUsage


def network_proxy(granted: frames.Network, most_bytes: int, tell: Tell) -> NetworkProxy:
    """Raises SandboxError 422 for a proxy or a file of authorities that cannot be used."""
    trusted = trust(granted.ca_file, granted.more_ca_file)
    usage = NetworkUsage(most_bytes)
    proxy = checked_proxy(granted.http_proxy, trusted) if granted.http_proxy else None
    upstream = Upstream(trusted=trusted, http_proxy=proxy) if granted.registries else None
    return NetworkProxy(
        {Host(host.name, host.port): host.by_proxy for host in granted.hosts},
        usage=usage,
        tell=tell,
        trusted=trusted,
        http_proxy=proxy,
        packages=None if upstream is None else _fetcher(granted, upstream, usage, tell),
    )


def _fetcher(granted: frames.Network, upstream: Upstream, usage: NetworkUsage, tell: Tell) -> PackageFetcher:
    return PackageFetcher(
        [Registry(each.kind, each.address, each.by_proxy) for each in granted.registries],
        wanted(granted),
        file_hosts=granted.file_hosts,
        upstream=upstream,
        usage=usage,
        tell=tell,
    )


def wanted(granted: frames.Network) -> Wanted:
    """The packages that may be fetched."""
    return Wanted(
        {
            kind: {
                normal_name(kind, name): frozenset(versions)
                for name, versions in granted.packages.get(kind, {}).items()
            }
            for kind in KINDS
        },
        any=granted.any_package,
    )
