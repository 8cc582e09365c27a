"""Makes untrusted text safe to show: control, bidi and escape characters become visible. Markup is not handled here.

Used wherever a person sees text from another person, a model or a file system. Characters of ordinary writing in any
language are unchanged: letters and marks, the joiners U+200C and U+200D (Persian, Indic scripts, emoji), variation
selectors. What is neutralised, and why:

- C0 and C1 controls and DEL: terminals execute them (ECMA-48). C0 and DEL become their control pictures (␛), all
  others the form `<U+009B>`.
- The twelve Bidi_Control characters (Unicode UAX #9; CVE-2021-42574): they reorder the displayed text.
- Other invisible format characters, among them the tag characters (U+E0000…): they hide text from the person but not
  from the model. Flag emoji spelt with tags (🏴 England, Scotland, Wales, US states) are unchanged.
- Line and paragraph separators, which would add lines; lone surrogates, which cannot be encoded.

The output consists of ordinary text only, so neutralising is idempotent.
"""

import re
from typing import Final

_ELLIPSIS: Final = "…"

# Cc, Cs, Zl, Zp and every Cf of Unicode 16 except the two joiners and those with a visible effect in ordinary writing:
# Arabic and Syriac number signs (U+0600–0605, 06DD, 070F, 0890, 0891, 08E2), Kaithi number signs (110BD, 110CD) and
# Egyptian joiners (13430–1343F).
_UNSAFE: Final = (
    "\x00-\x1f\x7f-\x9f"
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
    "\ud800-\udfff"
)
_FLAG: Final = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
_PATTERN: Final = re.compile(f"{_FLAG}|[{_UNSAFE}]")
_LINE_ENDS: Final = re.compile("\r\n|[\u2028\u2029]")


def line(text: str, *, limit: int | None = None) -> str:
    """`text` safe to show on one line: line ends and tabs become spaces. Cut to `limit` characters, ending in …."""
    # Cut first, so that the cost is bounded by what is shown; each character becomes at least one.
    if limit is not None:
        text, cut = text[: limit + 1], len(text) > limit
    else:
        cut = False
    shown = _PATTERN.sub(_line_replacement, _LINE_ENDS.sub(" ", text))
    if limit is not None and (cut or len(shown) > limit):
        return shown[: max(limit - 1, 0)] + _ELLIPSIS
    return shown


def block(text: str) -> str:
    """`text` safe to show as a block of lines: newlines and tabs stay, CR LF becomes a newline."""
    return _PATTERN.sub(_block_replacement, _LINE_ENDS.sub("\n", text))


def _line_replacement(match: re.Match[str]) -> str:
    return " " if match[0] in "\n\t\r" else _visible(match[0])


def _block_replacement(match: re.Match[str]) -> str:
    # A lone CR becomes visible: in a terminal, the text after it would overwrite the line.
    return match[0] if match[0] in "\n\t" else _visible(match[0])


def _visible(found: str) -> str:
    if len(found) > 1:
        return found  # a flag
    code = ord(found)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    return f"<U+{code:04X}>"
