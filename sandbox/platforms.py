"""On which systems a run can be confined. The one place that looks at `sys.platform`."""

from __future__ import annotations

import sys


def can_confine() -> bool:
    """Whether there is a confinement for this system. That it holds on this machine is proven before each run."""
    return sys.platform == "linux"
