"""The sentence of an accept: where it runs, what it sees, and who gets the result."""

from __future__ import annotations

import pytest

from peer.dispatches.placement import sentence

HOME = "/home/bob"
FOLDER = f"{HOME}/parser"


@pytest.mark.parametrize(
    ("folder", "toolchains", "results", "held", "expected"),
    [
        (None, [], "full", False, "runs in an empty workspace; alice@example.org gets the result"),
        (
            FOLDER,
            ["Python 3.12", f"{HOME}/tool", "/home/bobby/tool"],
            "full",
            False,
            "runs in ~/parser, sees Python 3.12, ~/tool, /home/bobby/tool; alice@example.org gets the result",
        ),
        (
            HOME,
            [],
            "full",
            True,
            "runs in ~; alice@example.org gets the result once you have reviewed and released it",
        ),
        (
            FOLDER,
            [],
            "redacted",
            True,
            "runs in ~/parser; alice@example.org gets the result, without what its calls read and wrote, "
            "once you have reviewed and released it",
        ),
    ],
)
def test_it_says_where_what_and_who(
    folder: str | None, toolchains: list[str], results: str, held: bool, expected: str
) -> None:
    said = sentence(folder, toolchains, home=HOME, result_to="alice@example.org", results=results, held=held)
    assert said == expected
