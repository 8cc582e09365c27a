"""Where one person's state lives, and that nobody else can read it. No meaning of the files: settings.py, store/.

The folder is `$DISPATCH_HOME`, else `~/.dispatch`. It is 0700 and every secret in it 0600, and secrets whose mode or
owner is anything else are not used: a key that others could have read is no longer a secret, so the person hears it.
Imports hardly more than the standard library: the CLI reads this before anything else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from peer.protocol.errors import Forbidden, Invalid, NotFound, Unavailable
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
    "daemon.json",
    "daemon.log",
)
"""Files (those that exist) which only their owner may read; the log and the store hold words of other people."""

PRIVATE_FOLDERS = ("blobs", "results", "runs", "uploads")


class StateFolder:
    """The paths inside one state folder. Making the object touches nothing on disk."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"StateFolder({str(self.path)!r})"

    @classmethod
    def locate(cls, env: Mapping[str, str] | None = None) -> StateFolder:
        """Return the folder that `$DISPATCH_HOME` names, else `~/.dispatch`. Raises Invalid for a relative path.

        Every program of ours begins with it. So it is here that one is refused, with Forbidden, which a task has
        reached through an MCP server: nobody may dispatch onward that way.
        """
        if marker.is_marked():
            raise Forbidden(
                "this runs inside an MCP server that is granted to other people's tasks, and none dispatches onward",
                fix="take that server out of the edge, or start dispatch outside of it",
            )
        variables = os.environ if env is None else env
        named = variables.get("DISPATCH_HOME", "")
        if not named:
            return cls(Path.home() / ".dispatch")
        path = Path(named).expanduser()
        if not path.is_absolute():
            raise Invalid(
                f"DISPATCH_HOME is {named!r}, which means another folder in every directory",
                fix="set DISPATCH_HOME to an absolute path",
            )
        return cls(path)

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
    def results(self) -> Path:
        """Texts too long for a session's host, as files."""
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
        """Names the folder that holds the programs of dispatch, for the plugin that has to start them."""
        return self.path / "programs"

    @property
    def picks(self) -> Path:
        """What persons were shown in a host's picker lately, and chose: see mcp_plugin.witness."""
        return self.path / "picks.json"

    def create(self) -> None:
        """Make the folder, 0700, if it is not there. Never loosens or tightens one that exists (see `problems`)."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"can't make the state folder {self.path}: {error.strerror}",
                fix="set DISPATCH_HOME to a folder that you may write",
            ) from error

    def problems(self) -> list[tuple[Path, str]]:
        """Return what others could read or what is not ours, as (path, what is wrong). Empty when all is private."""
        found: list[tuple[Path, str]] = []
        for path in (self.path, *(self.path / name for name in (*PRIVATE_FOLDERS, *SECRETS))):
            try:
                status = path.lstat()
            except OSError:
                continue
            if (wrong := _wrong(status)) is not None:
                found.append((path, wrong))
        return found

    def repair(self) -> list[Path]:
        """Take away what `problems` found, where it is a matter of mode. Return the paths that were changed."""
        changed: list[Path] = []
        for path, _ in self.problems():
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid():
                continue  # a person must look: a link or another owner is not ours to bless
            path.chmod(FOLDER_MODE if stat.S_ISDIR(status.st_mode) else SECRET_MODE)
            changed.append(path)
        return changed

    def write_private(self, path: Path, data: bytes) -> None:
        """Replace `path` with `data`, 0600, at once or not at all, and durably. Raises Unavailable (disk full, …)."""
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
            temporary.unlink(missing_ok=True)
            raise Unavailable(
                f"can't write {path}: {error.strerror}",
                fix="free some space, or check who owns the state folder",
            ) from error


def read_private(path: Path, *, limit: int = 1 << 20) -> bytes:
    """Return the bytes of a secret file, at most `limit` of them.

    Raises NotFound when it is not there, Forbidden when others can read it, when it is a link or not ours.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}", fix="") from error
    except OSError as error:
        raise Forbidden(f"can't read {path}: {error.strerror}", fix="run `dispatch doctor`") from error
    with os.fdopen(descriptor, "rb") as file:
        if (wrong := _wrong(os.fstat(file.fileno()))) is not None:
            raise Forbidden(f"{path} {wrong}, so it is not used", fix="run `dispatch doctor --fix`")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Invalid(f"{path} is larger than {limit} bytes", fix="run `dispatch doctor`")
    return data


def _wrong(status: os.stat_result) -> str | None:
    """Say why a file or folder with this status is not private to us, or None."""
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    if status.st_uid != os.geteuid():
        return f"belongs to another user (uid {status.st_uid})"
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        return f"can be reached by others (mode {mode:04o})"
    return None
