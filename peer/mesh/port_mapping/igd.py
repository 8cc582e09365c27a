"""What is said with a router by UPnP: the search on the link, its description of itself, calls to map a port. Pure.

Written here, and not left to miniupnpc, which libp2p brings along: it reads a description without end into memory (900
MB in eight seconds), waits for as long as bytes come, and calls whatever host the description names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from peer.protocol.errors import NO_FIX, Invalid

SEARCH: Final = ("239.255.255.250", 1900)
SERVICES: Final = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
"""What maps ports, the one to ask first first."""
_DEVICES: Final = tuple(f"urn:schemas-upnp-org:device:InternetGatewayDevice:{version}" for version in (1, 2))
MAX_URL: Final = 1024
CONFLICT: Final = 718
"""The error of a port that is mapped already, to somebody else."""
_TAG = re.compile(r"\A(?:\{[^}]*\})?(\w+)\Z")


@dataclass(frozen=True, slots=True)
class Location:
    """A place at the gateway's own address."""

    port: int
    target: str
    """Path and query."""


@dataclass(frozen=True, slots=True)
class Service:
    """One that maps ports: its type, and where it is called."""

    kind: str
    control: Location


class Refused(Invalid):
    """The router does not do what it was called for. `error`: UPnP's number, 0 without one."""

    def __init__(self, error: int) -> None:
        super().__init__(f"the router refused to map a port (UPnP error {error})", fix=NO_FIX)
        self.error = error


def searches() -> list[bytes]:
    """Return the datagrams that ask for routers."""
    return [
        "\r\n".join(
            (
                "M-SEARCH * HTTP/1.1",
                f"HOST: {SEARCH[0]}:{SEARCH[1]}",
                'MAN: "ssdp:discover"',
                "MX: 1",
                f"ST: {device}",
                "",
                "",
            )
        ).encode()
        for device in _DEVICES
    ]


def found_location(raw: bytes, gateway: IPv4Address) -> Location | None:
    """Return where an answer to a search says that the gateway describes itself; None if it says no such place."""
    lines = raw.decode("latin-1").split("\r\n")
    if not re.match(r"HTTP/1\.[01] 200\b", lines[0]):
        return None
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "location":
            return location(value.strip(), gateway)
    return None


def location(url: str, gateway: IPv4Address) -> Location | None:
    """Return a URL's place; None unless it is plain HTTP at the gateway's address, written as an address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    is_plain = parts.scheme == "http" and parts.username is None and parts.password is None
    if not is_plain or host != str(gateway) or port == 0 or not re.fullmatch(rf"[\x21-\x7e]{{1,{MAX_URL}}}", target):
        return None
    return Location(port or 80, target)


def services(description: bytes, at: Location, gateway: IPv4Address) -> list[Service]:
    """Return the services of a description that map ports, best first. `at`: where it came from. Raises Invalid."""
    root = _parsed(description)
    base = f"http://{gateway}:{at.port}{at.target}"
    base = next((text for name, text in _texts(root) if name == "URLBase" and text), base)
    found: list[Service] = []
    for element in root.iter():
        if _name(element) == "service":
            texts = dict(_texts(element))
            place = _joined(base, texts.get("controlURL", ""), gateway)
            if texts.get("serviceType") in SERVICES and place is not None:
                found.append(Service(texts["serviceType"], place))
    return sorted(found, key=lambda service: SERVICES.index(service.kind))


def _joined(base: str, url: str, gateway: IPv4Address) -> Location | None:
    try:
        return location(urljoin(base, url), gateway) if url else None
    except ValueError:
        return None


def add_mapping(*, internal: int, external: int, own: IPv4Address, seconds: int) -> tuple[str, list[tuple[str, str]]]:
    """Return name and arguments of the call that maps a port for so many seconds."""
    return "AddPortMapping", [
        ("NewRemoteHost", ""),
        ("NewExternalPort", str(external)),
        ("NewProtocol", "TCP"),
        ("NewInternalPort", str(internal)),
        ("NewInternalClient", str(own)),
        ("NewEnabled", "1"),
        ("NewPortMappingDescription", "dispatch"),
        ("NewLeaseDuration", str(seconds)),
    ]


def delete_mapping(external: int) -> tuple[str, list[tuple[str, str]]]:
    """Return name and arguments of the call that ends a mapping."""
    return "DeletePortMapping", [("NewRemoteHost", ""), ("NewExternalPort", str(external)), ("NewProtocol", "TCP")]


def envelope(kind: str, name: str, arguments: Iterable[tuple[str, str]]) -> bytes:
    """Return the body of a call."""
    inside = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in arguments)
    return (
        '<?xml version="1.0"?>'
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">'
        f'<s:Body><u:{name} xmlns:u="{kind}">{inside}</u:{name}></s:Body></s:Envelope>'
    ).encode()


def check_answer(status: int, body: bytes, name: str) -> None:
    """Return if a call did what it says. Raises Refused, Invalid."""
    if status not in (200, 500):
        raise Refused(0)
    for element in _parsed(body).iter():
        tag = _name(element)
        if tag == f"{name}Response" and status == 200:
            return
        if tag == "errorCode" and (element.text or "").strip().isdecimal():
            raise Refused(int((element.text or "").strip()[:6]))
    raise Refused(0)


def _parsed(raw: bytes) -> ElementTree.Element:
    text = raw.decode("utf-8", "replace")
    # A document type could define entities that stand for gigabytes, or for files; no router needs one.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise Invalid("the router describes itself with a document type", fix=NO_FIX)
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - without a document type there are no entities to expand
    except (ElementTree.ParseError, ValueError) as error:
        raise Invalid("the router's answer is not XML", fix=NO_FIX) from error


def _name(element: ElementTree.Element) -> str:
    match = _TAG.match(element.tag) if isinstance(element.tag, str) else None
    return match[1] if match else ""


def _texts(element: ElementTree.Element) -> list[tuple[str, str]]:
    return [(_name(child), (child.text or "").strip()) for child in element]
