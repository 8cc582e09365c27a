"""Markdown to a tree of `tree.Node`, by markdown-it. HTML, entities and references stay text, links stay words.

Nothing that was written is lost: each block is compared with the lines that it was read from, letter by letter, and
where one is missing, moved or added (a cell beyond the columns of its table, say), those lines stand there as they
were written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from sandbox.changes.languages import LANGUAGES, language_of
from sandbox.changes.lexing import Lexer, runs_by_line
from sandbox.replies.tree import MAX_DEPTH, MAX_NODES, Align, Kind, Node, Tree, letters, written

_OPENED: Final[Mapping[str, Kind]] = {
    "heading_open": "heading",
    "paragraph_open": "paragraph",
    "bullet_list_open": "bullets",
    "ordered_list_open": "numbers",
    "list_item_open": "item",
    "blockquote_open": "quote",
    "table_open": "table",
    "tr_open": "row",
    "th_open": "cell",
    "td_open": "cell",
    "strong_open": "strong",
    "em_open": "emphasis",
    "s_open": "struck",
    "link_open": "link",
}
_ALIGNED: Final[Mapping[str, Align]] = {
    "text-align:left": "left",
    "text-align:center": "center",
    "text-align:right": "right",
}
_PASSED: Final = frozenset({"thead_open", "thead_close", "tbody_open", "tbody_close"})
_ALIASES: Final = {"shell": "bash", "console": "bash", "zsh": "bash", "c++": "cpp", "c#": "csharp", "golang": "go"}
_MOST_LANGUAGES: Final = 6
"""That one reply has colours for: each is a library to load."""


class TooMuchError(Exception):
    """It has more nodes than a tree takes."""


class _Unreadable(Exception):
    """A block that has no form in a tree."""


def reader() -> MarkdownIt:
    """Return what reads replies, with all that it needs loaded."""
    made = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_DEPTH}).enable(["table", "strikethrough"])
    made.disable(["entity", "html_block", "html_inline", "reference"])
    # No address is followed, so none has to be refused or rewritten.
    made.validateLink = lambda url: True  # type: ignore[method-assign]
    made.normalizeLink = lambda url: url  # type: ignore[method-assign]
    made.normalizeLinkText = lambda link: link  # type: ignore[method-assign]
    read(made, "# a\n1. *b* `c` [d](e)\n\n|f|g|\n|-|-|\n|h|i|\n\n```\nj\n```\n", {})
    return made


def languages(text: str) -> list[str]:
    """Return the languages of a reply's fences, each once, as far as they are known."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        word = line.strip(" >*-\t")
        if word.startswith(("```", "~~~")) and (known := language(word.lstrip("`~"))):
            found[known] = None
    return list(found)[:_MOST_LANGUAGES]


def language(info: str) -> str | None:
    """Return the language that a fence names, as Pygments has it; None for no known one."""
    word = info.strip().partition(" ")[0].lower()
    word = _ALIASES.get(word, word)
    return word if word in LANGUAGES else language_of(f"x.{word}", "") if word.isalnum() else None


def read(markdown: MarkdownIt, text: str, lexers: Mapping[str, Lexer]) -> Tree:
    """Return the tree of a text. `lexers`: by language. Raises TooMuchError."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "␀")
    lines = text.split("\n")
    parts: list[Node] = []
    nodes = 0
    done = 0
    for block, first, end in _blocks(markdown.parse(text)):
        start = max(first, done)
        parts.extend(_plain(lines[done:start]))
        source = lines[start:end]
        try:
            made = _built(block, lexers)
            nodes += sum(map(_count, made))
            if "".join(map(written, made)) != letters("\n".join(source)):
                raise _Unreadable
        except _Unreadable:
            made = list(_plain(source))
        if nodes > MAX_NODES:
            raise TooMuchError
        parts += made
        done = max(done, end)
    parts.extend(_plain(lines[done:]))
    return Tree(parts=parts)


def _plain(lines: list[str]) -> Iterator[Node]:
    text = "\n".join(lines).strip("\n")
    if text.strip():
        yield Node(kind="plain", text=text)


def _blocks(tokens: Iterable[Token]) -> Iterator[tuple[list[Token], int, int]]:
    """Yield the tokens of each outermost block, with its first line and the one behind its last."""
    block: list[Token] = []
    for token in tokens:
        block.append(token)
        if token.level == 0 and token.nesting <= 0:
            start, end = block[0].map or (0, 0)
            yield block, start, end
            block = []


def _count(node: Node) -> int:
    return 1 + sum(map(_count, node.parts))


class _Open:
    """A node whose end has not come yet."""

    def __init__(self, token: Token, kind: Kind) -> None:
        self.kind = kind
        self.parts: list[Node] = []
        self.tags: set[str] = set()
        """Of the cells of a row."""
        self.token = token

    def closed(self) -> Node:
        """Return it as it is now."""
        token, kind = self.token, self.kind
        parts = self.parts
        if kind == "heading":
            return Node(kind=kind, parts=parts, number=int(token.tag[1]))
        if kind == "item":
            return Node(kind=kind, parts=parts, number=int(token.info) if token.info else None)
        if kind == "cell":
            return Node(kind=kind, parts=parts, align=_ALIGNED.get(str(token.attrs.get("style", "")), ""))
        if kind == "row":
            return Node(kind=kind, parts=parts, number=1 if "th" in self.tags else None)
        if kind == "link":
            return _link(parts, token)
        return Node(kind=kind, parts=parts)


def _built(tokens: Iterable[Token], lexers: Mapping[str, Lexer]) -> list[Node]:
    """Return the nodes of tokens. Raises _Unreadable."""
    done: list[Node] = []
    opened: list[_Open] = []

    def add(node: Node) -> None:
        (opened[-1].parts if opened else done).append(node)

    for token in _flat(tokens):
        if token.type in _PASSED or (token.hidden and token.type.startswith("paragraph_")):
            continue
        if token.nesting == 1:
            kind = _OPENED.get(token.type)
            if kind is None or len(opened) >= MAX_DEPTH:
                raise _Unreadable
            if kind == "cell" and opened:
                opened[-1].tags.add(token.tag)
            opened.append(_Open(token, kind))
        elif token.nesting == -1:
            add(opened.pop().closed())
        else:
            add(_leaf(token, lexers))
    return done


def _flat(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        if token.type == "inline":
            yield from token.children or ()
        else:
            yield token


def _leaf(token: Token, lexers: Mapping[str, Lexer]) -> Node:
    match token.type:
        case "text":
            return Node(kind="text", text=token.content)
        case "code_inline":
            return Node(kind="code_span", text=token.content)
        case "softbreak" | "hardbreak":
            return Node(kind="break")
        case "hr":
            return Node(kind="rule")
        case "fence" | "code_block":
            return _code(token, lexers)
        case "image":
            words = token.content
            return Node(
                kind="image",
                text=words,
                address=str(token.attrs.get("src", "")),
                label=str(token.attrs.get("title", "")),
            )
        case _:
            raise _Unreadable


def _link(parts: list[Node], token: Token) -> Node:
    address = str(token.attrs.get("href", ""))
    title = str(token.attrs.get("title", ""))
    if token.info == "auto":
        address = ""  # it is its own text
    return Node(kind="link", parts=parts, address=address, label=title)


def _code(token: Token, lexers: Mapping[str, Lexer]) -> Node:
    text = token.content.removesuffix("\n")
    label = token.info.strip()
    lexer = lexers.get(language(label) or "")
    return Node(kind="code", text=text, label=label, colours=runs_by_line(lexer, text) if lexer and text else [])
