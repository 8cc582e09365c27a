"""Words, names and near names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.projects import words
from tests.growth import grows_as_the_text


def test_names_are_split_alike_however_they_are_written() -> None:
    for name in ("shop-api", "shop_api", "ShopAPI", "shopApi", "Shop API", "shop.api", "ＳＨＯＰ-api"):
        assert words.words(name) == ["shop", "api"]
        assert words.joined(name) == "shopapi"
    assert words.words("HTTPServer2 v1.10 straße") == ["http", "server2", "v1", "10", "strasse"]
    assert words.words('\x00\ud800"*^() AND NEAR(') == ["and", "near"]


def test_what_is_written_as_a_name() -> None:
    text = 'In "ledger" and `docs`, fix shop-api, (PaperTrail); see src/a.py. But not plain words, or it\'s -- done.'
    assert words.written_names(text) == ["ledger", "docs", "shopapi", "papertrail", "srcapy"]


def slips(a: str, b: str) -> int:
    """Optimal string alignment, the textbook table."""
    table = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


short = st.text("abc", min_size=3, max_size=12)


@given(short, short)
def test_near_is_what_the_textbook_says(a: str, b: str) -> None:
    assert words.near(a, b) == (slips(a, b) <= (2 if min(len(a), len(b)) >= 9 else 1))
    assert words.near(a, b) == words.near(b, a)


def test_near_names_of_many_letters() -> None:
    for a, b in (("shop", "shot"), ("paperclip", "paberclib"), ("ledger", "legder"), ("quarry", "quary")):
        assert words.near(a, b)
    for a, b in (("shop", "ships"), ("paperclip", "baberclib"), ("ab", "ac"), ("moneta", "magnet")):
        assert not words.near(a, b)


@pytest.mark.parametrize("fragment", ["a", "aA", "a-", "`", "-"])
def test_no_text_takes_long(fragment: str) -> None:
    assert grows_as_the_text(words.words, fragment, 50_000)
    assert grows_as_the_text(words.written_names, fragment, 50_000)


@given(st.text())
def test_words_hold_letters_and_digits_only(text: str) -> None:
    assert all(word.isalnum() and '"' not in word for word in words.words(text))
    words.written_names(text)
