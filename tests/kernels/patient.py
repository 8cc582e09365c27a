"""dp-agent with the proof's own deadlines lengthened by TESTS_SLOWER: for guests whose processor is emulated."""

from __future__ import annotations

import os

from sandbox import agent
from sandbox.confinement.bubblewrap import canaries


def main() -> None:
    canaries._SECONDS *= int(os.environ.get("TESTS_SLOWER", "1"))  # type: ignore[misc]
    agent.main()


if __name__ == "__main__":
    main()
