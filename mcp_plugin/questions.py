"""The words that a person answers, composed from what the node has and from every argument of a call. Pure.

The server hands them out with a gate and with a dispatch that waits; the hook composes them once more and compares them
whole. A picker that differs in one character is not this question, so its answer permits nothing.

Texts of other people are indented, so that no line of theirs can pass for one of ours. What runs, where and for whom
stands before them, since a host's own dialog shows the first rows of a text alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import indent
from typing import NamedTuple

from peer.dispatches.asking import offered_rules, rule_text
from peer.dispatches.quoting import word
from peer.dispatches.summary import summary
from peer.dispatches.text import block, line
from peer.protocol.documents import Document
from peer.protocol.errors import Invalid

WHOLE = 2_000
"""Characters up to which a text is shown whole."""
PART = 900
"""Characters of a longer text that are shown at its beginning, and at its end."""
MOST = 12_000
"""Characters of all arguments of a call together; what has more is shown as one text, by its beginning and end."""

DIALOG_ROWS, DIALOG_COLUMNS = 9, 74
"""What Claude Code 2.1.330 shows of a hook's text in a terminal of 80 columns: in a larger one a tenth row, the rest
nowhere."""
SHORT = 160
"""Characters of a value that stands before the longer ones."""

Effect = dict[str, object]
"""What a call does: its arguments in one form, whichever tool has them and whether defaults were written out."""


class Choice(NamedTuple):
    """One answer: what the person reads, and the one call that it permits; None for an answer that permits none."""

    label: str
    description: str
    permits: Effect | None


class Question(NamedTuple):
    """A question for the host's picker."""

    text: str
    header: str
    choices: tuple[Choice, ...]

    def picker(self) -> Document:
        """Return it as an entry of AskUserQuestion's `questions`."""
        options = [{"label": choice.label, "description": choice.description} for choice in self.choices]
        return {"question": self.text, "header": self.header, "options": options, "multiSelect": False}

    def permitted(self, label: object) -> Effect | None:
        """Return the call that this answer permits."""
        return next((choice.permits for choice in self.choices if choice.label == label), None)


def excerpt(text: str, where: str) -> str:
    """Return a text as it is shown: whole up to WHOLE characters, else its two ends, counts and digest.

    `where`: where the whole of it stands.
    """
    if len(text) <= WHOLE:
        return block(text)
    out = text[PART:-PART]
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    left_out = f"[{len(out):,} of {len(text):,} characters, with {out.count(chr(10)):,} line breaks, are left out here]"
    return (
        f"{block(text[:PART])}\n"
        f"{left_out}\n"
        f"[SHA-256 of the whole text: {digest}]\n"
        f"[whole text: {where}]\n"
        f"{block(text[-PART:])}"
    )


def shortened(value: object, where: str) -> object:
    """Return a value with every long text in it as `excerpt` shows it: nobody has to write 100 kB once more."""
    if isinstance(value, str):
        return excerpt(value, where)
    if isinstance(value, Mapping):
        return {name: shortened(inner, where) for name, inner in value.items()}
    return [shortened(inner, where) for inner in value] if isinstance(value, list) else value


def facts(given: Mapping[str, object], where: str) -> list[str]:
    """Return every member of a document as an indented `name: value`, short ones first; with too many, the document as
    one text."""
    shown = []
    for name, value in sorted(given.items(), key=lambda member: len(str(member[1])) > SHORT):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        shown.append(indent(f"{line(str(name), limit=200)}: {excerpt(text, where)}", "    ", lambda _: True))
        if len(shown) > 100 or sum(map(len, shown)) > MOST:
            return [indent(excerpt(json.dumps(given, ensure_ascii=False), where), "    ", lambda _: True)]
    return shown


# --- a tool call of a run

WHOLE_CALL = "`dispatch approvals`, or the local page (`dispatch open`)"
"""Where the whole of a waiting call stands."""


def gate_text(row: Document) -> str:
    """Return the question about a waiting tool call, for the picker and for a form."""
    given = row["input"] if isinstance(row["input"], Mapping) else {"input": row["input"]}
    where = WHOLE_CALL
    lines = [f"{word(row['tool'])} call in the dispatch from {line(str(row['sender_id']))}:"]
    if row.get("resolved_path"):
        lines.append(f"Path: {line(str(row['resolved_path']))}")
    lines += [f"Unusual: {line(str(each), limit=500)}" for each in row.get("unusual") or []]
    lines += facts(given, where)
    if diff := str(row.get("diff") or ""):
        # A long one repeats what the input showed by its ends; how much it is says more than its ends would.
        lines.append(indent(diff_size(diff, where) if len(diff) > WHOLE else block(diff), "    ", lambda _: True))
    lines.append(f"Call {word(row['request_id'])} of dispatch {str(row['dispatch_id'])[-8:]}.")
    lines.append(f"What this returns goes to {line(str(row['sender_id']))}.")
    return "\n".join([summary(row), *lines])


