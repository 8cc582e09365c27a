"""The folder of one user's state: its paths, and that nobody else can read it. The files' formats: settings.py, store/.

The folder is `$DISPATCH_HOME`, else `~/.dispatch`. It has mode 0700 and every secret in it 0600. Every program looks at
owner and mode before it uses anything in it, and refuses what others may have read or put there.

Imports little beyond the standard library, because every CLI command imports this first.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from peer.protocol.errors import NO_FIX, Forbidden, Invalid, NotFound, Unavailable
from sandbox.mcp import marker

FOLDER_MODE = 0o700
SECRET_MODE = 0o600

SECRETS = (
    "config.json",
    "device.key",
    "root.key",
    "local.token",
    "page.sessions",
    "open.html",
    "shareable-mcp.json",
    "store.db",
    "store.db-wal",
    "store.db-shm",
    "relays.json",
    "daemon.json",
    "daemon.log",
)
"""Files that, if they exist, only their owner may read; the log and the store contain other people's data too."""

PRIVATE_FOLDERS = ("blobs", "changes", "relay", "results", "runs", "uploads")


DOCTOR_FIX = "run `dispatch doctor --fix`"


class Problem(NamedTuple):
    """What is wrong with a path, as the rest of a sentence that begins with it, and what a person does about it."""

    path: Path
    wrong: str
    fix: str


