"""`python -m sandbox.changes.colouring`: says what is keyword, string and comment in a text, by Pygments.

On stdin one `colours.Asked`, on stdout one `colours.Colours`, each as JSON; exit status 0. 3: the language is not
known. Anything else has no answer: lexers are regular expressions, and the text is hostile. So this is a program of its
own, bounded in time and memory, and once the text is there it can neither open nor start anything.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import msgspec

from sandbox.changes.colours import MAX_ANSWER, MAX_ASKED, Asked, Colours
from sandbox.changes.languages import language_of
from sandbox.changes.lexing import Lexer, runs_by_line
from sandbox.changes.lexing import lexer as _lexer
from sandbox.confinement.computing import bound, only_compute

UNKNOWN: Final = 3
"""Exit status for a file whose language is not known."""


def main() -> int:
    """Run the program; return its exit status."""
    bound()
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


def coloured(lexer: Lexer, asked: Asked) -> Colours:
    """Return the stretches of both texts."""
    return Colours(language=lexer.name, old=runs_by_line(lexer, asked.old), new=runs_by_line(lexer, asked.new))


if __name__ == "__main__":
    # Not by sys.exit: what the interpreter does at its end is closed by then.
    os._exit(main())
