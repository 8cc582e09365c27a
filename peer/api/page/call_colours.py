"""What of a call that waits is coloured: the two sides of its diff, or its command. Pure.

The colours themselves come from `peer.node.colouring`. A page draws them over the text that it has: they change no
character of it, and a row in which something has to be made visible has none.
"""

from __future__ import annotations

import re
from typing import Final

from peer.protocol.documents import Document
from sandbox.changes.colours import Asked

MAX_LINES: Final = 100_000
"""Lines of a file of which a diff is coloured."""
_HUNK: Final = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@", re.ASCII)


def asked_of(call: Document) -> Asked | None:
    """Return what to colour of a call: {tool, input, diff, resolved_path} as it is stored; None for nothing.

    Of a diff each line stands at its number, and lines that the diff leaves out are empty: what is shown is coloured by
    what is known of the file.
    """
    given = call.get("input")
    values = given if isinstance(given, dict) else {}
    if call.get("tool") == "Bash" and isinstance(command := values.get("command"), str):
        return Asked(name="command.sh", old="", new=command)
    diff, path = call.get("diff"), call.get("resolved_path")
    if not isinstance(diff, str) or not isinstance(path, str):
        return None
    sides = _sides(diff)
    return None if sides is None else Asked(name=path.rpartition("/")[2], old=sides[0], new=sides[1])


def _sides(diff: str) -> tuple[str, str] | None:
    """Return the two texts of a unified diff, as far as it has them; None for what is none, or is too long."""
    old: list[str] = []
    new: list[str] = []
    within = False
    for row in diff.split("\n"):
        if found := _HUNK.fullmatch(row):
            within = True
            for side, number in ((old, int(found[1])), (new, int(found[2]))):
                if number > MAX_LINES:
                    return None
                side.extend([""] * (number - 1 - len(side)))
        elif within and row[:1] in ("-", " "):
            old.append(row[1:])
        if within and row[:1] in ("+", " "):
            new.append(row[1:])
    return ("\n".join(old), "\n".join(new)) if within else None
