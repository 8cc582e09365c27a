"""The parts that frames are made of, and the events of a trace. Frames themselves: messages.py. Values only.

None of it knows what a dispatch means.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Json = dict[str, object]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(gt=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
PositiveAmount = Annotated[float, msgspec.Meta(gt=0)]
CallId = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

By = Literal["scope", "rule", "session", "person", "timeout", "edge"]
"""Who settled a call: the scope, a stored rule, a grant for this run, a person, nobody in time, or the edge itself."""
Grant = Literal["once", "session", "always"]
ApprovalMode = Literal["manual", "review", "auto"]
Reach = Literal["exact", "prefix", "folder"]
Outcome = Literal["allowed", "denied", "unanswered"]
RunStatus = Literal["completed", "failed", "cancelled", "declined"]


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A part of a frame."""


class Rule(Value, frozen=True):
    """A stored `always`: the calls of `tool` that `pattern` stands for (see `sandbox.policy.rules` for the meaning).

    `reach`: the argument is the pattern (`exact`), a command continues it (`prefix`), or a path is in it (`folder`).
    """

    tool: str
    pattern: str
    reach: Reach = "exact"


class Attached(Value, frozen=True):
    """A text that came with the task: `name` marks where it begins and ends, `heading` is a line above it."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z_]{0,31}$")]
    heading: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    text: str


class Attachment(Value, frozen=True):
    """A file that came with the dispatch: `name` is a plain base name, `path` where the verified bytes are."""

    name: str
    path: str


class Budget(Value, frozen=True):
    """What a run may spend: minutes of wall clock, model turns, US dollars, bytes of returned files, bytes to and from
    granted hosts.
    """

    minutes: PositiveAmount = 60.0
    turns: Positive = 100
    usd: PositiveAmount = 5.0
    output_bytes: Natural = 100_000_000
    network_bytes: Natural = 1_000_000_000


class ModelPrice(Value, frozen=True):
    """US dollars per million tokens, by what becomes of them."""

    input: Amount
    output: Amount
    cache_write: Amount
    cache_read: Amount


class Model(Value, frozen=True):
    """Where the model answers. `api_key` and `http_proxy` are secrets: they stay in the proxy and are in no repr."""

    base_url: str | None = None
    api_key: str | None = None
    name: str | None = None
    price: ModelPrice | None = None
    """What the model of that name costs; None: as the API's own list has it."""
    ca_file: str | None = None
    """PEM file of the authorities that may sign its certificate; None: the system's."""
    more_ca_file: str | None = None
    """The same, of authorities beside those."""
    http_proxy: str | None = None
    """The proxy on the way there, http(s)://[NAME:PASSWORD@]HOST:PORT; None: there is none."""

    def __repr__(self) -> str:
        key = "None" if self.api_key is None else "'…'"
        return f"Model(base_url={self.base_url!r}, api_key={key}, name={self.name!r})"


class McpServer(Value, frozen=True):
    """An MCP server of the person that this run may use: what starts it, and its whole environment.

    `tools`: pinned tools, name → hex SHA-256 of the server's description of it; None when it was never listed since the
    grant. `env` holds the person's secrets and is in no repr.
    """

    name: str
    command: list[str]
    env: dict[str, str] = {}
    tools: dict[str, str] | None = None

    def __repr__(self) -> str:
        return f"McpServer(name={self.name!r}, env={sorted(self.env)!r})"


class ToolchainMount(Value, frozen=True):
    """A folder or file of a toolchain that a run sees read-only: `path` on this machine, `at` inside."""

    path: str
    at: str


class Toolchains(Value, frozen=True):
    """What a run has besides the system's own programs.

    `programs`: inside folders for PATH, before the system's. `variables`: what the toolchains' programs need to know.
    `labels`: what the agent is told: "Python 3.12.7 (uv)".
    """

    mounts: list[ToolchainMount] = []
    programs: list[str] = []
    variables: dict[str, str] = {}
    labels: list[str] = []


