"""Ids as people see them: short. What they mean when they come back: ids.py."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_COMMAND: Final = re.compile("`dispatch [^`]*`")
_WHOLE: Final = re.compile(r"(?<= )[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def short(identity: object) -> str:
    """Return the last 8 characters. The first ones of a UUIDv7 are its time, equal for all that arrive together."""
    return str(identity)[-8:]


def shortened(words: str) -> str:
    """Return a sentence with the whole ids in its commands made short. Elsewhere an id may be part of a link."""
    return _COMMAND.sub(lambda command: _WHOLE.sub(lambda found: short(found[0]), command[0]), words)


def short_request(request: str, among: Iterable[str] = ()) -> str:
    """Return the last 8 characters of a request's id, or as many as tell it from those `among` which it waits."""
    others = [each for each in among if each != request]
    for length in range(8, len(request)):
        end = request[-length:].lstrip("-")  # or it would be an option
        if end and not any(each.startswith(end) or each.endswith(end) for each in others):
            return end
    return request
