"""Masks what must not leave a machine: secrets, found by their form and replaced by their kind, and the paths of the
person's folders (folder_names.py). Pure; linear in a text's length.

It catches secrets that an agent read and repeated in good faith. It cannot catch a secret that was encoded, split, or
that looks like an ordinary word: whatever a run can read may still reach its sender.

Every pattern starts at a literal or at the first character of a run of characters and has bounded parts only, so no
text causes backtracking over the same characters; a text that does not contain the literal is not searched at all.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from peer.dispatches.folder_names import FolderNames
from peer.protocol.documents import Document

SHORTEST_LITERAL: Final = 8
"""Characters. A shorter secret is not masked by its value: it would be found in ordinary text."""


class _Form(NamedTuple):
    """One form of secret. `literals`: every match contains one of them. `value` is the named group to replace."""

    kind: str
    literals: tuple[str, ...]
    pattern: re.Pattern[str]


def _form(kind: str, literals: str, pattern: str, flags: int = 0) -> _Form:
    return _Form(kind, tuple(literals.split()), re.compile(pattern, flags | re.ASCII))


# The start of a word, or after a line break escaped as in JSON and shells. Prefixes that begin no word (`ghp_`) need no
# start and are found anywhere.
_START: Final = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
_END: Final = r"(?![A-Za-z0-9_-])"
_NAMES: Final = (
    r"(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|auth[_-]?token"
    r"|access[_-]?token|refresh[_-]?token|client[_-]?secret)"
)
_ASSIGNED: Final = rf"{_NAMES}[a-z0-9_-]{{0,20}}[\"']?[ \t]{{0,4}}(?::=|=>|=|:)[ \t]{{0,4}}"
# Placeholders in the position of a secret: a variable, a template, a mask, a call.
_NO_VALUE: Final = r"(?![$<{%*\[(]|xxx|\.\.\.)"

_FORMS: Final = (
    _form("AWS access key", "AKIA ASIA", rf"{_START}(?P<value>A(?:KIA|SIA)[A-Z2-7]{{16}}){_END}"),
    _form("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", rf"(?P<value>gh[pousr]_[A-Za-z0-9]{{36,255}}){_END}"),
    _form("GitHub token", "github_pat_", rf"(?P<value>github_pat_[A-Za-z0-9_]{{22,255}}){_END}"),
    _form("GitLab token", "glpat-", r"(?P<value>glpat-[A-Za-z0-9_.-]{20,255})"),
    _form("Slack token", "xox xapp-", r"(?P<value>x(?:ox[abeoprs]|app)-[A-Za-z0-9-]{10,255})"),
    _form("Slack webhook", "hooks.slack.com/", r"hooks\.slack\.com/(?P<value>(?:services|workflows)/[\w/-]{20,255})"),
    _form("Anthropic key", "sk-ant-", r"(?P<value>sk-ant-[A-Za-z0-9_-]{16,400})"),
    _form(
        "OpenAI key",
        "sk-",
        rf"{_START}(?P<value>sk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{{20,400}}|[A-Za-z0-9]{{32,400}}{_END}))",
    ),
    _form("Google key", "AIza", rf"{_START}(?P<value>AIza[A-Za-z0-9_-]{{35}}){_END}"),
    _form("Stripe key", "k_live_", r"(?P<value>[sr]k_live_[A-Za-z0-9]{16,255})"),
    _form("npm token", "npm_", rf"(?P<value>npm_[A-Za-z0-9]{{36}}){_END}"),
    _form("PyPI token", "pypi-AgE", r"(?P<value>pypi-AgE[A-Za-z0-9_-]{50,400})"),
    _form(
        "JSON Web Token",
        "eyJ",
        rf"{_START}(?P<value>eyJ[A-Za-z0-9_-]{{8,4096}}\.eyJ[A-Za-z0-9_-]{{8,16384}}\.[A-Za-z0-9_-]{{8,4096}})",
    ),
    _form(
        "password in an address",
        "://",
        r"://[^\s/:@\"'<>]{0,200}:" + _NO_VALUE + r"(?P<value>[^\s/@\"'<>]{1,200})@",
    ),
    _form(
        "credentials in a header",
        "uthorization UTHORIZATION",
        r"authorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?(?:bearer|basic|token)[ \t]{1,4}"
        + _NO_VALUE
        + r"(?P<value>[A-Za-z0-9._~+/=-]{8,4096})",
        re.IGNORECASE,
    ),
    _form(
        "password of a .netrc",
        "machine",
        r"\bmachine\s{1,20}\S{1,255}\s{1,20}login\s{1,20}\S{1,255}\s{1,20}password\s{1,20}"
        r"(?!\[masked: )(?P<value>\S{1,255})",
    ),
)
# Searched in the lower-cased text, if that contains one of the words.
_ASSIGNMENT: Final = re.compile(_ASSIGNED + _NO_VALUE, re.ASCII)
# The assigned value: quoted, alone on its line as in a .env file (below), or containing a digit, because
# `password = ask()` and `password: str` are code.
_QUOTED: Final = {
    quote: re.compile(quote + _NO_VALUE + rf"(?P<value>[^{quote}\s\\]{{6,400}}){quote}", re.ASCII) for quote in "\"'"
}
_BARE: Final = re.compile(r"[^\s\"'`,;(){}\[\]<>\\]*", re.ASCII)
_WITH_ESCAPES: Final = re.compile(r"[^\s\"'`,;(){}\[\]<>]*", re.ASCII)
_DIGIT: Final = re.compile(r"[0-9]")
_GOES_ON: Final = re.compile(r"[(\[.\w]", re.ASCII)
_SHORTEST_BARE, _LONGEST_BARE = 8, 400
_ENV_LINE: Final = re.compile(
    r"^(?:export )?[A-Z0-9_]{0,60}(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_KEY|ACCESS_KEY|PRIVATE_KEY)"
    rf"[A-Z0-9_]{{0,20}}={_NO_VALUE}(?P<value>[^\s\"'`$(){{}}\[\]<>]{{4,400}})$",
    re.ASCII | re.MULTILINE,
)
_WORDS: Final = ("pass", "secret", "key", "token")

_KEY_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----")
_KEY_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----")
# One line of a private key as tools show it: after a line number, a diff's sign or a quotation mark.
_KEY_LINE: Final = re.compile(
    r"[ \t]{0,12}[0-9]{0,7}[ \t:→|>+\-]{0,8}(?:[A-Za-z0-9+/=]{0,200}|[A-Za-z-]{2,30}: .{0,100})\r?"
)
_LONGEST_KEY: Final = 32_768
"""Characters between the first and last line of a key. With no last line in reach, lines of its form are masked."""


class Masker:
    """Masks texts and counts the secrets found, by kind, until `drain`. `known`: secrets by value, as a model's key.

    `folders` may be set anew when more folders are known.
    """

    def __init__(self, known: Iterable[str] = (), folders: FolderNames | None = None) -> None:
        self.folders = folders or FolderNames({})
        self._known = tuple(sorted({text for text in known if len(text) >= SHORTEST_LITERAL}, key=len, reverse=True))
        self._found: Counter[str] = Counter()

    def drain(self) -> dict[str, int]:
        """Return how many secrets of each kind were masked since the last call."""
        found, self._found = dict(self._found), Counter()
        return found

    def text(self, text: str) -> str:
        """Return the text with every secret replaced by `[masked: KIND]`, and every path of a folder by its name."""
        for secret in self._known:
            if secret in text:
                self._found["key of this machine"] += text.count(secret)
                text = text.replace(secret, _marker("key of this machine"))
        if "PRIVATE KEY" in text:
            text = self._without_private_keys(text)
        for form in _FORMS:
            if any(literal in text for literal in form.literals):
                text = self._replaced(form.kind, form.pattern, text)
        lower = text.lower()
        if any(word in lower for word in _WORDS):
            text = self._without_assigned(text, lower)
            text = self._replaced("password", _ENV_LINE, text)
        return self.folders.text(text)

    def value(self, value: object) -> object:
        """Return a JSON value with all its texts masked, including the names of members."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self.members(value)
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value

    def members(self, document: Mapping[str, object]) -> Document:
        """Return a JSON object with all its texts masked."""
        return {self.text(str(name)): self.value(inner) for name, inner in document.items()}

    def content(self, content: bytes) -> bytes | None:
        """Return a file's content masked, or None if it is binary and holds what would be: that cannot be cut out."""
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raw = content.decode("latin-1")
            return None if self.folders.are_in(content) or self.text(raw) != raw else content
        masked = self.text(text)
        return content if masked == text else masked.encode()

    def _replaced(self, kind: str, pattern: re.Pattern[str], text: str) -> str:
        def replace(match: re.Match[str]) -> str:
            start, end = match.span("value")
            self._found[kind] += 1
            return f"{text[match.start() : start]}{_marker(kind)}{text[end : match.end()]}"

        return pattern.sub(replace, text)

    def _without_assigned(self, text: str, lower: str) -> str:
        """Mask values assigned to a name such as `password`. `lower`: the text in lower case."""
        if len(lower) != len(text):  # a few letters are two characters in lower case
            lower = "".join(char.lower() if char.isascii() else char for char in text)
        parts: list[str] = []
        bare = _Bare(text)
        at = end = 0
        while found := _ASSIGNMENT.search(lower, end):
            start = end = found.end()
            if (quoted := _QUOTED.get(text[start : start + 1])) is not None:
                value = match.span("value") if (match := quoted.match(text, start)) else None
            else:
                # After `:=`, the `=` may belong to the value.
                value = bare.value(start) or (bare.value(start - 1) if lower.startswith(":=", start - 2) else None)
            if value is not None:
                parts += [text[at : value[0]], _marker("password")]
                self._found["password"] += 1
                at = end = value[1]
        return "".join((*parts, text[at:]))

    def _without_private_keys(self, text: str) -> str:
        ends = [match.end() for match in _KEY_END.finditer(text)]
        parts: list[str] = []
        at = 0
        for begin in _KEY_BEGIN.finditer(text):
            if begin.start() < at:
                continue
            closing = bisect_left(ends, begin.end())
            if closing < len(ends) and ends[closing] - begin.end() <= _LONGEST_KEY:
                end = ends[closing]
            else:
                end = _lines_after(text, begin.end())
            parts += [self._without_key_tail(text[at : begin.start()]), _marker("private key")]
            self._found["private key"] += 1
            at = end
        return "".join((*parts, self._without_key_tail(text[at:])))

    def _without_key_tail(self, text: str) -> str:
        """Mask the end of a key whose beginning is not in this text."""
        parts: list[str] = []
        at = 0
        for match in _KEY_END.finditer(text):
            start = _lines_before(text, match.start(), at)
            parts += [text[at:start], _marker("private key")]
            self._found["private key"] += 1
            at = match.end()
        return "".join((*parts, text[at:]))


