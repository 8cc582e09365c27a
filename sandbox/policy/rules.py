"""What a person can make of one call with `always`: the rules it may store, and which calls a stored rule covers. Pure.

A rule is (tool, pattern, reach). The narrowest, `exact`, covers the calls whose argument has this one spelling:

    Bash                 the command, character for character
    Read, Write, Edit    the resolved path, as this machine knows it
    Glob                 the resolved pattern
    Grep                 the expression as a JSON string, " in ", the resolved path
    mcp__server__tool    the whole input as JSON with sorted keys

A person may pick a wider one, of those that are offered for the call:

    prefix (Bash)        the command is the pattern, or the pattern, a blank, and further words
    folder (the others)  the resolved path is the folder, or below it

A prefix covers only *plain* commands: words between blanks, of characters that no shell gives a meaning to, or in
quotes that hold none. So no operator, redirection, substitution, variable, wildcard, escape, comment or second line is
ever covered. Nothing is known of what the program does with the further words: `git status` is offered, but `git`,
`env` and `bash -c` are not, since they run whatever comes next.

Paths in the run's own workspace are spelled `$WORKSPACE/…`, since that folder is a new one in each run. A resolved path
starts with "/", so this spelling is no path on disk.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final

from sandbox.frames.values import Rule

_UNQUOTED: Final = r"[A-Za-z0-9_\-./:,@%+=]"
_QUOTED: Final = r"""'[^'\x00-\x1f\x7f]*'|"[^"$`\\!\x00-\x1f\x7f]*\""""
_PLAIN: Final = re.compile(rf"(?:{_UNQUOTED}|{_QUOTED})+(?: +(?:{_UNQUOTED}|{_QUOTED})+)*")
_WORDS: Final = re.compile(rf"{_UNQUOTED}+(?: {_UNQUOTED}+)*")
_PROGRAM: Final = re.compile(r"[A-Za-z0-9_\-./+]+")
_LONGEST_PREFIX: Final = 3

_ONE_WORD_IS_ENOUGH: Final = frozenset(
    {"cat", "du", "echo", "grep", "head", "ls", "pwd", "stat", "tail", "wc", "which"}
)
"""Programs that only read and print, whatever their arguments."""
_RUN_WHAT_FOLLOWS: Final = frozenset({
    "ash", "awk", "bash", "builtin", "bun", "busybox", "case", "chroot", "command", "coproc", "csh", "dash",
    "deno", "do", "doas", "elif", "else", "env", "eval", "exec", "expect", "find", "fish", "for", "function",
    "gawk", "gdb", "if", "ionice", "ksh", "lua", "mawk", "nice", "node", "nohup", "npx", "nsenter", "osascript",
    "parallel", "perl", "php", "pipx", "pypy", "python", "rlwrap", "rscript", "ruby", "screen", "script",
    "select", "setarch", "setpriv", "setsid", "sg", "sh", "source", "ssh", "stdbuf", "strace", "su", "sudo",
    "systemd-run", "taskset", "tclsh", "tcsh", "then", "time", "timeout", "tmux", "trap", "unshare", "until",
    "uvx", "watch", "while", "xargs", "zsh",
})  # fmt: skip
"""Programs and shell words whose arguments are themselves a program, so that a prefix of them bounds nothing."""


def choices(exact: Rule, path: str | None, *, folder: str | None) -> tuple[Rule, ...]:
    """The rules to offer for a call, narrowest first: `exact`, then wider ones.

    `path`: the portable path that the call means, if one; `folder`: the portable folder to offer, if one.
    """
    if exact.tool == "Bash":
        return (exact, *(Rule(tool="Bash", pattern=words, reach="prefix") for words in prefixes(exact.pattern)))
    if path is not None and folder is not None:
        return (exact, Rule(tool=exact.tool, pattern=folder, reach="folder"))
    return (exact,)


def covers(rule: Rule, exact: Rule, path: str | None) -> bool:
    """Whether a granted `rule` covers the call whose exact rule is `exact` and whose portable path is `path`."""
    if rule.tool != exact.tool:
        return False
    if rule.reach == "exact":
        return rule == exact
    if rule.reach == "prefix":
        return rule.tool == "Bash" and continues(exact.pattern, rule.pattern)
    return path is not None and (path == rule.pattern or path.startswith(rule.pattern.rstrip("/") + "/"))


def is_plain(command: str) -> bool:
    """Whether a shell reads `command` as one program with literal arguments, and nothing else."""
    return _PLAIN.fullmatch(command) is not None and command.isprintable()


def continues(command: str, prefix: str) -> bool:
    """Whether `command` is plain, and `prefix` or `prefix` and further words."""
    if _WORDS.fullmatch(prefix) is None or not is_plain(command):
        return False
    return command == prefix or command.startswith(prefix + " ")


def prefixes(command: str) -> list[str]:
    """The prefixes that are worth offering for a command, longest first; none for one that is not plain."""
    if not is_plain(command):
        return []
    words = command.split(" ")
    # `python3.12` is `python`; nothing is left of `.`, which is `source`.
    program = posixpath.basename(words[0]).lower().rstrip("0123456789.")
    if not _PROGRAM.fullmatch(words[0]) or not program or program in _RUN_WHAT_FOLLOWS:
        return []
    found = []
    for count in range(min(_LONGEST_PREFIX, len(words)), 0, -1):
        prefix = " ".join(words[:count])
        if not _WORDS.fullmatch(prefix):
            continue  # it ends within quotes, or has blanks of its own
        if words[0] in _ONE_WORD_IS_ENOUGH or (count > 1 and not words[1].startswith("-")):
            found.append(prefix)
    return found
