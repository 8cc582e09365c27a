"""Makes untrusted text safe to look at: what hides, reorders or pads becomes visible. Markup is not handled here.

Used wherever a person sees text from another person, a model or a file system; `peer/api/page/static/text.js` does the
same in the browser, and a test compares the two. What becomes visible, and why:

- C0 and C1 controls and DEL: terminals execute them (ECMA-48). C0 and DEL become their control pictures (␛), all
  others the form `<U+009B>`.
- Everything that breaks a line (Unicode UAX #14: VT, FF, CR, NEL, LS, PS), where it is no plain line end.
- Default_Ignorable_Code_Point (Unicode 16, DerivedCoreProperties): shown by nothing, and read by a model. Among them
  the twelve Bidi_Control characters (UAX #9; CVE-2021-42574), tag characters, fillers (U+3164, U+115F) and joiners.
- Blanks other than the space (Zs), and signs that look blank (U+2800, U+FFFC and few others): a shell or a path takes
  them for letters.
- Lone surrogates, which cannot be encoded.

Ordinary writing in any language is unchanged: a joiner between two characters beyond ASCII (Persian, Indic scripts,
emoji), a variation selector after one, keycaps (1️⃣), flags spelt with tags (🏴 England, Scotland, Wales, US states), and
format characters with a visible effect (Arabic number signs).

Padding moves what follows out of sight. So repetitions of a hidden character and long runs of blanks and of empty lines
are folded, with their count. The output consists of ordinary text only, so this is idempotent.
"""

import re
from typing import Final

_ELLIPSIS: Final = "…"

_BEYOND_ASCII: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000"
    "\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc"
    "\U00013441\U00013442\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_HIDDEN: Final = f"\x00-\x1f\x7f-\xa0{_BEYOND_ASCII}"
_JOINERS: Final = "\u200c\u200d"
_SELECTORS: Final = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_SEEN: Final = f"[^\x00-\xa0{_BEYOND_ASCII}]"
"""A character beyond ASCII that a person sees."""
_ORDINARY: Final = (
    "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
    "|[0-9#*]\ufe0f\u20e3"
    f"|(?<={_SEEN})[{_SELECTORS}][{_JOINERS}](?={_SEEN})"
    f"|(?<={_SEEN})(?:[{_SELECTORS}]|[{_JOINERS}](?={_SEEN}))"
)
_PATTERN: Final = re.compile(f"({_ORDINARY})|(\r\n|[{_HIDDEN}])\\2*")
_REPEATED: Final = 4
"""As many of one hidden character are shown as one and a count."""

_BLANKS: Final = re.compile("[ \t]{65,}")
"""More than code is indented by; fewer move nothing out of sight."""
_EMPTY_LINES: Final = re.compile("\n(?:[ \t]*\n){9,}")


def line(text: str, *, limit: int | None = None) -> str:
    """`text` safe to show on one line: line ends and tabs become pictures. Cut to `limit` characters, with …."""
    # Cut first, so that the cost is bounded by what is shown.
    if limit is not None:
        text, cut = text[: limit + 1], len(text) > limit
    else:
        cut = False
    shown = _BLANKS.sub(_folded_blanks, _PATTERN.sub(_line_replacement, text))
    if limit is not None and (cut or len(shown) > limit):
        return shown[: max(limit - 1, 0)] + _ELLIPSIS
    return shown


def block(text: str) -> str:
    """`text` safe to show as a block of lines: newlines and tabs stay, CR LF becomes a newline."""
    shown = _PATTERN.sub(_block_replacement, text)
    return _EMPTY_LINES.sub(_folded_lines, _BLANKS.sub(_folded_blanks, shown))


def excerpt(text: str, *, characters: int = 4_000, lines: int = 40) -> str:
    """`block(text)`, and of one that is longer its head and its tail, with a line between them that says how much is
    left out.
    """
    shown = block(text)
    rows = shown.split("\n")
    if len(shown) <= characters and len(rows) <= lines:
        return shown
    head = "\n".join(rows[: lines * 3 // 4])[: characters * 3 // 4]
    tail = "\n".join(rows[len(rows) - lines // 4 :])[-(characters // 4) :]
    if len(head) + len(tail) >= len(shown):
        return shown
    between = shown[len(head) : len(shown) - len(tail)]
    ends = between.count("\n")
    left_out = f"{len(between):,} characters" + (f" in {ends + 1:,} lines" if ends else "")
    return f"{head}\n⟨{left_out} left out here⟩\n{tail}"


def line_excerpt(text: str, *, characters: int = 1_000) -> str:
    """`line(text)`, and of one that is longer its head and its tail, with how much is left out between them."""
    shown = line(text)
    head, tail = characters * 3 // 4, characters // 4
    if len(shown) <= characters:
        return shown
    return f"{shown[:head]} ⟨{len(shown) - head - tail:,} characters left out here⟩ {shown[-tail:]}"


def hides(text: str) -> bool:
    """Whether a person who looks at `text` as it is would miss something of it."""
    return block(text) != text.replace("\r\n", "\n")


def _line_replacement(match: re.Match[str]) -> str:
    return match[1] or _visible(match)


def _block_replacement(match: re.Match[str]) -> str:
    # A lone CR becomes visible: in a terminal, the text after it would overwrite the line.
    if match[2] in ("\n", "\t"):
        return match[0]
    return match[0].replace("\r\n", "\n") if match[2] == "\r\n" else match[1] or _visible(match)


def _visible(match: re.Match[str]) -> str:
    shown = "".join(map(_picture, match[2]))
    count = len(match[0]) // len(match[2])
    return f"{shown}×{count}" if count >= _REPEATED else shown * count


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    return f"<U+{code:04X}>"


def _folded_blanks(match: re.Match[str]) -> str:
    return f" ⟨{len(match[0])} blanks⟩ "


def _folded_lines(match: re.Match[str]) -> str:
    count = match[0].count("\n") - 1
    return f"\n⟨{count} empty lines⟩\n"
