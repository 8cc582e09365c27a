"""The broker's storage in one SQLite file: all of its SQL, and nothing that decides over HTTP or time."""

from rendezvous.storage.sqlite.copying import copy
from rendezvous.storage.sqlite.database import look
from rendezvous.storage.sqlite.storage import SqliteStorage

__all__ = ["SqliteStorage", "copy", "look"]
