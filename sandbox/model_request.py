"""Which requests of a run may reach the model's API, decided on path, headers and body. Pure; sending is
model_proxy.py's.

The key belongs to the person whose machine this is. So nothing passes that would make the API act for the
run: no server-side tools, no MCP servers, no containers, no stored files of the account, and no URLs for it
to fetch (they would carry data out).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

PATHS = ("/v1/messages", "/v1/messages/count_tokens")
# Query strings the claude program uses.
QUERIES = ("", "beta=true")
PASSED_HEADERS = frozenset({b"anthropic-version", b"anthropic-beta", b"accept", b"user-agent"})
# Tools that only describe what the client does itself. Everything else with a `type` runs at the API.
_CLIENT_TOOLS = ("custom", "bash_", "text_editor_", "memory_")
_SERVER_KEYS = ("mcp_servers", "container")
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


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
    """The client's headers that go on: no credentials, cookies, hop-by-hop or unknown ones. Raises
    Refused 400 for an encoded body.
    """
    kept = []
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            raise Refused(400, "send the body without content-encoding")
        if name in PASSED_HEADERS and len(value) <= 4096:
            kept.append((name, value))
    return kept


def check_body(target: str, body: bytes) -> ModelRequest:
    """Decode, refuse what must not pass, and encode again, so that the API reads exactly what was
    checked here.
    """
    try:
        said = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise Refused(400, "the body is not JSON") from problem
    if not isinstance(said, dict):
        raise Refused(400, "the body is not a JSON object")
    model = said.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= 200:
        raise Refused(400, "the body names no model")
    for key in _SERVER_KEYS:
        if said.get(key):
            raise Refused(403, f"`{key}` is not allowed from this sandbox: it would act outside it")
    tools = said.get("tools") or []
    if not isinstance(tools, list):
        raise Refused(400, "`tools` is not a list")
    for tool in tools:
        kind = tool.get("type") if isinstance(tool, dict) else ""
        if kind is not None and not (isinstance(kind, str) and kind.startswith(_CLIENT_TOOLS)):
            raise Refused(
                403,
                f"the tool type {str(kind)[:60]!r} is not allowed from this sandbox: it would act outside it",
            )
    _check_sources([said.get("messages"), said.get("system")])
    return ModelRequest(
        target=target,
        body=json.dumps(said, separators=(",", ":")).encode(),
        model=model,
        streamed=said.get("stream") is True,
        counted=not target.partition("?")[0].endswith("count_tokens"),
    )


def _check_sources(waiting: list[object]) -> None:
    """Refuse content the API would fetch or take from the account's files. A loop, not recursion: depth
    is the client's choice.
    """
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            source = item.get("source")
            if item.get("type") == "container_upload" or (
                isinstance(source, dict) and source.get("type") in ("url", "file")
            ):
                raise Refused(403, "content by URL or stored file is not allowed from this sandbox")
            # A tool's input is the model's own words, free in shape; it is not content.
            waiting.extend(value for key, value in item.items() if key != "input" and isinstance(value, (list, dict)))


def _no_constant(name: str) -> object:
    raise ValueError(name)
