"""The `claude` program as a registry of plugins: finding it, and running its plugin commands. No policy here.

Only its commands are used, at user scope: the files that they change differ between its versions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from peer.client.blocking import Document
from peer.protocol.errors import DispatchError, NotFound, Unavailable

SECONDS = 180.0
"""For one plugin command. Offline it retries for about 20 s, and then succeeds all the same."""
USUAL_PLACES = (".local/bin/claude", ".claude/local/claude")
"""Where its installers put it, below the home folder; not always on the path."""
ALREADY_GONE = ("not_installed", "not_configured")


class ClaudeProgram:
    """One installed `claude`; every method runs it once. Raises Unavailable with its message when it fails."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def find(cls, named: Path | None) -> ClaudeProgram:
        """Return the named program, else the one on the path, else in its usual places. Raises NotFound."""
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
            "Claude Code's program `claude` is not installed, or not on $PATH",
            fix="install Claude Code, or name the program: `dispatch plugin install --claude PATH`",
        )

    def marketplaces(self) -> list[Document]:
        """Return [{name, source, path?, …}]."""
        return _rows(self._run("marketplace", "list"))

    def plugins(self) -> list[Document]:
        """Return [{id, version, scope, enabled, …}]."""
        return _rows(self._run("list"))

    def add_marketplace(self, folder: Path) -> None:
        """Declare the marketplace in `folder`, or point the one of its name there."""
        self._do("marketplace", "add", str(folder))

    def remove_marketplace(self, name: str) -> None:
        self._do("marketplace", "remove", name)

    def install(self, plugin: str) -> None:
        """Install `name@marketplace`, enabled."""
        self._do("install", plugin)

    def update(self, plugin: str) -> None:
        """Update the recorded version to the marketplace's. Does nothing where the versions are equal."""
        self._do("update", plugin)

    def uninstall(self, plugin: str) -> None:
        self._do("uninstall", plugin)

    def _do(self, *words: str) -> None:
        answer = self._run(*words, "--scope", "user")
        if not isinstance(answer, dict):
            raise _unknown("something that is not an object")
        if answer.get("outcome") != "ok" and answer.get("failureCode") not in ALREADY_GONE:
            raise Unavailable(
                f"`claude plugin {' '.join(words)}` failed: {answer.get('message') or answer.get('outcome')}",
                fix="try it yourself, or update Claude Code: `claude update`",
            )

    def _run(self, *words: str) -> object:
        # Without the variables of dispatch, which may hold a sign-in.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCH_")}
        try:
            done = subprocess.run(
                [self.path, "plugin", *words, "--json"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment,
                cwd="/",  # not a project, whose settings it would read or change
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"`claude plugin {words[0]}` took longer than {SECONDS:.0f} s", fix="try again") from None
        except OSError as error:
            raise Unavailable(f"can't start {self.path}: {error.strerror}", fix="install Claude Code again") from error
        output = done.stdout.decode("utf-8", "replace").strip()
        try:
            return json.loads(output)
        except ValueError:
            pass
        try:
            return json.loads(output.splitlines()[-1])  # some commands print other lines before the document
        except (ValueError, IndexError):
            message = done.stderr.decode("utf-8", "replace").strip() or output
            raise _unknown(f"{message[-300:]!r} (exit {done.returncode})") from None


def _rows(answer: object) -> list[Document]:
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise _unknown("something that is not a list")
    return answer


def _unknown(what: str) -> DispatchError:
    return Unavailable(f"`claude plugin` answered with {what}", fix="update Claude Code: `claude update`")
