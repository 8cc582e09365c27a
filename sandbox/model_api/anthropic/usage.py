"""What an answer of the Anthropic Messages API cost: its own token counts, and the prices of models. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sandbox.model_api.interface import Cost, ModelRequest

# US dollars per million tokens (input, output), by model-name prefix; the longest prefix that fits counts. The values
# are those that claude 2.1.330 itself counts with, measured by answering it with known token counts; the 3.x and first
# 4 models from the public price list, https://docs.claude.com/en/docs/about-claude/pricing
PRICES: Final[Mapping[str, tuple[float, float]]] = {
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
# A name the table does not know is counted like the dearest one: a budget may end a run early, never late.
DEAREST: Final = (15.0, 75.0)
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

    def cost_usd(self, model: str) -> float:
        """The price of these tokens for `model`, in US dollars."""
        per_input, per_output = price(model)
        if self.all_input > _LONG_CONTEXT and model.startswith(_LONG_CONTEXT_MODELS):
            per_input, per_output = per_input * _LONG_INPUT, per_output * _LONG_OUTPUT
        weighted = (
            self.input
            + self.cache_write * _CACHE_WRITE
            + self.cache_write_hour * _CACHE_WRITE_HOUR
            + self.cache_read * _CACHE_READ
        )
        return (weighted * per_input + self.output * per_output) / 1_000_000


def price(model: str) -> tuple[float, float]:
    """US dollars per million tokens (input, output) for a model name."""
    fitting = [prefix for prefix in PRICES if model.startswith(prefix)]
    return PRICES[max(fitting, key=len)] if fitting else DEAREST


def least_usd(body: bytes, model: str) -> float:
    """What a request with this body costs, in US dollars, before a word of its answer."""
    return Tokens(input=len(body) // BYTES_PER_TOKEN).cost_usd(model)


class UsageReader:
    """An `AnswerMeter`: reads `usage` out of a streamed or whole answer. Keeps at most `max_line` bytes."""

    def __init__(self, request: ModelRequest, *, streamed: bool, max_line: int = 1024 * 1024) -> None:
        self.tokens = Tokens()
        self.complete = False
        self.size = 0
        self._request = request
        self._streamed = streamed
        self._max_line = max_line
        self._rest = b""
        self._skipping = False

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
            self._rest, self._skipping = b"", True

    def cost(self) -> Cost:
        """See `AnswerMeter`."""
        if not self._streamed:
            self._object(self._rest)
        if not self.complete:
            self.tokens.output = max(self.tokens.output, self.size // BYTES_PER_TOKEN)
            if not self.tokens.all_input:
                self.tokens.input = len(self._request.body) // BYTES_PER_TOKEN
        return Cost(self.tokens.all_input, self.tokens.output, self.tokens.cost_usd(self._request.model))

    def _line(self, line: bytes) -> None:
        # Most lines are text deltas; only the two kinds with counts are worth parsing.
        if line.startswith(b"data:") and (b'"message_start"' in line or b'"message_delta"' in line):
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


def _count(reported: object, name: str) -> int:
    value = reported.get(name) if isinstance(reported, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else 0
