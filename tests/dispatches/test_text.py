"""Neutralised text: nothing survives that a terminal obeys or that hides or reorders; ordinary text is unchanged."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.dispatches import text

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


def unsafe(shown: str) -> set[str]:
    return {
        c
        for c in shown
        if (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp", "Cf") and c not in SHOWN_FORMAT)
        and not "\U00013430" <= c <= "\U0001343f"
    }


def without_flags(shown: str) -> str:
    return text._PATTERN.sub("", shown)


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


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), *(ord(c) for c in BIDI), 0xE0041, 0xFEFF, 0x200B])
def test_every_control_becomes_something_to_see(code: int) -> None:
    shown = text.line(f"a{chr(code)}b")
    assert shown.isprintable() and shown.startswith("a") and shown.endswith("b") and len(shown) >= 3


@given(any_text)
def test_twice_is_once(given_text: str) -> None:
    assert text.line(text.line(given_text)) == text.line(given_text)
    assert text.block(text.block(given_text)) == text.block(given_text)


@pytest.mark.parametrize("ordinary", ORDINARY)
def test_ordinary_text_is_unchanged(ordinary: str) -> None:
    assert text.line(ordinary) == ordinary
    assert text.block(f"{ordinary}\n\t{ordinary}\n") == f"{ordinary}\n\t{ordinary}\n"


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"])))
def test_letters_marks_numbers_and_signs_are_unchanged(ordinary: str) -> None:
    assert text.line(ordinary) == ordinary == text.block(ordinary)


def test_what_it_looks_like() -> None:
    assert text.line("a\x1b[31mred\x07\u202e\r\nend\u2028.") == "a␛[31mred␇<U+202E> end ."
    assert text.line("a\rb\tc") == "a b c"
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
    assert text.line("\x1b" * 10_000_000, limit=5) == "␛␛␛␛…"
