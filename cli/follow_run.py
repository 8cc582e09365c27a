"""Following an accepted run on the terminal and answering its tool calls there. Accepting is in decisions.py."""

from __future__ import annotations

from cli.app import App
from cli.asking import ask
from cli.calls import Task
from cli.display import LiveView, show_change_sets
from cli.home_folder import home
from cli.output import string
from cli.prompts import NoAnswer, choose
from cli.short_ids import short
from peer.client.blocking import Document
from peer.dispatches.summary import summary


def confirmed_folder(app: App, document: Document, *, asks: bool) -> str | None:
    """Return the folder that the person confirms for the run; None to leave it to the daemon.

    The one folder that was granted needs no confirmation. One that matches the task does: where nobody can be asked,
    the run gets an empty workspace, and a warning names the suggestion.
    """
    suggestion = document.get("suggestion")
    if not suggestion:
        return None
    found = suggestion.get("obstacles") or {}
    seen = suggestion.get("toolchains") or {}
    if suggestion.get("pinned"):
        warn_of_obstacles(app, found.get(suggestion["cwd"], []))
        return None
    known = [row for row in (suggestion, *(suggestion.get("candidates") or [])) if row.get("cwd")]
    candidates = list({row["cwd"]: row for row in known}.values())
    if not candidates:
        return None
    if not asks:
        first, why = home(candidates[0]["cwd"]), string(candidates[0].get("reason"))
        app.out.warn(f"not run in {first} ({why}), because nobody confirmed that folder; to choose one, give --cwd DIR")
        return None
    app.out.line(f"{string(document.get('peer'))} asks:", style="bold")
    app.out.quote(str(document.get("task") or ""))
    options = [
        (
            str(n),
            "; ".join(
                [
                    f"{home(row['cwd'])} ({string(row.get('reason'))})",
                    *([f"a run sees {string(seen[row['cwd']])}"] if row["cwd"] in seen else []),
                    *found.get(row["cwd"], []),
                ]
            ),
        )
        for n, row in enumerate(candidates, 1)
    ]
    options.append(("0", "an empty workspace"))
    try:
        answer = _choose(app, "Where should it run?", options)
    except NoAnswer:
        raise KeyboardInterrupt from None
    return None if answer == "0" else str(candidates[int(answer) - 1]["cwd"])


def warn_of_obstacles(app: App, sentences: list[str]) -> None:
    """Say before an accept what will not work in its folder."""
    for sentence in sentences:
        app.out.warn(f"in a run, {sentence}")


def follow_run(app: App, document: Document, *, asks: bool, raw: bool = False) -> int:
    """Show the run until it ends, with `asks` asking about each waiting call; return 0 only if it completed.

    `document`: of the dispatch, or what the accept answered, whose id and members go into the JSON. Ctrl-C leaves the
    run as it is, and says how to come back.
    """
    identity = document["dispatch_id"]
    app.out.raw = raw
    answered: set[str] = set()
    view = LiveView(app.out)
    try:
        for event in app.client.events(identity):
            if event.kind != "approval":
                if not app.out.json:
                    view.event(event.kind, event.data)
            elif asks:
                _answer_waiting(app, identity, answered, view)
            elif not app.out.json:
                app.out.warn(f"a call is waiting for you: `dispatch approvals` ({summary(event.data)})")
    except KeyboardInterrupt:
        say_how_to_return(app, identity, asks=asks)
        raise
    final = app.client.dispatch(identity)
    if app.out.json:
        app.out.document({**document, **final})
    else:
        view.end(final)
        if asks and any(row["waits"] for row in final.get("changes") or []):
            from cli.review import ask_landing

            ask_landing(app, identity)
            show_change_sets(app.out, app.client.dispatch(identity))
        if asks and final.get("held"):
            from cli.release import ask_release

            ask_release(app, final)
    returned = final.get("held") or final
    return 0 if returned.get("status") == "completed" else 1


def say_how_to_return(app: App, identity: str, *, asks: bool) -> None:
    """Say, after Ctrl-C, that nothing was stopped, and how to come back."""
    again, still = ("dispatch accept", "the run goes on") if asks else ("dispatch watch", "nothing was stopped")
    app.out.note(f"{still}; to come back: `{again} {short(identity)}`; to end it: `dispatch cancel {short(identity)}`")


def _answer_waiting(app: App, identity: str, answered: set[str], view: LiveView) -> None:
    """Ask about every call of this run that waits now. The API's list is used, since an event may be out of date."""
    words: str | None = None
    while True:
        open_calls = [row for row in app.client.approvals() if row["dispatch_id"] == identity]
        call = next((row for row in open_calls if row["request_id"] not in answered), None)
        if call is None:
            return
        answered.add(call["request_id"])
        view.flush(asked={str(call["request_id"])})
        if words is None:
            words = str(app.client.dispatch(identity).get("task") or "")
        try:
            ask(app, call, Task(words, view.calls))
        except NoAnswer:
            app.out.line("no answer: the call is denied when its time runs out", style="yellow")


def _choose(app: App, question: str, options: list[tuple[str, str]]) -> str:
    for key, words in options:
        app.out.option(key, words)
    return choose(app.out, question, [key for key, _ in options])
