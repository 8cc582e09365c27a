"""Shortens an event of a trace: long texts keep their beginning and their end, with the number of characters left out.

Pure. An event is the JSON of an object. Nothing becomes empty or is dropped without a word, so that no output is taken
for none.
"""

from __future__ import annotations

from typing import Final

import msgspec

LEAST_KEPT: Final = 16
"""Characters kept at each end of a text, in the shortest form."""
MAX_MEMBERS: Final = 64
"""Members kept of an object or a list in the shortest form, half of them at each end."""


def shortened(event: str, most: int) -> str:
    """Return the event in at most `most` bytes of UTF-8, with `shortened_from`, its size before; itself if it fits.

    `most` is at least a kilobyte.
    """
    size = len(event.encode())
    if size <= most:
        return event
    document = msgspec.json.decode(event)
    kept = most
    while (kept := kept // 2) >= LEAST_KEPT:
        text = _encoded(_cut(document, kept, members=max(kept, MAX_MEMBERS)), size)
        if len(text.encode()) <= most:
            return text
    kind = document.get("kind") if isinstance(document, dict) else None
    return _encoded({"kind": kind if isinstance(kind, str) and len(kind) < 64 else "event", "left_out": "all"}, size)


def _encoded(document: object, size: int) -> str:
    assert isinstance(document, dict)  # an event is an object
    return msgspec.json.encode({**document, "shortened_from": size}).decode()


def _cut(value: object, kept: int, members: int) -> object:
    match value:
        case str() if len(value) > 2 * kept + 40:
            return f"{value[:kept]}\n… {len(value) - 2 * kept:,} characters left out …\n{value[-kept:]}"
        case list():
            inner = [_cut(each, kept, members) for each in _ends(value, members)]
            if len(value) > members:
                inner.insert(members // 2, f"… {len(value) - members:,} left out …")
            return inner
        case dict():
            pairs = {
                str(_cut(name, kept, members)): _cut(value[name], kept, members) for name in _ends([*value], members)
            }
            if len(value) > members:
                pairs["…"] = f"{len(value) - members:,} members left out"
            return pairs
        case _:
            return value


def _ends(values: list[object], most: int) -> list[object]:
    return values if len(values) <= most else [*values[: most // 2], *values[-(most // 2) :]]
