"""Writes docs/bounds.md: `python -m tests.bounds.document > docs/bounds.md`."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bounds.table import ACCOUNT, LOCAL_USER, PEER, PERSON, RUN, Row

HEAD = """# Bounds

What others can make this machine, or a broker, hold. Each bound is enforced by the program and shown by a test; nothing
outside this list grows. This file is generated (`python -m tests.bounds.document`) from `tests/bounds/table.py`, which
takes every number from the program and is compared with it by `tests/bounds/test_bounds.py`: each container that can
grow and each table of a store is in one row.
"""

SECTIONS = (
    ("A peer", "A contact's device, or a stranger who connects to the mesh.", PEER),
    ("A local user", "Anybody who may connect to this machine's loopback ports.", LOCAL_USER),
    ("A run", "One accepted dispatch, with whatever it starts.", RUN),
    ("A broker account", "Somebody who uses a broker: what the broker holds, and other people's devices.", ACCOUNT),
    ("The person themselves", "What grows by the acts of this machine's own person.", PERSON),
)

_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def amount(row: Row) -> str:
    """Return a limit with its unit, bytes in the largest unit that divides them."""
    if row.unit.split()[0].rstrip(",") == "bytes":
        for size, name in _SIZES:
            if row.limit >= size and row.limit % size == 0:
                return row.unit.replace("bytes", f"{row.limit / size:g} {name}", 1)
    return f"{row.limit:,g} {row.unit}" if row.limit < 1_000_000 else f"{int(row.limit):,} {row.unit}"


def lines() -> Iterator[str]:
    """Yield the lines of the document."""
    yield HEAD
    for title, who, rows in SECTIONS:
        yield f"## {title}\n\n{who}\n"
        yield "| What | At most | Test |\n|---|---|---|"
        for row in rows:
            yield f"| {row.what} | {amount(row)} | `{row.test.removeprefix('tests/')}` |"
        yield ""


def document() -> str:
    """Return the whole document."""
    return "\n".join(lines()).rstrip("\n") + "\n"


if __name__ == "__main__":
    print(document(), end="")
