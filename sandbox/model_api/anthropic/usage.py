"""What an answer of the Anthropic Messages API cost: its own token counts, and the prices of models. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sandbox.model_api.interface import Cost, Failure, ModelRequest, Price

# US dollars per million tokens (input, output), by model-name prefix; the longest prefix that fits counts. The values
# are those that claude 2.1.330 itself counts with, measured by answering it with known token counts; the 3.x and first
# 4 models from the public price list, https://docs.claude.com/en/docs/about-claude/pricing
_PRICES: Final[Mapping[str, tuple[float, float]]] = {
    "claude-fable-5": (10.0, 50.0),
    "claude-fable-5-2": (8.0, 40.0),
    "claude-mythos-5": (10.0, 50.0),
    "claude-mythos-5-2": (8.0, 40.0),
    "claude-opus-4": (15.0, 75.0),
    "claude-opus-4-5": (5.0, 25.0),
    "claude-opus-4-6": (5.0, 25.0),
    "claude-opus-4-7": (5.0, 25.0),
    "claude-opus-4-8": (5.0, 25.0),
    "claude-opus-5": (5.0, 25.0),
    "claude-opus-5-5": (4.0, 20.0),
    "claude-sonnet-4": (3.0, 15.0),
    "claude-sonnet-5": (2.0, 10.0),
    "claude-haiku-4-5": (1.0, 5.0),
    "claude-haiku-5-5": (0.1, 0.5),
    "claude-3-7-sonnet": (3.0, 15.0),
    "claude-3-5-sonnet": (3.0, 15.0),
    "claude-3-5-haiku": (0.8, 4.0),
    "claude-3-haiku": (0.25, 1.25),
}
_CACHE_WRITE, _CACHE_WRITE_HOUR, _CACHE_READ = 1.25, 2.0, 0.1
# Sonnet 4 alone costs more beyond this many tokens of input.
_LONG_CONTEXT_MODELS, _LONG_CONTEXT, _LONG_INPUT, _LONG_OUTPUT = "claude-sonnet-4", 200_000, 2.0, 1.5
# A token is about four characters of English and fewer of anything else; used where the API's own count is missing.
BYTES_PER_TOKEN: Final = 3


@dataclass(slots=True)
class Tokens:
    """One request's count as the API reports it."""

    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_write_hour: int = 0
    cache_read: int = 0

    @property
    def all_input(self) -> int:
        return self.input + self.cache_write + self.cache_write_hour + self.cache_read

    def update(self, reported: object) -> None:
        """Merge a `usage` object; counts in later events are cumulative, so the larger one counts."""
        if not isinstance(reported, dict):
            return
        self.input = max(self.input, _count(reported, "input_tokens"))
        self.output = max(self.output, _count(reported, "output_tokens"))
        self.cache_read = max(self.cache_read, _count(reported, "cache_read_input_tokens"))
        written = _count(reported, "cache_creation_input_tokens")
        hour = _count(reported.get("cache_creation"), "ephemeral_1h_input_tokens")
        self.cache_write_hour = max(self.cache_write_hour, min(hour, written))
        self.cache_write = max(self.cache_write, written - min(hour, written))

    def cost_usd(self, model: str, price: Price) -> float:
        """What these tokens of `model` cost at `price`, in US dollars."""
        asked = (
            self.input * price.input
            + self.cache_write * price.cache_write
            + self.cache_write_hour * price.cache_write_hour
            + self.cache_read * price.cache_read
        )
        answered = self.output * price.output
        if self.all_input > _LONG_CONTEXT and price is known_price(model) and model.startswith(_LONG_CONTEXT_MODELS):
            asked, answered = asked * _LONG_INPUT, answered * _LONG_OUTPUT
        return (asked + answered) / 1_000_000


def _price(per_input: float, per_output: float) -> Price:
    written, written_hour, read = (per_input * factor for factor in (_CACHE_WRITE, _CACHE_WRITE_HOUR, _CACHE_READ))
    return Price(per_input, per_output, written, written_hour, read)


_KNOWN: Final = {prefix: _price(*pair) for prefix, pair in _PRICES.items()}
DEAREST: Final = _KNOWN["claude-opus-4"]
"""What a model whose price is not known is held to: a budget ends a run of it early rather than late."""


