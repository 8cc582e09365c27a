"""`python -m sandbox.replies`: reads a reply as Markdown, and its blocks of code as what they say that they are.

On stdin one `tree.Asked`, on stdout one `tree.Tree`, each as JSON; exit status 0. Anything else has no answer. What it
reads is hostile, so it is a program of its own, as `sandbox.changes.colouring` is: bounded in time and memory, and
before the text is parsed it can neither open nor start anything any more.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import msgspec

from sandbox.changes.lexing import lexer
from sandbox.confinement.computing import bound, only_compute
from sandbox.replies.markdown import TooMuchError, languages, read, reader
from sandbox.replies.tree import MAX_ANSWER, MAX_ASKED, MAX_TEXT, Asked

UNREADABLE: Final = 3
"""Exit status for a reply that is too long or has too much in it."""


def main() -> int:
    """Run the program; return its exit status."""
    bound()
    content = sys.stdin.buffer.read(MAX_ASKED + 1)
    asked = msgspec.json.decode(content[:MAX_ASKED], type=Asked)
    if len(asked.text) > MAX_TEXT:
        return UNREADABLE
    markdown = reader()
    lexers = {language: lexer(language) for language in languages(asked.text)}
    only_compute()
    try:
        answer = msgspec.json.encode(read(markdown, asked.text, lexers))
    except TooMuchError:
        return UNREADABLE
    if len(answer) > MAX_ANSWER:
        return UNREADABLE
    while answer:
        answer = answer[os.write(1, answer) :]
    return 0


if __name__ == "__main__":
    # Not by sys.exit: what the interpreter does at its end is closed by then.
    os._exit(main())
