"""Folders are kept in memory: a landing waits again and again for what it has written."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(memory: Path) -> Path:
    return memory
