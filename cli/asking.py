"""Asking a person on a terminal about waiting tool calls. How a call is shown is in calls.py."""

from __future__ import annotations

import time

from cli.app import App
from cli.calls import Task, show_call, show_raw, show_rules, show_waiting, time_left
from cli.prompts import NoAnswer, discard_typed_ahead, line
from cli.short_ids import short_request
from cli.values import countdown
from peer.client.blocking import Document
from peer.dispatches.asking import offered_rules, rule_text
from peer.dispatches.summary import summary
from peer.protocol.errors import Conflict, Gone, NotFound


def tasks_of(app: App, calls: list[Document]) -> dict[str, Task]:
    """Return the tasks of these calls, by the dispatches' ids."""
    found = {}
    for identity in dict.fromkeys(str(call["dispatch_id"]) for call in calls):
        try:
            found[identity] = Task.of(app.client.dispatch(identity))
        except NotFound:
            found[identity] = Task()  # gone between the two questions, and its calls with it
    return found


def ask(app: App, call: Document, task: Task, *, skips: bool = False) -> None:
    """Show one waiting call, ask, and send the answer. With `skips`, Enter leaves it waiting.

    Raises NoAnswer when its time is over or the person closes the input.
    """
    try:
        _Question(app, call, task, skips=skips).ask()
    except (Conflict, Gone, NotFound) as error:
        app.out.line(error.message, style="yellow")  # answered elsewhere, or its time is over


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
            "4": "Deny; you can add a note to the agent, as in “4 use the copy in tests”",
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
            left = countdown(self._left())
            typed = line(f"Your answer? [{'/'.join(keys)}{enter}] ({left} left) ", seconds=self._left()).strip()
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
        self._app.out.line(f"allowed, from now on without asking: {rule_text(self._rules[rule])}", style="dim")


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
        show_waiting(app.out, call, request)


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
            app.out.line("no answer: a call is denied when its time runs out", style="yellow")
            return
