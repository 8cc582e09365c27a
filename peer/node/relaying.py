"""At which relays this device is, and what admits it there: from settings and broker. Connections: peer/mesh/relays."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

from peer.broker.responses import RelayAccess, read_relay_access
from peer.machine.settings import NO_RELAYS, RELAYS_OF_BROKER, Settings
from peer.machine.state_folder import StateFolder, read_private
from peer.mesh.relays import Relays
from peer.protocol import base64url
from peer.protocol.errors import DispatchError
from peer.protocol.relays.admission import TOKEN_LIFE_MS

log = structlog.get_logger(__name__)

FIRST_RETRY, LONGEST_RETRY = 2.0, 300.0
"""Seconds between questions to a broker that does not answer."""
SHORTEST: Final = 60.0
"""Seconds between two tokens, whatever the broker says of their life."""


class RelayKeeper:
    """Keeps `relays` as settings and broker have them. `ask()`: BrokerSync.relays. `clock`: ms since the epoch.

    What the broker said last is kept in the state folder, so that a device that starts while its broker is gone has
    its relays.
    """

    def __init__(
        self,
        state: StateFolder,
        settings: Callable[[], Settings],
        ask: Callable[[], Awaitable[RelayAccess | None]],
        relays: Relays,
        clock: Callable[[], int],
    ) -> None:
        self._state = state
        self._settings = settings
        self._ask = ask
        self._relays = relays
        self._clock = clock
        self._reloaded = trio.Event()

    def reload(self) -> None:
        """Apply the settings anew, and ask the broker again: it may be another one now, or another sign-in."""
        self._reloaded.set()

    async def run(self) -> None:
        """Ask for a token whenever half of the last one's life is over, until cancelled."""
        broker, access = self._settings().broker, self._kept()
        pause, delay = 0.0, FIRST_RETRY
        while True:
            self._reloaded = trio.Event()
            self._apply(access)
            with trio.move_on_after(max(pause, self._seconds_left(access))):
                await self._reloaded.wait()
            if self._reloaded.is_set():
                delay = FIRST_RETRY
                if self._settings().broker != broker:
                    access = None
            broker = self._settings().broker
            try:
                access = await self._ask() or RelayAccess(b"", self._clock() + TOKEN_LIFE_MS, ())
                self._keep(access)
                pause, delay = SHORTEST, FIRST_RETRY
            except DispatchError as error:
                log.info("relays.not_asked", code=error.code)
                pause, delay = delay, min(delay * 2, LONGEST_RETRY)

    def _seconds_left(self, access: RelayAccess | None) -> float:
        """Return when to ask again: at half of the token's life, or at once."""
        return 0.0 if access is None else max(0.0, (access.expires - self._clock() - TOKEN_LIFE_MS / 2) / 1000)

    def _apply(self, access: RelayAccess | None) -> None:
        settings = self._settings()
        named = access.relays if access is not None and RELAYS_OF_BROKER in settings.relays else ()
        self._relays.set_relays(
            chosen=[word for word in settings.relays if word not in (RELAYS_OF_BROKER, NO_RELAYS)],
            named=named,
            token=b"" if access is None else access.token,
            secret=settings.relay_token.encode(),
            none=NO_RELAYS in settings.relays,
        )

    def _keep(self, access: RelayAccess) -> None:
        document = {
            "broker": self._settings().broker,
            "token": base64url.encode(access.token),
            "expires": access.expires,
            "relays": list(access.relays),
        }
        try:
            self._state.write_private(self._state.relays, json.dumps(document).encode())
        except (OSError, DispatchError) as error:
            log.warning("relays.not_kept", error=type(error).__name__)

    def _kept(self) -> RelayAccess | None:
        """Return what the broker said last, if it is still the broker and the token is still good."""
        broker = self._settings().broker
        try:
            document = json.loads(read_private(self._state.relays))
            if document["broker"] != broker:
                return None
            found = read_relay_access(document, broker=broker, now=self._clock())
        except (ValueError, LookupError, TypeError, DispatchError):
            return None
        return found if found.expires > self._clock() else None
