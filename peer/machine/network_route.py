"""The way from this machine to the hosts that an edge's runs may reach: through the person's HTTP proxy, or without."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from peer.machine.model_route import proxy_of_variables
from peer.machine.settings import Settings
from peer.trust.hosts import TLS_PORT, Host, parse_host
from peer.trust.scopes import ANY_PACKAGES, Registry, Scope, hosts
from sandbox import frames

_FIX = "set $HTTPS_PROXY to http://HOST:PORT for the daemon, or unset it, then restart the daemon"


def network(
    scope: Scope,
    settings: Settings,
    env: Mapping[str, str] | None = None,
    *,
    packages: Mapping[str, Mapping[str, list[str]]] | None = None,
    file_hosts: Sequence[str] = (),
) -> frames.Network:
    """Return what a run is told of its network, a proxy's password among it.

    `packages`, `file_hosts`: what its project's lock files name. Raises Invalid for a variable that names no proxy.
    """
    variables = os.environ if env is None else env
    ways = {(host := parse_host(each)): _proxy(host, settings, variables) for each in hosts(scope)}
    fetched = {each: _proxy(_host_of(each), settings, variables) for each in scope.registries}
    return frames.Network(
        hosts=[frames.NetworkHost(name=host.name, port=host.port, by_proxy=bool(way)) for host, way in ways.items()],
        registries=[
            frames.PackageRegistry(kind=each.kind, address=each.address, by_proxy=bool(way))
            for each, way in fetched.items()
        ],
        packages={kind: dict(names) for kind, names in (packages or {}).items()},
        any_package=ANY_PACKAGES in scope.network,
        file_hosts=list(file_hosts),
        http_proxy=next(filter(None, (*ways.values(), *fetched.values())), None),
        ca_file=variables.get("SSL_CERT_FILE") or None,
        more_ca_file=settings.model.ca_file or variables.get("NODE_EXTRA_CA_CERTS") or None,
    )


def proxy_to(host: str, port: int, settings: Settings, env: Mapping[str, str] | None = None) -> str:
    """Return the address of the HTTP proxy on the way from this machine to a host, "" for none. Raises Invalid."""
    return _proxy(Host(host, port), settings, os.environ if env is None else env)


def proxy_to_url(url: str, settings: Settings, env: Mapping[str, str] | None = None) -> str:
    """Return the address of the HTTP proxy on the way to a service, "" for none.

    One on this machine, the only one that may be plain http, is never reached through one. Raises Invalid.
    """
    parts = urlsplit(url)
    return proxy_to(parts.hostname or "", parts.port or TLS_PORT, settings, env) if parts.scheme == "https" else ""


def by_proxy(scope: Scope, settings: Settings, env: Mapping[str, str] | None = None) -> list[str]:
    """Return those of a scope's hosts whose names this machine's HTTP proxy would resolve. Raises Invalid."""
    variables = os.environ if env is None else env
    return [each for each in hosts(scope) if _proxy(parse_host(each), settings, variables)]


def registries_by_proxy(scope: Scope, settings: Settings, env: Mapping[str, str] | None = None) -> list[str]:
    """The same of its registries' hosts."""
    variables = os.environ if env is None else env
    found = [urlsplit(each.address).netloc for each in scope.registries if _proxy(_host_of(each), settings, variables)]
    return list(dict.fromkeys(found))


def _host_of(registry: Registry) -> Host:
    parts = urlsplit(registry.address)
    return Host(parts.hostname or "", parts.port or TLS_PORT)


def _proxy(host: Host, settings: Settings, variables: Mapping[str, str]) -> str:
    """$HTTPS_PROXY for what $NO_PROXY does not name; else the one on the way to the model, "" for none.

    A service has no variable that holds a password.
    """
    if variables.get("https_proxy") or variables.get("HTTPS_PROXY"):
        return proxy_of_variables(f"{host.name}:{host.port}", variables, _FIX)
    return "" if settings.model.proxy == "none" else settings.model.proxy
