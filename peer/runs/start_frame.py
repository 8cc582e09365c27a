"""The start frame of a run: the dispatch's content, the edge's scope and this machine's settings, for dp-agent."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

import msgspec

from peer.machine import mcp_servers
from peer.machine.all_state_folders import all_state_folders
from peer.machine.plain_file import read_plain
from peer.machine.settings import Settings
from peer.protocol.content import TEXTS, Content, FileRef
from peer.protocol.errors import DispatchError, Forbidden, Invalid
from peer.runs.toolchains import toolchains
from peer.steps import receiving, running
from peer.steps.context import Context
from peer.store import dispatches, edges, rows
from peer.trust import grants, own_names, scopes
from sandbox import frames
from sandbox.runtimes import RUNTIMES

ANSWER_SECONDS = 120.0
"""How long a person may take to answer one call."""
AGENT_PATIENCE = 1.0
"""Seconds that the agent waits longer, so that an answer accepted here is always in time there."""


class MachineFacts(NamedTuple):
    """The parts of a start frame that come from the disk and /proc, not from the store. Slow to collect."""

    servers: mcp_servers.InstalledServers
    state_folders: tuple[Path, ...]
    toolchains: frames.Toolchains
    script: list[frames.ScriptStep]


def machine_facts(context: Context, settings: Settings, scope: scopes.Scope, cwd: str | None) -> MachineFacts:
    """Collect the facts for a run of this scope in `cwd`. Blocking. Raises Invalid for a script that cannot be read."""
    states = all_state_folders(context.state.path)
    found = toolchains(scope, settings, cwd, states)
    return MachineFacts(granted_candidates(context, scope), states, found.frame(), _script(settings))


def granted_candidates(context: Context, scope: scopes.Scope) -> mcp_servers.InstalledServers:
    """Return the MCP servers installed here, or none if the scope grants none. Blocking."""
    return mcp_servers.discover(context.state.path) if scope.mcp_servers else mcp_servers.InstalledServers()


def start_frame(
    db: sqlite3.Connection,
    *,
    context: Context,
    settings: Settings,
    row: rows.Dispatch,
    scope: scopes.Scope,
    facts: MachineFacts,
) -> frames.Start:
    """Return the start frame of an accepted dispatch. Raises Conflict if it is no longer accepted."""
    # A cancel may have committed before the run was registered.
    running.get_running(db, row.dispatch_id, row.attempt)
    content = receiving.accepted_dispatch(row).content
    _, rules = running.get_scope(db, row.edge_id)
    model = settings.model
    return frames.Start(
        dispatch_id=row.dispatch_id,
        attempt=row.attempt,
        sender=row.peer,
        task=content.task,
        attached=attached(content),
        run_dir=str(context.state.runs / row.dispatch_id / str(row.attempt)),
        runtime=settings.runtime,
        script=facts.script,
        files=[
            frames.Attachment(name=item.name, path=str(context.blobs.path(item.digest)))
            for item in dispatches.files(db, row.dispatch_id, "attachment")
        ],
        tools=list(scope.tools),
        mcp_servers=granted_servers(db, facts.servers, row),
        mcp_refused=own_names.TOOLS,
        paths=list(scope.paths),
        approval=scope.approval,
        rules=[frames.Rule(tool=rule.tool, pattern=rule.pattern, reach=rule.reach) for rule in rules],
        budget=frames.Budget(
            minutes=scope.budget.minutes,
            turns=scope.budget.turns,
            usd=scope.budget.usd,
            output_bytes=scope.budget.output_bytes,
        ),
        cwd=row.cwd or None,
        protected=[str(path) for path in facts.state_folders],
        toolchains=facts.toolchains,
        model=frames.Model(
            base_url=model.base_url or None,
            api_key=model.api_key or None,
            name=model.name or None,
            ca_file=os.environ.get("SSL_CERT_FILE") or None,
        ),
        answer_seconds=ANSWER_SECONDS + AGENT_PATIENCE,
    )


def attached(content: Content[FileRef]) -> list[frames.Attached]:
    """Return what the sender wrote besides the task, for the agent to read."""
    texts = [(field.name, field.about.heading, getattr(content, field.name)) for field in TEXTS]
    texts.append(("links", "Links, which cannot be opened from here", "\n".join(content.links)))
    return [frames.Attached(name=name, heading=heading, text=text) for name, heading, text in texts if text]


def granted_servers(
    db: sqlite3.Connection, found: mcp_servers.InstalledServers, row: rows.Dispatch
) -> list[frames.McpServer]:
    """Return the MCP servers of a dispatch's edge, ready to start, each exactly as it was granted.

    `found`: the servers installed here now. Raises Forbidden for one that is gone, unusable or changed.
    """
    scope, _ = running.get_scope(db, row.edge_id)
    pinned = edges.mcp_servers(db, row.edge_id)
    servers = []
    for name in scope.mcp_servers:
        pin, server = pinned.get(name), found.servers.get(name)
        if server is None:
            raise _not_as_granted(name, row.peer, "is no longer installed here")
        if grants.is_dispatch(server.offer):
            raise _not_as_granted(name, row.peer, "is dispatch itself now, and a run must not dispatch onward")
        if server.unusable:
            raise _not_as_granted(name, row.peer, f"can no longer be used: {server.unusable}")
        if pin is None or tuple(msgspec.json.decode(pin.command)) != server.command:
            raise _not_as_granted(name, row.peer, "is started by another command than when it was granted")
        servers.append(
            frames.McpServer(
                name=name,
                command=mcp_servers.filled_in(server.command),
                env=mcp_servers.environment(server),
                tools=None if pin.tools is None else msgspec.json.decode(pin.tools),
            )
        )
    return servers


def _not_as_granted(name: str, peer: str, why: str) -> Forbidden:
    fix = f"look at it, then grant what you want: `dispatch trust edit {peer} --mcp-servers …`"
    return Forbidden(f"the MCP server `{name}` of this edge {why}", fix=fix)


MAX_SCRIPT = 4 * 1024 * 1024
"""Bytes; a start frame holds no more."""


def _script(settings: Settings) -> list[frames.ScriptStep]:
    if not RUNTIMES[settings.runtime].takes_script or not settings.script:
        return []
    fix = '`dispatch config set script FILE`: a JSON list of {"say": …} and {"tool": …, "input": …}'
    try:
        return msgspec.json.decode(read_plain(Path(settings.script), limit=MAX_SCRIPT), type=list[frames.ScriptStep])
    except DispatchError as error:
        raise Invalid(f"the script cannot be used: {error.message}", fix=fix) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the script {settings.script} is not a list of steps", fix=fix) from error
