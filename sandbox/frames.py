"""The frames that the node and `dp-agent` exchange: what may be said, and how a line becomes a value.

One frame is one JSON object on one line (NDJSON), at most `MAX_LINE` bytes with its newline. The `kind`
member names the type. Decoding is strict: unknown members, wrong types, missing members, oversized lines
and lines that end before their newline are a `FrameError`; neither side guesses. Nothing here knows what a
dispatch means.

node → agent: `Start`, `Answer`, `Cancel` (and the end of input: the node is gone, end everything at once).
agent → node: `McpListed`, `Started`, `Event`, `Call`, `CallClosed`, `Finished`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
import trio

from sandbox.errors import FrameError

MAX_LINE: Final = 8 * 1024 * 1024
"""Bytes of one line. The largest honest frame is a Write of a few megabytes with its diff."""

_CHUNK: Final = 64 * 1024

Json = dict[str, Any]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(gt=0)]
PositiveAmount = Annotated[float, msgspec.Meta(gt=0)]
CallId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

By = Literal["scope", "rule", "session", "person", "timeout", "edge"]
"""Who settled a call: the scope, a stored rule, a grant for this run, a person, nobody in time, or the
edge itself.
"""
Grant = Literal["once", "session", "always"]
Reach = Literal["exact", "prefix", "folder"]
Outcome = Literal["allowed", "denied", "unanswered"]
RunStatus = Literal["completed", "failed", "cancelled", "declined"]


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A part of a frame."""


class Rule(_Value, frozen=True):
    """A stored `always`: the calls of `tool` that `pattern` stands for (see `sandbox.rules` for the meaning).

    `reach`: the argument is the pattern (`exact`), a command continues it (`prefix`), or a path is in it (`folder`).
    """

    tool: str
    pattern: str
    reach: Reach = "exact"


class Attachment(_Value, frozen=True):
    """A file that came with the dispatch: `name` is a plain base name, `path` where the verified bytes
    lie.
    """

    name: str
    path: str