def diff_size(diff: str, where: str) -> str:
    """Return how many lines a diff adds and removes, in place of the diff."""
    lines = [each for each in diff.split("\n") if not each.startswith(("+++", "---"))]
    added, removed = (sum(each.startswith(sign) for each in lines) for sign in "+-")
    return f"[the diff has {len(diff):,} characters: {added:,} lines added, {removed:,} removed; whole diff: {where}]"


def gate(row: Document) -> Question:
    """Return the question about a waiting tool call with its four answers; three where no rule can be stored."""
    rules = offered_rules(row)
    ids = {"dispatch_id": row["dispatch_id"], "request_id": row["request_id"]}
    allow = {"action": "approve", **ids}
    rule = rule_text(rules[0]) if rules else "calls like it"
    choices = [Choice("Allow once", "this call only", {**allow, "grant": "once"})]
    if rules:
        stores = f"stores this rule on the trust edge: {line(rule, limit=WHOLE)}"
        choices.append(Choice("Always allow", stores, {**allow, "grant": "always", "rule": 0}))
    choices += [
        Choice(
            "Allow for this session",
            f"in this run only: {line(rule, limit=WHOLE)}",
            {**allow, "grant": "session", "rule": 0},
        ),
        Choice("Deny", "the run goes on without it", {"action": "deny", **ids}),
    ]
    return Question(gate_text(row), "Allow?", tuple(choices))


def rules_shown(row: Document, number: int | None) -> str:
    """Return what an answer for the session covers. Raises Invalid for a rule that was not offered."""
    rules = offered_rules(row)
    if (number or 0) >= len(rules):
        if number is None:
            return "and calls like it in this run"
        raise Invalid(f"there is no rule {number}", fix=f"`rule` is 0 to {len(rules) - 1}, an index in rule_choices")
    return f"and everything in this run that this rule covers: {line(rule_text(rules[number or 0]), limit=WHOLE)}"


# --- a dispatch that waits


def arrived_text(document: Document) -> str:
    """Return what a person reads of a dispatch before they accept it; `document` is the node's, whole."""
    from peer.protocol.content import TEXTS  # loads msgspec, which the other hooks do not need

    identity = document["dispatch_id"]
    where = f"`dispatch status {identity}`, or the local page"
    lines = [f"{line(str(document['sender_id']))} asks this machine to do:"]
    lines.append(indent(excerpt(str(document["task"]), where), "    ", lambda _: True))
    for field in TEXTS:
        if text := document.get(field.name):
            lines += [f"{field.about.heading}:", indent(excerpt(str(text), where), "    ", lambda _: True)]
    files = [f"{line(str(file['name']))} ({file['size']:,} bytes)" for file in document.get("files") or []]
    rest = {"links": document.get("links"), "files": files, "meta": document.get("meta")}
    lines += facts({name: value for name, value in rest.items() if value}, where)
    if unknown := document.get("unknown_fields"):
        lines.append(f"Fields that this version of dispatch does not know: {unknown}.")
    lines.append(f"Dispatch {identity}.")
    return "\n".join(lines)


def folder(document: Document) -> str:
    """Return where an accept without `cwd` runs: a path, or "" for an empty workspace."""
    suggested = document.get("suggestion") or {}
    return str(suggested.get("cwd") or "") if suggested.get("pinned") else ""


def offered_folder(document: Document) -> str:
    """Return the folder that is suggested and that a person has to choose, or ""."""
    suggested = document.get("suggestion") or {}
    return "" if suggested.get("pinned") else str(suggested.get("cwd") or "")


def accept(document: Document) -> Question:
    """Return the question about a dispatch that waits; a suggested folder is an answer of its own."""
    identity, runs_in = document["dispatch_id"], folder(document)
    suggested = document.get("suggestion") or {}
    reason = line(str(suggested.get("reason") or ""), limit=300)
    text = f"{arrived_text(document)}\nAccept runs it in {_place(runs_in)}."
    if reason:
        text += f" ({reason})"
    text += _about(suggested, runs_in)
    permits = {"action": "accept", "dispatch_id": identity}
    choices = [Choice("Accept", f"run it in {_place(runs_in)}", {**permits, "cwd": runs_in})]
    if offered := offered_folder(document):
        text += f"\nSuggested folder: {line(offered)}{_about(suggested, offered)}"
        choices.append(
            Choice("Accept in the suggested folder", f"run it in {line(offered)}", {**permits, "cwd": offered})
        )
    choices += [
        Choice("Decline", "nothing runs; the sender sees that it was declined", _declined(identity)),
        Choice("Show details", "show the whole dispatch; nothing is decided yet", None),
    ]
    return Question(text, "Accept?", tuple(choices))


def accept_text(
    document: Document,
    cwd: str,
    obstacles: Sequence[str] = (),
    extra: Mapping[str, object] | None = None,
    *,
    toolchains: Sequence[str] = (),
) -> str:
    """Return the question about an accept in a given folder.

    `obstacles`: what will not work there. `toolchains`: what a run sees there. `extra`: whatever else the call has.
    """
    offered = offered_folder(document)
    other = f" The suggested folder is {line(offered)}." if offered not in ("", cwd) else ""
    asked = f"Accept it, and run it in {_place(cwd)}?{other}{_sentences(toolchains, obstacles)}"
    return "\n".join([asked, *facts(extra or {}, "the call"), arrived_text(document)])


