"""Looks at this machine's disk for paths.py: the one module of peer.trust that does I/O. It decides nothing."""

import os
import pwd
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from peer.trust.paths import Kind
from peer.trust.scopes import within

# A search for sockets is a courtesy at grant time: one can appear later, which is for the sandbox to withstand. So it
# may give up; measured, 100,000 entries take about 0.4 s.
_MAX_ENTRIES: Final = 100_000
_MAX_SECONDS: Final = 2.0
_FIRST_PERSON: Final = 1000
_NOBODY: Final = 65534
_VARIABLES: Final = ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "CARGO_HOME", "DOCKER_CONFIG", "GNUPGHOME",
                     "ZDOTDIR")  # fmt: skip


class LocalFacts:
    """`paths.Facts` of this machine, for one home and its state folders. Never follows a link it is asked about."""

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
        """The home folder, as named and as it really is."""
        return self._homes

    @property
    def states(self) -> tuple[str, ...]:
        """The state folders, as named and as they really are."""
        return self._states

    @property
    def others(self) -> tuple[str, ...]:
        """The home folders of root and of ordinary accounts but this one's; not those of services, which are where they
        work."""
        found = {
            entry.pw_dir for entry in pwd.getpwall() if (entry.pw_uid == 0 or _FIRST_PERSON <= entry.pw_uid < _NOBODY)
        }
        named = {name for home in found if Path(home).is_absolute() for name in _both(Path(home))}
        return tuple(sorted(named - {*self._homes, "/"}))

    @property
    def settings(self) -> tuple[str, ...]:
        """Where variables say that programs have their settings; not a home folder, or what is above one."""
        named = [Path(value) for name in _VARIABLES if (value := self._env.get(name)) and Path(value).is_absolute()]
        places = dict.fromkeys(name for path in named for name in _both(path))
        return tuple(place for place in places if not any(within(home, (place,)) for home in self._homes))

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
        """The first socket found in the tree at `path`; gives up after 100,000 entries or 2 s, and skips what it may
        not read."""
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
