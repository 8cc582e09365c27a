"""The two people of the system tests, in a world of their own."""

from __future__ import annotations

from tests.system.conftest import _pair, pair, world

__all__ = ["_pair", "pair", "world"]
