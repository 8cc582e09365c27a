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


def test_commands_that_name_the_run_s_former_folders_are_asked_about_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail without it: the same words could name another folder of this machine now."""
    scripts = connection.schema()
    rules = [
        ("Bash", "ls /project/src", "exact"),
        ("Bash", "cat '/folders/2/notes'", "prefix"),
        ("Bash", "git status", "prefix"),
        ("Read", "/home/bob/project/a", "folder"),
        ("mcp__notes__find", '{"in": "/project"}', "exact"),
    ]
    with closing(connection.connect(tmp_path / "store.db")) as db:
        monkeypatch.setattr(connection, "schema", lambda: scripts[:12])
        connection.migrate(db)
        db.execute("PRAGMA foreign_keys = OFF")
        for rule in rules:
            db.execute("INSERT INTO edge_rules (edge_id, tool, pattern, reach, created) VALUES ('e', ?, ?, ?, 1)", rule)
        monkeypatch.setattr(connection, "schema", lambda: scripts)
        connection.migrate(db)
        assert [(rule.tool, rule.pattern, rule.reach) for rule in edges.rules(db, "e")] == rules[2:]


def test_contacts_of_version_0_1_0_refuse_the_store_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their devices signed no membership. Seen to fail without the look at them: they were contacts with no device."""
    scripts, path = connection.schema(), tmp_path / "store.db"
    with closing(connection.connect(path)) as db:
        monkeypatch.setattr(connection, "schema", lambda: scripts[: connection.WITH_MEMBERSHIPS - 1])
        connection.migrate(db)
        db.execute("INSERT INTO contacts VALUES ('a@b.c', zeroblob(32), x'00', 1, 0, '', 1000)")
    before = path.read_bytes()
    monkeypatch.setattr(connection, "schema", lambda: scripts)
    with closing(connection.connect(path)) as db, pytest.raises(connection.OlderStore, match=r"0\.1\.0") as refused:
        connection.migrate(db)
    assert path.read_bytes() == before and "invite your contacts again" in refused.value.fix


def test_what_may_only_read_refuses_a_store_of_an_earlier_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail without it: a column that was not there was a bug of ours to whoever looked."""
    scripts, path = connection.schema(), tmp_path / "store.db"
    monkeypatch.setattr(connection, "schema", lambda: scripts[:4])
    with closing(connection.connect(path)) as db:
        connection.migrate(db)
    monkeypatch.setattr(connection, "schema", lambda: scripts)
    with pytest.raises(connection.OlderStore, match="version 4") as refused:
        connection.connect(path, read_only=True)
    assert "dispatch-daemon" in refused.value.fix
    with closing(connection.connect(path)) as db:
        connection.migrate(db)
    connection.connect(path, read_only=True).close()


def test_what_is_kept_of_dispatches_of_before_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the ended ones among them grow old from when they were last changed. Seen to fail without each of the
    statements that fill in what was there."""
    scripts = connection.schema()
    with closing(connection.connect(tmp_path / "store.db")) as db:
        monkeypatch.setattr(connection, "schema", lambda: scripts[:8])
        connection.migrate(db)
        for name, direction, state in (
            ("ended", "received", "completed"),
            ("open", "received", "running"),
            ("sent", "sent", "expired"),
        ):
            db.execute(
                "INSERT INTO dispatches (dispatch_id, direction, edge_id, peer, device, state, raw, digest, task, "
                "created, expires, updated, trace_bytes) "
                "VALUES (?, ?, 'e', 'a@b.c', 'd', ?, x'', x'', 't', 1000, 2000, 3000, 100)",
                (name, direction, state),
            )
            for position, ready in enumerate((1, 0, -2)):
                db.execute(
                    "INSERT INTO files VALUES (?, 'attachment', ?, 'f', 10, zeroblob(32), 's', ?)",
                    (name, position, ready),
                )
            db.execute("INSERT INTO approvals VALUES (?, 'c', 1, '{\"\u00fc\":1}', 1, 2, 'allowed', '')", (name,))
        monkeypatch.setattr(connection, "schema", lambda: scripts)
        connection.migrate(db)
        rows = db.execute(
            "SELECT dispatch_id, kept_bytes, closed, thinned FROM dispatches ORDER BY dispatch_id"
        ).fetchall()
        assert [tuple(row) for row in rows] == [("ended", 28, 3000, 0), ("open", 28, 0, 0), ("sent", 28, 3000, 0)]
        held = db.execute("SELECT * FROM held ORDER BY direction, ended").fetchall()
        assert [tuple(row) for row in held] == [
            ("a@b.c", "received", 0, 128),
            ("a@b.c", "received", 1, 128),
            ("a@b.c", "sent", 1, 128),
        ]
