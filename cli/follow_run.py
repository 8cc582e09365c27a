"""Following an accepted run on the terminal and answering its tool calls there. Accepting is in decisions.py."""

from __future__ import annotations

from cli.app import App
from cli.display import LiveView, show_approval, show_change_sets
from cli.ids import short
from cli.output import string
from cli.prompts import NoAnswer, choose, line
from peer.client.blocking import Document
from peer.dispatches.asking import offered_rules, rule_text
from peer.protocol.errors import Conflict, Gone, NotFound

ANSWER_SECONDS = 120.0


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
        app.out.warn(
            f"not run in {candidates[0]['cwd']} ({string(candidates[0].get('reason'))}), since nobody confirmed it; "
            "name a folder with --cwd"
        )
        return None
    app.out.line(f"{string(document.get('peer'))} asks:", style="bold")
    app.out.quote(str(document.get("task") or ""))
    options = [
        (
            str(n),
            "; ".join(
                [
                    f"{row['cwd']}  ({string(row.get('reason'))})",
                    *([f"a run sees {string(seen[row['cwd']])}"] if row["cwd"] in seen else []),
                    *found.get(row["cwd"], []),
                ]
            ),
        )
        for n, row in enumerate(candidates, 1)
    ]
    options.append(("0", "an empty workspace"))
    try:
        answer = _choose(app, "Where does it run?", options)
    except NoAnswer:
        raise KeyboardInterrupt from None
    return None if answer == "0" else str(candidates[int(answer) - 1]["cwd"])


def warn_of_obstacles(app: App, sentences: list[str]) -> None:
    """Say before an accept what will not work in its folder."""
    for sentence in sentences:
        app.out.warn(f"in a run, {sentence}")


def follow_run(app: App, accepted: Document, *, asks: bool) -> int:
    """Show the run until it ends, with `asks` asking about each waiting call; return 0 only if it completed."""
    identity = accepted["dispatch_id"]
    answered: set[str] = set()
    view = LiveView(app.out)
    try:
        for event in app.client.events(identity):
            if event.kind != "approval":
                if not app.out.json:
                    view.event(event.kind, event.data)
            elif asks:
                _answer_waiting(app, identity, answered)
            elif not app.out.json:
                app.out.warn(f"a call waits for you: `dispatch approvals` ({string(event.data.get('tool'))})")
    except KeyboardInterrupt:
        answering = f"answer its calls with `dispatch accept {short(identity)}`, " if asks else ""
        app.out.note(
            f"the run goes on: {answering}look on with `dispatch watch {short(identity)}`, "
            f"end it with `dispatch cancel {short(identity)}`"
        )
        raise
    final = app.client.dispatch(identity)
    if app.out.json:
        app.out.document({**accepted, **final})
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


def _answer_waiting(app: App, identity: str, answered: set[str]) -> None:
    """Ask about every call of this run that waits now. The API's list is used, since an event may be out of date."""
    while True:
        open_calls = [row for row in app.client.approvals() if row["dispatch_id"] == identity]
        call = next((row for row in open_calls if row["request_id"] not in answered), None)
        if call is None:
            return
        answered.add(call["request_id"])
        try:
            _answer(app, call)
        except NoAnswer:
            app.out.line("no answer: the call is denied when its time is over", style="yellow")
        except (Conflict, Gone, NotFound) as error:
            app.out.line(error.message, style="yellow")  # answered elsewhere, or its time is over


def _answer(app: App, call: Document) -> None:
    """Show one call, ask, and send the answer."""
    identity, request = call["dispatch_id"], call["request_id"]
    show_approval(app.out, call)
    rules = offered_rules(call)
    options = [("1", "Allow once")]
    if rules:
        more = ", or a wider one" if len(rules) > 1 else ""
        options.append(("2", f"Always: store the rule {rule_text(rules[0])}{more}"))
    options += [
        ("3", "Allow for this session: calls like it, until this run ends"),
        ("4", "Deny"),
        ("5", "Decline the dispatch: end the run"),  # the page's key for it, too
        ("6", "Deny, and tell the agent why"),
    ]
    left = call.get("expires_in")
    seconds = float(left) if isinstance(left, int | float) else ANSWER_SECONDS
    answer = _choose(app, "Your answer?", options, seconds=seconds)
    if answer == "2":
        app.client.approve(identity, request, grant="always", rule=_chosen_rule(app, rules, seconds))
    elif answer in ("1", "3"):
        app.client.approve(identity, request, grant={"1": "once", "3": "session"}[answer])
    elif answer == "6":
        app.client.deny(identity, request, note=line("What should it know? ", seconds=seconds).strip() or None)
    else:
        app.client.deny(identity, request, decline_dispatch=answer == "5")
    words = dict(options)[answer].split(":")[0].lower()
    app.out.line(f"{short(identity)}: {words}", style="dim")


def _chosen_rule(app: App, rules: list[Document], seconds: float) -> int | None:
    """Return the index of the rule that the person picks; None where only the narrowest is offered."""
    if len(rules) < 2:
        return None
    options = [(str(number), rule_text(rule)) for number, rule in enumerate(rules, 1)]
    return int(_choose(app, "Which rule?", options, seconds=seconds)) - 1


def _choose(app: App, question: str, options: list[tuple[str, str]], *, seconds: float | None = None) -> str:
    for key, words in options:
        app.out.line(f"{key}  {words}", indent=2)
    return choose(app.out, question, [key for key, _ in options], seconds=seconds)
