"""The request to send a dispatch: one struct for the CLI, the MCP tool, the page and the API. Sending is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from peer.dispatches import payload
from peer.protocol import content
from peer.protocol.content import Content, FileRef


class SendRequest(Content[str], frozen=True, kw_only=True):
    """A dispatch to sign and queue. `files` are absolute paths, or ids of uploads in a request of the page."""

    recipient: str
    """An e-mail address, or the local alias of a contact."""
    expires: Annotated[
        int,
        Meta(
            ge=content.MIN_EXPIRES,
            le=content.MAX_EXPIRES,
            description=f"seconds in which it may be accepted, {content.MIN_EXPIRES} to {content.MAX_EXPIRES}; "
            f"the default is {content.DEFAULT_EXPIRES}",
        ),
    ] = content.DEFAULT_EXPIRES
    device: Annotated[str, Meta(description="one of the recipient's devices, by its peer id")] = ""

    def to_content(self, files: tuple[FileRef, ...]) -> Content[FileRef]:
        """Return the content to sign, with the files as they were read."""
        return Content(**(self.values() | {"files": files}))

    @classmethod
    def refuse(cls, given: Mapping[str, object]) -> None:
        """For values that did not convert: raise TooLarge or Invalid if the cause is a limit, else return."""
        content.check_limits(given)
        if isinstance(task := given.get("task"), str):
            payload.check_task(task)
        if type(expires := given.get("expires")) is int:
            content.check_expires(expires)
