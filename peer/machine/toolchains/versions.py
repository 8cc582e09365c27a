"""Which version a project asks for, read out of the text of its files, and which of those installed is meant. Pure.

Nothing here is ever used as a path: a project's words only choose among names that were found.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

MAX_WORD: Final = 80
_NUMBERS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,4}")
_GO: Final = re.compile(r"^(toolchain|go)[ \t]+(?:go)?([0-9][0-9A-Za-z.]{0,30})[ \t]*(?://.*)?$", re.MULTILINE)
_EARLY: Final = re.compile(r"[0-9](?:a|b|rc|-?(?:alpha|beta|rc|dev|ea|nightly|canary))", re.IGNORECASE)


def numbers(name: str) -> tuple[int, ...]:
    """The version in a name: "cpython-3.12.7-linux" is (3, 12, 7); () where it has none."""
    found = _NUMBERS.search(name)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def family(name: str) -> str:
    """What stands before the version: "" for CPython and whatever is named by its number alone."""
    found = _NUMBERS.search(name)
    text = (name[: found.start()] if found else name).rstrip("-@_").lower()
    kind = "" if text in ("cpython", "v", "go", "python", "openjdk") else text
    return f"{kind}+free-threaded" if re.search(r"freethreaded|[0-9]t(-|$)", name) else kind


def best(spec: str, installed: Iterable[str], *, families: bool = True) -> str | None:
    """The installed version that `spec` means: the one of that name, else the newest that it is the beginning of.

    `families`: whether another implementation (PyPy) is another thing. An empty `spec` is the newest.
    """
    known = list(installed)
    if spec in known:
        return spec
    wanted = numbers(spec)
    if spec and not wanted:
        return None
    fitting = [
        name
        for name in known
        if numbers(name)[: len(wanted)] == wanted
        and numbers(name)
        and (not families or family(name) == family(spec))
        and (not _EARLY.search(name) or _EARLY.search(spec))
    ]
    return max(fitting, key=lambda name: (numbers(name), name), default=None)


def lines(text: str) -> list[str]:
    """The words of a file of versions (`.python-version`, `.nvmrc`), comments left out."""
    found = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [line for line in found if line and len(line) <= MAX_WORD]


def tool_versions(text: str) -> dict[str, list[str]]:
    """`.tool-versions` of asdf and mise: tool → versions, the first one first."""
    found: dict[str, list[str]] = {}
    for line in lines(text.replace("\t", " ")):
        tool, *versions = line.split()
        found.setdefault(tool, versions)
    return found


def mise(text: str) -> dict[str, list[str]]:
    """The table `tools` of a mise.toml, as `tool_versions`; a version is a text, a list of them or a table."""
    tools = _toml(text).get("tools")
    found: dict[str, list[str]] = {}
    for tool, value in tools.items() if isinstance(tools, dict) else ():
        each = value if isinstance(value, list) else [value]
        words = [one.get("version") if isinstance(one, dict) else one for one in each]
        found[str(tool)] = [word for word in words if isinstance(word, str) and len(word) <= MAX_WORD]
    return found


def rust_toolchain(text: str) -> tuple[str, bool]:
    """(channel, whether a folder is named in its place) of a `rust-toolchain.toml`, or of the older plain file."""
    table = _toml(text).get("toolchain")
    if isinstance(table, dict):
        channel = table.get("channel")
        named = isinstance(channel, str) and len(channel) <= MAX_WORD
        return (str(channel) if named else ""), "path" in table
    plain = lines(text)
    return (plain[0], False) if len(plain) == 1 and "=" not in plain[0] and "[" not in plain[0] else ("", False)


def rust(channel: str, installed: Iterable[str]) -> str | None:
    """The installed toolchain of a channel: "stable" or "1.79" is "…-x86_64-unknown-linux-gnu", its newest."""
    known = list(installed)
    if channel in known:
        return channel
    fitting = [name for name in known if name.startswith(f"{channel}-") or name.startswith(f"{channel}.")]
    return max(fitting, key=lambda name: (numbers(name), name), default=None) if channel else None


def go_toolchain(text: str) -> str:
    """The `toolchain` of a go.mod, else the version of its `go` line; "" where it has neither."""
    found = dict(_GO.findall(text))
    return str(found.get("toolchain") or found.get("go") or "")


def key_value(text: str, key: str) -> str:
    """The value of `key=value` lines, as `.sdkmanrc` has them."""
    for line in lines(text):
        name, equals, value = line.partition("=")
        if equals and name.strip() == key:
            return value.strip()
    return ""


def environment_home(text: str) -> str:
    """The folder of the Python that a pyvenv.cfg names."""
    found = re.search(r"^home[ \t]*=[ \t]*(/.*?)[ \t]*$", text, re.MULTILINE)
    return found[1] if found else ""


def member(text: str, *names: str) -> str:
    """A text inside a JSON document, "" where it is not there."""
    try:
        found: object = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return ""
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) and len(found) <= MAX_WORD else ""


def toml_member(text: str, name: str) -> str:
    """A text at the top of a TOML document, "" where it is not there."""
    found = _toml(text).get(name)
    return found if isinstance(found, str) and len(found) <= MAX_WORD else ""


def _toml(text: str) -> Mapping[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}
