"""What a person is told of the network that a run in a folder reaches: sentences for before an accept. Only looks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from peer.dispatches.masking import Masker
from peer.machine import looking
from peer.machine.network_route import by_proxy
from peer.machine.settings import Settings
from peer.projects import lock_files
from peer.trust import scopes
from peer.trust.scopes import ANY_PACKAGES, PACKAGES, Scope

_LOOKED_AT: Final = 2_000
"""Files; in a folder, and in the folders in it."""
_READ: Final = 64 * 1024
_NAMED: Final = 5


def sentences(scope: Scope, folder: Path, settings: Settings) -> list[str]:
    """Return sentences about the network of a scope, for a run that sees `folder` (absolute, real). Blocking.

    Raises Invalid where the machine's HTTP proxy is none.
    """
    return [*_packages(scope, folder), *_hosts(scope, folder, settings)]


def _packages(scope: Scope, folder: Path) -> list[str]:
    kinds = ", ".join(dict.fromkeys(registry.kind for registry in scope.registries))
    if ANY_PACKAGES in scope.network:
        return [f"it may have any package fetched ({kinds}); the names it asks for leave to the registries"]
    if PACKAGES not in scope.network:
        return []
    locked = lock_files.read([folder])
    unread = f"; {', '.join(locked.unread)} cannot be read" if locked.unread else ""
    if not locked.files:
        return [f"no package is fetched for it, since no lock file is there{unread}"]
    number = "1 package" if locked.number == 1 else f"{locked.number:,} packages"
    return [f"packages are fetched for it ({kinds}): {number}, by {', '.join(locked.files)}{unread}"]


def _hosts(scope: Scope, folder: Path, settings: Settings) -> list[str]:
    hosts = scopes.hosts(scope)
    if not hosts:
        return []
    found = [
        f"its commands reach {', '.join(hosts)}: whatever a run can read can leave to there, and a host that shares "
        "its servers with others can pass it on to them"
    ]
    if names := credentials(folder):
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        found.append(f"it can act there as you, with what is in {', '.join(names[:_NAMED])}{more}")
    if resolved := by_proxy(scope, settings):
        found.append(
            f"the HTTP proxy of this machine looks up {', '.join(resolved)}, so it may lead into your own network"
        )
    return found


def credentials(folder: Path) -> list[str]:
    """Return the files of a folder, and of the folders in it, that hold what has the form of a secret."""
    masker = Masker()
    found = []
    for path in _files(folder):
        masker.text(looking.text(path, _READ))
        if masker.drain():
            found.append(str(path.relative_to(folder)))
    return found


def _files(folder: Path) -> Iterator[Path]:
    left = _LOOKED_AT
    for place in (folder, *(folder / name for name in looking.names(folder))):
        for name in looking.names(place):
            if left == 0:
                return
            left -= 1
            yield place / name
