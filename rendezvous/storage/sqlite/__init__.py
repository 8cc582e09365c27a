"""The broker's storage in one SQLite file: all of its SQL, and nothing that decides over HTTP or time."""

from rendezvous.storage.sqlite.copying import copy
from rendezvous.storage.sqlite.database import look
from rendezvous.storage.sqlite.storage import Notices, SqliteStorage

__all__ = ["Notices", "SqliteStorage", "copy", "look"]
