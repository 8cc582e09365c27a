"""Trust edges and their rules. SQL only; the transition table is in peer/trust/edge_lifecycle.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import msgspec

from peer.store.rows import Edge, EdgeMcpServer, EdgeRule, all_of, one
from peer.trust.edge_lifecycle import RuleReach

OPEN = ("offered", "active", "paused")

LONGEST_LIFETIME_MS = 86_400_000


def add(db: sqlite3.Connection, edge: Edge) -> None:
    """Store a new edge."""
    db.execute(
        "INSERT INTO edges (edge_id, direction, user_id, device, status, scope, invitation_id, acceptance, created, "
        "changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            edge.edge_id,
            edge.direction,
            edge.user_id,
            edge.device,
            edge.status,
            edge.scope,
            edge.invitation_id,
            edge.acceptance,
            edge.created,
            edge.changed,
        ),
    )


def get(db: sqlite3.Connection, edge_id: str) -> Edge | None:
    """Return the edge with this id."""
    return one(Edge, db.execute("SELECT * FROM edges WHERE edge_id = ?", (edge_id,)).fetchone())


def current(db: sqlite3.Connection, user_id: str, direction: str) -> Edge | None:
    """Return the edge with this user that has not ended, else the one that ended last."""
    rows = db.execute(
        "SELECT * FROM edges WHERE user_id = ? AND direction = ? "
        "ORDER BY status IN ('offered', 'active', 'paused') DESC, created DESC LIMIT 1",
        (user_id, direction),
    )
    return one(Edge, rows.fetchone())


def every(db: sqlite3.Connection) -> list[Edge]:
    """Return all edges, newest first."""
    return all_of(Edge, db.execute("SELECT * FROM edges ORDER BY created DESC, edge_id").fetchall())


def set_status(db: sqlite3.Connection, edge_id: str, status: str, now: int) -> None:
    """Set an edge's status; the caller has checked the transition."""
    db.execute("UPDATE edges SET status = ?, changed = ? WHERE edge_id = ?", (status, now, edge_id))


def decline_offer(db: sqlite3.Connection, edge_id: str, now: int) -> None:
    """End an edge that is still offered; one that is in force is unchanged."""
    db.execute(
        "UPDATE edges SET status = 'declined', changed = ? WHERE edge_id = ? AND status = 'offered'", (now, edge_id)
    )


def by_invitation(db: sqlite3.Connection, token: str) -> Edge | None:
    """Return the edge that answered an invitation."""
    return one(Edge, db.execute("SELECT * FROM edges WHERE invitation_id = ?", (token,)).fetchone())


def set_scope(db: sqlite3.Connection, edge_id: str, scope: str, now: int) -> None:
    """Replace an edge's scope (JSON)."""
    db.execute("UPDATE edges SET scope = ?, changed = ? WHERE edge_id = ?", (scope, now, edge_id))


def add_rule(db: sqlite3.Connection, edge_id: str, tool: str, pattern: str, reach: RuleReach, now: int) -> None:
    """Store an `always` rule; storing the same rule again has no effect."""
    db.execute(
        "INSERT INTO edge_rules (edge_id, tool, pattern, reach, created) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (edge_id, tool, pattern, reach, now),
    )


def rules(db: sqlite3.Connection, edge_id: str) -> list[EdgeRule]:
    """Return an edge's rules, oldest first."""
    rows = db.execute("SELECT * FROM edge_rules WHERE edge_id = ? ORDER BY rule_id", (edge_id,))
    return all_of(EdgeRule, rows.fetchall())


def remove_rule(db: sqlite3.Connection, edge_id: str, rule_id: int) -> bool:
    """Remove a rule; False if the edge has none with this id."""
    return db.execute("DELETE FROM edge_rules WHERE edge_id = ? AND rule_id = ?", (edge_id, rule_id)).rowcount > 0


