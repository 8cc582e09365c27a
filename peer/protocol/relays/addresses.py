"""Where a relay is: its origin for people and programs, its multiaddr in a device's presence. Pure; dials nothing."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

from peer.protocol.errors import Invalid
from peer.protocol.relays.messages import MAX_ORIGIN

MAX_RELAYS = 8
"""Relays that a broker names to its users, and that a person names: a device keeps a connection to those it uses."""

_FIX = "write it like https://relay.example"
_PORTS = {"https": 443, "http": 80}
_SOCKETS = {"https": "wss", "http": "ws"}
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")


def relay_origin(text: str) -> str:
    """Return the one form of a relay's origin: scheme, host in lower case, port unless it is the scheme's own.

    Raises Invalid for anything with more to it, and for http:// anywhere but on this machine: without TLS, whoever is
    on the way learns which device is where.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid(f"{text!r} is not a relay's address", fix=_FIX) from error
    more = parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment
    if parts.scheme not in _PORTS or not _is_host(host) or more or port == 0 or len(text) > MAX_ORIGIN:
        raise Invalid(f"{text!r} is not a relay's address", fix=_FIX)
    if parts.scheme == "http" and not is_loopback(host):
        raise Invalid(f"{text!r} does not use TLS", fix=_FIX)
    return _origin(parts.scheme, host, port or _PORTS[parts.scheme])


@lru_cache(maxsize=256)
def to_multiaddr(origin: str) -> str:
    """Return the multiaddr text of an origin in its one form."""
    parts = urlsplit(origin)
    host = parts.hostname or ""
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns"
    return f"/{kind}/{host}/tcp/{parts.port or _PORTS[parts.scheme]}/{_SOCKETS[parts.scheme]}"


@lru_cache(maxsize=256)  # each dial asks it of every address of a contact
def from_multiaddr(text: str) -> str | None:
    """Return the origin that a multiaddr names; None for what is no relay's, as `relay_origin` would refuse it too."""
    parts = text.split("/")
    if len(parts) != 6 or parts[0] or parts[1] not in ("dns", "ip4", "ip6") or parts[3] != "tcp":
        return None
    scheme = next((scheme for scheme, kind in _SOCKETS.items() if kind == parts[5]), "")
    host = f"[{parts[2]}]" if parts[1] == "ip6" else parts[2]
    try:
        origin = relay_origin(f"{scheme}://{host}:{parts[4]}")
    except Invalid:
        return None
    return origin if to_multiaddr(origin) == text else None


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is this machine's alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # A name whose last label is a number would be read as an IPv4 address by some.
        return bool(_NAME.fullmatch(host)) and not host.rpartition(".")[2].isdigit()
    return "%" not in host


def _origin(scheme: str, host: str, port: int) -> str:
    authority = f"[{ipaddress.ip_address(host)}]" if ":" in host else host
    return f"{scheme}://{authority}" if port == _PORTS[scheme] else f"{scheme}://{authority}:{port}"
