"""The offered tools of one run's granted MCP servers, and the way of an allowed call to its server.

Starting the servers is servers.py's, the protocol with one server.py's; judging calls is the gate's. A call is
forwarded only for a ticket, and `admit` makes one ticket for one call that the gate allowed. So it does not matter what
the agent program inside sends: a message without a ruling of the gate is not forwarded.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from sandbox import frames

if TYPE_CHECKING:
    from mcp_types import CallToolResult

PREFIX: Final = "mcp__"
UNGATED: Final = "Denied by the gate: this call was not allowed."


@dataclass(frozen=True)
class Tool:
    """A server's own description of one of its tools. `pin`: hex SHA-256 of all of it that a model is shown."""

    name: str
    description: str
    input_schema: Mapping[str, object]
    pin: str


@dataclass(frozen=True)
class Reply:
    """The result of a call: as text for a trace, and as the protocol has it (None when no server was reached)."""

    ok: bool
    text: str
    result: CallToolResult | None = None


class ConnectedServer(Protocol):
    """A started server: the tools it offers, the names of all it listed, and why some are left out."""

    @property
    def name(self) -> str: ...

    @property
    def tools(self) -> Sequence[Tool]: ...

    @property
    def listed(self) -> Sequence[str]: ...

    @property
    def left_out(self) -> Sequence[str]: ...

    async def call(self, tool: str, arguments: dict[str, object]) -> Reply:
        """Raises nothing: an error is a reply."""


class McpBridge:
    """The servers of one run. `tools`: every offered tool by its full name, `mcp__server__tool`.

    `changed`: full name → pin of those that are new or changed since the edge pinned them. `first_listed`: pins of
    servers that the edge has none of yet. `left_out`: tools that cannot be offered, with the reason, for the trace.
    """

    def __init__(
        self, servers: Sequence[frames.McpServer] = (), connected: Mapping[str, ConnectedServer] | None = None
    ) -> None:
        self._servers = dict(connected or {})
        self._tickets: Counter[bytes] = Counter()
        self.tools = {
            full_name(name, tool.name): tool for name, server in self._servers.items() for tool in server.tools
        }
        self.changed: dict[str, str] = {}
        self.first_listed: dict[str, dict[str, str]] = {}
        self.left_out = [f"{name}: {reason}" for name, server in self._servers.items() for reason in server.left_out]
        for server in servers:
            listed = {tool.name: tool.pin for tool in self._servers[server.name].tools}
            if server.tools is None:
                self.first_listed[server.name] = listed
                continue
            for tool, pin in listed.items():
                if server.tools.get(tool) != pin:
                    self.changed[full_name(server.name, tool)] = pin

    @property
    def servers(self) -> Mapping[str, Sequence[Tool]]:
        """Each server with the tools that it offers."""
        return {name: server.tools for name, server in self._servers.items()}

    def admit(self, tool: str, arguments: Mapping[str, object]) -> None:
        """The gate allowed this call, once. `tool`: the full name; nothing happens for a tool of no server."""
        if tool in self.tools:
            self._tickets[_ticket(tool, arguments)] += 1

    async def call(self, tool: str, arguments: Mapping[str, object]) -> Reply:
        """Forward one call that was admitted. `tool`: the full name. Raises nothing but a cancellation."""
        ticket = _ticket(tool, arguments)
        if self._tickets[ticket] <= 0:
            return Reply(False, UNGATED)
        self._tickets -= Counter([ticket])  # which drops those that are used up
        _, server, name = tool.split("__", 2)
        return await self._servers[server].call(name, dict(arguments))


def full_name(server: str, tool: str) -> str:
    """The name under which the gate knows a server's tool."""
    return f"{PREFIX}{server}__{tool}"


def _ticket(tool: str, arguments: Mapping[str, object]) -> bytes:
    """A digest, because arguments may be large and a call that was allowed need never be made."""
    return hashlib.sha256(json.dumps([tool, arguments], sort_keys=True).encode()).digest()
