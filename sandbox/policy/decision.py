"""What one tool call may do: scope × call → allow, ask or deny, with the path it means. Pure; asks nobody.

There are two layers. The operating system's sandbox is the boundary: it limits what can be touched at all. This module
judges what is *asked for*: which tools exist, which paths a call names, who must agree. It denies early with a reason,
and finds the path that the call really means, to be shown to the person.

Order of the decision, first match wins, and nothing later can undo a denial:
1. the tool is not granted → deny;  2. the input is not what the tool takes → deny;
3. a path leaves the scope → deny;  4. the tool changed since a person granted it → ask;
5. the edge is `auto`, or `review` and the tool is built in → allow;  6. a stored rule covers the call → allow by rule;
7. a session grant does → allow by session;  8. ask.

What a rule is, and which calls it covers: rules.py.

A path has two spellings. The agent sees its workspace at `/dispatch`, and the granted folders at their own paths, with
links in them that lead where they do inside. `Resolve` translates to the path on this machine, which is what is judged,
shown and stored in rules.

Agent programs read a path in their own way: they cut white space off, expand `~`, start from a folder that a command
moved to. So a call is first written out (`Decision.input`): absolute paths without `..`, and no character that another
reader might drop. This form is judged, shown, and what the runtime has to execute in place of what the agent asked for.
"""

from __future__ import annotations

import json
import posixpath
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from sandbox.frames.values import ApprovalMode, Rule
from sandbox.policy import rules

FILE_TOOLS: Final = frozenset({"Read", "Write", "Edit"})
SEARCH_TOOLS: Final = frozenset({"Glob", "Grep"})
WRITING_TOOLS: Final = frozenset({"Write", "Edit", "Bash"})
GRANTABLE_TOOLS: Final = FILE_TOOLS | SEARCH_TOOLS | {"Bash"}
"""Every built-in tool a scope can name. What is not here (Task, WebFetch, Skill, …) is always denied."""

# Names no path: the agent gets it, and the sender's record, also on an edge that redacts inputs.
_OUTSIDE: Final = "the path leads outside the folders this dispatch may use"

INPUT_LIMIT: Final = 2_000_000
"""Bytes of one call's input, as JSON: with its diff it fits a frame several times over."""

_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "Read": ("file_path",),
    "Write": ("file_path", "content"),
    "Edit": ("file_path", "old_string", "new_string"),
    "Glob": ("pattern",),
    "Grep": ("pattern",),
    "Bash": ("command",),
}
_MAGIC: Final = re.compile(r"[*?\[{(!\\]")
_SEPARATOR: Final = re.compile(r"[/{},()|]")
_ROOTED_ALTERNATIVE: Final = re.compile(r"[{,(|][/~]")

Resolve = Callable[[str], str | None]
"""An absolute, normal path as the agent spells it → the path on this machine once symlinks are followed; None for what
is the sandbox's own (/usr, /tmp, …). Must not raise.
"""


@dataclass(frozen=True)
class Scope:
    """What this run may do, from the edge and the accepting person. All paths absolute, without `..`.

    Paths of this machine: `roots`, folders or files a call may name, `workspace` and `project` among them; `project` is
    folder the run starts in. As the agent spells them: `cwd`, the same folder, where relative paths start unless a call
    says otherwise, and `home`, what `~` means. `mcp_tools`: full names, `mcp__server__tool`; `changed`: those of them
    that are not as the edge has them pinned, with their present pins. `network`: commands reach hosts.
    """

    tools: frozenset[str]
    roots: tuple[str, ...]
    workspace: str
    project: str
    cwd: str
    home: str
    approval: ApprovalMode = "manual"
    rules: frozenset[Rule] = frozenset()
    mcp_tools: frozenset[str] = frozenset()
    changed: Mapping[str, str] = field(default_factory=dict)
    network: bool = False


@dataclass(frozen=True)
class Decision:
    """What becomes of a call.

    `input`: the arguments written out, which are what was judged and what has to run; of a denied call, those given.
    `path`: the resolved path, also of a denied one. `rule`: what `always` stores. `choices`: what a person may have it
    store instead, `rule` first. `covered_by`: of a call that is allowed by stored rules, these rules.
    """

    verdict: Literal["allow", "ask", "deny"]
    by: Literal["scope", "rule", "session"]
    input: Mapping[str, object]
    reason: str = ""
    path: str | None = None
    rule: Rule | None = None
    choices: tuple[Rule, ...] = ()
    covered_by: tuple[Rule, ...] = ()


