"""One run: run directory → dp-agent → events, approvals, result. What is stored of it: recorder.py.

Each run is one `dp-agent` process, supervised by one task. What it reports is stored before anybody sees it. Killing
dp-agent ends the whole run, because the sandbox's namespace ends with it; if this process dies, dp-agent reads the end
of its standard input and stops.
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

from peer.dispatches import asking, reports
from peer.machine.installation import AGENT, AGENT_ENVIRONMENT, ROOT
from peer.machine.settings import Settings
from peer.projects.lock_files import Locked
from peer.protocol.errors import DispatchError, root_of
from peer.runs.change_sets import ChangeSets
from peer.runs.lander import Lander
from peer.runs.recorder import Recorder
from peer.runs.removal import Remover
from peer.runs.start_frame import ANSWER_SECONDS, machine_facts, start_frame
from peer.steps import running
from peer.steps.journal import Journal
from peer.store import rows
from peer.trust import scopes
from sandbox import frames, process_tree
from sandbox.errors import FrameError
from sandbox.views.record import VIEWS

log = structlog.get_logger(__name__)

STOP_SECONDS = 0.5
"""How long dp-agent may take to stop a run that was cancelled, declined or revoked. It needs milliseconds."""
OVERTIME_SECONDS = 900.0
"""For dp-agent beside the minutes of its budget: its proofs, MCP servers that start, and collecting what is returned.
It ends the run by itself when the budget is used up; this is for an agent that cannot any more."""


@dataclass
class GateProof:
    """The agent program that the gate was proven for since this daemon started, by dp-agent's key; "" for none."""

    key: str = ""


