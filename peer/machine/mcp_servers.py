"""Finds the MCP servers that are installed for this user, and which of them can be granted to an edge. Starts none.

The configurations that apply to all of the user's work are read: Codex's, Claude's, and `shareable-mcp.json` in the
state folder; a name in a later one replaces the same name in an earlier one. Project files are never read: a run could
have written them. A server that cannot be granted is listed with the reason; a file that cannot be read yields only a
warning.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from peer.machine import disguises
from peer.protocol.documents import Document
from peer.trust import scopes
from peer.trust.grants import McpServer

MAX_FILE: Final = 32 * 1024 * 1024
"""Bytes. Claude's file contains much besides MCP servers."""
MAX_SERVERS: Final = 200
MAX_WORDS: Final = 100
MAX_TEXT: Final = 32_768

INHERITED: Final = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""Variables of the daemon's environment that a server inherits, besides those in its configuration."""

_NAME: Final = re.compile(r"[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*", re.ASCII)
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class InstalledServer:
    """One server. `command` is as configured; `unusable` is why it cannot be granted, "" if it can.

    `dispatch`: it starts dispatch, whatever its name.
    """

    name: str
    source: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    unusable: str = ""
    dispatch: bool = False

    @property
    def offer(self) -> McpServer:
        """The server in the form that grants and menus use."""
        return McpServer(self.name, self.command, unusable=self.unusable, dispatch=self.dispatch)


@dataclass(frozen=True)
class InstalledServers:
    """The installed servers by name, and warnings about files that could not be read."""

    servers: Mapping[str, InstalledServer] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def offers(self) -> list[McpServer]:
        """All servers in the form that grants and menus use."""
        return [server.offer for server in self.servers.values()]


class _Entry(msgspec.Struct):
    """The entry of a server in any of the files; other members are ignored."""

    type: str = "stdio"
    command: str = ""
    args: list[str] = []
    env: dict[str, str] = {}
    url: str = ""
    enabled: bool = True
    disabled: bool = False


def discover(state: Path, env: Mapping[str, str] | None = None) -> InstalledServers:
    """Return the user's servers (blocking). `state`: the state folder; `env`: by default this process's environment."""
    variables = os.environ if env is None else env
    home = Path(variables.get("HOME") or Path.home())
    claude = Path(variables.get("CLAUDE_CONFIG_DIR") or home) / ".claude.json"
    codex = Path(variables.get("CODEX_HOME") or home / ".codex") / "config.toml"
    servers: dict[str, InstalledServer] = {}
    warnings: list[str] = []
    for path, member in ((codex, "mcp_servers"), (claude, "mcpServers"), (state / "shareable-mcp.json", "mcpServers")):
        try:
            entries = _read(path, member)
        except FileNotFoundError:
            continue
        except OSError as error:
            warnings.append(f"{path} cannot be read: {error.strerror}")
            continue
        except ValueError as error:
            warnings.append(f"{path} is not used: {error}")
            continue
        if len(entries) > MAX_SERVERS:
            warnings.append(f"{path} names {len(entries)} MCP servers; only the first {MAX_SERVERS} are used")
        for name, entry in list(entries.items())[:MAX_SERVERS]:
            if not 1 <= len(name) <= scopes.MAX_MCP_NAME or not name.isprintable():
                warnings.append(
                    f"{path}: the name of an MCP server is empty, too long or contains invisible characters"
                )
                continue
            found = _installed(name, entry, str(path), variables)
            if found is not None:
                servers[name] = found
    return InstalledServers(dict(sorted(servers.items())), tuple(warnings))


def environment(server: InstalledServer, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment that `server` is started with: INHERITED, and the variables of its configuration."""
    variables = os.environ if env is None else env
    base = {name: variables[name] for name in INHERITED if variables.get(name)}
    base.setdefault("HOME", str(Path.home()))
    base.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return base | {name: _expanded(value, variables) for name, value in server.env.items()}


def filled_in(words: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
    """The command of a server as configured, with its `${variables}` filled in."""
    variables = os.environ if env is None else env
    return [_expanded(word, variables) for word in words]


def _read(path: Path, member: str) -> Document:
    """The servers in a file, by name. Raises OSError, or ValueError with what is wrong with the file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ValueError("it is not a plain file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
            raise ValueError("other users can write to it")
        raw = file.read(MAX_FILE + 1)
    if len(raw) > MAX_FILE:
        raise ValueError(f"it is larger than {MAX_FILE} bytes")
    try:
        document = tomllib.loads(raw.decode()) if path.suffix == ".toml" else msgspec.json.decode(raw)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.DecodeError, RecursionError) as error:
        # Without the parser's message: it may quote the file, which contains secrets.
        raise ValueError(f"it is not {'TOML' if path.suffix == '.toml' else 'JSON'}") from error
    if not isinstance(document, dict):
        raise ValueError("it is not an object")
    entries = document.get(member, {})
    if not isinstance(entries, dict):
        raise ValueError(f"its {member} is not an object")
    return entries


def _installed(name: str, raw: object, source: str, variables: Mapping[str, str]) -> InstalledServer | None:
    try:
        entry = msgspec.convert(raw, _Entry)
    except msgspec.ValidationError:
        return InstalledServer(name, source, unusable=f"its entry in {source} is malformed")
    if entry.disabled or not entry.enabled:
        return None
    words = (entry.command, *entry.args)
    server = InstalledServer(name, source, words, entry.env, _unusable(name, entry, words, variables))
    if server.unusable:
        return server
    configured = {key: _expanded(value, variables) for key, value in entry.env.items()}
    leads = disguises.leads_to_dispatch(filled_in(words, variables), configured, environment(server, variables))
    return replace(server, dispatch=leads)


def _unusable(name: str, entry: _Entry, words: tuple[str, ...], variables: Mapping[str, str]) -> str:
    if entry.url or entry.type not in ("stdio", ""):
        return "it is reached over the network; only servers that this machine starts can be granted"
    if not entry.command:
        return "its configuration names no command"
    if not _NAME.fullmatch(name):
        return "its name may have only letters, digits, - and single _, so that its tools can be told apart"
    texts = [*words, *entry.env, *entry.env.values()]
    if len(words) > MAX_WORDS or len(entry.env) > MAX_WORDS or sum(map(len, texts)) > MAX_TEXT:
        return "its configuration is too long"
    if any("\0" in text for text in texts) or any(not key or "=" in key for key in entry.env):
        return "its configuration contains a NUL character or an invalid variable name"
    for text in texts:
        for variable, otherwise in _VARIABLE.findall(text):
            if variable not in variables and not otherwise:
                return f"it needs ${variable}, which the daemon's environment does not have"
    return ""


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: variables.get(found[1]) or found[2] or "", text)
