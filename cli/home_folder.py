"""Paths as people read them: with `~` for the home folder. JSON and pipes have them in full."""

from __future__ import annotations

import os
import re

_PATH = r"(?<![^\s(])/[^\s`'\",;)]+"
"""A path at the beginning of a word, where a shell expands `~` too."""
_PATHS = re.compile(_PATH)
_PATHS_OR_QUOTED = re.compile(rf"'[^']*'|\"[^\"]*\"|{_PATH}")


def home(path: object) -> str:
    """Return a path with `~` for the home folder."""
    shown = str(path)
    folder = os.path.expanduser("~").rstrip("/")  # noqa: PTH111 - Path.home() raises where there is none
    if not folder.startswith("/"):
        return shown
    return "~" + shown[len(folder) :] if shown == folder or shown.startswith(folder + "/") else shown


def homes(text: str) -> str:
    """Return a sentence of ours with `~` for the home folder in each path of it.

    Commands in backticks can be copied as before: what they quote stays, since no shell expands `~` there.
    """
    parts = text.split("`")
    for place, part in enumerate(parts):
        parts[place] = (_PATHS_OR_QUOTED if place % 2 else _PATHS).sub(lambda match: home(match[0]), part)
    return "`".join(parts)
