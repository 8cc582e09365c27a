"""Where an accepted run is, what it sees there, and who reads its result, in one sentence for its person. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from peer.dispatches.quoting import word
from peer.dispatches.text import line


def sentence(folder: str | None, toolchains: Sequence[str], *, result_to: str, results: str, held: bool) -> str:
    """Return the sentence. `folder`: None for an empty workspace; `held`: nothing is sent before it was looked at."""
    where = f"runs in {line(folder)}" if folder else "runs in an empty workspace"
    sees = f", sees {line(', '.join(toolchains))}" if toolchains else ""
    without = ", without what its calls read and wrote" if results == "redacted" else ""
    when = f"{',' if without else ''} once you release it" if held else ""
    return f"{where}{sees}; {word(result_to)} gets the result{without}{when}"
