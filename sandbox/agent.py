"""`dp-agent`: runs one accepted dispatch and speaks frames with the node on stdin and stdout. Decides no
policy.

One process, one run. In order: read `start`; make the run's folders; open the door to the model; build the
sandbox and prove it; start the granted MCP servers beside it; let the runtime work, each call through the
gate; end it; collect what it returns; say `finished`.

How it ends early. `cancel`: the whole tree is killed, then `finished`. End of input: the node is gone,
nobody would read another word, so this process exits on the spot. SIGKILL of this process: the kernel kills
bwrap with it (PR_SET_PDEATHSIG), and the pid namespace with bwrap. In each case nothing of the run lives
on.

The model's key comes in `start` and goes to the proxy. It is in no environment, no argument, no log, no
frame.
"""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import trio

from sandbox import brief, budgets, ending, frames, gate_proof, mcp_bridge, proof, returns, rundir, runtimes
from sandbox.confinement import CanaryReport, Profile, Snapshot, prove
from sandbox.errors import FrameError, SandboxError, root_of
from sandbox.gate import DENIALS_IN_A_ROW, Gate
from sandbox.model_proxy import NO_KEY, ModelProxy
from sandbox.model_request import Allowance
from sandbox.policy import GRANTABLE_TOOLS
from sandbox.views import resolver

_OUTPUT_KEPT: Final = 500_000
"""Characters of one tool result that a trace keeps. In JSON each takes up to six bytes (U+0000)."""

_LAST_WORD_SECONDS: Final = 0.5
"""How long a node that cancelled may leave a frame unread; the tree then ends within milliseconds."""


