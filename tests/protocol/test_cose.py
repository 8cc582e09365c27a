"""The envelope: published vectors, a second COSE library, every form but one refused, every forgery known to us."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey
from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.keys.curves import Ed25519
from pycose.keys.okp import OKPKey
from pycose.messages.sign1message import Sign1Message

from peer.protocol import codec, cose
from peer.protocol.codec import DuplicateKey, Malformed, NotDeterministic, OutsideModel, TrailingBytes
from peer.protocol.cose import BadSignature, Envelope
from peer.protocol.errors import TooLarge

# RFC 8032 7.1, TEST 1, 2, 3 and SHA(abc): secret key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]

SEED = bytes(range(32))
PUBLIC = cose.public_key(SEED)
GROUP_ORDER = (1 << 252) + 27742317777372353535851937790883648493


def _signed(payload: bytes = b"payload", *, kid: bytes = b"kid", typ: str = "application/x") -> bytes:
    return cose.sign(payload, key=SigningKey(SEED), kid=kid, typ=typ)


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Sig_structure of RFC 9052 4.4, written out by hand."""

    def head(major: int, length: int) -> bytes:
        if length < 24:
            return bytes((major << 5 | length,))
        return bytes((major << 5 | 24, length)) if length < 256 else bytes((major << 5 | 25,)) + length.to_bytes(2)

    return b"\x84\x6aSignature1" + head(2, len(protected)) + protected + b"\x40" + head(2, len(payload)) + payload


def _envelope(protected: bytes, unprotected: Any, payload: Any, signature: bytes) -> bytes:
    return b"\xd2" + codec.encode([protected, unprotected, payload, signature])


def _with_header(header: object) -> bytes:
    """A message whose signature is right for the header that it has."""
    protected = header if isinstance(header, bytes) else cbor2.dumps(header, canonical=True)
    signature = SigningKey(SEED).sign(_to_be_signed(protected, b"payload")).signature
    return _envelope(protected, {}, b"payload", signature)


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_published_ed25519_vectors(secret: str, public: str, message: str, signature: str) -> None:
    assert cose.public_key(bytes.fromhex(secret)).hex() == public
    signed = SigningKey(bytes.fromhex(secret)).sign(bytes.fromhex(message))
    assert signed.signature.hex() == signature


def test_published_cose_vector() -> None:
    """cose-wg/Examples eddsa-sig-01: not in our form (kid unprotected, a content type), yet by our arithmetic right."""
    raw = bytes.fromhex(
        "D28445A201270300A10442313154546869732069732074686520636F6E74656E742E58407142FD2FF96D56DB85BEE905A76BA1D0B732"
        "1A95C8C4D3607C5781932B7AFB8711497DFA751BF40B58B3BCC32300B1487F3DB34085EEF013BF08F4A44D6FEF0D"
    )
    decoded: Any = codec.decode(raw[1:])
    protected, unprotected, payload, signature = decoded
    assert (payload, unprotected) == (b"This is the content.", {4: b"11"})
    envelope = Envelope(raw, protected, b"11", "", payload, signature)
    cose.verify(envelope, bytes.fromhex(RFC_8032[0][1]))
    with pytest.raises(BadSignature):
        cose.verify(envelope, bytes.fromhex(RFC_8032[1][1]))
    with pytest.raises(Malformed, match="the unprotected header must be empty"):
        cose.parse(raw)


@given(st.binary(max_size=300), st.binary(max_size=60), st.text(max_size=60))
def test_a_second_library_verifies_ours_and_writes_the_same(payload: bytes, kid: bytes, typ: str) -> None:
    ours = _signed(payload, kid=kid, typ=typ)
    # pycose reads the array without its tag here: its own decoder predates the tuples of cbor2 6.
    message = Sign1Message.from_cose_obj(list(cbor2.loads(ours[1:])), True)
    assert (message.phdr, message.uhdr, message.payload) == ({Algorithm: EdDSA, KID: kid, 16: typ}, {}, payload)
    message.key = OKPKey(crv=Ed25519, x=PUBLIC)
    assert message.verify_signature()

    theirs = Sign1Message(phdr={Algorithm: EdDSA, KID: kid, 16: typ}, uhdr={}, payload=payload)
    theirs.key = OKPKey(crv=Ed25519, x=PUBLIC, d=SEED)
    written = theirs.encode()
    assert written == ours
    envelope = cose.parse(written)
    cose.verify(envelope, PUBLIC)
    assert (envelope.payload, envelope.kid, envelope.typ) == (payload, kid, typ)


