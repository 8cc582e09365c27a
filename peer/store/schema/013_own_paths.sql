-- Granted folders stand at their own paths inside a run, and the repository of a worktree or submodule beside them.

CREATE TABLE edge_git_folders (               -- as they were when a person granted the folder
    edge_id TEXT NOT NULL REFERENCES edges (edge_id) ON DELETE CASCADE,
    folder  TEXT NOT NULL,                    -- of the edge's folders
    pin     TEXT NOT NULL,                    -- JSON of projects.git_folders.GitFolder
    PRIMARY KEY (edge_id, folder)
) STRICT, WITHOUT ROWID;

-- The same of the folder that was confirmed at accept, where that is none of the edge's own; '' for none.
ALTER TABLE dispatches ADD COLUMN git_folder TEXT NOT NULL DEFAULT '';

-- Commands name folders as the run sees them. Until now that was /project and /folders/N, which may be other folders of
-- this machine now: their `always` ends, so that the next such call is asked about.
DELETE FROM edge_rules WHERE tool = 'Bash' AND (instr(pattern, '/project') OR instr(pattern, '/folders'));
