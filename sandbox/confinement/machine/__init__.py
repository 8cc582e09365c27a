"""What of this machine keeps runs from being confined, and what mends it: looked up, not read out of error messages.

facts.py looks, causes.py concludes. `check` and `refusal` are what the confinement asks.
"""

from __future__ import annotations

from sandbox.confinement.cause import Cause
from sandbox.confinement.machine.causes import TESTED_KERNELS, diagnose
from sandbox.confinement.machine.facts import bubblewrap, kernel, look, wsl
from sandbox.errors import SandboxError, quoted

__all__ = ["bubblewrap", "cause", "check", "refusal", "tested"]


def cause() -> Cause | None:
    """Why no run can be confined here, None if nothing of this machine is known to keep it. Starts bubblewrap."""
    return diagnose(look(tries=True))


def tested(release: str) -> bool:
    """Whether the sandbox was tested on the kernel of this release ("6.8.0-45-generic", of which 6.8 counts)."""
    return kernel(release) in TESTED_KERNELS and not wsl(release)


def check() -> None:
    """Raise SandboxError 503 where kernel or programs cannot do. Starts bubblewrap only to ask for its options."""
    if found := diagnose(look(tries=False)):
        raise found.error()


def refusal(said: str) -> SandboxError:
    """The error for a sandbox that bubblewrap could not build. `said`: its last words, quoted if there is no cause."""
    if found := cause():
        return found.error()
    return SandboxError(
        f"the sandbox could not be built: {quoted(said)}",
        fix="no known cause was found on this machine; try it by hand with `bwrap --unshare-all --ro-bind / / true`",
    )
