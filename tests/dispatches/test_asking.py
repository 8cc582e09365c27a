"""What a person is offered and shown as the rule that an `always` stores."""

from __future__ import annotations

import pytest

from peer.dispatches import asking
from peer.dispatches.asking import offered_rules, rule_text
from peer.protocol.documents import Document

NARROW = {"tool": "Bash", "pattern": "git status", "reach": "exact"}
WIDE = {"tool": "Bash", "pattern": "git", "reach": "prefix"}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (NARROW, "Bash(git status)"),
        (WIDE, "Bash(git), or with more words after it"),
        ({"tool": "Read", "pattern": "/folders/1", "reach": "folder"}, "Read(/folders/1), or anything inside it"),
        (None, ""),
        ("words of\nan older store", "words of␊an older store"),
        ({"tool": "Bash\u202e", "pattern": "a\nb"}, "Bash<U+202E>(a␊b)"),
    ],
)
def test_a_rule_in_words(rule: object, text: str) -> None:
    assert rule_text(rule) == text


@pytest.mark.parametrize(
    ("call", "offered"),
    [
        ({"rule_choices": [NARROW, WIDE], "rule_if_always": NARROW}, [NARROW, WIDE]),
        ({"rule_choices": [], "rule_if_always": NARROW}, [NARROW]),
        ({"rule_if_always": NARROW}, [NARROW]),
        ({"rule_if_always": None}, []),
        ({}, []),
    ],
)
def test_the_rules_that_are_offered(call: Document, offered: list[Document]) -> None:
    assert offered_rules(call) == offered


@pytest.mark.parametrize(
    "hidden", ["\u3164", "\u115f", "\u2800", "\u00a0", "a\rb", "\n" * 600, " " * 600, "\u202e", "\x1b[2K"]
)
def test_what_hides_in_an_input_is_found_wherever_it_is(hidden: str) -> None:
    for given in ({"command": f"ls{hidden}rm"}, {"a": [{"b": f"x{hidden}"}]}, {hidden: 1}, ["plain", [f"{hidden}x"]]):
        assert asking.hides_something(given)
    assert not asking.hides_something({"command": "ls -la\n\trm x", "lines": [1, None, True, {"ü": "é\u200dü 👍🏽"}]})
