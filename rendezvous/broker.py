"""What every route has at hand: settings, storage, tokens, rate limits, mail. No routes, no SQL."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request

from peer.protocol.errors import Invalid
from rendezvous import web
from rendezvous.change_signal import ChangeSignal
from rendezvous.installing import Installing
from rendezvous.mail import Mailer
from rendezvous.proxies import Network, client_address
from rendezvous.ratelimit import Buckets, network_of
from rendezvous.relay_tokens import RelayKey
from rendezvous.storage.interface import Storage
from rendezvous.tokens import Bearer, Tokens, TokenSecrets
from rendezvous.writes import Write, open_write


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator chose. `public_url` is the origin that requests are signed for, without a slash at its end;
    `installing`: how their users install dispatch, for invitations; `relays` are origins in their one form, named to
    every user."""

    public_url: str
    data: Path
    dev: bool = False
    trusted_proxies: tuple[Network, ...] = ()
    installing: Installing = field(default_factory=Installing)
    relays: tuple[str, ...] = ()


def origin_of(url: str) -> str:
    """Return the one form of a broker's address: scheme, host in lower case, port, path without a slash at its end.

    Raises Invalid for anything but an http(s) URL without user, query and fragment.
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"{url!r} is not a URL", fix="write it like https://broker.example") from error
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise Invalid(f"{url!r} is not the address of a broker", fix="write it like https://broker.example")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def wall_clock() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Broker:
    """One running broker."""

    def __init__(
        self,
        settings: Settings,
        *,
        storage: Storage,
        secrets: TokenSecrets,
        relay_key: RelayKey,
        mailer: Mailer | None,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self.settings = settings
        self.storage = storage
        self.mailer = mailer
        self.relay_key = relay_key
        self.clock = clock
        self.tokens = Tokens(secrets, origin=settings.public_url, clock=clock)
        self.typed_code_key = hmac.digest(secrets.current, b"dispatch: this browser typed that code", "sha256")
        self.changes = ChangeSignal()
        self.draining = False
        self.responses_by_status: Counter[int] = Counter()
        self.by_address = Buckets(per_minute=600, burst=300)
        self.sign_ins_by_address = Buckets(per_minute=30, burst=30)
        self.by_account = Buckets(per_minute=300, burst=150)
        self.writes_by_device = Buckets(per_minute=60, burst=60)

    def address(self, request: Request) -> str:
        """Return where a request comes from, in the form that rate limits count."""
        peer = request.client.host if request.client else ""
        lines = request.headers.getlist("x-forwarded-for")
        return network_of(client_address(peer, lines, self.settings.trusted_proxies))

    def reader(self, request: Request) -> Bearer:
        """Return the user and device of a read's token. Raises Unauthorized, TooMany.

        Whether the device is still that user's is checked by the storage operation, in its transaction.
        """
        bearer = self.tokens.check(request.headers.get("authorization", ""))
        self.by_account.take(bearer.user_id, self.clock())
        return bearer

    async def signed(self, request: Request, action: str, *names: str) -> Write:
        """Return the verified write in a request's body; its `author` then goes to a storage operation, which checks
        that the device is the user's and consumes the nonce.

        Raises Invalid, TooLarge, BadSignature, Forbidden, TooMany.
        """
        document = await web.read_json(request)
        write = open_write(
            document, origin=self.settings.public_url, action=action, names=frozenset(names), now=self.clock()
        )
        self.writes_by_device.take(write.device, self.clock())
        return write
