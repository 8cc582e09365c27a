"""Files dropped on the page, until they are sent: bounded, private, swept. No HTTP.

Each is in a folder of its own with a random name, so that the file keeps its name. SendService copies them into the
blobs like any file that a command names.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from peer.dispatches import payload
from peer.machine.state_folder import StateFolder
from peer.protocol.content import MAX_FILE_BYTES, MAX_FILES
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, NotFound, TooLarge, Unavailable

MAX_WAITING: Final = 4 * MAX_FILES
"""Files at once, of all tabs together: as many as four dispatches hold, at most a gigabyte."""
KEPT_SECONDS: Final = 6 * 3600
"""Age after which an unsent upload is deleted."""
ID_BYTES: Final = 16


class Uploads:
    """The folder of uploads of one daemon."""

    def __init__(self, state: StateFolder) -> None:
        self._folder = state.uploads

    async def take(self, name: str, pieces: AsyncIterator[bytes]) -> Document:
        """Store one file as its bytes arrive; return {upload, name, size}.

        Raises Invalid (a forbidden file name, an empty file), TooLarge, Unavailable; then nothing is left on disk.
        """
        payload.check_file_name(name)
        await trio.to_thread.run_sync(self._make_room)
        identity = secrets.token_hex(ID_BYTES)
        place = self._folder / identity
        size = 0
        try:
            place.mkdir(mode=0o700)
            async with await trio.open_file(_private(place / name), "wb") as file:
                async for piece in pieces:
                    size += len(piece)
                    if size > MAX_FILE_BYTES:
                        raise TooLarge(
                            f"the file {name} has more than {MAX_FILE_BYTES:,} bytes",
                            fix="send a smaller file, or share it by link",
                        )
                    await file.write(piece)
            payload.check_files((payload.FileFact(name, size),))
        except BaseException as error:
            shutil.rmtree(place, ignore_errors=True)
            if isinstance(error, OSError):
                raise Unavailable(
                    f"the file could not be stored: {error.strerror}", fix="free some disk space, then try again"
                ) from error
            raise
        return {"upload": identity, "name": name, "size": size}

    def paths(self, identities: Sequence[str]) -> list[Path]:
        """Return the paths of these uploads. Raises NotFound."""
        return [self._path(identity) for identity in identities]

    def drop(self, identities: Sequence[str]) -> None:
        """Delete those of these uploads that exist. Blocking."""
        for identity in identities:
            with suppress(DispatchError):
                shutil.rmtree(self._path(identity).parent, ignore_errors=True)

    def sweep(self) -> None:
        """Delete all uploads, at the start of a daemon: no open form refers to them any more. Blocking."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, identity: str) -> Path:
        place = self._folder / identity
        if len(identity) == 2 * ID_BYTES and set(identity) <= set("0123456789abcdef") and place.is_dir():
            for path in place.iterdir():
                return path
        raise NotFound("a file is no longer here", fix="drop it on the page again")

    def _make_room(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            waiting = 0
            for place in self._folder.iterdir():
                if time.time() - place.stat().st_mtime > KEPT_SECONDS:
                    shutil.rmtree(place, ignore_errors=True)
                else:
                    waiting += 1
        except OSError as error:
            raise Unavailable(
                f"the file could not be stored: {error.strerror}", fix="check that the state folder is yours"
            ) from error
        if waiting >= MAX_WAITING:
            raise TooLarge(
                f"{waiting} files wait to be sent already; at most {MAX_WAITING} can",
                fix="send or discard the dispatches they belong to",
            )


def _private(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
