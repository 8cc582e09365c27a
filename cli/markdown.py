"""Markdown of somebody else, drawn for a terminal by rich. The bar before each line is output.py's.

It is hostile until shown otherwise, so it is neutralised before it is parsed, and what parsing may have made of it once
more. It gets no hyperlinks (OSC 8), whose text can hide where they lead: the address stands behind the text. Images are
links. HTML and entities are shown as they were written, since rich would leave tags out. Code has no colours: they come
from regular expressions, on which a text can be made to take for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Final

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.text import Text

from peer.dispatches import text

if TYPE_CHECKING:
    from markdown_it.token import Token

MOST: Final = 50_000
"""Characters of a text that is parsed. Some grow with the square of their length; a longer one is shown as it is."""
LEAST_WIDTH: Final = 20
"""Columns below which lists and tables shred."""


class _LeftHeading(Heading):
    """A heading where the text is: rich centres the first."""

    LEVEL_ALIGN: ClassVar = dict.fromkeys(Heading.LEVEL_ALIGN, "left")


class _PlainCode(CodeBlock):
    """Code without colours, its lines folded."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(str(self.text).rstrip(), style="cyan", overflow="fold")


class _Neutral(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **{name: kind for name, kind in Markdown.elements.items() if name != "image"},
        "heading_open": _LeftHeading,
        "fence": _PlainCode,
        "code_block": _PlainCode,
    }

    def __init__(self, markup: str) -> None:
        super().__init__("", hyperlinks=False)
        parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        self.parsed = parser.disable(["image", "entity"]).parse(markup)
        for token in _every(self.parsed):
            token.content = text.block(token.content)
            for name, value in token.attrs.items():
                token.attrs[name] = text.line(value) if isinstance(value, str) else value


def drawn(content: str, *, width: int, colour: bool) -> list[str] | None:
    """Return the lines of a text of somebody else; None where it is better shown as it was written."""
    if len(content) > MOST or width < LEAST_WIDTH:
        return None
    console = Console(color_system="auto" if colour else None, width=width, highlight=False, emoji=False, markup=False)
    try:
        with console.capture() as captured:
            console.print(_Neutral(text.block(content)))
    except Exception:
        return None  # a text that the libraries stumble over is a text all the same
    return [line.rstrip() for line in captured.get().rstrip("\n").split("\n")]


def _every(tokens: Iterable[Token]) -> Iterable[Token]:
    for token in tokens:
        yield token
        yield from token.children or ()
