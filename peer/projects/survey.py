"""What is found in the folders that a person named for their projects, to show them. The index is not needed for it."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from peer.projects.discovery import Walk, folder_name
from peer.protocol.documents import Document

SECONDS: Final = 2.0
"""For the walk, while a person waits."""
NAMES: Final = 3


class Survey(msgspec.Struct, frozen=True):
    """How many projects are in `folder` (as named), and the names of the first ones. With `cut` there may be more."""

    folder: str
    count: int
    names: tuple[str, ...]
    cut: bool

    @property
    def words(self) -> str:
        """Such as `7 projects (till, shop, parser, …)`."""
        if not self.count:
            return (
                "none found so far"
                if self.cut
                else "no projects found; a project has a repository or a manifest, such as package.json"
            )
        least = "at least " if self.cut else ""
        more = ", …" if self.count > len(self.names) else ""
        return f"{least}{self.count} project{'' if self.count == 1 else 's'} ({', '.join(self.names)}{more})"

    def document(self) -> Document:
        """Return {folder, count, names, cut, words}."""
        return msgspec.structs.asdict(self) | {"names": list(self.names), "words": self.words}


def survey(
    roots: Sequence[str], *, clock: Callable[[], float], excluded: Sequence[str] = (), seconds: float = SECONDS
) -> list[Survey]:
    """Return what is in each of `roots` (absolute), walked in turn. Blocking: up to `seconds` (of `clock`) for all.

    A folder that cannot be read has no projects.
    """
    until = clock() + seconds
    found = []
    for root in roots:
        walk = Walk([root], clock=clock, excluded=excluded, seconds=max(until - clock(), 0.0))
        names = [folder_name(each.path) for each in walk]
        found.append(Survey(root, len(names), tuple(names[:NAMES]), walk.cut is not None))
    return found
