"""Which requests of a run may reach the model's API, decided on path, headers and body. Pure; sending is
model_proxy.py's.

The key belongs to the person whose machine this is. So nothing passes that would make the API act for the
run: no server-side tools, no MCP servers, no containers, no stored files of the account, and no URLs for it
to fetch (they would carry data out). What may pass is listed, as claude 2.1.330 was seen to send it; what is not
listed is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sandbox.model_usage import PRICES
from sandbox.policy import GRANTABLE_TOOLS

PATHS = ("/v1/messages", "/v1/messages/count_tokens")
# Query strings the claude program uses.
QUERIES = ("", "beta=true")
PASSED_HEADERS = frozenset({b"anthropic-version", b"accept", b"user-agent"})
MAX_TOKENS = 128_000
"""The most that claude 2.1.330 asks for in one answer, of any model."""

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
_MEMBERS = frozenset(
    {
        "context_management",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
_TOOL_MEMBERS = frozenset(
    {"cache_control", "defer_loading", "description", "eager_input_streaming", "input_schema", "name", "strict", "type"}
)
_BLOCKS = frozenset(
    {
        "document",
        "image",
        "redacted_thinking",
        "text",
        "thinking",
        "tool_addition",
        "tool_reference",
        "tool_removal",
        "tool_result",
        "tool_use",
    }
)
_BLOCK_PARTS = frozenset({"cache_control", "caller", "citations", "content", "input", "source", "tool"})
"""Members of a block that may hold more than one value; whatever else holds more is not known here."""
_SOURCES = frozenset({"base64", "content", "text"})
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
    try:
        said = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise Refused(400, "the body is not JSON") from problem
    if not isinstance(said, dict):
        raise Refused(400, "the body is not a JSON object")
    for key in said.keys() - _MEMBERS:
        raise _outside(f"`{key[:60]}`")
    model = said.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= 200:
        raise Refused(400, "the body names no model")
    if not allowance.has_model(model):
        raise Refused(403, f"the model {model[:60]!r} is not one that this run may use")
    _check_bounds(said)
    tools = said.get("tools") or []
    if not isinstance(tools, list):
        raise Refused(400, "`tools` is not a list")
    for tool in tools:
        _check_tool(tool, allowance)
    _check_messages(said.get("messages"), allowance)
    _check_content(said.get("system"), allowance)
    return ModelRequest(
        target=target,
        body=json.dumps(said, separators=(",", ":")).encode(),
        model=model,
        streamed=said.get("stream") is True,
        counted=not target.partition("?")[0].endswith("count_tokens"),
    )


def _outside(what: str) -> Refused:
    return Refused(403, f"{what} is not allowed from this sandbox: it could act outside it")


def _check_bounds(said: dict[str, Any]) -> None:
    most = said.get("max_tokens", 0)
    if type(most) is not int or not 0 <= most <= MAX_TOKENS:
        raise Refused(403, f"`max_tokens` is at most {MAX_TOKENS} here")
    metadata = said.get("metadata") or {}
    if not isinstance(metadata, dict) or metadata.keys() - {"user_id"}:
        raise _outside("`metadata` of that form")
    output = said.get("output_config") or {}
    if not isinstance(output, dict) or output.keys() - {"effort", "format"}:
        raise _outside("`output_config` of that form")
    management = said.get("context_management") or {}
    edits = management.get("edits", []) if isinstance(management, dict) else None
    if (
        not isinstance(management, dict)
        or management.keys() - {"edits"}
        or not isinstance(edits, list)
        or not all(isinstance(edit, dict) and str(edit.get("type")).startswith("clear_") for edit in edits)
    ):
        raise _outside("`context_management` of that form")


def _check_tool(tool: object, allowance: Allowance) -> None:
    """A tool must be one of the agent's own, which only describes to the model what this side does."""
    if not isinstance(tool, dict) or tool.get("type") not in (None, "custom") or tool.keys() - _TOOL_MEMBERS:
        kind = tool.get("type") if isinstance(tool, dict) else ""
        raise _outside(f"a tool of the type {str(kind)[:60]!r} or with unknown members")
    name = tool.get("name")
    if not isinstance(name, str) or not allowance.has_tool(name):
        raise _outside(f"the tool {str(name)[:60]!r}")


def _check_messages(messages: object, allowance: Allowance) -> None:
    if messages is None:
        return
    if not isinstance(messages, list):
        raise Refused(400, "`messages` is not a list")
    for message in messages:
        if not isinstance(message, dict) or message.keys() - {"role", "content", "output_config"}:
            raise _outside("a message of that form")
        _check_content(message.get("content"), allowance)


def _check_content(content: object, allowance: Allowance) -> None:
    """Text, or blocks of known types. A loop, not recursion: depth is the client's choice."""
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if item is None or isinstance(item, str):
            continue
        if isinstance(item, list):
            waiting.extend(item)
            continue
        if not isinstance(item, dict) or item.get("type") not in _BLOCKS:
            kind = item.get("type") if isinstance(item, dict) else type(item).__name__
            raise _outside(f"content of the type {str(kind)[:60]!r}")
        for key, value in item.items():
            if isinstance(value, (dict, list)) and key not in _BLOCK_PARTS:
                raise _outside(f"`{key[:60]}` in content")
        source = item.get("source")
        if source is not None:
            if not isinstance(source, dict) or source.get("type") not in _SOURCES:
                raise Refused(403, "content by URL or stored file is not allowed from this sandbox")
            waiting.append(source.get("content"))
        waiting.append(item.get("content"))
        if item["type"] == "tool_addition":
            added = item.get("tool")
            _check_tool(added.get("definition") if isinstance(added, dict) else None, allowance)


def _no_constant(name: str) -> object:
    raise ValueError(name)