@given(st.binary(max_size=600))
def test_what_is_signed_is_the_sig_structure_written_by_hand(payload: bytes) -> None:
    envelope = cose.parse(_signed(payload))
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(
        envelope.signature, _to_be_signed(envelope.protected, envelope.payload)
    )


GOOD = cose.parse(_signed())
HEADER = {1: -8, 4: b"kid", 16: "application/x"}
SHAPE = "not a COSE_Sign1 message of protected header, {}, payload and signature"
THREE = "the protected header must hold alg, kid and typ and nothing else"
NOT_TAGGED = "not a COSE_Sign1 message: it must begin with tag 18"

FORMS: dict[str, tuple[bytes, type[Malformed], str]] = {
    "nothing": (b"", Malformed, NOT_TAGGED),
    "untagged": (_signed()[1:], Malformed, NOT_TAGGED),
    "COSE_Sign": (b"\xd8\x62" + _signed()[1:], Malformed, NOT_TAGGED),
    "COSE_Mac0": (b"\xd1" + _signed()[1:], Malformed, NOT_TAGGED),
    "tag in two bytes": (b"\xd8\x12" + _signed()[1:], Malformed, NOT_TAGGED),
    "tagged twice": (b"\xd2" + _signed(), OutsideModel, "a tag is not part of the data model"),
    "as CWT": (b"\xd8\x3d" + _signed(), Malformed, NOT_TAGGED),
    "not an array": (b"\xd2\xa0", Malformed, SHAPE),
    "three parts": (b"\xd2" + codec.encode([GOOD.protected, {}, b"payload"]), Malformed, SHAPE),
    "five parts": (
        b"\xd2" + codec.encode([GOOD.protected, {}, b"payload", GOOD.signature, b""]),
        Malformed,
        SHAPE,
    ),
    "detached payload": (_envelope(GOOD.protected, {}, None, GOOD.signature), Malformed, SHAPE),
    "payload of text": (_envelope(GOOD.protected, {}, "payload", GOOD.signature), Malformed, SHAPE),
    "protected header not wrapped": (
        b"\xd2" + codec.encode([HEADER, {}, b"payload", GOOD.signature]),
        Malformed,
        SHAPE,
    ),
    "unprotected not a map": (_envelope(GOOD.protected, [], b"payload", GOOD.signature), Malformed, SHAPE),
    "unprotected kid": (
        _envelope(GOOD.protected, {4: b"kid"}, b"payload", GOOD.signature),
        Malformed,
        "the unprotected header must be empty",
    ),
    "short signature": (
        _envelope(GOOD.protected, {}, b"payload", GOOD.signature[:63]),
        Malformed,
        "an Ed25519 signature has 64 bytes, not 63",
    ),
    "long signature": (
        _envelope(GOOD.protected, {}, b"payload", GOOD.signature + b"\0"),
        Malformed,
        "an Ed25519 signature has 64 bytes, not 65",
    ),
    "trailing byte": (_signed() + b"\0", TrailingBytes, "1 bytes follow the end of the value"),
    "indefinite array": (
        b"\xd2\x9f" + _signed()[2:] + b"\xff",
        NotDeterministic,
        "a length is indefinite",
    ),
    "empty protected": (_with_header(b""), codec.Truncated, "the bytes end before the value does"),
    "protected not a map": (_with_header(b"\x80"), Malformed, "the protected header must be a map"),
    "no alg": (_with_header({4: b"kid", 16: "application/x"}), Malformed, THREE),
    "no kid": (_with_header({1: -8, 16: "application/x"}), Malformed, THREE),
    "no typ": (_with_header({1: -8, 4: b"kid"}), Malformed, THREE),
    "a critical header": (_with_header({**HEADER, 2: [16]}), Malformed, THREE),
    "a content type": (_with_header({**HEADER, 3: 0}), Malformed, THREE),
    "a header with a name": (
        _with_header({1: -8, 4: b"kid", 16: "application/x", "x": 0}),
        OutsideModel,
        "a map mixes integer keys and text keys",
    ),
    "headers unsorted": (
        _with_header(b"\xa3\x04\x43kid\x01\x27\x10\x6dapplication/x"),
        NotDeterministic,
        "map keys are not in bytewise order",
    ),
    "alg twice": (
        _with_header(b"\xa4\x01\x27\x01\x27\x04\x43kid\x10\x6dapplication/x"),
        DuplicateKey,
        "a map names a key twice",
    ),
    "ES256": (_with_header({**HEADER, 1: -7}), Malformed, "the algorithm must be EdDSA"),
    "fully specified Ed25519": (_with_header({**HEADER, 1: -19}), Malformed, "the algorithm must be EdDSA"),
    "no algorithm": (_with_header({**HEADER, 1: None}), Malformed, "the algorithm must be EdDSA"),
    "algorithm by name": (_with_header({**HEADER, 1: "EdDSA"}), Malformed, "the algorithm must be EdDSA"),
    "kid of text": (_with_header({**HEADER, 4: "kid"}), Malformed, "the kid must be bytes"),
    "typ by number": (_with_header({**HEADER, 16: 60}), Malformed, "the typ must be text"),
}


