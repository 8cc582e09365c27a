"""The daily rate: a sliding window of 24 hours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import RateLimited
from peer.trust import rates

NOW = 1_795_000_000_000


def test_the_last_one_allowed_and_the_first_one_not() -> None:
    rates.check_rate([NOW - 5] * 49, max_per_day=50, now=NOW)
    with pytest.raises(RateLimited) as refused:
        rates.check_rate([NOW - 3_600_000] + [NOW - 5] * 49, max_per_day=50, now=NOW)
    assert refused.value.code == 429
    assert "2026-11-19T10:06:40Z" in refused.value.fix  # 23 hours on


def test_the_time_that_is_named_is_not_too_early() -> None:
    with pytest.raises(RateLimited, match="this edge permits") as refused:
        rates.check_rate([NOW - rates.DAY_MS + 1], max_per_day=1, now=NOW)
    assert "2026-11-18T11:06:41Z" in refused.value.fix  # NOW is 11:06:40.000, and 1 ms later is the second after


def test_what_is_a_day_old_no_longer_counts() -> None:
    assert rates.frees_at([NOW - rates.DAY_MS], max_per_day=1, now=NOW) is None
    assert rates.frees_at([NOW - rates.DAY_MS + 1], max_per_day=1, now=NOW) == NOW + 1


def test_a_clock_set_back_opens_nothing() -> None:
    assert rates.frees_at([NOW + 10], max_per_day=1, now=NOW) == NOW + 10 + rates.DAY_MS


@given(st.lists(st.integers(NOW - 2 * rates.DAY_MS, NOW + 1000)), st.integers(1, 10))
def test_at_the_moment_it_names_one_more_may_come_and_not_before(accepted: list[int], most: int) -> None:
    at = rates.frees_at(accepted, max_per_day=most, now=NOW)
    if at is not None:
        assert at > NOW
        assert rates.frees_at(accepted, max_per_day=most, now=at) is None
        assert rates.frees_at(accepted, max_per_day=most, now=at - 1) is not None
