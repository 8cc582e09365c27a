-- What is kept of a dispatch is counted by contact, so that it can be bounded, and is removed when it is old or too much.

ALTER TABLE dispatches ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0;  -- files here or awaited, calls asked about
ALTER TABLE dispatches ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;      -- when it ended here; 0: it has not
ALTER TABLE dispatches ADD COLUMN thinned INTEGER NOT NULL DEFAULT 0;     -- when events and files were removed; 0: never

UPDATE dispatches SET
    kept_bytes = (SELECT coalesce(sum(size), 0) FROM files f WHERE f.dispatch_id = dispatches.dispatch_id AND ready >= 0)
        + (SELECT coalesce(sum(length(CAST(call AS BLOB))), 0) FROM approvals a WHERE a.dispatch_id = dispatches.dispatch_id),
    closed = CASE WHEN state IN ('completed', 'failed', 'declined', 'cancelled', 'expired', 'rejected') THEN updated ELSE 0 END;

CREATE INDEX dispatches_to_thin ON dispatches (closed) WHERE closed > 0 AND trace_bytes + kept_bytes > 0;
CREATE INDEX dispatches_to_thin_by_peer ON dispatches (peer, direction, closed)
    WHERE closed > 0 AND trace_bytes + kept_bytes > 0;
CREATE INDEX outbox_by_dispatch ON outbox (dispatch_id);

CREATE TABLE held (                           -- trace_bytes and kept_bytes of all dispatches of a contact
    peer      TEXT NOT NULL,
    direction TEXT NOT NULL,
    ended     INTEGER NOT NULL CHECK (ended IN (0, 1)),
    bytes     INTEGER NOT NULL,
    PRIMARY KEY (peer, direction, ended)
) STRICT, WITHOUT ROWID;
INSERT INTO held
    SELECT peer, direction, closed > 0, sum(trace_bytes + kept_bytes) FROM dispatches GROUP BY peer, direction, closed > 0;

CREATE TRIGGER dispatch_held AFTER UPDATE OF closed, trace_bytes, kept_bytes ON dispatches
    WHEN (OLD.closed > 0, OLD.trace_bytes + OLD.kept_bytes) <> (NEW.closed > 0, NEW.trace_bytes + NEW.kept_bytes)
BEGIN
    INSERT INTO held (peer, direction, ended, bytes)
        VALUES (OLD.peer, OLD.direction, OLD.closed > 0, -(OLD.trace_bytes + OLD.kept_bytes))
        ON CONFLICT (peer, direction, ended) DO UPDATE SET bytes = bytes + excluded.bytes;
    INSERT INTO held (peer, direction, ended, bytes)
        VALUES (NEW.peer, NEW.direction, NEW.closed > 0, NEW.trace_bytes + NEW.kept_bytes)
        ON CONFLICT (peer, direction, ended) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER file_held AFTER INSERT ON files WHEN NEW.ready >= 0
BEGIN
    UPDATE dispatches SET kept_bytes = kept_bytes + NEW.size WHERE dispatch_id = NEW.dispatch_id;
END;
CREATE TRIGGER file_let_go AFTER UPDATE OF ready ON files WHEN OLD.ready >= 0 AND NEW.ready < 0
BEGIN
    UPDATE dispatches SET kept_bytes = kept_bytes - OLD.size WHERE dispatch_id = OLD.dispatch_id;
END;

CREATE TRIGGER approval_held AFTER INSERT ON approvals
BEGIN
    UPDATE dispatches SET kept_bytes = kept_bytes + length(CAST(NEW.call AS BLOB)) WHERE dispatch_id = NEW.dispatch_id;
END;
CREATE TRIGGER approval_replaced AFTER UPDATE OF call ON approvals
BEGIN
    UPDATE dispatches
        SET kept_bytes = kept_bytes - length(CAST(OLD.call AS BLOB)) + length(CAST(NEW.call AS BLOB))
        WHERE dispatch_id = NEW.dispatch_id;
END;
CREATE TRIGGER approval_removed AFTER DELETE ON approvals
BEGIN
    UPDATE dispatches SET kept_bytes = kept_bytes - length(CAST(OLD.call AS BLOB)) WHERE dispatch_id = OLD.dispatch_id;
END;
