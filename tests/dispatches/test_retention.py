"""Which ended dispatches are thinned, as properties of the choice alone."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from peer.dispatches import retention
from peer.dispatches.retention import FETCH_MS, Ended, Rules, of_settings, to_thin
from peer.protocol.content import MAX_FILE_BYTES, MAX_FILES

NOW = 1_800_000_000_000
TIMES = st.integers(NOW - 5 * FETCH_MS, NOW + FETCH_MS)
"""The clock may have been set back since."""
SIZES = st.integers(1, 100)


@st.composite
def oldest_first(draw: st.DrawFn) -> list[Ended]:
    times = sorted(draw(st.lists(TIMES, max_size=12)))
    return [Ended(str(n), closed, draw(SIZES), draw(st.booleans())) for n, closed in enumerate(times)]


RULES = st.builds(Rules, st.one_of(st.just(math.inf), st.integers(FETCH_MS, 6 * FETCH_MS)), st.integers(0, 600))


def may_be_fetched(one: Ended) -> bool:
    return one.returned and one.closed + FETCH_MS > NOW


@given(oldest_first(), RULES, st.integers(0, 300))
@example([Ended("0", NOW - FETCH_MS, 5, True)], Rules(math.inf, 4), 0)
@example([Ended("0", NOW - FETCH_MS + 1, 5, True), Ended("1", NOW, 5, False)], Rules(math.inf, 9), 0)
@example([Ended("0", NOW - 2 * FETCH_MS, 5, False)], Rules(2 * FETCH_MS, 600), 0)
@example([Ended("0", NOW - 2 * FETCH_MS, 5, False)], Rules(math.inf, 5), 0)
def test_what_is_too_old_goes_and_the_oldest_until_the_rest_fits(ended: list[Ended], rules: Rules, others: int) -> None:
    """`others`: bytes of dispatches that cannot be thinned now. Seen to fail with each comparison of to_thin moved by
    one, without its look at what is returned, and with a return where it skips."""
    total = sum(one.size for one in ended) + others
    chosen = list(to_thin(ended, rules, total=total, now=NOW))
    left = [one for one in ended if one not in chosen]
    assert chosen == [one for one in ended if one in chosen], "each once, in their order"
    assert all(one.closed + rules.keep_ms > NOW for one in left)
    by_size = [one for one in chosen if one.closed + rules.keep_ms > NOW]
    assert not any(may_be_fetched(one) for one in by_size)
    rest = total - sum(one.size for one in chosen)
    assert rest <= rules.keep_bytes or all(may_be_fetched(one) for one in left)
    if by_size:
        assert rest + by_size[-1].size > rules.keep_bytes, "no more than is needed"
        assert all(may_be_fetched(one) or one.closed >= by_size[-1].closed for one in left)


@given(st.integers(1, 36_500), st.integers(1, 10**8))
def test_the_settings_are_days_and_megabytes(days: int, megabytes: int) -> None:
    rules = of_settings(days=days, megabytes=megabytes)
    assert (rules.keep_ms, rules.keep_bytes) == (days * 86_400_000, megabytes * 1024 * 1024)


def test_what_a_day_of_age_removes_nobody_may_still_fetch() -> None:
    """The shortest time that can be set is not shorter than the one for fetching."""
    assert of_settings(days=1, megabytes=1).keep_ms >= FETCH_MS


def test_below_what_a_contact_is_thinned_to_there_is_room_for_the_largest_dispatch() -> None:
    assert retention.CONTACT_THINNED_TO + MAX_FILES * MAX_FILE_BYTES == retention.CONTACT_BYTES
    assert Rules(math.inf, retention.CONTACT_THINNED_TO) == retention.OF_A_CONTACT
