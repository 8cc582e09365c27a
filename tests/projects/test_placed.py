"""Where a run is to be, by what its edge grants: the sender's words decide nothing by themselves."""

from __future__ import annotations

from peer.projects import matching
from peer.projects.matching import NOTHING, Candidate, Suggestion, placed

SHOP, PARSER = "/home/bob/shop", "/home/bob/parser"
CLEAR = Suggestion(True, PARSER, "parser", "its whole name is in the task", (Candidate(PARSER, "parser", "named"),))


def test_the_one_granted_folder_is_it_whatever_the_task_says() -> None:
    for found in (NOTHING, CLEAR):
        there = placed(found, [SHOP], there=[SHOP])
        assert (there.pinned, there.cwd, there.project) == (True, SHOP, "shop")
        assert there.candidates[0].cwd == SHOP and len(there.candidates) == 1 + len(found.candidates)


def test_of_several_the_match_is_proposed_and_a_person_confirms() -> None:
    both = placed(CLEAR, [SHOP, PARSER], there=[SHOP, PARSER])
    assert (both.pinned, both.cwd, both.granted) == (False, PARSER, True)
    assert [each.cwd for each in both.candidates] == [PARSER, SHOP]
    none = placed(NOTHING, [SHOP, PARSER], there=[PARSER])
    assert (none.pinned, none.cwd, [each.cwd for each in none.candidates]) == (False, None, [PARSER])
    many = [f"/home/bob/{n}" for n in range(40)]
    assert len(placed(NOTHING, many, there=many).candidates) == matching.MAX_OFFERED


def test_without_granted_folders_or_with_one_that_is_gone_nothing_is_taken_unasked() -> None:
    free = placed(CLEAR, [], there=[])
    assert (free.pinned, free.cwd, free.granted) == (False, PARSER, False)
    gone = placed(NOTHING, [SHOP], there=[])
    assert (gone.pinned, gone.cwd) == (False, None) and "no longer exists" in gone.reason
