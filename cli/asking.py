"""Showing a waiting tool call to a person, and asking on a terminal. Which calls wait is for the callers.

The order is that of the page's card: what it does in one line, what is unusual about it, the diff or the command, where
and for whom; the raw call only on request.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from cli.app import App
from cli.display import show_diff, show_input
from cli.ids import short, short_request
from cli.output import Output, string
from cli.prompts import NoAnswer, discard_typed_ahead, line
from cli.values import duration, home
from peer.client.blocking import Document
from peer.dispatches.asking import offered_rules, rule_text
from peer.dispatches.quoting import quoted, word
from peer.dispatches.summary import NAME, is_whole, summary
from peer.protocol.errors import Conflict, Gone, NotFound

ANSWER_SECONDS: Final = 120.0
TASK_SHOWN: Final = 120
"""Characters of the task beside a call."""

_SAID: Final = {
    "Read": ("file_path", "offset", "limit"),
    "Glob": ("pattern", "path"),
    "Grep": ("pattern", "path"),
    "Write": ("file_path", "content"),
    "Edit": ("file_path", "old_string", "new_string"),
}
"""What of a call's input the line, the diff and the path say already."""


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


def tasks_of(app: App, calls: list[Document]) -> dict[str, Task]:
    """Return the tasks of these calls, by the dispatches' ids."""
    found = {}
    for identity in dict.fromkeys(str(call["dispatch_id"]) for call in calls):
        try:
            found[identity] = Task.of(app.client.dispatch(identity))
        except NotFound:
            found[identity] = Task()  # gone between the two questions, and its calls with it
    return found


def show_call(out: Output, call: Document, task: Task) -> None:
    """Show a waiting call as a person needs it to answer. Nothing of it is left out but what stands there already."""
    out.line(summary(call), style="bold")
    for each in call.get("unusual") or []:
        out.line(f"look twice: {string(each)}", indent=2, style="red")
    if call.get("mcp_pin"):
        out.line("this tool is new, or not as it was when you granted its server; to allow it accepts it as it is now")
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


def ask(app: App, call: Document, task: Task, *, skips: bool = False) -> None:
    """Show one waiting call, ask, and send the answer. With `skips`, Enter leaves it waiting.

    Raises NoAnswer when its time is over or the person closes the input.
    """
    try:
        _Question(app, call, task, skips=skips).ask()
    except (Conflict, Gone, NotFound) as error:
        app.out.line(error.message, style="yellow")  # answered elsewhere, or its time is over


def time_left(call: Document) -> float:
    """Return the seconds in which a call can be answered, from when it was asked for."""
    left = call.get("expires_in")
    return max(float(left), 0) if isinstance(left, int | float) else ANSWER_SECONDS


class _Question:
    """One call, while it is asked about."""

    def __init__(self, app: App, call: Document, task: Task, *, skips: bool) -> None:
        self._app, self._call, self._task, self._skips = app, call, task, skips
        self._deadline = time.monotonic() + time_left(call)
        self._rules = offered_rules(call)
        self._options = {
            "1": "Allow once",
            "2": "Always allow calls like it",
            "3": "Allow calls like it until this run ends",
            "4": "Deny; a note to the agent may follow, as in “4 use the copy in tests”",
            "5": "Decline the dispatch: the run ends",
        }
        if not self._rules:
            del self._options["2"]

    def ask(self) -> None:
        out = self._app.out
        show_call(out, self._call, self._task)
        while True:
            for key, words in self._options.items():
                out.option(key, words)
            out.option("r", "Show the raw call")
            answer, note = self._choose()
            if answer == "":
                out.line("skipped: it still waits", style="dim")
                return
            if answer in ("r", "?"):
                show_raw(out, self._call)
            elif answer != "2":
                self._send(answer, note)
                return
            elif (rule := self._chosen_rule()) is not None:
                self._store(rule)
                return

    def _choose(self) -> tuple[str, str]:
        """Return a key and the note behind it."""
        discard_typed_ahead()
        keys = [*self._options, "r"]
        enter = ", Enter: skip" if self._skips else ""
        while True:
            left = duration(self._left())
            typed = line(f"Your answer? ({left} left) [{'/'.join(keys)}{enter}] ", seconds=self._left()).strip()
            key, _, note = typed.partition(" ")
            known = key.lower() in (*keys, "?") or (not typed and self._skips)
            if known and (not note or key == "4"):
                return key.lower(), note.strip()
            self._app.out.line(f"please type one of {', '.join(keys)}")

    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 0)

    def _send(self, answer: str, note: str) -> None:
        client, ids = self._app.client, (self._call["dispatch_id"], self._call["request_id"])
        if answer in ("1", "3"):
            client.approve(*ids, grant={"1": "once", "3": "session"}[answer])
        else:
            client.deny(*ids, note=note or None, decline_dispatch=answer == "5")
        done = {"1": "allowed once", "3": "allowed until this run ends", "4": "denied", "5": "declined: the run ends"}
        self._app.out.line(done[answer], style="dim")

    def _chosen_rule(self) -> int | None:
        """Show the rule, or those to choose from, before one is stored; return its number, None to go back."""
        out, several = self._app.out, len(self._rules) > 1
        show_rules(out, self._rules, self._call)
        numbers = [str(number) for number, _ in enumerate(self._rules, 1)] if several else ["y"]
        question = f"Which one? [{'/'.join(numbers)}, Enter: none] " if several else "Store it? [y/N] "
        discard_typed_ahead()
        typed = line(question, seconds=self._left()).strip().lower()
        if typed in ("y", "yes") and not several:
            return 0
        return int(typed) - 1 if several and typed in numbers else None

    def _store(self, rule: int) -> None:
        several = len(self._rules) > 1
        self._app.client.approve(
            self._call["dispatch_id"], self._call["request_id"], grant="always", rule=rule if several else None
        )
        self._app.out.line(f"allowed, and from now on unasked: {rule_text(self._rules[rule])}", style="dim")


