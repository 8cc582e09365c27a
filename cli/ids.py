"""Ids of dispatches as people give them: in full, or an unambiguous beginning or end. No output here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cli.app import Source
from cli.short_ids import short
from peer.client.blocking import Direction, Document
from peer.protocol.errors import Conflict, Invalid, NotFound

FULL = 36
SHORTEST = 4
PAGE = 200
HEX = frozenset("0123456789abcdef-")


def resolve(source: Source, given: str, *, directions: Iterable[Direction] = ("received", "sent")) -> str:
    """Return the full id that `given` means. Raises Invalid if it is no id or fits several, NotFound if it fits none.

    A full id is not looked up: the call that uses it reports an unknown one.
    """
    wanted = check(given, "a dispatch id", "the id", "`dispatch inbox`")
    if len(wanted) == FULL:
        return wanted
    looked = list(directions)

    def known(direction: Direction) -> Iterable[tuple[str, str]]:
        return ((row["dispatch_id"], str(row.get("peer"))) for row in all_dispatches(source, direction))

    lists = " and ".join({"received": "`dispatch inbox`", "sent": "`dispatch sent`"}[each] for each in looked)
    listed = f"{lists} list{'s' if len(looked) == 1 else ''} the ids"
    try:
        return the_one(wanted, (row for each in looked for row in known(each)), kind="dispatch", listed=listed)
    except NotFound:
        if "sent" not in looked and (mine := [who for identity, who in known("sent") if fits(identity, wanted)]):
            raise Conflict(
                f"{wanted} is one that you sent: {mine[0]} decides about it",
                fix=f"follow it: `dispatch watch {wanted}`",
            ) from None
        raise


def the_one(wanted: str, known: Iterable[tuple[str, str]], *, kind: str, listed: str) -> str:
    """Return the id that `wanted` is a part of.

    `known`: ids and their people. `listed`: what lists them, for the fix, as a sentence. Raises Invalid, NotFound.
    """
    everything = dict(known)
    found = {identity: who for identity, who in everything.items() if fits(identity, wanted)}
    if not found:
        near = _near(wanted, everything)
        raise NotFound(f"there is no {kind} {wanted!r} here", fix=f"{near} Else {listed}" if near else listed)
    if len(found) > 1:
        named = ", ".join(f"{identity} ({who})" for identity, who in list(found.items())[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise Invalid(f"{wanted!r} matches {len(found)}: {named}{more}", fix=f"give more of the {kind}'s id")
    return next(iter(found))


def _near(wanted: str, known: Mapping[str, str]) -> str:
    """Return the question whether a short id was meant that differs little from `wanted`, else ""."""
    import difflib

    shown = {short(identity): who for identity, who in known.items() if abs(len(short(identity)) - len(wanted)) <= 1}
    for each in difflib.get_close_matches(wanted, shown, n=1, cutoff=0.7):
        return f"did you mean {_command(wanted, each)} ({shown[each]})?"
    return ""


def _command(wanted: str, meant: str) -> str:
    """Return the command that is running with the id that was `meant`; the id alone if it was no argument."""
    import click  # a list without flags runs without it

    ctx = click.get_current_context(silent=True)
    arguments = [param.name for param in ctx.command.params if isinstance(param, click.Argument)] if ctx else []
    if ctx is None or not any(str(ctx.params.get(name)).strip().lower() == wanted for name in arguments if name):
        return meant
    return f"`{ctx.command_path} {meant}`"


def check(given: str, what: str, whole: str, shown_by: str) -> str:
    """Return an id or a part of one in normal form. Raises Invalid if it cannot be `what`, which `shown_by` lists.

    `whole`: what else helps, to be given in full.
    """
    wanted = given.strip().lower()
    if SHORTEST <= len(wanted) <= FULL and set(wanted) <= HEX:
        return wanted
    raise Invalid(
        f"{given[:FULL]!r} is not {what}",
        fix=f"give {whole}, or {SHORTEST} or more of the first or last characters that {shown_by} shows",
    )


def all_dispatches(source: Source, direction: Direction) -> Iterable[Document]:
    """Yield every dispatch that was received or sent, newest first, read page by page."""
    before: str | None = None
    while True:
        page = source.dispatches(direction, limit=PAGE, before=before)
        yield from page["dispatches"]
        if not page.get("more") or page["next"] == before:
            return
        before = page["next"]


def matching(wanted: str, candidates: Iterable[str]) -> list[str]:
    """Return the candidate that equals `wanted`, else those that begin or end with it."""
    known = list(dict.fromkeys(candidates))
    if wanted in known:
        return [wanted]
    return [identity for identity in known if identity.startswith(wanted) or identity.endswith(wanted)]


def fits(identity: str, wanted: str) -> bool:
    """Return whether the id, or the part of it that lists show, begins with `wanted`, or the id ends with it."""
    letters = wanted.replace("-", "")
    bare = identity.replace("-", "")
    return bare.startswith(letters) or bare.endswith(letters) or short(bare).startswith(letters)
