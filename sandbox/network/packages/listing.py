"""The addresses of files that a registry's list of a Python package names (PEP 503, 691). Pure."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec

JSON: Final = "application/vnd.pypi.simple.v1+json"
HTML: Final = "text/html"


class _File(msgspec.Struct):
    url: str


class _List(msgspec.Struct):
    files: list[_File] = []


def files(content: bytes, content_type: str, address: str) -> frozenset[str]:
    """Return the https addresses, without fragments and queries. `address`: of the list itself."""
    if "json" in content_type:
        try:
            named = [file.url for file in msgspec.json.decode(content, type=_List).files]
        except msgspec.MsgspecError:
            return frozenset()
    else:
        parser = _Links()
        parser.feed(content.decode("utf-8", "replace"))
        named = parser.found
        address = urljoin(address, parser.base)
    found = set()
    for url in named:
        try:
            whole = urlsplit(urljoin(address, url))
        except ValueError:
            continue
        if whole.scheme == "https" and whole.hostname:
            found.add(f"https://{whole.netloc.lower()}{whole.path}")
    return frozenset(found)


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