@dataclass
class _Ending:
    """Why a run ends before its runtime does. The first reason stands."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    status: frames.RunStatus | None = None
    reason: str = ""
    code: int | None = None

    def end(self, status: frames.RunStatus, reason: str, code: int | None = None) -> None:
        if self.status is None:
            self.status, self.reason, self.code = status, reason, code
        self.scope.cancel()


class Agent:
    """One run: `start` in, frames out."""

    def __init__(self, start: frames.Start, writer: frames.FrameWriter) -> None:
        self._start = start
        self._writer = writer
        self._ending = _Ending()
        self._gate: Gate | None = None
        self._proxy: ModelProxy | None = None
        self._facts: frames.SandboxFacts | None = None
        self._before: Snapshot | None = None
        self._model_secret = secrets.token_urlsafe(24)
        self._turns = 0
        self._seconds = 0.0
        self._run_dir = rundir.RunDir(Path(start.run_dir))

    async def run(self) -> None:
        """The whole run, its `finished` included. Raises nothing."""
        began = trio.current_time()
        outcome = runtimes.Outcome("failed", reason="the run did not begin", code=500)
        returned = returns.Returned()
        try:
            with self._ending.scope:
                outcome = await self._work()
                returned = await self._returned()
                outcome = self._within_budget(outcome, returned)
        except Exception as raised:
            error = root_of(raised)
            outcome = _failure(error)
            if not isinstance(error, SandboxError):
                # A defect of ours or a full disk. The node hears of the end in any case; the log gets the
                # rest.
                sys.excepthook(type(raised), raised, raised.__traceback__)
        self._seconds = trio.current_time() - began
        await self._send(self._finished(outcome, returned))

    def cancel(self, frame: frames.Cancel) -> None:
        """The node wants it to end, also when it has stopped to listen: then without a last word."""
        self._writer.hurry(_LAST_WORD_SECONDS)
        self._ending.end(frame.status, frame.reason or frame.status)

    def answer(self, frame: frames.Answer) -> None:
        """The node's word on a call."""
        if self._gate is not None:
            self._gate.answer(frame)

    async def _send(self, frame: frames.ToNode) -> None:
        """Tell the node. One that is gone, or that has cancelled and stopped to read, is left on the spot."""
        try:
            await self._writer.send(frame)
        except trio.BrokenResourceError:
            _leave()

    async def _work(self) -> runtimes.Outcome:
        start = self._start
        runtime = runtimes.load(start.runtime)
        version = runtime.version()
        if runtime.needs_model and not start.model.api_key:
            raise SandboxError(NO_KEY.partition(": ")[0], fix=NO_KEY.partition(": ")[2], code=401)
        await trio.to_thread.run_sync(self._run_dir.make, start.files)
        self._proxy = ModelProxy(
            start.model.base_url,
            start.model.api_key,
            budget_usd=start.budget.usd,
            max_turns=start.budget.turns,
            # Each turn is one request; more for counting tokens and for what is tried again.
            max_requests=start.budget.turns * 3 + 20,
            allowance=Allowance(
                tools=frozenset(start.tools) & GRANTABLE_TOOLS,
                servers=frozenset(server.name for server in start.mcp_servers),
                model=start.model.name,
            ),
            secret=self._model_secret,
        )
        async with self._proxy.serving(self._run_dir.socket):
            profile = rundir.profile(start, self._run_dir, programs=runtime.programs(), model=runtime.needs_model)
            gate_key = gate_proof.key(runtime)
            async with trio.open_nursery() as nursery:
                # Side by side: each starts programs and waits for them.
                nursery.start_soon(self._prepare, runtime, gate_key)
                nursery.start_soon(self._look_before, profile)
                facts = _facts(await prove(profile))
            self._facts = msgspec.structs.replace(facts, gate="proven" if gate_key else "")
            started = frames.Started(
                sandbox=self._facts, runtime=runtime.name, runtime_version=version, gate_key=gate_key
            )
            hidden = rundir.hidden(start, self._run_dir)
            async with mcp_bridge.opened(start.mcp_servers, refused=start.mcp_refused, hidden=hidden) as bridge:
                for server, pins in bridge.first_listed.items():
                    await self._send(frames.McpListed(server=server, tools=pins))
                await self._send(started)
                return await self._let_work(runtime, profile, bridge)

    async def _prepare(self, runtime: runtimes.Runtime, gate_key: str) -> None:
        await trio.to_thread.run_sync(runtime.prepare)
        if gate_key != self._start.gate_proven:
            await gate_proof.prove(runtime, self._run_dir.path / "gate")

    async def _let_work(
        self, runtime: runtimes.Runtime, profile: Profile, bridge: mcp_bridge.McpBridge
    ) -> runtimes.Outcome:
        start = self._start
        for reason in bridge.left_out:
            await self._emit(frames.Status(status="mcp_tool_left_out", detail=reason))
        self._gate = Gate(
            replace(rundir.scope(start, profile), mcp_tools=frozenset(bridge.tools), changed=bridge.changed),
            resolve=resolver(profile.outside),
            send=self._send,
            emit=self._emit,
            answer_seconds=start.answer_seconds,
        )
        folders = [str(root.inside) for root in profile.roots]
        task = runtimes.Task(
            sender_text=start.task,
            attached=brief.attached(start),
            instructions=brief.instructions(start, folders),
            script=tuple(start.script),
        )
        surroundings = runtimes.Surroundings(
            profile=profile,
            gate=self._gate,
            emit=self._emit,
            tools=frozenset(start.tools) & GRANTABLE_TOOLS,
            budget=start.budget,
            model=start.model.name,
            mcp=bridge,
            model_secret=self._model_secret,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_gate, self._gate)
            nursery.start_soon(self._watch_clock)
            if self._proxy is not None:
                nursery.start_soon(self._watch_turns, self._proxy)
                nursery.start_soon(self._watch_spending, self._proxy)
            outcome = await _whole(runtime, task, surroundings)
            nursery.cancel_scope.cancel()
        if not runtime.needs_model:
            self._turns = outcome.turns
        return replace(outcome, turns=self._turns or self._proxy_turns())

    async def _watch_gate(self, gate: Gate) -> None:
        await gate.tripped.wait()
        self._ending.end("failed", f"{DENIALS_IN_A_ROW} calls in a row were denied", 403)

    def _proxy_turns(self) -> int:
        return 0 if self._proxy is None else self._proxy.usage.turns

    async def _watch_turns(self, proxy: ModelProxy) -> None:
        """A program that keeps to its turns ends by itself before this."""
        await proxy.turns_exhausted.wait()
        self._ending.end("failed", budgets.turns(self._start.budget, proxy.usage.turns), budgets.EXHAUSTED_CODE)

    async def _watch_spending(self, proxy: ModelProxy) -> None:
        """As with turns."""
        await proxy.budget_exhausted.wait()
        self._ending.end("failed", budgets.usd(self._start.budget, proxy.usage.cost_usd), budgets.EXHAUSTED_CODE)

    async def _watch_clock(self) -> None:
        began = trio.current_time()
        await trio.sleep(self._start.budget.minutes * 60)
        used = budgets.minutes(self._start.budget, trio.current_time() - began)
        self._ending.end("failed", used, budgets.EXHAUSTED_CODE)

    def _within_budget(self, outcome: runtimes.Outcome, returned: returns.Returned) -> runtimes.Outcome:
        """The outcome, or that of a run which used more than it may."""
        budget = self._start.budget
        if outcome.killed:
            return outcome
        spent = 0.0 if self._proxy is None else self._proxy.usage.cost_usd
        if outcome.exhausted == "usd" or spent > budget.usd or (outcome.status == "failed" and spent >= budget.usd):
            # Also of a run whose last answer was what cost too much: nothing was left to refuse it.
            reason = budgets.usd(budget, spent)
        elif outcome.exhausted == "turns":
            reason = budgets.turns(budget, outcome.turns)
        elif outcome.status == "completed" and returned.offered > budget.output_bytes:
            reason = budgets.output(budget, returned.offered)
        else:
            return outcome
        return replace(outcome, status="failed", reason=reason, code=budgets.EXHAUSTED_CODE)

    async def _look_before(self, profile: Profile) -> None:
        take = partial(Snapshot.take, profile.roots, self._run_dir.before)
        try:
            self._before = await trio.to_thread.run_sync(take)
        except OSError as problem:
            # A full disk. The run can go on; what it changes is then seen in its trace alone.
            await self._emit(frames.Status(status="no_diff", detail=problem.strerror or "not enough room"))

    async def _emit(self, event: frames.TraceEvent) -> None:
        if isinstance(event, frames.ToolResult) and len(event.output) > _OUTPUT_KEPT:
            cut = f"{event.output[:_OUTPUT_KEPT]}\n[{len(event.output) - _OUTPUT_KEPT} more characters]"
            event = msgspec.structs.replace(event, output=cut)
        await self._send(frames.Event(event=event))

    async def _returned(self) -> returns.Returned:
        max_bytes = self._start.budget.output_bytes
        take = partial(returns.collect, self._run_dir, self._before, max_bytes=max_bytes)
        returned = await trio.to_thread.run_sync(take)
        for name, reason in returned.left_out:
            await self._emit(frames.Status(status="file_left_out", detail=f"{name}: {reason}"))
        return returned

    def _finished(self, outcome: runtimes.Outcome, returned: returns.Returned) -> frames.Finished:
        spent = self._proxy.usage if self._proxy is not None else None
        usage = frames.Usage(
            # Of a program with a model, as counted here: what it says of itself is its own word.
            turns=self._turns or (spent.turns if spent else 0),
            input_tokens=spent.input_tokens if spent else 0,
            output_tokens=spent.output_tokens if spent else 0,
            cost_usd=round(spent.cost_usd, 6) if spent else 0.0,
            seconds=round(self._seconds, 3),
        )
        if self._ending.status is not None:
            return frames.Finished(
                status=self._ending.status,
                usage=usage,
                reason=self._ending.reason,
                code=self._ending.code,
                sandbox=self._facts,
            )
        return frames.Finished(
            status=outcome.status,
            reply=outcome.reply,
            usage=usage,
            files=returned.files,
            changes=returned.changes,
            reason=outcome.reason,
            code=outcome.code,
            sandbox=self._facts,
        )


