"""A copy of the SQLite file that is whole, although the broker goes on writing: SQLite's backup API, then a check."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from peer.protocol.errors import Unavailable
from rendezvous.storage.sqlite.database import BUSY_SECONDS


def copy(source: Path, target: Path) -> None:
    """Write what is in `source` at one moment to `target`, an empty private file, checked and synced.

    Raises Unavailable for a source that cannot be read, a disk that fails, and a copy that is damaged: then the source
    is damaged too.
    """
    try:
        with closing(_opened(source, "ro")) as read, closing(_opened(target, "rw")) as written:
            # A crash leaves a copy that nobody was told of, so its pages need no syncing one by one.
            written.execute("PRAGMA synchronous = OFF")
            # In one step, so that all of it is one committed state. The broker's writes go on into the WAL meanwhile.
            read.backup(written)
            # A file in WAL mode would get two more files beside it as soon as somebody looks into it.
            written.execute("PRAGMA journal_mode = DELETE")
            (found,) = written.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok" or written.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise Unavailable(f"{source} is damaged: {found[:200]}", fix="restore the newest backup that is whole")
        with target.open("rb") as file:
            os.fsync(file.fileno())
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"can't copy {source}: {error}", fix="look at the disks of both, and try again") from error


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_SECONDS
    )
