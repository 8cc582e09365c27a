"""The files that a run returns: each is checked, masked or left out, then staged for the blobs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peer.dispatches import payload
from peer.dispatches.redaction import Redactor
from peer.protocol.content import MAX_FILE_BYTES
from peer.protocol.errors import Conflict, DispatchError
from peer.runs.change_sets import Collected
from peer.store.blobs import Blobs, StagedFile
from sandbox import frames
from sandbox.changes.values import PATCH

MAX_NAMED = 800
"""Characters of names in each of the sentences about what is missing."""


@dataclass
class Returned:
    """Staged files for the sender; those not returned, as (name, reason), the name masked for the sender; what was not
    looked at for changes, masked.
    """

    files: list[StagedFile] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    not_seen: list[str] = field(default_factory=list)

    def missing(self, *, named: bool = True) -> str:
        """Return sentences about what is not returned and what was not looked at, '' for neither.

        `named`: with the names of files and folders.
        """
        sentences = []
        if count := len(self.left_out):
            files = f"{count} {'file was' if count == 1 else 'files were'} not returned"
            sentences.append(_listed(files, [f"{name} ({why})" for name, why in self.left_out], named))
        if self.not_seen:
            sentences.append(_listed("Not checked for changes", self.not_seen, named))
        return " ".join(sentences)

    def discard(self) -> None:
        """Delete the staged copies that were not kept."""
        for file in self.files:
            file.discard()


def count_of(collected: Collected | None) -> int | None:
    """Return how many files of the person's folders a run changed, 0 for one without views; None if not all is known.

    A folder that tools fill, and the files of a repository, count once each.
    """
    if collected is None:
        return 0
    changes = collected.changes
    return None if changes.incomplete else sum(entry.kind != "folder" for entry in changes.entries)


def take_files(
    blobs: Blobs, finished: frames.Finished, collected: Collected | None, redactor: Redactor, folder: Path
) -> Returned:
    """Stage the files that a run returned; list those that break a rule as left out. Blocking.

    What the agent has left out by itself comes first. A text that holds a secret or the path of a folder is sent
    masked, any other file that holds one is left out. On a redacted edge the project's diff is left out, because it
    shows the inputs of calls. `folder`: for masked copies.
    """
    returned = Returned(
        left_out=[(redactor.text(item.name), item.why) for item in finished.left_out],
        not_seen=[redactor.text(what) for what in ([] if collected is None else collected.changes.incomplete)],
    )
    items = [*finished.files]
    if collected is not None and not redactor.redacts and (patch := _patch(collected)) is not None:
        items.append(patch)
    for number, item in enumerate(items):
        try:
            returned.files.append(_take(blobs, item, redactor, folder / f"masked-{number}", returned.files))
        except DispatchError as error:
            returned.left_out.append((redactor.text(item.name), error.message))
        except OSError as error:
            returned.left_out.append((redactor.text(item.name), error.strerror or "it cannot be read"))
    return returned


def _patch(collected: Collected) -> frames.ReturnedFile | None:
    path = collected.folder / PATCH
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    digest = hashlib.sha256(content).hexdigest()
    return frames.ReturnedFile(name=PATCH, path=str(path), size=len(content), sha256=digest)


def _listed(what: str, items: Sequence[str], named: bool) -> str:
    """`what` and the items, as many as fit; the others are counted."""
    if not named:
        return f"{what}."
    shown, length = 0, 0
    while shown < len(items) and (length := length + len(items[shown]) + 2) <= MAX_NAMED:
        shown += 1
    more = [f"and {len(items) - shown:,} more"] if shown < len(items) else []
    return f"{what}: {'; '.join([*items[:shown], *more])}."


def _take(
    blobs: Blobs, item: frames.ReturnedFile, redactor: Redactor, masked: Path, before: Sequence[StagedFile]
) -> StagedFile:
    if redactor.text(item.name) != item.name:
        raise Conflict("its name contains what looks like a secret")
    # Together with those before: two names that are equal on another system make the sender refuse the result.
    names = [*(file.name for file in before), item.name]
    payload.check_files(tuple(payload.FileFact(name, 1) for name in names))
    file = blobs.take_in(Path(item.path), item.name, limit=MAX_FILE_BYTES)
    try:
        if file.size == 0 or file.digest.hex() != item.sha256:
            raise Conflict("it is empty or changed")
        content = file.temporary.read_bytes()
        masked_content = redactor.content(content)
        if masked_content is None:
            raise Conflict(
                "it contains what looks like a secret or the path of a folder there, and is not text, so that cannot "
                "be masked"
            )
        if masked_content == content:
            return file
        masked.write_bytes(masked_content)
        replaced = blobs.take_in(masked, item.name, limit=MAX_FILE_BYTES)
        assert replaced.digest == hashlib.sha256(masked_content).digest()
    except BaseException:
        file.discard()
        raise
    file.discard()
    return replaced
