"""A daemon that is as every other, but for how long a call waits for an answer: `python -m tests.page.impatient`."""

from __future__ import annotations

from peer import briefing, runs

SECONDS = 4.0

if __name__ == "__main__":
    briefing.ANSWER_SECONDS = runs.ANSWER_SECONDS = SECONDS
    from peer.daemon import main

    main()
