"""What a sender is told of a run: redacted where the edge says so, secrets masked always. Pure.

On an edge with `results: redacted` the trace tells which tools were called, how large their inputs and outputs were and
how it went; what was read, thought, noted or named stays. The agent's reply and the files it returns are its answer to
the sender, and go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from peer.dispatches.masking import Masker, summary
from peer.protocol.documents import Document

Event = Document

_KEPT: Final = {
    "reasoning": ("kind", "at"),
    "tool_call": ("kind", "at", "call_id", "tool", "agent_id"),
    "approval": ("kind", "at", "call_id", "outcome", "by", "grant"),
    "tool_result": ("kind", "at", "call_id", "ok"),
    "status": ("kind", "at", "status"),
}
"""Members of an event that a redacted edge tells, by kind; of any other kind, that there was one."""
_ORDINARY_CODES: Final = (401, 403, 408, 413, 429, 503)
"""Of a failure whose reason is in our own words: a budget, a limit, a denial. Others may quote a program's output."""


class Redactor:
    """One run's way of telling. `known`: secrets of this machine by their value."""

    def __init__(self, *, redacts: bool, known: Iterable[str] = ()) -> None:
        self.redacts = redacts
        self._masker = Masker(known)

    def events(self, events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
        """Return what this machine's person is shown of these events, and what the sender is told."""
        told = [self._masker.members(redacted(event) if self.redacts else event) for event in events]
        return [*events, *self.notes(events[-1].get("at") if events else None)], told

    def text(self, text: str) -> str:
        """Return a reply or a file's name as the sender may read it."""
        return self._masker.text(text)

    def reason(self, reason: str, *, status: str, code: int) -> str:
        """Return why a run ended as the sender may read it."""
        if self.redacts and status == "failed" and reason and code not in _ORDINARY_CODES:
            return "the run failed; why stays on the recipient's machine"
        return self._masker.text(reason)

    def content(self, content: bytes) -> bytes | None:
        """Return a returned file's content masked, or None when it must be kept back."""
        return self._masker.content(content)

    def notes(self, at: int | None) -> list[Event]:
        """Return events for this machine's person alone: what was masked since the last time, never the secrets."""
        if not (found := self._masker.drain()):
            return []
        note: Event = {"kind": "status", "status": "secrets_masked", "detail": f"{summary(found)}; not sent"}
        return [note if at is None else {**note, "at": at}]


def redacted(event: Event) -> Event:
    """Return the event without anything that it contains: sizes in bytes and outcomes."""
    kind = event.get("kind")
    kept = {name: event[name] for name in _KEPT.get(str(kind), ("kind", "at")) if name in event}
    match kind:
        case "reasoning":
            return {**kept, "text": _size(event.get("text", ""))}
        case "tool_call":
            return {**kept, "input": {"redacted_bytes": len(msgspec.json.encode(event.get("input", {})))}}
        case "tool_result":
            return {**kept, "output": _size(event.get("output", ""))}
        case _:
            return kept


def _size(text: object) -> str:
    return f"({len(str(text).encode())} bytes, redacted)"
