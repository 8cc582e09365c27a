-- Of each device the newest membership that a sign-in brought: whose it is, by its own signature. Invitations of
-- version 0.1.0 hold a device-set without memberships, which nobody can open any more: they end here.
CREATE TABLE memberships (
    device   TEXT PRIMARY KEY,
    user_id  TEXT NOT NULL,
    counter  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

DELETE FROM logins;
DELETE FROM invitations;
