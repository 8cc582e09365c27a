-- Whether the end of a run began a landing, not a person: what a crash interrupted of it is then begun once more.
ALTER TABLE landings ADD COLUMN unasked INTEGER NOT NULL DEFAULT 0 CHECK (unasked IN (0, 1));
