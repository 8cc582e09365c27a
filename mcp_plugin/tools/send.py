"""`dispatch_send`: sign and queue a task for somebody's machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from msgspec.structs import asdict

from mcp_plugin.arguments import Arguments
from mcp_plugin.call import Call
from mcp_plugin.results import safe
from mcp_plugin.tools import candidates
from peer.client.blocking import Document
from peer.client.requests import SendRequest
from peer.dispatches.text import line
from peer.protocol.content import MAX_FILE_BYTES, MAX_FILES, MB
from peer.protocol.errors import Forbidden, Invalid, NotFound


class Send(SendRequest, Arguments, frozen=True, kw_only=True):
    recipient: Annotated[str, Meta(min_length=1, max_length=320, description="e-mail address, or my alias for them")]
    files: Annotated[
        tuple[str, ...],
        Meta(
            max_length=MAX_FILES,
            description=f"local paths, each of at most {MAX_FILE_BYTES // MB} MB",
        ),
    ] = ()


async def send(call: Call, arguments: Send) -> Document:
    """Sign and queue; returns at once: {dispatch_id, status, expires_at, peer_online, …}, see SendService.send."""
    client = await call.client()  # first, so that a missing sign-in is reported rather than a missing file
    files = tuple(str(_local(name, call.session.started_in, call.session.folder.path)) for name in arguments.files)
    try:
        sent = await client.send(**(asdict(arguments) | {"files": files}))
    except NotFound as error:
        if "@" in arguments.recipient or arguments.parent or arguments.device:
            raise
        raise await candidates.unknown(client, arguments.recipient, error, direction="outgoing") from None
    return safe(sent)


def _local(name: str, started_in: Path | None, state: Path) -> Path:
    """Return a file's absolute path, if it may be sent. Raises Invalid, NotFound, Forbidden.

    A relative path counts from the folder in which the host started the server, the only one known of the session.
    """
    shown = line(name, limit=200)
    if not name or "\0" in name:
        raise Invalid(f"`files` has an entry that is not a path: {shown!r}", fix="give the paths of files")
    try:
        given = Path(name).expanduser()
        if started_in is None and not given.is_absolute():
            raise Invalid("the folder where this session started no longer exists", fix="give absolute paths")
        path = Path(os.path.normpath((started_in or Path("/")) / given))
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        raise Invalid(f"`files`: {shown} is not a valid path: {error}", fix="give the paths of files") from None
    if real.is_relative_to(state.resolve()):
        raise Forbidden(
            f"{shown} is in dispatch's own folder, where its keys are, so it is not sent", fix="leave it out"
        )
    if path.is_dir():
        raise Invalid(f"{shown} is a folder", fix="give the files in it, or an archive of it")
    if not path.exists():
        raise NotFound(
            f"there is no file {path}",
            fix="give an absolute path, or one relative to the folder where the session started",
        )
    return path
