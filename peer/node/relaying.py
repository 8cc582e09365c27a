"""At which relays this device is and what admits it there, by settings and brokers. Connections: peer/mesh/relays."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain, zip_longest
from typing import Final

import structlog
import trio

from peer.broker.responses import RelayAccess, read_relay_access
from peer.machine.settings import NO_RELAYS, RELAYS_OF_BROKER, Settings
from peer.machine.state_folder import StateFolder, read_private
from peer.machine.supervision import OneForEach
from peer.mesh.relays import Relays
from peer.protocol import base64url
from peer.protocol.brokers import MAX_BROKERS
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError
from peer.protocol.relays.admission import TOKEN_LIFE_MS

log = structlog.get_logger(__name__)

FIRST_RETRY, LONGEST_RETRY = 2.0, 300.0
"""Seconds between questions to a broker that does not answer."""
SHORTEST: Final = 60.0
"""Seconds between two tokens, whatever the broker says of their life."""


class RelayKeeper:
    """Keeps `relays` as settings and brokers have them. `ask(url)`: Brokers.relays. `clock`: ms since the epoch.

    What each broker said last is kept in the state folder, so that a device that starts while a broker is gone has its
    relays.
    """

    def __init__(
        self,
        state: StateFolder,
        settings: Callable[[], Settings],
        ask: Callable[[str], Awaitable[RelayAccess | None]],
        relays: Relays,
        clock: Callable[[], int],
    ) -> None:
        self._state = state
        self._settings = settings
        self._ask = ask
        self._relays = relays
        self._clock = clock
        self._reloaded = trio.Event()
        self._access: dict[str, RelayAccess] = {}
        self._tasks = OneForEach("relays of a broker", self._brokers, self._ask_again_and_again)

    def reload(self) -> None:
        """Apply the settings anew, and ask the brokers again: they may be other ones now, or other sign-ins."""
        self._apply()
        self._tasks.look()
        self._reloaded.set()
        self._reloaded = trio.Event()

    async def run(self) -> None:
        """Ask each broker for a token whenever half of the last one's life is over, until cancelled."""
        self._access = self._kept()
        self._apply()
        await self._tasks.run()

    def _brokers(self) -> list[str]:
        return [each.url for each in self._settings().sign_ins]

    async def _ask_again_and_again(self, broker: str) -> None:
        pause, delay = 0.0, FIRST_RETRY
        while True:
            reloaded = self._reloaded
            with trio.move_on_after(max(pause, self._seconds_left(self._access.get(broker)))):
                await reloaded.wait()
            if reloaded.is_set():
                delay = FIRST_RETRY
            try:
                access = await self._ask(broker) or RelayAccess(b"", self._clock() + TOKEN_LIFE_MS, ())
            except DispatchError as error:
                log.info("relays.not_asked", code=error.code)
                pause, delay = delay, min(delay * 2, LONGEST_RETRY)
                continue
            self._access[broker] = access
            self._apply()
            self._keep()
            pause, delay = SHORTEST, FIRST_RETRY

    def _seconds_left(self, access: RelayAccess | None) -> float:
        """Return when to ask again: at half of the token's life, or at once."""
        return 0.0 if access is None else max(0.0, (access.expires - self._clock() - TOKEN_LIFE_MS / 2) / 1000)

    def _apply(self) -> None:
        settings, brokers = self._settings(), self._brokers()
        self._access = {url: self._access[url] for url in brokers if url in self._access}
        wanted = self._access if RELAYS_OF_BROKER in settings.relays else {}
        tokens: dict[str, tuple[bytes, ...]] = {}
        for access in self._access.values():
            for origin in access.relays:
                tokens[origin] = (*tokens.get(origin, ()), access.token)
        first = self._access.get(settings.broker)
        self._relays.set_relays(
            chosen=[word for word in settings.relays if word not in (RELAYS_OF_BROKER, NO_RELAYS)],
            named=tuple(_in_turns(list(wanted.values()))),
            token=b"" if first is None else first.token,
            tokens=tokens,
            secret=settings.relay_token.encode(),
            none=NO_RELAYS in settings.relays,
        )

    def _keep(self) -> None:
        documents = [
            {
                "broker": broker,
                "token": base64url.encode(access.token),
                "expires": access.expires,
                "relays": list(access.relays),
            }
            for broker, access in self._access.items()
        ]
        try:
            self._state.write_private(self._state.relays, json.dumps(documents).encode())
        except (OSError, DispatchError) as error:
            log.warning("relays.not_kept", error=type(error).__name__)

    def _kept(self) -> dict[str, RelayAccess]:
        """Return what each broker said last, if it is still used and its token is still good."""
        try:
            found = json.loads(read_private(self._state.relays))
        except (ValueError, DispatchError):
            return {}
        # One document alone is of the time when there was one broker alone.
        documents = found if isinstance(found, list) else [found]
        kept = (self._read(document) for document in documents[:MAX_BROKERS])
        return {broker: access for each in kept if each is not None for broker, access in [each]}

    def _read(self, document: Document) -> tuple[str, RelayAccess] | None:
        try:
            broker = document["broker"]
            if broker not in self._brokers():
                return None
            found = read_relay_access(document, broker=broker, now=self._clock())
        except (ValueError, LookupError, TypeError, DispatchError):
            return None
        return (broker, found) if found.expires > self._clock() else None


def _in_turns(accesses: list[RelayAccess]) -> Iterator[str]:
    """Return the relays of all brokers, the first of each before the second of any: only the first few are used."""
    seen: set[str] = set()
    for origin in chain.from_iterable(zip_longest(*(access.relays for access in accesses))):
        if origin is not None and origin not in seen:
            seen.add(origin)
            yield origin
