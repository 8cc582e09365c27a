"""Worlds for the tests of change sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sandbox.changes.worlds import Kind, World


def namespace() -> tuple[str, ...]:
    """How this user makes a mount namespace."""
    return ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture(params=["overlay", "copy"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    kind: Kind = request.param
    return _world(tmp_path, kind)


@pytest.fixture
def overlay(tmp_path: Path) -> World:
    return _world(tmp_path, "overlay")


@pytest.fixture
def copy(tmp_path: Path) -> World:
    return _world(tmp_path, "copy")


def _world(folder: Path, kind: Kind) -> World:
    root = folder / "project"
    root.mkdir()
    return World(folder, root, kind, namespace())
