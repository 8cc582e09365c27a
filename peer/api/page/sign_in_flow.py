"""A sign-in at a broker that the page began: what is asked of the person, and what came of it. No HTTP of the page.

The flow itself (RFC 8628) is peer.broker.signin's, as for `dispatch login`. One at a time; another takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Literal
from urllib.parse import urlsplit

import structlog
import trio

from peer.broker.signin import Prompt, signing_in
from peer.machine.state_folder import StateFolder
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, Internal, NotSignedIn, Unavailable

log = structlog.get_logger(__name__)

ASKED_SECONDS: Final = 30.0
"""How long a broker may take until it gives a code."""
State = Literal["idle", "asking", "failed"]


class SignInFlow:
    """The page's sign-in. `run` does what `begin` asks for; `changed` is set at each change of `document`."""

    def __init__(self, folder: Callable[[], StateFolder], on_change: Callable[[], None]) -> None:
        self._folder = folder
        self._on_change = on_change
        self._prompt: Prompt | None = None
        self._until = 0.0
        self._error: DispatchError | None = None
        self._broker = ""
        self._nursery: trio.Nursery | None = None
        self._scope: trio.CancelScope | None = None

    async def run(self) -> None:
        """Run the sign-ins until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def begin(self, broker: str, email: str | None) -> None:
        """Begin a sign-in; return once the person can be asked. Raises what peer.broker.signin does until then."""
        if self._nursery is None:
            raise Unavailable("the daemon is just starting or stopping", fix="try again in a moment")
        self.cancel()
        scope = self._scope = trio.CancelScope()
        self._error, self._broker = None, broker
        asked = trio.Event()
        self._nursery.start_soon(partial(self._sign_in, broker, email, scope, asked))
        with trio.move_on_after(ASKED_SECONDS):
            await asked.wait()
        if self._scope is scope and self._error is not None:
            raise self._error
        if not asked.is_set():
            scope.cancel()
            raise Unavailable(f"{broker} gives no code", fix="check the broker's address, or try again")

    def cancel(self) -> None:
        """Give up the sign-in that is under way, if one is."""
        if self._scope is not None:
            self._scope.cancel()
        self._scope = self._prompt = self._error = None
        self._on_change()

    def document(self) -> Document:
        """Return {state, broker, address, code, host, expires_in, error}: `address` is the page of the broker."""
        state: State = "failed" if self._error else "asking" if self._prompt else "idle"
        found: Document = {"state": state, "broker": self._broker, "error": None}
        if self._prompt is not None:
            url = self._prompt.address
            found |= {
                "address": url if urlsplit(url).scheme in ("http", "https") else "",
                "code": self._prompt.code,
                "host": urlsplit(url).netloc,
                "expires_in": max(0, round(self._until - trio.current_time())),
            }
        if self._error is not None:
            found["error"] = self._error.to_json()
        return found

    async def _sign_in(self, broker: str, email: str | None, scope: trio.CancelScope, asked: trio.Event) -> None:
        def on_prompt(prompt: Prompt) -> None:
            if self._scope is scope:
                self._prompt, self._until = prompt, trio.current_time() + prompt.expires_in
            asked.set()
            self._on_change()

        error: DispatchError | None = None
        with scope:
            try:
                await signing_in(self._folder(), broker, email, None, on_prompt)
            except DispatchError as problem:
                error = _for_page(problem)
            except Exception as problem:
                log.exception("page.sign_in_failed", error=type(problem).__name__)
                error = Internal("the sign-in failed")
        if self._scope is scope:
            self._prompt, self._error = None, error
            if error is None:
                self._scope = None
        asked.set()
        self._on_change()


def _for_page(error: DispatchError) -> DispatchError:
    """Return the error with a fix that can be done on the page."""
    if error.code == 410:
        return type(error)(error.message, fix="ask for another code", code=error.code)
    if isinstance(error, NotSignedIn):
        return type(error)(error.message, fix="give your e-mail address", code=error.code)
    return error
