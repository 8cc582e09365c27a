"""One run from its `start` frame to `finished`: folders, model proxy, sandbox, MCP servers, runtime, returned files.

In order: make the run's folders; start the model proxy; make the views of the person's folders; build the sandbox and
prove it; start the granted MCP servers beside it; let the runtime work, each call through the gate; end it; collect
what it returns; send `finished`. Reading frames is agent.py's. Decides no policy.

The model's key comes in `start` and goes to the proxy. It is in no environment, no argument, no log, no frame.
"""

from __future__ import annotations

import secrets
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from sandbox import confinement, frames, process_tree, runtimes
from sandbox.confinement import CanaryReport, Confinement, Profile
from sandbox.errors import SandboxError, root_of
from sandbox.gate.gate import DENIALS_IN_A_ROW, Gate
from sandbox.gate.paths import opener, resolver
from sandbox.mcp import servers
from sandbox.mcp.bridge import McpBridge
from sandbox.model_api.interface import Allowance, ModelApi, Price
from sandbox.policy.decision import GRANTABLE_TOOLS
from sandbox.run import budget_messages, grants, network, prompts, returned
from sandbox.run.collect import OUT
from sandbox.run.folder import RunFolder
from sandbox.runtimes import gate_proof
from sandbox.runtimes.runtime import Outcome, RunContext, Runtime, Task
from sandbox.views.making import Views, make_views

if TYPE_CHECKING:
    from sandbox.model_api.proxy import ModelProxy
    from sandbox.network.proxy import NetworkProxy

_OUTPUT_KEPT: Final = 500_000
"""Characters of one tool result that a trace keeps. In JSON each takes up to six bytes (U+0000)."""

_CANCELLED_SEND_SECONDS: Final = 0.5
"""How long a node that cancelled may leave a frame unread; the process then exits."""


