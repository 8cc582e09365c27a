"""`mcp-config`: the configuration by which an agent's program starts dispatch-mcp, ready to paste. Changes no file.

The formats are those of the hosts' own documents (November 2026): docs/mcp.md says what each host lacks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.plugin import PROGRAM, programs_folder

START_SECONDS: Final = 20
"""For the server to answer first; it takes about one."""
CALL_SECONDS: Final = 300
"""For one call: it follows a run for 45 seconds, and a form may be open for two minutes."""
HOME: Final = "DISPATCH_HOME"
"""Which some hosts keep from their servers, as every variable that they do not know: it would be somebody else's."""

Server = Mapping[str, object]


def _json(server: Server, **more: object) -> str:
    return json.dumps({"mcpServers": {"dispatch": {**more, **server}}}, indent=2, ensure_ascii=False) + "\n"


def _claude(server: Server) -> str:
    return _json({**server, "timeout": CALL_SECONDS * 1000, "alwaysLoad": True}, type="stdio")


def _gemini(server: Server) -> str:
    return _json({**server, "timeout": CALL_SECONDS * 1000})


def _cursor(server: Server) -> str:
    return _json(server, type="stdio")


def _codex(server: Server) -> str:
    lines = [f"# in {HOSTS['codex'].file}", "[mcp_servers.dispatch]"]
    lines += [f"{name} = {_toml(server[name])}" for name in ("command", "args")]
    lines += [f"startup_timeout_sec = {START_SECONDS}", f"tool_timeout_sec = {CALL_SECONDS}"]
    if isinstance(given := server.get("env"), Mapping):
        lines += ["", "[mcp_servers.dispatch.env]", *(f"{name} = {_toml(value)}" for name, value in given.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """Return a text or a list of texts in TOML: JSON's strings are basic strings of TOML, but for U+007F."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


class Host(NamedTuple):
    """An agent's program: what it is called, which file it reads, in which format, and how an entry is written."""

    title: str
    file: str
    format: str
    write: Callable[[Server], str]


HOSTS: Final[Mapping[str, Host]] = {
    "claude": Host("Claude Code", "~/.claude.json", "json", _claude),
    "codex": Host("Codex", "~/.codex/config.toml", "toml", _codex),
    "gemini": Host("Gemini CLI", "~/.gemini/settings.json", "json", _gemini),
    "cursor": Host("Cursor", "~/.cursor/mcp.json", "json", _cursor),
}


@click.command(
    "mcp-config",
    cls=DispatchCommand,
    sign_in=False,
    example="dispatch mcp-config codex\ndispatch mcp-config gemini --json",
)
@click.argument("host", type=click.Choice(list(HOSTS)))
@pass_app
def mcp_config(app: App, host: str) -> None:
    """Print the MCP configuration with which another agent can use dispatch.

    Paste it into the file that is named below it. If that is a JSON file which has `mcpServers` already, add the entry
    `dispatch` there. For Claude Code, `dispatch plugin install` does more.
    """
    about = HOSTS[host]
    text = about.write(server(programs_folder(), os.environ))
    if app.out.json:
        app.out.document({"host": host, "file": about.file, "format": about.format, "text": text})
        return
    app.out.block(text.rstrip("\n"), indent=0)
    app.out.note(f"for {about.title}: paste it into {about.file}, then start a new session")
    if host == "claude":
        app.out.note("better: `dispatch plugin install`, which also brings the skill and asks each question once")


def server(programs: Path, environment: Mapping[str, str]) -> Server:
    """Return what starts the server: {command, args, env?}. `programs`: the folder with dispatch-mcp."""
    started: dict[str, object] = {"command": str(programs.absolute() / PROGRAM), "args": []}
    if home := environment.get(HOME):
        started["env"] = {HOME: str(Path(home).expanduser().absolute())}
    return started
