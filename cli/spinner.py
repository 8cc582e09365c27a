"""A spinner on stderr while something is waited for. Loads rich, so it is imported only where a person watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


@contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Give a function that shows the words it is called with, spinning, until the end of the block."""
    console = Console(stderr=True)
    status = console.status("")

    def show(words: str) -> None:
        status.update(Text(words))
        status.start()

    try:
        yield show
    finally:
        status.stop()
