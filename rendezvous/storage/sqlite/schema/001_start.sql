-- Users, their device-sets, sign-ins under way, sealed presence, invitations. Times: milliseconds since the epoch.
CREATE TABLE users (
    user_id     TEXT PRIMARY KEY,
    root        BLOB NOT NULL,
    epoch       INTEGER NOT NULL,
    device_set  BLOB NOT NULL,
    created     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    user_id  TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    device   TEXT NOT NULL,
    PRIMARY KEY (user_id, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE logins (
    device_code  BLOB PRIMARY KEY,          -- SHA-256 of the code
    user_code    TEXT NOT NULL UNIQUE,
    user_id      TEXT NOT NULL,
    device       TEXT NOT NULL,
    device_name  TEXT NOT NULL,
    device_set   BLOB NOT NULL,
    address      TEXT NOT NULL,             -- where the request came from, for the person to recognise
    state        TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied')),
    reason       TEXT NOT NULL DEFAULT '',
    mail_token   BLOB UNIQUE,               -- SHA-256 of the token in the mailed address
    attempts     INTEGER NOT NULL DEFAULT 0,
    interval_ms  INTEGER NOT NULL,
    next_poll    INTEGER NOT NULL,
    created      INTEGER NOT NULL,
    expires      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX logins_by_user ON logins (user_id);
CREATE INDEX logins_by_expiry ON logins (expires);

CREATE TABLE nonces (
    device   TEXT NOT NULL,
    nonce    TEXT NOT NULL,
    expires  INTEGER NOT NULL,
    PRIMARY KEY (device, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_by_expiry ON nonces (expires);

CREATE TABLE presence (
    user_id  TEXT NOT NULL,
    device   TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    box      BLOB,                          -- NULL: withdrawn; the row stays so that seq cannot go back
    PRIMARY KEY (user_id, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX presence_by_expiry ON presence (expires);

CREATE TABLE versions (
    user_id  TEXT PRIMARY KEY,
    version  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE invitations (
    token             TEXT PRIMARY KEY,
    inviter           TEXT NOT NULL,
    invitee           TEXT NOT NULL,
    statement         BLOB NOT NULL,
    status            TEXT NOT NULL CHECK (status IN ('pending', 'accepted', 'declined', 'withdrawn')),
    created           INTEGER NOT NULL,
    expires           INTEGER NOT NULL,
    inviter_version   INTEGER NOT NULL,
    invitee_version   INTEGER NOT NULL,
    answered          INTEGER,
    answer_digest     BLOB,
    purge_after       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX invitations_sent ON invitations (inviter, inviter_version);
CREATE INDEX invitations_received ON invitations (invitee, invitee_version);
CREATE INDEX invitations_by_purge ON invitations (purge_after);

CREATE TABLE answers (
    token   TEXT NOT NULL REFERENCES invitations (token) ON DELETE CASCADE,
    device  TEXT NOT NULL,
    sealed  BLOB NOT NULL,
    PRIMARY KEY (token, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE mails (
    recipient  TEXT NOT NULL,
    sender     TEXT NOT NULL,               -- the inviting user, or for a sign-in: address and user
    at         INTEGER NOT NULL
) STRICT;
CREATE INDEX mails_by_recipient ON mails (recipient, at);
CREATE INDEX mails_by_sender ON mails (sender, at);
CREATE INDEX mails_by_time ON mails (at);
