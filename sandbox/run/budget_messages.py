"""The sentences for a budget or a bound that ran out: which, and how much was used. Pure; enforced elsewhere."""

from __future__ import annotations

from typing import Final

from sandbox import frames
from sandbox.confinement import Excess
from sandbox.errors import quoted

EXHAUSTED_CODE: Final = 429
_MEGABYTE: Final = 1024 * 1024
_GIGABYTE: Final = 1024 * _MEGABYTE


def minutes(budget: frames.Budget, seconds: float, waits_for: str = "") -> str:
    """The run took so many seconds, more than it may. `waits_for`: what the model's API was that it waited for."""
    used = f"the run's budget of {budget.minutes:g} minutes is used up: {seconds / 60:.1f} minutes were used"
    return f"{used}; at the end it waited for the model's API, which was {waits_for}" if waits_for else used


def turns(budget: frames.Budget, used: int) -> str:
    """The agent had no turn left."""
    return f"the run's budget of {budget.turns} turns is used up: {used} were used"


def usd(budget: frames.Budget, used: float, assumed: float = 0.0) -> str:
    """The model may cost no more. `assumed`: at the dearest known price, of a model whose own is not known."""
    if assumed:
        return (
            f"the run's budget of {budget.usd:.2f} USD for the model is used up: the model's price is not known, and "
            f"at the highest known price {used + assumed:.2f} USD would have been used"
        )
    return f"the run's budget of {budget.usd:.2f} USD for the model is used up: {used:.2f} USD were used"


def no_price(budget: frames.Budget, model: str) -> str:
    """The run begins with a model whose price nobody has said."""
    return (
        f"the price of {quoted(model)} is not known: its tokens are counted, its cost is not, and the budget of "
        f"{budget.usd:.2f} USD is kept by the highest known price; set the price with `dispatch config set model.price`"
    )


def output(budget: frames.Budget, offered: int) -> str:
    """The run left more bytes than may be returned."""
    return (
        f"the run's budget of {budget.output_bytes / _MEGABYTE:.1f} MB of returned files is used up: it wrote "
        f"{offered / _MEGABYTE:.1f} MB, and what did not fit was left out"
    )


def excess(excess: Excess) -> str:
    """The run was killed for what it took of this machine."""
    used, bound = f"{excess.used / _GIGABYTE:.2f} GB", f"{excess.bound / _GIGABYTE:.2f} GB"
    match excess.what:
        case "memory":
            return f"the run reached its limit of {bound} of memory: it used {used}"
        case "processes":
            return f"the run reached its limit of {excess.bound:,} processes and threads: it had {excess.used:,}"
        case "disk":
            return f"the run reached its limit of {bound} in its own folders: it used {used}"
        case "files":
            return f"the run reached its limit of {excess.bound:,} files in its own folders: it had {excess.used:,}"
        case "room":
            return (
                f"this machine's disk became too full during the run: only {used} are free, and {bound} have to stay "
                "free"
            )
        case "inodes":
            return (
                f"this machine's disk became too full during the run: only {excess.used:,} more files fit, and room "
                f"for {excess.bound:,} has to stay"
            )
        case "shells":
            why = f" ({quoted(excess.why)})" if excess.why else ""
            return f"the sandbox of the run's shell commands ended{why}, so the run was ended"
        case "sight":
            return "the run's processes could not be watched, so it was ended"
