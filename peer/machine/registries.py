"""The registries that this machine's own tools are set to use, as the tools themselves say. Blocking.

They are asked in an empty folder, so that no project's settings count, and with nothing to fetch.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from peer.machine import looking
from peer.trust.scopes import Registry
from sandbox.network.packages.wanted import CRATES_IO

_SECONDS: Final = 20.0
_SMALL: Final = 256 * 1024


def find(env: Mapping[str, str] | None = None) -> tuple[tuple[Registry, ...], list[str]]:
    """Return the registries, and why others cannot be granted, in sentences. A tool that is not here has none."""
    variables = dict(os.environ if env is None else env)
    said = {"pip": _pip(variables), "npm": _npm(variables), "cargo": _cargo(variables), "go": _go(variables)}
    found: list[Registry] = []
    refused: list[str] = []
    for kind, addresses in said.items():
        for address in addresses:
            if why := _unusable(address):
                refused.append(f"the {kind} registry {_shown(address)} {why}")
            else:
                registry = Registry(kind=kind, address=_plain(address))  # type: ignore[arg-type]  # one of the kinds
                found += [] if registry in found else [registry]
    return tuple(found), refused


def _pip(env: Mapping[str, str]) -> list[str]:
    """pip tells its index, its settings counted, only in its help; uv has settings of its own."""
    found = []
    for words in (["pip3", "install", "--help"], ["pip", "install", "--help"]):
        told = " ".join(_output(words, env).split())
        if default := re.search(r"--index-url <url>.{0,200}?\(default:? (\S+?)\)", told):
            found.append(default[1])
            break
    home = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "/")) / ".config")
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if env.get(name):
            found.append(env[name])
    for settings in (home / "uv/uv.toml", Path("/etc/uv/uv.toml")):
        try:
            document = tomllib.loads(looking.text(settings, _SMALL))
        except tomllib.TOMLDecodeError:
            continue
        indexes = document.get("index", [])
        found += [
            str(each["url"]) for each in indexes if isinstance(each, dict) and each.get("default") and "url" in each
        ]
        found += [str(document["index-url"])] if "index-url" in document else []
    return found


def _npm(env: Mapping[str, str]) -> list[str]:
    return _output(["npm", "config", "get", "registry"], env).split()[:1]


def _go(env: Mapping[str, str]) -> list[str]:
    words = re.split(r"[,|]", _output(["go", "env", "GOPROXY"], env).strip())
    return [word for word in words if word not in ("", "direct", "off")][:1]


def _cargo(env: Mapping[str, str]) -> list[str]:
    if shutil.which("cargo", path=env.get("PATH")) is None:
        return []
    home = Path(env.get("CARGO_HOME") or Path(env.get("HOME", "/")) / ".cargo")
    try:
        document = tomllib.loads(looking.text(home / "config.toml", _SMALL) or looking.text(home / "config", _SMALL))
        sources = document.get("source", {})
        name, seen = "crates-io", set()
        while (source := sources.get(name)) and source.get("replace-with") and name not in seen:
            seen.add(name)
            name = str(source["replace-with"])
        index = CRATES_IO if name == "crates-io" else str(sources[name].get("registry", ""))
    except (tomllib.TOMLDecodeError, AttributeError, KeyError, TypeError):
        return []
    return [index.removeprefix("sparse+")] if index else []


def _output(words: Sequence[str], env: Mapping[str, str]) -> str:
    """What a program of the person's says, "" where it is not there or fails."""
    program = shutil.which(words[0], path=env.get("PATH"))
    if program is None:
        return ""
    with tempfile.TemporaryDirectory(prefix="dispatch-") as empty:
        try:
            done = subprocess.run(
                [program, *words[1:]],
                cwd=empty,
                env=_own(env),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return ""
    return done.stdout.decode("utf-8", "replace")[:_SMALL]


def _own(env: Mapping[str, str]) -> dict[str, str]:
    """The person's variables, in which their tools have settings, without those that a width or a colour hangs on."""
    return {**{name: value for name, value in env.items() if name not in ("COLUMNS", "PWD")}, "NO_COLOR": "1"}


def _unusable(address: str) -> str:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return "has no usable address"
    if parts.username or parts.password:
        return "needs a password, and a run gets none"
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or port == 0:
        return "is not a plain https address"
    return "" if re.fullmatch(r"[!-~]{1,1000}", address) else "has no usable address"


def _plain(address: str) -> str:
    """An address in the one form by which it is asked for."""
    parts = urlsplit(address)
    return f"https://{parts.netloc.lower().removesuffix(':443')}{parts.path}".rstrip("/")


def _shown(address: str) -> str:
    """An address without what may be a password."""
    scheme, separator, rest = address.rpartition("://")
    return f"{scheme}{separator}{re.split('[?#]', rest.rpartition('@')[2])[0]}"[:200]


def by_kind(registries: Iterable[Registry]) -> dict[str, list[str]]:
    """Kind → addresses, for people."""
    found: dict[str, list[str]] = {}
    for registry in registries:
        found.setdefault(registry.kind, []).append(registry.address)
    return found
