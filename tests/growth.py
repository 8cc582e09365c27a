"""Whether work grows with the length of a text or with its square: measured beside itself, never against a clock."""

from __future__ import annotations

import time
from collections.abc import Callable


def spent(work: Callable[[str], object], fragment: str, length: int) -> float:
    """Return the processor seconds for so many characters of a fragment again and again."""
    text = (fragment * (length // len(fragment) + 1))[:length]
    began = time.process_time()
    work(text)
    return time.process_time() - began


def grows_as_the_text(work: Callable[[str], object], fragment: str, length: int, *, tries: int = 5) -> bool:
    """Whether four times the text is four times the work, where a pattern that looks back would make it sixteen.

    One try of several is enough: other programs on the machine make a measurement longer, never shorter.
    """
    return any(spent(work, fragment, 4 * length) < 8 * spent(work, fragment, length) + 0.25 for _ in range(tries))
