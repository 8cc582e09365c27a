"""One invocation: its flags, its output, and its access to daemon and store. The command line is parsed elsewhere.

Imports nothing that takes long (click, rich, msgspec, sqlite3, the node): see tests/cli/test_start.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from cli.output import Output
from peer.client import sign_in
from peer.client.blocking import NO_SIGN_IN, Client, DaemonUnreachable, Direction, Document, SignIn
from peer.machine.state_folder import StateFolder

T = TypeVar("T")


class Source(Protocol):
    """The reads that daemon (peer.client.blocking.Client) and store (peer.store.reader) have in common."""

    def whoami(self) -> Document: ...

    def contacts(self, *, limit: int | None = None, before: str | None = None) -> Document: ...

    def invitations(self, *, ended: bool = False, limit: int | None = None, before: str | None = None) -> Document: ...

    def dispatches(
        self, direction: Direction, *, status: str | None = None, limit: int | None = None, before: str | None = None
    ) -> Document: ...

    def dispatch(self, dispatch_id: str) -> Document: ...

    def approvals(self) -> list[Document]: ...


class App:
    """One invocation: its flags, its output, the daemon's client, and the store where no daemon runs."""

    def __init__(self, *, json: bool = False, broker: str | None = None, token: str | None = None) -> None:
        self.out = Output(json=json)
        self.broker = broker
        self.token = token
        self._folder: StateFolder | None = None
        self._others_folder = False

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
        self._others_folder = True

    @property
    def client(self) -> Client:
        """The client of the daemon, which refuses it if a flag or variable names another sign-in than the daemon's."""
        return Client(self.folder, self._named_sign_in())

    def read(self, ask: Callable[[Source], T]) -> T:
        """Read from the daemon, or from the store if none runs. Raises NotSignedIn if there is no sign-in either."""
        try:
            return ask(self.client)
        except DaemonUnreachable:
            if not self.folder.store.exists():
                self.require_sign_in()
            from peer.store.reader import open_reader

            with open_reader(self.folder, broker=self.broker, token=self.token) as reader:
                answer = ask(reader)
            self.out.note(
                "the daemon is not running: showing what is stored on this machine (to start it: `dispatch-daemon`)"
            )
            return answer

    def ask(self, ask: Callable[[Client], T], *, signed_in: bool = False) -> T:
        """Call the daemon. With `signed_in`, a missing sign-in is reported rather than a daemon that does not run."""
        try:
            return ask(self.client)
        except DaemonUnreachable:
            if signed_in:
                self.require_sign_in()
            raise

    def require_sign_in(self) -> None:
        """Raise NotSignedIn unless a flag, a variable or config.json has a sign-in."""
        from peer.machine import settings

        settings.resolve(self.folder, broker=self.broker, token=self.token).require_token()

    def _named_sign_in(self) -> SignIn:
        if self._others_folder:
            return NO_SIGN_IN
        return sign_in.named(self.folder, broker=self.broker, token=self.token)
