"""A reply as a tree of the few things that a page shows: its kinds are all there is, and texts are plain. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from sandbox.changes.colours import Run

MAX_TEXT: Final = 100_000
"""Characters of a reply that is read; a longer one is shown as it was written. No run returns more."""
MAX_NODES: Final = 20_000
"""Nodes of one tree. A reply of as many emphasised letters is no text for people."""
MAX_DEPTH: Final = 24
"""Nodes inside each other; what is nested deeper is shown as it was written."""
MAX_ASKED: Final = 1_000_000
"""Bytes of a question, as JSON: MAX_TEXT characters, each escaped."""
MAX_ANSWER: Final = 4_000_000
"""Bytes of an answer, as JSON."""

Block = Literal["heading", "paragraph", "bullets", "numbers", "item", "quote", "code", "rule", "table", "row", "plain"]
Inline = Literal["text", "strong", "emphasis", "struck", "code_span", "link", "image", "break"]
Kind = Literal[Block, Inline, "cell"]
"""What a node is. `plain` is a part of the reply as it was written, for what has no other kind."""

Align = Literal["", "left", "center", "right"]


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One node.

    `text`: of text, code_span, code, plain, and of an image what stands for it. `parts`: what is inside the others.
    `number`: the level of a heading, of an item the number that was written, 1 for the head row of a table. `address`:
    of a link or image, never to be followed or loaded. `label`: of code, what stands behind its fence; of a link or
    image its title.
    `colours`: of code, for each of its lines its stretches, or nothing.
    """

    kind: Kind
    text: str = ""
    parts: list[Node] = []
    number: Annotated[int, msgspec.Meta(ge=0, le=999_999_999)] | None = None
    address: str = ""
    label: str = ""
    align: Align = ""
    colours: list[list[Run]] = []


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`text`: the reply, at most MAX_TEXT characters."""

    text: str


class Tree(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`parts`: the reply's blocks, in order."""

    parts: list[Node]


def letters(text: str) -> str:
    """Return the letters and digits of a text: what of it no reading may change."""
    return "".join(filter(str.isalnum, text))


def written(node: Node) -> str:
    """Return the letters and digits of a node, in the order in which they were written."""
    own = letters(node.text)
    inside = "".join(map(written, node.parts))
    match node.kind:
        case "item":
            return f"{'' if node.number is None else node.number}{inside}"
        case "code":
            return letters(node.label) + own
        case "link" | "image":
            address = letters(node.address)
            return own + inside + address + letters(node.label)
        case _:
            return own + inside
