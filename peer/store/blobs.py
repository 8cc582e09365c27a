"""Files named by their SHA-256 beside the database: written whole, fsynced, renamed. Blocking calls; no SQL here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from peer.machine.plain_file import open_plain
from peer.protocol.errors import TooLarge, Unavailable
from sandbox.reflink import reflink

PIECE = 256 * 1024
"""Bytes read, hashed and written at once: few enough to be in the processor's cache all the while."""


@dataclass(frozen=True)
class StagedFile:
    """A durable copy of a file that no statement refers to yet.

    `keep` those of a statement in the transaction that adds it, or `discard` each.
    """

    name: str
    size: int
    digest: bytes
    temporary: Path
    place: Path

    def discard(self) -> None:
        """Delete the copy, unless it was kept."""
        self.temporary.unlink(missing_ok=True)


def keep(files: Sequence[StagedFile]) -> None:
    """Rename the copies to their places as blobs, durably. Raises Unavailable.

    The folders are synced after the last rename: a journalling file system then writes all of the renames at once.
    """
    try:
        for file in files:
            file.place.parent.mkdir(mode=0o700, exist_ok=True)
            if file.temporary.exists() or not file.place.exists():  # else an attempt that was rolled back has kept it
                file.temporary.replace(file.place)
        folders = {file.place.parent for file in files}
        for folder in (*sorted(folders), *sorted({folder.parent for folder in folders})):
            _sync_folder(folder)
    except OSError as error:
        raise _not_stored(error) from error


class Blobs:
    """The folder of blobs. A blob is renamed to its digest when complete, so every blob that exists is complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: bytes) -> Path:
        """Return the path of the blob with this digest, whether or not it exists."""
        text = digest.hex()
        return self.folder / text[:2] / text

    def destination(self, digest: bytes) -> Path:
        """Return `path` and create its folder, durably: whoever puts it there syncs that folder alone."""
        path = self.path(digest)
        # Two calls: `parents=True` would create the upper folder with the mode of the umask.
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(self.folder)
        return path

    def part(self, digest: bytes, device: str) -> Path:
        """Return the path of the partial file of a blob that is being fetched from a device.

        One per device, so that a slow device does not delay another that sends the same blob.
        """
        return self.path(digest).with_name(f"{digest.hex()}.{device}.part")

    def take_in(self, source: Path, name: str, *, limit: int) -> StagedFile:
        """Copy a regular file of at most `limit` bytes into the blob folder and fsync it.

        Where the file system can share the blocks of a file until one of the two is changed, nothing is copied.

        Raises NotFound, Invalid for anything but a regular file, TooLarge, Unavailable for errors of the disk.
        """
        with open_plain(source) as file:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            hasher, size = hashlib.sha256(), 0
            piece = memoryview(bytearray(PIECE))
            temporary = self.folder / f".in-{os.getpid()}-{os.urandom(8).hex()}"
            try:
                with open(temporary, "x+b", buffering=0, opener=_private) as out:
                    cloned = reflink(file.fileno(), out.fileno())
                    while count := os.readv(out.fileno() if cloned else file.fileno(), [piece]):
                        size += count
                        if size > limit:
                            raise TooLarge(
                                f"{source.name} has more than {limit} bytes",
                                fix="send a smaller file, or share it by link",
                            )
                        # The bytes that are hashed are those that are written, whatever becomes of the source.
                        hasher.update(piece[:count])
                        if not cloned:
                            _write(out.fileno(), piece[:count])
                    os.fsync(out.fileno())
            except BaseException as error:
                temporary.unlink(missing_ok=True)
                if isinstance(error, OSError):
                    raise _not_stored(error) from error
                raise
        digest = hasher.digest()
        return StagedFile(name, size, digest, temporary, self.path(digest))

    def remove(self, digest: bytes) -> None:
        """Delete a blob and its partial files, in a transaction that saw no row that needs them. Raises OSError."""
        path = self.path(digest)
        for each in (path, *path.parent.glob(f"{path.name}.*")):
            each.unlink(missing_ok=True)

    def sweep(self, *, ready: Collection[bytes], awaited: Collection[bytes]) -> int:
        """Remove files that are neither ready for a statement nor awaited by one; return how many.

        These were left by a crash: copies, partial transfers, blobs without a statement. Call it only while nothing is
        copied or fetched.
        """
        whole, coming = {digest.hex() for digest in ready}, {digest.hex() for digest in awaited}
        removed = 0
        for path in list(self.folder.glob(".in-*")) + list(self.folder.glob("??/*")):
            if path.name not in whole and path.name.partition(".")[0] not in coming:
                path.unlink(missing_ok=True)
                removed += 1
        return removed


def _not_stored(error: OSError) -> Unavailable:
    return Unavailable(f"the file could not be stored: {error.strerror}", fix="free some disk space, then try again")


def _write(descriptor: int, data: memoryview) -> None:
    while data.nbytes:
        data = data[os.write(descriptor, data) :]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
