"""A file system without room, for both storages."""

from __future__ import annotations

from pathlib import Path

import pytest


def filled(folder: Path) -> Path:
    """Fill the file system of `folder`; return the file there that takes all its room."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(65_536))
    return ballast
