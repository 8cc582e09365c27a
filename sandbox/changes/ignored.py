"""What the person's version control ignores, asked outside of the sandbox about the original alone."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_SECONDS: Final = 30.0
MAX_FOLDERS: Final = 64
"""Folders that are asked about one by one, while a view is read."""
_GIT: Final = [
    "git",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.untrackedCache=false",
]
_OTHERS: Final = {".hg": "Mercurial", ".jj": "Jujutsu", ".svn": "Subversion"}


class VersionControl:
    """The person's repository that `root` lies in, if there is one. A granted file is asked about in its folder.

    `problem`: why it cannot be asked what is ignored, "" if it can, or if there is none.
    """

    def __init__(self, root: Path, *, is_file: bool = False) -> None:
        self._folder = root.parent if is_file else root
        self._name = os.fsencode(root.name) if is_file else b""
        self._asked: dict[bytes, bool] = {}
        self.problem = ""
        self._slow = False
        self._git = False
        for folder in (self._folder, *self._folder.parents):
            if os.path.lexists(folder / ".git"):
                self._git = True
                break
            for name, words in _OTHERS.items():
                if os.path.lexists(folder / name):
                    self.problem = f"{words} cannot be asked what it ignores here"

    def askable(self, path: bytes) -> bool:
        """Whether it can be asked about a path: git takes some characters for a pattern, which other files match."""
        return not self._git or not any(byte in (path or self._name) for byte in b"*?[\\")

    def ignored(self, paths: Iterable[bytes]) -> set[bytes]:
        """Which of these paths below the root are ignored, and in no index. Sets `problem` where that is not known.

        Only for paths that are `askable`.
        """
        # Without the dot, a colon in front would begin a pathspec's magic.
        asked = {b"./" + (path or self._name): path for path in paths if self.askable(path)}
        if not self._git or not asked or self.problem:
            return set()
        try:
            # What a path leads to in the view is not there; it is asked what the original's rules say of the name.
            done = subprocess.run(
                [*_GIT, "-C", str(self._folder), "check-ignore", "-z", "--stdin"],
                input=b"\0".join(asked) + b"\0",
                capture_output=True,
                timeout=_SECONDS,
                check=False,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "HOME": _home(),
                    "LC_ALL": "C",
                    "GIT_OPTIONAL_LOCKS": "0",
                    "GIT_TERMINAL_PROMPT": "0",
                    "GIT_NO_LAZY_FETCH": "1",
                    "GIT_NO_REPLACE_OBJECTS": "1",
                },
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._slow = isinstance(error, subprocess.TimeoutExpired)
            self.problem = "could not ask git what it ignores here"
            return set()
        if done.returncode not in (0, 1):
            self.problem = "could not ask git what it ignores here"
            return set()
        return {asked[path] for path in done.stdout.split(b"\0") if path in asked}

    def ignores_folder(self, path: bytes) -> bool:
        """Whether it ignores the folder at `path`; False where that is not known, or too many were asked about."""
        if path not in self._asked:
            if len(self._asked) >= MAX_FOLDERS or self._slow:
                return False
            before = self.problem
            # By a name in it: a rule for folders alone does not match a path that leads nowhere.
            self._asked[path] = bool(self.ignored([path + b"/x"]))
            self.problem = before  # this path alone was the reason
        return self._asked[path]


def _home() -> str:
    """The person's home folder, where git has their rules for all repositories."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/nonexistent"
