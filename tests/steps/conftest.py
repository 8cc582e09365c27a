"""Stores of the steps' people are kept in memory: each commit of a step waits for it to be written."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(memory: Path) -> Path:
    return memory
