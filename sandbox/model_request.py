"""Which requests of a run may reach the model's API, decided on path, headers and body. Pure; sending is
model_proxy.py's.

The key belongs to the person whose machine this is. So nothing passes that would make the API act for the
run: no server-side tools, no MCP servers, no containers, no stored files of the account, and no URLs for it
to fetch (they would carry data out). What may pass is listed, as claude 2.1.330 was seen to send it (a body's form:
model_body.py); what is not listed is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from sandbox.model_body import Asking, Counting
from sandbox.model_usage import PRICES
from sandbox.policy import GRANTABLE_TOOLS

PATHS = ("/v1/messages", "/v1/messages/count_tokens")
# Query strings the claude program uses.
QUERIES = ("", "beta=true")
PASSED_HEADERS = frozenset({b"anthropic-version", b"accept", b"user-agent"})

BETAS = frozenset(
    {
        "claude-code-20250219",
        "context-1m-2025-08-07",
        "context-management-2025-06-27",
        "effort-2025-11-24",
        "interleaved-thinking-2025-05-14",
        "mid-conversation-tool-changes-2026-07-01",
        "per-turn-control-2026-07-01",
        "thinking-display-updates-2026-08-18",
        "thinking-token-count-2026-05-13",
        "token-counting-2024-11-01",
    }
)
"""What that program names in `anthropic-beta`, measured with each family of models. Any other is taken out: some beta
features act at the API.
"""
_PLACEHOLDER_TOOL = "DeferredToolPlaceholder"
"""A tool that the program offers to some models and never has."""
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one run may ask for: its built-in `tools` by name, any tool of its MCP `servers`, and, beside those whose
    price is known, the `model` that its person named.
    """

    tools: frozenset[str] = GRANTABLE_TOOLS
    servers: frozenset[str] = frozenset()
    model: str | None = None

    def has_tool(self, name: str) -> bool:
        """Whether the agent may tell the model of this tool."""
        if name.startswith("mcp__"):
            return any(name.startswith(f"mcp__{server}__") for server in self.servers)
        return name in self.tools or name == _PLACEHOLDER_TOOL

    def has_model(self, name: str) -> bool:
        """Whether the model may be asked. The program replaces retired names and short ones by others of its list."""
        named = (self.model or "").removesuffix("[1m]")
        return name == named or any(name.startswith(family) for family in PRICES)


class Refused(Exception):
    """A request that is not passed on: HTTP ``status`` and a sentence for the agent's user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request as it is sent on: ``target`` with query, re-encoded ``body``, and what is needed to
    count it.
    """

    target: str
    body: bytes
    model: str
    streamed: bool
    counted: bool


def error_body(status: int, message: str) -> bytes:
    """An error in the shape the Anthropic API uses."""
    kind = _ERROR_TYPES.get(status, "permission_error" if status < 500 else "api_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


def check_target(method: bytes, target: bytes) -> str:
    """The target to send on, or Refused 403."""
    text = target.decode("ascii", errors="replace")
    path, _, query = text.partition("?")
    if method != b"POST" or path not in PATHS or query not in QUERIES:
        raise Refused(403, "only the model's messages are reachable from this sandbox")
    return text


def passed_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The client's headers that go on: no credentials, cookies, hop-by-hop or unknown ones, no unlisted betas. Raises
    Refused 400 for an encoded body.
    """
    kept = []
    betas: list[bytes] = []
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            raise Refused(400, "send the body without content-encoding")
        if name == b"anthropic-beta":
            named = [part.strip() for part in value.split(b",")]
            betas += [part for part in named if part.decode("latin-1") in BETAS and part not in betas]
        elif name in PASSED_HEADERS and len(value) <= 4096:
            kept.append((name, value))
    return [*kept, (b"anthropic-beta", b",".join(betas))] if betas else kept


def check_body(target: str, body: bytes, allowance: Allowance) -> ModelRequest:
    """Decode, refuse what must not pass, and encode again, so that the API reads exactly what was
    checked here.
    """
    counted = not target.partition("?")[0].endswith("count_tokens")
    try:
        said = json.loads(body, parse_constant=_no_constant)
        again = json.dumps(said, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as problem:
        raise Refused(400, "the body is not JSON") from problem
    if not isinstance(said, dict):
        raise Refused(400, "the body is not a JSON object")
    try:
        form = msgspec.convert(said, Asking if counted else Counting)
    except (msgspec.ValidationError, RecursionError) as problem:
        raise Refused(403, f"the body is not of a form allowed from this sandbox: {str(problem)[:200]}") from problem
    if not allowance.has_model(form.model):
        raise Refused(403, f"the model {form.model[:60]!r} is not one that this run may use")
    for name in form.tool_names():
        if not allowance.has_tool(name):
            raise Refused(403, f"the tool {name[:60]!r} is not one that this run may use")
    streamed = isinstance(form, Asking) and form.stream is True
    return ModelRequest(target=target, body=again, model=form.model, streamed=streamed, counted=counted)


def _no_constant(name: str) -> object:
    raise ValueError(name)
