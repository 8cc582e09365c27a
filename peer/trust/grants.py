"""Parses a person's input into a scope, for accepting an invitation or editing an edge. The values: scopes.py.

Every value may be the text of a flag or a typed value of a JSON body. Paths are only split and bounded here; whether
they may be granted is decided by paths.check_roots, which needs the file system.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from peer.protocol.documents import Document
from peer.protocol.errors import Forbidden, Invalid
from peer.trust import durations, own_names, scopes
from peer.trust.scopes import Scope

T = TypeVar("T", bound=str)

_MINUTE: Final = 60_000
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
MAX_EXPIRY_MS: Final = 10 * durations.UNITS["y"] * 1000
_EXPIRES_FIX: Final = f"give {durations.forms()}; a date (2027-01-31); or never"

_TOOLCHAINS_FIX: Final = "give auto, none, default, or paths separated by commas, such as auto,/opt/tool"

_DISPATCH_TOOL: Final = re.compile(own_names.TOOLS)


class McpServer(msgspec.Struct, frozen=True):
    """An MCP server installed here: its name, the command that starts it, its tools if known.

    `unusable`: why it cannot be granted, "" if it can. `dispatch`: the caller found that it starts dispatch, although
    its command line need not show it.
    """

    name: str
    command: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    unusable: str = ""
    dispatch: bool = False


class BudgetInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parts of a budget that a person gave; the others keep their values. Units as in Budget."""

    minutes: int | UnsetType = UNSET
    turns: int | UnsetType = UNSET
    usd: float | UnsetType = UNSET
    output_bytes: int | UnsetType = UNSET
    network_bytes: int | UnsetType = UNSET


class ScopeInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's choice; a field that was not given is UNSET. Each value is the text of a flag, or typed.

    `tools`, `mcp_servers`, `paths`, `toolchains`, `network`: "a,b" or a list. `expires`: a duration, a date, an RFC
    3339 time, "never" or None.
    """

    tools: str | list[str] | UnsetType = UNSET
    mcp_servers: str | list[str] | UnsetType = UNSET
    paths: str | list[str] | UnsetType = UNSET
    approval: str | UnsetType = UNSET
    max_per_day: int | str | UnsetType = UNSET
    expires: str | UnsetType | None = UNSET
    results: str | UnsetType = UNSET
    apply: str | UnsetType = UNSET
    toolchains: str | list[str] | UnsetType = UNSET
    network: str | list[str] | UnsetType = UNSET
    budget: BudgetInput | UnsetType = UNSET


def grant(chosen: ScopeInput, *, installed: Sequence[McpServer | str], now: int) -> Scope:
    """The scope of a new edge. `tools` is required; the rest has defaults. Raises Invalid or Forbidden."""
    if chosen.tools is UNSET:
        raise Invalid(
            "no tools were chosen, and only you can choose them",
            fix="name them, such as --tools Read,Glob,Grep",
        )
    return _with(Scope(tools=()), chosen, installed=installed, now=now)


def edit(scope: Scope, chosen: ScopeInput, *, installed: Sequence[McpServer | str], now: int) -> Scope:
    """`scope` with the given fields changed. Raises as `grant`."""
    return _with(scope, chosen, installed=installed, now=now)


def _with(scope: Scope, chosen: ScopeInput, *, installed: Sequence[McpServer | str], now: int) -> Scope:
    changes: Document = {}
    if chosen.tools is not UNSET:
        changes["tools"] = parse_tools(chosen.tools)
    if chosen.mcp_servers is not UNSET:
        changes["mcp_servers"] = parse_mcp_servers(chosen.mcp_servers, installed)
    if chosen.paths is not UNSET:
        changes["paths"] = parse_paths(chosen.paths)
    if chosen.approval is not UNSET:
        changes["approval"] = _one_of("approval", chosen.approval, scopes.APPROVALS)
    if chosen.max_per_day is not UNSET:
        changes["max_per_day"] = parse_max_per_day(chosen.max_per_day)
    if chosen.expires is not UNSET:
        changes["expires"] = parse_expires(chosen.expires, now=now)
    if chosen.results is not UNSET:
        changes["results"] = _one_of("results", chosen.results, scopes.RESULTS)
    if chosen.apply is not UNSET:
        changes["apply"] = _one_of("apply", chosen.apply, scopes.APPLIES)
    if chosen.toolchains is not UNSET:
        changes["toolchains"] = parse_toolchains(chosen.toolchains)
    if chosen.network is not UNSET:
        changes["network"] = parse_network(chosen.network)
    if chosen.budget is not UNSET:
        named = {name: getattr(chosen.budget, name) for name in scopes.BUDGET_BOUNDS}
        given = {name: value for name, value in named.items() if value is not UNSET}
        changes["budget"] = msgspec.structs.replace(scope.budget, **given)
    changed: Scope = msgspec.structs.replace(scope, **changes)
    scopes.check(changed)
    return changed


def parse_tools(given: str | Iterable[str]) -> tuple[str, ...]:
    """ "Read,Grep" or a list → tools in their order. Unknown names are refused with the nearest known one."""
    names = _split(given)
    for name in names:
        if name not in scopes.TOOLS:
            raise Invalid(f"unknown tool `{_shown(name)}`" + _nearest(name, scopes.TOOLS), fix=_tools_fix())
    if not names:
        raise Invalid("no tool was named", fix=_tools_fix())
    return scopes.ordered(names)


def parse_mcp_servers(given: str | Iterable[str], installed: Sequence[McpServer | str]) -> tuple[str, ...]:
    """ "*", "none", "a,b" or a list → names of installed servers, sorted.

    `*` means those installed now; a server installed later is not granted. Raises Invalid for a server that is not
    installed, Forbidden for dispatch itself: a run must not send dispatches.
    """
    servers = [McpServer(server) if isinstance(server, str) else server for server in installed]
    grantable = grantable_names(servers)
    names = _split(given)
    if names == ["*"]:
        return grantable
    if names in ([], ["none"]):
        return ()
    known = {server.name: server for server in servers}
    for name in names:
        if name in ("*", "none"):
            raise Invalid(f"`{name}` cannot be combined with other MCP servers", fix="give *, none or names")
        if is_dispatch(known.get(name, McpServer(name))):
            raise Forbidden(
                f"the MCP server `{_shown(name)}` is dispatch itself: a run never dispatches onward",
                fix="leave it out",
            )
        listed = ", ".join(grantable) or "none"
        if name not in known:
            raise Invalid(
                f"no MCP server `{_shown(name)}` is installed here" + _nearest(name, grantable),
                fix=f"choose from: {listed}",
            )
        if known[name].unusable:
            raise Invalid(
                f"the MCP server `{_shown(name)}` cannot be granted: {known[name].unusable}",
                fix=f"choose from: {listed}",
            )
    return tuple(sorted(set(names)))


def grantable_names(servers: Iterable[McpServer]) -> tuple[str, ...]:
    """The sorted names of the servers that can be granted: neither unusable nor dispatch itself."""
    return tuple(sorted({server.name for server in servers if not server.unusable and not is_dispatch(server)}))


def is_dispatch(server: McpServer) -> bool:
    """Whether a server is dispatch, judged by its command and tools; to be safe, its name alone is enough too."""
    return (
        server.dispatch
        or "dispatch" in re.split(r"[^a-z0-9]+", server.name.lower())
        or any(map(own_names.in_words, server.command))
        or any(_DISPATCH_TOOL.search(tool) for tool in server.tools)
    )


def parse_paths(given: str | Iterable[str]) -> tuple[str, ...]:
    """ "a,b" or a list → paths, each once, in order. "none" or nothing removes the restriction to folders."""
    paths = _split(given)
    if paths == ["none"]:
        return ()
    if len(paths) > scopes.MAX_PATHS:
        raise Invalid(
            f"{len(paths)} folders are {len(paths) - scopes.MAX_PATHS} more than the {scopes.MAX_PATHS} allowed",
            fix="name a folder that contains several of them",
        )
    for path in paths:
        if not path.startswith("/") or len(path) > scopes.MAX_PATH:
            raise Invalid(f"`{_shown(path)}` is not an absolute path", fix="give the full path, starting with /")
    return tuple(dict.fromkeys(paths))


def parse_toolchains(given: str | Iterable[str]) -> tuple[str, ...]:
    """ "auto,/opt/tool", "none", or a list → words, each once, `auto` first. "default" is what the settings say."""
    words = _split(given)
    if words == ["default"]:
        return ()
    found = tuple(dict.fromkeys((*(word for word in words if word == "auto"), *words)))
    if not found:
        raise Invalid("no toolchain was named", fix=_TOOLCHAINS_FIX)
    for word in found:
        if word not in ("auto", "none") and not word.startswith("/"):
            raise Invalid(f"`{_shown(word)}` is neither auto, none nor an absolute path", fix=_TOOLCHAINS_FIX)
    scopes.check_toolchains(found)
    return found


def parse_network(given: str | Iterable[str]) -> tuple[str, ...]:
    """ "none", "packages,host,host:port" or a list → words, sorted and each once."""
    names = _split(given)
    if names in ([], ["none"]):
        return ()
    found = tuple(sorted({scopes.network_word(name) for name in names}))
    scopes.check_network(found)
    return found


def parse_max_per_day(given: int | str) -> int:
    """A whole number, 1 to 1,000."""
    if isinstance(given, str):
        if not re.fullmatch(r"[0-9]{1,9}", given.strip(), re.ASCII):
            raise Invalid(f"`{_shown(given)}` is not a number of dispatches", fix="give 1 to 1000")
        given = int(given.strip())  # int() leaves out less than strip(): no U+001F
    if isinstance(given, bool):
        raise Invalid("the daily rate is not a number", fix="give 1 to 1000")
    scopes.check_max_per_day(given)
    return given


def parse_expires(given: str | None, *, now: int) -> int | None:
    """When the edge ends, in ms since the epoch; None for never. `now` in ms.

    A length of time counts from now, a plain number in seconds, as `send` reads them. A bare date means until the end
    of that day in UTC; a time needs its zone.
    """
    if given is None:
        return None
    text = given.strip()
    if text.lower() in ("never", "none"):
        return None
    seconds = durations.parse_duration(text)
    until = _moment(text) if seconds is None else now + seconds * 1000
    if until < now + _MINUTE:
        raise Invalid(f"the expiry `{_shown(given)}` is in the past, or less than a minute away", fix=_EXPIRES_FIX)
    if until > now + MAX_EXPIRY_MS:
        raise Invalid(f"the expiry `{_shown(given)}` is more than ten years away", fix="say never if you mean it")
    return until


def _moment(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
        if _DATE.fullmatch(text):
            at = at.replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise Invalid(f"`{_shown(text)}` is neither a length of time nor a date", fix=_EXPIRES_FIX) from None
    if at.tzinfo is None:
        raise Invalid(f"`{_shown(text)}` names no time zone", fix="end it with Z for UTC, or with +02:00")
    return round(at.timestamp() * 1000)


def _one_of(what: str, given: str, allowed: tuple[T, ...]) -> T:
    for value in allowed:
        if given == value:
            return value
    raise Invalid(f"`{_shown(given)}` is not a value of {what}", fix=f"give {' or '.join(allowed)}")


def _split(given: str | Iterable[str]) -> list[str]:
    parts = given.split(",") if isinstance(given, str) else list(given)
    return [part.strip() for part in parts if part.strip()]


def _tools_fix() -> str:
    return f"choose from {', '.join(scopes.TOOLS)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    by_fold = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower()[:80], by_fold, n=1, cutoff=0.6)
    return f"; did you mean `{by_fold[close[0]]}`?" if close else ""


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:80])
