"""The interfaces of the sandbox, each with an implementation that is not the one in use: a made-up model API behind the
proxy, a confinement that confines nothing under the scripted runtime. And the table of runtimes, held against them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import pytest
import trio

from sandbox import confinement, frames, runtimes
from sandbox.confinement import CanaryReport, ConfinedProcess, Confinement, Excess, Profile, bubblewrap
from sandbox.confinement.places import HOME
from sandbox.errors import SandboxError
from sandbox.gate.gate import Gate
from sandbox.gate.paths import opener, resolver
from sandbox.mcp.bridge import McpBridge
from sandbox.model_api.interface import (
    Allowance,
    Cost,
    Failure,
    Headers,
    ModelApi,
    ModelRequest,
    Price,
    Refused,
    ScriptedModel,
    Turns,
)
from sandbox.model_api.proxy import ModelProxy
from sandbox.policy.decision import GRANTABLE_TOOLS, Scope
from sandbox.runtimes.runtime import RunContext, Task
from sandbox.runtimes.scripted.runtime import ScriptedRuntime
from tests.sandbox.conftest import Person

# --- a model API of another kind


FREE = Price(0, 0, 0, 0, 0)


class PlainTextMeter:
    """A dollar for each answer, two tokens a byte."""

    begun = whole = True
    failure = shortfall = None

    def __init__(self) -> None:
        self.size = 0

    def feed(self, chunk: bytes, /) -> None:
        self.size += len(chunk)

    def cost(self) -> Cost:
        return Cost(input_tokens=1, output_tokens=2 * self.size, usd=1.0)


class PlainTextApi:
    """POST /ask with a line of text; the key is a bearer token; errors are one line."""

    public_url = "https://plain.invalid"
    key_missing = ("no key for plain text", "get one")

    def check_target(self, method: bytes, target: bytes, /) -> str:
        if (method, target) != (b"POST", b"/ask"):
            raise Refused(403, "only /ask")
        return "/ask"

    def client_key(self, headers: Headers, /) -> bytes:
        return dict(headers).get(b"authorization", b"").removeprefix(b"Bearer ")

    def passed_headers(self, headers: Headers, /) -> list[tuple[bytes, bytes]]:
        return [(name, value) for name, value in headers if name == b"accept-language"]

    def key_headers(self, key: str, /) -> list[tuple[bytes, bytes]]:
        return [(b"authorization", b"Bearer " + key.encode())]

    def check_body(self, target: str, body: bytes, allowance: Allowance, /) -> ModelRequest:
        if body.decode() not in allowance.tools:
            raise Refused(403, "not that word")
        return ModelRequest(target, body.upper(), model="plain", asks=True, price=FREE, priced=True, least_usd=0.5)

    def error_body(self, status: int, message: str, /) -> bytes:
        return f"{status} {message}".encode()

    def failure(self, status: int, body: bytes, /) -> Failure:
        return Failure(status, said=body.decode())

    def overloaded(self, failure: Failure, headers: Mapping[str, str], /) -> str:
        return ""

    def key_check(self) -> tuple[str, list[tuple[bytes, bytes]]]:
        return "/", []

    def explain(self, failure: Failure, model: str, /) -> None:
        return None

    def price(self, model: str, /) -> Price:
        return FREE

    def meter(self, request: ModelRequest, /, *, streamed: bool) -> PlainTextMeter:
        return PlainTextMeter()

    def scripted_model(self, turns: Turns, /, *, key: str) -> ScriptedModel:
        raise NotImplementedError


@asynccontextmanager
async def asking(proxy: ModelProxy, socket: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with proxy.serving(socket), httpx.AsyncClient(transport=transport, base_url="http://model.invalid") as client:
        yield client


async def test_the_proxy_serves_an_api_of_another_kind(tmp_path: Path) -> None:
    seen: list[httpx.Request] = []

    async def hello() -> AsyncIterator[bytes]:
        yield b"hello"

    def upstream(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=hello())

    api: ModelApi = PlainTextApi()
    proxy = ModelProxy(
        api,
        None,
        "the-key",
        budget_usd=1.5,
        allowance=Allowance(frozenset({"hi"})),
        secret="of-this-run",
        transport=httpx.MockTransport(upstream),
    )
    mine = {"authorization": "Bearer of-this-run", "accept-language": "eo", "cookie": "a=b"}
    async with asking(proxy, tmp_path / "model.sock") as client:
        answer = await client.post("/ask", content="hi", headers=mine)
        assert (answer.status_code, answer.text) == (200, "hello")
        for path, content, headers, status, words in (
            ("/elsewhere", "hi", mine, 403, "only /ask"),
            ("/ask", "hi", {"x-api-key": "of-this-run"}, 401, "agent program"),
            ("/ask", "ho", mine, 403, "not that word"),
        ):
            answer = await client.post(path, content=content, headers=headers)
            assert answer.status_code == status and answer.text.startswith(f"{status} ") and words in answer.text
        assert (proxy.usage.turns, proxy.usage.output_tokens, proxy.usage.cost_usd) == (1, 10, 1.0)
        assert (await client.post("/ask", content="hi", headers=mine)).status_code == 200
        assert (await client.post("/ask", content="hi", headers=mine)).status_code == 403, "the money is spent"
        assert proxy.budget_exhausted.is_set()
    assert [str(request.url) for request in seen] == ["https://plain.invalid/ask"] * 2
    sent = seen[0]
    assert (sent.content, sent.headers["authorization"], sent.headers["accept-language"]) == (
        b"HI",
        "Bearer the-key",
        "eo",
    )
    assert "cookie" not in sent.headers and "of-this-run" not in repr(sent.headers.raw)


# --- a confinement of another kind


class PlainProcess:
    """A process as it is, with a bound that it is said to have passed."""

    def __init__(self, process: trio.Process, excess: Excess | None) -> None:
        self._process = process
        self._excess = excess
        self.stdin: trio.abc.SendStream | None = process.stdin
        self.stdout: trio.abc.ReceiveStream | None = process.stdout
        self.stderr: trio.abc.ReceiveStream | None = process.stderr

    async def wait(self) -> int:
        return await self._process.wait()

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            self._process.kill()
            await self.wait()
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    await stream.aclose()

    async def excess(self) -> Excess | None:
        return self._excess

    async def proxy_listener(self) -> trio.SocketListener | None:
        return None

    async def stop_shells(self) -> int:
        return 0

    async def resume_shells(self) -> None:
        pass

    async def count_shells(self) -> int:
        return 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Unconfined:
    """Starts programs as they are: for tests of what is built on a confinement."""

    def __init__(self, excess: Excess | None = None) -> None:
        self._excess = excess
        self.profiles: list[Profile] = []

    async def prove(self, profile: Profile, /) -> CanaryReport:
        return CanaryReport((), (), 0.0, "none", ())

    async def spawn(
        self, profile: Profile, argv: Sequence[str], env: Mapping[str, str], /, *, stderr: int = subprocess.PIPE
    ) -> ConfinedProcess:
        self.profiles.append(profile)
        process = await trio.lowlevel.open_process(
            list(argv), env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        )
        return PlainProcess(process, self._excess)

    def spawn_on_host(
        self, command: Sequence[str], env: Mapping[str, str], /, *, hidden: Sequence[Path], marker: str
    ) -> ConfinedProcess:
        raise NotImplementedError

    def cause(self) -> None:
        return None

    def python(self) -> str:
        return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else bubblewrap.python()


async def test_a_runtime_runs_under_a_confinement_of_another_kind(person: Person) -> None:
    """Gate, runtime and trace need nothing of bubblewrap."""
    excess = Excess("memory", 2, 1)
    here = Unconfined(excess)
    as_interface: Confinement = here
    profile = person.profile
    trace: list[frames.TraceEvent] = []

    async def emit(event: frames.TraceEvent) -> None:
        trace.append(event)

    async def send(frame: frames.ToNode) -> None:
        assert isinstance(frame, frames.Call)
        gate.resolve_call(frames.Verdict(call_id=frame.call_id, allow=True, by=frame.by))

    scope = Scope(
        tools=GRANTABLE_TOOLS,
        roots=tuple(str(root.path) for root in profile.roots),
        workspace=str(profile.workspace),
        project=str(person.project),
        cwd=str(person.project),
        home=str(HOME),
        approval="auto",
    )
    gate = Gate(scope, resolve=resolver(profile), open_file=opener(profile), send=send, emit=emit)
    context = RunContext(
        confinement=as_interface,
        profile=profile,
        gate=gate,
        emit=emit,
        tools=GRANTABLE_TOOLS,
        budget=frames.Budget(),
        model=None,
        mcp=McpBridge(),
    )
    script = (
        frames.ScriptStep(tool="Read", input={"file_path": f"{person.project}/code.py"}),
        frames.ScriptStep(tool="Read", input={"file_path": f"{person.ssh}/id_ed25519"}),
        frames.ScriptStep(say="Done."),
    )
    outcome = await ScriptedRuntime().run(Task("t", "", "", script), context)
    assert (outcome.status, outcome.reply, outcome.turns) == ("completed", "Done.", 2)
    results = [(event.ok, event.output) for event in trace if isinstance(event, frames.ToolResult)]
    assert results[0] == (True, "print('hello')") and not results[1][0] and "ssh secret" not in results[1][1]
    assert here.profiles == [profile] and await context.excess() == excess


def test_the_confinement_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    here: object = confinement.of_this_machine()
    assert here is bubblewrap
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxError) as refused:
        confinement.of_this_machine()
    assert refused.value.code == 503 and "Linux" in refused.value.fix


# --- the table of runtimes


@pytest.mark.parametrize("name", runtimes.RUNTIMES)
def test_the_table_agrees_with_the_runtime(name: str) -> None:
    info, runtime = runtimes.RUNTIMES[name], runtimes.load(name)
    assert runtime.name == info.name == name
    assert (runtime.model_api is not None, runtime.gate_session is not None) == (info.needs_model_key, info.has_program)
    assert bool(info.extra) == (info.distribution is not None)


def test_a_runtime_that_is_not_in_the_table() -> None:
    with pytest.raises(SandboxError) as refused:
        runtimes.load("gpt")
    assert refused.value.code == 422 and "claude" in refused.value.fix and runtimes.DEFAULT in runtimes.RUNTIMES


@pytest.mark.parametrize(("module", "other"), [("sandbox.agent", "httpx"), ("sandbox.changes.__main__", "trio")])
def test_a_program_that_each_run_starts_does_not_load_what_it_may_not_need(module: str, other: str) -> None:
    """A client for HTTP where there is no model, and tasks where only files are compared."""
    look = f"import sys, {module}; sys.exit({other!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", look], cwd=Path(__file__).parents[2], check=True)
