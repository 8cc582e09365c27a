"""What a person is asked before a network is granted by an agent's session: every host and registry, whole."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mcp_plugin.call import FormAnswer
from mcp_plugin.consent import scope_lines
from mcp_plugin.tools import invite, trust
from peer.protocol.documents import Document
from peer.trust import grants, scopes
from peer.trust.scopes import Registry

LONG = ".".join(("github.com", "a" * 60, "b" * 60, "c" * 60, "d" * 40, "evil.example"))
HOSTS = [LONG, *(f"{'a' * 60}.{'b' * 60}.h{number:02}.example" for number in range(scopes.MAX_HOSTS - 2))]


def asked(*network: str, registries: tuple[Registry, ...] = ()) -> Document:
    scope = grants.grant(grants.ScopeInput(tools="Bash", network=list(network)), installed=(), now=0)
    scope = msgspec.structs.replace(scope, registries=registries)
    return {
        "scopes": json.loads(scopes.encode(scope)),
        "powerful": list(scopes.needs_confirmation(scope)),
        "fingerprint": "x",
    }


def test_no_host_is_hidden_by_others() -> None:
    lines = scope_lines(asked(*HOSTS, "zzz.example"))
    for start in ("Its commands can reach ", "Grants with power "):
        (said,) = [line for line in lines if line.startswith(start)]
        assert all(host in said for host in (*HOSTS, "zzz.example")), start
    assert any("They can send there whatever the run can read" in line for line in lines)


class Grants:
    """A call, the form that answers yes, and the node behind it."""

    session = SimpleNamespace(hooked=True)

    def __init__(self, *by_proxy: str) -> None:
        self.granted: list[Document] = []
        self.by_proxy = by_proxy
        self.confirmed: list[object] = []
        self.questions: list[str] = []

    async def client(self) -> Grants:
        return self

    async def ask(self, question: str, *_: object) -> FormAnswer:
        self.questions.append(question)
        return FormAnswer("chosen", "grant")

    async def accept_invitation(self, _token: str, scope: Document, **how: Any) -> Document:
        return await self.edit_trust("", scope, **how)

    async def edit_trust(self, _peer: str, scope: Document, *, unconfirmed: bool = False, **how: Any) -> Document:
        if not unconfirmed:
            self.granted.append(scope)
            self.confirmed.append(how["confirm_by_proxy"])
        registries = (Registry("npm", "https://npm.example"),)
        about = {"status": "confirmation_required", "peer": "eve@example.org", "widens": [], "standing": ""}
        return {**asked("packages", registries=registries), **about, "by_proxy": [*self.by_proxy]}


@pytest.mark.parametrize("grants", [invite._accept, trust._edit], ids=["an invitation", "an edge"])
async def test_hosts_that_a_proxy_resolves_are_confirmed_by_name(grants: Any) -> None:
    call = Grants("npm.example", "a.example")
    await grants(call, "eve", {"tools": ["Bash"], "network": "packages"})
    assert "This machine's HTTP proxy resolves npm.example, a.example, so dispatch cannot check" in call.questions[0]
    assert call.confirmed == [["npm.example", "a.example"]]


@pytest.mark.parametrize("grants", [invite._accept, trust._edit], ids=["an invitation", "an edge"])
async def test_the_registries_that_are_granted_are_those_that_were_shown(grants: Any) -> None:
    """A program of this machine may be set to others while the person reads."""
    call = Grants()
    await grants(call, "eve", {"tools": ["Bash"], "network": "packages"})
    (granted,) = call.granted
    assert granted["network"] == ["packages"]
    assert granted["registries"] == [{"kind": "npm", "address": "https://npm.example"}]


@pytest.mark.parametrize("word", ["packages", "any-packages"])
def test_every_registry_is_shown(word: str) -> None:
    registries = (Registry("pip", f"https://{'a' * 900}/x"), Registry("npm", "https://evil.example"))
    said = " ".join(scope_lines(asked(word, registries=registries)))
    assert all(registry.address in said for registry in registries)
