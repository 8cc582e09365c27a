"""Fits a dispatch to a device that may run an older version, as known from the device's last hello. Pure.

Fitting happens once, before signing; a signed dispatch is never changed. Every device supports the fields of the first
version. A later field has a feature, which devices list in their hellos. A field with an ignorable key may be omitted,
and the sender sees that it was. A field with a critical key is never omitted: it may be a restriction, which must not
be lost on the way to a device that would not apply it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from peer.protocol.errors import Conflict
from peer.protocol.growth import is_ignorable
from peer.protocol.signing import open_as
from peer.protocol.statements import Hello, Statement
from peer.protocol.table import FEATURES, FIELDS


@dataclass(frozen=True, slots=True)
class Understood:
    """What a device supports beyond the first version: features by name, the highest version of each statement type."""

    features: frozenset[str] = frozenset()
    versions: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_hello(cls, raw: bytes) -> Understood:
        """Decode a signed hello; b"", for a device that sent none, means the first version."""
        if not raw:
            return cls()
        hello, _ = open_as(Hello, raw)
        return cls(frozenset(hello.features), hello.versions)

    def reads(self, kind: type[Statement]) -> bool:
        """Whether the device reads statements of a type that is not of the first version."""
        return self.versions.get(kind.type_name, 0) >= kind.version


@dataclass(frozen=True, slots=True)
class Fitted:
    """The fields to sign, and the names of the omitted ones."""

    content: dict[str, object]
    left_out: tuple[str, ...]


def fit(kind: type[Statement], content: Mapping[str, object], theirs: Understood, *, peer: str) -> Fitted:
    """Fit the fields of a statement to what `peer`'s device supports.

    Raises Conflict if the device does not read this version of the type, or does not support a critical field.
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
