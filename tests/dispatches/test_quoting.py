"""A quotation in a sentence of ours: on one line, nothing hidden, and nothing of theirs after its end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.dispatches.quoting import MAX_WORD, quoted, says, word
from peer.dispatches.text import hides

ODD = "a \n\r\t“”„‟❞〞〟🙷\"'`\x1b\x00\u202e\u2028:/"
# Not st.text: it joins both alphabets into one, in which these are rare.
HOSTILE = st.lists(st.sampled_from(ODD) | st.characters(), max_size=60).map("".join)


@given(HOSTILE)
def test_a_quotation_is_not_left_early(theirs: str) -> None:
    """Seen to fail with the marks inside left as they are, or those that look like them, and with line ends kept."""
    shown = quoted(theirs)
    assert (shown == "") is (theirs.strip() == "")
    if shown:
        assert (shown[0], shown[-1]) == ("“", "”")
        assert not set(shown[1:-1]) & set("“”„‟❝❞〝〞〟🙶🙷🙸\n\r") and not hides(shown)


@given(HOSTILE)
def test_a_word_is_plain_or_quoted(theirs: str) -> None:
    """Seen to fail with a pattern that allows blanks."""
    shown = word(theirs)
    assert shown == "-" or shown[0] == "“" or (shown == theirs and not set(shown) & set(" \n`“”"))


@pytest.mark.parametrize(
    ("theirs", "shown"),
    [
        ("", "-"), (None, "-"), (" \n", "-"), ("-", "“-”"),
        ("Bash", "Bash"), ("mcp__notes__read", "mcp__notes__read"), ("shop", "shop"),
        ("report-1.txt", "report-1.txt"), (3, "3"), ("fix: x", "“fix: x”"), ("error", "error"), ("fix:", "“fix:”"),
        ("a" * 200, f"“{'a' * (MAX_WORD - 1)}…”"),
    ],
)  # fmt: skip
def test_words(theirs: object, shown: str) -> None:
    assert word(theirs) == shown


def test_who_says_it_and_nothing_for_nothing() -> None:
    assert says("bob@example.org", " not\ntoday ") == "bob@example.org says: “not␊today”"
    assert says("bob@example.org", "\n") == ""
    assert quoted("x" * 10, limit=5) == "“xxxx…”"
