"""Neutralised text: nothing survives that a terminal obeys or that hides or reorders; ordinary text is unchanged."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.dispatches import text
from tests.growth import grows_as_the_text

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
SHOWN_FORMAT = "\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
any_text = st.text(st.characters() | st.sampled_from(BIDI + "\x1b\x9b\r\n\t\x7f\u2028\U000e0041\U0001f3f4\U000e007f"))

ORDINARY = [
    "Please fix the parser; it's 100% broken (see #12) — thanks!",
    "Grüße, Ça va? Žluťoučký kůň, Þórr, Iñtërnâtiônàl",
    "Прошу исправить ошибку",
    "لطفاً این را درست کنید، می‌خواهم ببینم",
    "תקן את הבאג בבקשה",
    "कृपया इस त्रुटि को ठीक करें, क्‍ष",
    "バグを直してください。葛\U000e0100城市",
    "请修复这个错误",
    "버그를 고쳐 주세요",
    "กรุณาแก้ไขข้อผิดพลาด",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ☕️ 1️⃣",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f wins",
    "e\u0301 combining, ﷺ, ½, €",
    "\u0600\u06611 \u06dd",
]


# Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties.txt), which Python's unicodedata does not have.
IGNORABLE = [
    *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0x200B, 0x2010)),
    *(*range(0x202A, 0x202F), *range(0x2060, 0x2070), 0x3164, *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0),
    *(*range(0xFFF0, 0xFFF9), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)),
]
BLANK = [0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x2800, 0x3000, 0x13441, 0x13442, 0x16FE4, 0x1D159]
BREAKS = [0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029]
"""What str.splitlines() and Unicode's UAX #14 break at, the newline aside."""


HIDDEN_LETTERS = "".join(map(chr, (*IGNORABLE, *BLANK, 0xFFFC)))


