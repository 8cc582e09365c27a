"""What of this machine a scope can grant: its folders, toolchains, registries, MCP servers and repositories, looked up.

What may be granted at all is decided in peer/trust. The look-ups read files, in threads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from peer.machine import mcp_servers, network_route
from peer.machine.settings import Settings
from peer.machine.toolchains.installed import Machine
from peer.machine.toolchains.named import check_named
from peer.node.scope_requests import registries_of
from peer.projects import git_folders
from peer.projects.git_folders import GitFolder
from peer.trust import paths, scopes
from peer.trust.filesystem import LocalFacts


class Grantable:
    """Looks at this machine for a scope. `state`: the state folder; `facts`: local facts on folders, blocking."""

    def __init__(self, state: Path, facts: Callable[[], LocalFacts], settings: Callable[[], Settings]) -> None:
        self._state = state
        self._facts = facts
        self._settings = settings

    async def installed(self) -> mcp_servers.InstalledServers:
        """Return the MCP servers of this machine, those that cannot be granted among them."""
        return await trio.to_thread.run_sync(mcp_servers.discover, self._state)

    async def checked(self, scope: scopes.Scope, *, unless: scopes.Scope | None = None) -> scopes.Scope:
        """Return the scope with real paths and with this machine's registries. Raises Invalid.

        What it has in common with `unless`, the scope before an edit, stays as it is.
        """
        if unless is None or scope.toolchains != unless.toolchains:
            scope = msgspec.structs.replace(scope, toolchains=await self._checked_toolchains(scope.toolchains))
        # Those that were shown when packages were granted stay, whatever else of the network changes.
        if unless is None or not (unless.registries and scopes.hosts(scope) != scope.network):
            scope = msgspec.structs.replace(scope, registries=await registries_of(scope))
        if not scope.paths or (unless is not None and scope.paths == unless.paths):
            return scope
        checked = await trio.to_thread.run_sync(lambda: paths.check_roots(scope.paths, self._facts()))
        return msgspec.structs.replace(scope, paths=checked)

    def by_proxy(self, scope: scopes.Scope, *, unless: scopes.Scope | None = None) -> list[str]:
        """Return the scope's hosts, its registries' among them, whose names this machine's HTTP proxy resolves.

        Without those that `unless`, the scope before an edit, had. Raises Invalid where the proxy's address is none.
        """
        had = unless or scopes.Scope(tools=scope.tools)
        new = msgspec.structs.replace(
            scope,
            network=tuple(word for word in scope.network if word not in had.network),
            registries=tuple(each for each in scope.registries if each not in had.registries),
        )
        settings = self._settings()
        found = [*network_route.by_proxy(new, settings), *network_route.registries_by_proxy(new, settings)]
        return list(dict.fromkeys(found))

    async def git_folders(self, scope: scopes.Scope) -> dict[str, GitFolder]:
        """Return the repositories' folders that are granted with the scope's folders, by folder."""
        return await trio.to_thread.run_sync(lambda: git_folders.find_all(scope.paths, self._facts()))

    async def _checked_toolchains(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """Return the words with real paths in place of those that were named. Raises Invalid."""

        def check() -> tuple[str, ...]:
            machine = Machine.here(tuple(map(Path, self._facts().states)))
            return tuple(dict.fromkeys(check_named(word, machine) if word.startswith("/") else word for word in words))

        return await trio.to_thread.run_sync(check) if words else ()
