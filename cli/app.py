"""One invocation: its flags, its output, and its doors to the daemon and to the store. No command line is read here.

Imports nothing that takes long (click, rich, msgspec, sqlite3, the node): see tests/cli/test_start.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from cli.output import Output
from peer.client.blocking import Client, DaemonUnreachable, Document
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Invalid, NotFound

T = TypeVar("T")


class Source(Protocol):
    """What both the daemon (peer.client.blocking.Client) and the store on disk (peer.store.reader) can tell."""

    def whoami(self) -> Document: ...

    def contacts(self) -> Document: ...

    def dispatches(
        self, box: str, *, status: str | None = None, limit: int | None = None, before: str | None = None
    ) -> Document: ...

    def dispatch(self, dispatch_id: str) -> Document: ...


class App:
    """One invocation: its flags, its output, and the doors to the daemon and to the store."""

    def __init__(self, *, json: bool = False, broker: str | None = None, token: str | None = None) -> None:
        self.out = Output(json=json)
        self.broker = broker
        self.token = token
        self._folder: StateFolder | None = None

    @property
    def folder(self) -> StateFolder:
        if self._folder is None:
            self._folder = StateFolder.locate()
        return self._folder

    def use_folder(self, folder: StateFolder) -> None:
        """Work with another state folder than the one the environment names (the demo's people)."""
        self._folder = folder

    @property
    def client(self) -> Client:
        return Client(self.folder)

    def read(self, ask: Callable[[Source], T]) -> T:
        """Ask the daemon, or the store when no daemon runs. Raises NotSignedIn on a machine that was never set up."""
        try:
            return ask(self.client)
        except DaemonUnreachable as unreachable:
            lived = self.folder.store.exists()
            if not lived:
                self.require_sign_in()
            from peer.store.reader import open_reader

            try:
                with open_reader(self.folder) as reader:
                    answer = ask(reader)
            except NotFound:
                if lived:
                    raise
                raise unreachable from None  # no daemon has ever run here, so there is no store to read
            self.out.note("the daemon is not running: this is what the store holds (start it: `dispatch-daemon`)")
            return answer

    def ask(self, ask: Callable[[Client], T], *, signed_in: bool = False) -> T:
        """Ask the daemon. With `signed_in`, somebody who never signed in hears that before they hear of the daemon."""
        try:
            if signed_in:
                self._refuse_other_sign_in()
            return ask(self.client)
        except DaemonUnreachable:
            if signed_in:
                self.require_sign_in()
            raise

    def require_sign_in(self) -> None:
        """Raise NotSignedIn unless a flag, a variable or config.json gives a sign-in."""
        from peer.machine import settings

        settings.resolve(self.folder, broker=self.broker, token=self.token).require_token()

    def _refuse_other_sign_in(self) -> None:
        """A running daemon has its own sign-in: flags that say another one would silently do nothing."""
        if self.broker is None and self.token is None:
            return
        from peer.machine import settings

        given = settings.resolve(self.folder, broker=self.broker, token=self.token)
        own = self.client.whoami().get("broker") or ""
        if own != given.broker:
            raise Invalid(
                f"the running daemon uses {own or 'no broker'}, not {given.broker or 'none'}",
                fix=f"sign in there: `dispatch login --broker {given.broker or 'URL'}`",
            )
        if self.token is not None and self.token != settings.resolve(self.folder).token:
            raise Invalid(
                "the running daemon uses its own saved sign-in, not the token given here",
                fix="leave --token out, or `dispatch config set token -` and restart `dispatch-daemon`",
            )
