"""The words in decisions, results and landing reports. The states that they lead to: dispatches/lifecycle.py."""

from typing import Final, Literal, get_args

Decided = Literal["accepted", "declined", "running", "pending", "expired"]
"""The values of a `decision`. `pending`: its files are verified, or its run was interrupted."""
Ended = Literal["completed", "failed", "cancelled", "declined", "expired"]
"""The values of a result's `status`: how the dispatch ended."""
Landed = Literal["waiting", "all", "part", "none"]
"""The values of a landing report's `landed`: how much of what a run changed is in place. Defined in landed.py."""
Part = Literal["reply", "trace", "files"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
"""What a person may leave out of a held result that they send."""