class _Bare:
    """Finds unquoted values in a text, at increasing positions.

    Ends and digits are cached, so each character is examined a bounded number of times however many names precede it.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._ends = {_BARE: -1, _WITH_ESCAPES: -1}
        self._digit = -1

    def value(self, start: int) -> tuple[int, int] | None:
        """Return (start, end) of the value at `start`, or None: too short, without a digit, or continuing as code."""
        end = min(self._end(_BARE, start), start + _LONGEST_BARE)
        if end - start < _SHORTEST_BARE or not self._has_digit(start):
            return None
        # The longest beginning that does not go on. No further back than to a sign that is no letter: each name is
        # followed by one.
        while end - start >= _SHORTEST_BARE:
            if not _GOES_ON.match(self._text, end):
                return start, end
            end -= 1
        return None

    def _has_digit(self, start: int) -> bool:
        if self._digit < start:
            digit = _DIGIT.search(self._text, start)
            self._digit = len(self._text) if digit is None else digit.start()
        return self._digit < min(self._end(_WITH_ESCAPES, start), start + _LONGEST_BARE + 1)

    def _end(self, signs: re.Pattern[str], start: int) -> int:
        """Return where the run of these characters ends."""
        if self._ends[signs] <= start:
            run = signs.match(self._text, start)
            self._ends[signs] = start if run is None else run.end()
        return self._ends[signs]


def summary(found: Mapping[str, int]) -> str:
    """Return the counts of `Masker.drain` as text: `2 × GitHub token, 1 × password`."""
    return ", ".join(f"{count} × {kind}" for kind, count in sorted(found.items()))


def _marker(kind: str) -> str:
    return f"[masked: {kind}]"


def _lines_after(text: str, at: int) -> int:
    """Return where the lines of a key's form end, starting in the middle of a line."""
    end = _line_end(text, at)
    while end < len(text) and _KEY_LINE.fullmatch(text, end + 1, following := _line_end(text, end + 1)):
        end = following
    return end


def _lines_before(text: str, at: int, least: int) -> int:
    """Return where the lines of a key's form that precede the line of `at` begin."""
    start = text.rfind("\n", least, at) + 1 or least
    while start > least:
        before = text.rfind("\n", least, start - 1) + 1 or least
        if not _KEY_LINE.fullmatch(text, before, start - 1):
            break
        start = before
    return start


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