@pytest.mark.parametrize("name", FORMS)
def test_only_one_form_is_read(name: str) -> None:
    raw, kind, message = FORMS[name]
    with pytest.raises(Malformed) as caught:
        cose.parse(raw)
    assert (type(caught.value), caught.value.message) == (kind, message)


def test_the_good_form_is_read() -> None:
    cose.verify(GOOD, PUBLIC)
    assert _with_header(HEADER) == _signed()


def test_a_message_over_the_limit_is_neither_written_nor_read() -> None:
    overhead = len(_signed(bytes(70_000))) - 70_000  # a payload of more than 65,535 bytes has a five-byte head
    most = codec.MAX_BYTES - overhead
    assert len(_signed(bytes(most))) == codec.MAX_BYTES
    cose.verify(cose.parse(_signed(bytes(most))), PUBLIC)
    for more in (1, 2, 1000):
        with pytest.raises(TooLarge):
            _signed(bytes(most + more))
    with pytest.raises(TooLarge, match="a statement of 1048577 bytes, at most 1048576 are read"):
        cose.parse(_signed(bytes(most)) + b"\0")


def _forged(*, public: bytes, signature: bytes) -> None:
    cose.verify(Envelope(GOOD.raw, GOOD.protected, b"kid", "application/x", b"payload", signature), public)


def test_a_signature_with_a_larger_s_is_refused() -> None:
    """S + L satisfies the same equation (RFC 8032 5.1.7 demands 0 <= S < L): a second signature nobody made."""
    scalar = int.from_bytes(GOOD.signature[32:], "little") + GROUP_ORDER
    with pytest.raises(BadSignature):
        _forged(public=PUBLIC, signature=GOOD.signature[:32] + scalar.to_bytes(32, "little"))


_IDENTITY = bytes((1, *(0,) * 31))
SMALL_ORDER = {
    "1": _IDENTITY,
    "1, sign set": bytes((1, *(0,) * 30, 0x80)),
    "1, not reduced": bytes((0xEE, *(0xFF,) * 30, 0x7F)),
    "2": bytes((0xEC, *(0xFF,) * 30, 0x7F)),
    "2, sign set": bytes((0xEC, *(0xFF,) * 31)),
    "4": bytes(32),
    "4, negative": bytes((*(0,) * 31, 0x80)),
    "4, not reduced": bytes((0xED, *(0xFF,) * 30, 0x7F)),
    "8 a": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "8 b": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    "8 c": bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    "8 d": bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
}


@pytest.mark.parametrize("order", SMALL_ORDER)
def test_a_key_of_small_order_signs_nothing(order: str) -> None:
    """With such a key R = 1, S = 0 fits every message, or one in eight; it must fit none."""
    for nonce in SMALL_ORDER.values():
        with pytest.raises(BadSignature):
            _forged(public=SMALL_ORDER[order], signature=nonce + bytes(32))


def test_another_library_is_fooled_by_a_key_of_small_order() -> None:
    """Why the test above is not idle: OpenSSL takes the forgery that libsodium refuses."""
    Ed25519PublicKey.from_public_bytes(_IDENTITY).verify(_IDENTITY + bytes(32), b"any message at all")


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), PUBLIC[:31], bytes((2, *(0,) * 31)), b"\xff" * 32])
def test_what_is_not_a_key_verifies_nothing(key: bytes) -> None:
    with pytest.raises(BadSignature):
        cose.verify(GOOD, key)


def test_a_bad_signature_is_forbidden_with_a_fix() -> None:
    with pytest.raises(BadSignature) as caught:
        cose.verify(GOOD, cose.public_key(bytes(32)))
    assert caught.value.to_json() == {
        "code": 403,
        "message": "the signature does not fit the statement and the key it names",
        "fix": "do not trust this statement; ask its sender to send it again",
    }
