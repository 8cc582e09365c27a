"""Showing a waiting tool call, its input, its diff and its rules to a person. Asking about one is in asking.py.

The order is that of the page's card: what it does in one line, what is unusual about it, the diff or the command, where
and for whom; the raw call only on request.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Final

from cli.home_folder import home
from cli.output import Output, string
from cli.short_ids import short
from cli.values import countdown
from peer.client.blocking import Document
from peer.dispatches.asking import rule_text
from peer.dispatches.quoting import quoted, word
from peer.dispatches.summary import NAME, changed_lines, is_whole, summary
from peer.dispatches.text import excerpt, line

ANSWER_SECONDS: Final = 120.0
INPUT_SHOWN, INPUT_LINES = 4_000, 60
"""Characters and lines of one field of a tool's input."""
DIFF_SHOWN, DIFF_LINES = 40_000, 200
"""Characters and lines of a diff."""


TASK_SHOWN: Final = 120
"""Characters of the task beside a call."""

_SAID: Final = {
    "Bash": ("command", "description", "timeout"),
    "Read": ("file_path", "offset", "limit"),
    "Glob": ("pattern", "path"),
    "Grep": ("pattern", "path"),
    "Write": ("file_path", "content"),
    "Edit": ("file_path", "old_string", "new_string"),
}
"""What of a call's input the line, the diff and the path say already, or is the agent's own word for it."""


class Task:
    """The dispatch of a waiting call, as far as a person is reminded of it: its task, and which step the call is."""

    def __init__(self, words: str = "", steps: Mapping[str, int] | None = None) -> None:
        self.words = words
        self.steps = steps or {}

    @classmethod
    def of(cls, document: Document) -> Task:
        """Return that of a dispatch's document, whose events number the calls of its last run."""
        calls = [event for event in document.get("events") or [] if event.get("kind") == "tool_call"]
        last = [event for event in calls if event.get("attempt") == calls[-1].get("attempt")]
        steps = {str(event.get("call_id")): number for number, event in enumerate(last, 1)}
        return cls(str(document.get("task") or ""), steps)


def show_call(out: Output, call: Document, task: Task) -> None:
    """Show a waiting call as a person needs it to answer. Nothing of it is left out but what stands there already."""
    out.line(summary(call), style="bold")
    for each in call.get("unusual") or []:
        out.line(f"look twice: {string(each)}", indent=2, style="red")
    if call.get("mcp_pin"):
        out.line("this tool is new, or has changed since you granted its server; allowing it accepts it as it is now")
    given = call.get("input")
    if call.get("tool") == "Bash" and isinstance(given, Mapping) and not is_whole(given.get("command")):
        show_input(out, given.get("command"), indent=2)
    if call.get("diff"):
        show_diff(out, str(call["diff"]))
    if rest := _unsaid(call):
        if call.get("tool") in ("Bash", "Write", "Edit"):
            out.line("also:", indent=2)
        show_input(out, rest, indent=2)
    if call.get("resolved_path"):
        out.line(f"on this machine: {home(call['resolved_path'])}", indent=2)
    out.line(_about(call, task), indent=2, style="dim")
    out.line(f"what this returns goes to {string(call.get('sender_id'))}", indent=2, style="yellow")


def show_raw(out: Output, call: Document) -> None:
    """Show the whole call as the agent made it."""
    out.line(f"{word(call.get('tool'))}, request {word(call.get('request_id'))}", indent=2)
    show_input(out, call.get("input"), indent=2)
    out.line(f"sandbox: {string(call.get('sandbox'))}", indent=2)


def show_input(out: Output, given: object, *, indent: int) -> None:
    """Show a tool's input or one field: of a long one head and tail, with what is left out (`--json` has all)."""
    if not isinstance(given, Mapping):
        out.quote(excerpt(string(given), characters=INPUT_SHOWN, lines=INPUT_LINES), indent=indent)
        return
    for name, value in given.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        # Head and tail of a long one, so that what asks for an answer stays in sight.
        shown = excerpt(shown, characters=INPUT_SHOWN, lines=INPUT_LINES)
        if "\n" in shown:
            out.quote(f"{line(str(name))}:", indent=indent)
            out.quote(textwrap.indent(shown, "  "), indent=indent)
        else:
            out.quote(f"{line(str(name))}: {shown}", indent=indent)


def show_diff(out: Output, diff: str) -> None:
    """Show a unified diff, added lines green and removed ones red."""
    for row in excerpt(diff, characters=DIFF_SHOWN, lines=DIFF_LINES).split("\n"):
        out.quote(row, indent=2, style={"+": "green", "-": "red", "@": "cyan"}.get(row[:1]))


def time_left(call: Document) -> float:
    """Return the seconds in which a call can be answered, from when it was asked for."""
    left = call.get("expires_in")
    return max(float(left), 0) if isinstance(left, int | float) else ANSWER_SECONDS


def show_rules(out: Output, rules: list[Document], call: Document) -> None:
    """Show the rule that an `always` would store, or the several, and how one is removed."""
    if len(rules) > 1:
        out.line("Rules to choose from; from then on, calls that match are allowed without asking:")
        for number, rule in enumerate(rules, 1):
            out.option(str(number), rule_text(rule))
    else:
        out.line("From then on, calls that match this rule are allowed without asking:")
        out.line(rule_text(rules[0]), indent=2, style="bold")
    out.line(removal(call), style="dim")


def removal(call: Document) -> str:
    """Say how a stored rule is removed."""
    return f"to see or remove rules later: `dispatch trust show {string(call.get('sender_id'))}`"


def show_waiting(out: Output, call: Document, request: str) -> None:
    """Show what names a call in `approve` and `deny`, and how long it waits."""
    out.line(f"request {word(request)}, {countdown(time_left(call))} left", indent=2)


def _about(call: Document, task: Task) -> str:
    number = task.steps.get(str(call.get("request_id")))
    step = f"step {number} of " if number else "for "
    helper = ", by a helper that the agent started" if call.get("agent_id") else ""
    first = task.words.strip().partition("\n")[0]
    words = f": {quoted(first, limit=TASK_SHOWN)}" if first else ""
    return f"{step}{short(call.get('dispatch_id'))}{helper}{words}"


def _unsaid(call: Document) -> object:
    """Return what of a call's input neither its line, nor the diff, nor the path says."""
    given, tool = call.get("input"), str(call.get("tool"))
    if not isinstance(given, Mapping):
        return given
    said = _SAID.get(tool, ())
    no_diff = tool in ("Write", "Edit") and changed_lines(str(call.get("diff") or "")) is None
    cut = tool in ("Glob", "Grep") and any(len(str(given.get(name))) > NAME for name in said)
    said = () if no_diff or cut else said
    return {name: value for name, value in given.items() if name not in said}
