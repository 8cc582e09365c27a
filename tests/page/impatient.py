"""A daemon that is as every other, but for how long a call waits for an answer: `python -m tests.page.impatient`."""

from __future__ import annotations

from peer.runs import run, start_frame

SECONDS = 1.0

if __name__ == "__main__":
    for module in (start_frame, run):  # both have the name
        vars(module)["ANSWER_SECONDS"] = SECONDS
    from peer.programs.daemon import main

    main()
