"""Reads a view that is a repository's own folder: one entry, that is never put in place. Its commits: commits.py."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from sandbox.changes.bounds import shown
from sandbox.changes.comparing import Comparison, Place
from sandbox.changes.descriptors import FOLDER, let_in
from sandbox.changes.draft import Draft
from sandbox.confinement.walk import Parts, walk
from sandbox.views.manifest import Copied


def read_repository(folder: int, name: str, comparison: Comparison, copied: Mapping[bytes, Copied]) -> None:
    """Make the entry, if the run changed anything. `name`: of what lies in the view's open folder; `copied`: of a copy,
    what was copied. Raises OSError, Exhausted.
    """
    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    draft = comparison.whole(Place(b"", None, conflict=comparison.original.conflict), b"", "metadata", about)
    try:
        _count(draft, folder, name, comparison, copied)
    finally:
        if not draft.count:
            comparison.drafts.remove(draft)


def _count(draft: Draft, folder: int, name: str, comparison: Comparison, copied: Mapping[bytes, Copied]) -> None:
    let_in(folder, name)
    top = os.open(name, FOLDER, dir_fd=folder)

    def failed(parts: Parts, _: OSError) -> None:
        comparison.bounds.say(f"{shown(b'/'.join(map(os.fsencode, parts)))} was not counted")

    for here in walk(top, failed):
        for entry in comparison.names(here.descriptor):
            about = os.stat(entry, dir_fd=here.descriptor, follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode):
                let_in(here.descriptor, entry)
                here.inner.append(entry)
                continue
            was = copied.get(b"/".join(map(os.fsencode, (*here.path, entry))))
            if was is None or was.skipped or not was.same_copy(about):
                draft.count += 1
                draft.size += about.st_size if stat.S_ISREG(about.st_mode) else 0
