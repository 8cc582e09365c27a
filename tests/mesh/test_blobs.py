"""Blobs between two real hosts: whole, resumed, refused, and never wrong under their name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from peer.mesh import blobs
from peer.mesh.host import MeshHost
from tests.mesh.harness import two_hosts

STATEMENT = bytes(range(16))


def blob(tmp_path: Path, size: int) -> tuple[Path, bytes]:
    data = os.urandom(size)
    path = tmp_path / "served"
    path.write_bytes(data)
    return path, hashlib.sha256(data).digest()


def serve_path(host: MeshHost, path: Path) -> list[tuple[str, bytes, bytes]]:
    asked: list[tuple[str, bytes, bytes]] = []

    async def lookup(peer_id: str, statement_id: bytes, digest: bytes) -> Path | None:
        asked.append((peer_id, statement_id, digest))
        return path

    blobs.serve(host, lookup)
    return asked


@pytest.mark.parametrize("size", [0, 1, blobs.PIECE, 3 * blobs.PIECE + 7])
async def test_a_blob_arrives_whole_under_its_name(tmp_path: Path, size: int) -> None:
    path, digest = blob(tmp_path, size)
    destination = tmp_path / "got"
    async with two_hosts() as (ana, ben):
        asked = serve_path(ben, path)
        await blobs.fetch(ana, ben.peer_id, statement_id=STATEMENT, digest=digest, size=size, destination=destination)
    assert destination.read_bytes() == path.read_bytes()
    assert destination.stat().st_mode & 0o777 == 0o600
    assert not destination.with_name("got.part").exists()
    assert asked == [(ana.peer_id, STATEMENT, digest)]
