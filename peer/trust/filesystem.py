"""The file system facts that paths.py needs: the one module of peer.trust that does I/O. The decisions are there."""

import os
import pwd
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from peer.trust.paths import Kind
from peer.trust.scopes import within

# The search for sockets only spares a mistake at grant time: a socket can appear later, and the sandbox guards against
# that. So the search may stop early. Measured: 100,000 entries take about 0.4 s.
_MAX_ENTRIES: Final = 100_000
_MAX_SECONDS: Final = 2.0
_MAX_LINKS: Final = 40
"""More than the kernel follows."""
_FIRST_PERSON: Final = 1000
_NOBODY: Final = 65534
_VARIABLES: Final = ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "CARGO_HOME", "DOCKER_CONFIG", "GNUPGHOME",
                     "ZDOTDIR")  # fmt: skip


class LocalFacts:
    """`paths.Facts` of this machine, for one home folder and its state folders. `kind` does not follow links."""

    def __init__(
        self,
        *,
        home: Path,
        states: Sequence[Path],
        env: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._env = os.environ if env is None else env
        self._homes = _both(home)
        self._states = tuple(dict.fromkeys(name for state in states for name in _both(state)))
        self._clock = clock

    @property
    def homes(self) -> tuple[str, ...]:
        """The home folder, as named and as resolved."""
        return self._homes

    @property
    def states(self) -> tuple[str, ...]:
        """The state folders, as named and as resolved."""
        return self._states

    @property
    def others(self) -> tuple[str, ...]:
        """The home folders of root and of people's accounts other than this one. Those of services are their work
        folders (/var/lib/x) and not included."""
        found = {
            entry.pw_dir for entry in pwd.getpwall() if (entry.pw_uid == 0 or _FIRST_PERSON <= entry.pw_uid < _NOBODY)
        }
        named = {name for home in found if Path(home).is_absolute() for name in _both(Path(home))}
        return tuple(sorted(named - {*self._homes, "/"}))

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings folders of programs that environment variables name, except home folders and folders above one."""
        named = [Path(value) for name in _VARIABLES if (value := self._env.get(name)) and Path(value).is_absolute()]
        places = dict.fromkeys(name for path in named for name in _both(path))
        return tuple(place for place in places if not any(within(home, (place,)) for home in self._homes))

    def real(self, path: str) -> str:
        """`path` with its symbolic links followed, as far as it exists."""
        return os.path.realpath(path)

    def links(self, path: str) -> tuple[str, ...]:
        """The symbolic links that `path`, absolute and without `..`, leads through, each by its real place."""
        found: list[str] = []
        at, left = "/", [part for part in reversed(path.split("/")) if part]
        while left and len(found) <= _MAX_LINKS:
            place = os.path.normpath(os.path.join(at, left.pop()))  # noqa: PTH118 - text, since `..` comes after a link
            if self.kind(place) != "link":
                at = place
                continue
            found.append(place)
            target = str(Path(place).readlink())
            at = "/" if target.startswith("/") else at
            left += [part for part in reversed(target.split("/")) if part]
        return tuple(found)

    def kind(self, path: str) -> Kind:
        """What is at `path`, by lstat."""
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except (OSError, ValueError):
            return "unreadable"
        if stat.S_ISLNK(mode):
            return "link"
        if stat.S_ISDIR(mode):
            return "folder"
        if stat.S_ISREG(mode):
            return "file"
        return "socket" if stat.S_ISSOCK(mode) else "device"

    def socket_below(self, path: str) -> str | None:
        """The first socket found below `path`. Stops after 100,000 entries or 2 s; skips unreadable folders."""
        deadline = self._clock() + _MAX_SECONDS
        seen, folders = 0, [path]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        seen += 1
                        if seen > _MAX_ENTRIES or self._clock() > deadline:
                            return None
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        elif not entry.is_file(follow_symlinks=False) and self.kind(entry.path) == "socket":
                            return entry.path
            except OSError:
                continue
        return None


def _both(path: Path) -> tuple[str, ...]:
    named = str(path.absolute())
    return tuple(dict.fromkeys((named, os.path.realpath(named))))