def known_price(model: str) -> Price | None:
    """The price of a model by its name; None for a name that the table does not have."""
    fitting = [prefix for prefix in _KNOWN if model.startswith(prefix)]
    return _KNOWN[max(fitting, key=len)] if fitting else None


def least_usd(body: bytes, model: str, price: Price) -> float:
    """What a request with this body costs, in US dollars, before a word of its answer."""
    return Tokens(input=len(body) // BYTES_PER_TOKEN).cost_usd(model, price)


class UsageReader:
    """An `AnswerMeter`: reads `usage` and errors out of a streamed or whole answer. Keeps at most `max_line` bytes."""

    def __init__(self, request: ModelRequest, *, streamed: bool, max_line: int = 1024 * 1024) -> None:
        self.tokens = Tokens()
        self.complete = False
        self.size = 0
        self.failure: Failure | None = None
        self.shortfall: Failure | None = None
        self._request = request
        self._streamed = streamed
        self._content = False
        self._max_line = max_line
        self._rest = b""
        self._skipping = False

    @property
    def begun(self) -> bool:
        """See `AnswerMeter`. An answer in one piece is content from its first byte."""
        return self._content or not self._streamed

    @property
    def whole(self) -> bool:
        """See `AnswerMeter`. After the last counts comes only `message_stop`, which some gateways leave out."""
        if not self._streamed and not self.complete:
            self._object(self._rest)
        return self.complete and self.failure is None

    def feed(self, chunk: bytes) -> None:
        """See `AnswerMeter`."""
        self.size += len(chunk)
        if not self._streamed:
            if len(self._rest) <= self._max_line:
                self._rest += chunk
            return
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if not self._skipping:
                self._line(line)
            self._skipping = False
        if len(self._rest) > self._max_line:
            self._rest, self._skipping, self._content = b"", True, True

    def cost(self) -> Cost:
        """See `AnswerMeter`."""
        if not self._streamed:
            self._object(self._rest)
        if not self.complete:
            self.tokens.output = max(self.tokens.output, self.size // BYTES_PER_TOKEN)
            if not self.tokens.all_input:
                self.tokens.input = len(self._request.body) // BYTES_PER_TOKEN
        usd = self.tokens.cost_usd(self._request.model, self._request.price)
        return Cost(self.tokens.all_input, self.tokens.output, usd)

    def _line(self, line: bytes) -> None:
        # Most lines are text deltas; only those with counts or an error are worth parsing.
        if line.startswith(b"event:"):
            self._content = self._content or line[6:].strip() not in _BEFORE_CONTENT
        elif line.startswith(b"data:") and any(kind in line for kind in _PARSED):
            self._object(line[5:])

    def _object(self, text: bytes) -> None:
        try:
            event: object = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(event, dict):
            return
        if event.get("type") == "message_start":
            message = event.get("message")
            self.tokens.update(message.get("usage") if isinstance(message, dict) else None)
        elif event.get("type") in ("message_delta", "message"):
            self.tokens.update(event.get("usage"))
            self.complete = True
            delta = event.get("delta", event)
            ending = delta.get("stop_reason") if isinstance(delta, dict) else None
            if ending in _SHORTFALLS:
                self.shortfall = Failure(_STREAM_STATUS, ending)
        elif event.get("type") == "error":
            self.failure = failure(_STREAM_STATUS, text)


_BEFORE_CONTENT: Final = (b"message_start", b"ping", b"error")
_PARSED: Final = (b'"message_start"', b'"message_delta"', b'"error"')
_SHORTFALLS: Final = ("refusal", "model_context_window_exceeded")
"""https://docs.claude.com/en/api/handling-stop-reasons"""
_STREAM_STATUS: Final = 200
"""The status of an answer in whose stream an error comes: https://docs.claude.com/en/api/streaming#error-events."""


def failure(status: int, body: bytes) -> Failure:
    """The error in a body of the API's form, `{"type": "error", "error": {"type": …}}`; without a kind in any other."""
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        return Failure(status)
    error = parsed.get("error") if isinstance(parsed, dict) else None
    kind, said = (error.get("type"), error.get("message")) if isinstance(error, dict) else (None, None)
    return Failure(status, kind if isinstance(kind, str) else "", said if isinstance(said, str) else "")


def _count(reported: object, name: str) -> int:
    value = reported.get(name) if isinstance(reported, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else 0
