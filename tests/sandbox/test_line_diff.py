"""Hunks of two lists of lines: applied to the one they give the other, whatever the bound of work leaves of them."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.gate import line_diff
from sandbox.gate.line_diff import Matching, lines, unified

CONTEXT: Final = 3
UNENDED: Final = "\\ No newline at end of file\n"
HEAD = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@\n")
TEXTS = st.lists(st.sampled_from("abc"), max_size=40).flatmap(
    lambda made: st.sampled_from(["".join(f"{each}\n" for each in made), "\n".join(made)])
)


def rows(hunks: str) -> list[str]:
    """The rows of hunks, each without its sign's mark of a missing newline, but then without the newline too."""
    return re.findall(r"[^\n]*\n", hunks.replace(f"\n{UNENDED}", "\r\n"))


def applied(old: list[str], hunks: str) -> list[str]:
    """Apply hunks as patch does, strictly: every number and every row of context has to fit."""
    made: list[str] = []
    at = 0
    found = rows(hunks)
    while found:
        head = HEAD.fullmatch(found.pop(0))
        assert head is not None
        old_from, old_count, new_from, new_count = (1 if each is None else int(each) for each in head.groups())
        start = old_from - 1 if old_count else old_from
        assert start > at or (start == at == 0), "hunks neither touch nor overlap"
        made += old[at:start]
        assert len(made) == (new_from - 1 if new_count else new_from)
        at, first = start, len(made)
        body: list[str] = []
        while found and not HEAD.fullmatch(found[0]):
            row = found.pop(0)
            sign, line = row[0], row[1:].removesuffix("\r\n")
            body.append(sign)
            if sign in " -":
                assert old[at] == line
                at += 1
            if sign in " +":
                made.append(line)
        assert (at - start, len(made) - first) == (old_count, new_count)
        signs = "".join(body)
        before, after = len(signs) - len(signs.lstrip(" ")), len(signs) - len(signs.rstrip(" "))
        assert before == min(CONTEXT, start + before) and after == min(CONTEXT, len(old) - at + after)
        assert " " * (2 * CONTEXT + 1) not in signs, "what is further apart is another hunk"
    return made + old[at:]


@given(TEXTS, TEXTS)
def test_hunks_make_the_one_out_of_the_other(before: str, after: str) -> None:
    old, new = lines(before), lines(after)
    assert "".join(old) == before and "".join(new) == after
    assert applied(old, "".join(unified(old, new, Matching()))) == new


@given(TEXTS, TEXTS)
def test_what_costs_too_much_is_replaced_and_still_applies(before: str, after: str) -> None:
    old, new = lines(before), lines(after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_diff, "_MAX_COMPARISONS", 4)
        assert applied(old, "".join(unified(old, new, Matching()))) == new


def test_lines_that_stayed_are_no_change() -> None:
    old = [f"{number}\n" for number in range(20)]
    assert list(unified(old, old, Matching())) == []
    assert "".join(unified(old, [*old[:10], "new\n", *old[10:]], Matching())) == (
        "@@ -8,6 +8,7 @@\n 7\n 8\n 9\n+new\n 10\n 11\n 12\n"
    )
    assert "".join(unified(["a"], ["a\n"], Matching())) == f"@@ -1 +1 @@\n-a\n{UNENDED}+a\n"
    assert "".join(unified([], ["a\n", "b\n"], Matching())) == "@@ -0,0 +1,2 @@\n+a\n+b\n"


@pytest.mark.parametrize(
    ("text", "found"), [("", []), ("a", ["a"]), ("a\n", ["a\n"]), ("\n", ["\n"]), ("a\n\nb", ["a\n", "\n", "b"])]
)
def test_the_lines_of_a_text(text: str, found: list[str]) -> None:
    assert lines(text) == found


def test_six_lines_between_two_changes_are_one_hunk_and_seven_are_two() -> None:
    for apart, hunks in ((6, 1), (7, 2)):
        old = ["a\n", *(f"{number}\n" for number in range(apart)), "b\n"]
        made = list(unified(old, ["A\n", *old[1:-1], "B\n"], Matching()))
        assert sum(row.startswith("@@") for row in made) == hunks


def test_the_bounds_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bound for each file, one for all together: what is used up is not there for the next file."""
    monkeypatch.setattr(line_diff, "_MAX_COMPARISONS", 6)
    monkeypatch.setattr(line_diff, "_MAX_COMPARISONS_IN_ALL", 14)
    whole = [("replace", 0, 2, 0, 3)]
    finely = [("insert", 0, 0, 0, 1)]
    two, three = ["a\n", "b\n"], ["x\n", "a\n", "b\n"]
    matching = Matching()
    assert matching.codes(two, [*three, "c\n"])[0][0] == "replace", "8 comparisons are over 6"
    assert matching.codes(two, three) == finely, "6 are not, and what was refused cost nothing"
    assert matching.codes(two, three) == finely
    assert matching.codes(two, three) == whole, "2 are left of 14"
    assert matching.codes(["a\n"], ["a\n", "b\n"]) == [("insert", 1, 1, 1, 2)]