class Run:
    """One run of an accepted dispatch."""

    def __init__(
        self,
        journal: Journal,
        row: rows.Dispatch,
        scope: scopes.Scope,
        locked: Locked,
        *,
        gate: GateProof,
        known: Iterable[str],
        remover: Remover,
        changes: ChangeSets,
        lander: Lander,
    ) -> None:
        """`locked`: what its lock files named at accept. `known`: secret values of this machine, to be masked.
        `remover` removes the run's folder.
        """
        self.dispatch_id = row.dispatch_id
        self.attempt = row.attempt
        self._journal = journal
        self._context = context = journal.context
        self._row = row
        self._scope = scope
        self._locked = locked
        self._run_dir = context.state.runs / row.dispatch_id / str(row.attempt)
        self._recorder = Recorder(journal, row, scope, known=known, run_dir=self._run_dir)
        self._gate = gate
        self._remover = remover
        self._changes = changes
        self._lander = lander
        self._writer: frames.FrameWriter | None = None
        self._cancel_scope = trio.CancelScope()
        self._mcp_commands: dict[str, list[str]] = {}
        self._graceful = False
        self._abandoned = False

    # --- from outside

    async def send_verdict(self, frame: frames.Verdict) -> None:
        """Send a person's answer to the agent, if it still runs. `frame.call_id`: as the person saw it."""
        await self._send(msgspec.structs.replace(frame, call_id=frame.call_id.removesuffix(self._call_id_suffix)))

    async def _send(self, frame: frames.Verdict | frames.Cancel) -> None:
        if self._writer is not None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                await self._writer.send(frame)

    @property
    def _call_id_suffix(self) -> str:
        """Suffix that makes call ids unique among attempts.

        The model chooses the ids, so a later attempt may reuse one, and an answer to the earlier call must not match.
        """
        return f"~{self.attempt}" if self.attempt > 1 else ""

    @property
    def edge_id(self) -> str:
        """The edge that permits the run."""
        return self._row.edge_id

    def stop(self) -> None:
        """Stop the run; discard what it still sends.

        dp-agent gets STOP_SECONDS to kill its processes. Then it is killed with everything it started. What the run
        changed in its views is kept for the person here.
        """
        self._graceful = True
        if self._writer is not None:
            self._writer.hurry(STOP_SECONDS)
        self._cancel_scope.cancel()

    def kill(self) -> None:
        """Kill the run's processes at once; discard what they still send. For a node that stops: its next start keeps
        what the run changed.
        """
        self._abandoned = True
        self._cancel_scope.cancel()

    # --- the life of a run

    async def run(self, settings: Settings) -> None:
        """Run the agent to its end, store that end, and remove the run's folder, whatever happens in between.

        A run that is stopped or killed stores no result: whoever stopped it has. What it changed in its views is kept
        however it ends. Never raises, so that no run can end the node or another run.
        """
        kept = False
        try:
            with self._cancel_scope:
                finished = await self._work(settings)
                # Not by a cancel that comes now: the change set would be computed twice.
                with trio.CancelScope(shield=True):
                    collected = await self._changes.collect(self._run_dir)
                kept = await self._recorder.end(finished, collected)
        except Exception as raised:
            if self._graceful:  # what it still reported came too late to be stored
                log.info("run.stopped", dispatch=self.dispatch_id, error=type(root_of(raised)).__name__)
            else:
                log.exception("run.end_failed", dispatch=self.dispatch_id)
        try:
            # Outside of the scope, which a stored end has cancelled: it stops the run.
            if self._recorder.landing is not None:
                await self._lander.land_unasked(self._recorder.landing)
            if not kept and not self._abandoned:
                kept = await self._keep_stopped()
        except Exception:
            log.exception("run.changes_failed", dispatch=self.dispatch_id)
        finally:
            # A run whose changes are not kept leaves its folder: the next start of the node looks at it again.
            if kept or not (self._run_dir / VIEWS).exists():
                with trio.CancelScope(shield=True):
                    await self._remover.remove(self._run_dir)

    async def _keep_stopped(self) -> bool:
        """Keep what a run changed that has no result of its own, such as one that was stopped; return True.

        All of it waits for a person.
        """
        collected = await self._changes.collect(self._run_dir)
        if collected is not None:
            await self._changes.keep(self.dispatch_id, self.attempt, collected)
        return True

    async def _work(self, settings: Settings) -> frames.Finished:
        try:
            start = await self._start_frame(settings)
            self._mcp_commands = {server.name: server.command for server in start.mcp_servers}
            finished: frames.Finished | None = None
            with trio.move_on_after(start.budget.minutes * 60 + OVERTIME_SECONDS):
                finished = await self._run_agent(start)
            reason = "the agent's process did not end when the run's time was up"
            return finished or frames.Finished(status="failed", reason=reason, code=500)
        except Exception as raised:
            return self._failed(raised)

    async def _start_frame(self, settings: Settings) -> frames.Start:
        context, row, scope = self._context, self._row, self._scope
        pinned = await self._journal.read(lambda db: running.get_git_folders(db, row))
        collect = partial(machine_facts, context, settings, scope, pinned, row.cwd or None, self._locked)
        facts = await trio.to_thread.run_sync(collect)
        start = await self._journal.read(
            lambda db: start_frame(db, context=context, settings=settings, row=row, scope=scope, facts=facts)
        )
        self._recorder.name_folders(start.names)
        return msgspec.structs.replace(start, gate_proven=self._gate.key)

    def _failed(self, raised: Exception) -> frames.Finished:
        """Return the result of a run that failed on this side: a full disk, a missing script, a defect."""
        error = root_of(raised)
        log.warning("run.broken", dispatch=self.dispatch_id, error=type(error).__name__)
        if isinstance(error, DispatchError):
            return frames.Finished(status="failed", reason=error.message, fix=error.fix, code=error.code)
        if isinstance(error, OSError):
            return frames.Finished(status="failed", reason=f"the run failed here: {error.strerror}", code=503)
        log.exception("run.defect", dispatch=self.dispatch_id, exc_info=raised)
        return frames.Finished(status="failed", reason="the run failed because of a defect in the daemon", code=500)

    async def _run_agent(self, start: frames.Start) -> frames.Finished:
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
                nursery.start_soon(self._recorder.flush_repeatedly)
                try:
                    await self._writer.send(start)
                    finished = await self._read_frames(process.stdout)
                except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                    finished = None
                nursery.cancel_scope.cancel()
            return finished or frames.Finished(
                status="failed", reason="the agent's process ended without a result", code=500
            )
        finally:
            with trio.CancelScope(shield=True):
                if self._graceful:
                    with trio.move_on_after(STOP_SECONDS):
                        await self._wait_until_ended(process)
                if process.returncode is None:
                    process_tree.kill(process.pid)
                await process.wait()
                await process.stdin.aclose()
                await process.stdout.aclose()

    async def _wait_until_ended(self, process: trio.Process) -> None:
        """Ask dp-agent to end its run, then wait until it exits; discard what it still writes."""
        assert process.stdout is not None
        await self._send(frames.Cancel())
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await process.stdout.receive_some(65_536):
                pass
        await process.wait()

    async def _read_frames(self, stream: trio.abc.ReceiveStream) -> frames.Finished | None:
        reader: frames.FrameReader[frames.ToNode] = frames.FrameReader(stream, frames.decode_to_node)
        try:
            async for frame in reader:
                match frame:
                    case frames.Finished():
                        return frame
                    case frames.TraceEntry():
                        event = msgspec.to_builtins(frame.event)
                        if isinstance(frame.event, frames.Approval):
                            self._recorder.calls["allowed" if frame.event.outcome == "allowed" else "denied"] += 1
                        if "call_id" in event:
                            event["call_id"] += self._call_id_suffix
                        await self._recorder.add(event)
                    case frames.Started():
                        self._recorder.sandbox = frame.sandbox
                        self._gate.key = frame.gate_key or self._gate.key
                        await self._journal.step(lambda tx: running.start(tx, self.dispatch_id, self.attempt))
                    case frames.McpListed():
                        await self._on_mcp_listed(frame)
                    case frames.Call():
                        await self._on_call(frame)
                    case frames.CallClosed():
                        unanswered = partial(
                            running.close_unanswered,
                            dispatch_id=self.dispatch_id,
                            request_id=frame.call_id + self._call_id_suffix,
                        )
                        await self._journal.step(unanswered)
        except FrameError as error:
            log.warning("run.bad_frame", dispatch=self.dispatch_id, error=str(error)[:200])
            return frames.Finished(status="failed", reason="the agent's process sent an invalid frame", code=500)
        return None

    async def _on_mcp_listed(self, listed: frames.McpListed) -> None:
        """Pin the tools of a server's first listing; a person is asked about tools that are new or differ later."""
        command = self._mcp_commands.get(listed.server, [])
        await self._journal.step(
            lambda tx: running.pin_mcp_tools(
                tx.db, self.dispatch_id, self.attempt, listed.server, command, listed.tools
            )
        )

    async def _standing(self, call: frames.Call) -> frames.Verdict:
        """Return the verdict on a call that needs no person: of one that stored rules allow, whether one still stands.

        The store is asked at each call, so that a rule which is removed, by whatever way, ends in runs too.
        """
        if call.by == "rule":
            stored = await self._journal.read(lambda db: running.get_scope(db, self.edge_id)[1])
            stands = {frames.Rule(tool=each.tool, pattern=each.pattern, reach=each.reach) for each in stored}
            if stands.isdisjoint(call.covered_by):
                note = "the rule that allowed it was removed"
                return frames.Verdict(
                    call_id=call.call_id, allow=False, by="edge", note=note, withdrawn=call.covered_by
                )
        return frames.Verdict(call_id=call.call_id, allow=True, by=call.by)

    async def _on_call(self, call: frames.Call) -> None:
        """Handle a call that the scope permits: check edge and state again, then allow it or store it for a person."""
        await self._recorder.flush()
        error = await self._context.store.read(
            lambda db: running.get_refusal(db, self._context.clock(), self.dispatch_id, self.attempt)
        )
        if error is not None:
            await self._send(frames.Verdict(call_id=call.call_id, allow=False, by="edge", note=error.message))
            return
        if reports.too_deep(call.input):
            # It could not be displayed to a person.
            note = "the input is nested too deeply"
            await self._send(frames.Verdict(call_id=call.call_id, allow=False, by="edge", note=note))
            return
        if call.verdict == "allow":
            await self._send(await self._standing(call))
            return
        if await trio.to_thread.run_sync(asking.hides_something, call.input):
            call = msgspec.structs.replace(call, unusual=[*call.unusual, asking.HIDES])
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
        tier = self._recorder.sandbox.tier if self._recorder.sandbox is not None else None
        item = rows.Approval(
            dispatch_id=self.dispatch_id,
            request_id=call.call_id + self._call_id_suffix,
            attempt=self.attempt,
            call=msgspec.json.encode({name: document.get(name) for name in kept} | {"sandbox": tier}).decode(),
            asked=self._context.clock(),
            # dp-agent counts its wait by a monotonic clock.
            deadline=self._context.steady() + int(ANSWER_SECONDS * 1000),
            outcome="",
            answer="",
        )
        await self._journal.step(lambda tx: running.ask(tx, item))


def _opened_log(run_dir: Path) -> BinaryIO:
    """Create the run directory, which must be new, and the file for dp-agent's standard error."""
    for folder in (run_dir.parent.parent, run_dir.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    run_dir.mkdir(mode=0o700)
    return (run_dir / "agent.log").open("xb")
