"""A store of an earlier version keeps what it holds when it is opened by this one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from peer.store import connection, edges
from peer.store.rows import EdgeRule


def test_rules_of_before_cover_what_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = connection.schema()
    with closing(connection.connect(tmp_path / "store.db")) as db:
        monkeypatch.setattr(connection, "schema", lambda: scripts[:2])
        connection.migrate(db)
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("INSERT INTO edge_rules VALUES (7, 'e', 'Bash', 'git status', 1000)")
        monkeypatch.setattr(connection, "schema", lambda: scripts)
        connection.migrate(db)
        assert edges.rules(db, "e") == [EdgeRule(7, "e", "Bash", "git status", "exact", 1000)]
        edges.add_rule(db, "e", "Bash", "git status", "prefix", 2000)
        edges.add_rule(db, "e", "Bash", "git status", "prefix", 3000)
        assert [rule.reach for rule in edges.rules(db, "e")] == ["exact", "prefix"]
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("INSERT INTO edge_rules VALUES (9, 'e', 'Bash', 'x', 'glob', 1)")
