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
from peer.store.blobs import Blobs, StagedFile
from sandbox import frames

MAX_NAMED = 1_000
"""Characters of the sentence that names the files left out."""


@dataclass
class Returned:
    """Staged files for the sender, and those left out as (name, reason), the name masked for the sender."""

    files: list[StagedFile] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def left_out_text(self) -> str:
        """Return one sentence about the files left out, or '' if there are none."""
        if not self.left_out:
            return ""
        named = "; ".join(f"{name} ({why})" for name, why in self.left_out)
        return f"{len(self.left_out)} returned files were left out: {named}"[:MAX_NAMED]

    def discard(self) -> None:
        """Delete the staged copies that were not kept."""
        for file in self.files:
            file.discard()


def take_files(blobs: Blobs, finished: frames.Finished, redactor: Redactor, folder: Path) -> Returned:
    """Stage the files that a run returned; list those that break a rule as left out. Blocking.

    A text that holds a secret is sent with the secret masked, any other file that holds one is left out. On a redacted
    edge the project's diff is left out, because it shows the inputs of calls. `folder`: for masked copies.
    """
    returned = Returned()
    items = [*finished.files]
    if finished.changes is not None and not redactor.redacts:
        items.append(finished.changes)
    for number, item in enumerate(items):
        try:
            returned.files.append(_take(blobs, item, redactor, folder / f"masked-{number}", returned.files))
        except DispatchError as error:
            returned.left_out.append((redactor.text(item.name), error.message))
    return returned


def _take(
    blobs: Blobs, item: frames.ReturnedFile, redactor: Redactor, masked: Path, before: Sequence[StagedFile]
) -> StagedFile:
    if redactor.text(item.name) != item.name:
        raise Conflict("its name holds what looks like a secret")
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
            raise Conflict("it holds what looks like a secret, and is no text in which that could be masked")
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
