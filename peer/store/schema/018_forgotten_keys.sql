-- Root keys of contacts that this person believes no longer, because the contact lost the devices that had them.

ALTER TABLE contacts ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;  -- when the pinned key was forgotten; 0: it is believed

CREATE TABLE former_keys (
    user_id    TEXT NOT NULL REFERENCES contacts (user_id) ON DELETE CASCADE,
    root       BLOB NOT NULL CHECK (length(root) = 32),
    device_set BLOB NOT NULL,             -- the newest under that key: receipts of before are verified by it
    forgotten  INTEGER NOT NULL,
    PRIMARY KEY (user_id, root)
) STRICT, WITHOUT ROWID;

-- Whether a sent invitation was answered under another root key than the pinned one. The answer is not taken.
ALTER TABLE invitations ADD COLUMN other_key INTEGER NOT NULL DEFAULT 0 CHECK (other_key IN (0, 1));
