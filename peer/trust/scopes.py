"""What a trust edge permits: the values, their bounds, comparison and summary. Parsing a person's input: grants.py.

A scope is stored on the trustor's machine only; `summary` is the part of it that the inviter receives.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

from peer.protocol.errors import Invalid
from peer.protocol.fields import LAST_TIME
from peer.protocol.growth import NotUnderstood
from peer.trust.hosts import parse_host

Approval = Literal["manual", "review", "auto"]
Results = Literal["full", "redacted"]
Apply = Literal["review", "auto"]

TOOLS: Final = ("Read", "Glob", "Grep", "Write", "Edit", "Bash")
"""Every tool that can be granted, in the order in which scopes list them: from reading to a full shell."""

POWERFUL: Final = frozenset({"Write", "Edit", "Bash"})
"""Tools that can change something."""

APPROVALS: Final[tuple[Approval, ...]] = ("manual", "review", "auto")
APPLIES: Final[tuple[Apply, ...]] = ("review", "auto")
RESULTS: Final[tuple[Results, ...]] = ("full", "redacted")

UNREVIEWED: Final = "changes applied unreviewed"
"""What `apply: auto` permits, as a phrase for people."""

_APPROVAL_WIDENS: Final[dict[tuple[Approval, Approval], str]] = {
    ("manual", "review"): "calls without asking, within the folders' views",
    ("manual", "auto"): "auto approval",
    ("review", "auto"): "auto approval",
    ("review", "manual"): "results sent without a review",
}
"""What a change of the approval mode permits that was not permitted before, as phrases for people."""

MAX_PER_DAY: Final = 1_000
MAX_PATHS: Final = 32
MAX_PATH: Final = 4_096  # PATH_MAX on Linux
MAX_TOOLCHAINS: Final = 16
MAX_HOSTS: Final = 32
PACKAGES: Final = "packages"
ANY_PACKAGES: Final = "any-packages"
"""Words of a scope's network: what the project's lock files name, and whatever a registry has."""
MAX_MCP_SERVERS: Final = 64
MAX_MCP_NAME: Final = 64
MB: Final = 1024 * 1024


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that one run may use: minutes, agent turns, US dollars, bytes of returned files, bytes that go to and
    come from the granted hosts.
    """

    minutes: int = 60
    turns: int = 100
    usd: float = 5.0
    output_bytes: int = 100 * MB
    network_bytes: int = 1_000 * MB


BUDGET_BOUNDS: Final = {
    "minutes": (1, 1_440),
    "turns": (1, 1_000),
    "usd": (0.01, 1_000.0),
    "output_bytes": (0, 250 * MB),  # no more can be returned: 50 files of 5 MB
    "network_bytes": (MB, 1_000_000 * MB),
}


class Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A registry of packages as it was granted: which tools speak with it, and its https address."""

    kind: Literal["pip", "npm", "cargo", "go"]
    address: Annotated[str, msgspec.Meta(pattern=r"\Ahttps://[!-~]{1,1000}\Z")]


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one edge permits. `paths` are absolute; empty means only the folder confirmed at accept.

    `mcp_servers` are names of servers installed on the trustor's machine; `expires` is ms since the epoch, None for
    never. `approval`: whether a person is asked before each call (manual), before the calls of MCP servers, and before
    anything that the run returned is sent (review), or before none (auto). `apply`: what becomes of changes in the
    person's folders when a run has completed: they wait for the person, or those without a mark are put in place at
    once. `toolchains`: what a run sees beside the system's own programs: `auto` (what the project is run with, as found
    on this machine), `none`, paths that the person named; empty is what this machine's settings say. `network`: hosts
    that its commands reach over TLS, as hosts.py writes them; PACKAGES or ANY_PACKAGES, which are fetched for them from
    `registries`, this machine's own as they were at the grant; empty is none. `always` grants are not part of it: they
    are rules, stored with the edge (edge_lifecycle.py).
    """

    tools: tuple[str, ...]
    mcp_servers: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    approval: Approval = "manual"
    max_per_day: int = 50
    expires: int | None = None
    results: Results = "full"
    apply: Apply = "review"
    toolchains: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    registries: tuple[Registry, ...] = ()
    budget: Budget = Budget()


