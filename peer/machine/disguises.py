"""Detects MCP servers that start dispatch indirectly: through links, variables, or scripts. Plain names: own_names.py.

Reads files, starts nothing, and stops at fixed bounds. It is not a security boundary: a program can hide what it
starts.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from peer.machine.installation import ROOT
from peer.trust import own_names, scopes

MAX_FILES: Final = 64
MAX_DEPTH: Final = 4
"""Levels of scripts that name scripts, the first included."""
_SCRIPT_BYTES: Final = 64 * 1024
_MAX_NAMES: Final = 2_000
"""The most names in one script that are looked up on the disk."""

_OUR_PACKAGES: Final = tuple(str(ROOT / name) + os.sep for name in ("cli", "mcp_plugin", "peer", "sandbox"))

_SYSTEM: Final = ("/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/", "/usr/lib/", "/lib/", "/usr/share/")

_SHELL: Final = re.compile(r"#!\s*\S*(?:/|env\s+(?:-\S+\s+)*)(?:ba|da|k|z|fi|a)?sh\b")
_COMMENT: Final = re.compile(r"(?m)(?:^|(?<=\s))#.*$")
_ASSIGNED: Final = re.compile(r"(?m)(?:^|[\s;])([A-Za-z_]\w*)=[\"']?([^\s\"';]+)")
_SHELL_WORD: Final = re.compile(r"[^\s'\"`;|&(){}<>=,:]+")
_LITERAL: Final = re.compile(r"[\"'`]([^\"'`\n]{1,300})[\"'`]")
_IMPORT: Final = re.compile(r"\b(?:from|import)\s+\.?([A-Za-z_]\w*)")
_ENDINGS: Final = ("", ".py", ".sh", ".js", ".mjs", ".cjs", ".ts")


def leads_to_dispatch(words: Sequence[str], configured: Mapping[str, str], env: Mapping[str, str]) -> bool:
    """Whether the command `words`, variables filled in, starts dispatch.

    `configured`: the variables in the server's configuration; `env`: the whole environment that it is started with.
    """
    if "DISPATCH_HOME" in configured or any(map(own_names.in_value, configured.values())):
        return True
    spelled = [own_names.filled(word, configured) for word in words]
    if any(map(own_names.in_words, (*words, *spelled))):
        return True
    waiting = deque((path, 0) for path in _files([*words, *spelled], env))
    seen: set[Path] = set()
    while waiting and len(seen) < MAX_FILES:
        path, depth = waiting.popleft()
        real = path.resolve()
        if real in seen:
            continue
        seen.add(real)
        if own_names.in_words(path.name) or own_names.in_words(str(real)) or str(real).startswith(_OUR_PACKAGES):
            return True
        if depth and str(real).startswith(_SYSTEM):
            continue  # a common tool that scripts call: grep, sed, env
        text, shell = _read(real)
        if "\0" in text[:1024]:
            if "mcp_plugin/" in text:  # an executable archive of Python modules
                return True
            continue
        values = dict(_ASSIGNED.findall(text)) | dict(configured) if shell else configured
        for spelling in {text, own_names.filled(text, values)}:
            if own_names.in_script(spelling, shell=shell):
                return True
            if depth < MAX_DEPTH:
                waiting.extend((found, depth + 1) for found in _named(spelling, shell, path, real, env))
    return False


def _read(path: Path) -> tuple[str, bool]:
    """Return the beginning of a file as text, and whether a shell runs it. Of a binary, only its printable parts."""
    try:
        with path.open("rb") as file:
            text = file.read(_SCRIPT_BYTES).decode(errors="replace")
    except OSError:
        return "", False
    shell = path.suffix in (".sh", ".bash", ".zsh") or _SHELL.match(text) is not None
    return (_COMMENT.sub("", text) if shell else text), shell


def _files(words: Sequence[str], env: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files that a command line names: the program, and every word that is a path as it stands."""
    for word in words:
        for piece in {word, *_SHELL_WORD.findall(word)} if len(word) < scopes.MAX_PATH else ():
            program = None if "/" in piece else shutil.which(piece, path=env["PATH"])
            for candidate in (program, Path(env["HOME"], piece.replace("~", env["HOME"], 1))):
                if candidate is not None and _is_file(Path(candidate)):
                    yield Path(candidate)


def _named(text: str, shell: bool, path: Path, real: Path, env: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files that a script names: in a shell script any word, in others what is quoted or imported."""
    folders = dict.fromkeys((path.parent, real.parent, Path(env["HOME"])))
    names = dict.fromkeys(_SHELL_WORD.findall(text) if shell else _LITERAL.findall(text))
    for name in list(names)[:_MAX_NAMES]:
        plain = name.replace("${HOME}", env["HOME"]).replace("$HOME", env["HOME"]).replace("~", env["HOME"], 1)
        last = plain.rpartition("/")[2]
        if not last or len(plain) > 300 or last in (".", "..", "dispatch"):
            continue  # own_names judges `dispatch` by its context: a file of that name here or on PATH proves nothing
        for folder in folders:
            yield from (found for found in (folder / plain, folder / last) if _is_file(found))
        if shell and "/" not in plain and (program := shutil.which(plain, path=env["PATH"])):
            yield Path(program)
        if not shell and "/" in plain:
            yield from (found for end in _ENDINGS[1:] if _is_file(found := real.parent / (plain + end)))
    for name in [] if shell else dict.fromkeys(_IMPORT.findall(text)):
        yield from (found for end in _ENDINGS[1:] if _is_file(found := real.parent / (name + end)))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
