"""What dispatch is called: its programs, packages, modules and tools, and how a script calls them. Pure: texts only.

A name can be put together in ways that no pattern finds. What is found here spares a person a mistake; what holds
without it is in docs/security.md.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

_TOOL: Final = r"dispatch[_.-](?:read|act|send|invite|trust|approve|pending_approvals)"
TOOLS: Final = rf"(?i)(?:^|__)dispatch_[a-z_]+$|(?<![a-z0-9]){_TOOL}(?![a-z0-9])"
"""What a tool of dispatch is called, also behind and before the words of those who pass it on."""

_PROGRAM: Final = r"dispatch-(?:mcp|daemon|rendezvous|announce|witness)|dp-agent"
_PACKAGE: Final = r"dispatch[-_.]courier"
_MODULE: Final = (
    r"cli\.(?:main|app|program)|peer\.(?:client|async_client|daemon|session_node|node|protocol|state_folder)"
    r"|rendezvous\.main|sandbox\.agent"
)
# The calls that `dispatch` is known by where its name alone could be any function's.
_COMMANDS: Final = (
    r"send|invite|accept(?:-invitation)?|decline(?:-invitation)?|approve|approvals|deny|trust|inbox|sent|cancel|login"
    r"|whoami|contacts|invitations"
)
_QUOTED: Final = r"[\"'`](?:[^\"'`\s]*/)?dispatch[\"'`]"
_STARTS: Final = (
    r"spawn(?:Sync|[lv]p?e?)?|exec(?:File)?(?:Sync)?|exec[lv]p?e?|run|subprocess\.call|popen|system|Command|which"
    r"|check_(?:output|call)|create_subprocess_\w+"
)

# One word of a command line: a path to one of ours, its address or version, the value of an option.
_WORD: Final = re.compile(
    rf"(?:(?:^|[/\\@:=+])(?:dispatch|{_PROGRAM}|{_PACKAGE}(?:-[0-9].*)?|mcp_plugin(?:[./\\:].*)?)"
    rf"|(?:^|=|^-[a-z]*m)(?:{_MODULE}|mcp_plugin)(?:[.:].*)?)"
    r"(?:\.(?:exe|cmd|py|git))?(?:[@=\[<>~!#].*)?$",
    re.IGNORECASE,
)
_WORDS: Final = re.compile(r"[^\s'\"`;|&(){}<>,]+")  # a whole shell line may be one argument

# Anywhere in a script. Names that could be any program's count only where something of that name is loaded or started.
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
"""What every mention holds one of: most scripts hold none, and are done with in no time."""
# Where a shell expects a program.
_SHELL_CALL: Final = re.compile(
    r"(?:^|[;&|(`!]|\b(?:exec|sudo|nohup|env|command|time|then|do|else)\b)[ \t]*(?:\w+=\S*[ \t]+)*[\"']?"
    r"(?:[^\s\"']*/)?dispatch[\"']?(?:[ \t]*(?:$|[;&|)`])|[ \t]+[\"'$@-])",
    re.MULTILINE,
)
_JOINED: Final = re.compile(r"([\"'])\s*\+?\s*([\"'])")
_VALUE: Final = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?[-+=?][^}]*)?\}|([A-Za-z_]\w*))")


def in_words(text: str) -> bool:
    """Whether a word of a command line, which may hold a whole line of a shell or a program, is one of ours."""
    return any(_WORD.search(word) for spelled in _spellings(text) for word in _WORDS.findall(spelled)) or in_script(
        text
    )


def in_script(text: str, *, shell: bool = False) -> bool:
    """Whether a script names one of ours. `shell`: a bare `dispatch` where a program is expected counts as well."""
    patterns = (_MENTION, _SHELL_CALL) if shell else (_MENTION,)
    spellings = [spelled for spelled in _spellings(text) if any(part in spelled for part in _PARTS)]
    return any(pattern.search(spelled) for spelled in spellings for pattern in patterns)


def in_value(text: str) -> bool:
    """Whether the value of a variable is one of ours beyond doubt: `dispatch` alone may be anybody's word."""
    return text.strip().lower() != "dispatch" and in_words(text)


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with `$NAME` and `${NAME…}` replaced by the values there are, as a shell would."""
    return _VALUE.sub(lambda found: values.get(found[1] or found[2], found[0]), text)


def _spellings(text: str) -> Iterator[str]:
    """As it is, with the pieces of a divided literal joined, and as a shell reads quotes and backslashes."""
    yield text
    joined = _JOINED.sub("", text)
    if joined != text:
        yield joined
    bare = re.sub(r"[\"'\\]", "", text)
    if bare not in (text, joined):
        yield bare
