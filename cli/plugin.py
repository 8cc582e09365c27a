"""`plugin install|uninstall`: registering the plugin with Claude Code, by its own commands, and removing it.

The plugin's files are in mcp_plugin/plugin; running the claude program is in claude_program.py.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from cli.app import App
from cli.base import DispatchGroup, pass_app
from cli.claude_program import ClaudeProgram
from peer import VERSION
from peer.client.blocking import Document
from peer.machine import installation
from peer.protocol.errors import Conflict, Unavailable

NAME, MARKETPLACE = "dispatch", "dispatch-courier"
PLUGIN = f"{NAME}@{MARKETPLACE}"
PROGRAM = "dispatch-mcp"
"""The program that the plugin starts: as its server, and with a subcommand as its hooks and its monitor."""

claude_option = click.option(
    "--claude",
    "named",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The claude program, if it is not on $PATH.",
)


@click.group(cls=DispatchGroup, sign_in=False, example="dispatch plugin install\ndispatch plugin uninstall")
def plugin() -> None:
    """Use dispatch from inside Claude Code."""


@plugin.command("install", example="dispatch plugin install\ndispatch plugin install --claude ~/bin/claude --json")
@claude_option
@pass_app
def install(app: App, named: Path | None) -> None:
    """Register the plugin with Claude Code, for all your projects. New sessions have it.

    This uses Claude Code's own commands and touches no other settings. Installing again does no harm; do so after
    dispatch was upgraded or has moved to another folder.
    """
    program = ClaudeProgram.find(named)
    folder, programs = plugin_folder(), programs_folder()
    marketplace, installed = _ours(program)
    changed = False
    if marketplace is None or marketplace.get("path") != str(folder):
        program.add_marketplace(folder)
        changed = True
    if installed is None or not installed.get("enabled"):
        program.install(PLUGIN)
        changed = True
    elif installed.get("version") != VERSION:
        program.update(PLUGIN)
        changed = True
    elif not _is_copy(folder, installed.get("installPath")):
        # `update` compares versions alone, so only installing anew replaces a copy of the same version.
        program.uninstall(PLUGIN)
        program.install(PLUGIN)
        changed = True
    if changed:
        _, installed = _ours(program)
    if installed is None or not installed.get("enabled"):
        raise Unavailable(
            "Claude Code did not install the plugin, and did not say why",
            fix=f"look at `claude plugin list`, then try `claude plugin install {PLUGIN}`",
        )
    app.folder.write_private(app.folder.programs, f"{programs}\n".encode())
    _show_outcome(app, program, "installed", changed=changed)
    if not app.out.json:
        app.out.line(f"{'installed' if changed else 'already installed'}: {PLUGIN} {VERSION}")
        app.out.note("in a new session of Claude Code: /dispatch:dispatch, or say what you want to send, and to whom")


@plugin.command("uninstall", example="dispatch plugin uninstall")
@claude_option
@pass_app
def uninstall(app: App, named: Path | None) -> None:
    """Remove the plugin from Claude Code. Nothing else of dispatch is touched."""
    program = ClaudeProgram.find(named)
    marketplace, installed = _ours(program)
    if installed is not None:
        program.uninstall(PLUGIN)
    if marketplace is not None:
        program.remove_marketplace(MARKETPLACE)
    app.folder.programs.unlink(missing_ok=True)
    changed = installed is not None or marketplace is not None
    _show_outcome(app, program, "uninstalled", changed=changed)
    if not app.out.json:
        app.out.line("uninstalled" if changed else "it was not installed")


def plugin_folder() -> Path:
    """Return the plugin's folder, which is also its marketplace. Raises Unavailable."""
    found = find_spec("mcp_plugin")
    folder = Path(found.origin).parent / "plugin" if found is not None and found.origin is not None else None
    if folder is None or not (folder / ".claude-plugin" / "plugin.json").is_file():
        raise Unavailable("the plugin is missing from this installation", fix=installation.again())
    return folder.resolve()


def programs_folder() -> Path:
    """Return the folder that holds the program which the plugin starts. Raises Unavailable."""
    for folder in (Path(sys.executable).parent, Path(sys.argv[0]).resolve().parent):
        if (folder / PROGRAM).is_file():
            return folder
    raise Unavailable(f"{PROGRAM} is missing from this installation", fix=installation.again())


def _ours(program: ClaudeProgram) -> tuple[Document | None, Document | None]:
    """Return (our marketplace, our plugin at user scope), None for a missing one. Raises Conflict over namesakes."""
    marketplace = next((row for row in program.marketplaces() if row.get("name") == MARKETPLACE), None)
    if marketplace is not None and not _is_ours(marketplace):
        raise Conflict(
            f"Claude Code has another marketplace named {MARKETPLACE}",
            fix=f"see `claude plugin marketplace list`; to remove it: `claude plugin marketplace remove {MARKETPLACE}`",
        )
    plugins = program.plugins()
    for row in plugins:
        identity = str(row.get("id"))
        if identity.startswith(f"{NAME}@") and identity != PLUGIN:
            raise Conflict(
                f"Claude Code has another plugin of this name, {identity}, whose tools would be taken for ours",
                fix=f"remove it first: `claude plugin uninstall {identity} --scope {row.get('scope')}`",
            )
    ours = (row for row in plugins if row.get("id") == PLUGIN and row.get("scope") == "user")
    return marketplace, next(ours, None)


def _is_ours(marketplace: Document) -> bool:
    """Whether it is of this installation, of its checkout, or of an earlier one, which may be gone."""
    path = str(marketplace.get("path"))
    ours = path.endswith("/mcp_plugin/plugin") or Path(path) / "mcp_plugin" / "plugin" == plugin_folder()
    return marketplace.get("source") == "directory" and ours


def _is_copy(folder: Path, copy: object) -> bool:
    """Whether Claude Code's copy of the plugin, which some of its versions load, has the files of `folder`.

    One made by another dispatch may start programs that this one does not have. True where no copy was made.
    """
    if not isinstance(copy, str) or not Path(copy).is_dir():
        return True
    return _contents(folder) == _contents(Path(copy))


def _contents(folder: Path) -> dict[str, bytes]:
    try:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    except OSError as error:
        raise Unavailable(f"can't read {error.filename}: {error.strerror}", fix="check its permissions") from error


def _show_outcome(app: App, program: ClaudeProgram, status: str, *, changed: bool) -> None:
    if app.out.json:
        app.out.document(
            {
                "status": status,
                "changed": changed,
                "plugin": PLUGIN,
                "version": VERSION,
                "scope": "user",
                "path": str(plugin_folder()),
                "claude": str(program.path),
            }
        )
