"""The bytes that Write and Edit would put into a file, by the rules of the pinned claude program. Pure.

The rules were recorded from the program, and a test records them again: tests/sandbox/test_preview.py. The scripted
runtime keeps to them where a text is found as it is spelt. In short:

- A file is UTF-8, or UTF-16LE behind its mark; the encoding and a mark stay. The program writes no other file.
- Write puts its text there as it is, whatever the line ends were.
- Edit matches against the text with `\\n` for each `\\r\\n`. It writes `\\r\\n` for every line end if among the first
  4,096 characters more ended so than with a bare `\\n`, else `\\n` for every `\\r\\n`.
- A text that is not there is looked for with straight quotes for curly ones; what replaces it then gets the quotes of
  what was found. One that is replaced by nothing goes with the line end behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SAMPLE: Final = 4_096
_LOOKED_AT_FOR_NUL: Final = 8_192
_MARKS: Final = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le"}
_STRAIGHT: Final = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
_BEFORE_AN_OPENING_QUOTE: Final = frozenset(" \t\n\r([{\u2013\u2014")


class NotComputedError(Exception):
    """What the program would write is not known, or nothing. Its text says why, in words for a person."""


def decode(content: bytes) -> tuple[str, str, bytes]:
    """(text, encoding, mark) of a file's bytes as the program reads them. Raises NotComputedError."""
    mark, encoding = next(((each, name) for each, name in _MARKS.items() if content.startswith(each)), (b"", "utf-8"))
    if content.startswith(b"\xfe\xff") or (encoding == "utf-8" and b"\0" in content[:_LOOKED_AT_FOR_NUL]):
        raise NotComputedError("the file is not UTF-8 text; the agent program does not write such files")
    try:
        return content[len(mark) :].decode(encoding), encoding, mark
    except UnicodeDecodeError as error:
        raise NotComputedError("the file is not UTF-8 text; the agent program does not write such files") from error


def written(tool: str, arguments: Mapping[str, object], content: bytes | None) -> bytes:
    """The file's bytes after a Write or Edit. `content`: those before, None where there is no file.

    Raises NotComputedError.
    """
    text, encoding, mark = decode(content or b"")
    made = str(arguments["content"]) if tool == "Write" else _edited(text, arguments)
    # Never a second mark behind the one that stays.
    return mark + (made.removeprefix("\ufeff") if mark else made).encode(encoding)


def _edited(text: str, arguments: Mapping[str, object]) -> str:
    before, after = str(arguments["old_string"]), str(arguments["new_string"])
    if not before:
        if text:
            raise NotComputedError("an Edit without text to replace creates a file, but this file already has content")
        return after
    sample = text.encode("utf-16-le", "surrogatepass")[: 2 * _SAMPLE].decode("utf-16-le", "ignore")
    crlf = sample.count("\r\n")
    plain = text.replace("\r\n", "\n")
    if before not in plain:
        at = plain.translate(_STRAIGHT).find(before.translate(_STRAIGHT))
        if at < 0:
            raise NotComputedError("the text to be replaced was not found in the file")
        before = plain[at : at + len(before)]
        after = _quoted_as(before, after)
    if not after and not before.endswith("\n") and f"{before}\n" in plain:
        before += "\n"
    made = plain.replace(before, after, -1 if arguments.get("replace_all") is True else 1)
    if crlf > sample.count("\n") - crlf:
        made = made.replace("\r\n", "\n").replace("\n", "\r\n")
    return made


def _quoted_as(found: str, text: str) -> str:
    """`text` with curly quotes of the kinds that `found` has."""
    for straight, opening, closing in (('"', "\u201c", "\u201d"), ("'", "\u2018", "\u2019")):
        if opening in found or closing in found:
            text = "".join(
                (opening if at == 0 or text[at - 1] in _BEFORE_AN_OPENING_QUOTE else closing)
                if character == straight
                else character
                for at, character in enumerate(text)
            )
    return text
