"""A scope as a person asks for it: out of an API request, as they confirm it, and what of this machine it pins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import trio

from peer.machine import mcp_servers, registries
from peer.projects.git_folders import GitFolder
from peer.protocol.documents import Document
from peer.protocol.errors import Invalid
from peer.store import rows, trust_views
from peer.trust import grants, scopes

SCOPE_FIELDS = (
    "tools",
    "mcp_servers",
    "paths",
    "approval",
    "max_per_day",
    "expires",
    "results",
    "apply",
    "toolchains",
    "network",
    "budget",
)


async def registries_of(scope: scopes.Scope) -> tuple[scopes.Registry, ...]:
    """Return this machine's registries now, if packages are granted. Raises Invalid where it has none to grant."""
    if scopes.hosts(scope) == scope.network:
        return ()
    found, refused = await trio.to_thread.run_sync(registries.find)
    if not found:
        why = "; ".join(refused) or "pip, npm, cargo and go are not installed, or have none configured"
        raise Invalid(f"this machine has no package registry to grant: {why}", fix="leave packages out of the network")
    return found


def scope_input(request: Document) -> grants.ScopeInput:
    given = {name: request[name] for name in SCOPE_FIELDS if request.get(name) is not None}
    try:
        return msgspec.convert(given, grants.ScopeInput)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"the scope does not have the expected form: {error}",
            fix="see `dispatch accept-invitation --help`, or docs/protocol.md for the API",
        ) from error


def to_confirm(
    peer: str,
    scope: scopes.Scope,
    *,
    widens: tuple[str, ...],
    histories: tuple[str, ...],
    fingerprint: str,
    verified: bool,
    rules: Sequence[rows.EdgeRule] = (),
) -> Document:
    """Return the document that a person confirms before more is permitted."""
    return {
        "status": "confirmation_required",
        "peer": peer,
        "scopes": msgspec.to_builtins(scope),
        "widens": list(widens),
        "powerful": [*scopes.needs_confirmation(scope), *histories],
        "fingerprint": fingerprint,
        "verified": verified,
        "rules": trust_views.rule_rows(rules),
    }


def commands_of(scope: scopes.Scope, found: mcp_servers.InstalledServers) -> dict[str, str]:
    """Return the command to pin for each granted MCP server: name → JSON."""
    return {name: msgspec.json.encode(found.servers[name].command).decode() for name in scope.mcp_servers}


def pin_of(git_folder: GitFolder) -> str:
    return msgspec.json.encode(git_folder).decode()


def pins_of(found: Mapping[str, GitFolder]) -> dict[str, str]:
    """Return the pin to store for each folder, as JSON."""
    return {folder: pin_of(git_folder) for folder, git_folder in found.items()}


def histories(scope: scopes.Scope, found: Mapping[str, GitFolder]) -> tuple[str, ...]:
    """What the repositories of these folders add to the scope, as phrases for people; nothing without shells."""
    if "Bash" not in scope.tools:
        return ()
    return tuple(f"the whole history in {each.path}, the repository of {folder}" for folder, each in found.items())


def left_out(found: mcp_servers.InstalledServers) -> list[str]:
    """Return a sentence for each MCP server that cannot be granted and each configuration that cannot be read."""
    sentences = [f"{server.name}: {server.unusable}" for server in found.servers.values() if server.unusable]
    return [*sentences, *found.warnings]
