-- What runs changed in their views of the person's folders, until it is put in place, thrown away or thinned.

CREATE TABLE change_sets (
    dispatch_id TEXT NOT NULL REFERENCES dispatches,
    attempt     INTEGER NOT NULL,
    digest      BLOB NOT NULL,                -- SHA-256 of its changes.json
    entries     INTEGER NOT NULL,
    decidable   INTEGER NOT NULL,             -- of these, how many can be put in place at all
    bytes       INTEGER NOT NULL,             -- of its contents, and of the old ones that are kept to take it back
    waits       INTEGER NOT NULL,             -- of the decidable ones, how many are neither in place nor thrown away
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'closed', 'removed')),
    created     INTEGER NOT NULL,
    decided     INTEGER NOT NULL DEFAULT 0,   -- when a person last decided about it; 0: never
    PRIMARY KEY (dispatch_id, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX change_sets_waiting ON change_sets (dispatch_id) WHERE state = 'waiting';

CREATE TABLE landings (                       -- each time that entries of a change set were put in place
    dispatch_id TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    entries     TEXT NOT NULL,                -- JSON list of their numbers
    state       TEXT NOT NULL CHECK (state IN ('begun', 'landed', 'undoing', 'undone')),
    at          INTEGER NOT NULL,
    PRIMARY KEY (dispatch_id, attempt, number),
    FOREIGN KEY (dispatch_id, attempt) REFERENCES change_sets
) STRICT, WITHOUT ROWID;

CREATE TRIGGER change_set_held AFTER INSERT ON change_sets WHEN NEW.state <> 'removed'
BEGIN
    UPDATE dispatches SET kept_bytes = kept_bytes + NEW.bytes WHERE dispatch_id = NEW.dispatch_id;
END;
CREATE TRIGGER change_set_grown AFTER UPDATE OF bytes ON change_sets WHEN OLD.state <> 'removed' AND NEW.state <> 'removed'
BEGIN
    UPDATE dispatches SET kept_bytes = kept_bytes - OLD.bytes + NEW.bytes WHERE dispatch_id = NEW.dispatch_id;
END;
CREATE TRIGGER change_set_let_go AFTER UPDATE OF state ON change_sets WHEN OLD.state <> 'removed' AND NEW.state = 'removed'
BEGIN
    UPDATE dispatches SET kept_bytes = kept_bytes - OLD.bytes WHERE dispatch_id = NEW.dispatch_id;
END;
