"""The index of this machine's projects: an SQLite database with FTS5, refreshed from disk. Matching is not here.

The only SQL outside peer.store. The index is a cache in its own file: it can be deleted and rebuilt at any time, and
never delays a write of the store. Its content, names and paths of this machine, is shown to the local user alone; of
these a run sees the paths of the folders that it is given. Blocking: the node calls it in a thread.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from peer.projects import matching
from peer.projects.discovery import Description, Walk, describe, folder_name
from peer.projects.matching import Hit, Project, Suggestion
from peer.projects.words import words
from peer.protocol.errors import Unavailable

_VERSION: Final = 1
_SCHEMA: Final = """
    CREATE TABLE project (
        id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, name TEXT NOT NULL, parts TEXT NOT NULL, stamp TEXT NOT NULL
    );
    CREATE VIRTUAL TABLE project_words USING fts5 (name, about, tokenize = 'unicode61 remove_diacritics 0');
"""
_MAX_HITS: Final = 50


class Refreshed(msgspec.Struct, frozen=True):
    """The outcome of a refresh: projects known, read again, removed; the bound that cut the walk short, if any."""

    known: int
    described: int
    forgotten: int
    cut: str | None


class ProjectIndex:
    """The index in `db_path` (created 0600 if missing), or in memory for None. Any thread, one at a time."""

    def __init__(self, db_path: Path | None) -> None:
        self._path = db_path
        self._lock = threading.Lock()
        self._db = self._open()

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def refresh(self, roots: Sequence[str], *, clock: Callable[[], float], excluded: Sequence[str] = ()) -> Refreshed:
        """Bring the index up to date with the projects below `roots` (absolute). `clock` counts seconds.

        Only projects whose files changed are read again. Projects that are gone or no longer below a root are removed;
        after a walk that was cut short, only those that are certainly gone. `excluded` folders are not walked.
        """
        walk = Walk(roots, clock=clock, excluded=excluded)
        with self._lock:
            known = dict(self._db.execute("SELECT path, stamp FROM project"))
        found = {project.path: project.stamp for project in walk}
        changed = {path: describe(path) for path, stamp in found.items() if known.get(path) != stamp}
        gone = [path for path in known if path not in found and (walk.cut is None or _surely_gone(path, walk.roots))]
        with self._lock, self._transaction() as db:
            for path in (*changed, *gone):
                db.execute("DELETE FROM project_words WHERE rowid = (SELECT id FROM project WHERE path = ?)", (path,))
                db.execute("DELETE FROM project WHERE path = ?", (path,))
            for path, description in changed.items():
                self._insert(db, path, found[path], description)
            count: int = db.execute("SELECT count(*) FROM project").fetchone()[0]
        return Refreshed(count, len(changed), len(gone), walk.cut)

    def suggest(self, task: str, hint: str, allowed_paths: Sequence[str]) -> Suggestion:
        """Return the project that a task is about. `allowed_paths` are the edge's folders, canonical; may be empty."""
        asked = matching.query(task, hint)
        with self._lock:
            rows = self._db.execute("SELECT path, name, parts FROM project ORDER BY path")
            projects = [Project(path, name, tuple(parts.split())) for path, name, parts in rows]
            hits = list(self._hits(asked.telling))
        return matching.match(asked, projects, hits, allowed_paths)

    def _hits(self, telling: Sequence[str]) -> Iterator[Hit]:
        if not telling:
            return
        # Words consist of letters and digits (words.py) and are quoted, so a sender cannot inject FTS5 syntax.
        expression = " OR ".join(f'"{word}"' for word in telling)
        rows = self._db.execute(
            "SELECT path, project.name, parts, project_words.name, about"
            " FROM project_words JOIN project ON project.id = project_words.rowid"
            " WHERE project_words MATCH ? ORDER BY bm25(project_words, 10.0, 1.0), path LIMIT ?",
            (expression, _MAX_HITS),
        )
        for path, name, parts, indexed, about in rows:
            in_name, in_about = set(indexed.split()), set(about.split())
            yield Hit(
                Project(path, name, tuple(parts.split())),
                tuple(word for word in telling if word in in_name),
                tuple(word for word in telling if word in in_about and word not in in_name),
            )

    def _insert(self, db: sqlite3.Connection, path: str, stamp: str, description: Description) -> None:
        name = folder_name(path)
        row = db.execute(
            "INSERT INTO project (path, name, parts, stamp) VALUES (?, ?, ?, ?)",
            (path, name, " ".join(words(name)), stamp),
        )
        # Split by the same rule as the query before indexing, so that FTS5's hits agree with our comparison.
        named, about = " ".join(words(f"{name} {description.names}")), " ".join(words(description.about))
        db.execute("INSERT INTO project_words (rowid, name, about) VALUES (?, ?, ?)", (row.lastrowid, named, about))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
        except sqlite3.OperationalError as error:
            raise Unavailable(f"the project index cannot be written: {error}", fix="free some disk space") from error

    def _open(self) -> sqlite3.Connection:
        if self._path is None:
            return _made(sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None))
        try:
            return self._open_file(self._path)
        except sqlite3.DatabaseError:
            # Not a database, or a damaged one: it is a cache, so create it again.
            for leftover in (self._path, *(Path(f"{self._path}{end}") for end in ("-journal", "-wal", "-shm"))):
                leftover.unlink(missing_ok=True)
            return self._open_file(self._path)

    @staticmethod
    def _open_file(path: Path) -> sqlite3.Connection:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            return _made(db)
        except sqlite3.DatabaseError:
            db.close()
            raise


def _made(db: sqlite3.Connection) -> sqlite3.Connection:
    """Create the tables of this version, dropping those of another; return the connection."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            db.execute("DROP TABLE IF EXISTS project_words")
            db.execute("DROP TABLE IF EXISTS project")
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        # Detects a damaged page here rather than in the middle of a dispatch.
        db.execute("SELECT count(*) FROM project").fetchone()
        db.execute("SELECT count(*) FROM project_words").fetchone()
    return db


def _surely_gone(path: str, roots: Sequence[str]) -> bool:
    below = any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)
    return not below or not os.path.isdir(path)  # noqa: PTH112 - Path.is_dir() raises for a name that is too long
