"""An accepted dispatch's way out: run directory → dp-agent → events, questions, result. The steps are steps/running.py.

One process of `dp-agent` a run; its life is one task here. What it says is stored before anybody is told. Killing it
ends the whole run: the sandbox lives in a namespace that dies with it, and it reads the end of our pipe when we die.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog
import trio

from peer.dispatches import reports
from peer.dispatches.redaction import Redactor
from peer.machine.installation import AGENT, AGENT_ENVIRONMENT, ROOT
from peer.machine.settings import Settings
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, root_of
from peer.protocol.statements import FileRef
from peer.runs.removal import Remover
from peer.runs.returned_files import Returned, take_files
from peer.runs.start_frame import ANSWER_SECONDS, machine_facts, start_frame
from peer.steps import running
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import rows
from peer.trust import scopes
from sandbox import frames, process_tree
from sandbox.errors import FrameError

log = structlog.get_logger(__name__)

STORE_RETRY_SECONDS = 2.0
"""Between tries to store how a run ended, when the store refuses (a full disk): the end is not lost."""
FLUSH_SECONDS = 0.05
"""Events that come within this are signed as one batch: a person sees them at once, and a burst costs one fsync."""
STOP_SECONDS = 0.5
"""How long the agent of a run that was cancelled, declined or revoked has to end it in good order: milliseconds do."""
MAX_BUFFERED = 64
MAX_REPLY = 100_000
MAX_SANDBOX_TEXT = 4_000


@dataclass
class GateProof:
    """For which agent program the gate was proven since this daemon started: the key that `dp-agent` gave; "": none."""

    key: str = ""


class Run:
    """One run, while it lasts."""

    def __init__(
        self,
        journal: Journal,
        row: rows.Dispatch,
        scope: scopes.Scope,
        *,
        gate: GateProof,
        known: Iterable[str],
        remover: Remover,
    ) -> None:
        """`known`: secrets of this machine that must not leave it, by their value. `remover`: of the run's folder."""
        self.dispatch_id = row.dispatch_id
        self.attempt = row.attempt
        self._journal = journal
        self._context = context = journal.context
        self._row = row
        self._scope = scope
        self._run_dir = context.state.runs / row.dispatch_id / str(row.attempt)
        self._teller = Redactor(redacts=scope.results == "redacted", known=known)
        self._gate = gate
        self._remover = remover
        self._events: list[Document] = []
        self._notes: list[Document] = []
        self._flushing = trio.Lock()
        self._fresh = trio.Event()
        self._writer: frames.FrameWriter | None = None
        self._scope_of_task = trio.CancelScope()
        self._sandbox: frames.SandboxFacts | None = None
        self._mcp_commands: dict[str, list[str]] = {}
        self._gently = False

    # --- from outside

    async def tell(self, frame: frames.Verdict) -> None:
        """Pass a person's answer on to the agent, under the id that they saw; one that is gone hears nothing."""
        await self._send(msgspec.structs.replace(frame, call_id=frame.call_id.removesuffix(self._mark)))

    async def _send(self, frame: frames.Verdict | frames.Cancel) -> None:
        if self._writer is not None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                await self._writer.send(frame)

    @property
    def _mark(self) -> str:
        """What makes the ids of calls, which the model chooses, those of this attempt: an answer to a call of an
        earlier one must not find another call under its id."""
        return f"~{self.attempt}" if self.attempt > 1 else ""

    @property
    def edge_id(self) -> str:
        """The edge whose grant it runs under."""
        return self._row.edge_id

    def stop(self) -> None:
        """End the run. What it would still send is thrown away.

        Its agent has STOP_SECONDS to kill what it started, which takes what held names in the person's folders out of
        them again, and is killed with all that is left then.
        """
        self._gently = True
        if self._writer is not None:
            self._writer.hurry(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the run's processes on the spot. What they would still send is thrown away."""
        self._scope_of_task.cancel()

    # --- the life of a run

    async def live(self, settings: Settings) -> None:
        """Run the agent to its end and store how it ended; a run that was killed stores nothing.

        Raises nothing: whatever happens to one run, the node and
        its other runs go on.
        """
        try:
            with self._scope_of_task:
                try:
                    start = await self._start_frame(settings)
                    self._mcp_commands = {server.name: server.command for server in start.mcp_servers}
                    finished = await self._converse(start)
                except Exception as raised:
                    finished = self._broken(raised)
                await self._conclude(finished)
        except* DispatchError as group:
            # The dispatch was cancelled, revoked or finished under us: its state says all there is to say.
            log.info("run.overtaken", dispatch=self.dispatch_id, error=str(root_of(group)))
        except* Exception:
            log.exception("run.failed", dispatch=self.dispatch_id)
        finally:
            with trio.CancelScope(shield=True):
                await self._remover.remove(self._run_dir)

    async def _start_frame(self, settings: Settings) -> frames.Start:
        context, row, scope = self._context, self._row, self._scope
        facts = await trio.to_thread.run_sync(machine_facts, context, settings, scope)
        start = await self._journal.read(
            lambda db: start_frame(db, context=context, settings=settings, row=row, scope=scope, facts=facts)
        )
        return msgspec.structs.replace(start, gate_proven=self._gate.key)

    def _broken(self, raised: Exception) -> frames.Finished:
        """Say how a run ended that our own side broke: a full disk, a script that is not there, a defect."""
        error = root_of(raised)
        log.warning("run.broken", dispatch=self.dispatch_id, error=type(error).__name__)
        if isinstance(error, DispatchError):
            return frames.Finished(status="failed", reason=f"{error.message}; fix: {error.fix}", code=error.code)
        if isinstance(error, OSError):
            return frames.Finished(status="failed", reason=f"the run broke off: {error.strerror}", code=503)
        log.exception("run.defect", dispatch=self.dispatch_id, exc_info=raised)
        return frames.Finished(status="failed", reason="the daemon failed at this run", code=500)

    async def _converse(self, start: frames.Start) -> frames.Finished:
        with await trio.to_thread.run_sync(_opened_log, self._run_dir) as errors:
            process = await trio.lowlevel.open_process(
                AGENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=AGENT_ENVIRONMENT,
                start_new_session=True,
            )
        assert process.stdin is not None and process.stdout is not None
        try:
            self._writer = frames.FrameWriter(process.stdin)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._flush_now_and_then)
                try:
                    await self._writer.send(start)
                    finished = await self._listen(process.stdout)
                except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                    finished = None
                nursery.cancel_scope.cancel()
            return finished or frames.Finished(
                status="failed", reason="the agent's process ended without a result", code=500
            )
        finally:
            with trio.CancelScope(shield=True):
                if self._gently:
                    with trio.move_on_after(STOP_SECONDS):
                        await self._let_end(process)
                if process.returncode is None:
                    process_tree.kill(process.pid)
                await process.wait()
                await process.stdin.aclose()
                await process.stdout.aclose()

    async def _let_end(self, process: trio.Process) -> None:
        """Ask the agent to kill what it started, and wait until it has gone; what it still writes is thrown away."""
        assert process.stdout is not None
        await self._send(frames.Cancel())
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await process.stdout.receive_some(65_536):
                pass
        await process.wait()

    async def _listen(self, stream: trio.abc.ReceiveStream) -> frames.Finished | None:
        reader: frames.FrameReader[frames.ToNode] = frames.FrameReader(stream, frames.decode_to_node)
        try:
            async for frame in reader:
                match frame:
                    case frames.Finished():
                        return frame
                    case frames.TraceEntry():
                        event = msgspec.to_builtins(frame.event)
                        if "call_id" in event:
                            event["call_id"] += self._mark
                        await self._note(event)
                    case frames.Started():
                        self._sandbox = frame.sandbox
                        self._gate.key = frame.gate_key or self._gate.key
                        await self._journal.step(lambda tx: running.start(tx, self.dispatch_id, self.attempt))
                    case frames.McpListed():
                        await self._pin(frame)
                    case frames.Call():
                        await self._judge(frame)
                    case frames.CallClosed():
                        unanswered = partial(
                            running.close_unanswered,
                            dispatch_id=self.dispatch_id,
                            request_id=frame.call_id + self._mark,
                        )
                        await self._journal.step(unanswered)
        except FrameError as error:
            log.warning("run.bad_frame", dispatch=self.dispatch_id, error=str(error)[:200])
            return frames.Finished(status="failed", reason="the agent's process spoke nonsense", code=500)
        return None

    async def _pin(self, listed: frames.McpListed) -> None:
        """Remember what a server offered the first time: whatever it offers later, the person is asked about."""
        command = self._mcp_commands.get(listed.server, [])
        await self._journal.step(
            lambda tx: running.pin_mcp_tools(
                tx.db, self.dispatch_id, self.attempt, listed.server, command, listed.tools
            )
        )

    async def _judge(self, call: frames.Call) -> None:
        """A call that the scope permits: the edge is looked at anew; one that wants a person waits for the answer."""
        await self._flush()
        error = await self._context.store.read(
            lambda db: running.still_permitted(db, self._context.clock(), self.dispatch_id, self.attempt)
        )
        if error is not None:
            await self._send(frames.Verdict(call_id=call.call_id, allow=False, by="edge", note=error.message))
            return
        if reports.too_deep(call.input):
            # Nobody could be shown it.
            note = "the input is nested too deeply"
            await self._send(frames.Verdict(call_id=call.call_id, allow=False, by="edge", note=note))
            return
        if call.verdict == "allow":
            await self._send(frames.Verdict(call_id=call.call_id, allow=True, by=call.by))
            return
        now = self._context.clock()
        document = msgspec.to_builtins(call)
        kept = (
            "tool",
            "input",
            "resolved_path",
            "diff",
            "unusual",
            "rule_if_always",
            "rule_choices",
            "agent_id",
            "mcp_pin",
        )
        tier = self._sandbox.tier if self._sandbox is not None else None
        item = rows.Approval(
            dispatch_id=self.dispatch_id,
            request_id=call.call_id + self._mark,
            attempt=self.attempt,
            call=msgspec.json.encode({name: document.get(name) for name in kept} | {"sandbox": tier}).decode(),
            asked=now,
            deadline=now + int(ANSWER_SECONDS * 1000),
            outcome="",
            answer="",
        )
        await self._journal.step(lambda tx: running.ask(tx, item))

    async def _note(self, event: Document) -> None:
        event.setdefault("at", self._context.clock())
        if reports.too_deep(event):
            event["input"] = {"left_out": "it is nested too deeply"}
        self._events.append(event)
        self._fresh.set()
        if len(self._events) >= MAX_BUFFERED:
            await self._flush()

    async def _flush_now_and_then(self) -> None:
        while True:
            await self._fresh.wait()
            await trio.sleep(FLUSH_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        async with self._flushing:
            self._fresh = trio.Event()
            events, self._events = self._events, []
            if not events:
                return
            # In a thread: a long text takes a while to look through, and the node has other things to do. Not
            # cancellable, like the step below: what was taken out of the list must be stored.
            with trio.CancelScope(shield=True):
                shown, told = await trio.to_thread.run_sync(self._teller.events, events)
            try:
                await self._journal.step(
                    lambda tx: running.record(tx, self.dispatch_id, self.attempt, _texts(shown), _texts(told))
                )
            except DispatchError:
                self._events = events + self._events
                raise

    async def _conclude(self, finished: frames.Finished) -> None:
        """Store how the run ended, when the store takes it. Raises Conflict when it was overtaken."""
        take = partial(take_files, self._context.blobs, finished, self._teller, self._run_dir)
        returned = await trio.to_thread.run_sync(take)
        try:
            while True:
                try:
                    await self._store_end(finished, returned)
                    return
                except DispatchError as error:
                    if error.code < 500:
                        raise
                    log.error("run.end_not_stored", dispatch=self.dispatch_id, code=error.code)
                await trio.sleep(STORE_RETRY_SECONDS)
        finally:
            returned.discard()

    async def _store_end(self, finished: frames.Finished, returned: Returned) -> None:
        await self._flush()
        code = _bounded(finished.code or 0, 599)
        reply = self._teller.text(finished.reply)[:MAX_REPLY]
        own_reason = f"{finished.reason or ''} {returned.left_out_text()}".strip()[:2_000]
        # What refused the run before it began may name folders of this machine: for its person, not for the sender.
        told = "the recipient's machine could not run it"
        if self._sandbox is not None:
            why = self._teller.reason(finished.reason or "", status=finished.status, code=code)
            told = f"{why} {returned.left_out_text()}".strip()[:2_000]
        self._notes += self._teller.notes(self._context.clock())
        notes = self._notes
        files = returned.files
        facts = finished.sandbox or self._sandbox
        usage = finished.usage

        def end(tx: Transaction) -> None:
            if notes:
                running.record(tx, self.dispatch_id, self.attempt, _texts(notes), [])
            running.finish(
                tx,
                self.dispatch_id,
                self.attempt,
                finished.status,
                files=[FileRef(file.name, file.size, file.digest) for file in files],
                reply=reply,
                reason=told,
                own_reason=own_reason,
                code=code,
                usage={
                    "turns": _bounded(usage.turns),
                    "input_tokens": _bounded(usage.input_tokens),
                    "output_tokens": _bounded(usage.output_tokens),
                    "cost_microusd": _bounded(usage.cost_usd * 1_000_000),
                    "milliseconds": _bounded(usage.seconds * 1000),
                },
                scope=scopes.encode_summary(scopes.summary(self._scope)),
                sandbox=_facts_text(facts),
            )
            for file in files:
                file.keep()

        await self._journal.step(end)


def _opened_log(run_dir: Path) -> BinaryIO:
    """Make a run's folder, which must be new, and the file that its agent's standard error goes to."""
    for folder in (run_dir.parent.parent, run_dir.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    run_dir.mkdir(mode=0o700)
    return (run_dir / "agent.log").open("xb")


def _texts(events: Iterable[Document]) -> list[str]:
    return [msgspec.json.encode(event).decode() for event in events]


def _facts_text(facts: frames.SandboxFacts | None) -> str:
    if facts is None:
        return ""
    text = msgspec.json.encode(facts).decode()
    if len(text) <= MAX_SANDBOX_TEXT:
        return text
    return msgspec.json.encode({"tier": facts.tier[:32]}).decode()


def _bounded(number: float, most: int = (1 << 53) - 1) -> int:
    """Return a number of the agent's as a statement can carry it: whatever it says, the run must end."""
    return round(min(max(number, 0), most))
