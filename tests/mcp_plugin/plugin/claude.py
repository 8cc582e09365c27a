"""The real claude program in an empty environment: a fresh home, a made-up key, and no address but on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.plugin import plugin_folder
from sandbox.runtimes.claude.runtime import bundled_program

ROOT = Path(__file__).parents[3]
PLUGIN = plugin_folder()
PROGRAMS = Path(sys.executable).parent
NOBODY = "http://127.0.0.1:1"
"""Where nothing listens: the program may try, and learns at once that it cannot."""
SECONDS = 90.0


def environment(home: Path, model: str = NOBODY, **more: str) -> dict[str, str]:
    """Return all that the program is given."""
    return {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "ANTHROPIC_API_KEY": "sk-made-up",
        "ANTHROPIC_BASE_URL": model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        **more,
    }


def on_the_path(folder: Path) -> Path:
    """Return a folder that holds the program as `claude`."""
    folder.mkdir(exist_ok=True)
    (folder / "claude").symlink_to(bundled_program())
    return folder


def claude(*arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return run([bundled_program(), *arguments], environment(home), home)


def dispatch(*arguments: str, home: Path, status: int = 0, where: Path | None = None, **more: str) -> Any:
    """Run our own command line beside it with --json; return its document. `where`: in this folder, else the home."""
    given = environment(home, PYTHONPATH=str(ROOT)) | more
    done = run([sys.executable, "-m", "cli.main", *arguments, "--json"], given, where or home)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def run(
    command: Sequence[str | Path], given: Mapping[str, str], where: Path, *, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=given, cwd=where, input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def settings(home: Path) -> Any:
    """Return the person's settings as they are on disk, {} where there are none."""
    path = home / ".claude" / "settings.json"
    return json.loads(path.read_text()) if path.exists() else {}


def clean_path(*folders: Path) -> str:
    """Return a PATH of these folders and the system's."""
    return os.pathsep.join([*map(str, folders), "/usr/bin", "/bin"])