class _Denied(Exception):
    def __init__(self, reason: str, path: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


def decide(
    scope: Scope,
    tool: str,
    arguments: Mapping[str, object],
    *,
    resolve: Resolve,
    session: frozenset[Rule] = frozenset(),
    cwd: str | None = None,
) -> Decision:
    """The verdict on one call. `session`: rules granted for this run. Never raises for any JSON input.

    `cwd`: where the agent program is when it makes the call, as the agent spells it; None is `scope.cwd`.
    """
    try:
        _check_tool(scope, tool)
        _check_input(tool, arguments)
        arguments = _written_out(scope, tool, arguments, cwd=cwd or scope.cwd)
        path = _resolved_path(tool, arguments, resolve=resolve)
        if path is not None and not inside(path, scope.roots):
            raise _Denied(_OUTSIDE, path)
    except _Denied as denied:
        return Decision("deny", "scope", arguments, denied.reason, denied.path)
    if tool == "Bash" and cwd not in (None, scope.cwd):
        # A command means something else in another folder, and a rule does not say in which.
        return Decision("allow" if _unasked(scope, tool) else "ask", "scope", arguments)
    rule = _rule(scope, tool, arguments, path)
    if tool in scope.changed:
        return Decision("ask", "scope", arguments, path=path, rule=rule)
    portable = None if path is None else _portable(scope, path)
    if _unasked(scope, tool):
        return Decision("allow", "scope", arguments, path=path, rule=rule)
    if covered_by := tuple(granted for granted in scope.rules if rules.covers(granted, rule, portable)):
        return Decision("allow", "rule", arguments, path=path, rule=rule, covered_by=covered_by)
    if any(rules.covers(granted, rule, portable) for granted in session):
        return Decision("allow", "session", arguments, path=path, rule=rule)
    offered = rules.choices(rule, portable, folder=_folder(scope, tool, path))
    return Decision("ask", "scope", arguments, path=path, rule=rule, choices=offered)


def inside(path: str, roots: tuple[str, ...]) -> bool:
    """Whether a resolved `path` is one of `roots` or below one, by whole components."""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def _written_out(scope: Scope, tool: str, arguments: Mapping[str, object], *, cwd: str) -> Mapping[str, object]:
    """The arguments with the one path that the call names as an absolute one: a file, or the folder to search.

    A Glob's folder is `path` and the plain leading part of its pattern, of which only the rest stays in the pattern.
    """
    _check_path(cwd)
    if tool in FILE_TOOLS:
        return {**arguments, "file_path": _absolute(scope, _text(arguments, "file_path"), cwd)}
    if tool == "Grep":
        return {**arguments, "path": _absolute(scope, _text(arguments, "path", default="."), cwd)}
    if tool == "Glob":
        folder, rest = _glob_parts(arguments)
        return {**arguments, "path": _absolute(scope, folder, cwd), "pattern": rest}
    return arguments


def _resolved_path(tool: str, arguments: Mapping[str, object], *, resolve: Resolve) -> str | None:
    """The path that the written-out arguments name on this machine; None for a tool that names none."""
    if tool not in FILE_TOOLS | SEARCH_TOOLS:
        return None
    named = _text(arguments, "file_path" if tool in FILE_TOOLS else "path")
    meant = resolve(named)
    if meant is None:
        raise _Denied(_OUTSIDE, named)
    return meant


def _unasked(scope: Scope, tool: str) -> bool:
    """Whether the edge's mode lets a call of this tool run without a person.

    Under `review`, a built-in tool reaches nothing but the run's own views, and nothing leaves before the person has
    seen it. The server of an MCP tool runs outside the sandbox, so what it does cannot be held back.
    """
    return scope.approval == "auto" or (scope.approval == "review" and tool in GRANTABLE_TOOLS)


def _check_tool(scope: Scope, tool: str) -> None:
    if tool in scope.mcp_tools or (tool in GRANTABLE_TOOLS and tool in scope.tools):
        return
    known = tool in GRANTABLE_TOOLS or tool.startswith("mcp__")
    raise _Denied(f"{tool} is not granted here" if known else f"{tool} is not available to dispatched tasks")


def _check_input(tool: str, arguments: Mapping[str, object]) -> None:
    for name in _REQUIRED.get(tool, ()):
        if not isinstance(arguments.get(name), str):
            raise _Denied(f"{tool} needs {name} as text")
    if tool in FILE_TOOLS and not arguments["file_path"]:
        raise _Denied(f"{tool} needs a file_path")
    if tool in SEARCH_TOOLS and not isinstance(arguments.get("path", ""), str | None):
        raise _Denied(f"{tool} needs path as text")
    if not showable(arguments):
        raise _Denied(
            f"the input of {tool} cannot be shown to anyone: it is too large, nested too deeply, or not Unicode"
        )


def showable(arguments: Mapping[str, object]) -> bool:
    """Whether a person, a record and the wire can hold this input: nobody can agree to what they cannot see."""
    try:
        return len(msgspec.json.encode(arguments)) <= INPUT_LIMIT
    except (UnicodeEncodeError, RecursionError, msgspec.MsgspecError, TypeError):
        return False


def _text(arguments: Mapping[str, object], name: str, *, default: str = "") -> str:
    """An argument that `_check_input` has found to be text, or missing where it may be."""
    value = arguments.get(name) or default
    assert isinstance(value, str)
    return value


def _check_path(path: str) -> None:
    """Refuse what another reader of the path might drop or cut off."""
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in path):
        raise _Denied("a path may not contain control characters or line breaks")
    # U+FEFF is white space to JavaScript's trim(), and not to Python's strip().
    if path != path.strip().strip("\ufeff"):
        raise _Denied("a path may not begin or end with white space")


