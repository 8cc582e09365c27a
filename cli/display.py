"""Showing a dispatch, its events and its result to a person. A waiting tool call is shown by asking.py."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cli.calls import Task, show_call, show_input, show_waiting
from cli.home_folder import home
from cli.output import Output, local_time, string
from cli.short_ids import short, short_request
from cli.values import ends, size, used, when_exactly
from peer.client.blocking import Document
from peer.dispatches.counts import counts_text
from peer.dispatches.quoting import MAX_REASON, quoted, word
from peer.dispatches.text import excerpt
from peer.protocol.landed import in_words

OUTPUT_LINES = 20
"""Lines of a tool's output that are shown; `--json` has all."""


def show_dispatch(out: Output, document: Document) -> None:
    """Show everything of one dispatch."""
    from peer.protocol.content import TEXTS  # msgspec: 17 ms that showing anything else does not need

    received = document.get("direction") == "received"
    out.pairs(
        _texts(
            {
                "id": document.get("dispatch_id"),
                "status": document.get("status"),
                "from" if received else "to": document.get("peer"),
                "created": when_exactly(document.get("created")),
                "expires": when_exactly(document.get("expires_at")),
                "updated": when_exactly(document.get("updated")),
                **{text.name: _short(document.get(text.name)) for text in TEXTS if not text.long},
                "links": [str(each) for each in document.get("links") or []],
                "files": list(map(_file, document.get("files") or [])),
                "meta": [f"{word(k)}={word(v, limit=MAX_REASON)}" for k, v in (document.get("meta") or {}).items()],
                "parent": short(document["parent"]) if document.get("parent") else None,
            }
        )
    )
    if document.get("unknown_fields"):
        out.line(unknown_fields(document["unknown_fields"]), style="yellow")
    if document.get("unseen_fields"):
        out.line(f"not seen by its recipient: {string(document['unseen_fields'])}", style="yellow")
    for name in ("task", *(text.name for text in TEXTS if text.long)):
        if document.get(name):
            out.line(f"{name}:", style="bold")
            out.quote(str(document[name]))
    if document.get("removed"):
        out.line(str(document["removed"]["message"]), style="yellow")
    _show_suggestion(out, document.get("suggestion"))
    view = LiveView(out)
    attempt = None
    for event in document.get("events") or []:
        if event.get("attempt") != attempt:
            view.flush()
            attempt = event.get("attempt")
            out.line(f"run {string(attempt)}:" if attempt else "trace:", style="bold")
        view.event("trace", event)
    if waiting := document.get("approvals"):
        view.flush(asked={str(call.get("request_id")) for call in waiting})
        requests = [str(call.get("request_id")) for call in waiting]
        for request, call in zip(requests, waiting, strict=True):
            show_call(out, call, Task.of(document))
            show_waiting(out, call, short_request(request, requests))
    view.end(document)


def unknown_fields(count: int) -> str:
    """Say how much of a signed statement a person does not get to see, and why."""
    return f"{count} field{'' if count == 1 else 's'} this version does not know: update dispatch to see what they say"


class LiveView:
    """Shows the events of one dispatch as they come, and then how it ended, nothing twice.

    What the agent says, and each call, is held back until the next event: the last words are the reply, which stands in
    the result, and a call that is asked about is shown by the question.
    """

    def __init__(self, out: Output) -> None:
        self._out = out
        self._held: Document | None = None
        self._attempt: object = None
        self.calls: dict[str, int] = {}
        """The calls of the run so far, by their ids: the number of each."""

    def event(self, kind: str, event: Document) -> None:
        """Show one event of the live stream, as show_event."""
        if kind == "end":
            return  # the words before it may be the reply
        self.flush()
        if kind == "trace" and event.get("kind") == "tool_call":
            if event.get("attempt") != self._attempt:
                self._attempt, self.calls = event.get("attempt"), {}
            self.calls[str(event.get("call_id"))] = len(self.calls) + 1
        if kind == "trace" and event.get("kind") in ("reasoning", "tool_call"):
            self._held = event
        else:
            show_event(self._out, kind, event)

    def flush(self, *, asked: Collection[str] = ()) -> None:
        """Show what is held back, but for a call that is `asked` about."""
        held, self._held = self._held, None
        if held is not None and not (held.get("kind") == "tool_call" and held.get("call_id") in asked):
            show_event(self._out, "trace", held)

    def end(self, document: Document) -> None:
        """Show the result."""
        reply = str((document.get("result") or document.get("held") or {}).get("reply") or "")
        held = self._held or {}
        if held.get("kind") == "reasoning" and reply and str(held.get("text") or "").strip() == reply.strip():
            self._held = None
        self.flush()
        show_result(self._out, document)