class StateFolder:
    """The paths inside one state folder. Creating the object does not touch the disk."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"StateFolder({str(self.path)!r})"

    @classmethod
    def locate(cls, env: Mapping[str, str] | None = None, *, unchecked: bool = False) -> StateFolder:
        """Return the folder that `$DISPATCH_HOME` names, else `~/.dispatch`. Raises Invalid for a relative path.

        Symbolic links on the way to it are followed here, once (on some systems /home itself is one), so that it can be
        compared with other paths, and shown to a run.
        Every program of ours calls this first. So this is where a program that a run started through an MCP server is
        refused with Forbidden: a run must not send dispatches; and, unless `unchecked`, a folder with `problems`.
        """
        folder = cls._named(env)
        if not unchecked:
            folder.require_private()
        return folder

    @classmethod
    def _named(cls, env: Mapping[str, str] | None) -> StateFolder:
        if marker.is_marked():
            raise Forbidden(
                "this runs inside an MCP server that other people's tasks may use, and a run must not dispatch onward",
                fix="remove that MCP server from the trust edge, or start dispatch outside it",
            )
        variables = os.environ if env is None else env
        named = variables.get("DISPATCH_HOME", "")
        variable = "DISPATCH_HOME" if named else "HOME"
        # Path.expanduser() and Path.home() raise RuntimeError for a user who is not known.
        path = Path(os.path.expanduser(named or "~/.dispatch"))  # noqa: PTH111
        if not path.is_absolute():
            raise Invalid(
                f"{variable} is {named or variables.get('HOME', '')!r}: a relative path, which leads elsewhere from "
                "each directory",
                fix="set DISPATCH_HOME to an absolute path",
            )
        return cls(_real(path))

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def device_key(self) -> Path:
        return self.path / "device.key"

    @property
    def root_key(self) -> Path:
        return self.path / "root.key"

    @property
    def store(self) -> Path:
        return self.path / "store.db"

    @property
    def blobs(self) -> Path:
        return self.path / "blobs"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def changes(self) -> Path:
        """What runs changed in their views: a folder for each dispatch, in it one for each attempt."""
        return self.path / "changes"

    @property
    def results(self) -> Path:
        """Files with texts that are too long for a session's host."""
        return self.path / "results"

    @property
    def local_token(self) -> Path:
        return self.path / "local.token"

    @property
    def page_sessions(self) -> Path:
        return self.path / "page.sessions"

    @property
    def open_page(self) -> Path:
        return self.path / "open.html"

    @property
    def uploads(self) -> Path:
        return self.path / "uploads"

    @property
    def relays(self) -> Path:
        """What the broker said last of relays."""
        return self.path / "relays.json"

    @property
    def relay_contacts(self) -> Path:
        """Whom a relay of this person serves, if they run one."""
        return self.path / "relay" / "contacts.json"

    @property
    def daemon_json(self) -> Path:
        return self.path / "daemon.json"

    @property
    def daemon_lock(self) -> Path:
        return self.path / "daemon.lock"

    @property
    def daemon_log(self) -> Path:
        return self.path / "daemon.log"

    @property
    def programs(self) -> Path:
        """A file with the path of dispatch's programs, for the plugin that starts them."""
        return self.path / "programs"

    @property
    def picks(self) -> Path:
        """What a host's picker recently showed, and what was chosen: see mcp_plugin.witness."""
        return self.path / "picks.json"

    def create(self) -> None:
        """Create the folder, 0700, if it does not exist. Never changes the mode of an existing one (see `problems`)."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"can't make the state folder {self.path}: {error.strerror}",
                fix="set DISPATCH_HOME to a folder that you can write to",
            ) from error

    def require_private(self) -> None:
        """Raise Forbidden, with the fix, if anybody else could read, change or replace what is in the folder."""
        for path, wrong, fix in self.problems():
            raise Forbidden(f"{path} {wrong}, so nothing in {self.path} is used", fix=fix)

    def problems(self) -> list[Problem]:
        """Return what others could read, own or replace. Empty if everything is private.

        That is the folder with its parents, every entry's owner, and of our own entries also mode and kind.
        """
        found: list[Problem] = []
        real = _real(self.path)  # the folder may be a link of its owner's; what is in it may not
        for parent in real.parents:
            with suppress(OSError):
                mode = parent.stat().st_mode
                if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                    wrong = f"can be changed by others (mode {stat.S_IMODE(mode):04o})"
                    found.append(
                        Problem(parent, wrong, f"`chmod o-w {parent}`, or set DISPATCH_HOME to another folder")
                    )
        with suppress(OSError):
            found += _problem(self.path, real.lstat(), stat.S_IFDIR)
        with suppress(OSError):
            for name in sorted(entry.name for entry in os.scandir(real)):
                kind = stat.S_IFREG if name in SECRETS else stat.S_IFDIR if name in PRIVATE_FOLDERS else 0
                with suppress(FileNotFoundError):  # a temporary file of another program of ours
                    found += _problem(self.path / name, (real / name).lstat(), kind)
        return found

    def repair(self) -> list[Path]:
        """Fix the modes that `problems` found. Return the changed paths.

        What has another owner or kind cannot be fixed by a mode, and a parent is not ours: a person must look at it.
        """
        changed: list[Path] = []
        for path, _, fix in self.problems():
            if fix == DOCTOR_FIX:
                path.chmod(FOLDER_MODE if path.is_dir() else SECRET_MODE)
                changed.append(path)
        return changed

    def require_writable(self) -> None:
        """Raise Unavailable, with the fix, if nothing can be stored here. For what would find out only after a wait."""
        self.create()
        try:
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise _not_written(self.path, error) from error

    def write_private(self, path: Path, data: bytes) -> None:
        """Replace `path` with `data` atomically and durably, 0600. Raises Unavailable (disk full, …)."""
        self.create()
        temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, SECRET_MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with suppress(OSError):  # nor can it be removed where the file system is read-only
                temporary.unlink()
            raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"can't write {path}: {error.strerror}", fix="free some space, or check who owns the state folder"
    )


def read_private(path: Path, *, limit: int = 1 << 20) -> bytes:
    """Return the bytes of a secret file, at most `limit` of them.

    Raises NotFound if it does not exist, Forbidden if others can read it, if it is a link or not ours.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}", fix=NO_FIX) from error
    except OSError as error:
        raise Forbidden(f"can't read {path}: {error.strerror}", fix="run `dispatch doctor`") from error
    with os.fdopen(descriptor, "rb") as file:
        for _, wrong, fix in _problem(path, os.fstat(file.fileno()), stat.S_IFREG):
            raise Forbidden(f"{path} {wrong}, so it is not used", fix=fix)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Invalid(f"{path} is larger than {limit} bytes", fix="run `dispatch doctor`")
    return data


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve() raises RuntimeError for links that lead in a circle


def _problem(path: Path, status: os.stat_result, kind: int) -> list[Problem]:
    """Return why what has this status is not private to this user, if so; `kind` (S_IFREG, S_IFDIR) is that of an
    entry of ours, 0 of any other, of which only the owner is looked at."""
    if status.st_uid != os.geteuid():
        fix = f"if it is yours, `sudo chown -R $(id -un) {path}`; else remove it, or set DISPATCH_HOME to a new folder"
        return [Problem(path, f"belongs to another user (uid {status.st_uid})", fix)]
    if kind and stat.S_IFMT(status.st_mode) != kind:
        what = (
            "a symbolic link"
            if stat.S_ISLNK(status.st_mode)
            else "not a folder"
            if kind == stat.S_IFDIR
            else "not a file"
        )
        return [Problem(path, f"is {what}", f"remove it, or replace it with what belongs at {path}")]
    mode = stat.S_IMODE(status.st_mode)
    if kind and mode & 0o077:
        return [Problem(path, f"can be reached by others (mode {mode:04o})", DOCTOR_FIX)]
    return []
