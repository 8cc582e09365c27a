"""What the proxy needs to know of a model's API, and the values that both exchange. No API's own form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, by what becomes of them. `cache_write_hour`: of what is cached for an hour."""

    input: float
    output: float
    cache_write: float
    cache_write_hour: float
    cache_read: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one run may ask for.

    `tools`: its built-in tools by name. `servers`: MCP servers, all tools of them. `model`: the one that its person
    named, beside those whose price is known. `price`: what the person says that this one costs.
    """

    tools: frozenset[str]
    servers: frozenset[str] = frozenset()
    model: str | None = None
    price: Price | None = None

    def names(self, model: str) -> bool:
        """Whether this is the model that the person named. `[1m]` after it is for the agent program alone."""
        return self.model is not None and model == self.model.removesuffix("[1m]")

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

    `asks`: it asks for an answer of the model, which costs money and is a turn; otherwise it is free. `price`: the
    model's, or where that is not known (`priced` False) the dearest one that is. `least_usd`: what it costs before the
    answer begins. `left_out`: names of members that are not passed on, since no form of a request has them.
    """

    target: str
    body: bytes
    model: str
    asks: bool
    price: Price
    priced: bool
    least_usd: float
    left_out: tuple[str, ...] = ()


@dataclass(slots=True)
class Usage:
    """What a run has spent so far.

    `turns`: whole answers of the model; `broken_off`: those that began and broke off. `input_tokens` includes cache
    reads and writes; `refused`: requests that the proxy did not pass on. `cost_usd`: by known prices; `assumed_usd`:
    what the answers of models without one would have cost at the dearest known price. The budget holds for both.
    """

    requests: int = 0
    turns: int = 0
    broken_off: int = 0
    refused: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    assumed_usd: float = 0.0

    @property
    def held_usd(self) -> float:
        """What counts against the budget."""
        return self.cost_usd + self.assumed_usd


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of the model's API: HTTP `status`, its `kind` by the API's own word and what it `said`, "" for none."""

    status: int
    kind: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A failure for people: what happened, what helps, and a `code` as in `sandbox.errors`. Nothing of it is quoted."""

    reason: str
    fix: str
    code: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What one answer cost. `input_tokens` includes cache reads and writes."""

    input_tokens: int
    output_tokens: int
    usd: float


class AnswerMeter(Protocol):
    """Reads what an answer cost, and whether it is whole, as its bytes pass by. Bounded in memory."""

    size: int
    """Bytes of the answer so far."""

    @property
    def begun(self) -> bool:
        """Whether there is content in it so far, which the client must get: before, it can be asked for anew unseen."""

    @property
    def whole(self) -> bool:
        """Whether it came to its end. Of an answer in one piece: once the body has ended."""

    @property
    def failure(self) -> Failure | None:
        """The error that the API put in place of the rest of the answer."""

    @property
    def shortfall(self) -> Failure | None:
        """Why an answer that came to its end is not what was asked for: the model refused, or its context is full."""

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

    def key_check(self) -> tuple[str, list[tuple[bytes, bytes]]]:
        """(target, headers) of a GET that costs nothing and is answered 401 or 403 for a key that is not in force."""

    def check_body(self, target: str, body: bytes, allowance: Allowance, /) -> ModelRequest:
        """Decode, refuse what must not pass, and encode again, so that the API reads exactly what was checked.

        Raises Refused: 400 for what is no request at all, 403 for what this run may not ask.
        """

    def error_body(self, status: int, message: str, /) -> bytes:
        """An error in the form of this API."""

    def failure(self, status: int, body: bytes, /) -> Failure:
        """What an error that the API answered is."""

    def overloaded(self, failure: Failure, headers: Mapping[str, str], /) -> str:
        """Why the same request will be answered if it is sent later ("overloaded"); "" for every other failure."""

    def explain(self, failure: Failure, model: str, /) -> Explanation | None:
        """A failure for people, of a request to `model`; None for one of which nothing more is known."""

    def price(self, model: str, /) -> Price | None:
        """The price of a model by its name; None if it is not known."""

    def meter(self, request: ModelRequest, /, *, streamed: bool) -> AnswerMeter:
        """A meter for the answer to `request`."""

    def scripted_model(self, turns: Turns, /, *, key: str) -> ScriptedModel:
        """A model for a proof, which answers 401 without `key`."""
