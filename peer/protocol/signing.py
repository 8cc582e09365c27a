"""How a statement is signed, and how one is opened: parsed, checked for form and signature. Pure.

Signed bytes are a COSE_Sign1 message (cose.py) around the deterministic CBOR of a statement's map (payloads.py).
Unknown ignorable keys (growth.py) stay in the bytes and are listed in `Signed.ignored`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeVar

from nacl.signing import SigningKey

from peer.protocol import cose, names, payloads
from peer.protocol.codec import Malformed
from peer.protocol.cose import BadSignature
from peer.protocol.errors import NO_FIX, DispatchError, Invalid, WithUsualFix
from peer.protocol.growth import KeyPath, NotUnderstood
from peer.protocol.statements import VERSIONS, DeviceSet, DeviceStatement, Membership, Statement

T = TypeVar("T", bound=Statement)


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement whose signature was checked, with the signed bytes as sent. `digest` is their SHA-256.

    `ignored` lists the keys that this version does not define: they are not fields of `statement` and have no effect.
    """

    statement: Any
    raw: bytes
    ignored: tuple[KeyPath, ...] = ()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole COSE message."""
        return hashlib.sha256(self.raw).digest()


def media_type(type_name: str) -> str:
    """Return the `typ` of a statement type (RFC 9596)."""
    return f"application/dispatch-{type_name}+cbor"


def root_kid(root: bytes) -> bytes:
    """Return the kid of a root key: SHA-256 of its 32 bytes."""
    return hashlib.sha256(root).digest()


def encode_payload(statement: Statement) -> bytes:
    """Return the deterministic CBOR of a statement, type and version included. Raises Invalid, TooLarge."""
    return payloads.encode(statement, {"type": statement.type_name, "version": statement.version})


def sign_by_device(statement: DeviceStatement, seed: bytes) -> Signed:
    """Sign with the 32-byte seed of the issuing device's key. Raises Invalid, also for another key's seed; TooLarge."""
    kid = names.peer_id_bytes(statement.issuer_device)
    key = _key(seed, names.key_of_peer_id(kid))
    raw = cose.sign(encode_payload(statement), key=key, kid=kid, typ=media_type(statement.type_name))
    return Signed(statement, raw)


def sign_by_root(statement: DeviceSet, seed: bytes) -> Signed:
    """Sign with the 32-byte seed of the user's root key. Raises Invalid, also for another key's seed; TooLarge."""
    kid = root_kid(statement.root)
    key = _key(seed, statement.root)
    raw = cose.sign(encode_payload(statement), key=key, kid=kid, typ=media_type(statement.type_name))
    return Signed(statement, raw)


def _key(seed: bytes, public_key: bytes) -> SigningKey:
    """Return the key with this seed, which must be the one that the statement names."""
    key = SigningKey(seed)
    if bytes(key.verify_key) != public_key:
        raise Invalid("this key is not the one that the statement names as its issuer", fix=NO_FIX)
    return key


def open_statement(raw: bytes) -> Signed:
    """Check the form and the signature of a statement and return it.

    The signature is checked with the key that the statement itself names (the issuing device's peer id, or the root
    key inside a device-set); whether that key is trusted is decided elsewhere. Raises TooLarge, Malformed and
    BadSignature; NotUnderstood, before the signature is checked, for what only another version can read; for a
    device-set also NotAMember.
    """
    envelope = cose.parse(raw)
    statement, ignored = payloads.decode(envelope.payload, VERSIONS)
    if envelope.typ != media_type(statement.type_name):
        raise Malformed("the header names another type than the statement")
    if isinstance(statement, DeviceSet):
        kid, key = root_kid(statement.root), statement.root
    elif isinstance(statement, DeviceStatement):
        kid = names.peer_id_bytes(statement.issuer_device)
        key = names.key_of_peer_id(kid)
    else:  # pragma: no cover - TYPES holds no third kind
        raise Malformed("a statement must be signed by a device or a root key")
    if envelope.kid != kid:
        raise BadSignature("the statement was signed by another key than its issuer's")
    cose.verify(envelope, key)
    if isinstance(statement, DeviceSet):
        _check_memberships(statement)
    return Signed(statement, raw, ignored)


class NotAMember(WithUsualFix, Invalid):
    """A device-set lists a device that has not signed a membership for this user and this root key."""

    default_code = 403
    usual_fix = "do not trust this device-set"


def _check_memberships(device_set: DeviceSet) -> None:
    """Raise NotAMember unless each device signed a membership for this user and this root key.

    Otherwise anyone could list someone else's device, and whoever pins both device-sets would reassign it.
    """
    if len({entry.device for entry in device_set.devices}) != len(device_set.devices):
        raise NotAMember("the device-set lists a device twice")
    for entry in device_set.devices:
        try:
            membership, _ = open_as(Membership, entry.membership)
        except NotUnderstood:
            raise
        except DispatchError as error:
            raise NotAMember(f"the device-set lists a device without its membership: {error.message}") from error
        signed = (membership.issuer_device, membership.issuer_user, membership.root, membership.sealing_key)
        if signed != (entry.device, device_set.issuer_user, device_set.root, entry.sealing_key):
            raise NotAMember("the device-set lists a device with a membership of another device, user or root")
        if membership.standing != "member":
            raise NotAMember("the device-set lists a device that has left")


def open_as(kind: type[T], raw: bytes) -> tuple[T, Signed]:
    """Open a statement that must be of this type. Raises as `open_statement`, and Malformed for another type."""
    signed = open_statement(raw)
    if not isinstance(signed.statement, kind):
        raise Malformed(f"a statement of type {kind.type_name} belongs here")
    return signed.statement, signed
