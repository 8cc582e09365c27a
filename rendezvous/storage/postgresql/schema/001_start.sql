-- As the tables of SQLite are after schema 004 (sqlite/schema). Times: milliseconds since the epoch. Text is compared by
-- its bytes, as SQLite compares it.
CREATE TABLE users (
    user_id     TEXT COLLATE "C" PRIMARY KEY,
    root        BYTEA NOT NULL,
    epoch       BIGINT NOT NULL,
    device_set  BYTEA NOT NULL,
    created     BIGINT NOT NULL
);

CREATE TABLE devices (
    user_id  TEXT COLLATE "C" NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    device   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, device)
);
CREATE INDEX devices_by_device ON devices (device);

CREATE TABLE memberships (
    device   TEXT COLLATE "C" PRIMARY KEY,
    user_id  TEXT COLLATE "C" NOT NULL,
    counter  BIGINT NOT NULL
);
CREATE INDEX memberships_by_user ON memberships (user_id);

CREATE TABLE logins (
    device_code  BYTEA PRIMARY KEY,          -- SHA-256 of the code
    user_code    TEXT COLLATE "C" NOT NULL UNIQUE,
    user_id      TEXT COLLATE "C" NOT NULL,
    device       TEXT COLLATE "C" NOT NULL,
    device_name  TEXT COLLATE "C" NOT NULL,
    device_set   BYTEA NOT NULL,
    address      TEXT COLLATE "C" NOT NULL,  -- where the request came from, for the person to recognise
    state        TEXT COLLATE "C" NOT NULL CHECK (state IN ('pending', 'approved', 'denied')),
    reason       TEXT COLLATE "C" NOT NULL DEFAULT '',
    mail_token   BYTEA UNIQUE,               -- SHA-256 of the token in the mailed address
    attempts     BIGINT NOT NULL DEFAULT 0,
    interval_ms  BIGINT NOT NULL,
    next_poll    BIGINT NOT NULL,
    created      BIGINT NOT NULL,
    expires      BIGINT NOT NULL
);
CREATE INDEX logins_by_user ON logins (user_id);
CREATE INDEX logins_by_expiry ON logins (expires);
CREATE INDEX logins_by_address ON logins (address, created);

CREATE TABLE nonces (
    device   TEXT COLLATE "C" NOT NULL,
    nonce    TEXT COLLATE "C" NOT NULL,
    expires  BIGINT NOT NULL,
    PRIMARY KEY (device, nonce)
);
CREATE INDEX nonces_by_expiry ON nonces (expires);

CREATE TABLE presence (
    user_id  TEXT COLLATE "C" NOT NULL,
    device   TEXT COLLATE "C" NOT NULL,
    seq      BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    box      BYTEA,                          -- NULL: withdrawn; the row stays so that seq cannot go back
    PRIMARY KEY (user_id, device)
);
CREATE INDEX presence_by_device ON presence (device);
CREATE INDEX presence_by_expiry ON presence (expires);

CREATE TABLE versions (
    user_id  TEXT COLLATE "C" PRIMARY KEY,
    version  BIGINT NOT NULL
);

CREATE TABLE invitations (
    token             TEXT COLLATE "C" PRIMARY KEY,
    inviter           TEXT COLLATE "C" NOT NULL,
    invitee           TEXT COLLATE "C" NOT NULL,
    statement         BYTEA NOT NULL,
    status            TEXT COLLATE "C" NOT NULL CHECK (status IN ('pending', 'accepted', 'declined', 'withdrawn')),
    created           BIGINT NOT NULL,
    expires           BIGINT NOT NULL,
    inviter_version   BIGINT NOT NULL,
    invitee_version   BIGINT NOT NULL,
    answered          BIGINT,
    answer_digest     BYTEA,
    purge_after       BIGINT NOT NULL,
    mailed            BIGINT,                -- 1: the mail server took it; 0: no mail was sent; NULL: not known
    fetched           BIGINT                 -- when a device of the invitee fetched it
);
CREATE INDEX invitations_sent ON invitations (inviter, inviter_version);
CREATE INDEX invitations_received ON invitations (invitee, invitee_version);
CREATE INDEX invitations_by_purge ON invitations (purge_after);

CREATE TABLE answers (
    token   TEXT COLLATE "C" NOT NULL REFERENCES invitations (token) ON DELETE CASCADE,
    device  TEXT COLLATE "C" NOT NULL,
    sealed  BYTEA NOT NULL,
    PRIMARY KEY (token, device)
);

CREATE TABLE mails (                         -- a mail is counted under several quotas, each by its own name
    quota  TEXT COLLATE "C" NOT NULL,
    at     BIGINT NOT NULL
);
CREATE INDEX mails_by_quota ON mails (quota, at);
CREATE INDEX mails_by_time ON mails (at);
