"""`python -m sandbox.commits RUN_FOLDER WORK`: packs and checks the commits of a run whose last process has died.

On stdin a `Request`, on stdout an `Answer`, as JSON; the files that it names are in the folder WORK. Exit status 0, or
1 where the request cannot be read. It is a program of its own since it mounts views, in a namespace that ends with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio

from sandbox.commits.confined import has_git
from sandbox.commits.gathering import Repository, gather
from sandbox.commits.values import Answer, Found, Request, Wanted
from sandbox.confinement.given import open_given
from sandbox.errors import SandboxError
from sandbox.views import namespace, overlay
from sandbox.views.overlay import NoOverlayError
from sandbox.views.record import ViewRecord

SECONDS: Final = 240.0
"""For all repositories together."""
MAX_REPOSITORIES: Final = 20
_MAX_REQUEST: Final = 20_000_000
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> int:
    """Run the program; return its exit status."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.umask(0o077)
    try:
        run_folder, work = map(Path, arguments)
        request = msgspec.json.decode(sys.stdin.buffer.read(_MAX_REQUEST), type=Request)
    except (ValueError, msgspec.MsgspecError):
        return 1
    found: list[Found] = []
    if has_git():
        # Before there is a second thread: the kernel makes no user's namespace for a process with several.
        no_overlay = namespace.enter() if any(each.view.kind == "overlay" for each in request.wanted) else ""
        trio.run(_all, request, run_folder, work, no_overlay, found)
    sys.stdout.buffer.write(msgspec.json.encode(Answer(found=found)))
    return 0


async def _all(request: Request, run_folder: Path, work: Path, no_overlay: str, found: list[Found]) -> None:
    left = MAX_REPOSITORIES
    asked = [(wanted, path) for wanted in request.wanted for path in wanted.paths]
    with trio.move_on_after(SECONDS):
        for wanted in request.wanted:
            paths = wanted.paths[:left]
            left -= len(paths)
            await _of_view(wanted, paths, run_folder, work, no_overlay, found)
    told = {(each.view, each.path) for each in found}
    why = f"there are more than {MAX_REPOSITORIES} repositories" if left <= 0 else "git took too long"
    for wanted, path in asked:
        if (wanted.view.number, path) not in told:
            found.append(Found(view=wanted.view.number, path=path, problem=why))


async def _of_view(
    wanted: Wanted, paths: list[bytes], run_folder: Path, work: Path, no_overlay: str, found: list[Found]
) -> None:
    try:
        with _seen(wanted.view, run_folder, no_overlay) as seen:
            for path in paths:
                found.append(await gather(Repository(wanted.view, seen, path), work, str(len(found))))
    except (NoOverlayError, SandboxError, OSError) as error:
        why = f"the run's view cannot be mounted once more: {error}"
        found += [Found(view=wanted.view.number, path=path, problem=why) for path in paths]


@contextmanager
def _seen(record: ViewRecord, run_folder: Path, no_overlay: str) -> Iterator[Path]:
    """Where what the run left in a view can be read, all of it."""
    folder = record.folder(run_folder)
    if record.kind == "copy":
        yield folder / "copy"
        return
    if no_overlay:
        raise NoOverlayError(no_overlay)
    original = open_given(Path(record.root))
    try:
        with overlay.mounted_to_read(original, folder) as merged:
            yield merged
    finally:
        os.close(original)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
