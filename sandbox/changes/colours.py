"""The syntax of texts that a run wrote, for a page to colour: what is asked and answered, as values. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

MAX_COLOURED: Final = 256_000
"""Characters of one text that is coloured; a longer one is shown plainly."""
MAX_ASKED: Final = 4_000_000
"""Bytes of a question, as JSON."""
MAX_ANSWER: Final = 8_000_000
"""Bytes of an answer, as JSON."""

Kind = Literal["", "comment", "keyword", "string", "number", "function", "type", "name"]
"""What a stretch of a text is; "" is nothing in particular."""
Run = tuple[Kind, Annotated[int, msgspec.Meta(ge=1, le=2 * MAX_COLOURED)]]
"""A stretch, by its length in UTF-16 units, as a browser counts."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`name`: of the file, without its folder; `old`, `new`: its text before and after, "" for none."""

    name: str
    old: str
    new: str

    @property
    def fits(self) -> bool:
        """Whether it is small enough."""
        return max(len(self.old), len(self.new)) <= MAX_COLOURED


class Colours(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For each line of the old and of the new text its stretches, which cover it; lines end at newlines alone."""

    language: Annotated[str, msgspec.Meta(max_length=40)]
    old: list[list[Run]]
    new: list[list[Run]]
