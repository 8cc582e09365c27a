"""The store as such: migrations, refusals, transactions that are whole or not at all, and numbers that only grow."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.store import connection, counters
from peer.store.database import Store

ROOT = Path(__file__).parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
from peer.store import connection
db = connection.connect(Path(sys.argv[1]))
connection.migrate(db)
for number in range(int(sys.argv[2])):
    with connection.writing(db):
        db.execute("INSERT INTO settings (name, value) VALUES (?, ?)", (f"a{number}", "1"))
        if number == int(sys.argv[2]) - 1 and sys.argv[3] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        db.execute("INSERT INTO blocked (user_id, since) VALUES (?, ?)", (f"a{number}", 1))
os.kill(os.getpid(), signal.SIGKILL)
"""


def fresh(path: Path) -> sqlite3.Connection:
    db = connection.connect(path)
    connection.migrate(db)
    return db


def test_migrating_is_done_once_and_leaves_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    first = fresh(path)
    with connection.writing(first):
        first.execute("INSERT INTO blocked (user_id, since) VALUES ('a@b.c', 1)")
    first.close()
    again = fresh(path)
    assert again.execute("PRAGMA user_version").fetchone()[0] == len(connection.schema())
    assert again.execute("SELECT user_id FROM blocked").fetchone()[0] == "a@b.c"
    again.close()


def test_every_number_of_a_migration_is_used_once() -> None:
    folder = ROOT / "peer" / "store" / "schema"
    numbers = sorted(int(file.name.partition("_")[0]) for file in folder.glob("*.sql"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_newer_store_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    db = fresh(path)
    db.execute(f"PRAGMA user_version = {len(connection.schema()) + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(connection.NewerStore, match="version"):
        connection.connect(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_step_is_whole_or_not_at_all_when_its_process_is_killed(tmp_path: Path, when: str) -> None:
    path = tmp_path / "store.db"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), "3", when], cwd=ROOT, check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    db = fresh(path)
    pairs = [
        {row[0] for row in db.execute(query)} for query in ("SELECT name FROM settings", "SELECT user_id FROM blocked")
    ]
    assert pairs[0] == pairs[1] == ({"a0", "a1"} if when == "before" else {"a0", "a1", "a2"})
    db.close()


async def test_an_exception_takes_everything_of_its_step_back(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store.db")

    def step(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO blocked (user_id, since) VALUES ('a@b.c', 1)")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await store.write(step)
    assert await store.read(lambda db: db.execute("SELECT count(*) FROM blocked").fetchone()[0]) == 0
    store.close()


@given(clock=st.lists(st.integers(0, 1 << 50), min_size=1, max_size=20))
def test_a_counter_grows_whatever_the_clock_does(clock: list[int]) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    given_out = [counters.next_after(db, counters.PRESENCE, now) for now in clock]
    assert given_out == sorted(set(given_out))
    assert all(number >= now for number, now in zip(given_out, clock, strict=True))
    db.close()
