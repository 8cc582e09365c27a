"""The message and fix for a dispatch that another machine refused: our text by its code, its text only quoted. Pure.

A fix may be a command that a person types, so it never contains text of another machine.
"""

from __future__ import annotations

from typing import Final

MAX_QUOTED: Final = 500
"""Characters quoted of another machine's message."""

_FIXES: Final[dict[int, str]] = {
    403: "ask {peer}, who decides what is taken in from you: `dispatch contacts` shows your edge",
    409: "send it again",
    410: "send it again",
    413: "send less of it",
    415: "ask {peer} to update dispatch, then send it again",
    422: "send it again; if it is refused again, update dispatch on both machines",
    429: "send it later",
}


def reason(peer: str, code: int, their_message: str) -> tuple[str, str]:
    """Return (message, fix) for a dispatch that `peer`'s machine refused with this code and message."""
    quoted = their_message.strip().replace("“", '"').replace("”", '"')
    if len(quoted) > MAX_QUOTED:
        quoted = quoted[:MAX_QUOTED] + "…"
    message = f"{peer}'s machine refused it" + (f" and says: “{quoted}”" if quoted else "")
    return message, _FIXES.get(code, "").format(peer=peer)
