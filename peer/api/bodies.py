"""The bodies of requests to the loopback API, one shape for each. Those of the local page: page/routes.py.

A body with an unknown member is refused. What a dispatch is made of is in peer/client/requests.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from peer.api.responses import Body
from peer.trust.grants import BudgetInput

Words = str | list[str]


class InviteBody(Body):
    email: str


class RemoveBrokerBody(Body):
    url: Annotated[str, msgspec.Meta(max_length=512)]
    confirmed: bool = False


class ContactBody(Body):
    alias: Annotated[str, msgspec.Meta(max_length=200)]


class AddressBody(Body):
    address: Annotated[str, msgspec.Meta(max_length=300)]


class ScopeBody(Body):
    tools: Words | None = None
    mcp_servers: Words | None = None
    paths: Words | None = None
    approval: str | None = None
    max_per_day: int | str | None = None
    expires: str | None = None
    results: str | None = None
    apply: str | None = None
    toolchains: Words | None = None
    network: Words | None = None
    budget: BudgetInput | None = None
    registries: list[dict[str, str]] | None = None
    """As they were shown to the person: with others nothing is granted."""
    confirm_unverified: bool = False
    confirm_by_proxy: list[str] | None = None
    """Hosts that the person grants although this machine's HTTP proxy resolves their names."""
    unconfirmed: bool = False
    """True if no person has confirmed the request: then what would permit more is described, but not done."""


class AcceptInvitationBody(ScopeBody, kw_only=True):
    token: Annotated[str, msgspec.Meta(max_length=2_000)]


class EditBody(ScopeBody):
    remove_rule: int | None = None
    preview: bool = False
    """True to have any change described and none done."""


class TokenBody(Body):
    token: Annotated[str, msgspec.Meta(max_length=2_000)]


class AcceptBody(Body):
    cwd: str | None = None


class ReasonBody(Body):
    reason: str = ""


class ReleaseBody(Body):
    without: Annotated[tuple[str, ...], msgspec.Meta(max_length=8)] = ()


class AttemptBody(Body):
    attempt: int | None = None
    """The run that is meant; None is the newest whose changes wait."""


class ApplyBody(AttemptBody):
    digest: str = ""
    """Of the list of changes that the person saw; "" is not compared."""
    paths: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    all: bool = False
    marked: bool = False
    dry_run: bool = False


class AnswerBody(Body):
    decision: Literal["allow", "deny"]
    grant: Literal["once", "session", "always"] = "once"
    note: str = ""
    decline_dispatch: bool = False
    rule: int | None = None
    """Index of one of the call's `rule_choices`, for `session` and `always`; None is the narrowest."""
