"""The `claude` program as a registry of plugins: finding it, and asking it by its plugin commands. No policy here.

Everything is asked of the program itself, at user scope: its files are its own affair and change with its versions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from peer.client.blocking import Document
from peer.protocol.errors import DispatchError, NotFound, Unavailable

SECONDS = 180.0
"""For one plugin command. Where its maker cannot be reached it tries for about 20 s, and does its work all the same."""
USUAL_PLACES = (".local/bin/claude", ".claude/local/claude")
"""Where its installers put it below the home folder, which is not always on the path."""
ALREADY_GONE = ("not_installed", "not_configured")


class ClaudeProgram:
    """One installed `claude`; every method is one run of it. Raises Unavailable when it fails, with its own words."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def find(cls, named: Path | None) -> ClaudeProgram:
        """Return the program that is named, else that on the path, else in its usual places. Raises NotFound."""
        if named is not None:
            found = shutil.which(named.absolute())
            if found is None:
                raise NotFound(f"{named} is not a program", fix="give the path of the `claude` program")
            return cls(Path(found))
        places = ["claude", *(str(Path.home() / place) for place in USUAL_PLACES)]
        for place in places:
            if found := shutil.which(place):
                return cls(Path(found).absolute())
        raise NotFound(
            "Claude Code's program `claude` is not installed, or not on the path",
            fix="install Claude Code, or name the program: `dispatch plugin install --claude PATH`",
        )

    def marketplaces(self) -> list[Document]:
        """Return [{name, source, path?, …}]."""
        return _rows(self._ask("marketplace", "list"))

    def plugins(self) -> list[Document]:
        """Return [{id, version, scope, enabled, …}]."""
        return _rows(self._ask("list"))

    def add_marketplace(self, folder: Path) -> None:
        """Declare the marketplace in `folder`, or point the one of its name there."""
        self._do("marketplace", "add", str(folder))

    def remove_marketplace(self, name: str) -> None:
        self._do("marketplace", "remove", name)

    def install(self, plugin: str) -> None:
        """Install `name@marketplace`, enabled."""
        self._do("install", plugin)

    def update(self, plugin: str) -> None:
        """Have the version on record be that of the marketplace."""
        self._do("update", plugin)

    def uninstall(self, plugin: str) -> None:
        self._do("uninstall", plugin)

    def _do(self, *words: str) -> None:
        told = self._ask(*words, "--scope", "user")
        if not isinstance(told, dict):
            raise _unknown("something that is not an object")
        if told.get("outcome") != "ok" and told.get("failureCode") not in ALREADY_GONE:
            raise Unavailable(
                f"`claude plugin {' '.join(words)}` failed: {told.get('message') or told.get('outcome')}",
                fix="try it yourself, or update Claude Code: `claude update`",
            )

    def _ask(self, *words: str) -> Any:
        # Our own secrets are no business of another program.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCH_")}
        try:
            done = subprocess.run(
                [self.path, "plugin", *words, "--json"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment,
                cwd="/",  # no project there whose settings it could read, or change
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"`claude plugin {words[0]}` took longer than {SECONDS:.0f} s", fix="try again") from None
        except OSError as error:
            raise Unavailable(f"can't start {self.path}: {error.strerror}", fix="install Claude Code again") from error
        said = done.stdout.decode("utf-8", "replace").strip()
        try:
            return json.loads(said)
        except ValueError:
            pass
        try:
            return json.loads(said.splitlines()[-1])  # some commands promise their document as the last line only
        except (ValueError, IndexError):
            words_of_it = done.stderr.decode("utf-8", "replace").strip() or said
            raise _unknown(f"{words_of_it[-300:]!r} (exit {done.returncode})") from None


def _rows(told: object) -> list[Document]:
    if not isinstance(told, list) or not all(isinstance(row, dict) for row in told):
        raise _unknown("something that is not a list")
    return told


def _unknown(what: str) -> DispatchError:
    return Unavailable(f"`claude plugin` answered with {what}", fix="update Claude Code: `claude update`")
