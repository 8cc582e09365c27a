"""What a run changed and returned, for a session: reading it, and what the person says becomes of it.

The names in it are the run's. Whatever is put in place, thrown away, taken back or sent is the person's own word, in a
form.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcp_plugin.call import Call
from mcp_plugin.consent import confirm
from mcp_plugin.results import quoted, safe
from peer.client.blocking import Document
from peer.client.on_trio import AsyncClient
from peer.dispatches.quoting import word
from peer.dispatches.text import excerpt, line
from peer.protocol.errors import Conflict

LISTED = 100
"""Entries in one result."""
_SHOWN = 40
"""Paths in a form."""
_PATH_SHOWN = 200
_REPLY_SHOWN = 2_000
"""Characters of a reply in a form."""

LOOK = "the person sees each as a diff on the local page, or in a terminal: `dispatch changes {}` with --diff"

LOOK_FIRST = "what would be sent, in full, in a terminal: `dispatch release {}` with --show"


async def changes(client: AsyncClient, identity: str, after: int) -> Document:
    """Return {landed, in_place, in_all, waits, …, network?, entries: [{untrusted_path, change, …}], next, look}."""
    found = await client.changes(identity, limit=LISTED, after=after)
    entries = [
        {
            **{name: entry[name] for name in ("number", "change", "size", "count", "landed") if entry[name]},
            **{name: entry[name] for name in ("marks", "conflict", "never") if entry[name]},
            **({"branches": [branch["ref"] for branch in entry["branches"]]} if entry["branches"] else {}),
            "untrusted_path": entry["path"],
        }
        for entry in found["entries"]
    ]
    kept = ("dispatch_id", "attempt", "landed", "in_place", "in_all", "waits", "marked", "conflicts", "incomplete")
    shown: Document = {name: found[name] for name in (*kept, "folders", "more")}
    if found["network"]:
        shown["network"] = [{"untrusted_host": each["host"], "use": each["use"]} for each in found["network"]]
    return quoted({**shown, "next": found["next"], "entries": entries, "look": LOOK.format(identity)})


async def apply(call: Call, identity: str, paths: Sequence[str]) -> Document:
    """Put changes in place after the person's word: all without a mark, or those named. Raises as `confirm`."""
    client = await call.client()
    found = await client.changes(identity)
    choice: Document = {"paths": list(paths)} if paths else {"all": True}
    would = await client.apply(identity, attempt=found["attempt"], digest=found["digest"], dry_run=True, **choice)
    if not would["ok"]:
        return quoted(would)
    await confirm(
        call,
        "\n".join(
            [
                f"Apply {len(would['landed'])} changes of a run in {_listed_folders(found)}?",
                *_listed(found, would["landed"], would["irreversible"]),
                LOOK.format(identity[-8:]),
            ]
        ),
        yes="Yes: apply them",
        command=("dispatch", "apply", identity, *(paths or ("--all",))),
        what="applying changes",
    )
    done = await client.apply(identity, attempt=found["attempt"], digest=found["digest"], **choice)
    return quoted({"status": "in_place" if done["ok"] else "refused", **done})


async def discard(call: Call, identity: str) -> Document:
    """Throw away what waits, after the person's word."""
    client = await call.client()
    found = await client.changes(identity)
    await confirm(
        call,
        f"Discard the {found['waits']} changes of a run that wait, in {_listed_folders(found)}?",
        yes="Yes: discard them",
        command=("dispatch", "discard", identity),
        what="discarding changes",
    )
    return safe({"status": "discarded", **await client.discard(identity, attempt=found["attempt"])})


async def undo(call: Call, identity: str) -> Document:
    """Take back what was put in place last, after the person's word."""
    client = await call.client()
    found = await client.changes(identity)
    await confirm(
        call,
        f"Undo the last apply of this run, in {_listed_folders(found)}?\nWhat you changed since then stays as it is.",
        yes="Yes: undo it",
        command=("dispatch", "undo", identity),
        what="undoing changes",
    )
    done = await client.undo(identity, attempt=found["attempt"])
    return quoted({"status": "taken_back" if done["ok"] else "partly", **done})


async def release(call: Call, identity: str, without: Sequence[str]) -> Document:
    """Send what a run returned, after the person's word: {status, dispatch_id, without}."""
    client = await call.client()
    document = await client.dispatch(identity)
    held = document.get("held")
    if not held:
        # Refused here: by the time another request arrived, the run could have ended, and the person was asked nothing.
        raise Conflict(
            f"nothing pending: this dispatch is {document['status']}, and none of its results is held",
            fix=f"see `dispatch status {identity}`",
        )
    lines = [
        f"Send {line(document['peer'])} what their dispatch returned here ({word(held['status'])})?",
        *([] if "reply" in without else ["Its reply:", *_head(held["reply"])]),
        *([] if without else [f"Its events: {held['events']}"]),  # they repeat the reply and the files
        *([] if "files" in without else [f"A file: {_file(file)}" for file in held["files"]]),
        LOOK_FIRST.format(identity[-8:]),
    ]
    left_out = [flag for part in without for flag in ("--without", part)]
    await confirm(
        call,
        "\n".join(lines),
        yes="Yes: send it",
        command=("dispatch", "release", identity, *left_out),
        what="sending the result",
    )
    done = await client.release(identity, without=without)
    return safe({**done, "state": done["status"], "status": "sent"})


def _head(reply: str) -> list[str]:
    return [f"    {each}" for each in excerpt(reply or "(none)", characters=_REPLY_SHOWN, lines=20).split("\n")]


def _file(file: Document) -> str:
    return f"{word(file['name'], limit=_PATH_SHOWN)}, {file['size']} bytes"


def _listed_folders(found: Document) -> str:
    return ", ".join(word(each["folder"], limit=_PATH_SHOWN) for each in found["folders"]) or "no folder"


def _listed(found: Document, paths: Sequence[str], irreversible: Sequence[str]) -> list[str]:
    """The paths, first those that cannot be taken back."""
    final = frozenset(irreversible)
    paths = sorted(paths, key=lambda path: path not in final)
    marks = {entry["path"]: entry["marks"] for entry in found["entries"]}
    lines = []
    for path in paths[:_SHOWN]:
        why = f" (marked: {'; '.join(marks[path])})" if marks.get(path) else ""
        why += " (cannot be undone: the earlier content is too large to keep)" if path in final else ""
        lines.append(f"    {word(path, limit=_PATH_SHOWN)}{why}")
    if len(paths) > _SHOWN:
        lines.append(f"    and {len(paths) - _SHOWN} more")
    return lines
