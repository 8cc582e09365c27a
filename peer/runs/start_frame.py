"""The start frame of a run: the dispatch's content, the edge's scope and this machine's settings, for dp-agent."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from peer.dispatches.folder_names import names_of
from peer.machine import mcp_servers, model_route, network_route
from peer.machine.all_state_folders import all_state_folders
from peer.machine.plain_file import read_plain
from peer.machine.settings import Settings
from peer.projects import cached_packages, git_folders
from peer.projects.git_folders import GitFolder
from peer.projects.lock_files import Locked
from peer.protocol.content import TEXTS, Content, FileRef
from peer.protocol.errors import DispatchError, Forbidden, Invalid
from peer.runs.toolchains import toolchains
from peer.steps import receiving, running
from peer.steps.context import Context
from peer.store import dispatches, edges, rows
from peer.trust import grants, own_names, scopes
from peer.trust.filesystem import LocalFacts
from peer.trust.scopes import within
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
    git_folders: dict[str, str]
    """Project → its repository's folder, of those that are as they were when they were granted."""
    not_shown: list[str]
    links: dict[str, str]
    """Symbolic links on the way to the home folder: place → target."""
    toolchains: frames.Toolchains
    network: frames.Network
    seeds: list[frames.Seed]
    script: list[frames.ScriptStep]


def machine_facts(
    context: Context,
    settings: Settings,
    scope: scopes.Scope,
    pinned: Mapping[str, GitFolder],
    cwd: str | None,
    locked: Locked,
) -> MachineFacts:
    """Collect the facts for a run of this scope in `cwd`. Blocking. Raises Invalid for a script that cannot be read.

    `pinned`: project → its repository's folder as it was granted. `locked`: what its lock files named at accept.
    """
    states = all_state_folders(context.state.path)
    facts = LocalFacts(home=Path.home(), states=states)
    fits, not_shown = git_folders.fitting(pinned, facts)
    sees_toolchains = "Bash" in scope.tools and (scope.toolchains or settings.toolchains) != ("none",)
    return MachineFacts(
        servers=granted_candidates(context, scope),
        state_folders=states,
        git_folders=fits,
        not_shown=not_shown,
        links=_links(Path.home(), facts),
        toolchains=toolchains(scope, settings, cwd, states).frame(),
        network=network_route.network(
            scope,
            settings,
            packages=locked.packages if scope.registries else {},
            file_hosts=locked.hosts if scope.registries else (),
        ),
        seeds=cached_packages.seeds(locked.entries) if sees_toolchains else [],
        script=_script(settings),
    )


def _links(home: Path, facts: LocalFacts) -> dict[str, str]:
    """The symbolic links by which the home folder is named, as /home on some systems; no run can have made one."""
    found = {}
    for place in facts.links(str(home.absolute())):
        with suppress(OSError):
            found[place] = str(Path(place).readlink())
    return found


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
    folders = shown_folders(row.cwd, scope.paths)
    repositories = {folder: facts.git_folders[folder] for folder in folders if folder in facts.git_folders}
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
        git_folders=repositories,
        names=names_of([*folders, *repositories.values()]),
        links=facts.links,
        not_shown=facts.not_shown,
        approval=scope.approval,
        rules=[frames.Rule(tool=rule.tool, pattern=rule.pattern, reach=rule.reach) for rule in rules],
        budget=frames.Budget(
            minutes=scope.budget.minutes,
            turns=scope.budget.turns,
            usd=scope.budget.usd,
            output_bytes=scope.budget.output_bytes,
            network_bytes=scope.budget.network_bytes,
        ),
        cwd=row.cwd or None,
        protected=[str(path) for path in facts.state_folders],
        toolchains=facts.toolchains,
        network=facts.network,
        seeds=facts.seeds,
        model=model_route.model(settings),
        answer_seconds=ANSWER_SECONDS + AGENT_PATIENCE,
    )


def shown_folders(cwd: str, paths: Sequence[str]) -> list[str]:
    """Return the folders that a run in `cwd` ('' for none) sees of an edge's, `cwd` first."""
    own = [cwd] if cwd else []
    return own + [path for path in paths if not any(within(path, (one,)) or within(one, (path,)) for one in own)]


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
            raise _not_as_granted(name, row.peer, "is now dispatch itself, and a run must not dispatch onward")
        if server.unusable:
            raise _not_as_granted(name, row.peer, f"can no longer be used: {server.unusable}")
        if pin is None or tuple(msgspec.json.decode(pin.command)) != server.command:
            raise _not_as_granted(name, row.peer, "is started by a different command from the one that was granted")
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
    fix = 'set another with `dispatch config set script FILE`: a JSON list of {"say": …} and {"tool": …, "input": …}'
    try:
        return msgspec.json.decode(read_plain(Path(settings.script), limit=MAX_SCRIPT), type=list[frames.ScriptStep])
    except DispatchError as error:
        raise Invalid(f"the script cannot be used: {error.message}", fix=fix) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the script {settings.script} is not a list of steps", fix=fix) from error
