-- A mail is counted under several quotas, each by its own name (rules.py); those counted before are at most a day old.
DROP TABLE mails;
CREATE TABLE mails (
    quota  TEXT NOT NULL,
    at     INTEGER NOT NULL
) STRICT;
CREATE INDEX mails_by_quota ON mails (quota, at);
CREATE INDEX mails_by_time ON mails (at);

CREATE INDEX memberships_by_user ON memberships (user_id);
CREATE INDEX logins_by_address ON logins (address, created);
