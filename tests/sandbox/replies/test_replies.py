"""Whatever an agent says: only known nodes come of it, every letter stays where it was, and reading it is bounded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.changes.lexing import lexer
from sandbox.replies import markdown
from sandbox.replies.__main__ import UNREADABLE
from sandbox.replies.markdown import TooMuchError, language, languages, read, reader
from sandbox.replies.tree import MAX_DEPTH, MAX_TEXT, Node, Tree, letters, written
from tests.conftest import HANG

PROGRAM = (sys.executable, "-m", "sandbox.replies")
MARKDOWN = reader()
PIECES = st.sampled_from(
    [
        "a", "b1", "é", "word", " ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\x00", "*", "**", "_", "`", "```",
        "~~~", "~~", "# ", "## ", "- ", "+ ", "3. ", "7) ", "> ", "|", "|-|-|", "|:-:|", "---", "===", "[", "](", ")",
        "![", "<", ">", "<b>", "<!--", "-->", "&amp;", "&#8238;", "\\", '"t"', "https://x.y/?a=1&b=2",
        "javascript:alert(1)", "[a]: b", "py", "[x] ", "\u202e",
    ]
)  # fmt: skip


def every(parts: list[Node], depth: int = 1) -> Iterator[tuple[Node, int]]:
    for part in parts:
        yield part, depth
        yield from every(part.parts, depth + 1)


@given(st.lists(PIECES, max_size=60).map("".join))
@example("| a | b |\n|-|-|\n| 1 | 2 | a third |\n")
@example("[a](b 'c') ![d *e*](f \"g\") <http://h.i> <j@k.l>\n\n[m]: n 'o'\n")
@example("007. a\n0. b\n\n```py c\nd")
@example("> " * 200 + "a")
@example("[a](b&amp;c) `d&lt;`")
def test_only_known_nodes_come_of_it_and_every_letter_stays(text: str) -> None:
    """Seen to fail with cells that a table does not have, with titles of links left out, and with numbers of a list."""
    found = read(MARKDOWN, text, {})
    again = msgspec.json.decode(msgspec.json.encode(found), type=Tree)  # the type is the list of what is allowed
    assert again == found
    assert "".join(map(written, found.parts)) == letters(text)
    assert all(depth <= MAX_DEPTH + 1 for _, depth in every(found.parts))


def test_what_a_reply_is_made_of() -> None:
    text = (
        "# One *two*\n\n4. three\n\n|a|b|\n|:-:|-|\n|c|d|\n\n[e](https://f)\n<script>g</script>\n\n```py\nx = 1\n```\n"
    )
    heading, numbers, table, paragraph, code = read(MARKDOWN, text, {"python": lexer("python")}).parts
    assert (heading.kind, heading.number, heading.parts[1].kind) == ("heading", 1, "emphasis")
    assert (numbers.kind, numbers.parts[0].number) == ("numbers", 4)
    assert [(row.number, row.parts[0].align) for row in table.parts] == [(1, "center"), (None, "center")]
    link, rest = paragraph.parts[0], paragraph.parts[2]
    assert (link.kind, link.address, rest.kind, rest.text) == ("link", "https://f", "text", "<script>g</script>")
    assert (code.label, code.colours[0]) == ("py", [("", 4), ("number", 1)])


def test_too_many_nodes_are_no_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "MAX_NODES", 20)
    assert read(MARKDOWN, "*a* " * 4, {}).parts
    with pytest.raises(TooMuchError):
        read(MARKDOWN, "*a* " * 10, {})


@pytest.mark.parametrize(
    ("info", "known"),
    [
        ("python title=x", "python"), ("JS", "javascript"), ("c++", "cpp"), ("evil/../x", None), ("", None),
    ],
)  # fmt: skip
def test_a_language_is_one_of_a_closed_table(info: str, known: str | None) -> None:
    assert language(info) == known
    assert languages(f"a\n> ```{info}\nb") == ([known] if known else [])


def test_the_program_answers_or_has_no_answer() -> None:
    def asked(text: str) -> tuple[int, bytes]:
        question = msgspec.json.encode({"text": text})
        done = subprocess.run(PROGRAM, input=question, capture_output=True, env={}, timeout=HANG, check=False)
        return done.returncode, done.stdout

    status, answer = asked("- *a*\n\n```python\nimport b\n```\n")
    found = msgspec.json.decode(answer, type=Tree)
    assert status == 0 and [part.kind for part in found.parts] == ["bullets", "code"]
    assert found.parts[1].colours[0][0] == ("keyword", 6)
    assert asked("x" * (MAX_TEXT + 1)) == (UNREADABLE, b"")
