"""The counts of a run in words, where there are any."""

from __future__ import annotations

import pytest

from peer.dispatches.counts import counts_text


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({}, ""),
        ({"turns": 3, "files_changed": 1}, ""),
        ({"calls_allowed": 1, "calls_denied": 0}, "1 call allowed, 0 denied; changed files were not counted"),
        ({"calls_allowed": 0, "calls_denied": 1, "files_changed": 1}, "0 calls allowed, 1 denied; 1 file changed"),
        ({"calls_allowed": 2, "calls_denied": 0, "files_changed": 0}, "2 calls allowed, 0 denied; 0 files changed"),
    ],
)
def test_counts_in_words(counts: dict[str, object], text: str) -> None:
    assert counts_text(counts) == text
