"""Recognises dispatch in a text: its programs, packages, modules and tools, and calls of them in scripts. Pure.

No pattern finds every way to write a name, so this only spares a person a mistake; it is not a security boundary. What
protects without it is in docs/security.md.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

_TOOL: Final = r"dispatch[_.-](?:read|act|send|invite|trust|approve|pending_approvals)"
TOOLS: Final = rf"(?i)(?:^|__)dispatch_[a-z_]+$|(?<![a-z0-9]){_TOOL}(?![a-z0-9])"
"""A tool of dispatch, also with the prefixes and suffixes that other programs add when they expose it."""

_PROGRAM: Final = r"dispatch-(?:mcp|daemon|rendezvous|relay|announce|witness)|dp-agent"
_PACKAGE: Final = r"dispatch[-_.]courier"
_MODULE: Final = (
    r"cli\.(?:main|app)|rendezvous\.(?:main|relay)|sandbox\.agent"
    r"|peer\.(?:api|broker|client|dispatches|landing|machine|mesh|node|programs|projects|protocol|runs|steps|store|trust)"
)
# Subcommands that identify `dispatch` where the name alone could be any function's.
_COMMANDS: Final = (
    r"send|invite|accept(?:-invitation)?|decline(?:-invitation)?|approve|approvals|deny|trust|inbox|sent|cancel|login"
    r"|whoami|contacts|invitations"
)
_QUOTED: Final = r"[\"'`](?:[^\"'`\s]*/)?dispatch[\"'`]"
_STARTS: Final = (
    r"spawn(?:Sync|[lv]p?e?)?|exec(?:File)?(?:Sync)?|exec[lv]p?e?|run|subprocess\.call|popen|system|Command|which"
    r"|check_(?:output|call)|create_subprocess_\w+"
)

# One word of a command line: a path to one of our programs, its URL or version, the value of an option.
_WORD: Final = re.compile(
    rf"(?:(?:^|[/\\@:=+])(?:dispatch|{_PROGRAM}|{_PACKAGE}(?:-[0-9].*)?|mcp_plugin(?:[./\\:].*)?)"
    rf"|(?:^|=|^-[a-z]*m)(?:{_MODULE}|mcp_plugin)(?:[.:].*)?)"
    r"(?:\.(?:exe|cmd|py|git))?(?:[@=\[<>~!#].*)?$",
    re.IGNORECASE,
)
_WORDS: Final = re.compile(r"[^\s'\"`;|&(){}<>,]+")  # a whole shell line may be one argument

# Anywhere in a script. Names that another program could have count only where they are imported or started.
_MENTION: Final = re.compile(
    rf"(?<![\w-])(?:mcp_plugin(?!\w)|(?:{_PROGRAM}|{_PACKAGE})(?![\w-]))"
    r"|(?<![\w-])dispatch_(?:read|act|send|invite|trust|approve|pending_approvals)(?!\w)"
    rf"|(?:\b(?:from|import)\s+|[\"'`]|-m[\s\"',]*)(?:{_MODULE})(?![\w-])"
    rf"|\[\s*{_QUOTED}\s*,\s*[\"'`](?:--?[a-z]|(?:{_COMMANDS})[\"'`])"
    rf"|{_QUOTED}\s*,\s*\[\s*[\"'`](?:--?[a-z]|(?:{_COMMANDS})[\"'`])"
    rf"|\b(?i:{_STARTS})\s*\(\s*[\[(]?\s*[\"'`](?:[^\"'`\s]*/)?dispatch(?:[\"'`]|\s)"
    rf"|(?<![\w.-])dispatch[ \t]+(?:{_COMMANDS})(?![\w-])"
)
_PARTS: Final = ("dispatch", "mcp_plugin", "dp-agent", "cli.", "peer.", "rendezvous.", "sandbox.")
"""Every mention contains one of these; a cheap test that excludes most scripts."""
# Positions at which a shell expects a program.
_SHELL_CALL: Final = re.compile(
    r"(?:^|[;&|(`!]|\b(?:exec|sudo|nohup|env|command|time|then|do|else)\b)[ \t]*(?:\w+=\S*[ \t]+)*[\"']?"
    r"(?:[^\s\"']*/)?dispatch[\"']?(?:[ \t]*(?:$|[;&|)`])|[ \t]+[\"'$@-])",
    re.MULTILINE,
)
_JOINED: Final = re.compile(r"([\"'])\s*\+?\s*([\"'])")
_VALUE: Final = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?[-+=?][^}]*)?\}|([A-Za-z_]\w*))")


def in_words(text: str) -> bool:
    """Whether a word of a command line, which may be a whole shell line or program, names dispatch."""
    return any(_WORD.search(word) for spelled in _spellings(text) for word in _WORDS.findall(spelled)) or in_script(
        text
    )


def in_script(text: str, *, shell: bool = False) -> bool:
    """Whether a script names dispatch. `shell`: a bare `dispatch` in the position of a program counts too."""
    patterns = (_MENTION, _SHELL_CALL) if shell else (_MENTION,)
    spellings = [spelled for spelled in _spellings(text) if any(part in spelled for part in _PARTS)]
    return any(pattern.search(spelled) for spelled in spellings for pattern in patterns)


def in_value(text: str) -> bool:
    """Whether the value of a variable certainly names dispatch: the bare word `dispatch` does not."""
    return text.strip().lower() != "dispatch" and in_words(text)


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with `$NAME` and `${NAME…}` replaced by the known values, as a shell would."""
    return _VALUE.sub(lambda found: values.get(found[1] or found[2], found[0]), text)


def _spellings(text: str) -> Iterator[str]:
    """Yield the text as it is, with adjacent string literals joined, and without shell quotes and backslashes."""
    yield text
    joined = _JOINED.sub("", text)
    if joined != text:
        yield joined
    bare = re.sub(r"[\"'\\]", "", text)
    if bare not in (text, joined):
        yield bare
