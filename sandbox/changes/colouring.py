"""`python -m sandbox.changes.colouring`: says what is keyword, string and comment in a text, by Pygments.

On stdin one `colours.Asked`, on stdout one `colours.Colours`, each as JSON; exit status 0. 3: the language is not
known. Anything else has no answer: lexers are regular expressions, and the text is hostile. So this is a program of its
own, bounded in time and memory, and once the text is there it can neither open nor start anything.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable
from typing import Final, Protocol, cast

import msgspec

from sandbox.changes.colours import MAX_ANSWER, MAX_ASKED, Asked, Colours, Kind, Run
from sandbox.changes.languages import language_of
from sandbox.confinement.computing import only_compute

UNKNOWN: Final = 3
"""Exit status for a file whose language is not known."""
_MEMORY: Final = 600_000_000
"""Bytes of address space."""
_CPU: Final = 6
"""Seconds of processor time."""
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


class _Lexer(Protocol):
    """What is used of one of Pygments, which has no types."""

    name: str

    def get_tokens_unprocessed(self, text: str) -> Iterable[tuple[int, object, str]]: ...


def main() -> int:
    """Run the program; return its exit status."""
    for limit, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, _CPU), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (most, most))
    content = sys.stdin.buffer.read(MAX_ASKED + 1)
    asked = msgspec.json.decode(content[:MAX_ASKED], type=Asked)
    language = language_of(asked.name, asked.new or asked.old)
    if language is None or not asked.fits:
        return UNKNOWN
    lexer = _lexer(language)
    only_compute()
    answer = msgspec.json.encode(coloured(lexer, asked))
    if len(answer) > MAX_ANSWER:
        return UNKNOWN
    while answer:
        answer = answer[os.write(1, answer) :]
    return 0


def _lexer(language: str) -> _Lexer:
    """A lexer, with all that it needs loaded: it is tried once."""
    from pygments.lexers import get_lexer_by_name

    lexer = cast(_Lexer, get_lexer_by_name(language, **_OPTIONS.get(language, {})))
    for _ in lexer.get_tokens_unprocessed("x\n"):
        pass
    return lexer


def coloured(lexer: _Lexer, asked: Asked) -> Colours:
    """Return the stretches of both texts."""
    return Colours(language=lexer.name, old=_lines(lexer, asked.old), new=_lines(lexer, asked.new))


def _lines(lexer: _Lexer, text: str) -> list[list[Run]]:
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


if __name__ == "__main__":
    # Not by sys.exit: what the interpreter does at its end is closed by then.
    os._exit(main())
