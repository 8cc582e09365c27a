"""The states of a trust edge as a literal transition table, what each state permits, and the edge's stored rules.

The trustor (the recipient of dispatches) owns the edge; the inviter has a copy, updated by the trustor's statements.
Storing an edge, sending its changes and ending its runs are elsewhere.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from peer.protocol.errors import Conflict, DispatchError, Forbidden, Invalid
from peer.trust.scopes import Scope, within

Status = Literal["offered", "active", "paused", "revoked", "expired", "declined"]
RuleReach = Literal["exact", "prefix", "folder"]
Event = Literal["confirm", "edit", "pause", "resume", "revoke", "expire", "decline"]

EDGE: Final[dict[Status, dict[Event, Status]]] = {
    "offered": {  # the acceptance is sent, the inviter has not confirmed it
        "confirm": "active",
        "edit": "offered",
        "revoke": "revoked",
        "expire": "expired",
        "decline": "declined",  # the inviter refuses the acceptance, or withdrew the invitation meanwhile
    },
    "active": {
        "confirm": "active",  # acceptances are resent until confirmed, so a confirmation may arrive twice
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

_DONE: Final[dict[Event, str]] = {
    "confirm": "confirmed",
    "edit": "edited",
    "pause": "paused",
    "resume": "resumed",
    "revoke": "revoked",
    "expire": "expired",
    "decline": "declined",
}

ENDED: Final[frozenset[Status]] = frozenset({"revoked", "expired", "declined"})

MAX_RULES: Final = 200
MAX_PATTERN: Final = 10_000

_PLACED: Final = frozenset({"Read", "Write", "Edit", "Glob", "Grep"})
"""Tools whose rules are about a place on this machine."""
_WORKSPACE: Final = "$WORKSPACE"
"""How a rule spells the folder that each run has for itself (sandbox.policy.rules)."""

_REASONS: Final[dict[Status, str]] = {
    "offered": "is not confirmed yet",
    "paused": "is paused",
    "revoked": "was revoked",
    "expired": "expired",
    "declined": "was never made",
}


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An `always` grant: calls of `tool` that `pattern` covers need no approval.

    `reach` decides which are covered (sandbox.policy.rules): the exact argument, a command that begins with it, or the
    paths below it.
    """

    tool: str
    pattern: str
    reach: RuleReach = "exact"


def next_status(status: Status, event: Event) -> Status:
    """The status after `event`. Raises Conflict (409) if the table lists none."""
    following = EDGE[status].get(event)
    if following is None:
        fix = "start with a new invitation: `dispatch invite EMAIL`" if status in ENDED else "see `dispatch contacts`"
        if _DONE[event] == status:
            raise Conflict(f"the trust edge is already {status}", fix=fix)
        raise Conflict(f"the trust edge is {status}: it cannot be {_DONE[event]}", fix=fix)
    return following


def current(status: Status, *, expires: int | None, now: int) -> Status:
    """The status at `now` (ms since the epoch): past its expiry an edge is expired, whatever is stored."""
    if status not in ENDED and expires is not None and now >= expires:
        return "expired"
    return status


def check_send(status: Status | None, *, peer: str, expires: int | None, now: int) -> None:
    """At the sender: raise Forbidden (403) unless the edge that `peer` granted permits a dispatch. None: no edge."""
    if status is None:
        raise _no_edge(peer)
    status = current(status, expires=expires, now=now)
    if status in ENDED:
        raise Forbidden(f"the trust edge to {peer} {_REASONS[status]}", fix=f"invite them: `dispatch invite {peer}`")
    if status != "active":
        raise Forbidden(f"the trust edge to {peer} {_REASONS[status]}", fix=f"ask {peer}, who granted it")


def check_admit(status: Status | None, *, expires: int | None, now: int) -> None:
    """At the recipient: raise Forbidden (403) unless a dispatch's edge lets it arrive or run. None: no edge."""
    if status is None:
        raise Forbidden("there is no such trust edge", fix="invite the recipient: `dispatch invite EMAIL`")
    status = current(status, expires=expires, now=now)
    if status != "active":
        raise Forbidden(f"the trust edge {_REASONS[status]}", fix="ask the recipient, who granted it")


def with_rule(rules: tuple[Rule, ...], rule: Rule, scope: Scope) -> tuple[Rule, ...]:
    """`rules` plus `rule`, each once. Raises Invalid for a tool outside the scope, a bad pattern, too many rules."""
    if not permits_tool(scope, rule.tool):
        raise Invalid(f"the tool {rule.tool} is not in the edge's scope", fix="grant the tool first")
    if not 1 <= len(rule.pattern) <= MAX_PATTERN:
        raise Invalid(f"a rule's pattern has 1 to {MAX_PATTERN:,} characters", fix="approve this call once instead")
    if rule in rules:
        return rules
    if len(rules) >= MAX_RULES:
        raise Invalid(f"the edge already has {MAX_RULES} rules", fix="remove some: `dispatch trust show`")
    return (*rules, rule)


def rules_within(rules: Iterable[Rule], scope: Scope) -> tuple[Rule, ...]:
    """The rules that `scope` covers: of tools that it permits, and of places inside its folders if it has any.

    An edge keeps no others: one that stayed would act again, unasked, with the next edit that widens the scope.
    """
    return tuple(rule for rule in rules if permits_tool(scope, rule.tool) and _permits_place(scope, rule))


def _permits_place(scope: Scope, rule: Rule) -> bool:
    if not scope.paths or rule.tool not in _PLACED:
        return True
    # sandbox.policy.rules spells them: a Grep is an expression, " in ", and its path; the workspace belongs to the run.
    place = rule.pattern
    if rule.tool == "Grep" and rule.reach == "exact":
        place = place.rpartition(" in ")[2]
    return place == _WORKSPACE or place.startswith(_WORKSPACE + "/") or within(place, scope.paths)


def permits_tool(scope: Scope, tool: str) -> bool:
    """Whether the scope contains a built-in tool, or the server of an MCP tool (`mcp__<server>__<tool>`)."""
    if tool.startswith("mcp__"):
        return any(tool.startswith(f"mcp__{server}__") for server in scope.mcp_servers)
    return tool in scope.tools


def _no_edge(peer: str) -> DispatchError:
    return Forbidden(f"{peer} has not accepted an invitation of yours", fix=f"invite them: `dispatch invite {peer}`")
