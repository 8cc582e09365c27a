"""What a run gives back, on its way to the sender: each file judged, masked or kept back, and put near the blobs."""

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
"""Characters of the sentence that names what was left out."""


@dataclass
class Returned:
    """The files that go back, and what did not: (name, why), the name as the sender may read it."""

    files: list[StagedFile] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def left_out_text(self) -> str:
        """Return one sentence about what was left out, or nothing."""
        if not self.left_out:
            return ""
        named = "; ".join(f"{name} ({why})" for name, why in self.left_out)
        return f"{len(self.left_out)} returned files were left out: {named}"[:MAX_NAMED]

    def discard(self) -> None:
        """Forget the copies that were not kept."""
        for file in self.files:
            file.discard()


def take_files(blobs: Blobs, finished: frames.Finished, teller: Redactor, folder: Path) -> Returned:
    """Judge what a run returned; what breaks a rule is left out, and said. Blocking. `folder`: for masked copies.

    A text that holds a secret goes with the secret masked; any other file that holds one stays here. On a redacted edge
    the diff of the project stays too: it is what the calls changed, to the letter.
    """
    returned = Returned()
    items = [*finished.files]
    if finished.changes is not None and not teller.redacts:
        items.append(finished.changes)
    for number, item in enumerate(items):
        try:
            returned.files.append(_take(blobs, item, teller, folder / f"masked-{number}", returned.files))
        except DispatchError as error:
            returned.left_out.append((teller.text(item.name), error.message))
    return returned


def _take(
    blobs: Blobs, item: frames.ReturnedFile, teller: Redactor, masked: Path, before: Sequence[StagedFile]
) -> StagedFile:
    if teller.text(item.name) != item.name:
        raise Conflict("its name holds what looks like a secret")
    # With those taken before: two names that are one on another system would make the whole result refused.
    names = [*(file.name for file in before), item.name]
    payload.check_files(tuple(payload.FileFact(name, 1) for name in names))
    file = blobs.take_in(Path(item.path), item.name, limit=MAX_FILE_BYTES)
    try:
        if file.size == 0 or file.digest.hex() != item.sha256:
            raise Conflict("it is empty or changed")
        content = file.temporary.read_bytes()
        told = teller.content(content)
        if told is None:
            raise Conflict("it holds what looks like a secret, and is no text in which that could be masked")
        if told == content:
            return file
        masked.write_bytes(told)
        replaced = blobs.take_in(masked, item.name, limit=MAX_FILE_BYTES)
        assert replaced.digest == hashlib.sha256(told).digest()
    except BaseException:
        file.discard()
        raise
    file.discard()
    return replaced
