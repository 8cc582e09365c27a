"""Fixed vectors: those of the first version are read for good, and their fields written as the same bytes.

vectors_v1.json is frozen. vectors.json is what tests/protocol/examples.py prints, fields that were added included.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from peer.protocol import cose, signing
from peer.protocol import statements as s
from tests.protocol.examples import from_json, to_json, vectors

FOLDER = Path(__file__).parent
FROZEN = "544a5b68067c59ef0e04663aba37ab60e7a7125ca801e06b8292c63fcd100f42"
V1: list[dict[str, Any]] = json.loads((FOLDER / "vectors_v1.json").read_text("utf-8"))
VECTORS: list[dict[str, Any]] = json.loads((FOLDER / "vectors.json").read_text("utf-8"))


def test_the_frozen_vectors_are_as_they_were() -> None:
    found = hashlib.sha256((FOLDER / "vectors_v1.json").read_bytes()).hexdigest()
    assert found == FROZEN, "a change of these is a break with everybody"


@pytest.mark.parametrize(
    "vector", [*V1, *VECTORS], ids=[f"v1 {each['name']}" for each in V1] + [each["name"] for each in VECTORS]
)
def test_vector(vector: dict[str, Any]) -> None:
    opened = signing.open_statement(bytes.fromhex(vector["cose"]))
    assert opened.ignored == () and opened.digest.hex() == vector["digest"]
    assert cose.parse(opened.raw).typ == f"application/dispatch-{vector['type']}+cbor"
    read = to_json(opened.statement)
    # A later version may have more fields; what was written is read as it was meant.
    assert {name: read[name] for name in vector["statement"]} == vector["statement"]
    statement = from_json(type(opened.statement), vector["statement"])
    assert statement == opened.statement
    assert signing.encode_payload(statement).hex() == vector["payload"]
    sign: Any = signing.sign_by_root if vector["type"] == "device-set" else signing.sign_by_device
    signed = sign(statement, bytes.fromhex(vector["seed"]))
    assert (signed.raw.hex(), signed.digest.hex()) == (vector["cose"], vector["digest"])


def test_there_is_a_vector_of_every_type_with_and_without_its_options() -> None:
    assert {vector["type"] for vector in VECTORS} == s.TYPES.keys()
    assert vectors() == VECTORS
