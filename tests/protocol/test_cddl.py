"""The published CDDL is the table of the code, and an independent reader of CDDL agrees with our own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from peer.protocol import cddl, codec, cose, signing
from peer.protocol import statements as s
from tests.protocol.test_statements import SIGNED_FIELDS, content_of, signed_example
from tests.protocol.test_vectors import VECTORS

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_the_document_holds_exactly_the_cddl_of_the_code() -> None:
    blocks = re.findall(r"^```cddl\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert cddl.render() in blocks


def test_the_document_names_every_type() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert [name for name in s.TYPES if f"| `{name}` |" not in text] == []


def test_every_field_and_every_shared_form_is_a_rule() -> None:
    text = cddl.render()
    for kind, fields in SIGNED_FIELDS.items():
        rule = re.search(rf"^{kind} = {{\n(.*?)^}}", text, re.DOTALL | re.MULTILINE)
        assert rule, kind
        keys = {int(key) for key in re.findall(r"^  (?:\? )?(\d+):", rule[1], re.MULTILINE)}
        assert keys == {s.FIELDS[field].key for field in fields}
    named = set(re.findall(r"[a-z][a-z0-9-]+", re.sub(r'"[^"]*"|;.*|\.[a-z]+|#6', "", text)))
    defined = set(re.findall(r"^([a-z][a-z0-9-]*) = ", text, re.MULTILINE))
    assert named - defined == {"any", "bstr", "tstr", "protected", "unprotected", "payload", "signature"}


def _validator(root: str) -> Callable[[bytes], None]:
    pycddl: Any = pytest.importorskip("pycddl", reason="no build of pycddl for this machine")
    # pycddl 0.6 applies the bound of a map's key type to the map itself, and cannot have a range of integers as a key
    # type at all: those bounds are left to our own tests, and what it sees has no ignorable keys.
    # It also panics on .cbor inside a tag, so header and content are validated each by itself.
    rules = re.sub(r"text-\d+ =>", "tstr =>", cddl.render())
    rules = re.sub(r"\n  \* ignorable => any,|, \* ignorable => any", "", rules)
    validate: Callable[[bytes], None] = pycddl.Schema(f"root = {root}\n{rules}").validate_cbor
    return validate


@pytest.fixture(scope="module")
def fits_content() -> Callable[[bytes], None]:
    return _validator("content")


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_every_vector_fits_the_cddl(fits_content: Callable[[bytes], None], vector: dict[str, Any]) -> None:
    fits_content(bytes.fromhex(vector["payload"]))
    _validator("header")(cose.parse(bytes.fromhex(vector["cose"])).protected)


@pytest.mark.parametrize("kind", s.TYPES)
def test_the_cddl_refuses_what_the_code_refuses(fits_content: Callable[[bytes], None], kind: str) -> None:
    raw, seed = signed_example(kind)
    envelope = cose.parse(raw)
    good = content_of(raw)
    key = {field: s.FIELDS[field].key for field in SIGNED_FIELDS[kind]}
    optional = {part.name for part in s.parts_of(s.TYPES[kind]) if not part.required}
    bare = {key[field]: good[key[field]] for field in key.keys() - optional}
    fits_content(codec.encode(good))
    fits_content(codec.encode(bare))
    for content in (
        good | {99: 0},
        good | {key["version"]: 2},
        *(_without(good, key[field]) for field in key.keys() - optional),
        *(good | {number: -1} for number in key.values()),
        *(good | {number: None} for number in key.values()),
    ):
        with pytest.raises(codec.Malformed):
            signing.open_statement(
                cose.sign(codec.encode(content), key=SigningKey(seed), kid=envelope.kid, typ=envelope.typ)
            )
        with pytest.raises(Exception, match="validating"):
            fits_content(codec.encode(content))


def _without(content: dict[int, Any], key: int) -> dict[int, Any]:
    return {other: value for other, value in content.items() if other != key}


@pytest.mark.parametrize("header", [{}, {1: -8}, {1: -7, 4: bytes(38), 16: "application/dispatch-cancel+cbor"}])
def test_the_cddl_refuses_another_header(header: dict[int, Any]) -> None:
    with pytest.raises(Exception, match="validating"):
        _validator("header")(codec.encode(header))
