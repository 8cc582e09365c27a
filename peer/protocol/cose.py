"""COSE_Sign1 (RFC 9052 4.2) with Ed25519 and nothing optional: the one envelope of every statement. Pure.

Tag 18; protected header {1: -8 (EdDSA), 4: kid, 16: typ (RFC 9596)}; empty unprotected map; embedded payload. The
bytes that were signed are the ones that are kept, forwarded and checked: nothing is re-encoded to be verified.
"""

from __future__ import annotations

from dataclasses import dataclass

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from peer.protocol import codec
from peer.protocol.codec import Malformed
from peer.protocol.errors import Invalid, TooLarge

TAG_SIGN1 = b"\xd2"
"""CBOR tag 18 in its one encoding."""

ALG, KID, TYP = 1, 4, 16
EDDSA = -8


class BadSignature(Invalid):
    """The signature is not by the key that the statement names, or something was altered."""

    default_code = 403
    default_fix = "do not trust this statement; ask its sender to send it again"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A COSE_Sign1 taken apart, not yet verified; `raw` is the whole, `kid` and `typ` the protected header's."""

    raw: bytes
    protected: bytes
    kid: bytes
    typ: str
    payload: bytes
    signature: bytes


def sign(payload: bytes, *, seed: bytes, kid: bytes, typ: str) -> bytes:
    """Return the COSE_Sign1 bytes over `payload` by the Ed25519 key with this 32-byte seed."""
    protected = codec.encode({ALG: EDDSA, KID: kid, TYP: typ})
    signature = SigningKey(seed).sign(_to_be_signed(protected, payload)).signature
    return TAG_SIGN1 + codec.encode([protected, {}, payload, signature])


def parse(raw: bytes) -> Envelope:
    """Take a COSE_Sign1 apart. Raises TooLarge, or Malformed for any other form than the one above."""
    if len(raw) > codec.MAX_BYTES:
        raise TooLarge(f"a statement of {len(raw)} bytes, at most {codec.MAX_BYTES} are read")
    if raw[:1] != TAG_SIGN1:
        raise Malformed("not a COSE_Sign1 message")
    match codec.decode(raw[1:]):
        case [bytes(protected), {} as unprotected, bytes(payload), bytes(signature)] if not unprotected:
            pass
        case _:
            raise Malformed("not a COSE_Sign1 message of protected, {}, payload, signature")
    if len(signature) != 64:
        raise Malformed("an Ed25519 signature has 64 bytes")
    header = codec.decode(protected)
    if not isinstance(header, dict) or set(header) != {ALG, KID, TYP}:
        raise Malformed("the protected header must hold alg, kid and typ and nothing else")
    alg, kid, typ = header[ALG], header[KID], header[TYP]  # type: ignore[index]  # the key set is checked above
    if alg != EDDSA or isinstance(alg, bool) or not isinstance(kid, bytes) or not isinstance(typ, str):
        raise Malformed("the protected header must name EdDSA, a kid and a typ")
    return Envelope(raw, protected, kid, typ, payload, signature)


def verify(envelope: Envelope, public_key: bytes) -> None:
    """Check the signature with a 32-byte Ed25519 key. Raises BadSignature."""
    try:
        VerifyKey(public_key).verify(_to_be_signed(envelope.protected, envelope.payload), envelope.signature)
    except (BadSignatureError, ValueError, TypeError) as error:
        raise BadSignature("the signature does not fit the statement and the key it names") from error


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return codec.encode(["Signature1", protected, b"", payload])
