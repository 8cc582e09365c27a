"""What the agent of an accepted dispatch is told when it starts: the payload, the edge's scope, our settings."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from peer.context import Context
from peer.protocol.errors import Invalid
from peer.protocol.statements import Dispatch
from peer.settings import Settings
from peer.steps import receiving, running
from peer.store import dispatches, rows
from peer.trust import scopes
from sandbox import frames

ANSWER_SECONDS = 120.0
"""How long a person may take to answer one call."""
AGENT_PATIENCE = 1.0
"""Seconds that the agent waits longer than that: an answer taken here is always in time over there."""


def start_frame(
    db: sqlite3.Connection, *, context: Context, settings: Settings, row: rows.Dispatch, scope: scopes.Scope
) -> frames.Start:
    """Return what the agent of an accepted dispatch is told. Raises Conflict when it is not accepted any more."""
    # A cancel may have been committed between the accept and this run's registration.
    running.current(db, row.dispatch_id, row.attempt)
    dispatch: Dispatch = receiving.dispatch_of(row)
    _, rules = running.scope_of(db, row.edge_id)
    model = settings.model
    return frames.Start(
        dispatch_id=row.dispatch_id,
        attempt=row.attempt,
        sender=row.peer,
        task=dispatch.task,
        run_dir=str(context.state.runs / row.dispatch_id / str(row.attempt)),
        runtime=settings.runtime,
        script=_script(settings),
        background=dispatch.background or None,
        deliverable=dispatch.deliverable or None,
        links=list(dispatch.links),
        project=dispatch.project or None,
        files=[
            frames.Attachment(name=item.name, path=str(context.blobs.path(item.digest)))
            for item in dispatches.files(db, row.dispatch_id, "attachment")
        ],
        tools=list(scope.tools),
        mcp_servers=list(scope.mcp_servers),
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
        protected=[str(context.state.path)],
        model=frames.Model(base_url=model.base_url or None, api_key=model.api_key or None, name=model.name or None),
        answer_seconds=ANSWER_SECONDS + AGENT_PATIENCE,
    )


def _script(settings: Settings) -> list[frames.ScriptStep]:
    if settings.runtime != "scripted" or not settings.script:
        return []
    fix = '`dispatch config set script FILE`: a JSON list of {"say": …} and {"tool": …, "input": …}'
    try:
        return msgspec.json.decode(Path(settings.script).read_bytes(), type=list[frames.ScriptStep])
    except OSError as error:
        raise Invalid(f"the script {settings.script} cannot be read: {error.strerror}", fix=fix) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the script {settings.script} is not a list of steps", fix=fix) from error