def admitted_since(db: sqlite3.Connection, edge_id: str, since: int, *, at_least: int) -> list[int]:
    """Return when each dispatch of this edge was admitted, at or after `since` (ms), oldest first.

    [] if there are certainly fewer than `at_least`: this is called at every admission, and counting in an index is far
    cheaper than the join.
    """
    # A dispatch admitted since then was created at most one lifetime earlier; twice that allows for a changed clock.
    # Without this bound, all dispatches of the edge would be examined.
    made_since = since - 2 * LONGEST_LIFETIME_MS
    (most,) = db.execute(
        "SELECT count(*) FROM dispatches WHERE edge_id = ? AND created >= ?", (edge_id, made_since)
    ).fetchone()
    if most < at_least:
        return []
    rows = db.execute(
        "SELECT s.at FROM dispatches d JOIN seen s ON s.device = d.device AND s.statement_id = d.dispatch_id "
        "WHERE d.edge_id = ? AND d.created >= ? AND d.direction = 'received' AND s.at >= ? ORDER BY s.at",
        (edge_id, made_since, since),
    )
    return [int(row[0]) for row in rows]


def mcp_servers(db: sqlite3.Connection, edge_id: str) -> dict[str, EdgeMcpServer]:
    """Return the MCP servers that an edge grants, as pinned, by name."""
    rows = db.execute("SELECT * FROM edge_mcp_servers WHERE edge_id = ? ORDER BY name", (edge_id,))
    return {row.name: row for row in all_of(EdgeMcpServer, rows.fetchall())}


def pin_mcp_servers(db: sqlite3.Connection, edge_id: str, commands: Mapping[str, str]) -> None:
    """Pin exactly these servers, name → command (JSON); a server with an unchanged command keeps its tools."""
    for name, command in commands.items():
        db.execute(
            "INSERT INTO edge_mcp_servers (edge_id, name, command) VALUES (?, ?, ?) ON CONFLICT (edge_id, name) "
            "DO UPDATE SET command = excluded.command, tools = NULL WHERE command <> excluded.command",
            (edge_id, name, command),
        )
    for name in mcp_servers(db, edge_id).keys() - commands.keys():
        db.execute("DELETE FROM edge_mcp_servers WHERE edge_id = ? AND name = ?", (edge_id, name))


def git_folders(db: sqlite3.Connection, edge_id: str) -> dict[str, str]:
    """Return the pins (JSON) of the repositories' folders of an edge's folders, by folder."""
    rows = db.execute("SELECT folder, pin FROM edge_git_folders WHERE edge_id = ? ORDER BY folder", (edge_id,))
    return {str(folder): str(pin) for folder, pin in rows}


def pin_git_folders(db: sqlite3.Connection, edge_id: str, pins: Mapping[str, str]) -> None:
    """Pin exactly these, folder → pin (JSON)."""
    db.execute("DELETE FROM edge_git_folders WHERE edge_id = ?", (edge_id,))
    db.executemany(
        "INSERT INTO edge_git_folders (edge_id, folder, pin) VALUES (?, ?, ?)",
        [(edge_id, folder, pin) for folder, pin in pins.items()],
    )


def pin_first_tools(db: sqlite3.Connection, edge_id: str, name: str, tools: str) -> None:
    """Pin the tools (JSON) that a server listed, unless some are pinned already."""
    db.execute(
        "UPDATE edge_mcp_servers SET tools = ? WHERE edge_id = ? AND name = ? AND tools IS NULL", (tools, edge_id, name)
    )


def pin_tool(db: sqlite3.Connection, edge_id: str, name: str, tool: str, digest: str) -> None:
    """Pin one tool of a server by its digest (hex SHA-256)."""
    server = mcp_servers(db, edge_id).get(name)
    if server is not None:
        tools = msgspec.json.encode({**msgspec.json.decode(server.tools or "{}"), tool: digest}).decode()
        db.execute("UPDATE edge_mcp_servers SET tools = ? WHERE edge_id = ? AND name = ?", (tools, edge_id, name))
