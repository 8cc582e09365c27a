"""The rules of a dispatch's content beyond its limits: task, file names, links. Reading files is not here. Pure.

The same functions run where a dispatch is composed and where it is admitted, so whatever one side sends, the other
accepts. The limits are those of the fields (peer/protocol/content.py).
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec

from peer.protocol.content import (
    MAX_FILE_BYTES,
    MAX_FILE_NAME_BYTES,
    MAX_FILES,
    Content,
    F,
    check_count,
    check_limits,
    check_unicode,
)
from peer.protocol.content import check_text as check_text
from peer.protocol.errors import Invalid

# Device names of Windows, with any extension: a sent or returned file may be opened there.
_DEVICE_NAME = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_NOT_IN_NAMES: Final = frozenset('/\\:*?"<>|')
_UNSHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Format characters (Cf) that the spelling of Persian, Indic scripts and emoji needs.
_JOINERS: Final = frozenset("\u200c\u200d")


class AnyFile(Protocol):
    """A file's name and its size in bytes."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...


class FileFact(msgspec.Struct, frozen=True):
    """A file before it is read: the name it will have and its size in bytes."""

    name: str
    size: int


def check_content(content: Content[F]) -> None:
    """Raise TooLarge (413) or Invalid (422) for the first broken rule, files excepted (see `check_files`)."""
    check_limits(content.values())
    check_task(content.task)
    check_links(content.links)
    check_meta(content.meta)


def check_task(task: str) -> None:
    """Raise Invalid for a task of white space only. It is not changed: a task is kept verbatim."""
    if not task.strip():
        raise Invalid("the task is empty", fix="describe in words what is to be done")


def check_files(files: Sequence[AnyFile]) -> None:
    """Raise unless there are at most 50 files of 1 byte to 5 MB, with names that are distinct on every file system."""
    check_count("the list of files", len(files), MAX_FILES, "files")
    seen: dict[str, str] = {}
    for file in files:
        check_file_name(file.name)
        if file.size < 1:
            raise Invalid(f"the file {file.name} is empty", fix="leave it out, or put something in it")
        check_count(f"the file {file.name}", file.size, MAX_FILE_BYTES, "bytes")
        key = _folded(file.name)
        if key in seen:
            raise Invalid(
                f"two files would have the same name: {seen[key]} and {file.name}",
                fix="rename one; names that differ only in upper and lower case, or in how accents are encoded, count "
                "as the same",
            )
        seen[key] = file.name


def check_file_name(name: str) -> None:
    """Raise Invalid unless it is a plain base name: visible characters, no separators, valid on every file system."""
    check_unicode("a file name", name)
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[:80])
    fix = "use a plain base name, such as report.txt"
    if name in ("", ".", ".."):
        raise Invalid(f"`{name}` is not a file name", fix=fix)
    if "/" in name or "\\" in name:
        raise Invalid(f"the file name `{shown}` names a folder", fix=fix)
    if any(_unshown(c) for c in name):
        raise Invalid(f"the file name `{shown}` contains invisible characters", fix=fix)
    if bad := next((c for c in name if c in _NOT_IN_NAMES), None):
        raise Invalid(f"the file name `{shown}` contains `{bad}`, which some systems do not allow", fix=fix)
    if name != name.strip() or name.endswith("."):
        raise Invalid(f"the file name `{shown}` begins or ends with a space, or ends with a dot", fix=fix)
    if _DEVICE_NAME.fullmatch(name):
        raise Invalid(f"the file name `{shown}` is the name of a device on Windows", fix=fix)
    check_count(f"the file name `{shown}`", len(name.encode()), MAX_FILE_NAME_BYTES, "bytes")


def check_links(links: Iterable[str]) -> None:
    """Raise Invalid unless each is an http or https URL with a host and without a password."""
    for link in links:
        fix = "give a full address, such as https://example.org/page"
        if any(c.isspace() or _unshown(c) for c in link):
            raise Invalid("a link contains a space or an invisible character", fix=fix)
        try:
            parts = urlsplit(link)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise Invalid(f"`{link}` is not an address", fix=fix) from None
        if parts.scheme not in ("http", "https"):
            raise Invalid(f"`{link}` is not an http or https address", fix=fix)
        if not host:
            raise Invalid(f"`{link}` names no host", fix=fix)
        if "@" in parts.netloc:
            raise Invalid(f"the link to {host} carries a user name or password", fix="leave out the part before the @")


def check_meta(meta: Mapping[str, str]) -> None:
    """Raise Invalid unless all keys consist of visible characters."""
    for key in meta:
        if not key.strip() or any(_unshown(c) for c in key):
            raise Invalid("a key of the metadata is empty or contains invisible characters", fix="give key=value")


def _unshown(character: str) -> bool:
    return unicodedata.category(character) in _UNSHOWN and character not in _JOINERS


def _folded(name: str) -> str:
    # Canonical caseless matching, Unicode 15 section 3.13 D145: NFD(casefold(NFD(x))).
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