@dataclass
class _EarlyEnd:
    """Ends a run before its runtime does. The first reason counts."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    status: frames.RunStatus | None = None
    reason: str = ""
    code: int | None = None

    def end(self, status: frames.RunStatus, reason: str, code: int | None = None) -> None:
        if self.status is None:
            self.status, self.reason, self.code = status, reason, code
        self.scope.cancel()


class RunSupervisor:
    """One run. `run` does all of it; `cancel` and `resolve_call` come from the frame reader meanwhile.

    `no_overlay`: why this process cannot mount views, "" if it can (`views.namespace.enter`).
    """

    def __init__(self, start: frames.Start, writer: frames.FrameWriter, *, no_overlay: str) -> None:
        self._start = start
        self._writer = writer
        self._early_end = _EarlyEnd()
        self._gate: Gate | None = None
        self._proxy: ModelProxy | None = None
        self._facts: frames.SandboxFacts | None = None
        self._no_overlay = no_overlay
        self._views: Views | None = None
        self._model_secret = secrets.token_urlsafe(24)
        self._network: NetworkProxy | None = None
        self._turns = 0
        self._seconds = 0.0
        self._run_folder = RunFolder(Path(start.run_dir))

    async def run(self) -> None:
        """The whole run, its `finished` included. Raises nothing."""
        began = trio.current_time()
        outcome = Outcome("failed", reason="the run did not start", code=500)
        try:
            with self._early_end.scope:
                outcome = await self._work()
        except Exception as raised:
            outcome = _failure(raised)
        try:
            files = await self._collect()
            outcome = self._within_budget(outcome, files)
        except Exception as raised:
            # The run's end is told all the same, and what is missing.
            why = _failure(raised).reason or ""
            files = returned.ReturnedFiles(left_out=((OUT, why),))
        if self._network is not None:
            await self._network.finish()
        if self._views is not None:
            await trio.to_thread.run_sync(self._views.close)
        self._seconds = trio.current_time() - began
        await self._send(self._finished(outcome, files))

    def cancel(self, frame: frames.Cancel) -> None:
        """The node ends the run. It may have stopped reading: then this process exits without `finished`."""
        self._writer.hurry(_CANCELLED_SEND_SECONDS)
        self._early_end.end(frame.status, frame.reason or frame.status)

    def resolve_call(self, frame: frames.Verdict) -> None:
        """The node's verdict on a call."""
        if self._gate is not None:
            self._gate.resolve_call(frame)

    async def _send(self, frame: frames.ToNode) -> None:
        """Send to the node. If it is gone, or has cancelled and does not read, this process exits."""
        try:
            await self._writer.send(frame)
        except trio.BrokenResourceError:
            process_tree.leave()

    async def _work(self) -> Outcome:
        start = self._start
        here = confinement.of_this_machine()
        runtime = runtimes.load(start.runtime)
        version = runtime.version()
        api = runtime.model_api
        if api is not None and not start.model.api_key:
            sentence, fix = api.key_missing
            raise SandboxError(sentence, fix=fix, code=401)
        await trio.to_thread.run_sync(self._run_folder.make, start.files)
        await trio.to_thread.run_sync(self._run_folder.seed, start.seeds)
        if api is not None:
            self._proxy = self._make_proxy(api)
        if network.granted(start):
            self._network = await self._make_network_proxy()
        async with nullcontext() if self._proxy is None else self._proxy.serving(self._run_folder.socket):
            profile = grants.profile(start, self._run_folder, programs=runtime.programs(), model=api is not None)
            if self._network is not None:
                profile = replace(profile, files={**profile.files, **self._network.files()})
            gate_key = gate_proof.key(runtime)
            async with trio.open_nursery() as nursery:
                # Concurrently: each starts programs and waits for them.
                nursery.start_soon(self._prepare, runtime, here, gate_key)
                profile = await self._with_views(profile)
                facts = _facts(await here.prove(profile))
            self._facts = msgspec.structs.replace(facts, gate="proven" if gate_key else "")
            started = frames.Started(
                sandbox=self._facts, runtime=runtime.name, runtime_version=version, gate_key=gate_key
            )
            hidden = grants.hidden(start, self._run_folder)
            async with servers.opened(
                start.mcp_servers, confinement=here, refused=start.mcp_refused, hidden=hidden
            ) as bridge:
                for server, pins in bridge.first_listed.items():
                    await self._send(frames.McpListed(server=server, tools=pins))
                await self._send(started)
                return await self._run_task(runtime, here, profile, bridge)

    def _make_proxy(self, api: ModelApi) -> ModelProxy:
        from sandbox.model_api.proxy import ModelProxy  # loads a client for HTTP: only where there is a model

        start = self._start
        return ModelProxy(
            api,
            start.model.base_url,
            start.model.api_key,
            budget_usd=start.budget.usd,
            ca_file=start.model.ca_file,
            more_ca_file=start.model.more_ca_file,
            http_proxy=start.model.http_proxy,
            patience_seconds=start.budget.minutes * 60,
            tell=self._tell,
            max_turns=start.budget.turns,
            # Each turn is one request; more for counting tokens and for retries.
            max_requests=start.budget.turns * 3 + 20,
            allowance=Allowance(
                tools=frozenset(start.tools) & GRANTABLE_TOOLS,
                servers=frozenset(server.name for server in start.mcp_servers),
                model=start.model.name,
                price=_own_price(start.model),
            ),
            secret=self._model_secret,
        )

    async def _make_network_proxy(self) -> NetworkProxy:
        from sandbox.network.of_run import network_proxy  # loads a client for HTTP: only where there is a network

        if settings := network.cargo_settings(self._start):
            await trio.to_thread.run_sync(self._run_folder.place, network.CARGO_SETTINGS, settings)
        return network_proxy(self._start.network, self._start.budget.network_bytes, self._tell)

    async def _prepare(self, runtime: Runtime, here: Confinement, gate_key: str) -> None:
        await trio.to_thread.run_sync(runtime.prepare)
        # What was proven may be another runtime's program: the setting can change while the node lives.
        if gate_key and gate_key != self._start.gate_proven:
            await gate_proof.prove(runtime, here, self._run_folder.path / "gate")

    async def _run_task(self, runtime: Runtime, here: Confinement, profile: Profile, bridge: McpBridge) -> Outcome:
        start = self._start
        for reason in bridge.left_out:
            await self._tell("mcp_tool_left_out", reason)
        own_price = self._price_is_ours(runtime)
        if own_price and start.model.price is None:
            await self._tell("model_price_unknown", budget_messages.no_price(start.budget, start.model.name or ""))
        self._gate = Gate(
            replace(grants.scope(start, profile), mcp_tools=frozenset(bridge.tools), changed=bridge.changed),
            resolve=resolver(profile),
            open_file=opener(profile),
            send=self._send,
            emit=self._emit,
            answer_seconds=start.answer_seconds,
        )
        folders = [str(root.inside) for root in profile.roots if not root.repository]
        task = Task(
            sender_text=start.task,
            attached=prompts.attached(start),
            instructions=prompts.instructions(start, folders),
            script=tuple(start.script),
        )
        async with trio.open_nursery() as nursery:
            context = RunContext(
                confinement=here,
                profile=profile,
                gate=self._gate,
                emit=self._emit,
                tools=frozenset(start.tools) & GRANTABLE_TOOLS,
                budget=start.budget,
                model=start.model.name,
                program_counts_usd=not own_price,
                mcp=bridge,
                model_secret=self._model_secret,
                serve_network=None if self._network is None else partial(self._network.serve_in, nursery),
            )
            nursery.start_soon(self._watch_gate, self._gate)
            nursery.start_soon(self._watch_clock)
            if self._proxy is not None:
                nursery.start_soon(self._watch_turns, self._proxy)
                nursery.start_soon(self._watch_spending, self._proxy)
            outcome = await _run_within_bounds(runtime, task, context)
            nursery.cancel_scope.cancel()
        if self._proxy is None:
            self._turns = outcome.turns
            return outcome
        outcome = replace(outcome, turns=self._proxy.usage.turns)
        if outcome.status == "failed" and (known := self._proxy.explanation) is not None:
            # The proxy saw what the API said; the program has words of its own for it.
            return replace(outcome, reason=known.reason, fix=known.fix, code=known.code)
        return outcome

    def _price_is_ours(self, runtime: Runtime) -> bool:
        """Whether what the run's model costs is the person's to say: its name is not in the API's own list, or they
        have said.
        """
        model, api = self._start.model, runtime.model_api
        return bool(api is not None and model.name and (model.price is not None or api.price(model.name) is None))

    async def _tell(self, status: str, detail: str) -> None:
        await self._emit(frames.Status(status=status, detail=detail))

    async def _watch_gate(self, gate: Gate) -> None:
        await gate.tripped.wait()
        self._early_end.end("failed", f"{DENIALS_IN_A_ROW} calls in a row were denied", 403)

    async def _watch_turns(self, proxy: ModelProxy) -> None:
        """A program that counts its own turns ends by itself before this."""
        await proxy.turns_exhausted.wait()
        self._early_end.end(
            "failed", budget_messages.turns(self._start.budget, proxy.usage.turns), budget_messages.EXHAUSTED_CODE
        )

    async def _watch_spending(self, proxy: ModelProxy) -> None:
        """As `_watch_turns`."""
        await proxy.budget_exhausted.wait()
        self._early_end.end(
            "failed",
            budget_messages.usd(self._start.budget, proxy.usage.cost_usd, proxy.usage.assumed_usd),
            budget_messages.EXHAUSTED_CODE,
        )

    async def _watch_clock(self) -> None:
        began = trio.current_time()
        await trio.sleep(self._start.budget.minutes * 60)
        waits_for = self._proxy.waits_for if self._proxy is not None else ""
        used = budget_messages.minutes(self._start.budget, trio.current_time() - began, waits_for)
        self._early_end.end("failed", used, budget_messages.EXHAUSTED_CODE)

    def _within_budget(self, outcome: Outcome, files: returned.ReturnedFiles) -> Outcome:
        """The outcome, or a failure for a run that used more than it may."""
        budget = self._start.budget
        if outcome.killed:
            return outcome
        spent, assumed = (
            (0.0, 0.0) if self._proxy is None else (self._proxy.usage.cost_usd, self._proxy.usage.assumed_usd)
        )
        held = spent + assumed
        if outcome.exhausted == "usd" or held > budget.usd or (outcome.status == "failed" and held >= budget.usd):
            # Also where only the last answer cost too much: the proxy had no later request to refuse.
            reason = budget_messages.usd(budget, spent, assumed)
        elif outcome.exhausted == "turns":
            reason = budget_messages.turns(budget, outcome.turns)
        elif outcome.status == "completed" and files.offered > budget.output_bytes:
            reason = budget_messages.output(budget, files.offered)
        else:
            return outcome
        return replace(outcome, status="failed", reason=reason, code=budget_messages.EXHAUSTED_CODE)

    async def _with_views(self, profile: Profile) -> Profile:
        make = partial(
            make_views, profile.roots, self._run_folder.path, no_overlay=self._no_overlay, limits=profile.limits
        )
        self._views = views = await trio.to_thread.run_sync(make)
        for why in views.copied:
            sys.stderr.write(f"dp-agent: {why}\n")
        for sentence in (*self._start.not_shown, *views.skipped):
            await self._emit(frames.Status(status="not_in_view", detail=sentence))
        return replace(profile, roots=views.roots)

    async def _emit(self, event: frames.TraceEvent) -> None:
        if isinstance(event, frames.ToolResult) and len(event.output) > _OUTPUT_KEPT:
            cut = f"{event.output[:_OUTPUT_KEPT]}\n[{len(event.output) - _OUTPUT_KEPT} more characters]"
            event = msgspec.structs.replace(event, output=cut)
        await self._send(frames.TraceEntry(event=event))

    async def _collect(self) -> returned.ReturnedFiles:
        """What a run returns that completed or failed. Nothing of one that did not begin, or that a person ended."""
        if self._facts is None or self._early_end.status not in (None, "failed"):
            return returned.ReturnedFiles()
        take = partial(
            returned.collect,
            self._run_folder,
            max_bytes=self._start.budget.output_bytes,
            attached=frozenset(file.name for file in self._start.files),
        )
        files = await trio.to_thread.run_sync(take)
        for name, reason in files.left_out:
            await self._emit(frames.Status(status="file_left_out", detail=f"{name}: {reason}"))
        return files

    def _finished(self, outcome: Outcome, files: returned.ReturnedFiles) -> frames.Finished:
        spent = self._proxy.usage if self._proxy is not None else None
        usage = frames.Usage(
            # Of a program with a model, as counted by the proxy: the program could report anything.
            turns=self._turns or (spent.turns if spent else 0),
            input_tokens=spent.input_tokens if spent else 0,
            output_tokens=spent.output_tokens if spent else 0,
            cost_usd=round(spent.cost_usd, 6) if spent else 0.0,
            seconds=round(self._seconds, 3),
        )
        early = self._early_end
        if early.status is not None:
            outcome = Outcome("failed", reason=early.reason, code=early.code)
        return frames.Finished(
            status=early.status or outcome.status,
            reply=outcome.reply,
            usage=usage,
            files=files.files,
            left_out=[frames.LeftOut(name=name, why=why) for name, why in files.left_out],
            reason=outcome.reason,
            fix=outcome.fix,
            code=outcome.code,
            sandbox=self._facts,
        )


