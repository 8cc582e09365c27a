"""Addresses of services that a person names: which are taken, in their one form. No network."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from peer.protocol.errors import Invalid


def service_url(text: str, what: str) -> str:
    """Return an https URL, or an http URL of this machine: a token must not cross a network unencrypted."""
    fix = "write it like https://broker.example"
    try:
        parts = urlsplit(text.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid(f"{what} is not a URL: {text!r}", fix=fix) from error
    if parts.scheme not in ("https", "http") or not host:
        raise Invalid(f"{what} is not a URL with http or https: {text!r}", fix=fix)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Invalid(f"{what} may have only a host, a port and a path", fix=fix)
    if re.search(r"[\s\x00-\x1f\x7f]", parts.netloc + parts.path):
        raise Invalid(f"{what} contains spaces or control characters", fix=fix)
    if parts.scheme == "http" and not _is_loopback(host):
        raise Invalid(f"{what} is plain http, so anybody on the way could read the token", fix=f"use https://{host}")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def proxy_url(text: str) -> str:
    """Return the address of an HTTP proxy, http(s)://[NAME:PASSWORD@]HOST[:PORT]; "" if it is none."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return ""
    more = parts.path.strip("/") or parts.query or parts.fragment or port == 0
    known = parts.scheme in ("http", "https") and parts.hostname and re.fullmatch(r"[\x21-\x7e]{1,2048}", text)
    return f"{parts.scheme}://{parts.netloc}" if known and not more else ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
