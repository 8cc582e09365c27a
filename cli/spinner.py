"""A spinner on stderr while something is waited for. Imports rich, so it is imported only for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


@contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows its argument beside a spinner until the end of the block."""
    console = Console(stderr=True)
    status = console.status("")

    def show(words: str) -> None:
        status.update(Text(words))
        status.start()

    try:
        yield show
    finally:
        status.stop()