class Summary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a scope that the inviter receives: no paths, no budget. `expires` is ms since the epoch or None."""

    tools: tuple[str, ...]
    mcp_servers: tuple[str, ...]
    approval: Approval
    max_per_day: int
    expires: int | None
    results: Results


_LATER_APPROVAL: Final = "approval?"

_SCOPE_READER: Final = msgspec.json.Decoder(Scope)
_SUMMARY_READER: Final = msgspec.json.Decoder(Summary)


def encode(scope: Scope) -> bytes:
    """The scope as JSON, as the store keeps it."""
    return msgspec.json.encode(scope)


def decode(raw: bytes | str) -> Scope:
    """Decode what `encode` returned and check every bound again. Raises Invalid."""
    try:
        scope = _SCOPE_READER.decode(raw)
    except msgspec.MsgspecError as error:
        raise Invalid(
            f"the stored scope cannot be read: {error}",
            fix="revoke the edge with `dispatch trust revoke`, and grant it again",
        ) from None
    check(scope)
    return scope


def check(scope: Scope) -> None:
    """Raise Invalid (422) unless the tools are known and in order and every value is within its bounds."""
    _check_tools(scope.tools)
    _check_servers(scope.mcp_servers)
    check_max_per_day(scope.max_per_day)
    check_budget(scope.budget)
    check_toolchains(scope.toolchains)
    check_network(scope.network)
    if len(scope.paths) > MAX_PATHS or len(set(scope.paths)) != len(scope.paths):
        raise Invalid(
            f"{len(scope.paths)} folders are named; at most {MAX_PATHS} can be granted, each once",
            fix="grant fewer folders, or one that contains them",
        )
    for path in scope.paths:
        if not path.startswith("/") or len(path) > MAX_PATH:
            raise Invalid("a granted folder is not an absolute path", fix="give its full path, starting with /")
    if scope.expires is not None and not 0 <= scope.expires <= LAST_TIME:
        raise Invalid("the expiry of the edge is not a time", fix="give a time like 2030-01-31T12:00:00Z")


def check_max_per_day(value: int) -> None:
    """Raise Invalid unless `value` is 1 to 1,000 dispatches in 24 hours."""
    if not 1 <= value <= MAX_PER_DAY:
        raise Invalid(
            f"{value:,} dispatches a day is outside 1 to {MAX_PER_DAY:,}",
            fix=f"give 1 to {MAX_PER_DAY:,}; the default is 50",
        )


def check_budget(budget: Budget) -> None:
    """Raise Invalid unless each part is within BUDGET_BOUNDS."""
    for name, (least, most) in BUDGET_BOUNDS.items():
        value = getattr(budget, name)
        # Written so that NaN, which compares false with everything, is refused too.
        if not least <= value <= most:
            raise Invalid(f"the budget's {name} is {value}", fix=f"give {least:,} to {most:,}")


def check_toolchains(words: tuple[str, ...]) -> None:
    """Raise Invalid unless each is `auto` or an absolute path, each once, or `none` stands alone."""
    named = [word for word in words if word != "auto"]
    if words != ("none",) and (
        len(words) > MAX_TOOLCHAINS
        or len(set(words)) != len(words)
        or any(not word.startswith("/") or len(word) > MAX_PATH or not word.isprintable() for word in named)
    ):
        raise Invalid(
            "a run cannot be given these toolchains",
            fix=f"give auto, none, or at most {MAX_TOOLCHAINS} absolute paths, with or without auto",
        )


def check_network(named: tuple[str, ...]) -> None:
    """Raise Invalid unless each is a word for packages or a host as `parse_host` gives it, sorted and each once."""
    if PACKAGES in named and ANY_PACKAGES in named:
        raise Invalid(f"{ANY_PACKAGES} includes {PACKAGES}", fix="name only one of the two")
    if len(named) > MAX_HOSTS or list(named) != sorted({network_word(name) for name in named}):
        raise Invalid(
            f"at most {MAX_HOSTS} hosts can be granted, sorted and each once", fix="grant fewer of them, each once"
        )


def network_word(named: str) -> str:
    """Return a word of a scope's network in its one form. Raises Invalid."""
    return named if named in (PACKAGES, ANY_PACKAGES) else str(parse_host(named))


def hosts(scope: Scope) -> tuple[str, ...]:
    """Return the hosts that are granted themselves."""
    return tuple(word for word in scope.network if word not in (PACKAGES, ANY_PACKAGES))


def network_phrase(word: str) -> str:
    """Return a word of a scope's network as a phrase for people."""
    phrases = {PACKAGES: "packages named in lock files", ANY_PACKAGES: "any package"}
    return phrases.get(word, f"the network: {word}")


def summary(scope: Scope) -> Summary:
    """Return the part of `scope` that the inviter receives."""
    return Summary(
        tools=scope.tools,
        mcp_servers=scope.mcp_servers,
        approval=scope.approval,
        max_per_day=scope.max_per_day,
        expires=scope.expires,
        results=scope.results,
    )


def encode_summary(summary: Summary) -> str:
    """The summary as the JSON text that acceptances and edge changes carry (at most 16,384 characters).

    `review` came after the other modes. It is written as a member that an older version ignores, beside the mode that
    such a version knows and that permits the least.
    """
    members: dict[str, object] = msgspec.structs.asdict(summary)
    if summary.approval == "review":
        members |= {"approval": "manual", _LATER_APPROVAL: "review"}
    return msgspec.json.encode(members).decode()


def encode_report(scope: Scope) -> str:
    """What a result says of the scope that its run had: the JSON text of the summary, for people to read."""
    return msgspec.json.encode(summary(scope)).decode()


