"""What a sender sees of a trace on an edge with `results: redacted`: sizes and outcomes, not contents. Pure."""

from __future__ import annotations

from typing import Any

import msgspec


def redacted(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event with a tool call's input and a tool result's output replaced by their size in bytes."""
    match event.get("kind"):
        case "tool_call":
            size = len(msgspec.json.encode(event.get("input", {})))
            return {**event, "input": {"redacted_bytes": size}}
        case "tool_result":
            return {**event, "output": f"({len(str(event.get('output', '')).encode())} bytes, redacted)"}
        case "approval":
            return {name: value for name, value in event.items() if name != "note"}
        case _:
            return event
