"""The `demo` command: runs one dispatch from the invitation to the result, and prints each step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.calls import Task, show_call, show_diff
from cli.demo import scenario
from cli.demo.processes import DemoProcesses, running
from cli.display import LiveView
from cli.follow_run import follow_run
from cli.output import interactive
from cli.prompts import confirm
from peer.client.blocking import Document
from peer.protocol.errors import DispatchError, Forbidden, Unavailable

STEP_SECONDS = 30.0
GRANTED = "Read,Glob,Grep,Write"


@click.command(
    cls=DispatchCommand,
    sign_in=False,
    example="dispatch demo\ndispatch demo --yes\ndispatch demo --json\ndispatch demo --live",
)
@click.option("--yes", is_flag=True, help="Allow every tool call without asking; the default without a terminal.")
@click.option("--live", is_flag=True, help="Use your own model key and the real model, at your cost.")
@pass_app
def demo(app: App, yes: bool, live: bool) -> int:
    """Show one dispatch from Alice to Bob on this machine, from the invitation to the signed result.

    Everything is real: a broker, two daemons, signatures, the sandbox, the claude program. Only the model's words are
    scripted, unless you give --live. Your own state folder is not touched.
    """
    began = time.monotonic()
    asks = interactive() and not yes and not app.out.json
    with running(live=_credentials(app) if live else None) as processes:
        document = _Demo(app, processes, asks=asks).run()
    document["seconds"] = round(time.monotonic() - began, 1)
    if app.out.json:
        app.out.document(document)
    else:
        good = document["status"] == "completed" and document["signatures_valid"]
        app.out.line()
        app.out.line(f"{'done' if good else 'failed'}, in {document['seconds']} s", style="green" if good else "red")
    return 0 if document["status"] == "completed" and document["signatures_valid"] else 1


class _Demo:
    """One run of the demo. With --json nothing is printed but the final document."""

    def __init__(self, app: App, processes: DemoProcesses, *, asks: bool) -> None:
        self._out = app.out
        self._processes = processes
        self._asks = asks
        self._step = 0

    def run(self) -> Document:
        """Run every step; return the final document without its seconds."""
        processes = self._processes
        self._heading("A broker, and two people who sign in")
        attachment = processes.write_files()
        processes.start_broker()
        self._print(f"broker {processes.broker} maps people to devices; it never sees a task")
        model = "" if processes.live else processes.start_model()
        for name, email in (("alice", scenario.ALICE), ("bob", scenario.BOB)):
            processes.sign_in(name, email)
            if name == "bob":
                processes.configure(name, model)
            processes.start_daemon(name)
            self._print(f"{email} is signed in; their daemon runs with a key of its own")
        alice, bob = processes.app_of("alice"), processes.app_of("bob")
        self._prove_sandbox(bob)

        self._heading("Alice invites Bob; Bob decides what her agent may do here")
        address = alice.client.invite(scenario.BOB)["link"]
        self._print("$ dispatch invite bob@demo.example        → an address, shared by Alice herself")
        granted = bob.client.accept_invitation(
            address, {"tools": GRANTED, "paths": [str(processes.project)], "approval": "manual"}
        )
        self._print(f"$ dispatch accept-invitation - --tools {GRANTED} --paths …/till --approval manual")
        self._until("the trust edge", lambda: _active(alice, granted["trust_link_id"]))
        self._until("the confirmation", lambda: _active(bob, granted["trust_link_id"]))
        self._print("the trust edge is confirmed: the address pinned both keys, and only Bob keeps the scope")

        self._heading("Alice sends a task with a file")
        sent = alice.client.send(scenario.BOB, scenario.TASK, files=[str(attachment)], deliverable=scenario.DELIVERABLE)
        dispatch_id = sent["dispatch_id"]
        self._print_block(scenario.TASK)
        self._until("the inbox", lambda: _in_inbox(bob, dispatch_id))
        self._print("signed by Alice's device, delivered to Bob's inbox, the file verified; nothing runs yet")

        self._heading("Bob accepts, and is asked about every tool call")
        suggestion = bob.client.dispatch(dispatch_id)["suggestion"] or {}
        if suggestion.get("pinned"):
            self._print(f"runs in {suggestion['cwd']}: {suggestion['reason']}")
        if self._asks and not confirm("Accept it?"):
            bob.client.decline(dispatch_id, reason="declined in the demo")
            raise Forbidden("you declined the dispatch: nothing ran", fix="to start again: `dispatch demo`")
        accepted = bob.client.accept(dispatch_id)
        self._follow(bob, accepted)

        self._heading("The result is back with Alice")
        self._until("the result", lambda: _returned(alice, dispatch_id))
        final = alice.client.dispatch(dispatch_id)
        return self._show_result(final)

    # --- parts

    def _prove_sandbox(self, bob: App) -> None:
        sandbox = bob.client.whoami()["sandbox"]
        if not sandbox.get("tier"):
            raise Unavailable(
                f"the sandbox cannot be built here, so nothing runs: {sandbox.get('reason')}", fix=sandbox.get("fix")
            )
        self._print(f"Bob's sandbox is proven: {sandbox['tier']}")

    def _follow(self, bob: App, accepted: Document) -> None:
        if self._asks:
            follow_run(bob, accepted, asks=True)
            return
        view = LiveView(self._out)
        for event in bob.client.events(accepted["dispatch_id"]):
            if event.kind == "approval":
                if not self._out.json:
                    view.flush(asked={str(event.data["request_id"])})
                    show_call(self._out, event.data, Task(steps=view.calls))
                    self._print("allowed once (--yes)")
                bob.client.approve(accepted["dispatch_id"], event.data["request_id"])
            elif not self._out.json:
                view.event(event.kind, event.data)
        if not self._out.json:
            view.flush()

    def _show_result(self, final: Document) -> Document:
        from peer.machine.identity import load
        from peer.store.receipts import open_receipt
        from peer.trust import receipts

        result: Document = final["result"] or {}
        try:
            home = self._processes.home_of("alice")
            proven = receipts.verify(open_receipt(home, load(home).device_set, final["dispatch_id"]))
            valid = proven.complete
            verdict = f"{proven.statements} signed statements verified, {proven.events} events in one chain"
        except DispatchError as error:
            valid, verdict = False, error.message
        returned = [self._content(file) for file in result.get("files", [])]
        if not self._out.json:
            self._print_block(str(result.get("reply") or result.get("reason") or ""))
            for name, content in returned:
                self._print(f"returned file {name}:")
                show_diff(self._out, content if name.endswith(".diff") else _diff(name, content))
            self._print(f"receipt: {verdict}")
        sandbox: Document = result.get("sandbox") or {}
        return {
            "dispatch_id": final["dispatch_id"],
            "status": final["status"],
            "runtime": "claude" if not self._processes.live else "claude (live)",
            "sandbox": sandbox.get("tier"),
            "events": final["events"],
            "reply": result.get("reply"),
            "files": result.get("files", []),
            "signatures_valid": valid,
        }

    def _content(self, file: Document) -> tuple[str, str]:
        digest = file["sha256"]
        path = self._processes.home_of("alice").blobs / digest[:2] / digest
        return file["name"], path.read_text("utf-8", errors="replace")

    def _until(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait for an effect of what the daemons and the broker do. Raises Unavailable after STEP_SECONDS."""
        until = time.monotonic() + STEP_SECONDS
        while not ready():
            if time.monotonic() > until:
                raise Unavailable(f"{what} did not arrive within {STEP_SECONDS:.0f} s", fix="run `dispatch doctor`")
            time.sleep(0.05)

    def _heading(self, heading: str) -> None:
        self._step += 1
        if not self._out.json:
            self._out.line()
            self._out.line(f"{self._step}. {heading}", style="bold")

    def _print(self, content: str) -> None:
        if not self._out.json:
            self._out.line(content, indent=3)

    def _print_block(self, content: str) -> None:
        if not self._out.json:
            self._out.block(content, indent=3, style="cyan")


