"""The frozen vectors: what was once written must be read for good, and the same fields written as the same bytes.

vectors_v1.json is never changed. What a later version adds gets vectors in a file of its own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from peer.protocol import cose
from peer.protocol import statements as s
from tests.protocol.examples import from_json, to_json, vectors

FILE = Path(__file__).with_name("vectors_v1.json")
FROZEN = "544a5b68067c59ef0e04663aba37ab60e7a7125ca801e06b8292c63fcd100f42"
VECTORS: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))


def test_the_frozen_vectors_are_as_they_were() -> None:
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == FROZEN, "a change of these is a break with everybody"


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(vector: dict[str, Any]) -> None:
    opened = s.open_statement(bytes.fromhex(vector["cose"]))
    assert opened.ignored == () and opened.digest.hex() == vector["digest"]
    assert cose.parse(opened.raw).typ == f"application/dispatch-{vector['type']}+cbor"
    read = to_json(opened.statement)
    # A later version may have more fields; what was written is read as it was meant.
    assert {name: read[name] for name in vector["statement"]} == vector["statement"]
    statement = from_json(type(opened.statement), vector["statement"])
    assert statement == opened.statement
    assert s.encode_payload(statement).hex() == vector["payload"]
    sign: Any = s.sign_by_root if vector["type"] == "device-set" else s.sign_by_device
    signed = sign(statement, bytes.fromhex(vector["seed"]))
    assert (signed.raw.hex(), signed.digest.hex()) == (vector["cose"], vector["digest"])


def test_there_is_a_vector_of_every_type_with_and_without_its_options() -> None:
    assert {vector["type"] for vector in VECTORS} == s.TYPES.keys()
    assert vectors() == VECTORS