class NetworkHost(Value, frozen=True):
    """A host that shell commands may reach over TLS. `by_proxy`: through the person's own HTTP proxy."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 443
    by_proxy: bool = False


class Seed(Value, frozen=True):
    """A file for the run's own caches: `path` on this machine, `place` below the caches' folder."""

    path: str
    place: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


class PackageRegistry(Value, frozen=True):
    """A registry from which packages are fetched for the run: its https address, without a slash at its end."""

    kind: Literal["pip", "npm", "cargo", "go"]
    address: Annotated[str, msgspec.Meta(pattern=r"\Ahttps://[!-~]{1,1000}[!-.0-~]\Z")]
    by_proxy: bool = False


class Network(Value, frozen=True):
    """What a run may reach. `http_proxy` may hold a password: it stays in the proxy outside and is in no repr.

    `packages`: kind of registry → name → versions, as the project's lock files have them; `any_package`: those and all
    others. `file_hosts`: where they say that files are.
    """

    hosts: list[NetworkHost] = []
    registries: list[PackageRegistry] = []
    packages: dict[str, dict[str, list[str]]] = {}
    any_package: bool = False
    file_hosts: list[str] = []
    http_proxy: str | None = None
    ca_file: str | None = None
    """PEM file of the authorities that may sign an https proxy's certificate; None: the system's."""
    more_ca_file: str | None = None
    """The same, of authorities beside those."""

    @property
    def has_authorities(self) -> bool:
        """Whether commands are to trust other authorities than the system's: a company's, or our own for packages."""
        return bool(self.registries or self.ca_file or self.more_ca_file)

    def __repr__(self) -> str:
        return f"Network(hosts={self.hosts!r}, registries={self.registries!r})"


class ScriptStep(Value, frozen=True):
    """One step of the scripted runtime: either `say` some text, or call `tool` with `input`."""

    say: str | None = None
    tool: str | None = None
    input: Json = {}


class Usage(Value, frozen=True):
    """What a run spent."""

    turns: Natural = 0
    input_tokens: Natural = 0
    output_tokens: Natural = 0
    cost_usd: float = 0.0
    seconds: float = 0.0


class ReturnedFile(Value, frozen=True):
    """A file of the result: `name` relative to out/, `path` on the host, `size` in bytes, `sha256` in hex."""

    name: str
    path: str
    size: Natural
    sha256: str


class LeftOut(Value, frozen=True):
    """A file that a run left and that is not returned: its harmless name, and why."""

    name: str
    why: str


class SandboxFacts(Value, frozen=True):
    """What confined the run: tier, mechanisms, each canary with its outcome (`sandbox.confinement.report`).

    `gate`: `proven` with this agent program, or "" where the program's calls are made by the gate's own side.
    """

    tier: str
    mechanisms: list[str] = []
    canaries: dict[str, str] = {}
    gate: Literal["", "proven"] = ""


# --- the events of a trace


class Reasoning(Value, frozen=True, tag_field="kind", tag="reasoning"):
    """What the agent thinks or says."""

    text: str


class ToolCall(Value, frozen=True, tag_field="kind", tag="tool_call"):
    """A tool call, also one that is denied. `agent_id`: the sub-agent that makes it."""

    call_id: CallId
    tool: str
    input: Json
    agent_id: str | None = None


class Approval(Value, frozen=True, tag_field="kind", tag="approval"):
    """What became of a tool call."""

    call_id: CallId
    outcome: Outcome
    by: By
    grant: Grant | None = None
    note: str | None = None


class ToolResult(Value, frozen=True, tag_field="kind", tag="tool_result"):
    """What an allowed call returned."""

    call_id: CallId
    ok: bool
    output: str


class Status(Value, frozen=True, tag_field="kind", tag="status"):
    """Something that happened to the run, by name."""

    status: str
    detail: str = ""


TraceEvent = Reasoning | ToolCall | Approval | ToolResult | Status
