"""The hosts that an edge's runs may reach, as a person writes them and as the scope keeps them. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

import idna

from peer.protocol.errors import Invalid
from sandbox.network.addresses import NOT_PUBLIC

TLS_PORT: Final = 443
MAX_HOST: Final = 253
"""Characters of a name (RFC 1035, 2.3.4)."""

_FIX: Final = "name each host as HOST or HOST:PORT, as in github.com,git.example.org:8443"


class Host(NamedTuple):
    """A host by its name in ASCII and lower case, and the port at which it speaks TLS."""

    name: str
    port: int

    def __str__(self) -> str:
        return self.name if self.port == TLS_PORT else f"{self.name}:{self.port}"


def parse_host(text: str) -> Host:
    """Return the host that a person named. Raises Invalid, with what is wrong.

    A name in another script becomes its ASCII form (RFC 5891), in which no letter looks like another one.
    """
    name, colon, port = text.strip().partition(":")
    if "/" in text or "@" in text:
        raise Invalid(f"`{_shown(text)}` is not a host name", fix=_FIX)
    if "*" in text:
        raise Invalid(f"`{_shown(text)}` stands for more than one host", fix="name each host separately")
    if colon and not (re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) and 1 <= int(port) <= 65_535):
        if _is_address(text.strip().strip("[]")):
            raise _an_address(text)
        raise Invalid(f"`{_shown(text)}` has an invalid port", fix=_FIX)
    if _is_address(name):
        raise _an_address(text)
    try:
        ascii_name = idna.encode(name.removesuffix("."), uts46=True, std3_rules=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        raise Invalid(f"`{_shown(text)}` is not a host name", fix=_FIX) from None
    labels = ascii_name.split(".")
    # What the system's resolver takes for an address in another notation: 127.1, 0x7f000001.
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        raise _an_address(text)
    if len(labels) < 2 or labels[-1] in NOT_PUBLIC or len(ascii_name) > MAX_HOST:
        raise Invalid(
            f"`{_shown(text)}` is not an internet host, and a run can reach no others", fix="give its full name"
        )
    return Host(ascii_name, int(port) if colon else TLS_PORT)


def _an_address(text: str) -> Invalid:
    return Invalid(
        f"`{_shown(text)}` is an IP address; hosts are granted by name, because TLS can then prove which host it is",
        fix=_FIX,
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:80])
