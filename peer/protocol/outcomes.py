"""The values of `decision` and `status` in decisions and results. The states they lead to: dispatches/lifecycle.py."""

from typing import Literal

Decided = Literal["accepted", "declined", "running", "pending", "expired"]
"""The values of a `decision`. `pending`: its files are verified, or its run was interrupted."""
Ended = Literal["completed", "failed", "cancelled", "declined", "expired"]
"""The values of a result's `status`: how the dispatch ended."""
