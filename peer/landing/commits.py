"""Puts commits of a run into a repository of the person's: checked objects, and refs below refs/dispatch; no files.

The objects come first, in a folder of their own among the repository's (as git itself receives a push). There git
checks them as strictly as it can, and that nothing they need is missing; then they are renamed into place. Refs are
made last, all in one transaction, and only where none is. Taking back removes exactly these refs, if they still name
these commits; objects that nothing names any more go with the repository's own `git gc`.

git runs in the `.git` folder that was opened beneath the granted folder and compared with the one that the run saw: no
path is looked up again. It runs as the owner of that folder, since it obeys the settings in it, with hooks, network,
replaced objects and logs of refs off. The folder's lock is handed to it, so that no later landing meets it at work.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

from peer.landing import tree as places
from peer.landing.contents import DAMAGED, give_to_owner
from peer.landing.journal import Commits
from peer.landing.syscalls import NOREPLACE, rename
from peer.landing.tree import Obstacle, Tree, open_beneath
from sandbox.changes.values import BLOBS, HEADS, Entry
from sandbox.commits.names import is_safe

REFS: Final = "refs/dispatch/"
_SECONDS: Final = 120.0
"""For one command of git."""
_MEMORY: Final = 2 << 30
"""Bytes of data of one."""
_MAX_PACK: Final = 200_000_000
_INCOMING: Final = "tmp_objdir-dispatch-"
"""How the folder of objects is called that are not in place yet: `git gc` knows such names, and clears them away."""
_NAMESPACE: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,80}")
_ID: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PACKED: Final = re.compile(rb"pack\t([0-9a-f]{40}|[0-9a-f]{64})\n")
_FILES: Final = ("pack", "rev", "idx")
"""The ends of a pack's files, in the order in which they come: with the last one git sees it."""
_SETTINGS: Final = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.logAllRefUpdates=false"),
    *("-c", "core.alternateRefsCommand=true", "-c", "gc.auto=0", "-c", "maintenance.auto=false"),
)
_ENVIRONMENT: Final = {
    "GIT_DIR": ".",
    "GIT_WORK_TREE": ".",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
OTHER: Final = "another repository is there now"
TAKEN: Final = "commits of this run are already in that repository"
ANOTHERS: Final = "its repository belongs to another user, whose settings git would obey"
MOVED: Final = "its refs have changed since, so they stay as they are"


def namespace(dispatch_id: str, attempt: int) -> str:
    """The part of the refs' names that no other run has."""
    return dispatch_id if attempt == 1 else f"{dispatch_id}-{attempt}"


def planned(entry: Entry, tree: Tree, of_run: str) -> Commits:
    """The step for an entry, beside what the repository holds now. Writes nothing. Raises OSError, Obstacle.

    `of_run`: the run's namespace.
    """
    if entry.base is None or not entry.branches or not entry.path.endswith(HEADS):
        raise Obstacle("its content was not kept, so it cannot be applied")
    place = entry.path.removesuffix(HEADS)  # b"" where the view is the repository's own folder
    parts = tuple(place.split(b"/")) if place else ()
    if b"\0" in entry.path or any(part in (b"", b".", b"..") for part in parts):
        raise Obstacle("its path is not allowed in a repository")
    refs = {f"{REFS}{of_run}/{branch.ref}": branch.tip for branch in entry.branches}
    if (
        not _NAMESPACE.fullmatch(of_run)
        or len(refs) != len(entry.branches)
        or not all(is_safe(branch.ref) and _ID.fullmatch(branch.tip) for branch in entry.branches)
    ):
        raise Obstacle("its refs have unsafe names")
    step = Commits(
        number=entry.number,
        view=entry.view,
        parts=parts,
        identity=(entry.base.device, entry.base.inode),
        incoming=f"{_INCOMING}{token_hex(8)}",
        prefix=f"{REFS}{of_run}/",
        refs=refs,
        sha256=entry.sha256,
        size=entry.size,
    )
    with _repository(step, tree) as git:
        if git.refs(step.prefix):
            raise Obstacle(TAKEN)
    return step


def bring(step: Commits, tree: Tree, folder: Path) -> None:
    """Put the objects in place; no ref names them yet. `folder`: the change set's. Raises OSError, Obstacle."""
    with _repository(step, tree) as git, _pack(step, folder) as pack, git.incoming(step) as incoming:
        found = _PACKED.fullmatch(
            git.run("index-pack", "--stdin", "--strict", f"--max-input-size={_MAX_PACK}", stdin=pack)
        )
        if found is None:
            raise Obstacle("git could not import the objects")
        # Everything that is needed must be there, or reached by what the repository names already.
        git.run("rev-list", "--objects", "--quiet", "--stdin", "--not", "--all", stdin=_lines(step.refs.values()))
        _into_place(incoming, git.objects, found[1].decode())


def make_refs(step: Commits, tree: Tree) -> None:
    """Make the refs. Raises OSError, Obstacle."""
    with _repository(step, tree) as git:
        git.run("update-ref", "--stdin", stdin=_lines(f"create {ref} {tip}" for ref, tip in step.refs.items()))


def take_back(step: Commits, tree: Tree) -> str:
    """Remove the refs, and what is left of objects on their way; "" or why they stay. Safe to repeat.

    Raises OSError, Obstacle.
    """
    try:
        with _repository(step, tree) as git:
            git.clear(step.incoming)
            there = {ref: tip for ref, tip in git.refs(step.prefix).items() if ref in step.refs}
            if any(step.refs[ref] != tip for ref, tip in there.items()):
                return MOVED
            git.unlock(step.refs)
            if there:
                git.run("update-ref", "--stdin", stdin=_lines(f"delete {ref} {tip}" for ref, tip in there.items()))
    except OSError as error:
        if error.errno not in places.NO_WAY:
            raise
        return ""  # where there is no repository, there are no refs
    return ""


class _Git:
    """git in one repository, whose `.git` folder is open, with that folder's objects."""

    def __init__(self, folder: int, objects: int, lock: int) -> None:
        self.objects = objects
        self._folder = folder
        self._lock = lock
        self._env = dict(_ENVIRONMENT) | {"PATH": os.environ.get("PATH", os.defpath)}

    def run(self, *words: str, stdin: bytes | int = b"") -> bytes:
        """Run a command of git; return what it wrote. Raises OSError where it cannot be run, Obstacle if it fails."""
        owner = os.fstat(self._folder)
        other = owner.st_uid != os.geteuid()
        if other and os.geteuid() != 0:
            raise Obstacle(ANOTHERS)
        try:
            with subprocess.Popen(
                ["git", *_SETTINGS, *words],
                cwd=f"/proc/self/fd/{self._folder}",
                env=self._env,
                stdin=stdin if isinstance(stdin, int) else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=[self._lock],
                user=owner.st_uid if other else None,
                group=owner.st_gid if other else None,
                extra_groups=[] if other else None,
            ) as started:
                try:
                    with suppress(ProcessLookupError, PermissionError):
                        resource.prlimit(started.pid, resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
                    written, _ = started.communicate(stdin if isinstance(stdin, bytes) else None, _SECONDS)
                except BaseException:
                    started.kill()
                    raise
        except FileNotFoundError:
            raise Obstacle("git is not installed on this machine") from None
        except subprocess.TimeoutExpired:
            raise Obstacle("git took too long") from None
        if started.returncode != 0:
            if words[0] == "update-ref":
                raise OSError(errno.EBUSY, "git cannot change its refs")
            raise Obstacle(_FAILURES.get(words[0], "git failed there"))
        return written

    def refs(self, prefix: str) -> Mapping[str, str]:
        """The refs whose names begin with `prefix`, which ends with a slash: name and what it names."""
        listed = self.run("for-each-ref", "--format=%(refname) %(objectname)", prefix)
        pairs = (line.partition(" ") for line in listed.decode("utf-8", "replace").splitlines())
        return {ref: tip for ref, _, tip in pairs}

    @contextmanager
    def incoming(self, step: Commits) -> Iterator[int]:
        """Let new objects come into a folder of their own among the repository's; removed at the end."""
        os.mkdir(step.incoming, 0o700, dir_fd=self.objects)
        before = self._env
        try:
            give_to_owner(self.objects, step.incoming.encode())
            self._env = before | {
                "GIT_OBJECT_DIRECTORY": f"objects/{step.incoming}",
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": "objects",
            }
            folder = open_beneath(self.objects, (step.incoming.encode(),))
            try:
                yield folder
            finally:
                os.close(folder)
        finally:
            self._env = before
            self.clear(step.incoming)

    def unlock(self, refs: Iterable[str]) -> None:
        """Remove locks of these refs that a git of ours left, which was killed: who has the folder's lock is alone."""
        for ref in refs:
            *way, last = ref.encode().split(b"/")
            with suppress(FileNotFoundError, NotADirectoryError):
                folder = open_beneath(self._folder, tuple(way))
                try:
                    os.unlink(last + b".lock", dir_fd=folder)
                finally:
                    os.close(folder)

    def clear(self, incoming: str) -> None:
        """Remove a folder of objects that are not in place: what git makes in one, at most two folders deep."""
        with suppress(FileNotFoundError):
            for inner in places.names_in(self.objects, (incoming.encode(),), _MOST_INCOMING):
                way = (incoming.encode(), inner)
                with suppress(NotADirectoryError):
                    for each in places.names_in(self.objects, way, _MOST_INCOMING):
                        os.unlink(b"/".join((*way, each)), dir_fd=self.objects)
                    os.rmdir(b"/".join(way), dir_fd=self.objects)
                    continue
                os.unlink(b"/".join(way), dir_fd=self.objects)
            os.rmdir(incoming, dir_fd=self.objects)


_MOST_INCOMING: Final = 1_000
_FAILURES: Final = {
    "index-pack": "git found damage in its objects, or your repository lacks what they build on",
    "rev-list": "your repository lacks what they build on",
}


@contextmanager
def _repository(step: Commits, tree: Tree) -> Iterator[_Git]:
    """git in the person's repository, if it is still the one that the run saw. Raises OSError, Obstacle."""
    root = tree.root(step.view)
    folder = open_beneath(root, step.parts)
    try:
        if places.identity(os.fstat(folder)) != step.identity:
            raise Obstacle(OTHER)
        objects = open_beneath(folder, (b"objects",))
        try:
            yield _Git(folder, objects, root)
        finally:
            os.close(objects)
    finally:
        os.close(folder)


@contextmanager
def _pack(step: Commits, folder: Path) -> Iterator[int]:
    """The pack, open at its beginning, if it is what was kept. Raises OSError, Obstacle."""
    if len(step.sha256) != 64 or not step.sha256.isalnum():
        raise Obstacle("its content was not kept, so it cannot be applied")
    try:
        pack = os.open(folder / BLOBS / step.sha256, places.FILE)
    except OSError as error:
        raise Obstacle("its content is missing from what was kept of the run") from error
    try:
        if os.fstat(pack).st_size != step.size or places.digest(pack, step.size) != step.sha256:
            raise Obstacle(DAMAGED)
        os.lseek(pack, 0, os.SEEK_SET)
        yield pack
    finally:
        os.close(pack)


def _into_place(incoming: int, objects: int, name: str) -> None:
    """Rename a pack into the repository; one that is there already stays. Raises OSError."""
    with suppress(FileExistsError):
        os.mkdir("pack", 0o777, dir_fd=objects)
        give_to_owner(objects, b"pack")
    source, target = open_beneath(incoming, (b"pack",)), open_beneath(objects, (b"pack",))
    try:
        for end in _FILES:
            file = f"pack-{name}.{end}".encode()
            try:
                rename(source, file, target, file, NOREPLACE)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOENT):  # git makes a .rev from version 2.41 on
                    raise
        os.fsync(target)
    finally:
        os.close(source)
        os.close(target)


def _lines(words: Iterable[str]) -> bytes:
    return b"".join(word.encode() + b"\n" for word in words)
