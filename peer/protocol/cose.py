"""COSE_Sign1 (RFC 9052 4.2) with Ed25519 and nothing optional: the envelope of every statement. Pure.

Tag 18; protected header {1: -8 (EdDSA), 4: kid, 16: typ (RFC 9596)}; empty unprotected map; embedded payload. The
signed bytes themselves are stored, forwarded and verified; nothing is re-encoded for verification.
"""

from __future__ import annotations

from dataclasses import dataclass

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from peer.protocol import codec
from peer.protocol.codec import Malformed
from peer.protocol.errors import Invalid, TooLarge, WithUsualFix

TAG_SIGN1 = b"\xd2"
"""CBOR tag 18 in its deterministic encoding."""

ALG, KID, TYP = 1, 4, 16
EDDSA = -8


class BadSignature(WithUsualFix, Invalid):
    """The signature was not made by the key that the statement names, or the statement was altered."""

    default_code = 403
    usual_fix = "do not trust this statement; ask its sender to send it again"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed COSE_Sign1, not yet verified. `raw` is the whole; `kid` and `typ` come from the protected header."""

    raw: bytes
    protected: bytes
    kid: bytes
    typ: str
    payload: bytes
    signature: bytes


def public_key(seed: bytes) -> bytes:
    """Return the 32-byte Ed25519 public key of a 32-byte seed."""
    return bytes(SigningKey(seed).verify_key)


def sign(payload: bytes, *, key: SigningKey, kid: bytes, typ: str) -> bytes:
    """Return the COSE_Sign1 bytes over `payload` by this Ed25519 key. Raises TooLarge.

    Not by its seed: to make the key takes as long as the signature, and whoever signs has made it to compare it.
    """
    protected = codec.encode({ALG: EDDSA, KID: kid, TYP: typ})
    signature = key.sign(_to_be_signed(protected, payload)).signature
    raw = TAG_SIGN1 + codec.encode([protected, {}, payload, signature])
    if len(raw) > codec.MAX_BYTES:
        raise TooLarge(
            f"a statement of {len(raw)} bytes, at most {codec.MAX_BYTES} travel", fix="send less in one dispatch"
        )
    return raw


def parse(raw: bytes) -> Envelope:
    """Take a COSE_Sign1 apart. Raises TooLarge, or Malformed for any other form than the module's.

    Every choice that COSE leaves open is refused (other tags or none, detached payloads, other or unprotected headers),
    so a signature belongs to exactly one byte string, whose digest identifies the statement.
    """
    if len(raw) > codec.MAX_BYTES:
        raise TooLarge(
            f"a statement of {len(raw)} bytes, at most {codec.MAX_BYTES} are read", fix="send less in one dispatch"
        )
    if raw[:1] != TAG_SIGN1:
        raise Malformed("not a COSE_Sign1 message: it must begin with tag 18")
    match codec.decode(raw[1:]):
        case [bytes(protected), dict(unprotected), bytes(payload), bytes(signature)]:
            pass
        case _:
            raise Malformed("not a COSE_Sign1 message of protected header, {}, payload and signature")
    if unprotected:
        raise Malformed("the unprotected header must be empty")
    if len(signature) != 64:
        raise Malformed(f"an Ed25519 signature has 64 bytes, not {len(signature)}")
    kid, typ = _read_header(protected)
    return Envelope(raw, protected, kid, typ, payload, signature)


def _read_header(protected: bytes) -> tuple[bytes, str]:
    header = codec.decode(protected)
    if not isinstance(header, dict):
        raise Malformed("the protected header must be a map")
    match dict(header):
        case {1: alg, 4: kid, 16: typ} if len(header) == 3:
            pass
        case _:
            raise Malformed("the protected header must hold alg, kid and typ and nothing else")
    if alg != EDDSA:
        raise Malformed("the algorithm must be EdDSA")
    if not isinstance(kid, bytes):
        raise Malformed("the kid must be bytes")
    if not isinstance(typ, str):
        raise Malformed("the typ must be text")
    return kid, typ


def verify(envelope: Envelope, key: bytes) -> None:
    """Check the signature with a 32-byte Ed25519 key. Raises BadSignature.

    libsodium also refuses what RFC 8032 leaves open and forgeries rely on: keys and nonces of small order, encodings
    that are not canonical, and an S that is not reduced.
    """
    try:
        VerifyKey(key).verify(_to_be_signed(envelope.protected, envelope.payload), envelope.signature)
    except (BadSignatureError, ValueError, TypeError) as error:
        raise BadSignature("the signature does not fit the statement and the key it names") from error


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return codec.encode(["Signature1", protected, b"", payload])
