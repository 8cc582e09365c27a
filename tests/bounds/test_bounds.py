"""Whether the table of bounds is the whole truth: nothing that grows is missing, nothing in it is made up."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.bounds import containers, document, table
from tests.bounds.containers import ROOT, Source
from tests.bounds.table import ROWS, VALUES, Row

HELD = [held for row in ROWS for held in row.held_in]
NAMED = {held for held in HELD if ":" in held}
TABLES = {held for held in HELD if "/" in held}


def test_every_container_that_grows_has_a_row_or_a_reason() -> None:
    found = containers.containers()
    assert sorted(found - NAMED - VALUES.keys()) == [], "give each a bound and a row in table.py, or drop it"
    assert sorted((NAMED | VALUES.keys()) - found) == [], "these are gone: take them out of table.py"


def test_every_table_of_a_store_has_a_row() -> None:
    assert containers.tables() == TABLES


def test_each_is_in_one_row() -> None:
    assert [name for name, count in Counter([*HELD, *VALUES]).items() if count > 1 and name in NAMED | TABLES] == []
    assert not NAMED & VALUES.keys()
    assert all(VALUES.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_a_row_is_whole_and_its_test_exists(row: Row) -> None:
    assert row.limit > 0 and row.unit and row.held_in
    path, _, name = row.test.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_every_limit_is_the_programs_own() -> None:
    """A number that is written here would be right only until somebody changes the other one."""
    tree = ast.parse(Path(table.__file__).read_text())
    rows = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Row"]
    limits = {ast.unparse(word.value) for row in rows for word in row.keywords if word.arg == "limit"}
    numbers = [
        text
        for text in limits
        if any(isinstance(node, ast.Constant) and isinstance(node.value, float) for node in ast.walk(ast.parse(text)))
        or text.isdigit()
    ]
    assert len(rows) == len(ROWS) and numbers == []


def test_what_a_person_makes_alone_has_no_number() -> None:
    assert {row.whose for row in ROWS if row.limit is table.PER_ACT and row.unit.startswith("for each")} <= {
        "the person"
    }


def test_nothing_is_made_without_a_bound_outside_the_table() -> None:
    found = [(where, why) for source in containers.sources() for where, why in containers.unbounded(source)]
    outside = [(where, why) for where, why in found if where not in NAMED | VALUES.keys()]
    assert outside == []
    assert found, "the lint sees nothing any more"


def test_the_document_is_the_table() -> None:
    assert (ROOT / "docs/bounds.md").read_text() == document.document(), (
        "python -m tests.bounds.document > docs/bounds.md"
    )


# --- whether the checks would see what they are for


def source(text: str) -> Source:
    return Source("room.module", Path("module.py"), ast.parse(text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("class A:\n    def __init__(self):\n        self._x = {}", "A._x"),
        ("class A:\n    def __init__(self):\n        self._x: dict[str, int] = dict()", "A._x"),
        ("class A:\n    def f(self):\n        self._a, self._x = 1, []", "A._x"),
        ("class A:\n    def f(self):\n        self._x = collections.OrderedDict[str, int]()", "A._x"),
        ("class A:\n    def f(self):\n        self._x = {1: 2}\n        self._x.setdefault(3, 4)", "A._x"),
        ("class A:\n    def f(self):\n        self._x = [y for y in z]\n        self._x += z", "A._x"),
        ("class A:\n    def f(self):\n        self._x = list(z)\n        heapq.heappush(self._x, 1)", "A._x"),
        ("class A:\n    x = {}", "A.x"),
        ("@dataclass\nclass A:\n    x: list[int] = field(default_factory=list)", "A.x"),
        ("@dataclass\nclass A:\n    x: list[int] = field(default_factory=list[int])", "A.x"),
        ("@dataclass\nclass A:\n    x: list[int] = field(default_factory=lambda: [])", "A.x"),
        ("cached = {}", "cached"),
        ("CACHED = {}\ndef f():\n    CACHED[1] = 2", "CACHED"),
        ("SEEN = []\ndef f():\n    SEEN.append(2)", "SEEN"),
        ("def f():\n    x = {}\n    def g():\n        x[1] = 2", "f.x"),
        ("async def f():\n    x = deque()", "f.x"),
        ("@lru_cache(maxsize=3)\ndef f(y): ...", "f"),
        ("class A:\n    def f(self):\n        self._x = queue.Queue()", "A._x"),
    ],
)
def test_a_container_is_seen(text: str, found: str) -> None:
    assert containers.found_in((source(text),)) == {f"room.module:{found}"}


@pytest.mark.parametrize(
    "text",
    [
        "TABLE = {1: 2}",
        "__all__ = ['a']",
        "class A:\n    def f(self):\n        self._x = {y: z for y in w}",
        "class A:\n    def f(self):\n        self._x = tuple(w)",
        "class A(Struct):\n    x: list[int] = []",
        "class A(Struct): ...\nclass B(A):\n    x: list[int] = []",
        "def f():\n    x = {}\n    x[1] = 2\n    return x",
    ],
)
def test_what_cannot_grow_is_none(text: str) -> None:
    assert containers.found_in((source(text),)) == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "a, b = trio.open_memory_channel(math.inf)",
        "a, b = trio.open_memory_channel[int](math.inf)",
        "a, b = trio.open_memory_channel(float('inf'))",
        "a, b = trio.open_memory_channel(size)",
        "a, b = anyio.create_memory_object_stream(math.inf)",
        "x = deque()",
        "x: deque[int] = deque()",
        "x = collections.deque([1])",
        "x = queue.SimpleQueue()",
        "x = queue.Queue()",
        "@functools.cache\ndef f(x): ...",
        "@functools.lru_cache(None)\ndef f(x): ...",
        "@functools.lru_cache(maxsize=None)\ndef f(x): ...",
    ],
)
def test_what_has_no_bound_is_refused(text: str) -> None:
    assert list(containers.unbounded(source(text)))


@pytest.mark.parametrize(
    "text",
    [
        "a, b = trio.open_memory_channel(3)",
        "a, b = trio.open_memory_channel[int](CALLS_AT_ONCE)",
        "x = deque(maxlen=3)",
        "x = deque([1], 3)",
        "x = queue.Queue(3)",
        "@functools.lru_cache(maxsize=3)\ndef f(x): ...",
        "@cached_property\ndef f(x): ...",
    ],
)
def test_what_has_one_passes(text: str) -> None:
    assert list(containers.unbounded(source(text))) == []
