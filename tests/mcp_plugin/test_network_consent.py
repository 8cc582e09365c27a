"""What a person is asked before a network is granted by an agent's session: every host and registry, whole."""

from __future__ import annotations

import msgspec
import pytest

from mcp_plugin.consent import scope_lines
from peer.protocol.documents import Document
from peer.trust import grants, scopes
from peer.trust.scopes import Registry

LONG = ".".join(("github.com", "a" * 60, "b" * 60, "c" * 60, "d" * 40, "evil.example"))
HOSTS = [LONG, *(f"{'a' * 60}.{'b' * 60}.h{number:02}.example" for number in range(scopes.MAX_HOSTS - 2))]


def asked(*network: str, registries: tuple[Registry, ...] = ()) -> Document:
    scope = grants.grant(grants.ScopeInput(tools="Bash", network=list(network)), installed=(), now=0)
    scope = msgspec.structs.replace(scope, registries=registries)
    return {
        "scopes": msgspec.to_builtins(scope),
        "powerful": list(scopes.needs_confirmation(scope)),
        "fingerprint": "x",
    }


def test_no_host_is_hidden_by_others() -> None:
    lines = scope_lines(asked(*HOSTS, "zzz.example"))
    for start in ("Its commands reach ", "Grants with power "):
        (said,) = [line for line in lines if line.startswith(start)]
        assert all(host in said for host in (*HOSTS, "zzz.example")), start
    assert any("Whatever a run can read can leave to there" in line for line in lines)


@pytest.mark.parametrize("word", ["packages", "any-packages"])
def test_every_registry_is_shown(word: str) -> None:
    registries = (Registry("pip", f"https://{'a' * 900}/x"), Registry("npm", "https://evil.example"))
    said = " ".join(scope_lines(asked(word, registries=registries)))
    assert all(registry.address in said for registry in registries)