async def _whole(
    runtime: runtimes.Runtime, task: runtimes.Task, surroundings: runtimes.Surroundings
) -> runtimes.Outcome:
    """The runtime's outcome, or that of a run which was killed for what it took of this machine."""
    try:
        outcome = await runtime.run(task, surroundings)
    except SandboxError:
        if (excess := await surroundings.excess()) is None:
            raise
        outcome = runtimes.Outcome("failed")
    else:
        excess = await surroundings.excess()
    if excess is None:
        return outcome
    return replace(outcome, status="failed", reason=budgets.excess(excess), code=budgets.EXHAUSTED_CODE, killed=True)


def _facts(report: CanaryReport) -> frames.SandboxFacts:
    return frames.SandboxFacts(
        tier=report.tier,
        mechanisms=list(report.mechanisms),
        canaries={canary.name: canary.outcome for canary in report.canaries},
    )


def _failure(error: BaseException) -> runtimes.Outcome:
    if not isinstance(error, SandboxError):
        return runtimes.Outcome("failed", reason=f"the run broke: {type(error).__name__}", code=500)
    reason = error.message + (f"; fix: {error.fix}" if error.fix else "")
    return runtimes.Outcome("failed", reason=reason, code=error.code)


async def _converse(reader: frames.FrameReader[frames.ToAgent], writer: frames.FrameWriter) -> None:
    incoming = aiter(reader)
    start = await anext(incoming, None)
    if start is None:
        return
    if not isinstance(start, frames.Start):
        raise FrameError("the first frame must be start")
    agent = Agent(start, writer)
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            async for frame in incoming:
                if isinstance(frame, frames.Answer):
                    agent.answer(frame)
                elif isinstance(frame, frames.Cancel):
                    agent.cancel(frame)
                else:
                    raise FrameError("start was sent twice")
            _leave()

        nursery.start_soon(listen)
        await agent.run()
        nursery.cancel_scope.cancel()


def _leave() -> NoReturn:
    """The node is gone. Little to clean up: bwrap dies with this process, and its whole pid namespace with it, but for
    one that is only being built."""
    ending.kill_children(os.getpid())
    os._exit(1)


def main() -> None:
    """Run one dispatch, or with `--prove [RUNTIME]` only prove the sandbox, and the gate with that agent.

    Exit status 0 once `finished` was said, 1
    when the node left or spoke no frames.
    """
    if sys.argv[1:2] == ["--prove"]:
        proof.main(sys.argv[2] if len(sys.argv) > 2 else None)
    # Frames have the two pipes to themselves: a stray print of a library must not become half a frame.
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)

    async def run() -> None:
        reader: frames.FrameReader[frames.ToAgent]
        reader = frames.FrameReader(trio.lowlevel.FdStream(incoming), frames.decode_to_agent)
        await _converse(reader, frames.FrameWriter(trio.lowlevel.FdStream(outgoing)))

    try:
        trio.run(run, strict_exception_groups=True)
    except* FrameError as problem:
        sys.stderr.write(f"dp-agent: {problem.exceptions[0]}\n")
        sys.exit(1)
    except* (trio.BrokenResourceError, KeyboardInterrupt):
        sys.exit(1)


if __name__ == "__main__":
    main()
