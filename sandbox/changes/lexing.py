"""What is keyword, string and comment in a text, by Pygments: its tokens in the few kinds that a page colours.

Lexers are regular expressions: what is hostile is read in a program of its own, as colouring.py is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, cast

from sandbox.changes.colours import Kind, Run

_OPTIONS: Final[dict[str, dict[str, bool]]] = {
    "markdown": {"handlecodeblocks": False},
    "rst": {"handlecodeblocks": False},
}
"""Blocks in other languages load their lexers, which cannot be done any more."""
_KINDS: Final[tuple[Kind, ...]] = ("", "comment", "keyword", "string", "number", "function", "type", "name")
_OF: Final[tuple[tuple[str, Kind], ...]] = (
    ("Token.Comment", "comment"),
    ("Token.Keyword.Type", "type"),
    ("Token.Keyword.Constant", "number"),
    ("Token.Keyword", "keyword"),
    ("Token.Operator.Word", "keyword"),
    ("Token.Literal.String", "string"),
    ("Token.Literal", "number"),
    ("Token.Name.Function", "function"),
    ("Token.Name.Class", "type"),
    ("Token.Name.Builtin", "type"),
    ("Token.Name.Exception", "type"),
    ("Token.Name.Namespace", "type"),
    ("Token.Name.Decorator", "function"),
    ("Token.Name.Constant", "number"),
    ("Token.Name.Tag", "keyword"),
    ("Token.Name.Attribute", "name"),
    ("Token.Name.Variable", "name"),
    ("Token.Name.Property", "name"),
    ("Token.Generic.Heading", "keyword"),
    ("Token.Generic.Subheading", "keyword"),
    ("Token.Generic.Inserted", "string"),
    ("Token.Generic.Deleted", "keyword"),
)


class Lexer(Protocol):
    """What is used of one of Pygments, which has no types."""

    name: str

    def get_tokens_unprocessed(self, text: str) -> Iterable[tuple[int, object, str]]: ...


def lexer(language: str) -> Lexer:
    """Return a lexer of a language in `languages.LANGUAGES`, with all that it needs loaded: it is tried once."""
    from pygments.lexers import get_lexer_by_name

    made = cast(Lexer, get_lexer_by_name(language, **_OPTIONS.get(language, {})))
    for _ in made.get_tokens_unprocessed("x\n"):
        pass
    return made


def runs_by_line(lexer: Lexer, text: str) -> list[list[Run]]:
    """Return of each line its stretches, which cover it; lines end at newlines alone."""
    kinds = bytearray(len(text))
    known: dict[object, int] = {}
    for start, token, value in lexer.get_tokens_unprocessed(text):
        kind = known.get(token)
        if kind is None:
            kind = known[token] = _kind(str(token))
        if kind:
            kinds[start : start + len(value)] = bytes((kind,)) * min(len(value), max(0, len(text) - start))
    lines: list[list[Run]] = []
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        lines.append(_runs(text, kinds, start, end))
        start = end + 1
    return lines


def _runs(text: str, kinds: bytearray, start: int, end: int) -> list[Run]:
    runs: list[Run] = []
    while start < end:
        stop = start + 1
        while stop < end and kinds[stop] == kinds[start]:
            stop += 1
        part = text[start:stop]
        runs.append((_KINDS[kinds[start]], len(part) + sum(each > "\uffff" for each in part)))
        start = stop
    return runs


def _kind(token: str) -> int:
    found = next((kind for name, kind in _OF if token == name or token.startswith(f"{name}.")), "")
    return _KINDS.index(found)
