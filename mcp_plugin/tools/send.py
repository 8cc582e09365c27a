"""`dispatch_send`: sign and queue a task for somebody's machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from mcp_plugin.arguments import Arguments
from mcp_plugin.call import Call
from mcp_plugin.error_documents import DetailedError
from mcp_plugin.results import safe
from peer.client.blocking import Document
from peer.client.on_trio import AsyncClient
from peer.dispatches import payload
from peer.dispatches.text import line
from peer.protocol.errors import DispatchError, Forbidden, Invalid, NotFound

MAX_CANDIDATES = 10


class Send(Arguments, frozen=True, kw_only=True):
    recipient: Annotated[
        str, Meta(min_length=1, max_length=320, description="the contact's e-mail address, or my alias for them")
    ]
    task: Annotated[str, Meta(min_length=1, max_length=payload.MAX_TASK, description="what is to be done, verbatim")]
    files: (
        Annotated[
            list[str],
            Meta(description="local paths, at most 50 of 5 MB each; relative ones from where the session runs"),
        ]
        | None
    ) = None
    project: Annotated[str, Meta(description="the project's name, a mere hint")] | None = None
    links: Annotated[list[str], Meta(description="reference URLs, at most 10")] | None = None
    deliverable: Annotated[str, Meta(description="what `done` looks like")] | None = None
    background: Annotated[str, Meta(description="what a stranger needs to know to begin")] | None = None
    expires_in_seconds: Annotated[int, Meta(description="60 to 86400; 3600 unless said")] | None = None
    meta: Annotated[dict[str, str], Meta(description="at most 32 pairs of text")] | None = None
    device: Annotated[str, Meta(description="one of the recipient's devices, by its peer id")] | None = None
    parent_id: Annotated[str, Meta(description="the dispatch that this one answers")] | None = None


async def send(call: Call, arguments: Send) -> Document:
    """Sign and queue; returns at once: {dispatch_id, status, expires_at, peer_online}."""
    client = await call.client()  # first, so that a missing sign-in is reported rather than a missing file
    files = [str(_local(name, call.session.started_in, call.session.folder.path)) for name in arguments.files or ()]
    try:
        sent = await client.send(
            arguments.recipient,
            arguments.task,
            files=files,
            project=arguments.project,
            links=arguments.links or (),
            deliverable=arguments.deliverable,
            background=arguments.background,
            expires_in_seconds=arguments.expires_in_seconds,
            meta=arguments.meta,
            device=arguments.device,
            parent_id=arguments.parent_id,
        )
    except NotFound as error:
        if "@" in arguments.recipient or arguments.parent_id or arguments.device:
            raise
        raise await _candidates(client, arguments.recipient, error) from None
    except Forbidden as error:
        if "dispatch invite" not in error.fix:
            raise
        fix = f'dispatch_invite(action="send", to_email="{line(arguments.recipient, limit=320)}"), then they accept'
        raise Forbidden(error.message, fix=fix) from None
    return safe(sent)


def _local(name: str, started_in: Path | None, state: Path) -> Path:
    """Return a file's absolute path, if it may be sent. Raises Invalid, NotFound, Forbidden.

    A relative path counts from the folder in which the host started the server, the only one known of the session.
    """
    shown = line(name, limit=200)
    if not name or "\0" in name:
        raise Invalid(f"`files` names no file: {shown!r}", fix="give the paths of files")
    try:
        given = Path(name).expanduser()
        if started_in is None and not given.is_absolute():
            raise Invalid("the folder that this session was started in is gone", fix="give paths from / on")
        path = Path(os.path.normpath((started_in or Path("/")) / given))
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        raise Invalid(f"`files`: {shown} cannot be read as a path: {error}", fix="give the paths of files") from None
    if real.is_relative_to(state.resolve()):
        raise Forbidden(f"{shown} is in dispatch's own folder, with its keys", fix="leave it out")
    if path.is_dir():
        raise Invalid(f"{shown} is a folder", fix="name the files in it, or an archive of it")
    if not path.exists():
        raise NotFound(f"there is no file {path}", fix="give its path from / on, or from where the session was started")
    return path


async def _candidates(client: AsyncClient, name: str, error: DispatchError) -> Exception:
    """Return the error for a name that is neither an address nor an alias: with the contacts it may mean, if any."""
    rows = (await client.contacts())["trust"]
    outgoing = {row["peer"]: row.get("alias") or "" for row in rows if row["direction"] == "outgoing"}
    meant = sorted(peer for peer, alias in outgoing.items() if _resembles(name, (peer, alias)))[:MAX_CANDIDATES]
    if not meant:
        return error
    listed = ", ".join(line(peer) for peer in meant)
    return DetailedError(
        Invalid(
            f"{line(name, limit=80)!r} may mean {listed}", fix="ask which one is meant, then give the e-mail address"
        ),
        candidates=meant,
    )


def _resembles(name: str, known: Iterable[str]) -> bool:
    return any(name.casefold() in each.casefold() for each in known)
