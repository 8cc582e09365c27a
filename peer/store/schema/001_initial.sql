-- Times are milliseconds since the epoch; ids and user names text; digests and keys blobs; JSON as text.

CREATE TABLE contacts (
    user_id    TEXT PRIMARY KEY,
    root       BLOB NOT NULL CHECK (length(root) = 32),
    device_set BLOB NOT NULL,                 -- the signed statement with the highest epoch seen
    epoch      INTEGER NOT NULL,
    verified   INTEGER NOT NULL DEFAULT 0 CHECK (verified IN (0, 1)),
    alias      TEXT NOT NULL DEFAULT '',
    created    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE contact_devices (
    device      TEXT PRIMARY KEY,             -- base58 peer id
    user_id     TEXT NOT NULL REFERENCES contacts (user_id) ON DELETE CASCADE,
    sealing_key BLOB NOT NULL CHECK (length(sealing_key) = 32),
    name        TEXT NOT NULL,
    addresses   TEXT NOT NULL DEFAULT '[]',   -- JSON list of multiaddrs, last ones known
    last_seen   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX contact_devices_by_user ON contact_devices (user_id);

CREATE TABLE blocked (
    user_id TEXT PRIMARY KEY,
    since   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE edges (
    edge_id       TEXT PRIMARY KEY,
    direction     TEXT NOT NULL CHECK (direction IN ('incoming', 'outgoing')),  -- incoming: the peer may dispatch to me
    user_id       TEXT NOT NULL REFERENCES contacts (user_id),
    device        TEXT NOT NULL,              -- the trustor's device that runs what comes over this edge
    status        TEXT NOT NULL,
    scope         TEXT NOT NULL,              -- incoming: the whole scope; outgoing: the summary the trustor told
    invitation_id TEXT NOT NULL,
    acceptance    BLOB NOT NULL,              -- the signed acceptance that offered it
    created       INTEGER NOT NULL,
    changed       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX edges_by_user ON edges (user_id, direction, status);

CREATE TABLE edge_rules (
    rule_id INTEGER PRIMARY KEY,
    edge_id TEXT NOT NULL REFERENCES edges (edge_id) ON DELETE CASCADE,
    tool    TEXT NOT NULL,
    pattern TEXT NOT NULL,
    created INTEGER NOT NULL,
    UNIQUE (edge_id, tool, pattern)
) STRICT;

CREATE TABLE invitations (
    token     TEXT PRIMARY KEY,               -- the invitation's id
    direction TEXT NOT NULL CHECK (direction IN ('sent', 'received')),
    peer      TEXT NOT NULL,
    raw       BLOB NOT NULL,
    secret    BLOB NOT NULL DEFAULT x'',      -- sent, or received by link: the link's 256-bit secret
    verified  INTEGER NOT NULL DEFAULT 0,     -- received: the link's digest fitted
    status    TEXT NOT NULL,
    emailed   INTEGER NOT NULL DEFAULT 0,
    dev_link  TEXT NOT NULL DEFAULT '',
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE broker_outbox (                  -- writes the broker has not confirmed yet
    n         INTEGER PRIMARY KEY AUTOINCREMENT,
    action    TEXT NOT NULL,
    token     TEXT NOT NULL,
    body      BLOB NOT NULL,
    created   INTEGER NOT NULL
) STRICT;

CREATE TABLE dispatches (
    dispatch_id TEXT PRIMARY KEY,
    direction   TEXT NOT NULL CHECK (direction IN ('sent', 'received')),
    edge_id     TEXT NOT NULL,
    peer        TEXT NOT NULL,                -- the other user
    device      TEXT NOT NULL,                -- the other user's device
    state       TEXT NOT NULL,
    raw         BLOB NOT NULL,                -- the signed dispatch, as sent
    digest      BLOB NOT NULL,
    task        TEXT NOT NULL,
    created     INTEGER NOT NULL,
    expires     INTEGER NOT NULL,             -- moves once, when a run was interrupted
    updated     INTEGER NOT NULL,
    attempt     INTEGER NOT NULL DEFAULT 0,
    interrupted INTEGER NOT NULL DEFAULT 0,
    cwd         TEXT NOT NULL DEFAULT '',
    code        INTEGER NOT NULL DEFAULT 0,
    message     TEXT NOT NULL DEFAULT '',
    fix         TEXT NOT NULL DEFAULT '',
    decision    BLOB NOT NULL DEFAULT x'',    -- the signed decision that accepted or declined it
    result      BLOB NOT NULL DEFAULT x''     -- the signed result
) STRICT, WITHOUT ROWID;
CREATE INDEX dispatches_by_box ON dispatches (direction, created DESC);
CREATE INDEX dispatches_by_edge ON dispatches (edge_id, created);
CREATE INDEX dispatches_by_state ON dispatches (state, expires);

CREATE TABLE tombstones (                     -- cancelled before the dispatch itself arrived
    device      TEXT NOT NULL,
    dispatch_id TEXT NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (device, dispatch_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE files (                          -- what a dispatch carries, and what a result returns
    dispatch_id TEXT NOT NULL REFERENCES dispatches (dispatch_id) ON DELETE CASCADE,
    role        TEXT NOT NULL CHECK (role IN ('attachment', 'returned')),
    position    INTEGER NOT NULL,
    name        TEXT NOT NULL,
    size        INTEGER NOT NULL,
    digest      BLOB NOT NULL CHECK (length(digest) = 32),
    statement   TEXT NOT NULL,                -- id of the statement that named it
    ready       INTEGER NOT NULL DEFAULT 0,   -- the bytes are here, verified and fsynced
    PRIMARY KEY (dispatch_id, role, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_digest ON files (digest);
CREATE INDEX files_awaited ON files (ready) WHERE ready = 0;

CREATE TABLE event_batches (                  -- the signed chain, over exactly the bytes sent
    dispatch_id TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    sequence    INTEGER NOT NULL,
    raw         BLOB NOT NULL,
    digest      BLOB NOT NULL,
    PRIMARY KEY (dispatch_id, attempt, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE trace (                          -- the same events one by one, for people
    n           INTEGER PRIMARY KEY AUTOINCREMENT,
    dispatch_id TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    event       TEXT NOT NULL
) STRICT;
CREATE INDEX trace_by_dispatch ON trace (dispatch_id, n);

CREATE TABLE approvals (
    dispatch_id TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    call        TEXT NOT NULL,
    asked       INTEGER NOT NULL,
    deadline    INTEGER NOT NULL,
    outcome     TEXT NOT NULL DEFAULT '',     -- '' while open
    answer      TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (dispatch_id, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX approvals_open ON approvals (outcome) WHERE outcome = '';

CREATE TABLE outbox (                         -- statements the other device has not answered yet
    n           INTEGER PRIMARY KEY AUTOINCREMENT,
    device      TEXT NOT NULL,
    kind        TEXT NOT NULL,
    priority    INTEGER NOT NULL,             -- 0 first
    ordering    TEXT NOT NULL,                -- one at a time and in order within this key
    edge_id     TEXT NOT NULL DEFAULT '',
    dispatch_id TEXT NOT NULL DEFAULT '',
    raw         BLOB NOT NULL,
    created     INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_by_device ON outbox (device, priority, n);
CREATE INDEX outbox_by_ordering ON outbox (device, ordering, n);

CREATE TABLE seen (                           -- every statement ever taken in, and how it was answered
    device       TEXT NOT NULL,
    statement_id TEXT NOT NULL,
    digest       BLOB NOT NULL,
    code         INTEGER NOT NULL,
    message      TEXT NOT NULL,
    fix          TEXT NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (device, statement_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
