"""Which packages a run may have fetched: those that its project's lock files name. Pure values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["pip", "npm", "cargo", "go"]
"""A registry is named by the tool that speaks with it: the Simple API (PEP 503), npm's, a sparse index, a GOPROXY."""

KINDS: Final[tuple[Kind, ...]] = ("pip", "npm", "cargo", "go")
CRATES_IO: Final = "https://index.crates.io"
"""What cargo uses unless its settings name another (The Cargo Book, "Registry Index"); no command of its tells."""
_SEPARATORS: Final = re.compile(r"[-_.]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """`versions`: kind → name in its normal form → versions. `any`: every package, named or not."""

    versions: Mapping[Kind, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    any: bool = False

    def name(self, kind: Kind, name: str) -> bool:
        """Whether something of that name may be fetched. The name is in its normal form."""
        names = self.versions.get(kind, {})
        # An index of cargo's lists crates in lower case, whatever their names are.
        return self.any or (name in map(str.lower, names) if kind == "cargo" else name in names)

    def version(self, kind: Kind, name: str, version: str) -> bool:
        """Whether that version may."""
        return self.any or version in self.versions.get(kind, {}).get(name, frozenset())


def normal_name(kind: Kind, name: str) -> str:
    """The one form of a name by which a registry knows it (for pip: PEP 503)."""
    return _SEPARATORS.sub("-", name).lower() if kind == "pip" else name