async def _run_within_bounds(runtime: Runtime, task: Task, context: RunContext) -> Outcome:
    """The runtime's outcome, or a failure for a run that was killed for what it took of this machine."""
    try:
        outcome = await runtime.run(task, context)
    except SandboxError:
        if (excess := await context.excess()) is None:
            raise
        outcome = Outcome("failed")
    else:
        excess = await context.excess()
    if excess is None:
        return outcome
    return replace(
        outcome,
        status="failed",
        reason=budget_messages.excess(excess),
        code=budget_messages.EXHAUSTED_CODE,
        killed=True,
    )


def _own_price(model: frames.Model) -> Price | None:
    """What the person says that the model costs. An hour in the cache is not told apart there."""
    if (said := model.price) is None:
        return None
    return Price(said.input, said.output, said.cache_write, said.cache_write, said.cache_read)


def _facts(report: CanaryReport) -> frames.SandboxFacts:
    return frames.SandboxFacts(
        tier=report.tier,
        mechanisms=list(report.mechanisms),
        canaries={canary.name: canary.outcome for canary in report.canaries},
    )


def _failure(raised: Exception) -> Outcome:
    error = root_of(raised)
    if isinstance(error, SandboxError):
        return Outcome("failed", reason=error.message, code=error.code, fix=error.fix)
    # A defect of ours or a full disk. The node gets `finished` in any case; the log gets the traceback.
    sys.excepthook(type(raised), raised, raised.__traceback__)
    if isinstance(error, OSError) and error.strerror:
        return Outcome("failed", reason=f"the run failed: {error.strerror}", code=503)
    return Outcome("failed", reason=f"the run failed: {type(error).__name__}", code=500)
