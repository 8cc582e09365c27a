-- What each device signed last of whose it is, and what it understands. A store that has contacts of before this is
-- refused (connection.py): their devices signed no membership.

CREATE TABLE memberships (                    -- of each device the one with the highest counter, whoever listed it
    device      TEXT PRIMARY KEY,
    user_id     TEXT NOT NULL,
    root        BLOB NOT NULL CHECK (length(root) = 32),
    counter     INTEGER NOT NULL,
    standing    TEXT NOT NULL CHECK (standing IN ('member', 'left')),
    sealing_key BLOB NOT NULL CHECK (length(sealing_key) = 32),
    raw         BLOB NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE contact_devices ADD COLUMN hello BLOB NOT NULL DEFAULT x'';             -- the signed one, x'' before any
ALTER TABLE contact_devices ADD COLUMN hello_counter INTEGER NOT NULL DEFAULT 0;

ALTER TABLE invitations DROP COLUMN dev_link;
