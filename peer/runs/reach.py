"""What a person is told of the network that a run in a folder reaches: sentences for before an accept. Only looks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from peer.dispatches.masking import Masker
from peer.dispatches.text import line
from peer.machine import looking
from peer.machine.network_route import by_proxy, registries_by_proxy
from peer.machine.settings import Settings
from peer.projects import lock_files, named_registries
from peer.projects.lock_files import Locked
from peer.trust import scopes
from peer.trust.scopes import ANY_PACKAGES, PACKAGES, Scope

_LOOKED_AT: Final = 2_000
"""Files; in a folder, and in the folders in it."""
_READ: Final = 64 * 1024
_NAMED: Final = 5
_LENGTH_OF_A_NAME: Final = 80
_LONGEST_HOST: Final = 253
_LENGTH_OF_A_PART: Final = 300
"""Characters; of a sentence an agent's session shows 500."""


def sentences(scope: Scope, folder: Path, settings: Settings) -> list[str]:
    """Return sentences about the network of a scope, for a run that sees `folder` (absolute, real). Blocking.

    Raises Invalid where the machine's HTTP proxy is none.
    """
    if not scope.network:
        return []
    locked = lock_files.read([folder])
    return [*_packages(scope, locked, settings), *_hosts(scope, folder, settings), *_named(scope, folder, locked)]


def _packages(scope: Scope, locked: Locked, settings: Settings) -> list[str]:
    said = _fetched(scope, locked)
    if not said:
        return []
    proxied = [
        f"this machine's HTTP proxy resolves {names} and the hosts that these name for packages, so such a name may "
        "lead into your own network"
        for names in _in_parts(registries_by_proxy(scope, settings))
    ]
    return [said, *proxied]


def _fetched(scope: Scope, locked: Locked) -> str:
    kinds = ", ".join(dict.fromkeys(registry.kind for registry in scope.registries))
    if ANY_PACKAGES in scope.network:
        return f"it may fetch any package ({kinds}); the registries learn which names it asks for"
    if PACKAGES not in scope.network:
        return ""
    unread = f"; {_some(locked.unread)} cannot be read" if locked.unread else ""
    if not locked.files:
        return f"no packages are fetched for it, because there is no lock file{unread}"
    number = sum(len(locked.packages.get(kind, {})) for kind in {registry.kind for registry in scope.registries})
    packages = "1 package" if number == 1 else f"{number:,} packages"
    return f"packages are fetched for it ({kinds}): {packages}, as named in {_some(locked.files)}{unread}"


def _some(names: Sequence[str]) -> str:
    """Names of files, which their project made up, on one line."""
    shown = [line(os.fsencode(name).decode("utf-8", "replace"), limit=_LENGTH_OF_A_NAME) for name in names[:_NAMED]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(shown)}{more}"


def _named(scope: Scope, folder: Path, locked: Locked) -> list[str]:
    """What the project names by itself: it opens nothing, and its person may want to grant some of it."""
    granted = {*scopes.hosts(scope), *(urlsplit(each.address).netloc for each in scope.registries)}
    named = named_registries.read(folder, locked)
    new = [f"{host} ({_first(files)})" for host, files in named.hosts.items() if host not in granted]
    found = [
        f"the project names registries that this edge does not grant: {part}; nothing is fetched there unless you "
        "grant each by its name (--network)"
        for part in _in_parts(new)
    ]
    if named.others:
        found.append(f"the project names registries that no run can reach: {_some(named.others)}")
    if scope.registries:
        kept = [line(host.rpartition("@")[2], limit=_LONGEST_HOST) for host in locked.hosts if host not in granted]
        found += [
            f"its lock files say that packages are kept at {part}: from there a run gets only what a granted registry "
            "lists"
            for part in _in_parts(kept)
        ]
    return found


def _first(names: Sequence[str]) -> str:
    return _some(names[:1]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _in_parts(hosts: Sequence[str]) -> Iterator[str]:
    """The hosts with commas between, so many at once that none is cut off where a sentence is shown."""
    part = ""
    for host in hosts:
        if part and len(part) + len(host) > _LENGTH_OF_A_PART:
            yield part
            part = ""
        part += f", {host}" if part else host
    if part:
        yield part


def _hosts(scope: Scope, folder: Path, settings: Settings) -> list[str]:
    hosts = scopes.hosts(scope)
    if not hosts:
        return []
    found = [
        f"its commands can reach {names}: they can send there whatever the run can read, and a host that shares "
        "servers with others can pass it on to them"
        for names in _in_parts(hosts)
    ]
    if files := credentials(folder):
        found.append(f"it can act there as you, with the secrets in {_some(files)}")
    return found + [
        f"this machine's HTTP proxy resolves {names}, so such a name may lead into your own network"
        for names in _in_parts(by_proxy(scope, settings))
    ]


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
