"""Effects: what is to be done after a step's transaction is durable, as frozen values. Node._apply carries them out.

A step notes effects in order. Equal effects are kept once, because applying one twice does nothing more. None carries
data that the store does not have, so a crash between the commit and the effects loses nothing: the next start derives
the same work from the store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wake:
    """The outbox has a new item for this device."""

    device: str


@dataclass(frozen=True, slots=True)
class DispatchChanged:
    """State, trace or approvals of this dispatch changed; live views read it again."""

    dispatch_id: str


@dataclass(frozen=True, slots=True)
class StopRun:
    """Stop the run of this dispatch, if there is one. `reason` is for the log."""

    dispatch_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class StopRunsOfEdge:
    """Stop every run under this edge, whatever state its dispatch is in."""

    edge_id: str


@dataclass(frozen=True, slots=True)
class FetchFiles:
    """A new statement names files whose bytes must be fetched."""


@dataclass(frozen=True, slots=True)
class BlobsFreed:
    """Files may be among the blobs that no row needs any more."""


@dataclass(frozen=True, slots=True)
class ChangesFreed:
    """Contents of a change set are not needed any more."""


@dataclass(frozen=True, slots=True)
class ThinningDue:
    """More is kept of ended dispatches, or of a contact's, than before; some of it may have to be removed."""


@dataclass(frozen=True, slots=True)
class PeopleChanged:
    """Contacts, edges or blocks changed; who may connect and who can read our presence is computed again."""


@dataclass(frozen=True, slots=True)
class InvitationsChanged:
    """An invitation arrived or changed its status; lists of invitations are out of date."""


@dataclass(frozen=True, slots=True)
class BrokerWriteQueued:
    """The store has a new write for the broker to confirm."""


@dataclass(frozen=True, slots=True)
class DeadlineSet:
    """A dispatch that waits for a decision expires at `at` (ms since the epoch)."""

    at: int


Effect = (
    Wake
    | DispatchChanged
    | StopRun
    | StopRunsOfEdge
    | FetchFiles
    | BlobsFreed
    | ChangesFreed
    | ThinningDue
    | PeopleChanged
    | InvitationsChanged
    | BrokerWriteQueued
    | DeadlineSet
)


class Effects:  # noqa: PLW1641 - it changes while its step runs, so it has no hash
    """An ordered set of effects. Two are equal when they hold equal effects in the same order."""

    def __init__(self, effects: Iterable[Effect] = ()) -> None:
        self._noted: dict[Effect, None] = dict.fromkeys(effects)

    def note(self, effect: Effect) -> None:
        """Append an effect; an equal one that is already there keeps its place."""
        self._noted.setdefault(effect)

    def merge(self, later: Effects) -> None:
        """Append the effects of a savepoint that succeeded."""
        for effect in later:
            self.note(effect)

    def woken(self) -> frozenset[str]:
        """Return the devices to wake."""
        return frozenset(effect.device for effect in self if isinstance(effect, Wake))

    def changed(self) -> tuple[str, ...]:
        """Return the ids of the dispatches that changed, in order."""
        return tuple(effect.dispatch_id for effect in self if isinstance(effect, DispatchChanged))

    def first_deadline(self) -> float:
        """Return the earliest deadline that was set, in ms since the epoch; infinity for none."""
        return min((effect.at for effect in self if isinstance(effect, DeadlineSet)), default=math.inf)

    def __iter__(self) -> Iterator[Effect]:
        return iter(self._noted)

    def __len__(self) -> int:
        return len(self._noted)

    def __contains__(self, effect: object) -> bool:
        return effect in self._noted

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Effects) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"Effects({list(self)!r})"
