"""What a `Start` frame grants: what the sandbox shows, what the gate allows, what MCP servers may not see. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sandbox import frames
from sandbox.confinement import Profile, Root
from sandbox.confinement.places import HOME, WORKSPACE
from sandbox.errors import SandboxError
from sandbox.policy.decision import GRANTABLE_TOOLS, WRITING_TOOLS, Scope, inside
from sandbox.run import toolchains
from sandbox.run.folder import RunFolder

PROJECT: Final = Path("/project")
"""Where the agent sees the folder it starts in. Neutral: the folder's real name is not for the sender."""
FOLDERS: Final = Path("/folders")
"""Where it sees the other folders of the edge, by number."""


def profile(start: frames.Start, run_folder: RunFolder, *, programs: tuple[Root, ...], model: bool) -> Profile:
    """What the sandbox shows. SandboxError 403 for a forbidden folder, or a `cwd` outside the paths."""
    roots = _folders(start)
    protected = tuple(Path(path) for path in start.protected)
    tools = toolchains.seen(start.toolchains, roots=roots, programs=programs, protected=protected)
    return Profile(
        workspace=run_folder.workspace,
        home=run_folder.home,
        roots=roots,
        model_socket=run_folder.socket if model else None,
        runtime=(*programs, *tools.mounts),
        protected=protected,
        cwd=PROJECT if start.cwd is not None else WORKSPACE,
        programs=tools.programs,
        variables=tools.variables,
    )


def scope(start: frames.Start, profile: Profile) -> Scope:
    """What the gate allows of the built-in tools. Unknown names are dropped here and denied there."""
    return Scope(
        tools=frozenset(start.tools) & GRANTABLE_TOOLS,
        roots=(str(profile.workspace), *(str(root.path) for root in profile.roots)),
        workspace=str(profile.workspace),
        project=start.cwd or str(profile.workspace),
        cwd=str(profile.cwd),
        home=str(HOME),
        approval=start.approval,
        rules=frozenset(start.rules),
    )


def hidden(start: frames.Start, run_folder: RunFolder) -> tuple[Path, ...]:
    """What the person's MCP servers may not see, though they are the person's own programs."""
    return (run_folder.path, *(Path(path) for path in start.protected))


def _folders(start: frames.Start) -> tuple[Root, ...]:
    """The folder the run starts in, and those of the edge's folders that do not overlap with it.

    A path of the edge that holds `cwd` is narrowed to `cwd`: it may hold the person's other projects, and even their
    names are not for a sender. No two folders overlap, so every file has one name inside.
    """
    if start.cwd is not None and start.paths and not inside(start.cwd, tuple(start.paths)):
        raise SandboxError("the run's folder is outside this edge's paths", fix="choose one inside", code=403)
    writable = bool(WRITING_TOOLS & set(start.tools))
    chosen: list[str] = [] if start.cwd is None else [start.cwd]
    for path in sorted(start.paths, key=len):
        if not any(inside(path, (taken,)) or inside(taken, (path,)) for taken in chosen):
            chosen.append(path)
    places = [PROJECT] if start.cwd is not None else []
    places += [FOLDERS / str(number) for number in range(1, len(chosen) - len(places) + 1)]
    return tuple(Root(Path(path), writable, place) for path, place in zip(chosen, places, strict=True))
