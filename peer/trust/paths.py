"""Which folders may be granted to an edge, and which paths are inside them. Reading the disk: filesystem.py.

A granted folder is bound into the sandbox: its files can be read, and written with Write, without a question for each.
So this refuses, with a reason and a fix, folders that hold more than a project (the home folder, the system), folders
that a run must never see (keys, the state folder), and what leads elsewhere (a socket). Symbolic links are followed
once, here: what is checked, stored, shown and bound is the real folder, and a link that is pointed elsewhere later
changes nothing.
"""

import posixpath
from collections.abc import Iterable
from typing import Final, Literal, Protocol

from peer.protocol.errors import DispatchError, Forbidden, Invalid
from peer.trust.scopes import MAX_PATH, MAX_PATHS, within

Kind = Literal["folder", "file", "link", "socket", "device", "unreadable", "missing"]

SYSTEM_FOLDERS: Final = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found", "/proc", "/run", "/sbin",
    "/snap", "/sys", "/usr", "/var/backups", "/var/cache", "/var/db", "/var/lib", "/var/log", "/var/mail", "/var/run",
    "/var/spool", "/Applications", "/Library", "/System", "/private/etc", "/private/var/db", "/private/var/run",
)  # fmt: skip
"""System folders: refused, with everything below them."""

RUN_FOLDERS: Final = ("/dispatch", "/opt/claude")
"""Places that a run has for itself, where no folder of the person's can stand. (/run/home and /run/dispatch, too.)"""

REMOVABLE: Final = "/run/media"
"""Holds the disks that were plugged in, by user: the only place in a system folder that has projects in it."""

SHARED_FOLDERS: Final = (
    "/", "/home", "/media", "/mnt", "/opt", "/private", "/private/tmp", "/private/var", "/root", "/srv", "/var",
    "/Users", "/Volumes", "/tmp", "/var/tmp",  # noqa: S108 - refused, not used
)  # fmt: skip
"""Refused themselves; the user's own folders below them may be granted."""

SECRET_FOLDERS: Final[tuple[str, ...]] = (
    "bin", "go/bin", "AppData", "Library/Application Support", "Library/Keychains", "Library/LaunchAgents",
    "Library/Preferences",
)  # fmt: skip
"""Refused below the home folder: keys, sign-ins, settings of this user's programs, and folders on PATH. Hidden folders
there are all refused and need no list: ~/.ssh, ~/.config, ~/.local/bin, ~/.codex and those of future programs."""


_DISK: Final = 3
"""Components of a user's folder of disks, `/run/media/bob`."""
_PRIVATE: Final = "contains keys, sign-ins, settings or programs"


class Facts(Protocol):
    """The facts about this machine that the checks need. Paths are absolute."""

    @property
    def homes(self) -> tuple[str, ...]:
        """The home folder, as named and as resolved."""

    @property
    def states(self) -> tuple[str, ...]:
        """The state folders, as named and as resolved."""

    @property
    def others(self) -> tuple[str, ...]:
        """The home folders of other people's accounts."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Folders with settings or keys of programs in unusual places."""

    def real(self, path: str) -> str:
        """`path` with its symbolic links followed, as far as it exists."""

    def links(self, path: str) -> tuple[str, ...]:
        """The symbolic links that `path` leads through, each by its real place."""

    def kind(self, path: str) -> Kind:
        """What is at `path`; links are not followed."""

    def socket_below(self, path: str) -> str | None:
        """A socket below the folder `path`, if a bounded search finds one."""


def check_roots(paths: Iterable[str], facts: Facts) -> tuple[str, ...]:
    """The real folders in canonical form (absolute, no `.` or double slashes, no links), each once, in order.

    Raises Invalid (422) for the first that may not be granted, with the reason and a fix.
    """
    checked = tuple(dict.fromkeys(check_root(path, facts) for path in paths))
    if len(checked) > MAX_PATHS:
        raise Invalid(f"{len(checked)} folders are {len(checked) - MAX_PATHS} too many", fix=f"name {MAX_PATHS}")
    return checked


def check_root(path: str, facts: Facts) -> str:
    """One folder, as `check_roots`."""
    root = canonical(facts.real(canonical(path)))
    _check_place(root, facts)
    for component in _components(root):
        _check_kind(facts.kind(component), component, whole=root)
    if (socket := facts.socket_below(root)) is not None:
        raise _refusal(root, f"contains a socket, {_shown(socket)}: a run could talk to the program behind it",
                       "stop that program, or name a folder without it")  # fmt: skip
    return root


def allowed_cwd(paths: Iterable[str], cwd: str) -> bool:
    """Whether `cwd` is inside the folders of an edge. Without folders, any is: the person confirms it at accept."""
    paths = tuple(paths)
    return not paths or within(cwd, paths)


