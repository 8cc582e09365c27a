"""A node on its networks: on the local one as it is set, unless it serves its own machine alone; who is dropped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peer.machine import identity
from peer.machine import settings as config
from peer.machine.settings import Settings
from peer.machine.state_folder import StateFolder
from peer.node.node import Node
from peer.protocol.errors import Invalid
from peer.steps.context import Context
from peer.store.blobs import Blobs
from peer.store.database import Store

EVERYWHERE, HERE = "/ip4/0.0.0.0/tcp/0", "/ip4/127.0.0.1/tcp/0"


@pytest.mark.parametrize(
    ("listen", "said", "on"),
    [
        ([EVERYWHERE], "", True),
        ([HERE, EVERYWHERE], "on", True),
        ([HERE], "on", False),
        ([HERE, "/ip6/::1/tcp/0"], "", False),
        ([EVERYWHERE], "off", False),
    ],
)
async def test_a_node_is_on_the_local_network_unless_told_or_alone(
    tmp_path: Path, listen: list[str], said: str, on: bool
) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    who = identity.prepare(folder, "alice@example.org", "laptop", lambda: 1, os.urandom)
    config.save(folder, config.set_value(Settings(), "lan", said))
    node = Node(Context(folder, who, Store.open(folder.store), Blobs(folder.blobs)), listen)
    try:
        async with node.running():
            assert node.lan.on is on
            config.save(folder, config.set_value(Settings(), "lan", "off"))
            await node.reload()
            assert not node.lan.on
            config.save(folder, config.set_value(Settings(), "lan", "on"))
            await node.reload()
            assert node.lan.on is (HERE not in listen or EVERYWHERE in listen)
    finally:
        node.context.store.close()


def test_the_setting_is_on_or_off() -> None:
    assert Settings().lan == config.set_value(Settings(lan="off"), "lan", "").lan == "on"
    with pytest.raises(Invalid):
        config.set_value(Settings(), "lan", "maybe")


async def test_who_lost_admission_in_the_handshake_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contact was removed, blocked or forgotten between what Noise proved and the end of the negotiation."""
    folder = StateFolder(tmp_path / "state")
    folder.create()
    who = identity.prepare(folder, "alice@example.org", "laptop", lambda: 1, os.urandom)
    node = Node(Context(folder, who, Store.open(folder.store), Blobs(folder.blobs)), [HERE])
    dropped: list[str] = []
    monkeypatch.setattr(node._network.host, "drop", dropped.append)
    try:
        async with node.running():
            node._network._on_connected("12D3KooWStranger")
            assert dropped == ["12D3KooWStranger"]
    finally:
        node.context.store.close()
