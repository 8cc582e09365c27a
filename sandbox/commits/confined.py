"""One command of git in a sandbox of its own, with bounds on its time, memory, processes and output.

Nothing of this machine is visible but its system folders and what the profile shows; there is no network.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from sandbox import confinement
from sandbox.confinement import Limits, Profile, Root
from sandbox.confinement.profile import GIB, MIB, View
from sandbox.errors import SandboxError, quoted

SECONDS: Final = 60.0
"""For one command."""
LIMITS: Final = Limits(
    data=GIB,
    file_size=256 * MIB,
    cpu_seconds=60,
    processes=64,
    open_files=256,
    tmp_size=64 * MIB,
    home_size=MIB,
    shm_size=MIB,
    memory=2 * GIB,
    disk=GIB,
    files=10_000,
    room=64 * MIB,
)
_ENVIRONMENT: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_WORK_TREE": "/tmp",  # noqa: S108 - the sandbox's own; not the one that a repository's settings name
    "LC_ALL": "C.UTF-8",
}
_PIECE: Final = 1 << 16
_MAX_ERROR: Final = 300


class Failed(Exception):
    """The commits of a repository cannot be kept. Its text is the end of a sentence that says why."""


def has_git() -> bool:
    """Whether there is a git that a sandbox shows."""
    return shutil.which("git", path="/usr/local/bin:/usr/bin:/bin") is not None


def profile(workspace: Path, *shown: Root) -> Profile:
    """What one command sees: `workspace`, which it may write, and folders that it may only read."""
    return Profile(workspace=workspace, shells=False, roots=shown, limits=LIMITS)


def as_seen(original: Path, inside: Path, seen: Path, workspace: Path) -> Root:
    """A view, to be read only, where its run saw it. `seen`: where it is on this machine."""
    return Root(path=original, at=inside, view=View(seen=seen, written=workspace))


async def output(
    seen: Profile,
    command: Sequence[str],
    git_dir: str,
    *,
    stdin: bytes | Path = b"",
    most: int,
    into: Path | None = None,
) -> bytes:
    """Run a command with this `GIT_DIR`; return its standard output, or write it to the new file `into`.

    Raises Failed, also where it fails, writes more than `most` bytes, or does not end in time.
    """
    taken = bytearray()
    if problem := await _run(seen, command, git_dir, stdin, most, into, taken):
        raise Failed(problem)
    return bytes(taken)


async def beginning(
    seen: Profile, command: Sequence[str], git_dir: str, *, stdin: bytes, most: int
) -> tuple[bytes, bool]:
    """As `output`, but return what there was until a bound was reached, and whether that is all of it."""
    taken = bytearray()
    problem = await _run(seen, command, git_dir, stdin, most, None, taken)
    return bytes(taken[:most]), not problem


async def _run(
    seen: Profile,
    command: Sequence[str],
    git_dir: str,
    stdin: bytes | Path,
    most: int,
    into: Path | None,
    taken: bytearray,
) -> str:
    """Return "", or which bound was reached. Raises Failed where the command fails."""
    env = seen.environment() | _ENVIRONMENT | {"GIT_DIR": git_dir}
    try:
        process = await confinement.of_this_machine().spawn(seen, command, env)
    except SandboxError as error:
        raise Failed(f"the sandbox in which git would look at them cannot be built: {error.message}") from error
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    errors = bytearray()
    status: int | None = None
    whole = True
    async with process:
        with trio.move_on_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_feed, process.stdin, stdin)
                nursery.start_soon(_tail, process.stderr, errors)
                whole = await _read(process.stdout, most, into, taken)
                if not whole:
                    nursery.cancel_scope.cancel()  # what is left of it is killed
            if whole:
                status = await process.wait()
    if not whole:
        return f"there are more than {most:,} bytes of them"
    if status is None:
        return "git took too long"
    if status != 0:
        said = quoted(errors.decode("utf-8", "replace"), most=_MAX_ERROR)
        raise Failed(f"git failed{': ' if said else ''}{said}")
    return ""


async def _feed(stream: trio.abc.SendStream, content: bytes | Path) -> None:
    try:
        if isinstance(content, bytes):
            await stream.send_all(content)
        else:
            async with await trio.open_file(content, "rb") as file:
                while piece := await file.read(_PIECE):
                    await stream.send_all(piece)
        await stream.aclose()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def _tail(stream: trio.abc.ReceiveStream, kept: bytearray) -> None:
    """Keep the end of what is written, and let the rest go."""
    while piece := await stream.receive_some(_PIECE):
        kept += piece
        del kept[: -_MAX_ERROR * 4]


async def _read(stream: trio.abc.ReceiveStream, most: int, into: Path | None, taken: bytearray) -> bool:
    """Whether all that was written is at most that much."""
    size = 0
    file = None if into is None else os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while piece := await stream.receive_some(_PIECE):
            size += len(piece)
            if file is None:
                taken += piece
            if size > most:
                return False
            if file is not None:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(file, rest) :]
    finally:
        if file is not None:
            os.close(file)
    return True
