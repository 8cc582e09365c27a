"""The same attempts by an ordinary user. Run by root, the suite starts itself again as one that owns nothing."""

from __future__ import annotations

import os

import pytest

from tests.sandbox.test_ordinary_user import run_as_ordinary_user


@pytest.mark.alone
def test_everything_is_refused_to_an_ordinary_user() -> None:
    if os.geteuid() != 0:
        return  # then every other test here has just shown it
    done = run_as_ordinary_user(
        "tests/attacks/test_attacks.py", "tests/attacks/test_scenarios.py", "tests/attacks/test_exhaustion.py"
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout and " passed" in done.stdout, done.stdout
