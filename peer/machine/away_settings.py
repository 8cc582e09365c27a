"""How a person away from the desk is told: the checks of `notify_url`, `notify_email` and `smtp`. No network."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from peer.protocol.errors import Invalid

SUBMISSION: Final = 587
"""RFC 6409, with STARTTLS."""
IMPLICIT_TLS: Final = 465
"""RFC 8314: TLS from the first byte."""
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")


class Smtp(NamedTuple):
    """A mail server: whom to sign in as ("" for nobody), and where."""

    user: str
    host: str
    port: int


def topic_url(text: str) -> str:
    """Return the address of an ntfy topic. Raises Invalid.

    https, or http where the address is of this machine or of a private network: what is told must not cross the
    internet in the clear. The topic is as good as a password, so no error repeats the address.
    """
    fix = "write it like https://ntfy.example/TOPIC; its token goes into notify_token"
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid("notify_url is not a URL", fix=fix) from error
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise Invalid("notify_url is not a URL with http or https", fix=fix)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Invalid("notify_url may have only a host, a port and a path", fix=fix)
    if not re.fullmatch(r"[\x21-\x7e]{1,2048}", text.strip()) or len(parts.path.strip("/")) < 1:
        raise Invalid("notify_url names no topic", fix=fix)
    if parts.scheme == "http" and not _near(host):
        raise Invalid("notify_url is plain http, so anybody on the way could read it", fix="use https://")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def smtp_server(text: str) -> Smtp:
    """Read [NAME@]HOST[:PORT]; a name may be an address itself. Raises Invalid."""
    user, _, place = text.strip().rpartition("@")
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        host, port = place, str(SUBMISSION)
    named = re.fullmatch(r"[\x21-\x7e]{0,320}", user) and _HOST.fullmatch(host) and re.fullmatch(r"[0-9]{1,5}", port)
    if not named or not 0 < int(port) <= 65535:
        raise Invalid("smtp is not [NAME@]HOST[:PORT]", fix="write it like alice@example.org@smtp.example.org:587")
    return Smtp(user, host.strip("[]"), int(port))


def _near(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private
