"""The words in which decisions and results say what became of a dispatch. What follows: dispatches.lifecycle."""

from typing import Literal

Decided = Literal["accepted", "declined", "running", "pending", "expired"]
"""What a `decision` says. `pending`: its files are verified, or its run was interrupted."""
Ended = Literal["completed", "failed", "cancelled", "declined", "expired"]
"""How a `result` says that a dispatch ended."""
