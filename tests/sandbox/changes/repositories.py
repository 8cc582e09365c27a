"""Repositories of a person's for the tests of commits, and what a run does in a view of one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sandbox.changes.display import diff_of
from sandbox.changes.values import Entry
from tests.sandbox.changes.worlds import World

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Rob",
    "GIT_AUTHOR_EMAIL": "rob@example.org",
    "GIT_COMMITTER_NAME": "Rob",
    "GIT_COMMITTER_EMAIL": "rob@example.org",
}
EXPORTS = "".join(f"export {name}={value}\n" for name, value in ENVIRONMENT.items())


def git(folder: Path, *words: str, stdin: bytes = b"") -> str:
    """Run git as the person does; return what it says."""
    done = subprocess.run(["git", *words], cwd=folder, env=ENVIRONMENT, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "replace").strip()


def make(folder: Path, *options: str) -> None:
    """Make a repository with two commits on main."""
    git(folder, "init", "-q", "-b", "main", *options)
    for number in (1, 2):
        (folder / f"f{number}.py").write_text(f"{number}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"old {number}")


def start(world: World, *options: str) -> None:
    """The same in the person's folder, and a view of it."""
    make(world.root, *options)
    world.start()


def run(world: World, script: str) -> None:
    """Run a shell script with git in the view."""
    world.run(EXPORTS + script)


def commit(world: World, name: str = "new.py", content: str = "new", message: str = "new commit") -> None:
    run(world, f"echo {content} > {name}; git add -f {name}; git commit -q -m '{message}'")


def commits(world: World, path: str = ".git") -> tuple[Entry, str]:
    """Read the change set; return the entry of commits, and what is shown of it."""
    entry, text, _ = both(world, path)
    assert entry.change == "commits"
    return entry, text


def both(world: World, path: str = ".git") -> tuple[Entry, str, dict[str, Entry]]:
    """As `commits`, with all entries by path."""
    found = world.entries()
    entry = found[f"{path}/refs/heads"]
    return entry, diff_of(entry, world.root, world.destination), found


def refused(world: World, path: str = ".git") -> str:
    """Read the change set, which has no commits; return what is said of the repository instead."""
    found = world.entries()
    assert not [entry for entry in found.values() if entry.change == "commits"]
    return found[path].never


def files(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content, and every folder."""
    return {
        str(path.relative_to(folder)): (
            os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
        for path in folder.rglob("*")
    }
