"""A person's decisions on dispatches, behind the API's routes: accept, decline, cancel, answer a tool call."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import trio

from peer.dispatches import payload
from peer.dispatches.quoting import own_cancel
from peer.machine.live_settings import LiveSettings
from peer.protocol.documents import Document
from peer.protocol.errors import NotFound, Unavailable
from peer.runs.folders import RunFolders, sentence
from peer.runs.registry import RunRegistry
from peer.runs.start_frame import granted_candidates, granted_servers
from peer.steps import receiving, releasing, running, sending
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import dispatches, rows
from sandbox import frames, platforms


class DecisionService:
    """Records decisions on dispatches and starts their runs. Stopping a run is an effect of the step."""

    def __init__(self, journal: Journal, settings: LiveSettings, folders: RunFolders, runs: RunRegistry) -> None:
        self._journal = journal
        self._context = journal.context
        self._settings = settings
        self._folders = folders
        self._runs = runs

    async def accept(self, dispatch_id: str, cwd: str | None) -> Document:
        """Accept and run a dispatch: {dispatch_id, decision, ok, approval, cwd, toolchains, result_to, results, runs,
        git_folder}. `result_to` reads the result, `full` or `redacted` as `results` says; `runs` is all of this as one
        sentence for the person.

        A second call raises Conflict.
        """
        row = await self._journal.read(lambda db: receiving.get_received(db, dispatch_id))
        await self._check_can_run()
        # The start of the run checks this again. Checked here, a refusal leaves the dispatch pending.
        scope, _ = await self._journal.read(lambda db: running.get_scope(db, row.edge_id))
        found = await trio.to_thread.run_sync(granted_candidates, self._context, scope)
        await self._journal.read(lambda db: granted_servers(db, found, row))
        folder = await self._folders.choose(dispatch_id, cwd)
        beside = await self._folders.git_folder(dispatch_id, folder) if folder and "Bash" in scope.tools else None
        pin = "" if beside is None else msgspec.json.encode(beside).decode()
        seen = await self._folders.toolchains(dispatch_id, folder)
        # As they are when the person accepts: what changes until the start is not fetched. In memory alone, since a
        # node that stops in between asks again.
        locked = await self._folders.locked(scope, folder)
        row, scope = await self._journal.step(
            lambda tx: receiving.accept(tx, dispatch_id, cwd=folder or "", git_folder=pin)
        )
        # A cancel may commit before start() registers the run; start_frame() re-checks.
        self._runs.start(row, scope, locked)
        return {
            "dispatch_id": dispatch_id,
            "decision": "accepted",
            "ok": True,
            "approval": scope.approval,
            "cwd": folder,
            "toolchains": seen,
            "result_to": row.peer,
            "results": scope.results,
            "runs": sentence(folder, seen, result_to=row.peer, scope=scope),
            "git_folder": None if beside is None else beside.path,
        }

    async def decline(self, dispatch_id: str, reason: str) -> Document:
        """Decline a dispatch; stop its run, or send nothing of it: {dispatch_id, decision, ok}."""
        payload.check_text("the reason", reason, 2_000)
        await self._journal.step(lambda tx: receiving.decline(tx, dispatch_id, reason=reason))
        return {"dispatch_id": dispatch_id, "decision": "declined", "ok": True}

    async def release(self, dispatch_id: str, without: Collection[str]) -> Document:
        """Send what a run returned, without some parts of it: {dispatch_id, status, without, ok}.

        `without`: all that was left out, the events beside the reply and the files, whose contents they repeat.
        """
        parts = releasing.parts_of(without)
        row = await self._journal.step(lambda tx: releasing.release(tx, dispatch_id, without=parts))
        return {
            "dispatch_id": dispatch_id,
            "status": row.state,
            "without": sorted(releasing.left_out_with(parts)),
            "ok": True,
        }

    async def cancel(self, dispatch_id: str, reason: str) -> Document:
        """Cancel a sent or received dispatch: {dispatch_id, status, ok}."""
        payload.check_text("the reason", reason, 2_000)

        def work(tx: Transaction) -> None:
            row = dispatches.get(tx.db, dispatch_id)
            if row is None:
                raise NotFound(f"no dispatch {dispatch_id}")
            if row.direction == "sent":
                sending.cancel(tx, dispatch_id, reason=reason)
            else:
                told = reason or "its recipient cancelled it"
                receiving.cancel(tx, row, reason=told, own_reason=own_cancel(reason))

        await self._journal.step(work)
        return {"dispatch_id": dispatch_id, "status": "cancelled", "ok": True}

    async def answer(
        self,
        dispatch_id: str,
        request_id: str,
        *,
        allow: bool,
        grant: frames.Grant,
        note: str,
        decline_dispatch: bool,
        rule: int | None = None,
    ) -> Document:
        """Answer one waiting tool call: {dispatch_id, request_id, decision, ok, rule?}; `rule` is the granted rule.

        `decline_dispatch` denies the call and declines its dispatch, in one step.
        """
        payload.check_text("the note", note, 2_000)

        def work(tx: Transaction) -> tuple[rows.Approval, Document | None]:
            permitted = allow and not decline_dispatch
            answered = running.answer(tx, dispatch_id, request_id, allow=permitted, grant=grant, note=note, rule=rule)
            if decline_dispatch:
                receiving.decline(tx, dispatch_id, reason=note or "declined while it ran")
            return answered

        asked, chosen = await self._journal.step(work)
        if not decline_dispatch:
            await self._runs.send_verdict(
                dispatch_id,
                frames.Verdict(
                    call_id=asked.request_id,
                    allow=allow,
                    by="person",
                    grant=grant if allow else None,
                    note=note or None,
                    rule=None if chosen is None else frames.Rule(**chosen),
                ),
            )
        decision = "declined" if decline_dispatch else "allowed" if allow else "denied"
        document = {"dispatch_id": dispatch_id, "request_id": request_id, "decision": decision, "ok": True}
        return document if chosen is None else {**document, "rule": chosen}

    # --- internal

    async def _check_can_run(self) -> None:
        if not platforms.can_confine():
            raise Unavailable(
                "this machine can send and approve, but not run tasks: the sandbox works on Linux only",
                fix="accept it on a Linux machine (WSL2 counts)",
            )
        await self._settings.require_key()
