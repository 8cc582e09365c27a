-- The MCP servers that an edge grants, pinned as they were when a person granted them.

CREATE TABLE edge_mcp_servers (
    edge_id TEXT NOT NULL REFERENCES edges (edge_id) ON DELETE CASCADE,
    name    TEXT NOT NULL,
    command TEXT NOT NULL,                    -- JSON list of words, as configured
    tools   TEXT,                             -- JSON {tool: hex SHA-256}; NULL until it has listed them once
    PRIMARY KEY (edge_id, name)
) STRICT, WITHOUT ROWID;
