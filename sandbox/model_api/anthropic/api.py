"""The Anthropic Messages API, as a `ModelApi`: https://docs.claude.com/en/api/messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sandbox.model_api.anthropic import failures, requests, usage
from sandbox.model_api.anthropic.scripted_model import ScriptedModel
from sandbox.model_api.interface import Allowance, Explanation, Failure, Headers, ModelRequest, Price, Turns


class AnthropicMessages:
    """See `ModelApi`.

    Requests: requests.py and body.py; costs: usage.py; what its errors mean: failures.py; the stand-in:
    scripted_model.py.
    """

    public_url: Final = "https://api.anthropic.com"
    key_missing: Final = (
        "no key for the model is set on this machine",
        "export ANTHROPIC_API_KEY for dispatch-daemon, or `dispatch config set model.api_key -`",
    )

    def check_target(self, method: bytes, target: bytes, /) -> str:
        return requests.check_target(method, target)

    def client_key(self, headers: Headers, /) -> bytes:
        return next((value for name, value in headers if name == b"x-api-key"), b"")

    def passed_headers(self, headers: Headers, /) -> list[tuple[bytes, bytes]]:
        return requests.passed_headers(headers)

    def key_headers(self, key: str, /) -> list[tuple[bytes, bytes]]:
        # A gateway's token is given with its scheme in front (RFC 6750); no key of this API has a blank in it.
        if key.startswith("Bearer "):
            return [(b"authorization", key.encode())]
        return [(b"x-api-key", key.encode())]

    def key_check(self) -> tuple[str, list[tuple[bytes, bytes]]]:
        # https://docs.claude.com/en/api/models-list
        return "/v1/models?limit=1", [(b"anthropic-version", b"2023-06-01")]

    def check_body(self, target: str, body: bytes, allowance: Allowance, /) -> ModelRequest:
        return requests.check_body(target, body, allowance)

    def error_body(self, status: int, message: str, /) -> bytes:
        return requests.error_body(status, message)

    def failure(self, status: int, body: bytes, /) -> Failure:
        return usage.failure(status, body)

    def overloaded(self, failure: Failure, headers: Mapping[str, str], /) -> str:
        return failures.overloaded(failure, headers)

    def explain(self, failure: Failure, model: str, /) -> Explanation | None:
        return failures.explain(failure, model)

    def price(self, model: str, /) -> Price | None:
        return usage.known_price(model)

    def meter(self, request: ModelRequest, /, *, streamed: bool) -> usage.UsageReader:
        return usage.UsageReader(request, streamed=streamed)

    def scripted_model(self, turns: Turns, /, *, key: str) -> ScriptedModel:
        return ScriptedModel(turns, key=key)
