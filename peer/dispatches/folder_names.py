"""What the person's folders are called in what leaves this machine, and the replacement of their paths by it. Pure.

A run sees a granted folder at its own path, and whatever it prints may name that path: the user, the disk, how the
person orders their work. None of that is for the sender, so a folder's path becomes the project's name, a folder above
one becomes `…`, the home folder `~`. Paths are found as programs commonly write them: plain, in JSON, in addresses, for
a shell, as git quotes them, as one word with dashes, and from `~` or `$HOME` on.

It catches what programs say of themselves. It cannot catch a path that was cut up or encoded in another way, nor the
name of a folder above that stands alone, as `ls /home` prints it.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

ABOVE: Final = "…"
"""What a folder above a granted one is called."""
HOME: Final = "~"
_PUBLIC: Final = frozenset(
    {"/", "/data", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/run/media", "/srv", "/tmp", "/usr", "/var",  # noqa: S108 - names, not used
     "/var/home", "/var/lib", "/var/tmp", "/Users", "/Volumes"}  # noqa: S108
)  # fmt: skip
"""Folders that are the same on many machines; they stay as they are."""
_GIT: Final = ".git"
# A name goes on with these; a full stop ends a sentence unless a name goes on behind it. ASCII alone: some languages
# have no blank behind a name.
_END: Final = r"(?![A-Za-z0-9_-]|\.[A-Za-z0-9_])"
_END_OF_WORD: Final = r"(?![A-Za-z0-9_])"


def names_of(folders: Sequence[str]) -> dict[str, str]:
    """Return each folder's name, all different; the first keeps its own. Absolute paths without a slash at the end.

    A repository's own folder is called after the project that it is of: `till/.git`.
    """
    names: dict[str, str] = {}
    for folder in dict.fromkeys(folders):
        own, number = _own_name(folder), 1
        name = own
        while name in names.values():
            number += 1
            first, slash, rest = own.partition("/")
            name = f"{first}-{number}{slash}{rest}"
        names[folder] = name
    return names


def _own_name(folder: str) -> str:
    parts = folder.split("/")
    at = parts.index(_GIT) - 1 if _GIT in parts[2:] else len(parts) - 1
    return "/".join(parts[at:])


class _Form(NamedTuple):
    """A path as one kind of program writes it, and its name written so. `start`, `end`: patterns around it."""

    text: str
    name: str
    start: str = ""
    end: str = _END


class FolderNames:
    """Replaces paths by names in texts. Linear in a text's length."""

    def __init__(self, names: Mapping[str, str], *, homes: Iterable[str] = ()) -> None:
        """`names`: folder → name. `homes`: the home folder, by each of its names."""
        homes = [home for home in homes if home not in _PUBLIC]
        called = dict.fromkeys(homes, HOME)
        for folder in names:
            for above in _above(folder):
                called.setdefault(above, ABOVE)
        called |= names
        # By another name of the home folder they are the same.
        for path, name in list(called.items()):
            for home in homes:
                if path.startswith(f"{home}/"):
                    for other in homes:
                        called.setdefault(other + path[len(home) :], name)
        forms: dict[str, _Form] = {}
        for path, name in called.items():
            for form in _forms(path, name, homes):
                forms.setdefault(form.text, form)
        # The longest first: what is left of a path is not taken for another one.
        self._forms = sorted(forms.values(), key=lambda form: len(form.text), reverse=True)
        self._patterns: dict[_Form, re.Pattern[str]] = {}  # made when they are needed: that takes longest
        # A text with none of these has no form in it: each begins with that of the folder furthest above.
        tops = [path for path in called if not any(path.startswith(f"{other}/") for other in called)]
        needed = [part for top in tops for part in _beginnings(top)] + (_short(homes) if homes else [])
        self._needed = tuple(dict.fromkeys(needed))
        self._needed_bytes = tuple(part.encode("utf-8", "surrogateescape") for part in self._needed)

    def text(self, text: str) -> str:
        """Return the text with every path replaced."""
        if not any(part in text for part in self._needed):
            return text
        for form in self._forms:
            if form.text in text:
                text = self._pattern(form).sub(_constant(form.name), text)
        return text

    def _pattern(self, form: _Form) -> re.Pattern[str]:
        if form not in self._patterns:
            self._patterns[form] = re.compile(form.start + re.escape(form.text) + form.end)
        return self._patterns[form]

    def are_in(self, content: bytes) -> bool:
        """Whether bytes that are no text contain a path."""
        if not any(part in content for part in self._needed_bytes):
            return False
        # As Latin-1 each byte is a character, and the form's own bytes stand where they stood.
        text = content.decode("latin-1")
        for form in self._forms:
            raw = form.text.encode("utf-8", "surrogateescape")
            if raw in content and re.search(re.escape(raw.decode("latin-1")) + form.end, text):
                return True
        return False


def _above(folder: str) -> Iterator[str]:
    """Yield the folders above that say something of this machine."""
    while (folder := posixpath.dirname(folder)) not in ("", "/"):
        if folder not in _PUBLIC:
            yield folder


def _constant(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


def _forms(path: str, name: str, homes: Iterable[str]) -> Iterator[_Form]:
    parts = path.strip("/").split("/")
    for slash, written in _WRITTEN:
        text = slash.join(map(written, parts))
        # Without its first slash it is still the path (`a/home/bob/x` of a diff); one word alone could be anything.
        start = f"(?:(?<![A-Za-z0-9_.]){re.escape(slash)})?"
        if len(parts) == 1:
            text, start = slash + text, ""
        yield _Form(text, slash.join(map(written, name.split("/"))), start)
    if len(parts) > 1:
        yield _Form(_word(path), _word(name) if name not in (ABOVE, HOME) else "-", end=_END_OF_WORD)
    for home in homes:
        if path.startswith(f"{home}/"):
            for short in _short([home]):
                yield _Form(short + path[len(home) :], name)
        elif path == home:
            yield _Form(f"~{posixpath.basename(home)}", name)


def _beginnings(path: str) -> list[str]:
    """What every form of what lies in a folder contains, `_short` aside."""
    parts = path.strip("/").split("/")
    return [*(slash.join(map(written, parts)) for slash, written in _WRITTEN), _word(path)]


def _short(homes: Iterable[str]) -> list[str]:
    return ["~", "$HOME", "${HOME}", *(f"~{posixpath.basename(home)}" for home in homes)]


def _word(path: str) -> str:
    """One word, as the claude program names a folder after a project."""
    return re.sub(r"[^A-Za-z0-9]", "-", path)


def _of_json(part: str) -> str:
    return json.dumps(part)[1:-1]


def _of_json_unescaped(part: str) -> str:
    return json.dumps(part, ensure_ascii=False)[1:-1]


def _of_address(part: str) -> str:
    return quote(part, safe="~", errors="surrogatepass")


def _of_address_small(part: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), _of_address(part))


def _of_shell(part: str) -> str:
    return re.sub(r"([^\w@%+=:,.~…-])", r"\\\1", part)


def _of_git(part: str) -> str:
    return "".join(
        character if character.isascii() else "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "replace"))
        for character in part.replace("\\", "\\\\").replace('"', '\\"')
    )


_WRITTEN: Final[Sequence[tuple[str, Callable[[str], str]]]] = (
    ("/", str),
    ("/", _of_json),
    ("/", _of_json_unescaped),
    ("\\/", _of_json),
    ("\\/", _of_json_unescaped),
    ("/", _of_address),
    ("%2F", _of_address),
    ("%2f", _of_address_small),
    ("/", _of_shell),
    ("/", _of_git),
)
"""What stands between the parts of a path, and how a part is written."""
