"""The frames that the node and `dp-agent` exchange. Their parts: values.py; how a frame becomes a line: stream.py.

node → agent: `Start`, `Verdict`, `Cancel` (and the end of input: the node is gone, end everything at once).
agent → node: `McpListed`, `Started`, `TraceEntry`, `Call`, `CallClosed`, `Finished`.
"""

from __future__ import annotations

from typing import Literal

from sandbox.frames.values import (
    ApprovalMode,
    Attached,
    Attachment,
    Budget,
    By,
    CallId,
    Grant,
    Json,
    LeftOut,
    McpServer,
    Model,
    Natural,
    Network,
    PositiveAmount,
    ReturnedFile,
    Rule,
    RunStatus,
    SandboxFacts,
    ScriptStep,
    Seed,
    Toolchains,
    TraceEvent,
    Usage,
    Value,
)

# --- node → agent


class Start(Value, frozen=True, tag_field="kind", tag="start"):
    """Everything a run needs to know; sent once, first.

    `gate_proven`: the `gate_key` of an earlier run that started. Where it still holds, the gate is not proven anew.
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
    git_folders: dict[str, str] = {}
    """Granted folder → its repository's own folder, where that lies elsewhere; for shells alone."""
    links: dict[str, str] = {}
    """Symbolic links on the way to the person's home folder: place → target. What names a folder by them works."""
    not_shown: list[str] = []
    """Sentences about what the run does not see, for its trace."""
    names: dict[str, str] = {}
    """What the person's folders are called in what leaves this machine, by their paths."""
    approval: ApprovalMode = "manual"
    rules: list[Rule] = []
    budget: Budget = Budget()
    cwd: str | None = None
    protected: list[str] = []
    toolchains: Toolchains = Toolchains()
    seeds: list[Seed] = []
    network: Network = Network()
    model: Model = Model()
    answer_seconds: PositiveAmount = 120.0
    gate_proven: str = ""


class Verdict(Value, frozen=True, tag_field="kind", tag="verdict"):
    """What the node decided about one `Call`.

    `by`: what or who decided; `note` is passed on to the agent when denied. `rule`: which of the call's `rule_choices`
    a grant of `session` or `always` means; none, or one that was not offered, is the narrowest. `withdrawn`: stored
    rules that the edge no longer has. The gate forgets them and judges the call again, by what is left.
    """

    call_id: CallId
    allow: bool
    by: By
    grant: Grant | None = None
    note: str | None = None
    rule: Rule | None = None
    withdrawn: list[Rule] = []


class Cancel(Value, frozen=True, tag_field="kind", tag="cancel"):
    """End the run now. `status` is what it then counts as."""

    reason: str = ""
    status: Literal["cancelled", "declined"] = "cancelled"


ToAgent = Start | Verdict | Cancel


# --- agent → node


class McpListed(Value, frozen=True, tag_field="kind", tag="mcp_listed"):
    """What a server listed at its first start since the grant: tool → hex SHA-256, for the edge to pin."""

    server: str
    tools: dict[str, str]


class Started(Value, frozen=True, tag_field="kind", tag="started"):
    """The sandbox is built and proven, and so is the gate; the runtime begins."""

    sandbox: SandboxFacts
    runtime: str
    runtime_version: str
    gate_key: str = ""


class TraceEntry(Value, frozen=True, tag_field="kind", tag="event"):
    """The next event of the run's trace."""

    event: TraceEvent


class Call(Value, frozen=True, tag_field="kind", tag="call"):
    """A call that the scope permits. `verdict` "ask": a person must decide; "allow": only the edge is checked again.

    `covered_by`: of a call that stored rules allow, these rules. The edge must still have one of them.

    `rule_choices`: the rules that an `always` may store, narrowest first; `rule_if_always` is the first of them.
    """

    call_id: CallId
    tool: str
    input: Json
    verdict: Literal["allow", "ask"]
    by: Literal["scope", "rule", "session"]
    answer_seconds: PositiveAmount
    covered_by: list[Rule] = []
    agent_id: str | None = None
    resolved_path: str | None = None
    diff: str | None = None
    unusual: list[str] = []
    rule_if_always: Rule | None = None
    rule_choices: list[Rule] = []
    mcp_pin: str | None = None
    """Of an MCP tool that is new or changed since it was pinned: what to pin when a person allows the call."""


class CallClosed(Value, frozen=True, tag_field="kind", tag="call_closed"):
    """Nobody answered in time: a verdict on this call would come too late."""

    call_id: CallId
    outcome: Literal["unanswered"] = "unanswered"


class Finished(Value, frozen=True, tag_field="kind", tag="finished"):
    """The last frame of a run.

    `reason` is a sentence for people, `fix` what helps the person here, `code` as in `sandbox.errors`. `left_out`:
    files that are not returned; none is left away without being named there. What the run changed in the person's
    folders is in its views, and not said here.
    """

    status: RunStatus
    reply: str = ""
    usage: Usage = Usage()
    files: list[ReturnedFile] = []
    left_out: list[LeftOut] = []
    reason: str | None = None
    fix: str = ""
    code: int | None = None
    sandbox: SandboxFacts | None = None


ToNode = McpListed | Started | TraceEntry | Call | CallClosed | Finished