def decode_summary(text: str) -> Summary:
    """Decode a summary from another machine and check it. Raises Invalid.

    Members grow as the keys of statements do (protocol/growth.py): an unknown one whose name ends in `?` is ignored,
    any other unknown one raises NotUnderstood.
    """
    try:
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        kept = {name: value for name, value in members.items() if not name.endswith("?")}
        if unknown := kept.keys() - set(Summary.__struct_fields__):
            raise NotUnderstood(f"the scope has a member {min(unknown)!r:.40} that this version does not know")
        if members.get(_LATER_APPROVAL) == msgspec.Raw(b'"review"'):
            kept["approval"] = members[_LATER_APPROVAL]
        received = _SUMMARY_READER.decode(msgspec.json.encode(kept))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(
            f"the scope that the contact sent cannot be read: {error}", fix="ask them to update dispatch"
        ) from None
    _check_tools(received.tools)
    _check_servers(received.mcp_servers)
    check_max_per_day(received.max_per_day)
    if received.expires is not None and not 0 <= received.expires <= LAST_TIME:
        raise Invalid("the expiry that the contact sent is not a time", fix="ask them to update dispatch")
    return received


def needs_confirmation(scope: Scope) -> tuple[str, ...]:
    """What in `scope` needs a second confirmation while the inviter's key is unverified; empty if nothing does.

    Each item is a phrase for people: "Write", "Bash", "the MCP server github", "auto approval".
    """
    return (
        *(tool for tool in scope.tools if tool in POWERFUL),
        *(f"the MCP server {name}" for name in scope.mcp_servers),
        *(("auto approval",) if scope.approval == "auto" else ()),
        *((UNREVIEWED,) if scope.apply == "auto" else ()),
        *(network_phrase(word) for word in scope.network),
    )


def widens(old: Scope, new: Scope) -> tuple[str, ...]:
    """In which ways `new` permits more than `old`, as phrases for people; empty if it does not.

    Naming folders where there were none counts as wider, because they are granted without a confirmation at accept.
    So does removing all folders, because then any folder may be confirmed.
    """
    ways = [f"tool {tool}" for tool in new.tools if tool not in old.tools]
    ways += [f"MCP server {name}" for name in new.mcp_servers if name not in old.mcp_servers]
    if old.paths and not new.paths:
        ways.append("no restriction to folders")
    ways += [f"folder {path}" for path in new.paths if not within(path, old.paths)]
    if way := _APPROVAL_WIDENS.get((old.approval, new.approval)):
        ways.append(way)
    if new.max_per_day > old.max_per_day:
        ways.append(f"{new.max_per_day} a day instead of {old.max_per_day}")
    if old.expires is not None and (new.expires is None or new.expires > old.expires):
        ways.append("a later expiry")
    if (old.apply, new.apply) == ("review", "auto"):
        ways.append(UNREVIEWED)
    ways += [f"programs in {word}" for word in new.toolchains if word.startswith("/") and word not in old.toolchains]
    if old.toolchains and "auto" not in old.toolchains and (not new.toolchains or "auto" in new.toolchains):
        ways.append("the toolchains found for a project")
    had = {*old.network, PACKAGES} if ANY_PACKAGES in old.network else old.network
    ways += [network_phrase(word) for word in new.network if word not in had]
    if (old.results, new.results) == ("redacted", "full"):
        ways.append("full results")
    ways += [
        f"a larger budget of {name.replace('_', ' ')}"
        for name in BUDGET_BOUNDS
        if getattr(new.budget, name) > getattr(old.budget, name)
    ]
    return tuple(ways)


def within(path: str, roots: Iterable[str]) -> bool:
    """Whether an absolute, normalised path is one of `roots` or below one. Compares text; does not follow links."""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def ordered(tools: Iterable[str]) -> tuple[str, ...]:
    """Known tools in the order of TOOLS, each once."""
    named = frozenset(tools)
    return tuple(tool for tool in TOOLS if tool in named)


def _check_tools(tools: tuple[str, ...]) -> None:
    if not tools:
        raise Invalid("the scope has no tools", fix=f"grant at least one of {', '.join(TOOLS)}")
    if tools != ordered(tools):
        raise Invalid(
            "the scope names unknown tools, or has them in the wrong order", fix=f"choose from {', '.join(TOOLS)}"
        )


def _check_servers(names: tuple[str, ...]) -> None:
    if len(names) > MAX_MCP_SERVERS or list(names) != sorted(set(names)):
        raise Invalid(
            f"at most {MAX_MCP_SERVERS} MCP servers can be granted, sorted and each once",
            fix="grant fewer of them, each once",
        )
    if any(not 1 <= len(name) <= MAX_MCP_NAME or not name.isprintable() for name in names):
        raise Invalid(
            "the name of an MCP server is empty, too long or contains invisible characters",
            fix="rename the server where it is configured",
        )
