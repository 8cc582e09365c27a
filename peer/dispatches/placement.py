"""Where an accepted run is, what it sees there, and who reads its result, in one sentence for its person. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from peer.dispatches.quoting import word
from peer.dispatches.text import line


def sentence(
    folder: str | None, toolchains: Sequence[str], *, home: str, result_to: str, results: str, held: bool
) -> str:
    """Return the sentence, without a capital and a full stop, with `~` for the folder `home`.

    `folder`: None for an empty workspace; `held`: nothing is sent before it was looked at.
    """
    where = f"runs in {line(_short(folder, home))}" if folder else "runs in an empty workspace"
    sees = f", sees {line(', '.join(_short(each, home) for each in toolchains))}" if toolchains else ""
    without = ", without what its calls read and wrote" if results == "redacted" else ""
    when = f"{',' if without else ''} once you have reviewed and released it" if held else ""
    return f"{where}{sees}; {word(result_to)} gets the result{without}{when}"


def _short(path: str, home: str) -> str:
    return "~" + path.removeprefix(home) if path == home or path.startswith(f"{home}/") else path
