"""What the flags of a scope newly grant, in words, for the question about a key that nobody has compared."""

from __future__ import annotations

import pytest

from cli.scope_options import given_scope, powerful_grants


@pytest.mark.parametrize(
    ("flags", "current", "found"),
    [
        ({"network": "a.example,packages"}, None, ["the network: a.example", "packages named in lock files"]),
        ({"network": "a.example,b.example"}, {"network": ["a.example"]}, ["the network: b.example"]),
        ({"network": "none"}, {"network": ["a.example"]}, []),
        ({}, None, []),
    ],
)
def test_a_network_is_power(flags: dict[str, object], current: dict[str, object] | None, found: list[str]) -> None:
    assert powerful_grants(given_scope(flags), current) == found


def test_megabytes_become_bytes() -> None:
    given = given_scope({"network_mb": 7, "output_mb": 2, "minutes": 3})
    assert given == {"budget": {"minutes": 3, "output_bytes": 2 * 1024 * 1024, "network_bytes": 7 * 1024 * 1024}}
