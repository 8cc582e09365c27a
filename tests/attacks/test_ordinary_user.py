"""The same attempts by an ordinary user. Run by root, the suite starts itself again as one that owns nothing.

`make test` repeats one part for each wall (the sandbox, the gate, the bridge), `make test-long` everything.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sandbox.test_ordinary_user import run_as_ordinary_user

CLAUDE = "tests/sandbox/test_runtime_claude.py"
EACH_TIME = {
    "sandbox": ["tests/attacks/test_attacks.py", "tests/attacks/test_scenarios.py"],
    "gate bypass": ["tests/attacks/test_gate_bypass.py"],
    "MCP bypass": [
        "tests/sandbox/test_mcp_bridge.py::test_calls_pass_the_gate_and_only_granted_tools_are_there",
        "tests/sandbox/test_mcp_bridge.py::test_a_call_without_a_ticket_is_not_forwarded",
    ],
}
"""Wall → what is tried again whenever the suite runs."""
LONG = {
    "sandbox": ["tests/attacks/test_holes.py", "tests/attacks/test_exhaustion.py"],
    "gate bypass": [  # prompt text and a poisoned machine, sub-agents, parallel calls, every tool that is not granted
        "tests/sandbox/test_gate_proof.py",
        f"{CLAUDE}::test_every_call_meets_the_gate",
        f"{CLAUDE}::test_nothing_on_this_machine_or_in_the_task_steers_the_program",
        f"{CLAUDE}::test_the_models_door_takes_what_the_program_sends_and_nothing_from_a_shell[None]",
    ],
    "MCP bypass": ["tests/sandbox/test_mcp_bridge.py", "tests/sandbox/test_mcp_claude.py"],
}
OTHERS = ["test_ordinary_user.py", "test_promises.py"]


@pytest.mark.parametrize("wall", EACH_TIME)
def test_an_ordinary_user_gets_no_further(wall: str) -> None:
    """Seen to fail with the bridge's ticket not asked for (MCP), and with a hook for some tools only (gate)."""
    _again(EACH_TIME[wall])


@pytest.mark.long
@pytest.mark.parametrize(
    "wall", [pytest.param(wall, marks=pytest.mark.alone if wall == "sandbox" else ()) for wall in LONG]
)
def test_whatever_they_try(wall: str) -> None:
    _again(LONG[wall])


def test_no_attack_is_left_out() -> None:
    """Seen to fail without test_gate_bypass.py in `EACH_TIME`."""
    here = {f"tests/attacks/{path.name}" for path in Path(__file__).parent.glob("test_*.py") if path.name not in OTHERS}
    assert here <= {test for tests in (*EACH_TIME.values(), *LONG.values()) for test in tests}


def _again(tests: list[str]) -> None:
    if os.geteuid() != 0:
        return  # then every other test here has just shown it
    done = run_as_ordinary_user(*tests)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout and " passed" in done.stdout, done.stdout
