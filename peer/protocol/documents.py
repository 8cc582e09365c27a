"""JSON documents, as the loopback API and the store's JSON columns have them, and words that they share."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from peer.protocol.errors import NotFound

Document = dict[str, Any]
"""A JSON object. `Any`, because its members are whatever JSON has; each function that makes one says its shape."""

Direction = Literal["received", "sent"]
"""Of a dispatch, seen from this device. The inbox lists what was received."""


def page_of(
    rows: Sequence[Document], name: Callable[[Document], str], *, limit: int | None, before: str | None
) -> tuple[list[Document], Document]:
    """Return those rows that come after the one that `before` names, at most `limit` (None: all), and {more, next}.

    `next`, the last row's name, is the next page's `before`, null on the last page. Raises NotFound.
    """
    names = list(map(name, rows))
    if before is not None and before not in names:
        raise NotFound(f"the list no longer contains {before!r:.80}", fix="start again from its first page")
    first = 0 if before is None else names.index(before) + 1
    last = len(rows) if limit is None else min(first + limit, len(rows))
    more = last < len(rows)
    return list(rows[first:last]), {"more": more, "next": names[last - 1] if more else None}
