"""The words for a budget that ran out: which, and how much was used. Pure; who enforces which is in agent.py."""

from __future__ import annotations

from typing import Final

from sandbox import frames

EXHAUSTED_CODE: Final = 429
_MEGABYTE: Final = 1024 * 1024


def minutes(budget: frames.Budget, seconds: float) -> str:
    """The clock ran out after so many seconds."""
    return f"the run's budget of {budget.minutes:g} minutes is used up: {seconds / 60:.1f} minutes were used"


def turns(budget: frames.Budget, used: int) -> str:
    """The agent had no turn left."""
    return f"the run's budget of {budget.turns} turns is used up: {used} were used"


def usd(budget: frames.Budget, used: float) -> str:
    """The model may cost no more."""
    return f"the run's budget of {budget.usd:.2f} USD for the model is used up: {used:.2f} USD were used"


def output(budget: frames.Budget, offered: int) -> str:
    """The run left more bytes than may be returned."""
    return (
        f"the run's budget of {budget.output_bytes / _MEGABYTE:.1f} MB of returned files is used up: it left "
        f"{offered / _MEGABYTE:.1f} MB, and what did not fit was left out"
    )