def _active(app: App, edge_id: str) -> bool:
    rows = app.client.contacts()["trust"]
    return any(row["trust_link_id"] == edge_id and row["status"] == "active" for row in rows)


def _in_inbox(app: App, dispatch_id: str) -> bool:
    return any(row["dispatch_id"] == dispatch_id for row in app.client.dispatches("received")["dispatches"])


def _returned(app: App, dispatch_id: str) -> bool:
    document = app.client.dispatch(dispatch_id)
    if document["status"] in ("rejected", "declined", "cancelled", "expired"):
        raise Unavailable(
            f"the dispatch ended as {document['status']}: {document.get('message', '')}",
            fix="run `dispatch demo` again; if that does not help, run `dispatch doctor`",
        )
    return bool(document["result"]) and all(file["ready"] for file in document["result"]["files"])


def _diff(name: str, content: str) -> str:
    import difflib

    before = scenario.BUGGY.splitlines() if name == scenario.RETURNED else []
    return "\n".join(
        difflib.unified_diff(before, content.splitlines(), f"Bob's {name}", f"returned {name}", lineterm="", n=1)
    )


def _credentials(app: App) -> Mapping[str, str]:
    """Return this person's own model settings. Raises Unavailable when there are none."""
    import msgspec

    from peer.machine import model_key

    settings = model_key.in_force(app.folder, env=os.environ)
    model_key.require(settings)
    own: dict[str, str] = msgspec.to_builtins(settings.model)
    return own
