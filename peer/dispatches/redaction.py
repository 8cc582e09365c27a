"""What of a run is sent to its sender: redacted if the edge requires it; secrets and paths always masked. Pure.

On an edge with `results: redacted` the trace contains the names of the tools that were called, the sizes of their
inputs and outputs, and the outcomes; the inputs, outputs, reasoning and notes themselves stay on this machine. The
agent's reply and the files it returns are sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from peer.dispatches.folder_names import FolderNames
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
"""Members of an event that are sent on a redacted edge, by kind; of other kinds only `kind` and `at`."""
_ORDINARY_CODES: Final = (401, 403, 408, 413, 429, 503)
"""Codes of failures whose reason is our own text: a budget, a limit, a denial. Others may quote a program's output."""


class Redactor:
    """Masks, and on a redacted edge redacts, what one run sends: all that its device signs of it passes here.

    `known`: secrets of this machine by value; `folders`: the person's.
    """

    def __init__(self, *, redacts: bool, known: Iterable[str] = (), folders: FolderNames | None = None) -> None:
        self.redacts = redacts
        self._masker = Masker(known, folders)

    def name_folders(self, folders: FolderNames) -> None:
        """Replace these paths from now on."""
        self._masker.folders = folders

    def events(self, events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
        """Return these events as this machine shows them, and as they are sent."""
        sent = [self._masker.members(redacted(event) if self.redacts else event) for event in events]
        return [*events, *self.notes(events[-1].get("at") if events else None)], sent

    def text(self, text: str) -> str:
        """Return a reply or a file's name masked."""
        return self._masker.text(text)

    def reason(self, reason: str, *, status: str, code: int) -> str:
        """Return the reason of a run's end as it is sent."""
        if self.redacts and status == "failed" and reason and code not in _ORDINARY_CODES:
            return "the run failed; the reason stays on the recipient's machine"
        return self._masker.text(reason)

    def content(self, content: bytes) -> bytes | None:
        """Return a returned file's content masked, or None if it must not be sent."""
        return self._masker.content(content)

    def notes(self, at: int | None) -> list[Event]:
        """Return events for this machine only: what kinds of secrets were masked since the last call, and how many."""
        if not (found := self._masker.drain()):
            return []
        note: Event = {"kind": "status", "status": "secrets_masked", "detail": f"{summary(found)}; not sent"}
        return [note if at is None else {**note, "at": at}]


def redacted(event: Event) -> Event:
    """Return the event with its contents replaced by their sizes in bytes; outcomes stay."""
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
