"""What every route has at hand: settings, storage, tokens, rate limits, mail. No routes, no SQL."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request

from peer.protocol.errors import Invalid
from rendezvous import web
from rendezvous.change_signal import ChangeSignal
from rendezvous.installing import Installing
from rendezvous.limits import Limits
from rendezvous.mail import Mail, Mailer
from rendezvous.metrics import Metrics, Snapshot
from rendezvous.program import version
from rendezvous.proxies import Network, client_address
from rendezvous.ratelimit import Buckets, network_of
from rendezvous.relay_tokens import RelayKey
from rendezvous.storage.interface import Storage
from rendezvous.storage.measured import measured
from rendezvous.tokens import Bearer, Tokens, TokenSecrets
from rendezvous.writes import Write, open_write


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator chose. `public_url` is the origin that requests are signed for, without a slash at its end;
    `installing`: how their users install dispatch, for invitations; `relays` are origins in their one form, named to
    every user. `metrics_apart`: /metrics has an address of its own; `metrics_token`: who reads it has to bring this."""

    public_url: str
    data: Path
    dev: bool = False
    trusted_proxies: tuple[Network, ...] = ()
    installing: Installing = field(default_factory=Installing)
    relays: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    metrics_apart: bool = False
    metrics_token: str = field(default="", repr=False)


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


@lru_cache(maxsize=256)
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
        self.metrics = Metrics(version=version())
        self.storage = measured(storage, self.metrics)
        self.mailer = mailer
        self.relay_key = relay_key
        self.clock = clock
        self.tokens = Tokens(secrets, origin=settings.public_url, clock=clock)
        self.typed_code_key = hmac.digest(secrets.current, b"dispatch: this browser typed that code", "sha256")
        limits = settings.limits
        self.requests_in_progress = 0
        self.draining = False
        self.metrics_of_all: Callable[[], Awaitable[Mapping[str, Snapshot]]] | None = None
        """Of a broker of several processes: what each has counted, by its number."""
        self.changes = ChangeSignal(limits, on_refusal=self.refused)
        self.by_address = self._rate("requests_per_minute", limits.requests_per_minute, limits.request_burst)
        self.sign_ins_by_address = self._rate("sign_ins_per_minute", limits.sign_ins_per_minute, limits.sign_in_burst)
        self.pages_by_address = self._rate("pages_per_minute", limits.pages_per_minute, limits.page_burst)
        self.unknown_codes_by_address = self._rate(
            "unknown_codes_per_minute", limits.unknown_codes_per_minute, limits.unknown_code_burst
        )
        self.by_account = self._rate("reads_per_minute", limits.reads_per_minute, limits.read_burst)
        self.writes_by_device = self._rate("writes_per_minute", limits.writes_per_minute, limits.write_burst)
        self._watch()

    def refused(self, reason: str) -> None:
        """Count what a limit refused; `reason` is the limit's name (metrics.REASONS)."""
        self.metrics.refused(reason)

    async def send(self, mail: Mail) -> bool:
        """Send a mail and count it; False when the mail server did not accept it, or there is none."""
        accepted = self.mailer is not None and await self.mailer.send(mail)
        self.metrics.mail(accepted=accepted)
        return accepted

    def _rate(self, name: str, per_minute: int, burst: int) -> Buckets:
        return Buckets(
            per_minute=per_minute,
            burst=burst,
            max_keys=self.settings.limits.rates_remembered,
            on_refusal=partial(self.refused, name),
        )

    def _watch(self) -> None:
        watch, usage = self.metrics.watch, self.storage.usage
        about = "Requests that are being answered, those that wait for a change among them."
        watch("dispatch_http_requests_in_progress", about, lambda: self.requests_in_progress)
        watch("dispatch_readers_waiting", "Requests that wait for a change.", lambda: len(self.changes))
        about = "Connections that this process may have to its database."
        watch("dispatch_storage_connections", about, lambda: usage().connections)
        watch("dispatch_storage_connections_in_use", "Those that are in use.", lambda: usage().in_use)
        watch("dispatch_storage_operations_waiting", "Operations that wait for one.", lambda: usage().waiting)

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
