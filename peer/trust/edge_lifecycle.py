"""The life of a trust edge as a literal table, who may send or is admitted in which state, and its stored rules.

The trustor (the recipient of dispatches) owns the edge; what the inviter knows is what the trustor told it. Storing,
telling and the killing of running work are not here.
"""

from typing import Final, Literal

import msgspec

from peer.protocol.errors import Conflict, DispatchError, Forbidden, Invalid
from peer.trust.scopes import Scope

Status = Literal["offered", "active", "paused", "revoked", "expired", "declined"]
RuleReach = Literal["exact", "prefix", "folder"]
Event = Literal["confirm", "edit", "pause", "resume", "revoke", "expire", "decline"]

EDGE: Final[dict[Status, dict[Event, Status]]] = {
    "offered": {  # the acceptance is out, the inviter has not confirmed it
        "confirm": "active",
        "edit": "offered",
        "revoke": "revoked",
        "expire": "expired",
        "decline": "declined",  # the inviter does not want it any more, or withdrew meanwhile
    },
    "active": {
        "confirm": "active",  # acceptances are sent again until confirmed, so confirmations come again too
        "edit": "active",
        "pause": "paused",
        "revoke": "revoked",
        "expire": "expired",
    },
    "paused": {
        "confirm": "paused",
        "edit": "paused",
        "resume": "active",
        "revoke": "revoked",
        "expire": "expired",
    },
    "revoked": {},
    "expired": {},
    "declined": {},
}

ENDED: Final[frozenset[Status]] = frozenset({"revoked", "expired", "declined"})

MAX_RULES: Final = 200
MAX_PATTERN: Final = 10_000

_REASONS: Final[dict[Status, str]] = {
    "offered": "is not confirmed yet",
    "paused": "is paused",
    "revoked": "was revoked",
    "expired": "expired",
    "declined": "was never made",
}


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An `always` grant: the calls of `tool` that `pattern` covers need no person. sandbox.policy.rules has which it
    covers: the one argument, a command that continues it, or paths below it.
    """

    tool: str
    pattern: str
    reach: RuleReach = "exact"


def next_status(status: Status, event: Event) -> Status:
    """The status that `event` leads to. Raises Conflict (409) where the table lists nothing."""
    following = EDGE[status].get(event)
    if following is None:
        fix = "invite or accept anew" if status in ENDED else "see `dispatch contacts`"
        raise Conflict(f"a trust edge that is {status} cannot {event}", fix=fix)
    return following


def current(status: Status, *, expires: int | None, now: int) -> Status:
    """The status at `now`: an edge past its expiry (ms since the epoch) is expired, written down or not."""
    if status not in ENDED and expires is not None and now >= expires:
        return "expired"
    return status


def check_send(status: Status | None, *, peer: str, expires: int | None, now: int) -> None:
    """At the sender: raise Forbidden (403) unless the edge that `peer` told us of lets us dispatch. None: no edge."""
    if status is None:
        raise _no_edge(peer)
    status = current(status, expires=expires, now=now)
    if status in ENDED:
        raise Forbidden(f"the trust edge to {peer} {_REASONS[status]}", fix=f"dispatch invite {peer}")
    if status != "active":
        raise Forbidden(f"the trust edge to {peer} {_REASONS[status]}", fix=f"ask {peer}, who granted it")


def check_admit(status: Status | None, *, expires: int | None, now: int) -> None:
    """At the recipient: raise Forbidden (403) unless the edge a dispatch names lets it in, or run on. None: no edge."""
    if status is None:
        raise Forbidden("there is no such trust edge", fix="ask the recipient for an invitation's acceptance")
    status = current(status, expires=expires, now=now)
    if status != "active":
        raise Forbidden(f"the trust edge {_REASONS[status]}", fix="ask the recipient, who granted it")


def send_allowed(status: Status | None, *, expires: int | None, now: int) -> bool:
    """Whether `check_send` would pass."""
    return status is not None and current(status, expires=expires, now=now) == "active"


def with_rule(rules: tuple[Rule, ...], rule: Rule, scope: Scope) -> tuple[Rule, ...]:
    """`rules` and `rule`, once. Raises Invalid for a tool outside the scope, an empty pattern, or too many."""
    if not permits_tool(scope, rule.tool):
        raise Invalid(f"the tool {rule.tool} is not in the edge's scope", fix="grant the tool first")
    if not 1 <= len(rule.pattern) <= MAX_PATTERN:
        raise Invalid(f"a rule's pattern has 1 to {MAX_PATTERN:,} characters", fix="approve this call once instead")
    if rule in rules:
        return rules
    if len(rules) >= MAX_RULES:
        raise Invalid(f"the edge has {MAX_RULES} rules already", fix="remove some: `dispatch trust show`")
    return (*rules, rule)


def permits_tool(scope: Scope, tool: str) -> bool:
    """Whether the scope has a built-in tool, or the server of an MCP tool (`mcp__<server>__<tool>`)."""
    if tool.startswith("mcp__"):
        return any(tool.startswith(f"mcp__{server}__") for server in scope.mcp_servers)
    return tool in scope.tools


def _no_edge(peer: str) -> DispatchError:
    return Forbidden(f"{peer} has not accepted an invitation of yours", fix=f"dispatch invite {peer}")
