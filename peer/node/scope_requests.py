"""A scope as a person asks for it: out of an API request, as they confirm it, and what of this machine it pins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import trio

from peer.machine import mcp_servers, registries
from peer.projects.git_folders import GitFolder
from peer.protocol.documents import Document
from peer.protocol.errors import Conflict, Invalid
from peer.trust import grants, network_words, scopes

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
    by_proxy: Sequence[str],
) -> Document:
    """Return the document that a person confirms before more is permitted.

    `by_proxy`: the hosts to confirm because this machine's HTTP proxy resolves their names.
    """
    return {
        "status": "confirmation_required",
        "peer": peer,
        "scopes": msgspec.to_builtins(scope),
        "widens": list(widens),
        "powerful": [*scopes.needs_confirmation(scope), *histories],
        "fingerprint": fingerprint,
        "verified": verified,
        "by_proxy": list(by_proxy),
        "rules": [],
    }


def require_shown(scope: scopes.Scope, request: Document) -> None:
    """Raise Conflict where the person was shown other registries than this machine has by now."""
    shown = request.get("registries")
    if shown is not None and list(shown) != list(msgspec.to_builtins(scope.registries)):
        raise Conflict(
            "this machine's package registries have changed since you were shown them",
            fix="look at them again, then grant packages",
        )


def require_confirmed(asked: Document, request: Document) -> None:
    """Raise Conflict unless the request confirms what needs it. `asked`: what `to_confirm` returned.

    That is a powerful grant to an unverified user, and each host whose name this machine's HTTP proxy resolves.
    """
    if asked["powerful"] and not asked["verified"] and not request.get("confirm_unverified"):
        raise Conflict(
            f"{asked['peer']} is unverified, and you would grant {', '.join(asked['powerful'])}; their fingerprint is "
            f"{asked['fingerprint']}",
            fix="compare the fingerprint with them in person or by phone, then repeat with --yes-unverified; or "
            "accept with the address that they share with you",
        )
    if left := [host for host in asked["by_proxy"] if host not in (request.get("confirm_by_proxy") or ())]:
        raise Conflict(
            network_words.proxied(left).removesuffix("."),
            fix=f"to grant these hosts nevertheless, repeat with --yes-by-proxy {','.join(left)}",
        )


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
