"""What every route of the broker has at hand: settings, database, tokens, limits, mail. No routes, no SQL."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

import trio
from starlette.requests import Request

from peer.protocol.errors import Invalid
from rendezvous import web
from rendezvous.bells import Bells
from rendezvous.mail import Mailer
from rendezvous.ratelimit import Buckets, network_of
from rendezvous.storage import accounts
from rendezvous.storage.database import Connection, Database
from rendezvous.tokens import Bearer, Tokens
from rendezvous.writes import Write, open_write

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator chose. `public_url` is the origin that requests are signed for, without a slash at its end;
    `install_url` a page on installing dispatch that invitations name."""

    public_url: str
    data: Path
    dev: bool = False
    behind_proxy: bool = False
    install_url: str = ""


def origin_of(url: str) -> str:
    """Return the one form of a broker's address: scheme, host in lower case, port, path without end slash.

    Raises Invalid for anything but an http(s) URL without user, query and fragment.
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"{url!r} is not a URL", fix="write it like https://broker.example") from error
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise Invalid(f"{url!r} is not a broker's address", fix="write it like https://broker.example")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def wall_clock() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Broker:
    """One running broker."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        secret: bytes,
        mailer: Mailer | None,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self.settings = settings
        self.mailer = mailer
        self.clock = clock
        self.tokens = Tokens(secret, origin=settings.public_url, clock=clock)
        self.bells = Bells()
        self.statuses: Counter[int] = Counter()
        self.by_address = Buckets(per_minute=600, burst=300)
        self.sign_ins_by_address = Buckets(per_minute=30, burst=30)
        self.by_account = Buckets(per_minute=300, burst=150)
        self.writes_by_account = Buckets(per_minute=60, burst=60)
        self._database = database
        # SQLite has one writer and Database one connection: more threads would only queue on its lock.
        self._limiter = trio.CapacityLimiter(1)

    async def db(self, step: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one transaction of a storage function in a worker thread and return its result."""
        return await trio.to_thread.run_sync(partial(self._database.run, step, *args, **kwargs), limiter=self._limiter)

    def address(self, request: Request) -> str:
        """Return where a request comes from, as rate limits count it."""
        if self.settings.behind_proxy:
            # Only the last entry was written by our own proxy; those before it are whatever the client claimed.
            return network_of(request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip())
        return network_of(request.client.host if request.client else "")

    async def reader(self, request: Request) -> Bearer:
        """Return whom the token speaks for: a device that is still that user's. Raises Unauthorized, TooMany."""
        bearer = self.tokens.check(request.headers.get("authorization", ""))
        self.by_account.take(bearer.user_id, self.clock())
        await self.db(accounts.require_device, bearer.user_id, bearer.device)
        return bearer

    async def signed(self, request: Request, action: str, *names: str) -> Write:
        """Read and check the signed write in a request's body; `accept` it with the effect it asks for.

        Raises Invalid, TooLarge, BadSignature, Forbidden, TooMany.
        """
        document = await web.read_json(request)
        write = open_write(
            document, origin=self.settings.public_url, action=action, names=frozenset(names), now=self.clock()
        )
        self.writes_by_account.take(write.device, self.clock())
        return write

    async def accept(
        self, write: Write, step: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Use the nonce, check that the device is the user's, and run `step`: all of it or nothing.

        Raises Conflict for a request used before, Unauthorized or Forbidden for a device that is not the user's.
        """

        def whole(connection: Connection) -> R:
            accounts.require_device(connection, write.user_id, write.device)
            accounts.use_nonce(connection, write.device, write.nonce, write.nonce_expires)
            return step(connection, *args, **kwargs)

        return await self.db(whole)
