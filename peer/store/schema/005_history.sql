-- What was asked and answered, to be found by its words: kept beside the dispatches, in the same transactions. Not by
-- triggers: with trusted_schema off, those may not write a virtual table.

CREATE TABLE searchable (
    n           INTEGER PRIMARY KEY,
    dispatch_id TEXT NOT NULL UNIQUE REFERENCES dispatches (dispatch_id) ON DELETE CASCADE,
    peer        TEXT NOT NULL,
    task        TEXT NOT NULL,
    reply       TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE VIRTUAL TABLE history USING fts5(
    peer, task, reply, content='searchable', content_rowid='n', tokenize="unicode61 remove_diacritics 2"
);

INSERT INTO searchable (dispatch_id, peer, task, reply)
    SELECT dispatch_id, peer, task, reply_of(result) FROM dispatches ORDER BY created;
INSERT INTO history (history) VALUES ('rebuild');
