"""Which toolchains a run sees: the edge's word, else this machine's settings, about what is found here."""

from __future__ import annotations

from pathlib import Path

from peer.machine.settings import Settings
from peer.machine.toolchains.detect import detect
from peer.machine.toolchains.installed import Machine
from peer.machine.toolchains.values import Found
from peer.trust.scopes import Scope


def toolchains(scope: Scope, settings: Settings, cwd: str | None, states: tuple[Path, ...]) -> Found:
    """What is seen by a run in `cwd` (real), or None for an empty workspace beside the edge's folders. Blocking.

    `states`: state folders of this machine. Nothing for a scope without a shell, which could start no program.
    """
    if "Bash" not in scope.tools:
        return Found()
    folders = [cwd] if cwd else scope.paths
    return detect([Path(folder) for folder in folders], scope.toolchains or settings.toolchains, Machine.here(states))
