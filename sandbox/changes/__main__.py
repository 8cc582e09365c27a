"""`python -m sandbox.changes RUN_FOLDER DESTINATION`: writes the change set of a run whose last process has died.

On stdout one line of JSON: digest, entries, marked, conflicts, bytes, incomplete; exit status 0. Otherwise 1 (this
machine's disk or the record of the views fails) or 2 (usage), with {code, message, fix} in that line.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
from pathlib import Path
from typing import Final

import msgspec

from sandbox.changes.bounds import SECONDS, Bounds
from sandbox.changes.change_set import change_set, views_of
from sandbox.changes.commits import with_commits
from sandbox.changes.contents import Texts
from sandbox.changes.freeze import Blobs
from sandbox.changes.patch import patch
from sandbox.changes.values import BLOBS, CHANGE_SET, PATCH, ChangeSet
from sandbox.errors import SandboxError

_MEMORY: Final = 2_000_000_000
"""Bytes of address space."""
_FILES: Final = 256
_CPU: Final = int(SECONDS) * 3
"""Seconds of processor time."""
_TEMPORARY: Final = ".changes.json.partial"


def main(arguments: list[str]) -> int:
    """Run the program; return its exit status."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if len(arguments) != 2:
        return _failed(2, SandboxError("usage: python -m sandbox.changes RUN_FOLDER DESTINATION", code=422))
    for limit, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _CPU),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (lower, lower))
    os.umask(0o077)
    run_folder, destination = Path(arguments[0]), Path(arguments[1])
    try:
        content = written(run_folder, destination)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        problem = f"the changes of a run could not be written down: {error}"
        return _failed(1, SandboxError(problem, fix="look whether the disk is full", code=503))
    print(msgspec.json.encode(_summary(content)).decode())  # noqa: T201
    return 0


def written(run_folder: Path, destination: Path) -> bytes:
    """Write the change set, its patch and its blobs; return the bytes of changes.json.

    Doing it again after a crash finds the same. Raises OSError, ValueError, msgspec.DecodeError.
    """
    destination.mkdir(mode=0o700, exist_ok=True)
    views = views_of(run_folder)
    with Blobs(destination / BLOBS) as blobs:
        fresh = destination / _TEMPORARY
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            now_ns = os.fstat(file.fileno()).st_ctime_ns
            bounds = Bounds()
            found = change_set(run_folder, views, blobs, now_ns, bounds)
            found = with_commits(found, run_folder, destination, blobs, bounds)
            content = msgspec.json.encode(found)
            file.write(content)
        if text := patch(found, Texts(found, destination)):
            (destination / PATCH).write_text(text, "utf-8", "surrogateescape", newline="")
        blobs.sync()
        fresh.replace(destination / CHANGE_SET)
    folder = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return content


def _summary(content: bytes) -> dict[str, object]:
    found = msgspec.json.decode(content, type=ChangeSet)
    return {
        "digest": hashlib.sha256(content).hexdigest(),
        "entries": len(found.entries),
        "marked": sum(1 for one in found.entries if one.marks),
        "conflicts": sum(1 for one in found.entries if one.conflict),
        "bytes": sum(one.size for one in found.entries),
        "incomplete": found.incomplete,
    }


def _failed(status: int, error: SandboxError) -> int:
    print(msgspec.json.encode(error.to_json()).decode())  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
