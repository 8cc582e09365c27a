"""What a dispatch may carry: every limit, and the checks both sides make. Reading files and hashing them are not here.

The same functions run where a dispatch is composed and where it is admitted, so what one side sends the other takes.
Lengths are counted in characters (Unicode code points) unless a name says bytes.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from peer.protocol.errors import Invalid, TooLarge

MB: Final = 1024 * 1024
MAX_TASK: Final = 100_000
MAX_FILES: Final = 50
MAX_FILE_BYTES: Final = 5 * MB
MAX_FILE_NAME_BYTES: Final = 255  # NAME_MAX of every file system that a run may happen on
MAX_PROJECT: Final = 200
MAX_LINKS: Final = 10
MAX_LINK: Final = 500
MAX_DELIVERABLE: Final = 2_000
MAX_BACKGROUND: Final = 20_000
MAX_METADATA: Final = 32
MAX_METADATA_KEY: Final = 64
MAX_METADATA_VALUE: Final = 1_000
MIN_LIFETIME_SECONDS: Final = 60
MAX_LIFETIME_SECONDS: Final = 86_400
DEFAULT_LIFETIME_SECONDS: Final = 3_600

# Names that Windows gives to devices, whatever the extension: a returned or sent file may be opened there.
_DEVICE_NAME = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_NOT_IN_NAMES: Final = frozenset('/\\:*?"<>|')
_UNSHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Joiners are format characters (Cf) that Persian, Indic scripts and emoji spell with.
_JOINERS: Final = frozenset("\u200c\u200d")


class FileFact(msgspec.Struct, frozen=True):
    """What is known of a file before it is read: the name it will have and its size in bytes."""

    name: str
    size: int


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a dispatch that its sender writes."""

    task: str
    files: tuple[FileFact, ...] = ()
    project: str = ""
    links: tuple[str, ...] = ()
    deliverable: str = ""
    background: str = ""
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    lifetime_seconds: int = DEFAULT_LIFETIME_SECONDS


def check_payload(payload: Payload) -> None:
    """Raise TooLarge (413) or Invalid (422) for the first rule that `payload` breaks."""
    check_task(payload.task)
    check_lifetime(payload.lifetime_seconds)
    check_files(payload.files)
    check_text("the project hint", payload.project, MAX_PROJECT)
    check_links(payload.links)
    check_text("the deliverable", payload.deliverable, MAX_DELIVERABLE)
    check_text("the background", payload.background, MAX_BACKGROUND)
    check_metadata(payload.metadata)


def check_task(task: str) -> None:
    """The task is kept verbatim; it must say something."""
    check_text("the task", task, MAX_TASK)
    if not task.strip():
        raise Invalid("the task is empty", fix="say in words what is to be done")


def check_text(what: str, text: str, limit: int) -> None:
    """`text` must be encodable and at most `limit` characters; `what` names it in the error."""
    _bounded(what, len(text), limit, "characters")
    _encodable(what, text)


def check_lifetime(seconds: int) -> None:
    """60 to 86,400 whole seconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise Invalid("the expiry is not a whole number of seconds", fix="give 60 to 86,400, say 3600")
    if not MIN_LIFETIME_SECONDS <= seconds <= MAX_LIFETIME_SECONDS:
        off = (
            f"{MIN_LIFETIME_SECONDS - seconds:,} too few"
            if seconds < MIN_LIFETIME_SECONDS
            else f"{seconds - MAX_LIFETIME_SECONDS:,} too many"
        )
        raise Invalid(
            f"the expiry is {seconds:,} seconds: {off}",
            fix=f"give {MIN_LIFETIME_SECONDS} to {MAX_LIFETIME_SECONDS:,} seconds",
        )


def check_files(files: Sequence[FileFact]) -> None:
    """At most 50 files, 1 byte to 5 MB each, with plain names that stay distinct on every file system."""
    _bounded("the list of files", len(files), MAX_FILES, "files")
    seen: dict[str, str] = {}
    for file in files:
        check_file_name(file.name)
        if file.size < 1:
            raise Invalid(f"the file {file.name} is empty", fix="leave it out, or put something in it")
        _bounded(f"the file {file.name}", file.size, MAX_FILE_BYTES, "bytes")
        key = _folded(file.name)
        if key in seen:
            raise Invalid(
                f"two files would have the same name: {seen[key]} and {file.name}",
                fix="rename one; names that differ only in case or accents' encoding count as the same",
            )
        seen[key] = file.name


def check_file_name(name: str) -> None:
    """A plain base name: no folders, nothing unshown, nothing that some file system gives another meaning."""
    _encodable("a file name", name)
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[:80])
    fix = "use a plain base name, such as report.txt"
    if name in ("", ".", ".."):
        raise Invalid(f"`{name}` is not a file name", fix=fix)
    if "/" in name or "\\" in name:
        raise Invalid(f"the file name `{shown}` names a folder", fix=fix)
    if any(_unshown(c) for c in name):
        raise Invalid(f"the file name `{shown}` holds characters that cannot be seen", fix=fix)
    if bad := next((c for c in name if c in _NOT_IN_NAMES), None):
        raise Invalid(f"the file name `{shown}` holds `{bad}`, which not every system allows", fix=fix)
    if name != name.strip() or name.endswith("."):
        raise Invalid(f"the file name `{shown}` begins or ends with a space, or ends with a dot", fix=fix)
    if _DEVICE_NAME.fullmatch(name):
        raise Invalid(f"the file name `{shown}` is the name of a device on Windows", fix=fix)
    _bounded(f"the file name `{shown}`", len(name.encode()), MAX_FILE_NAME_BYTES, "bytes")


def check_links(links: Iterable[str]) -> None:
    """At most 10 addresses of at most 500 characters, http or https, each with a host and without a password."""
    links = tuple(links)
    _bounded("the list of links", len(links), MAX_LINKS, "links")
    for link in links:
        check_text("a link", link, MAX_LINK)
        fix = "give a whole address, such as https://example.org/page"
        if any(c.isspace() or _unshown(c) for c in link):
            raise Invalid("a link holds a space or a character that cannot be seen", fix=fix)
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
            raise Invalid(f"the link to {host} carries a user name or password", fix="leave out what is before the @")


def check_metadata(metadata: Mapping[str, str]) -> None:
    """At most 32 pairs; keys of 1 to 64 shown characters, values of at most 1,000."""
    _bounded("the metadata", len(metadata), MAX_METADATA, "pairs")
    for key, value in metadata.items():
        check_text("a metadata key", key, MAX_METADATA_KEY)
        if not key.strip() or any(_unshown(c) for c in key):
            raise Invalid("a metadata key is empty or holds characters that cannot be seen", fix="give key=value")
        check_text(f"the metadata value of {key}", value, MAX_METADATA_VALUE)


def _bounded(what: str, actual: int, limit: int, unit: str) -> None:
    if actual > limit:
        raise TooLarge(
            f"{what} is {actual:,} {unit}; the limit is {limit:,}: {actual - limit:,} too many",
            fix=f"keep it to {limit:,} {unit}",
        )


def _encodable(what: str, text: str) -> None:
    # A lone surrogate (a file name that is not UTF-8, half an emoji out of JSON) cannot be encoded, so not signed.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{what} is not valid Unicode text", fix="give it as UTF-8") from None


def _unshown(character: str) -> bool:
    return unicodedata.category(character) in _UNSHOWN and character not in _JOINERS


def _folded(name: str) -> str:
    # Canonical caseless matching, Unicode 15 section 3.13 D145: NFD(casefold(NFD(x))).
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
