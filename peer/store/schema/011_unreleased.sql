-- What a run returned on an edge whose person looks at it before it is sent, until it is sent or the dispatch ends.

CREATE TABLE unreleased (
    dispatch_id TEXT PRIMARY KEY REFERENCES dispatches ON DELETE CASCADE,
    result      BLOB NOT NULL,                -- JSON: peer.store.unreleased.RunResult
    at          INTEGER NOT NULL              -- when the run ended
) STRICT, WITHOUT ROWID;

CREATE TABLE unreleased_events (              -- as the sender would see them
    n           INTEGER PRIMARY KEY AUTOINCREMENT,
    dispatch_id TEXT NOT NULL REFERENCES dispatches ON DELETE CASCADE,
    event       TEXT NOT NULL
) STRICT;
CREATE INDEX unreleased_events_by_dispatch ON unreleased_events (dispatch_id, n);
