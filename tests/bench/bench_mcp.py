"""How fast a session has its MCP server, and what a tool call costs over the loopback API that it asks.

Spawn → initialize answered is beside the same interpreter importing the SDK. Node ready: without a daemon, until the
first tool call has its answer, in which time the session became the node.
"""

from __future__ import annotations

import subprocess
import sys
import time

from peer.client.blocking import Client
from tests.bench._pair import pair
from tests.bench._table import Line, ms, p50, show
from tests.mcp_plugin.hosts import raw
from tests.system.world import Person

STARTS = 9
CALLS = 300
GOAL_INITIALIZE_MS, GOAL_READY_MS = 1_000.0, 2_500.0


def imported(person: Person) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import mcp"], env=person.environment, check=True)
    return time.perf_counter() - start


def started(person: Person) -> tuple[float, float]:
    """Return the seconds from spawn to initialize answered, and to the first tool call's answer."""
    start = time.perf_counter()
    with raw(person) as host:
        host.initialize()
        greeted = time.perf_counter() - start
        assert not host.call("dispatch_read", what="contacts").get("isError")
        return greeted, time.perf_counter() - start


def main() -> None:
    with pair() as (_, bob):
        calls: dict[str, list[float]] = {"api": [], "mcp": []}
        client = Client(bob.state)
        with raw(bob) as host:
            host.initialize()
            for _ in range(CALLS):
                start = time.perf_counter()
                client.contacts()
                calls["api"].append(time.perf_counter() - start)
                start = time.perf_counter()
                host.call("dispatch_read", what="contacts")
                calls["mcp"].append(time.perf_counter() - start)
        bob.stop()
        imports = [imported(bob) for _ in range(STARTS)]
        greetings, readiness = zip(*(started(bob) for _ in range(STARTS)), strict=True)
        bob.start()
    base = p50(imports)
    show(
        f"A session, {STARTS} times",
        [
            Line("import mcp", ms(imports)),
            Line(
                "spawn -> initialize answered",
                ms(greetings),
                p50(greetings) / base,
                "import mcp",
                f"<= {GOAL_INITIALIZE_MS:g} ms",
                p50(greetings) * 1e3 <= GOAL_INITIALIZE_MS,
            ),
            Line(
                "spawn -> its node answered a tool call",
                ms(readiness),
                p50(readiness) / base,
                "import mcp",
                f"<= {GOAL_READY_MS:g} ms",
                p50(readiness) * 1e3 <= GOAL_READY_MS,
            ),
        ],
    )
    show(
        f"Contacts, {CALLS} times",
        [
            Line("the loopback API", ms(calls["api"])),
            Line("dispatch_read", ms(calls["mcp"]), p50(calls["mcp"]) / p50(calls["api"]), "the API"),
        ],
    )


if __name__ == "__main__":
    main()