def unsafe(shown: str) -> set[str]:
    return {
        c
        for c in shown
        if (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp", "Cf") and c not in SHOWN_FORMAT)
        and not "\U00013430" <= c <= "\U0001343f"
    } | (set(shown) & set(map(chr, (*IGNORABLE, *BLANK))))


def without_flags(shown: str) -> str:
    """Without what stays of ordinary writing: flags, keycaps, joiners and selectors beside other characters."""
    return re.sub(text._ORDINARY, "", shown)


@given(any_text)
def test_nothing_unsafe_survives_on_one_line(given_text: str) -> None:
    shown = text.line(given_text)
    assert unsafe(without_flags(shown)) == set()
    assert not set(shown) & set(BIDI + "\x1b\r\n\t")
    shown.encode()


@given(any_text)
def test_nothing_but_newline_and_tab_survives_on_many(given_text: str) -> None:
    shown = text.block(given_text)
    assert unsafe(without_flags(shown)) <= {"\n", "\t"}
    assert not set(shown) & set(BIDI + "\x1b\r")
    shown.encode()


def test_everything_hidden_becomes_something_to_see() -> None:
    """Beside letters of ASCII, which no joiner or selector belongs to."""
    for code in (*range(0x20), *range(0x7F, 0xA0), *map(ord, BIDI), *IGNORABLE, *BLANK, *BREAKS, 0xFFFC):
        shown = text.line(f"a{chr(code)}b")
        assert shown.isprintable() and shown.startswith("a") and shown.endswith("b") and len(shown) >= 3, hex(code)
        if chr(code) not in "\n\t":
            assert text.block(f"a{chr(code)}b") == shown and text.hides(f"a{chr(code)}b"), hex(code)
    for character in map(chr, range(0x110000)):
        if len(f"a{character}b".splitlines()) > 1 or (character.isspace() and character != " "):
            assert text.line(f"a{character}b").splitlines() == [text.line(f"a{character}b")] != [f"a{character}b"]


PADDED = [
    "{}" + pad * 600 + "{}" for pad in ("\n", " ", "\t", "\r\n", "\u00a0", "\u3164", "\u2800", " \n", "\n\t", "\r")
]


@pytest.mark.parametrize("padding", PADDED)
def test_padding_moves_nothing_out_of_sight(padding: str) -> None:
    """`ls`, six hundred blanks or line ends, `rm -rf build`: all of it fits a few short lines, with the count."""
    given = padding.format("ls", "rm -rf build")
    for shown in (text.block(given), text.line(given)):
        assert shown.startswith("ls") and shown.endswith("rm -rf build")
        assert len(shown) < 8_000 and ("600" in shown or "599" in shown or "␍" in shown or "␊" in shown)
    assert text.hides(given)
    assert len(text.block(given).split("\n")) <= 3 and len(text.block(given)) < 100


def test_ordinary_blanks_stay() -> None:
    code = "def f():\n" + " " * 60 + "return 1\n\n\n\n" + "\t" * 10 + "x\r\ny"
    assert text.block(code) == code.replace("\r\n", "\n")
    assert not text.hides(code) and not text.hides("")


def test_bytes_behind_selectors_and_joiners_are_seen() -> None:
    """A message in selectors after one emoji, or in joiners between letters: only what writing needs is left."""
    selectors = "".join(chr(0xE0100 + byte) for byte in b"rm -rf")
    assert text.line(f"\U0001f600{selectors}").count("<U+E0") == len(selectors) - 1
    assert text.line("a\u200db\u200cc") == "a<U+200D>b<U+200C>c"
    assert text.line("é\u200d\u200dü") == "é<U+200D><U+200D>ü"


@pytest.mark.parametrize("size", [10, 10_000_000])
def test_a_long_text_has_head_and_tail_and_how_much_is_left_out(size: int) -> None:
    given = "begin " + "x" * size + " rm -rf build"
    shown = text.excerpt(given)
    if size == 10:
        assert shown == given
        return
    assert shown.startswith("begin ") and shown.endswith(" rm -rf build") and len(shown) < 4_100
    assert re.search(r"\n⟨9,996,0\d\d characters left out here⟩\n", shown)
    rows = "\n".join(f"row {number}" for number in range(1_000))
    head, between, tail = re.split(r"\n⟨[0-9,]+ characters in ([0-9,]+) lines left out here⟩\n", text.excerpt(rows))
    assert head.split("\n") + [""] * 0 == rows.split("\n")[:30] and tail.split("\n") == rows.split("\n")[-10:]
    assert int(between) in (961, 962)


def test_a_long_line_has_head_and_tail_and_how_much_is_left_out() -> None:
    assert text.line_excerpt("x" * 1_000) == "x" * 1_000
    assert (
        text.line_excerpt("ab" + "x" * 997 + "yz")
        == "ab" + "x" * 748 + " ⟨1 characters left out here⟩ " + "x" * 248 + "yz"
    )
    assert text.line_excerpt("123456789", characters=8) == "123456 ⟨1 characters left out here⟩ 89"


@given(any_text, st.integers(8, 60), st.integers(4, 10))
def test_an_excerpt_is_safe_and_bounded(given_text: str, characters: int, lines: int) -> None:
    shown = text.excerpt(given_text * 3, characters=characters, lines=lines)
    whole = text.block(given_text * 3)
    assert shown == whole or (len(shown) < characters + 60 and "left out here" in shown)
    assert unsafe(without_flags(shown)) <= {"\n", "\t"} or "left out here" in shown


@pytest.mark.parametrize("fragment", ["\n", " \n", "\u00a0", "\r\n", "\ufe0f", "é\u200d", " " * 64 + "x", "\n \n  "])
def test_work_grows_as_the_text(fragment: str) -> None:
    assert grows_as_the_text(text.block, fragment, 50_000)
    assert grows_as_the_text(text.line, fragment, 50_000)


@given(any_text)
def test_twice_is_once(given_text: str) -> None:
    assert text.line(text.line(given_text)) == text.line(given_text)
    assert text.block(text.block(given_text)) == text.block(given_text)


@pytest.mark.parametrize("ordinary", ORDINARY)
def test_ordinary_text_is_unchanged(ordinary: str) -> None:
    assert text.line(ordinary) == ordinary
    assert text.block(f"{ordinary}\n\t{ordinary}\n") == f"{ordinary}\n\t{ordinary}\n"


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S"], exclude_characters=HIDDEN_LETTERS)))
def test_letters_marks_numbers_and_signs_are_unchanged(ordinary: str) -> None:
    assert text.line(ordinary) == ordinary == text.block(ordinary)


def test_what_it_looks_like() -> None:
    assert text.line("a\x1b[31mred\x07\u202e\r\nend\u2028.") == "a␛[31mred␇<U+202E>␍␊end<U+2028>."
    assert text.line("a\rb\tc") == "a␍b␉c"
    assert text.block("a\rb\r\nc\x9b") == "a␍b\nc<U+009B>"
    assert text.line("\U0001f3f4\U000e0067\U000e007f") == "🏴<U+E0067><U+E007F>"


@given(any_text, st.integers(1, 20))
def test_a_limit_holds_and_says_that_something_is_missing(given_text: str, limit: int) -> None:
    shown = text.line(given_text, limit=limit)
    assert len(shown) <= limit
    if shown != text.line(given_text):
        assert shown.endswith("…")
    else:
        assert len(text.line(given_text)) <= limit


def test_a_huge_text_is_cut_before_it_is_read() -> None:
    assert text.line("\x1b\x07" * 10_000_000, limit=5) == "␛␇␛␇…"
