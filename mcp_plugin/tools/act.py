"""`dispatch_act` and `dispatch_approve`: decisions on one dispatch and on the tool calls of its run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from mcp_plugin import ids, questions
from mcp_plugin.arguments import Arguments, refuse_others, require
from mcp_plugin.call import Call
from mcp_plugin.consent import choose, confirm
from mcp_plugin.results import quoted, safe
from mcp_plugin.surfaces import chosen_surface, relayed
from mcp_plugin.tools import review
from mcp_plugin.tools.read import DispatchId
from mcp_plugin.watching import watch
from peer.client.blocking import Document
from peer.client.on_trio import AsyncClient
from peer.dispatches.asking import offered_rules, rule_text
from peer.dispatches.text import line
from peer.protocol.errors import Conflict, Invalid
from peer.protocol.outcomes import Part

RequestId = Annotated[str, Meta(description="of an approval_needed", min_length=1, max_length=200)]
Grant = Annotated[
    Literal["once", "always", "session"],
    Meta(description="for approve; default: once"),
]
Rule = Annotated[int, Meta(ge=0, le=50, description="index in rule_choices; default: 0")]
Reason = Annotated[str, Meta(max_length=2_000, description="decline, cancel: for the sender; deny: for the agent")]


class Act(Arguments, frozen=True, kw_only=True):
    action: Annotated[
        Literal["accept", "decline", "cancel", "approve", "deny", "watch", "apply", "discard", "undo", "release"],
        Meta(
            description="accept, approve, deny and watch follow the run to its next gate, its end, or `running`: then "
            "watch. apply, discard, undo: the run's changes in the person's folders; release: a held result"
        ),
    ]
    dispatch_id: DispatchId
    request_id: RequestId | None = None
    grant: Grant | None = None
    rule: Rule | None = None
    cwd: (
        Annotated[
            str,
            Meta(
                max_length=4_096,
                description='accept: the folder the person chose; "" for an empty workspace',
            ),
        ]
        | None
    ) = None
    reason: Reason | None = None
    paths: (
        Annotated[
            list[Annotated[str, Meta(max_length=4_096)]],
            Meta(
                max_length=1_000,
                description="apply: paths of the list; default: all without a mark",
            ),
        ]
        | None
    ) = None
    without: (
        Annotated[
            list[Part],
            Meta(
                max_length=3,
                description="release: parts to hold back",
            ),
        ]
        | None
    ) = None


class Approve(Arguments, frozen=True, kw_only=True):
    dispatch_id: DispatchId
    request_id: RequestId
    decision: Annotated[Literal["allow", "deny"], Meta(description="what the person answered")]
    grant: Grant | None = None
    rule: Rule | None = None
    reason: Reason | None = None


CHOOSE = (
    "nothing runs yet: ask with AskUserQuestion, `question` unchanged; then accept again with `cwd`: the folder that "
    'was chosen, or "" for an empty workspace'
)

TAKES = {
    "accept": ("cwd",),
    "decline": ("request_id", "reason"),
    "cancel": ("reason",),
    "approve": ("request_id", "grant", "rule"),
    "deny": ("request_id", "reason"),
    "watch": (),
    "apply": ("paths",),
    "discard": (),
    "undo": (),
    "release": ("without",),
}


async def act(call: Call, arguments: Act) -> Document:
    """Carry out the decision; then follow the run to its next gate or its end."""
    action = arguments.action
    refuse_others(arguments, f"action={action}", "action", "dispatch_id", *TAKES[action])
    if action in ("approve", "deny"):
        require(arguments, f"action={action}", "request_id")
    client = await call.client()
    identity = await ids.whole(client, arguments.dispatch_id)
    match action:
        case "accept" if relayed(call):
            if (choice := await _folder_choice(call, client, identity, arguments.cwd)) is not None:
                return choice
            return await _accept(call, client, identity, arguments.cwd)
        case "accept":
            return await _accept_by_form(call, client, identity, arguments.cwd)
        case "decline" if arguments.request_id is None:
            return safe(await client.decline(identity, reason=arguments.reason))
        case "decline":
            await client.deny(identity, str(arguments.request_id), note=arguments.reason, decline_dispatch=True)
        case "cancel":
            return safe(await client.cancel(identity, reason=arguments.reason))
        case "approve":
            await _allow(call, identity, str(arguments.request_id), arguments.grant or "once", arguments.rule)
        case "deny":
            await client.deny(identity, str(arguments.request_id), note=arguments.reason)
        case "apply":
            return await review.apply(call, identity, arguments.paths or ())
        case "discard":
            return await review.discard(call, identity)
        case "undo":
            return await review.undo(call, identity)
        case "release":
            return await review.release(call, identity, arguments.without or ())
        case "watch":
            pass
    return await watch(call, identity, chosen_surface(call))


async def approve(call: Call, arguments: Approve) -> Document:
    """Answer one waiting call of a run that was accepted elsewhere; the run is not followed."""
    denied, request_id = arguments.decision == "deny", arguments.request_id
    more = ("reason",) if denied else ("grant", "rule")
    refuse_others(arguments, f"decision={arguments.decision}", "dispatch_id", "request_id", "decision", *more)
    client = await call.client()
    identity = await ids.whole(client, arguments.dispatch_id)
    if denied:
        return safe(await client.deny(identity, request_id, note=arguments.reason))
    return quoted(await _allow(call, identity, request_id, arguments.grant or "once", arguments.rule))


async def _folder_choice(call: Call, client: AsyncClient, identity: str, cwd: str | None) -> Document | None:
    """Return the question where the folder is the person's choice and was not made, or something will not work in it
    and they were not told; None where nothing is open.
    """
    document = await client.dispatch(identity)
    if document["status"] != "pending":
        return None
    folder = questions.folder(document) if cwd is None else cwd
    offered = questions.offered_folder(document)
    question = questions.accept(document)
    if cwd is not None or not offered:
        found = await client.folder(identity, folder) if folder else {"obstacles": [], "toolchains": []}
        if not found["obstacles"] or call.session.told(identity, folder):
            return None
        if folder not in (questions.folder(document), offered):
            question = questions.accept_in(
                document, folder, found["obstacles"], toolchains=found.get("toolchains") or []
            )
    for named in (folder, offered):
        call.session.tell(identity, named)
    return quoted(
        {
            "status": "folder_choice_required",
            "dispatch_id": identity,
            "question": question.picker(),
            "next": CHOOSE,
        }
    )


async def _accept_by_form(call: Call, client: AsyncClient, identity: str, cwd: str | None) -> Document:
    """Ask the person about a dispatch that waits, do what they choose, and follow the run.

    Raises Forbidden, with the command for a terminal, where nobody was asked.
    """
    document = await client.dispatch(identity)
    if document["direction"] == "received" and document["status"] in ("accepted", "running"):
        # Followed as it is: accepting anew, if it was interrupted just now, would take a new word.
        return await watch(call, identity, chosen_surface(call))
    question = questions.accept(document)
    if cwd is not None:
        found = await client.folder(identity, cwd) if cwd else {"obstacles": [], "toolchains": []}
        question = questions.accept_in(document, cwd, found["obstacles"], toolchains=found.get("toolchains") or [])
    permitted = {str(n): choice for n, choice in enumerate(question.choices, 1) if choice.permits is not None}
    chosen = await choose(
        call,
        question.text,
        [(n, f"{n}. {choice.label}: {choice.description}") for n, choice in permitted.items()],
        command=("dispatch", "accept", identity, *(("--cwd", cwd) if cwd else ())),
        what="accepting a dispatch",
    )
    permits = permitted[chosen].permits or {}
    if permits["action"] == "decline":
        return safe(await client.decline(identity))
    return await _accept(call, client, identity, str(permits["cwd"]))


async def _accept(call: Call, client: AsyncClient, identity: str, cwd: str | None) -> Document:
    """Accept a dispatch and follow the run. One that was accepted already is no error, unless in another folder."""
    runs = ""
    try:
        runs = str((await client.accept(identity, cwd=cwd)).get("runs") or "")
    except Conflict:
        document = await client.dispatch(identity)
        if document["direction"] != "received" or document["status"] not in ("accepted", "running"):
            raise
        if cwd is not None and cwd != (document.get("cwd") or ""):
            raise Conflict(
                f"nothing pending: it is already running, in {document.get('cwd') or 'an empty workspace'}",
                fix="to run it elsewhere, cancel it and ask the sender to send it again",
            ) from None
    found = await watch(call, identity, chosen_surface(call))
    return {**found, "runs": line(runs, limit=1_000)} if runs else found


async def _allow(call: Call, identity: str, request_id: str, grant: str, rule: int | None) -> Document:
    """Allow one waiting call, if it was shown long enough to be read; an `always`, after consent in a form."""
    if rule is not None and grant == "once":
        raise Invalid(
            "`rule` cannot be used with grant=once", fix='use grant="always" or "session", or leave `rule` out'
        )
    client = await call.client()
    row = next(
        (
            each
            for each in await client.approvals()
            if (each["dispatch_id"], each["request_id"]) == (identity, request_id)
        ),
        None,
    )
    if row is None:
        # Raises NotFound for an unknown dispatch, which is the more useful error.
        await client.dispatch(identity)
        raise Conflict("nothing pending: no such tool call is waiting now", fix='dispatch_read(what="approvals")')
    if relayed(call):
        call.session.check_answer(identity, request_id)
    if grant == "always":
        await _confirm_always(call, row, rule)
    elif not relayed(call):
        reach = questions.rules_shown(row, rule) if grant == "session" else "this call only"
        await confirm(
            call,
            questions.gate_text(row),
            yes=f"Yes: allow it, {reach}",
            command=("dispatch", "approve", identity, request_id, *(("--session",) if grant == "session" else ())),
            what="allowing a call",
        )
    return await client.approve(identity, request_id, grant=grant, rule=rule)


async def _confirm_always(call: Call, row: Document, rule: int | None) -> None:
    rules = offered_rules(row)
    if not rules:
        raise Conflict("this call cannot be allowed always", fix="allow it once or for this session")
    number = rule or 0
    if number >= len(rules):
        raise Invalid(f"there is no rule {number}", fix=f"`rule` is 0 to {len(rules) - 1}, an index in rule_choices")
    sender = line(str(row["sender_id"]))
    command: Sequence[str] = ("dispatch", "approve", row["dispatch_id"], row["request_id"], "--always")
    await confirm(
        call,
        f"Always allow this for dispatches from {sender}?\n    {rule_text(rules[number])}\n"
        "The rule is stored on the trust edge, and you are no longer asked about such calls.",
        yes="Yes: store this rule and allow the call",
        command=(*command, "--rule", str(number + 1)) if number else command,
        what="always allowing a call",
    )
