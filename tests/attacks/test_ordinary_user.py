"""The same attempts by an ordinary user. Run by root, the suite starts itself again as one that owns nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sandbox.test_ordinary_user import run_as_ordinary_user

CLAUDE = "tests/sandbox/test_runtime_claude.py"
GATE = [  # prompt text and a poisoned machine, sub-agents, parallel calls, every tool that is not granted
    "tests/attacks/test_gate_bypass.py",
    "tests/sandbox/test_gate_proof.py",
    f"{CLAUDE}::test_every_call_meets_the_gate",
    f"{CLAUDE}::test_nothing_on_this_machine_or_in_the_task_steers_the_program",
    f"{CLAUDE}::test_the_models_door_takes_what_the_program_sends_and_nothing_from_a_shell[None]",
]
MCP = ["tests/sandbox/test_mcp_bridge.py", "tests/sandbox/test_mcp_claude.py"]
SANDBOX = [
    "tests/attacks/test_attacks.py",
    "tests/attacks/test_holes.py",
    "tests/attacks/test_scenarios.py",
    "tests/attacks/test_exhaustion.py",
]
OTHERS = ["test_ordinary_user.py", "test_promises.py"]


@pytest.mark.alone
def test_everything_is_refused_to_an_ordinary_user() -> None:
    _again(SANDBOX)


@pytest.mark.parametrize("tests", [GATE, MCP], ids=["gate bypass", "MCP bypass"])
def test_no_way_around_the_gate_for_an_ordinary_user(tests: list[str]) -> None:
    """Seen to fail with the bridge's ticket not asked for (MCP), and with a hook for some tools only (gate)."""
    _again(tests)


def test_no_attack_is_left_out() -> None:
    """Seen to fail without test_gate_bypass.py in `GATE`."""
    here = {f"tests/attacks/{path.name}" for path in Path(__file__).parent.glob("test_*.py") if path.name not in OTHERS}
    assert here <= {*SANDBOX, *GATE}


def _again(tests: list[str]) -> None:
    if os.geteuid() != 0:
        return  # then every other test here has just shown it
    done = run_as_ordinary_user(*tests)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout and " passed" in done.stdout, done.stdout