def accept_in(document: Document, cwd: str, obstacles: Sequence[str], *, toolchains: Sequence[str] = ()) -> Question:
    """Return the question about an accept in a folder that the person named, in which something will not work."""
    identity = document["dispatch_id"]
    permits = {"action": "accept", "dispatch_id": identity, "cwd": cwd}
    choices = (
        Choice("Accept anyway", f"run it in {_place(cwd)}", permits),
        Choice("Decline", "nothing runs; the sender sees that it was declined", _declined(identity)),
        Choice("Choose another folder", "nothing is decided yet", None),
    )
    return Question(accept_text(document, cwd, obstacles, toolchains=toolchains), "Accept?", choices)


def _about(suggested: Document, cwd: str) -> str:
    """What is said of a folder that is offered."""
    return _sentences(*((suggested.get(what) or {}).get(cwd, []) for what in ("toolchains", "obstacles")))


def _sentences(toolchains: Sequence[str], obstacles: Sequence[str]) -> str:
    seen = f"\nA run there sees {line(', '.join(toolchains), limit=500)}." if toolchains else ""
    return seen + "".join(f"\nIn a run there, {line(sentence, limit=500)}." for sentence in obstacles)


def _declined(identity: object) -> Effect:
    return {"action": "decline", "dispatch_id": identity}


def _place(path: str) -> str:
    return line(path) if path else "an empty workspace"


# --- every other call


HEADINGS = {
    ("dispatch_send", None): "Send this? It cannot be recalled.",
    ("dispatch_act", "decline"): (
        "Decline this dispatch? If it runs, its run ends; if its result is held, the result is not sent."
    ),
    ("dispatch_act", "cancel"): "Cancel this dispatch?",
    ("dispatch_act", "deny"): "Deny this call of a run?",
    ("dispatch_invite", "send"): "Ask this person to let you dispatch to them?",
    ("dispatch_invite", "decline"): "Decline this invitation?",
    ("dispatch_trust", "edit"): "Change what this person may do on this machine?",
    ("dispatch_trust", "revoke"): "Revoke all that this person may do on this machine, and stop their running work?",
}


ASKED_IN_A_FORM = {
    ("dispatch_invite", "accept"),
    ("dispatch_trust", "edit"),
    ("dispatch_act", "apply"),
    ("dispatch_act", "discard"),
    ("dispatch_act", "undo"),
    ("dispatch_act", "release"),
}
"""Calls about which the server itself asks, in a form, or refuses where the host has none."""


def call_text(tool: str, given: Mapping[str, object]) -> str:
    """Return the question about a call with all of its arguments."""
    from peer.protocol.content import FIELDS  # as above

    heading = HEADINGS.get((tool, _action(given)), f"Call {line(tool, limit=80)}?")
    where = "the call's own arguments"
    order = sorted(given, key=lambda name: (list(FIELDS).index(name) if name in FIELDS else -1, name))
    return "\n".join([heading, *facts({name: given[name] for name in order if name != "action"}, where)])


def in_dialog(text: str) -> str:
    """Return a text for the host's own dialog: one that has more rows than are shown there says so in its first."""
    rows = sum(max(1, -(-len(each) // DIALOG_COLUMNS)) for each in text.split("\n"))
    if rows <= DIALOG_ROWS:
        return text
    return f"[{rows + 1} rows, but this dialog may show only {DIALOG_ROWS}: answer No if any are missing]\n{text}"


def effect(tool: str, given: Mapping[str, object]) -> Effect:
    """Return a call's arguments in one form. An argument that nobody thought of stays in, and so equals no answer."""
    call: Effect = {name: value for name, value in given.items() if value is not None}
    if tool == "dispatch_approve":
        call["action"] = {"allow": "approve", "deny": "deny"}.get(str(call.pop("decision", None)))
    if call.get("action") == "approve":
        call.setdefault("grant", "once")
        if call["grant"] != "once":
            call.setdefault("rule", 0)
    return call


def reads(tool: str, given: Mapping[str, object]) -> bool:
    """Whether a call changes nothing: what tools answer with before anything was chosen, or after the form that they
    have the person choose in.
    """
    action, more = _action(given), {name for name, value in given.items() if value is not None}
    match tool, action:
        case ("dispatch_act", "watch") | ("dispatch_invite" | "dispatch_trust", "list"):
            return True
        case ("dispatch_invite", "accept"):
            return more <= {"action", "token"}
        case ("dispatch_trust", "edit"):
            return more <= {"action", "peer"}
    return False


def _action(given: Mapping[str, object]) -> str | None:
    action = given.get("action")
    return None if action is None else str(action)


def leaves(value: object) -> Iterator[str]:
    """Yield every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