class Attached(_Value, frozen=True):
    """A text that came with the task: `name` marks where it begins and ends, `heading` is a line above it."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z_]{0,31}$")]
    heading: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    text: str


class Budget(_Value, frozen=True):
    """What a run may spend. Minutes of wall clock, model turns, US dollars, bytes of returned files."""

    minutes: PositiveAmount = 60.0
    turns: Positive = 100
    usd: PositiveAmount = 5.0
    output_bytes: Natural = 100_000_000


class Model(_Value, frozen=True):
    """Where the model answers. `api_key` is a secret: it stays in the proxy and is never repeated."""

    base_url: str | None = None
    api_key: str | None = None
    name: str | None = None

    def __repr__(self) -> str:
        key = "None" if self.api_key is None else "'…'"
        return f"Model(base_url={self.base_url!r}, api_key={key}, name={self.name!r})"


class McpServer(_Value, frozen=True):
    """An MCP server of the person that this run may use: what starts it, and its whole environment.

    `tools`: pinned tools, name → hex SHA-256 of what the server says of it; None when it was never listed since the
    grant. `env` holds the person's secrets and is never repeated.
    """

    name: str
    command: list[str]
    env: dict[str, str] = {}
    tools: dict[str, str] | None = None

    def __repr__(self) -> str:
        return f"McpServer(name={self.name!r}, env={sorted(self.env)!r})"


class ScriptStep(_Value, frozen=True):
    """One step of the scripted runtime: either `say` some text, or call `tool` with `input`."""

    say: str | None = None
    tool: str | None = None
    input: Json = {}


class Usage(_Value, frozen=True):
    """What a run spent."""

    turns: Natural = 0
    input_tokens: Natural = 0
    output_tokens: Natural = 0
    cost_usd: float = 0.0
    seconds: float = 0.0


class ReturnedFile(_Value, frozen=True):
    """A file of the result: `name` relative to out/, `path` on the host, `size` in bytes, `sha256` in hex."""

    name: str
    path: str
    size: Natural
    sha256: str


class SandboxFacts(_Value, frozen=True):
    """What held the run: its tier, the mechanisms, each canary with its outcome (`held` or what was
    reached), and whether the gate is `proven` with this agent program ("": its calls are made on this side).
    """

    tier: str
    mechanisms: list[str] = []
    canaries: dict[str, str] = {}
    gate: Literal["", "proven"] = ""


# --- events: the lines of a trace -------------------------------------------------------------------------


class Reasoning(_Value, frozen=True, tag_field="kind", tag="reasoning"):
    text: str


class ToolCall(_Value, frozen=True, tag_field="kind", tag="tool_call"):
    call_id: CallId
    tool: str
    input: Json
    agent_id: str | None = None


class Approval(_Value, frozen=True, tag_field="kind", tag="approval"):
    call_id: CallId
    outcome: Outcome
    by: By
    grant: Grant | None = None
    note: str | None = None


class ToolResult(_Value, frozen=True, tag_field="kind", tag="tool_result"):
    call_id: CallId
    ok: bool
    output: str


class Status(_Value, frozen=True, tag_field="kind", tag="status"):
    status: str
    detail: str = ""


TraceEvent = Reasoning | ToolCall | Approval | ToolResult | Status


# --- node → agent -----------------------------------------------------------------------------------------


class Start(_Value, frozen=True, tag_field="kind", tag="start"):
    """Everything a run needs to know; sent once, first.

    `gate_proven`: the `gate_key` of a run that the node saw start before. Where it is still the right one, the gate is
    not proven anew.
    """

    dispatch_id: str
    attempt: Natural
    sender: str
    task: str
    run_dir: str
    runtime: str = "claude"
    attached: list[Attached] = []
    files: list[Attachment] = []
    script: list[ScriptStep] = []
    tools: list[str] = []
    mcp_servers: list[McpServer] = []
    mcp_refused: str = ""
    """A regular expression: a server with a tool of such a name is not used."""
    paths: list[str] = []
    approval: Literal["manual", "auto"] = "manual"
    rules: list[Rule] = []
    budget: Budget = Budget()
    cwd: str | None = None
    protected: list[str] = []
    model: Model = Model()
    answer_seconds: PositiveAmount = 120.0
    gate_proven: str = ""


class Answer(_Value, frozen=True, tag_field="kind", tag="answer"):
    """The node's word on one `Call`.

    `by` is whoever decided; `note` is passed on to the agent when denied. `rule`: which of the call's `rule_choices`
    a grant of `session` or `always` means; none, or one that was not offered, is the narrowest.
    """

    call_id: CallId
    allow: bool
    by: By
    grant: Grant | None = None
    note: str | None = None
    rule: Rule | None = None


class Cancel(_Value, frozen=True, tag_field="kind", tag="cancel"):
    """End the run now. `status` is what it then counts as."""

    reason: str = ""
    status: Literal["cancelled", "declined"] = "cancelled"


ToAgent = Start | Answer | Cancel


# --- agent → node -----------------------------------------------------------------------------------------


class McpListed(_Value, frozen=True, tag_field="kind", tag="mcp_listed"):
    """What a server listed at its first start since the grant: tool → hex SHA-256, for the edge to pin."""

    server: str
    tools: dict[str, str]


class Started(_Value, frozen=True, tag_field="kind", tag="started"):
    """The sandbox stands and is proven, and so is the gate; the runtime begins."""

    sandbox: SandboxFacts
    runtime: str
    runtime_version: str
    gate_key: str = ""


class Event(_Value, frozen=True, tag_field="kind", tag="event"):
    event: TraceEvent


class Call(_Value, frozen=True, tag_field="kind", tag="call"):
    """A call that the scope permits. `verdict` "ask" wants a person; "allow" only the edge's re-check.

    `rule_choices`: the rules that an `always` may store, narrowest first; `rule_if_always` is the first of them.
    """

    call_id: CallId
    tool: str
    input: Json
    verdict: Literal["allow", "ask"]
    by: Literal["scope", "rule", "session"]
    answer_seconds: PositiveAmount
    agent_id: str | None = None
    resolved_path: str | None = None
    diff: str | None = None
    unusual: list[str] = []
    rule_if_always: Rule | None = None
    rule_choices: list[Rule] = []
    mcp_pin: str | None = None
    """Of an MCP tool that is new or changed since it was pinned: what to pin when a person allows the call."""


class CallClosed(_Value, frozen=True, tag_field="kind", tag="call_closed"):
    """Nobody answered in time (or the run ended): an answer to this call would come too late."""

    call_id: CallId
    outcome: Literal["unanswered"] = "unanswered"


class Finished(_Value, frozen=True, tag_field="kind", tag="finished"):
    """The last frame of a run. `reason` is a sentence for people, `code` as in `sandbox.errors`. `changes` is
    the diff of what it changed in the person's folders.
    """

    status: RunStatus
    reply: str = ""
    usage: Usage = Usage()
    files: list[ReturnedFile] = []
    changes: ReturnedFile | None = None
    reason: str | None = None
    code: int | None = None
    sandbox: SandboxFacts | None = None


ToNode = McpListed | Started | Event | Call | CallClosed | Finished


# --- lines ------------------------------------------------------------------------------------------------

_Frame = TypeVar("_Frame")


def encode(frame: ToAgent | ToNode) -> bytes:
    """The frame's line, newline included.

    FrameError 413 if longer than `MAX_LINE`, 422 if its text is not Unicode.
    """
    try:
        line = msgspec.json.encode(frame) + b"\n"
    except (UnicodeEncodeError, msgspec.MsgspecError) as error:
        raise FrameError("a frame holds text that is not Unicode") from error
    if len(line) > MAX_LINE:
        raise FrameError(f"a frame of {len(line)} bytes is over the limit of {MAX_LINE}", code=413)
    return line


def _decode(line: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(line, type=kind, strict=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The message names the member, hardly ever a value (only an unknown tag): frames hold secrets and
        # other people's words.
        raise FrameError(f"not a frame: {error}") from error


def decode_to_agent(line: bytes) -> ToAgent:
    """A line from the node, newline optional. FrameError when it is anything else."""
    frame: ToAgent = _decode(line, ToAgent)
    return frame


def decode_to_node(line: bytes) -> ToNode:
    """A line from the agent, newline optional. FrameError when it is anything else."""
    frame: ToNode = _decode(line, ToNode)
    return frame


async def lines(stream: trio.abc.ReceiveStream, *, limit: int = MAX_LINE) -> AsyncIterator[bytes]:
    """Lines of `stream` without their newline.

    FrameError 413 past `limit` bytes, 422 when input ends inside a line.
    """
    pending = bytearray()
    while chunk := await stream.receive_some(_CHUNK):
        searched = len(pending)
        pending += chunk
        while (end := pending.find(b"\n", searched)) >= 0:
            if end >= limit:
                raise FrameError(f"a line is over the limit of {limit} bytes", code=413)
            yield bytes(pending[:end])
            del pending[: end + 1]
            searched = 0
        if len(pending) >= limit:
            raise FrameError(f"a line is over the limit of {limit} bytes", code=413)
    if pending:
        raise FrameError("the input ended in the middle of a line")


class FrameReader(Generic[_Frame]):
    """Typed frames out of a byte stream; iterate. `decode` is `decode_to_agent` or `decode_to_node`."""

    def __init__(self, stream: trio.abc.ReceiveStream, decode: Any, *, limit: int = MAX_LINE) -> None:
        self._stream = stream
        self._decode = decode
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[_Frame]:
        async for line in lines(self._stream, limit=self._limit):
            if line.strip():
                yield self._decode(line)


class FrameWriter:
    """Frames onto a byte stream, whole lines in the order of the calls, from any number of tasks."""

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self._stream = stream
        self._lock = trio.Lock()
        self._patience = math.inf
        self._writing: trio.CancelScope | None = None
        self._spoiled = False

    def hurry(self, seconds: float) -> None:
        """From now on a line that the reader does not take within so many seconds breaks the stream."""
        self._patience = seconds
        if self._writing is not None:
            self._writing.deadline = min(self._writing.deadline, trio.current_time() + seconds)

    async def send(self, frame: ToAgent | ToNode) -> None:
        """Write one frame. FrameError as `encode`; trio.BrokenResourceError when the reader is gone, or too slow after
        `hurry`.
        """
        line = encode(frame)
        async with self._lock:
            if self._spoiled:
                raise trio.BrokenResourceError("the reader took only half a line")
            # Half a line would spoil every frame after it, so a cancelled sender still finishes its own.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._patience) as self._writing:
                await self._stream.send_all(line)
            if self._writing.cancelled_caught:
                self._spoiled = True
                raise trio.BrokenResourceError("the reader takes nothing")
            self._writing = None
