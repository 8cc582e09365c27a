"""The request that asks the daemon to send: one form for command line, MCP tool, page and API. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from peer.dispatches import payload
from peer.protocol import content
from peer.protocol.content import Content, FileRef


class SendRequest(Content[str], frozen=True, kw_only=True):
    """Sign and queue this. `files` are absolute paths, or the ids of uploads where the page asks."""

    recipient: str
    """An e-mail address, or an alias of this person's for a contact."""
    expires: Annotated[
        int,
        Meta(
            ge=content.MIN_EXPIRES,
            le=content.MAX_EXPIRES,
            description=f"seconds in which it may be accepted, {content.MIN_EXPIRES} to {content.MAX_EXPIRES}; "
            f"{content.DEFAULT_EXPIRES} unless given",
        ),
    ] = content.DEFAULT_EXPIRES
    device: Annotated[str, Meta(description="one of the recipient's devices, by its peer id")] = ""

    def to_content(self, files: tuple[FileRef, ...]) -> Content[FileRef]:
        """Return what is to be signed, with the files as they were read."""
        return Content(**(self.values() | {"files": files}))

    @classmethod
    def refuse(cls, given: Mapping[str, object]) -> None:
        """Raise what is wrong with values that are not of this form, if it is a limit: which one and by how much."""
        content.check_limits(given)
        if isinstance(task := given.get("task"), str):
            payload.check_task(task)
        if type(expires := given.get("expires")) is int:
            content.check_expires(expires)
