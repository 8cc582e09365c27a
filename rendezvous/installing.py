"""What the operator says about installing dispatch, for invitations. Nothing is made up where nothing was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import click

from peer.protocol.errors import Invalid

MAX_COMMANDS: Final = 8
MAX_COMMAND: Final = 400
MAX_URL: Final = 400
"""Characters."""


@dataclass(frozen=True, slots=True)
class Installing:
    """Commands to be typed one after the other, and the address of a page; both may be empty."""

    commands: tuple[str, ...] = ()
    url: str = ""

    def __bool__(self) -> bool:
        return bool(self.commands or self.url)


class CommandLine(click.types.StringParamType):
    """A command as an option's value; in an environment variable each stands on a line of its own."""

    name = "text"
    envvar_list_splitter = "\n"


def read_installing(commands: Sequence[str], url: str) -> Installing:
    """Check what the operator gave. Raises Invalid."""
    given = tuple(command.strip() for command in commands if command.strip())
    if len(given) > MAX_COMMANDS:
        raise Invalid(f"{len(given)} install commands: at most {MAX_COMMANDS} fit in a mail", fix="join some with &&")
    for command in given:
        if not command.isprintable() or len(command) > MAX_COMMAND:
            raise Invalid(
                "--install-command takes one line of printable text",
                fix=f"repeat the option for each command, with at most {MAX_COMMAND} characters each",
            )
    return Installing(given, _read_url(url.strip()))


def _read_url(url: str) -> str:
    if not url:
        return ""
    fix = "write it like https://example.org/install-dispatch"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid("--install-url is not a URL", fix=fix) from error
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise Invalid("--install-url is not the address of a web page", fix=fix)
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > MAX_URL:
        raise Invalid("--install-url is too long, or contains characters that are not allowed in a URL", fix=fix)
    return url
