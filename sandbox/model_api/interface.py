"""What the proxy needs to know of a model's API, and the values that both exchange. No API's own form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one run may ask for.

    `tools`: its built-in tools by name. `servers`: MCP servers, all tools of them. `model`: the one that its person
    named, beside those whose price is known.
    """

    tools: frozenset[str]
    servers: frozenset[str] = frozenset()
    model: str | None = None

    def has_tool(self, name: str) -> bool:
        """Whether the agent may name this tool to the model."""
        if name.startswith("mcp__"):
            return any(name.startswith(f"mcp__{server}__") for server in self.servers)
        return name in self.tools


class Refused(Exception):
    """A request that is not passed on: HTTP `status` and a sentence for the agent's user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request as it is passed on: `target` with its query, and the `body`, encoded anew.

    `model`: its name, for the price. `asks`: it asks for an answer of the model, which costs money and is a turn;
    otherwise it is free. `least_usd`: what it costs before the answer begins.
    """

    target: str
    body: bytes
    model: str
    asks: bool
    least_usd: float


@dataclass(slots=True)
class Usage:
    """What a run has spent so far.

    `turns`: whole answers of the model; `broken_off`: those that began and broke off. `input_tokens` includes cache
    reads and writes; `refused`: requests that the proxy did not pass on.
    """

    requests: int = 0
    turns: int = 0
    broken_off: int = 0
    refused: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What one answer cost. `input_tokens` includes cache reads and writes."""

    input_tokens: int
    output_tokens: int
    usd: float


class AnswerMeter(Protocol):
    """Reads what an answer cost as its bytes pass by. Bounded in memory."""

    size: int
    """Bytes of the answer so far."""

    def feed(self, chunk: bytes, /) -> None:
        """Take the next bytes of the body."""

    def cost(self) -> Cost:
        """The cost, once the body has ended. For an answer that broke off, an estimate on the high side."""


Turns = Sequence[Mapping[str, object]]
"""What a scripted model answers, in turn: {"text"?: words, "tools"?: [{"name", "input"?}]}. The last has only words."""


class ScriptedRequest(Protocol):
    """A request that a scripted model got."""

    @property
    def opening(self) -> str:
        """The first message of its conversation, as JSON text."""

    @property
    def text(self) -> str:
        """All of its conversation, tool results included, as JSON text."""


class ScriptedModel(Protocol):
    """A stand-in for the model's API on loopback whose turns are given."""

    @property
    def url(self) -> str:
        """Its base URL, once it runs."""

    @property
    def requests(self) -> Iterable[ScriptedRequest]:
        """The last ones, oldest first."""

    def running(self) -> AbstractAsyncContextManager[object]:
        """Serve while the context lasts."""


class ModelApi(Protocol):
    """One API that serves models. The proxy passes on only what this permits."""

    @property
    def public_url(self) -> str:
        """Its base URL where the person names none."""

    @property
    def key_missing(self) -> tuple[str, str]:
        """(sentence, fix) for a person without a key for it."""

    def check_target(self, method: bytes, target: bytes, /) -> str:
        """The target to pass on. Raises Refused 403 for anything but asking the model."""

    def client_key(self, headers: Headers, /) -> bytes:
        """What the client sent as its key; b"" if nothing."""

    def passed_headers(self, headers: Headers, /) -> list[tuple[bytes, bytes]]:
        """The client's headers that are passed on, no credential among them. Raises Refused 400 for an encoded body."""

    def key_headers(self, key: str, /) -> list[tuple[bytes, bytes]]:
        """The headers that carry the key to the API."""

    def check_body(self, target: str, body: bytes, allowance: Allowance, /) -> ModelRequest:
        """Decode, refuse what must not pass, and encode again, so that the API reads exactly what was checked.

        Raises Refused: 400 for what is no request at all, 403 for what this run may not ask.
        """

    def error_body(self, status: int, message: str, /) -> bytes:
        """An error in the form of this API."""

    def meter(self, request: ModelRequest, /, *, streamed: bool) -> AnswerMeter:
        """A meter for the answer to `request`."""

    def scripted_model(self, turns: Turns, /, *, key: str) -> ScriptedModel:
        """A model for a proof, which answers 401 without `key`."""