def _absolute(scope: Scope, path: str, cwd: str) -> str:
    _check_path(path)
    if path == "~" or path.startswith("~/"):
        path = scope.home + path[1:]
    # normpath keeps a leading "//" (POSIX leaves its meaning open); Linux takes it for "/".
    # `a/link/../b` is `a/b`, whatever `link` is: only what remains of the text is left to the kernel.
    normal = posixpath.normpath("/" + posixpath.join(cwd, path).lstrip("/"))
    _check_path(normal)
    return normal


def _glob_parts(arguments: Mapping[str, object]) -> tuple[str, str]:
    """(folder, rest): the pattern's plain leading part joined to `path`, and the part with wildcards."""
    plain: list[str] = []
    rest = _text(arguments, "pattern").split("/")
    while len(rest) > 1 and not _MAGIC.search(rest[0]):
        plain.append(rest.pop(0))
    tail = "/".join(rest)
    if ".." in _SEPARATOR.split(tail.replace("\\", "")) or _ROOTED_ALTERNATIVE.search(tail):
        # What such a pattern means depends on the matcher, so a path shown for it could be the wrong one.
        raise _Denied("a pattern may not go up with .. or name an absolute path behind a wildcard")
    lead = "/".join(plain) + "/" if plain else ""
    if lead.startswith(("/", "~")):
        return lead, tail
    return posixpath.join(_text(arguments, "path", default="."), lead), tail


def _rule(scope: Scope, tool: str, arguments: Mapping[str, object], path: str | None) -> Rule:
    shown = _portable(scope, path) if path is not None else ""
    if tool == "Bash":
        pattern = _text(arguments, "command")
    elif tool == "Glob":
        pattern = posixpath.join(shown, _text(arguments, "pattern"))
    elif tool == "Grep":
        pattern = f"{json.dumps(_text(arguments, 'pattern'), ensure_ascii=False)} in {shown}"
    elif tool in FILE_TOOLS:
        pattern = shown
    else:
        pattern = json.dumps(arguments, ensure_ascii=False, sort_keys=True)
    return Rule(tool=tool, pattern=pattern)


def _folder(scope: Scope, tool: str, path: str | None) -> str | None:
    """The folder that a rule for this call may be widened to: never one that the scope does not have whole."""
    if path is None:
        return None
    folder = posixpath.dirname(path) if tool in FILE_TOOLS else path
    return _portable(scope, folder) if inside(folder, scope.roots) else None


def _portable(scope: Scope, path: str) -> str:
    # A resolved path starts with "/", so this spelling is no path on disk.
    return "$WORKSPACE" + path[len(scope.workspace) :] if inside(path, (scope.workspace,)) else path
