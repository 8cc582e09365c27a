-- What was asked and answered, to be found by its words: kept beside the dispatches, in the same transactions.

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

CREATE TRIGGER searchable_added AFTER INSERT ON searchable BEGIN
    INSERT INTO history (rowid, peer, task, reply) VALUES (new.n, new.peer, new.task, new.reply);
END;
CREATE TRIGGER searchable_removed AFTER DELETE ON searchable BEGIN
    INSERT INTO history (history, rowid, peer, task, reply) VALUES ('delete', old.n, old.peer, old.task, old.reply);
END;
CREATE TRIGGER searchable_answered AFTER UPDATE ON searchable BEGIN
    INSERT INTO history (history, rowid, peer, task, reply) VALUES ('delete', old.n, old.peer, old.task, old.reply);
    INSERT INTO history (rowid, peer, task, reply) VALUES (new.n, new.peer, new.task, new.reply);
END;

INSERT INTO searchable (dispatch_id, peer, task, reply)
    SELECT dispatch_id, peer, task, reply_of(result) FROM dispatches ORDER BY created;