def show_result(out: Output, document: Document) -> None:
    """Show how a dispatch ended, if it has."""
    result = document.get("result")
    if result:
        show_returned(out, result)
        files = result.get("files") or []
        if any(not (file.get("withheld") or file.get("removed")) for file in files):
            out.note(f"to get the files: `dispatch fetch {short(document.get('dispatch_id'))}`")
    elif document.get("held"):
        peer = string(document.get("peer"))
        out.line(f"the run has ended; its result is held: {peer} does not get it until you release it", style="yellow")
        show_returned(out, document["held"])
        identity = short(document.get("dispatch_id"))
        out.note(f"to send it: `dispatch release {identity}`; to send nothing: `dispatch decline {identity}`")
    elif document.get("message"):
        code = f" ({document['code']})" if document.get("code") else ""
        out.line(f"{string(document.get('status'))}{code}: {document['message']}")
        if document.get("fix"):
            out.line(f"fix: {document['fix']}")
    show_change_sets(out, document)


def show_returned(out: Output, result: Document) -> None:
    """Show what a run returned, sent or held: its status, reason, reply, files, and what it used."""
    out.line(f"result: {string(result.get('status'))}", style="bold")
    if counted := counts_text(result.get("counts") or {}):
        out.line(f"counted by the machine that ran it: {counted}")
    if result.get("reason"):
        out.line(str(result["reason"]), indent=2)
    if result.get("fix"):
        out.line(f"fix: {result['fix']}", indent=2)
    if result.get("reply"):
        out.markdown(str(result["reply"]))
    for file in result.get("files") or []:
        out.line(_file(file), indent=2)
    if usage := result.get("usage"):
        out.line(used(usage), style="dim")


def show_change_sets(out: Output, document: Document) -> None:
    """Say what of the changes of a run is in place: at the recipient of each run, at the sender as it was told."""
    if document.get("landing"):
        out.line(f"changes: {document['landing']['words']}")
    rows = document.get("changes") or []
    for row in rows:
        run = f" by run {row['attempt']}" if len(rows) > 1 else ""
        out.line(f"changes in your folders{run}: {standing(row)}", style="yellow" if row.get("waits") else None)
    if rows:
        out.note(f"to see them: `dispatch changes {short(document.get('dispatch_id'))}`")


def standing(row: Document) -> str:
    """Say in words how much of what a run changed is in place, and how much waits."""
    waits = row["waits"]
    why = [
        f"{row[name]} {words}" for name, words in (("marked", "marked"), ("conflicts", "in conflict")) if row.get(name)
    ]
    in_place = in_words(row["landed"], in_place=row["in_place"], in_all=row["in_all"])
    parts = [] if row["landed"] == "waiting" else [in_place]
    if waits:
        parts.append(f"{waits} {'waits' if waits == 1 else 'wait'}" + (f" ({', '.join(why)})" if why else ""))
    return ", ".join(parts)


def show_event(out: Output, kind: str, event: Document) -> None:
    """Show one event of the live stream (`kind`: state, approval, end, trace) or of a stored trace (`trace`)."""
    if kind == "end":
        return  # the state event before it has the outcome
    if kind == "state":
        state = string(event.get("status") or event.get("state"))
        out.line(f"{_clock(event)}[{state}] {event.get('message') or event.get('detail') or ''}".rstrip(), style="bold")
        return
    if kind == "approval":
        out.line(f"{_clock(event)}waits for an answer: {word(event.get('tool'))}", style="yellow")
        return
    name = event.get("kind")
    if name == "reasoning":
        out.line(f"{_clock(event)}thinks:", indent=2, style="dim")
        out.quote(str(event.get("text") or ""), indent=6, style="dim")
    elif name == "tool_call":
        who = f" (sub-agent {word(event['agent_id'])})" if event.get("agent_id") else ""
        out.line(f"{_clock(event)}→ {word(event.get('tool'))}{who}", indent=2)
        show_input(out, event.get("input"), indent=6)
    elif name == "approval":
        grant = f", {word(event['grant'])}" if event.get("grant") else ""
        note = f": {quoted(str(event['note']), limit=MAX_REASON)}" if event.get("note") else ""
        out.line(f"{word(event.get('outcome'))} by {word(event.get('by'))}{grant}{note}", indent=6)
    elif name == "tool_result":
        out.line("ok" if event.get("ok") else "failed", indent=6, style=None if event.get("ok") else "red")
        _show_long(out, event.get("output"))
    elif name == "status":
        detail = quoted(string(event["detail"]), limit=MAX_REASON) if event.get("detail") else ""
        out.line(f"{_clock(event)}[{word(event.get('status'))}] {detail}".rstrip(), style="bold")
    else:
        out.line(f"{_clock(event)}{word(name)}", indent=2)
        out.quote(string({k: v for k, v in event.items() if k != "kind"}), indent=6)


