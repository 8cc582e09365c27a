-- When a device of the invited person fetched a sent invitation from its broker, by the broker's clock; 0: not yet known.
ALTER TABLE invitations ADD COLUMN fetched INTEGER NOT NULL DEFAULT 0;
