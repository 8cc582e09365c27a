"""What Write and Edit would put into a file. That it is what the real program writes: test_preview.py, of whose calls
this has the results as they were recorded there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from sandbox.gate.written import NotComputedError, written
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