def scope_pairs(row: Document) -> dict[str, str]:
    """Return a scope as names and values for people. `row`: a contacts row, or the result of accepting."""
    scopes = row.get("scopes") or {}
    return {name.replace("_", " "): _scope_value(name, value) for name, value in scopes.items() if name != "registries"}


def show_network(out: Output, document: Document) -> None:
    """Say what the network of a scope means, where it has one. `document`: with `scopes` and `by_proxy`."""
    scopes = document.get("scopes")
    if scopes and scopes.get("network"):
        from peer.trust.network_words import sentences  # msgspec: 17 ms that most edges do not need

        by_proxy = document.get("by_proxy") or []
        for sentence in sentences(scopes["tools"], scopes["network"], scopes.get("registries") or [], by_proxy):
            out.line(sentence, style="yellow")


def show_histories(out: Output, document: Mapping[str, object]) -> None:
    """Say which repositories are granted beside the folders of an edge."""
    found = document.get("git_folders")
    for folder, repository in found.items() if isinstance(found, dict) else ():
        seen = f"its repository {string(repository)}, with all of its history"
        out.line(f"with {string(folder)}, shell commands also see {seen}")


def scope_line(scopes: Mapping[str, object] | None) -> str:
    """Return a scope on one line, beginning with its tools."""
    if not scopes:
        return "-"
    parts = [string(scopes.get("tools"))]
    if scopes.get("mcp_servers"):
        parts.append("MCP " + string(scopes["mcp_servers"]))
    parts.append(string(scopes.get("approval")))
    if scopes.get("apply") == "auto":
        parts.append("changes applied unreviewed")
    if scopes.get("toolchains"):
        parts.append("toolchains " + string(scopes["toolchains"]))
    if scopes.get("network"):
        parts.append("network " + string(scopes["network"]))
    if scopes.get("paths"):
        parts.append("in " + string([home(path) for path in _list(scopes["paths"])]))
    if scopes.get("expires"):
        parts.append(ends(scopes["expires"]))
    return "; ".join(parts)


def _scope_value(name: str, value: object) -> str:
    if name == "expires":
        return when_exactly(value) or "never"
    if name == "paths":
        return string([home(path) for path in _list(value)]) if value else "only the folder confirmed at accept"
    if name == "network" and not value:
        return "none"
    if name == "toolchains" and not value:
        return "as the settings say"
    return string(value)


def _show_suggestion(out: Output, suggestion: Document | None) -> None:
    if not suggestion:
        return
    label = "runs in" if suggestion.get("pinned") else "suggested folder"
    out.line(f"{label}: {home(string(suggestion.get('cwd')))} ({string(suggestion.get('reason'))})", style="dim")
    show_toolchains(out, (suggestion.get("toolchains") or {}).get(suggestion.get("cwd"), []))
    for sentence in (suggestion.get("obstacles") or {}).get(suggestion.get("cwd"), []):
        out.line(f"there, {sentence}", indent=2, style="yellow")


def show_toolchains(out: Output, labels: Sequence[str]) -> None:
    """Say which toolchains a run sees in the folder that was named last."""
    if labels:
        out.line(f"a run there sees: {', '.join(map(string, labels))}", indent=2, style="dim")


def _show_long(out: Output, output: object) -> None:
    shown = output if isinstance(output, str) else string(output)
    out.quote(excerpt(shown, lines=OUTPUT_LINES), indent=6, style="dim")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _short(value: object) -> str | None:
    return word(value, limit=MAX_REASON) if value else None


def _file(file: Document) -> str:
    gone = ", no longer given out" if file.get("withheld") else ", removed" if file.get("removed") else ""
    return f"{word(file.get('name'))} ({size(file.get('size'))}{gone})"


def _clock(event: Document) -> str:
    moment = local_time(event.get("at"))
    return f"{moment[11:19]} " if len(moment) > 19 else ""


def _texts(values: dict[str, object]) -> dict[str, str | list[str]]:
    return {
        name: value if isinstance(value, list) else string(value)
        for name, value in values.items()
        if value not in (None, "", [], {})
    }
