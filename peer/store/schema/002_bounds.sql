-- What a peer can make us keep is counted, so that it can be bounded.

ALTER TABLE dispatches ADD COLUMN trace_bytes INTEGER NOT NULL DEFAULT 0;   -- signed event batches of all attempts

CREATE TABLE remembered (                     -- how many rows of seen and tombstones each device caused
    device TEXT PRIMARY KEY,
    count  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO remembered SELECT device, count(*) FROM seen GROUP BY device;

CREATE TRIGGER seen_added AFTER INSERT ON seen BEGIN
    INSERT INTO remembered (device, count) VALUES (new.device, 1) ON CONFLICT (device) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER seen_removed AFTER DELETE ON seen BEGIN
    UPDATE remembered SET count = count - 1 WHERE device = old.device;
END;

CREATE INDEX seen_by_time ON seen (at);
CREATE INDEX tombstones_by_time ON tombstones (at);
