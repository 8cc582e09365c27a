-- A rule may be wider than one spelling of a call: how far its pattern reaches is said beside it.
CREATE TABLE edge_rules_new (
    rule_id INTEGER PRIMARY KEY,
    edge_id TEXT NOT NULL REFERENCES edges (edge_id) ON DELETE CASCADE,
    tool    TEXT NOT NULL,
    pattern TEXT NOT NULL,
    reach   TEXT NOT NULL CHECK (reach IN ('exact', 'prefix', 'folder')),
    created INTEGER NOT NULL,
    UNIQUE (edge_id, tool, pattern, reach)
) STRICT;

INSERT INTO edge_rules_new (rule_id, edge_id, tool, pattern, reach, created)
    SELECT rule_id, edge_id, tool, pattern, 'exact', created FROM edge_rules;

DROP TABLE edge_rules;

ALTER TABLE edge_rules_new RENAME TO edge_rules;
