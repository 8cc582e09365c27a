"""Files named by their SHA-256 beside the database: written whole, fsynced, renamed. Blocking calls; no SQL here."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from peer.protocol.errors import Invalid, NotFound, TooLarge, Unavailable

PIECE = 1 << 20


class Blobs:
    """The folder of blobs. Every name is the digest of the content, so a file that is there is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: bytes) -> Path:
        """Return where the blob of this digest lives, whether or not it is there."""
        text = digest.hex()
        return self.folder / text[:2] / text

    def destination(self, digest: bytes) -> Path:
        """Return `path`, its folder made."""
        path = self.path(digest)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def take_in(self, source: Path, *, limit: int) -> tuple[int, bytes]:
        """Copy a regular file of at most `limit` bytes in; return (size, digest).

        Raises NotFound, Invalid for anything but a regular file, TooLarge, Unavailable when the disk refuses.
        """
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise NotFound(f"there is no file {source}", fix="check the path") from error
        except OSError as error:
            raise Invalid(f"{source} cannot be read: {error.strerror}", fix="check its permissions") from error
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise Invalid(f"{source} is not a regular file", fix="pack a folder into an archive and send that")
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            hasher, size = hashlib.sha256(), 0
            temporary = self.folder / f".in-{os.getpid()}-{os.urandom(8).hex()}"
            try:
                with open(temporary, "xb", opener=_private) as out:
                    while piece := file.read(PIECE):
                        size += len(piece)
                        if size > limit:
                            raise TooLarge(
                                f"{source.name} has more than {limit} bytes",
                                fix="send a smaller file, or share it by link",
                            )
                        hasher.update(piece)
                        out.write(piece)
                    out.flush()
                    os.fsync(out.fileno())
                digest = hasher.digest()
                temporary.replace(self.destination(digest))
                _sync_folder(self.path(digest).parent)
            except OSError as error:
                raise Unavailable(
                    f"the file could not be stored: {error.strerror}", fix="free some disk space, then try again"
                ) from error
            finally:
                temporary.unlink(missing_ok=True)
        return size, digest

    def drop(self, digest: bytes) -> None:
        """Remove a blob that nothing names any more."""
        self.path(digest).unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
