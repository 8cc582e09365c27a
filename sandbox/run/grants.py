"""What a `Start` frame grants: what the sandbox shows, what the gate allows, what MCP servers may not see. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sandbox import frames
from sandbox.confinement import Profile, Root
from sandbox.confinement.places import HOME, WORKSPACE
from sandbox.confinement.profile import can_hold_link
from sandbox.errors import SandboxError
from sandbox.policy.decision import GRANTABLE_TOOLS, WRITING_TOOLS, Scope, inside
from sandbox.run import network, toolchains
from sandbox.run.folder import RunFolder

GIT_SETTINGS: Final = Path("/etc/gitconfig")


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
        files={GIT_SETTINGS: _git_settings(roots)},
        links={Path(place): to for place, to in start.links.items() if can_hold_link(Path(place), roots)},
        cwd=WORKSPACE if start.cwd is None else Path(start.cwd),
        programs=tools.programs,
        variables=tools.variables,
        shell_variables=network.variables(start),
        network=network.granted(start),
    )


def scope(start: frames.Start, profile: Profile) -> Scope:
    """What the gate allows of the built-in tools. Unknown names are dropped here and denied there."""
    return Scope(
        tools=frozenset(start.tools) & GRANTABLE_TOOLS,
        roots=(str(profile.workspace), *(str(root.path) for root in profile.roots if not root.repository)),
        workspace=str(profile.workspace),
        project=start.cwd or str(profile.workspace),
        cwd=str(profile.cwd),
        home=str(HOME),
        approval=start.approval,
        rules=frozenset(start.rules),
        network=network.granted(start),
    )


def hidden(start: frames.Start, run_folder: RunFolder) -> tuple[Path, ...]:
    """What the person's MCP servers may not see, though they are the person's own programs."""
    return (run_folder.path, *(Path(path) for path in start.protected))


def _folders(start: frames.Start) -> tuple[Root, ...]:
    """The folder the run starts in, those of the edge's folders that do not overlap with it, and for shells the
    repositories of those whose `.git` names another folder.

    Each stands at its own path inside, so that what names it by that path works. A path of the edge that holds `cwd` is
    narrowed to `cwd`: it may hold the person's other projects, and even their names are not for a sender. No two
    folders overlap, so no view lies in another one.
    """
    if start.cwd is not None and start.paths and not inside(start.cwd, tuple(start.paths)):
        raise SandboxError("the run's folder is outside this edge's folders", fix="choose one inside", code=403)
    writable = bool(WRITING_TOOLS & set(start.tools))
    chosen: list[str] = [] if start.cwd is None else [start.cwd]
    for path in sorted(start.paths, key=len):
        if not any(inside(path, (taken,)) or inside(taken, (path,)) for taken in chosen):
            chosen.append(path)
    repositories: dict[str, str] = {}
    if "Bash" in start.tools:  # no other tool has a use for it
        for project, path in start.git_folders.items():
            if not any(inside(path, (taken,)) or inside(taken, (path,)) for taken in (*chosen, *repositories)):
                repositories[path] = project
    return tuple(
        Root(Path(path), writable, name=start.names.get(path) or Path(path).name, repository=repositories.get(path, ""))
        for path in (*chosen, *repositories)
    )


def _git_settings(roots: tuple[Root, ...]) -> bytes:
    """Settings by which git obeys the granted folders' repositories, whoever owns them, and no others."""
    named = [str(root.inside).replace("\\", "\\\\").replace('"', '\\"') for root in roots]
    return "".join(["[safe]\n", *(f'\tdirectory = "{path}"\n' for path in named)]).encode()
