"""What of a dispatch goes to a device that may be older than this one: fitted to the last hello known of it. Pure.

Fitting happens once, before a dispatch is signed: what is signed is never changed for anybody. Fields of the first
version are known to every device. A later field has a feature, by whose name devices say in their hellos that they
understand it. One with an ignorable key may be left out, and the sender is told so; one with a critical key never is:
a restriction that the other device would not see must not be dropped on the way to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from peer.protocol.errors import Conflict
from peer.protocol.growth import is_ignorable
from peer.protocol.statements import Hello, Statement, open_as
from peer.protocol.table import FEATURES, FIELDS


@dataclass(frozen=True, slots=True)
class Understood:
    """What a device reads beyond the first version: features by name, statement types' highest versions."""

    features: frozenset[str] = frozenset()
    versions: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_hello(cls, raw: bytes) -> Understood:
        """Read it from a signed hello; b"", for a device that brought none, is the first version."""
        if not raw:
            return cls()
        hello, _ = open_as(Hello, raw)
        return cls(frozenset(hello.features), hello.versions)


@dataclass(frozen=True, slots=True)
class Fitted:
    """The fields to sign, and the names of those that were left out."""

    content: dict[str, object]
    left_out: tuple[str, ...]


def fit(kind: type[Statement], content: Mapping[str, object], theirs: Understood, *, peer: str) -> Fitted:
    """Fit the fields of a statement to what `peer`'s device understands.

    Raises Conflict where it does not read this version of the type, or does not understand a field that matters.
    """
    if kind.version > theirs.versions.get(kind.type_name, 1):
        raise _too_old(peer, f"a {kind.type_name} of version {kind.version}", "")
    kept: dict[str, object] = {}
    left_out: list[str] = []
    for name, value in content.items():
        if not value or FEATURES.get(name) in (None, *theirs.features):
            kept[name] = value
        elif is_ignorable(FIELDS[name].key):
            left_out.append(name)
        else:
            raise _too_old(peer, f"`{name}`", f", or send it without `{name}`")
    return Fitted(kept, tuple(left_out))


def _too_old(peer: str, what: str, otherwise: str) -> Conflict:
    return Conflict(f"{peer}'s device does not understand {what}", fix=f"ask {peer} to update dispatch{otherwise}")
