"""The same attempts by an ordinary user. Run by root, the suite starts itself again as one that owns nothing.

`make test` repeats the table of attempts and the way around the bridge, `make test-long` everything, the gate with the
real claude program included.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sandbox.test_ordinary_user import again_as_ordinary_user

CLAUDE = "tests/sandbox/test_runtime_claude.py"
EACH_TIME = [
    "tests/attacks/test_attacks.py::test_refused",
    "tests/sandbox/test_mcp_bridge.py::test_a_call_without_a_ticket_is_not_forwarded",
]
"""What is tried again whenever the suite runs. Seen to fail with the bridge's ticket not asked for."""
LONG = {
    "sandbox": [
        "tests/attacks/test_attacks.py",
        "tests/attacks/test_scenarios.py",
        "tests/attacks/test_holes.py",
        "tests/attacks/test_exhaustion.py",
    ],
    "gate bypass": [  # prompt text and a poisoned machine, sub-agents, parallel calls, every tool that is not granted
        "tests/attacks/test_gate_bypass.py",
        "tests/sandbox/test_gate_proof.py",
        f"{CLAUDE}::test_every_call_meets_the_gate",
        f"{CLAUDE}::test_nothing_on_this_machine_or_in_the_task_steers_the_program",
        f"{CLAUDE}::test_the_models_door_takes_what_the_program_sends_and_nothing_from_a_shell[None]",
    ],
    "MCP bypass": ["tests/sandbox/test_mcp_bridge.py", "tests/sandbox/test_mcp_claude.py"],
}
"""Wall → what is tried again in `make test-long`."""
OTHERS = ["test_ordinary_user.py", "test_promises.py", "test_host_programs.py"]
"""No attacks on a sandbox; the last one's are by programs of the host, which are the same for everybody."""


def test_an_ordinary_user_gets_no_further() -> None:
    again_as_ordinary_user(*EACH_TIME)


@pytest.mark.long
@pytest.mark.parametrize(
    "wall", [pytest.param(wall, marks=pytest.mark.alone if wall == "sandbox" else ()) for wall in LONG]
)
def test_whatever_they_try(wall: str) -> None:
    """Seen to fail with a hook for some tools only (gate)."""
    again_as_ordinary_user(*LONG[wall])


def test_no_attack_is_left_out() -> None:
    """Seen to fail without test_gate_bypass.py in `LONG`."""
    here = {f"tests/attacks/{path.name}" for path in Path(__file__).parent.glob("test_*.py") if path.name not in OTHERS}
    assert here <= {test for tests in LONG.values() for test in tests}