def check_cwd(paths: Iterable[str], cwd: str, facts: Facts) -> str:
    """The real working folder. Raises Forbidden (403) outside the edge's folders, or as `check_root`.

    A link inside the edge's folders is refused, because a run may have made it.
    """
    paths = tuple(paths)
    named = canonical(cwd)
    for link in facts.links(named):
        if within(link, paths):
            _check_kind("link", link, whole=named)
    root = canonical(facts.real(named))
    if not allowed_cwd(paths, root):
        listed = ", ".join(_shown(path) for path in paths)
        raise Forbidden(f"{_shown(root)} is outside the folders of this trust edge", fix=f"choose one in {listed}")
    return check_root(root, facts)


def foreign_link(path: str, facts: Facts) -> str | None:
    """The first link that `path` leads through and that a run may have made, by its real place, or None.

    No run can have made one that lies in the home folder itself or in a folder above it: neither can be granted.
    """
    return next(
        (
            link
            for link in facts.links(canonical(path))
            if not any(within(home, (posixpath.dirname(link),)) for home in facts.homes)
        ),
        None,
    )


def canonical(path: str) -> str:
    """`path` without `.`, double or closing slashes. Raises Invalid unless it is absolute, without `..`, printable."""
    shown = _shown(path)
    if not path.startswith("/") or len(path) > MAX_PATH:
        raise Invalid(f"`{shown}` is not an absolute path", fix="give the full path, starting with /")
    if not path.isprintable():
        raise Invalid(f"`{shown}` contains invisible characters", fix="rename the folder")
    if ".." in path.split("/"):
        raise Invalid(f"`{shown}` contains `..`", fix="give the folder's real path")
    # normpath keeps two leading slashes, whose meaning POSIX leaves open; reduce them to one.
    return posixpath.normpath("/" + path.lstrip("/"))


def _components(path: str) -> list[str]:
    """Every folder on the way to `path`, and itself."""
    parts = path.split("/")[1:]
    return ["/" + "/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _check_place(root: str, facts: Facts) -> None:
    for home in facts.homes:
        if root == home:
            raise _refusal(root, "is the whole home folder", "name a folder inside it")
        if within(home, (root,)):
            raise _refusal(root, "covers the home folder", "name a folder inside the home folder")
    for state in facts.states:
        if within(root, (state,)):
            raise _refusal(root, "is inside the state folder, where dispatch keeps its keys", "name a project folder")
        if within(state, (root,)):
            raise _refusal(root, "covers the state folder, where dispatch keeps its keys", "name a project folder")
    for home in facts.others:
        if within(home, (root,)):
            raise _refusal(root, f"is or covers a home folder, {_shown(home)}", "name a folder inside it")
    for home in (*facts.homes, *facts.others):
        secrets = SECRET_FOLDERS
        if within(root, (home,)) and (first := root[len(home) :].split("/")[1]).startswith("."):
            secrets = (first,)
        for secret in secrets:
            if within(root, (f"{home}/{secret}",)) or within(f"{home}/{secret}", (root,)):
                raise _refusal(root, f"{_PRIVATE} (~/{_shown(secret)})", "name a project folder")
    for folder in facts.settings:
        if within(root, (folder,)) or within(folder, (root,)):
            raise _refusal(root, f"{_PRIVATE} ({_shown(folder)})", "name a project folder")
    if root in SHARED_FOLDERS:
        raise _refusal(root, "is shared by every user or program of this machine", "name a folder of yours inside it")
    for own in RUN_FOLDERS:
        if within(root, (own,)) or within(own, (root,)):
            raise _refusal(root, f"would be where a run has its own {own}", "move the project to another folder")
    if within(root, (REMOVABLE,)):
        if len(_components(root)) <= _DISK:
            raise _refusal(root, "contains every removable disk", "name a folder of yours on one of them")
        return
    for system in SYSTEM_FOLDERS:
        # A service account's home is below a system folder (/var/lib/x); what is inside its own home may be granted.
        if within(root, (system,)) and not any(
            within(home, (system,)) and within(root, (home,)) for home in facts.homes
        ):
            raise _refusal(root, "belongs to the system", "name a project folder")


def _check_kind(kind: Kind, component: str, *, whole: str) -> None:
    if kind == "folder":
        return
    what = "" if component == whole else f": {_shown(component)}"
    if kind == "link":
        raise _refusal(whole, f"is reached by a symbolic link{what}, which can be pointed elsewhere later",
                       "give the real path (`realpath` prints it)")  # fmt: skip
    if kind == "missing":
        raise _refusal(whole, f"does not exist{what}", "create the folder first, or check the spelling")
    if kind == "unreadable":
        raise _refusal(whole, f"cannot be read{what}", "check the permissions of the folder")
    names = {"file": "a file", "socket": "a socket", "device": "a device or pipe"}
    raise _refusal(whole, f"is not a folder but {names[kind]}{what}", "name the folder that holds it")


def _refusal(path: str, reason: str, fix: str) -> DispatchError:
    return Invalid(f"{_shown(path)} cannot be granted: it {reason}", fix=fix)


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:200])
