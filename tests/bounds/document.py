"""Writes docs/bounds.md: `python -m tests.bounds.document > docs/bounds.md`."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bounds.table import ACCOUNT, LOCAL_USER, PEER, PERSON, RELAY, RUN, Row

HEAD = """# Bounds

What others can make this machine, a broker or a relay hold, with the test that shows each bound. This file is generated
(`python -m tests.bounds.document`) from `tests/bounds/table.py`, which takes every number from the programs.
`tests/bounds/test_bounds.py` compares it with them: each container that can grow and each table of a store is in one
row, or in a short list of those that nobody outside can fill.

What is bounded by the day, or by one act of a person, adds up: what was signed of a dispatch (what was asked, decided
and returned, without events and files) is kept until the person removes the state folder. Events and files of a
dispatch that has ended go when they are older than `retention_days`, or the oldest of more than `retention_mb`
(`dispatch config`). A file counts for each dispatch that names it. What is removed from the database leaves room that
new events fill: its file does not shrink.
"""

SECTIONS = (
    ("A peer", "A contact's device, or a stranger who connects to the mesh.", PEER),
    ("A local user", "Anybody who may connect to this machine's loopback ports.", LOCAL_USER),
    ("A run", "One accepted dispatch, with whatever it starts.", RUN),
    ("A broker account", "Somebody who uses a broker: what the broker holds, and other people's devices.", ACCOUNT),
    ("A relay's device", "Whoever connects to a relay: what the relay holds.", RELAY),
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
