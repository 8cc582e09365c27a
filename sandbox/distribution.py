"""How this very installation of dispatch is extended or mended, by what its installed metadata say; for fixes.

The name of the distribution is on no index that is ours. So no text tells anybody to install it by its bare name, which
whoever takes that name there could answer: each names the checkout or the archive that is installed already (PEP 610,
`direct_url.json`), or says in words that it is to be had from there. A test looks through all texts.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

NAME: Final = "dispatch-courier"
EXTRAS: Final = {"claude": "claude-agent-sdk"}
"""What can be added, and the distribution by whose presence it is seen to be here."""

_ROOT: Final = Path(__file__).resolve().parents[1]


def adding(extra: str) -> str:
    """The fix that adds an extra to this installation: a command in backticks, or a sentence where none is known."""
    command = _command(extra, again=False)
    return f"`{command}`" if command else f"install the archive or checkout of dispatch again, with its extra {extra}"


def again(extra: str = "") -> str:
    """The fix that installs the same once more, with what was added to it and the extra; as `adding`."""
    command = _command(extra, again=True)
    return f"`{command}`" if command else "install dispatch again, from the archive or checkout that you installed"


def _command(extra: str, *, again: bool) -> str | None:
    for found in metadata.distributions(name=NAME):
        if (source := _source(found, extra)) is not None:
            return shlex.join([*_installer(found, again=again), *source])
    return None


def _installer(found: metadata.Distribution, *, again: bool) -> list[str]:
    """The command that installed it: uv and pipx leave a receipt in the environments that they make for one tool."""
    prefix = Path(sys.prefix)
    if (prefix / "uv-receipt.toml").is_file():
        # Both replace what is there: a tool that is installed already would be left as it is.
        return ["uv", "tool", "install", "--reinstall" if again else "--force"]
    if (prefix / "pipx_metadata.json").is_file():
        return ["pipx", "install", "--force"]
    if (found.read_text("INSTALLER") or "").strip() == "uv":
        # Environments that uv makes have no pip.
        return ["uv", "pip", "install", "--python", sys.executable, *(["--reinstall"] if again else [])]
    return [sys.executable, "-m", "pip", "install", *(["--force-reinstall"] if again else [])]


def _source(found: metadata.Distribution, extra: str) -> list[str] | None:
    """What to install, as arguments; None if it is not of the code that runs, was not recorded, or is gone."""
    try:
        record = json.loads(found.read_text("direct_url.json") or "null")
        url, editable = str(record["url"]), record.get("dir_info", {}).get("editable") is True
        parts = urlsplit(url)
        # No password may get into a text, though PEP 610 forbids one there.
        if not parts.scheme or parts.username or parts.password:
            return None
        path = Path(url2pathname(parts.path)) if parts.scheme == "file" else None
        place = path if editable and path is not None else Path(str(found.locate_file("")))
        if place.resolve() != _ROOT or (path is not None and not path.exists()):
            return None
        extras = ",".join(sorted({extra, *_added()} - {""}))
        suffix = f"[{extras}]" if extras else ""
        if editable:
            return ["--editable", f"{path}{suffix}"]
        return [f"{NAME}{suffix} @ {_pinned(url, record)}"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _pinned(url: str, record: dict[str, dict[str, object]]) -> str:
    """The address in the form of a requirement; one of a repository at the commit, one of the web with its hash."""
    if vcs := record.get("vcs_info"):
        return f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    hashes = record.get("archive_info", {}).get("hashes")
    if isinstance(hashes, dict) and "sha256" in hashes and not url.startswith("file:"):
        return f"{url}#sha256={hashes['sha256']}"
    return url


def _added() -> Iterator[str]:
    for extra, distribution in EXTRAS.items():
        if next(iter(metadata.distributions(name=distribution)), None) is not None:
            yield extra
