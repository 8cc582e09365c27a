"""docs/security.md names the tests that show its promises, and names none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.attacks.harness import CLASSES
from tests.attacks.inside import ATTACKS

ROOT = Path(__file__).parents[2]


RUN, OTHERS = "How each promise about a run is tested", "How the other promises are tested"


def section(title: str = RUN) -> str:
    text = (ROOT / "docs/security.md").read_text()
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("title", [RUN, OTHERS])
def test_every_promise_names_tests_that_exist(title: str) -> None:
    rows = [line.split("|")[1:3] for line in section(title).splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for promise, shown in rows:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", shown)
        assert tests or "attacks `" in shown, promise
        for path, name in tests:
            assert re.search(rf"def {name}\(", (ROOT / path).read_text()), f"{path}::{name}"


def test_every_class_of_attacks_belongs_to_a_promise() -> None:
    assert sorted(re.findall(r"attacks `(\w+)`", section())) == CLASSES
    assert {one.kind for one in ATTACKS.values()} == set(CLASSES)


def test_what_cannot_be_shown_outside_is_said() -> None:
    said = set(re.findall(r"`(\w+: [^`]+)`", section()))
    assert said == {one.name for one in ATTACKS.values() if one.untestable}
