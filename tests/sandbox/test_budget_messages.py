"""Each budget ends a run as failed, and says which it was and how much was used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sandbox import frames
from sandbox.confinement.places import WORKSPACE
from sandbox.run import budget_messages
from tests.sandbox.node import dp_agent, start
from tests.sandbox.test_agent import bash


@pytest.mark.parametrize(
    ("budget", "script", "said"),
    [
        (
            {"minutes": 0.02},
            [bash("sleep 1000")],
            r"the run's budget of 0\.02 minutes is used up: 0\.0 minutes were used",
        ),
        ({"turns": 2}, [bash("true")] * 3, r"the run's budget of 2 turns is used up: 2 were used"),
        (
            {"output_bytes": 1 << 20},
            [bash(f"cd {WORKSPACE}/out; echo small > a; head -c 3M /dev/zero > big")],
            r"the run's budget of 1\.0 MB of returned files is used up: it wrote 3\.0 MB, and what did not fit .*",
        ),
    ],
)
async def test_a_budget_that_ran_out(
    tmp_path: Path, budget: dict[str, Any], script: list[dict[str, Any]], said: str
) -> None:
    async with dp_agent() as node:
        finished = await node.run(start(tmp_path, *script, approval="auto", budget=frames.Budget(**budget)))
    assert (finished.status, finished.code) == ("failed", budget_messages.EXHAUSTED_CODE)
    assert re.fullmatch(said, finished.reason or ""), finished.reason
    assert [file.name for file in finished.files] == (["a"] if "output_bytes" in budget else [])


def test_the_words_for_money() -> None:
    assert budget_messages.usd(frames.Budget(usd=0.5), 0.519) == (
        "the run's budget of 0.50 USD for the model is used up: 0.52 USD were used"
    )
