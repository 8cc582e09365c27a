"""Which requests of a run may reach the Anthropic Messages API, decided on path, headers and body. Pure.

The form of a body is body.py's; sending is proxy.py's. The key belongs to the person whose machine this is. So nothing
passes that would make the API act for the run: no server-side tools, no MCP servers, no containers, no stored files of
the account, and no URLs for it to fetch (they would carry data out). What may pass is listed, as claude 2.1.330 was
seen to send it. A member that is not listed is left out, everything else refused.
"""

from __future__ import annotations

import json
import re
from typing import Final

import msgspec

from sandbox.model_api.anthropic.body import Asking, Counting
from sandbox.model_api.anthropic.usage import DEAREST, known_price, least_usd
from sandbox.model_api.interface import Allowance, Headers, ModelRequest, Refused

PATHS: Final = ("/v1/messages", "/v1/messages/count_tokens")
QUERIES: Final = ("", "beta=true")
PASSED_HEADERS: Final = frozenset({b"anthropic-version", b"accept", b"user-agent"})

BETAS: Final = frozenset(
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
MAX_VALUES: Final = 500_000
"""Values in one body. A conversation that fills the largest context has some ten thousands, and each costs time and
memory to build, however short it is: 32 MB of empty lists took 13 s.
"""
MAX_NAME: Final = 60
"""Characters of a member's name that are told."""
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A JSON string, or one that never ends; possessive, so that looking for strings takes time linear in the body."""
_PLACEHOLDER_TOOL: Final = "DeferredToolPlaceholder"
"""A tool that the program names to some models and never has."""
_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


def error_body(status: int, message: str) -> bytes:
    """An error in the form of the API."""
    kind = _ERROR_TYPES.get(status, "permission_error" if status < 500 else "api_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


def check_target(method: bytes, target: bytes) -> str:
    """See `ModelApi.check_target`. Query strings are those that the claude program uses."""
    text = target.decode("ascii", errors="replace")
    path, _, query = text.partition("?")
    if method != b"POST" or path not in PATHS or query not in QUERIES:
        raise Refused(403, "only the model's messages API can be reached from this sandbox")
    return text


def passed_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers that are passed on: no credentials, cookies, hop-by-hop or unknown ones, no unlisted betas.

    Raises Refused 400 for an encoded body.
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
    """See `ModelApi.check_body`."""
    asks = not target.partition("?")[0].endswith("count_tokens")
    bare = _STRING.sub(b"", body)
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > MAX_VALUES:
        raise Refused(413, f"the body holds more than {MAX_VALUES:,} values")
    try:
        # Its bytes would be looked at for what encoding they have, and counted above as what they are in UTF-8.
        parsed: object = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise Refused(400, "the body is not JSON") from problem
    if not isinstance(parsed, dict):
        raise Refused(400, "the body is not a JSON object")
    try:
        form = msgspec.convert(parsed, Asking if asks else Counting)
        sent = msgspec.to_builtins(form)
    except (msgspec.ValidationError, RecursionError) as problem:
        raise Refused(403, f"the body has a form that this sandbox does not allow: {str(problem)[:200]}") from problem
    try:
        again = json.dumps(sent, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as problem:  # a number that is none: 1e999
        raise Refused(400, "the body is not JSON") from problem
    for name in form.tool_names():
        if not allowance.has_tool(name) and name != _PLACEHOLDER_TOOL:
            raise Refused(403, f"the tool {name[:60]!r} is not one that this run may use")
    # The program replaces retired names and short ones by others of its list, so every model with a price passes.
    price = known_price(form.model)
    if allowance.names(form.model):
        price = allowance.price or price
    elif price is None:
        raise Refused(403, f"the model {form.model[:60]!r} is not one that this run may use")
    return ModelRequest(
        target,
        again,
        model=form.model,
        asks=asks,
        price=price or DEAREST,
        priced=price is not None,
        least_usd=least_usd(again, form.model, price or DEAREST) if asks else 0.0,
        left_out=() if sent == parsed else tuple(sorted(_left_out(parsed, sent))),
    )


def _left_out(given: object, sent: object) -> set[str]:
    """The names of members that are in `given`, and at the same place in `sent` not."""
    missing: set[str] = set()
    pairs = [(given, sent)]
    while pairs:
        before, after = pairs.pop()
        if isinstance(before, dict) and isinstance(after, dict):
            missing.update(name[:MAX_NAME] for name in before.keys() - after.keys())
            pairs += [(before[name], value) for name, value in after.items() if name in before]
        elif isinstance(before, list) and isinstance(after, list):
            pairs += zip(before, after, strict=True)
    return missing


def _no_constant(name: str) -> object:
    raise ValueError(name)
