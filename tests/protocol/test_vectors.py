"""The fixed vectors: what was once written must be written and read the same for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peer.protocol import cose
from peer.protocol import statements as s
from tests.protocol.examples import from_json, to_json, vectors

VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("vectors.json").read_text("utf-8"))


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(vector: dict[str, Any]) -> None:
    statement = from_json(s.TYPES[vector["type"]], vector["statement"])
    assert to_json(statement) == vector["statement"]
    assert s.encode_payload(statement).hex() == vector["payload"]
    sign: Any = s.sign_by_root if vector["type"] == "device-set" else s.sign_by_device
    signed = sign(statement, bytes.fromhex(vector["seed"]))
    assert (signed.raw.hex(), signed.digest.hex()) == (vector["cose"], vector["digest"])
    opened = s.open_statement(bytes.fromhex(vector["cose"]))
    assert opened.statement == statement
    assert cose.parse(opened.raw).typ == f"application/dispatch-{vector['type']}+cbor"


def test_there_is_a_vector_of_every_type_with_and_without_its_options() -> None:
    assert {vector["type"] for vector in VECTORS} == s.TYPES.keys()
    assert vectors() == VECTORS
