-- What no row of `files` needs any more is removed while the node runs: each digest that a row let go waits here for it.

CREATE TABLE freed_blobs (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER files_let_go AFTER UPDATE OF ready ON files WHEN OLD.ready >= 0 AND NEW.ready < 0
BEGIN
    INSERT INTO freed_blobs (digest) VALUES (NEW.digest) ON CONFLICT (digest) DO NOTHING;
END;
CREATE TRIGGER files_deleted AFTER DELETE ON files WHEN OLD.ready >= 0
BEGIN
    INSERT INTO freed_blobs (digest) VALUES (OLD.digest) ON CONFLICT (digest) DO NOTHING;
END;

-- -2: was here, and was removed. -1: never came, and will not.
UPDATE files SET ready = CASE ready WHEN 1 THEN -2 ELSE -1 END
    WHERE ready >= 0 AND role = 'attachment' AND dispatch_id IN (
        SELECT dispatch_id FROM dispatches WHERE state IN ('cancelled', 'declined', 'expired', 'rejected')
    );
