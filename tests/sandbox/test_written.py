"""What Write and Edit would put into a file. That it is what the real program writes: test_preview.py, of whose calls
this has the results as they were recorded there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from sandbox.gate.written import NotComputedError, decode, written
from tests.sandbox.test_preview import EDITS, FILES, WRITES

RECORDED = (
    "crlf 17 dca60fe3c6ac",
    "crlf 13 02498c28ff82",
    "crlf 19 7df419636010",
    "crlf 16 0de079b0a6a7",
    "mixed 17 dca60fe3c6ac",
    "more-lf 14 b2ef07f1e2b1",
    "as-many 9 2261d500dc47",
    "late 20000 bbc1015d4803",
    "wide 7200 dfa09e42afeb",
    "cr 14 adbe2acd7b5d",
    "cr-crlf 6 d24022ba5da0",
    "bom 13 dda7a0abe26f",
    "utf-16 18 dd701c13dec5",
    "utf-16be: the file is not UTF-8 text; the agent program does not write such files",
    "utf-16-unmarked: the file is not UTF-8 text; the agent program does not write such files",
    "latin-1: the file is not UTF-8 text; the agent program does not write such files",
    "nul: the file is not UTF-8 text; the agent program does not write such files",
    "double 109 f798acdc3e65",
    "single 57 bb6381caa99a",
    "both 62 5f6032693b14",
    "straight 14 f593490a7eed",
    "escaped: the text to be replaced was not found in the file",
    "form-feed 8 c3f9c8c283a2",
    "twice 4 fe29160c783b",
    "twice 7 faf2254416b3",
    "unended 3 3fc4ccfe7458",
    "empty 10 7c49095173d6",
    "new 11 233b487c7155",
    "gone 10 c9b0fb1fa00b",
    "gone 7 e82f3a1866e2",
    "unended 7 7a3448ba1d4a",
    "crlf 4 911169ddaaf1",
    "bom 8 afa22083a9a5",
    "utf-16 14 37d92c7a8aea",
    "utf-16be: the file is not UTF-8 text; the agent program does not write such files",
    "latin-1: the file is not UTF-8 text; the agent program does not write such files",
    "nul: the file is not UTF-8 text; the agent program does not write such files",
    "cr 4 367d1c77eadc",
    "new-2 6 ea3948106c12",
    "bom 5 be4fccb04586",
    "empty 0 e3b0c44298fc",
    "new-3 0 e3b0c44298fc",
    "mixed 5 d028ed8c17fe",
)


def made() -> Iterator[str]:
    """Make the calls of test_preview.py in their order; yield the length and digest of each result, or the reason."""
    files = dict(FILES)
    calls: list[tuple[str, str, dict[str, object]]] = [
        ("Edit", name, {"old_string": old, "new_string": new, "replace_all": everywhere})
        for name, old, new, everywhere in EDITS
    ]
    calls += [("Write", name, {"content": content}) for name, content in WRITES]
    for tool, name, arguments in calls:
        try:
            files[name] = written(tool, arguments, files.get(name))
            yield f"{name} {len(files[name])} {hashlib.sha256(files[name]).hexdigest()[:12]}"
        except NotComputedError as reason:
            yield f"{name}: {reason}"


def test_the_bytes_are_those_that_were_recorded() -> None:
    assert list(made()) == list(RECORDED)


def edited(before: str, old: str, new: str, **more: object) -> str:
    return written("Edit", {"old_string": old, "new_string": new, **more}, before.encode()).decode()


def test_one_place_or_all() -> None:
    """The program refuses an Edit that means one of several places; what it would be is the first."""
    assert edited("one one one", "one", "1") == "1 one one"
    assert edited("one one one", "one", "1", replace_all=True) == "1 1 1"
    assert edited("one one", "one", "1", replace_all="yes") == "1 one"


def test_an_edit_of_nothing_makes_a_file_and_changes_none() -> None:
    assert edited("", "", "new") == "new"
    with pytest.raises(NotComputedError, match="without text to replace"):
        edited("something", "", "new")


def test_a_line_that_is_taken_out_goes_with_its_end_once() -> None:
    assert edited("a\nb\n\nc", "b", "") == "a\n\nc"
    assert edited("a\nb\n\nc", "b\n", "") == "a\n\nc"
    assert edited("a b", "b", "") == "a "


@pytest.mark.parametrize(
    ("found", "new", "made"),
    [
        ("\u201ca", '"b', "\u201cb"),
        ("a\u201d", 'b"', "b\u201d"),
        ("\u2018a", "'b", "\u2018b"),
        ("a\u2019", "b'", "b\u2019"),
    ],
)
def test_a_quote_of_one_kind_is_enough(found: str, new: str, made: str) -> None:
    assert edited(found, found.translate({0x201C: '"', 0x201D: '"', 0x2018: "'", 0x2019: "'"}), new) == made


def test_a_mark_of_utf_16be_is_enough_to_leave_a_file_alone() -> None:
    """Of these two letters no byte is zero."""
    with pytest.raises(NotComputedError):
        decode(b"\xfe\xff" + "\u4e01\u4e02".encode("utf-16-be"))
