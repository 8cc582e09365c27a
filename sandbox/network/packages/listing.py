"""The addresses of files that a registry's list of a Python package names (PEP 503, 691). Pure."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec

from sandbox.network.packages.upstream import is_followed

JSON: Final = "application/vnd.pypi.simple.v1+json"
HTML: Final = "text/html"
MOST: Final = 20_000
"""Addresses of one list that are kept."""


class _File(msgspec.Struct):
    url: str


class _List(msgspec.Struct):
    files: list[_File] = []


def files(content: bytes, content_type: str, address: str, *, wanted: Callable[[str], bool]) -> frozenset[str]:
    """Return the https addresses, without fragments and queries, whose paths are `wanted`.

    `address`: of the list itself. What is no list names nothing. A large one takes seconds.
    """
    found: set[str] = set()
    try:
        named = _named(content, content_type)
        base = urljoin(address, named[0])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return frozenset()
    for url in named[1]:
        try:
            whole = urlsplit(urljoin(base, url))
        except ValueError:
            continue
        target = f"https://{whole.netloc.lower()}{whole.path}"
        if whole.scheme == "https" and wanted(whole.path) and is_followed(target, from_there=address):
            found.add(target)
            if len(found) == MOST:
                break
    return frozenset(found)


def _named(content: bytes, content_type: str) -> tuple[str, list[str]]:
    """What addresses are relative to, "" for the list's own; the addresses."""
    if "json" in content_type:
        return "", [file.url for file in msgspec.json.decode(content, type=_List).files]
    parser = _Links()
    parser.feed(content.decode("utf-8", "replace"))
    return parser.base, parser.found


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if tag == "a" and target:
            self.found.append(target)
        elif tag == "base" and target and not self.base:
            self.base = target
