"""Ubuntu 22.04, whose bubblewrap is too old: doctor names that, and a newer one in /usr/local/bin is used beside it.

Started by inside.py in a guest with that system's programs. What a person would build is Debian 12's program here.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.kernels.refusals import SUDO, agent
from tests.kernels.table import JAMMY

pytestmark = pytest.mark.skipif("KERNEL_TESTS_GUEST" not in os.environ, reason="changes the machine that it runs on")


def test_an_old_bubblewrap_is_named_and_a_newer_one_is_used() -> None:
    cause = agent("--machine")["cause"]
    assert isinstance(cause, dict) and cause["name"] == "old bubblewrap", cause
    assert "it lacks --disable-userns, --size" in cause["message"] and "/usr/local/bin" in cause["fix"], cause
    subprocess.run([*SUDO, "install", "-m755", f"{JAMMY.newer}/usr/bin/bwrap", "/usr/local/bin/bwrap"], check=True)
    try:
        assert agent("--machine")["cause"] is None
        proven = agent("--prove", "claude")
        assert proven.get("error") is None and proven["tier"] == "full", proven
    finally:
        subprocess.run([*SUDO, "rm", "/usr/local/bin/bwrap"], check=True)