def show_rules(out: Output, rules: list[Document], call: Document) -> None:
    """Show the rule that an `always` would store, or the several, and how one is removed."""
    if len(rules) > 1:
        out.line("Rules to choose from; calls that match are allowed unasked from then on:")
        for number, rule in enumerate(rules, 1):
            out.option(str(number), rule_text(rule))
    else:
        out.line("Calls that match this rule are allowed unasked from then on:")
        out.line(rule_text(rules[0]), indent=2, style="bold")
    out.line(removal(call), style="dim")


def removal(call: Document) -> str:
    """Say how a stored rule is removed."""
    return f"to see or remove rules later: `dispatch trust show {string(call.get('sender_id'))}`"


def listed(app: App, calls: list[Document]) -> None:
    """List waiting calls, each with what answers it."""
    tasks = tasks_of(app, calls)
    requests = [str(call["request_id"]) for call in calls]
    for number, call in enumerate(calls):
        if number:
            app.out.line()
        show_call(app.out, call, tasks[str(call["dispatch_id"])])
        rules = offered_rules(call)
        for place, rule in enumerate(rules, 1):
            flags = "--always" if place == 1 else f"--always --rule {place}"
            app.out.line(f"{flags} would store: {rule_text(rule)}", indent=2)
        request = short_request(str(call["request_id"]), requests)
        app.out.line(f"request {word(request)}, {duration(time_left(call))} left", indent=2)


def ask_each(app: App, calls: list[Document]) -> None:
    """Ask about each of these calls, the one with least time first."""
    tasks = tasks_of(app, calls)
    current = {(row["dispatch_id"], row["request_id"]): row for row in calls}
    for number, call in enumerate(sorted(calls, key=time_left), 1):
        if number > 1:
            current = {(row["dispatch_id"], row["request_id"]): row for row in app.client.approvals()}
            if (call["dispatch_id"], call["request_id"]) not in current:
                app.out.line(f"{summary(call)}: answered elsewhere, or its time is over", style="yellow")
                continue
        if len(calls) > 1:
            app.out.line(f"{number} of {len(calls)}", style="dim")
        try:
            now = current[call["dispatch_id"], call["request_id"]]
            ask(app, now, tasks[str(call["dispatch_id"])], skips=True)
        except NoAnswer:
            app.out.line("no answer: a call is denied when its time is over", style="yellow")
            return


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
    said: tuple[str, ...] = _SAID.get(tool, ())
    if tool == "Bash":
        said = ("command",)
    else:
        no_diff = tool in ("Write", "Edit") and "\n@@" not in f"\n{call.get('diff') or ''}"
        cut = tool in ("Glob", "Grep") and any(len(str(given.get(name))) > NAME for name in said)
        said = () if no_diff or cut else said
    return {name: value for name, value in given.items() if name not in said}
