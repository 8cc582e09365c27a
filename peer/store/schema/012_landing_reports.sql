-- What a recipient's device has signed of how much of a run's changes is in place: of each dispatch the newest, on both sides.

CREATE TABLE landing_reports (
    dispatch_id TEXT PRIMARY KEY REFERENCES dispatches,
    counter     INTEGER NOT NULL,             -- the report with the highest one is kept
    landed      TEXT NOT NULL CHECK (landed IN ('waiting', 'all', 'part', 'none')),
    in_place    INTEGER,                      -- both NULL where only the word was told
    in_all      INTEGER,
    at          INTEGER NOT NULL,             -- when it was signed, by the recipient's clock
    raw         BLOB NOT NULL
) STRICT, WITHOUT ROWID;
