-- What goes next is found by an index, however much waits behind it.

ALTER TABLE outbox ADD COLUMN head INTEGER NOT NULL DEFAULT 1;  -- 1: no older statement of its ordering waits
UPDATE outbox SET head = 0 WHERE ordering <> '' AND EXISTS (
    SELECT 1 FROM outbox e WHERE e.device = outbox.device AND e.ordering = outbox.ordering AND e.n < outbox.n
);
DROP INDEX outbox_by_device;
CREATE INDEX outbox_heads ON outbox (device, priority, n) WHERE head = 1;

CREATE TRIGGER outbox_next_head AFTER DELETE ON outbox WHEN OLD.head = 1 AND OLD.ordering <> ''
BEGIN
    UPDATE outbox SET head = 1 WHERE n = (
        SELECT min(n) FROM outbox WHERE device = OLD.device AND ordering = OLD.ordering
    );
END;
