"""Stores what one run reports: its events in batches, and its end. The run: run.py; the steps: steps/running.py."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio

from peer.dispatches import reports
from peer.dispatches.folder_names import FolderNames, names_of
from peer.dispatches.redaction import Redactor
from peer.protocol.documents import Document
from peer.protocol.errors import Conflict, DispatchError, NotFound, root_of
from peer.protocol.statements import FileRef
from peer.runs.change_sets import Collected
from peer.runs.returned_files import Returned, count_of, take_files
from peer.runs.start_frame import shown_folders
from peer.steps import releasing, running
from peer.steps.ending import MAX_REASON
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import blobs, rows
from peer.store.unreleased import RunResult
from peer.trust import scopes
from sandbox import frames

log = structlog.get_logger(__name__)

STORE_RETRY_SECONDS = 2.0
"""Between attempts to store a result that the store could not write (a full disk)."""
FLUSH_SECONDS = 0.05
"""Events within this time are signed as one batch: short enough to look live, and a burst costs one fsync."""
MAX_BUFFERED = 64
MAX_REPLY = 100_000
MAX_SANDBOX_TEXT = 4_000


class Recorder:
    """What is stored of one run, and what of it the sender gets."""

    def __init__(
        self, journal: Journal, row: rows.Dispatch, scope: scopes.Scope, *, known: Iterable[str], run_dir: Path
    ) -> None:
        """`known`: secret values of this machine, to be masked."""
        self.sandbox: frames.SandboxFacts | None = None
        self.calls: Counter[str] = Counter()
        self.landing: rows.Landing | None = None
        self._dispatch_id = row.dispatch_id
        self._attempt = row.attempt
        self._journal = journal
        self._context = journal.context
        self._scope = scope
        self._holds = scope.approval == "review"
        self._began = False
        self._run_dir = run_dir
        self._redactor = Redactor(redacts=scope.results == "redacted", known=known)
        self.name_folders(names_of(shown_folders(row.cwd, scope.paths)))
        self._events: list[Document] = []
        self._notes: list[Document] = []
        self._flushing = trio.Lock()
        self._unflushed = trio.Event()

    def name_folders(self, names: Mapping[str, str]) -> None:
        """Call the person's folders by these names, path → name, in all that the sender gets."""
        home = Path.home()
        homes = dict.fromkeys((str(home), os.path.realpath(home)))
        self._redactor.name_folders(FolderNames(names, homes=homes))

    async def add(self, event: Document) -> None:
        """Take an event; it is stored within FLUSH_SECONDS, or now where MAX_BUFFERED wait."""
        event.setdefault("at", self._context.clock())
        if reports.too_deep(event):
            event["input"] = {"left_out": "it is nested too deeply"}
        self._events.append(event)
        self._unflushed.set()
        if len(self._events) >= MAX_BUFFERED:
            await self.flush()

    async def flush_repeatedly(self) -> None:
        """Store events soon after they come, until cancelled, or until the dispatch has ended: then it is stopped."""
        while True:
            await self._unflushed.wait()
            # Here alone: an event that another flush replaced would be waited for in vain.
            self._unflushed = trio.Event()
            await trio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except Conflict:
                if not await self._is_current():
                    return
                raise

    async def flush(self) -> None:
        """Store the events that wait. Raises DispatchError where the store cannot; they wait on then."""
        async with self._flushing:
            events, self._events = self._events, []
            if not events:
                return
            # In a thread, because masking a long text takes a while. Shielded, like the step below, because events
            # taken out of the list must be stored.
            with trio.CancelScope(shield=True):
                local, outgoing = await trio.to_thread.run_sync(self._redactor.events, events)
            try:
                await self._journal.step(lambda tx: self._record(tx, _texts(local), _texts(outgoing)))
            except DispatchError:
                self._events = events + self._events
                raise

    def _record(self, tx: Transaction, local: list[str], outgoing: list[str]) -> None:
        running.record(tx, self._dispatch_id, self._attempt, local, outgoing, hold=self._holds)

    async def end(self, finished: frames.Finished, collected: Collected | None) -> bool:
        """Store how the run ended and what it changed; return False if the dispatch has ended meanwhile.

        `landing` is then what of a completed run is to be put in place at once.

        Retries while the store cannot write. An end that cannot be stored as it is, is stored as a bare failure.
        """
        self._began = self.sandbox is not None
        take = partial(take_files, self._context.blobs, finished, collected, self._redactor, self._run_dir)
        try:
            returned = await trio.to_thread.run_sync(take)
        except Exception as raised:
            log.exception("run.files_not_taken", dispatch=self._dispatch_id)
            returned = Returned(left_out=[("all files", type(root_of(raised)).__name__)])
        try:
            stored = await self._store_end(finished, returned, collected)
            if stored is None:
                reason = "the run ended, and what it reported could not be stored"
                fix = "look at daemon.log in the state folder"
                self._events.clear()
                self._notes.clear()
                self.sandbox = None
                bare = frames.Finished(status="failed", reason=reason, fix=fix, code=500)
                stored = await self._store_end(bare, Returned(), collected)
            return bool(stored)
        finally:
            returned.discard()

    async def _store_end(
        self, finished: frames.Finished, returned: Returned, collected: Collected | None
    ) -> bool | None:
        """Return True once it is stored, False if the dispatch has ended, None if something in the end forbids it."""
        while True:
            try:
                await self._try_to_store_end(finished, returned, collected)
                return True
            except Exception as raised:
                error = root_of(raised)
                if not await self._is_current():
                    log.info("run.overtaken", dispatch=self._dispatch_id, error=str(error))
                    return False
                if not isinstance(error, DispatchError) or error.code < 500:
                    log.exception("run.end_not_storable", dispatch=self._dispatch_id)
                    return None
                log.error("run.end_not_stored", dispatch=self._dispatch_id, code=error.code)
            await trio.sleep(STORE_RETRY_SECONDS)

    async def _is_current(self) -> bool:
        """Whether the dispatch still is in this run: neither ended nor interrupted."""
        try:
            await self._journal.read(lambda db: running.get_running(db, self._dispatch_id, self._attempt))
        except (Conflict, NotFound):
            return False
        except DispatchError:
            pass  # the store cannot be read now
        return True

    async def _try_to_store_end(
        self, finished: frames.Finished, returned: Returned, collected: Collected | None
    ) -> None:
        await self.flush()
        code = _bounded(finished.code or 0, 599)
        reply = self._redactor.text(finished.reply)[:MAX_REPLY]
        own_reason = _sentences(finished.reason or "", returned.missing())
        # A refusal before the start may name folders of this machine: for the person here, not for the sender.
        bare_reason = reason = "the recipient's machine could not run it"
        if self.sandbox is not None:
            bare_reason = self._redactor.reason(finished.reason or "", status=finished.status, code=code)
            reason = _sentences(bare_reason, returned.missing(named=not self._redactor.redacts))
        self._notes += self._redactor.notes(self._context.clock())
        notes = self._notes
        files = returned.files
        facts = finished.sandbox or self.sandbox
        usage = finished.usage
        # By what the gate reported, whatever the agent says of itself.
        counts = {f"calls_{outcome}": self.calls[outcome] for outcome in ("allowed", "denied")}
        if (changed := count_of(collected)) is not None:
            counts["files_changed"] = changed
        unasked = self._scope.apply == "auto" and finished.status == "completed"
        land = collected.unmarked if collected is not None and unasked else frozenset()

        result = RunResult(
            status=finished.status,
            reply=reply,
            reason=reason,
            own_reason=own_reason,
            bare_reason=bare_reason,
            fix=finished.fix,
            code=code,
            usage={
                "turns": _bounded(usage.turns),
                "input_tokens": _bounded(usage.input_tokens),
                "output_tokens": _bounded(usage.output_tokens),
                "cost_microusd": _bounded(usage.cost_usd * 1_000_000),
                "milliseconds": _bounded(usage.seconds * 1000),
                **counts,
            },
            scope=scopes.encode_report(self._scope),
            sandbox=_facts_text(facts),
        )

        def end(tx: Transaction) -> None:
            if notes:
                self._record(tx, _texts(notes), [])
            named = [FileRef(file.name, file.size, file.digest) for file in files]
            if self._holds and self._began:  # a run that never began has nothing to hold
                releasing.hold(tx, self._dispatch_id, self._attempt, result, named)
            else:
                content = result.content()
                running.finish(tx, self._dispatch_id, self._attempt, result.status, files=named, **content)
            blobs.keep(files)
            if collected is not None:
                self.landing = collected.keep(tx, self._dispatch_id, self._attempt, land=land)

        await self._journal.step(end)


def _texts(events: Iterable[Document]) -> list[str]:
    return [msgspec.json.encode(event).decode() for event in events]


def _sentences(reason: str, missing: str) -> str:
    """Join the two, the first cut where both are too long for a result."""
    room = MAX_REASON - len(missing) - 2
    first = reason if len(reason) <= room else f"{reason[: room - 1]}…"
    return f"{first}. {missing}" if first and missing else first or missing


def _facts_text(facts: frames.SandboxFacts | None) -> str:
    if facts is None:
        return ""
    text = msgspec.json.encode(facts).decode()
    if len(text) <= MAX_SANDBOX_TEXT:
        return text
    return msgspec.json.encode({"tier": facts.tier[:32]}).decode()


def _bounded(number: float, most: int = (1 << 53) - 1) -> int:
    """Clamp a number from the agent to what a statement can carry, so that no number stops the result."""
    return round(min(max(number, 0), most))
