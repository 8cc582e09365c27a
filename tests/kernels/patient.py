"""The product's own deadlines lengthened by TESTS_SLOWER, for guests whose processor is emulated.

python -m tests.kernels.patient ARGUMENTS     dp-agent with them
pytest -p tests.kernels.patient               the tests of a suite with them, and the dp-agents that those start
"""

from __future__ import annotations

import importlib
import os
from typing import Final

from sandbox import agent

SLOWER: Final = int(os.environ.get("TESTS_SLOWER", "1"))
_DEADLINES: Final = (
    ("sandbox.confinement.bubblewrap.canaries", "_SECONDS"),
    ("sandbox.confinement.bubblewrap.zone", "_ANSWERED_WITHIN"),
    ("sandbox.confinement.bubblewrap.watchdog", "_BLIND"),
    ("sandbox.confinement.machine.facts", "_SECONDS"),
    ("sandbox.runtimes.gate_proof", "SECONDS"),
)
"""Those that bound work which takes an instant; what bounds how long a run may take is left as it is."""


def lengthen() -> None:
    for module, name in _DEADLINES if SLOWER != 1 else ():
        loaded = importlib.import_module(module)
        setattr(loaded, name, getattr(loaded, name) * SLOWER)


def pytest_configure() -> None:
    lengthen()


def main() -> None:
    lengthen()
    agent.main()


if __name__ == "__main__":
    main()
