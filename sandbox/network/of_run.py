"""The network proxy of one run, out of what its start frame grants."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import certifi

from sandbox import frames
from sandbox.model_api.route import checked_proxy, trust
from sandbox.network.packages.fetcher import PackageFetcher, Registry
from sandbox.network.packages.upstream import Upstream
from sandbox.network.packages.wanted import KINDS, Wanted, normal_name
from sandbox.network.proxy import Host, NetworkProxy, Tell
from sandbox.network.usage import NetworkUsage

_SYSTEMS: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Where Debian, Fedora and Alpine keep them, one of which OpenSSL was built to read."""


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
        authorities=_authorities(granted) if granted.has_authorities else b"",
    )


def _authorities(granted: frames.Network) -> bytes:
    """PEM of those that this machine trusts, the person's own included, for the run's commands."""
    own = [granted.ca_file] if granted.ca_file else _SYSTEMS
    first = next((Path(path) for path in own if Path(path).is_file()), Path(certifi.where()))
    files = [first, *([Path(granted.more_ca_file)] if granted.more_ca_file else [])]
    return b"".join(file.read_bytes() + b"\n" for file in files)


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
