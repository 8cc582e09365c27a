"""Wheels in uv's cache that came from PyPI. Looks, and runs nothing. Blocking.

Layout (uv's crates uv-cache and uv-distribution; tried with uv 0.6, 0.8, 0.10 and 0.13, whose buckets are wheels-v5 to
wheels-v8): wheels-vN/pypi/NAME holds what came from https://pypi.org/simple alone. A .http file there is a MessagePack
value, the policy by which the answer was kept, and in 8 bytes the length of the policy, from wheels-v8 on of the value.
The value names an unpacked wheel in archive-v0 and the digest of the wheel; the policy holds the address that it came
from. uv finds a wheel by that file. An entry of another form is left alone.

An unpacked wheel may not be what it was: uv makes hard links of it, and whoever edits a package in an environment
edits the cache. So its files are compared with the wheel's own list of them (RECORD).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from peer.machine import looking
from peer.projects.cache_files import File, Room, left_out, names, without_links
from peer.projects.lock_files import Package
from sandbox.network.packages.wanted import normal_name

PYPI: Final = frozenset({"https://pypi.org/simple", "https://pypi.org/simple/"})
_FILES: Final = "https://files.pythonhosted.org/"
_BUCKET: Final = re.compile(r"wheels-v([1-9][0-9]{0,3})")
_OLDEST: Final = 5
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,126}[a-z0-9])?")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_POINTER: Final = 64 * 1024
_RECORD: Final = 16 * 1024 * 1024
_DEEPEST: Final = 40


class Pointer(NamedTuple):
    """What a .http file says: the archive's id, the SHA-256 of the wheel in hex, the wheel's name, and the policy."""

    archive: str
    sha256: str
    wheel: str
    policy: bytes


def cache_folder(env: Mapping[str, str], home: Path) -> Path:
    """Where uv keeps its cache."""
    return home / (env.get("UV_CACHE_DIR") or Path(env.get("XDG_CACHE_HOME") or ".cache") / "uv")


def wheels(cache: Path, packages: Iterable[Package], room: Room) -> Iterator[list[File]]:
    """The files of each wheel, and of uv's record of it."""
    wanted: dict[str, dict[str, Package]] = defaultdict(dict)
    for package in packages:
        if package.source in PYPI and package.address.startswith(_FILES) and _NAME.fullmatch(package.name):
            wanted[package.name][package.integrity] = package
    buckets = [name for name in names(cache) if (match := _BUCKET.fullmatch(name)) and int(match[1]) >= _OLDEST]
    buckets.sort(key=lambda name: int(name.partition("-v")[2]), reverse=True)
    for name, packages_of in wanted.items():
        for bucket in buckets:
            folder = without_links(cache, bucket, "pypi", name)
            for file in names(folder) if folder else []:
                if not file.endswith(".http") or (path := without_links(cache, bucket, "pypi", name, file)) is None:
                    continue
                pointer = read_pointer(looking.start(path, _POINTER))
                package_found = packages_of.get(f"sha256:{pointer.sha256}") if pointer else None
                if pointer is None or package_found is None or not _is_of(pointer, package_found):
                    continue
                archive = without_links(cache, "archive-v0", pointer.archive)
                unpacked = _unpacked(archive, room) if archive else None
                if unpacked is None:
                    left_out(path, "its files differ from the wheel's own list, or are too many")
                    continue
                del packages_of[package_found.integrity]
                place = f"uv/archive-v0/{pointer.archive}"
                # Last what names the others.
                yield [
                    *(File(path, f"{place}/{inside}") for inside, path in unpacked.items()),
                    File(path, f"uv/{bucket}/pypi/{name}/{file}"),
                ]


def read_pointer(content: bytes) -> Pointer | None:
    """A .http file; None for one that is of another form."""
    length = int.from_bytes(content[-8:], "little")
    # Where the value ends is where it can be read to its end.
    ends = [end for end in (len(content) - 8 - length, length) if 0 < end <= len(content) - 8]
    return next((pointer for end in ends if (pointer := _pointer(content[:end], content[end:-8]))), None)


def _pointer(content: bytes, policy: bytes) -> Pointer | None:
    try:
        value = msgspec.msgpack.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, ValueError):
        return None
    if isinstance(value, dict):
        value = [value.get(member) for member in ("id", "hashes", "filename", "version")]
    if not isinstance(value, list) or len(value) not in (4, 5):
        return None
    archive, hashes, wheel, version = value[:4]
    digest = _sha256(hashes)
    # 0: of archive-v0.
    if not isinstance(archive, str) or not _ID.fullmatch(archive) or not isinstance(wheel, str) or version != 0:
        return None
    return Pointer(archive, digest, wheel, policy) if digest else None


def _sha256(hashes: object) -> str:
    for one in hashes if isinstance(hashes, list) else []:
        pair = next(iter(one.items())) if isinstance(one, dict) and one else one
        if isinstance(pair, list | tuple) and len(pair) == 2 and pair[0] == "Sha256" and isinstance(pair[1], str):
            return pair[1]
    return ""


def _is_of(pointer: Pointer, package: Package) -> bool:
    try:
        name, version, _, _ = parse_wheel_filename(pointer.wheel)
    except InvalidWheelFilename:
        return False
    named = (normal_name("pip", name), str(version)) == (package.name, package.version)
    return named and package.address.endswith(".whl") and package.address.encode() in pointer.policy


def _unpacked(archive: Path, room: Room) -> dict[str, Path] | None:
    """Place in a wheel → file. None where something is not as the wheel's list has it, or there is no room."""
    found: dict[str, Path] = {}
    size = 0
    folders = [("", archive)]
    while folders:
        at, folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    place = f"{at}{entry.name}"
                    if entry.is_dir(follow_symlinks=False) and place.count("/") < _DEEPEST:
                        folders.append((f"{place}/", Path(entry.path)))
                    elif entry.is_file(follow_symlinks=False):
                        found[place] = Path(entry.path)
                        size += entry.stat(follow_symlinks=False).st_size
                    else:
                        return None
                    if not room.holds(len(found) + len(folders) + 1, size):
                        return None
        except OSError:
            return None
    records = [place for place in found if place.count("/") == 1 and place.endswith(".dist-info/RECORD")]
    if len(records) != 1:
        return None
    listed = _listed(looking.text(found[records[0]], _RECORD))
    for place, path in found.items():
        if place != records[0] and listed.get(place) != _digest(path):
            return None
    return found


def _listed(record: str) -> dict[str, str]:
    """Place → digest, of a wheel's RECORD (packaging.python.org, "Recording installed projects")."""
    try:
        return {row[0]: row[1] for row in csv.reader(io.StringIO(record, newline="")) if len(row) == 3 and row[1]}
    except csv.Error:
        return {}


def _digest(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            digest = hashlib.file_digest(file, "sha256").digest()
    except (OSError, ValueError):
        return ""
    return f"sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
