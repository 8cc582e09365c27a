"""One invocation: its flags, its output, and its access to daemon and store. The command line is parsed elsewhere.

Imports nothing that takes long (click, rich, msgspec, sqlite3, the node): see tests/cli/test_start.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from cli.output import Output
from peer.client.blocking import Client, DaemonUnreachable, Direction, Document
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Invalid, NotFound

T = TypeVar("T")


class Source(Protocol):
    """The reads that daemon (peer.client.blocking.Client) and store (peer.store.reader) have in common."""

    def whoami(self) -> Document: ...

    def contacts(self) -> Document: ...

    def dispatches(
        self, direction: Direction, *, status: str | None = None, limit: int | None = None, before: str | None = None
    ) -> Document: ...

    def dispatch(self, dispatch_id: str) -> Document: ...


class App:
    """One invocation: its flags, its output, the daemon's client, and the store where no daemon runs."""

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

    @property
    def unchecked_folder(self) -> StateFolder:
        """The folder as it is, for `doctor` alone, which says what is wrong with it."""
        return self._folder or StateFolder.locate(unchecked=True)

    def use_folder(self, folder: StateFolder) -> None:
        """Use another state folder than that of the environment; the demo has one for each of its people."""
        self._folder = folder

    @property
    def client(self) -> Client:
        return Client(self.folder)

    def read(self, ask: Callable[[Source], T]) -> T:
        """Read from the daemon, or from the store if none runs. Raises NotSignedIn if there is no sign-in either."""
        try:
            return ask(self.client)
        except DaemonUnreachable as unreachable:
            has_store = self.folder.store.exists()
            if not has_store:
                self.require_sign_in()
            from peer.store.reader import open_reader

            try:
                with open_reader(self.folder) as reader:
                    answer = ask(reader)
            except NotFound:
                if has_store:
                    raise
                raise unreachable from None  # no daemon has run here yet, so there is nothing to read
            self.out.note("the daemon is not running: this is what the store holds (start it: `dispatch-daemon`)")
            return answer

    def ask(self, ask: Callable[[Client], T], *, signed_in: bool = False) -> T:
        """Call the daemon. With `signed_in`, a missing sign-in is reported rather than a daemon that does not run."""
        try:
            if signed_in:
                self._refuse_other_sign_in()
            return ask(self.client)
        except DaemonUnreachable:
            if signed_in:
                self.require_sign_in()
            raise

    def require_sign_in(self) -> None:
        """Raise NotSignedIn unless a flag, a variable or config.json has a sign-in."""
        from peer.machine import settings

        settings.resolve(self.folder, broker=self.broker, token=self.token).require_token()

    def _refuse_other_sign_in(self) -> None:
        """Raise Invalid if the flags name another sign-in than the running daemon's: they would have no effect."""
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
