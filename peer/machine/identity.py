"""This device's keys in the state folder: creating them once, loading them, storing the root key. No network.

An identity consists of three files, written in this order, each atomically and never over an existing one: `root.key`
(the user's root seed, 32 bytes, or a marker that the OS keychain has it), `device.key` (the device's Ed25519 seed and
X25519 private key, 64 bytes) and `device-set` (the signed list of devices with each device's signed membership), which
completes it. Until a broker has accepted the address, the list is `device-set.offered`. If a crash leaves the identity
without a device-set, the next sign-in completes it with the existing keys. A device-set of version 0.1.0, which has no
memberships, is replaced by one of a higher epoch when it is loaded.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nacl.public import PrivateKey
from nacl.signing import SigningKey

from peer.machine import keychains
from peer.machine.keychains import Keychain
from peer.machine.state_folder import StateFolder, read_private
from peer.protocol import codec, cose, names
from peer.protocol.errors import Conflict, DispatchError, Forbidden, Invalid, NotFound, NotSignedIn, Unavailable
from peer.protocol.signing import open_as, sign_by_device, sign_by_root
from peer.protocol.statements import Device, DeviceSet, Membership

DEVICE_SET = "device-set"
OFFERED = "device-set.offered"

_IN_KEYCHAIN = re.compile(rb"keychain ([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this device is. Keys are 32 bytes; `seed` and `sealing_key` are private, `root` is the public root key."""

    user_id: str
    device: str
    name: str
    seed: bytes = field(repr=False)
    sealing_key: bytes = field(repr=False)
    root: bytes
    epoch: int
    device_set: bytes = field(repr=False)
    root_stored: Literal["keychain", "file"]


def exists(folder: StateFolder) -> bool:
    """Return whether a complete identity exists (not whether it can be read)."""
    return os.path.lexists(folder.path / DEVICE_SET)


def load(folder: StateFolder) -> Identity:
    """Return this device's identity.

    Raises NotSignedIn if there is none, Forbidden if others can read a key, Invalid if the files do not belong
    together, Unavailable if a device-set of version 0.1.0 must be replaced and the keychain does not return the key.
    """
    try:
        device_set = read_private(folder.path / DEVICE_SET)
    except NotFound:
        raise NotSignedIn("this device has no identity yet") from None
    try:
        seed, sealing_key = _split(folder.device_key, read_private(folder.device_key))
        root_public, stored = _root_public(folder.root_key, read_private(folder.root_key))
    except NotFound as error:
        raise Invalid(
            f"{error.message}, but there is a device-set: the identity is incomplete",
            fix=f"put the file back from a backup, or move {folder.path} away and sign in as another address",
        ) from None
    keys = _Keys(seed, sealing_key, root_public, stored)
    if (earlier := _without_membership(device_set, keys)) is not None:
        device_set = _replace(folder, earlier, keys)
    return _assemble(folder, device_set, keys)


def prepare(
    folder: StateFolder,
    email: str,
    label: str,
    clock: Callable[[], int],
    random: Callable[[int], bytes],
    *,
    keychain: Keychain | None = None,
) -> Identity:
    """Create this device's keys and its user's root key, and a device-set for this address; `commit` must follow.

    The keys are on disk before any of them is sent to a broker. The address becomes final only with `commit`, so a
    mistyped one can be corrected. An earlier attempt is reused: always its keys, and its device-set if address and name
    are the same. `clock` returns ms since the epoch, `random(n)` n secret bytes (os.urandom). `keychain` stores the
    root key; None means a file.

    Raises Conflict when an identity exists, Invalid for a bad address or label, Unavailable when the disk is full.
    """
    user_id = names.user_id(email)
    if not 1 <= len(label) <= 64 or not label.isprintable():
        raise Invalid("a device's name has 1 to 64 printable characters", fix="--label NAME")
    if exists(folder):
        raise Conflict(f"{folder.path} already holds an identity", fix="`dispatch whoami` shows it")
    folder.create()
    with _alone(folder):
        return _prepare(folder, user_id, label, clock, random, keychain)


def _prepare(
    folder: StateFolder,
    user_id: str,
    label: str,
    clock: Callable[[], int],
    random: Callable[[int], bytes],
    keychain: Keychain | None,
) -> Identity:
    if exists(folder):
        raise Conflict("another sign-in has just made this device's identity", fix="run `dispatch login` again")
    root_seed, stored = _root_seed(folder.root_key, random, keychain)
    seed, sealing_key = _device_keys(folder.device_key, random)
    keys = _Keys(seed, sealing_key, _public(root_seed), stored)
    offered = folder.path / OFFERED
    with suppress(DispatchError):  # an unusable offer is replaced by a new one
        earlier = _assemble(folder, read_private(offered), keys)
        if (earlier.user_id, earlier.name) == (user_id, label):
            return earlier
    device_set = _device_set(user_id, label, 1, keys, root_seed, clock(), random)
    folder.write_private(offered, device_set)
    return _assemble(folder, device_set, keys)


def _device_set(
    user_id: str, label: str, epoch: int, keys: _Keys, root_seed: bytes, now: int, random: Callable[[int], bytes]
) -> bytes:
    """Sign this device's membership and a device-set of it alone."""
    membership = Membership(
        issuer_user=user_id,
        issuer_device=keys.device,
        id=names.uuid7(now, random(10)),
        created=now,
        root=keys.root,
        counter=now,  # from the clock, so that it grows even if earlier counters were lost
        sealing_key=keys.sealing_public,
        standing="member",
    )
    entry = Device(keys.device, keys.sealing_public, label, sign_by_device(membership, keys.seed).raw)
    statement = DeviceSet(
        issuer_user=user_id,
        id=names.uuid7(now, random(10)),
        created=now,
        root=keys.root,
        epoch=epoch,
        devices=(entry,),
    )
    return sign_by_root(statement, root_seed).raw


@dataclass(frozen=True, slots=True)
class _Earlier:
    """The content of a device-set of version 0.1.0."""

    user_id: str
    label: str
    epoch: int


def _without_membership(device_set: bytes, keys: _Keys) -> _Earlier | None:
    """Decode a device-set of version 0.1.0 that these keys signed; None for any other."""
    with suppress(DispatchError):
        envelope = cose.parse(device_set)
        cose.verify(envelope, keys.root)
        match codec.decode(envelope.payload):
            case {1: "device-set", 3: str(user_id), 17: int(epoch), 18: [{1: _, 2: _, 3: str(label), **more}]} if (
                not more
            ):
                return _Earlier(user_id, label, epoch)
    return None


def _replace(folder: StateFolder, earlier: _Earlier, keys: _Keys) -> bytes:
    """Create and store the device-set that replaces an earlier one, and return it."""
    with _alone(folder):
        kept = read_private(folder.path / DEVICE_SET)
        if _without_membership(kept, keys) is None:
            return kept  # another process has replaced it already
        root_seed, _ = _root_seed(folder.root_key, os.urandom, keychains.os_keychain())
        now = time.time_ns() // 1_000_000
        made = _device_set(earlier.user_id, earlier.label, earlier.epoch + 1, keys, root_seed, now, os.urandom)
        folder.write_private(folder.path / DEVICE_SET, made)
        return made


def commit(folder: StateFolder, identity: Identity) -> None:
    """Make a prepared identity this folder's. Raises Conflict if the folder has another one."""
    path = folder.path / DEVICE_SET
    with _alone(folder):
        if not _write_new(path, identity.device_set) and read_private(path) != identity.device_set:
            raise Conflict(f"{folder.path} now holds another identity", fix="run `dispatch login` again")
        (folder.path / OFFERED).unlink(missing_ok=True)


def create(
    folder: StateFolder,
    email: str,
    label: str,
    clock: Callable[[], int],
    random: Callable[[int], bytes],
    *,
    keychain: Keychain | None = None,
) -> Identity:
    """`prepare` and `commit` in one."""
    identity = prepare(folder, email, label, clock, random, keychain=keychain)
    commit(folder, identity)
    return identity


@dataclass(frozen=True, slots=True)
class _Keys:
    """The private keys, the public root key, and where the private root key is stored."""

    seed: bytes
    sealing_key: bytes
    root: bytes
    root_stored: Literal["keychain", "file"]

    @property
    def device(self) -> str:
        return names.peer_id_text(names.peer_id_of(_public(self.seed)))

    @property
    def sealing_public(self) -> bytes:
        return bytes(PrivateKey(self.sealing_key).public_key)


def _assemble(folder: StateFolder, device_set: bytes, keys: _Keys) -> Identity:
    statement, signed = open_as(DeviceSet, device_set)
    mine = [entry for entry in statement.devices if entry.device == keys.device]
    if statement.root != keys.root or not mine or mine[0].sealing_key != keys.sealing_public:
        raise Invalid(
            f"the keys in {folder.path} do not belong to its device-set",
            fix="put back the files that belong together: device.key, root.key, device-set",
        )
    return Identity(
        user_id=statement.issuer_user,
        device=keys.device,
        name=mine[0].name,
        seed=keys.seed,
        sealing_key=keys.sealing_key,
        root=keys.root,
        epoch=statement.epoch,
        device_set=signed.raw,
        root_stored=keys.root_stored,
    )


def _root_seed(
    path: Path, random: Callable[[int], bytes], keychain: Keychain | None
) -> tuple[bytes, Literal["keychain", "file"]]:
    """Return the root seed from `path`, or from the keychain if `path` refers to it; create it if there is none."""
    try:
        kept = read_private(path)
    except NotFound:
        seed = random(32)
        stored = keychain is not None and keychains.store(keychain, _public(seed).hex(), seed.hex())
        kept = b"keychain " + _public(seed).hex().encode() + b"\n" if stored else seed
        if not _write_new(path, kept):
            raise Conflict(
                "another sign-in is making this device's identity", fix="run `dispatch login` again"
            ) from None
    if len(kept) == 32:
        return kept, "file"
    root, _ = _root_public(path, kept)
    found = keychain and keychains.read(keychain, root.hex())
    if not found or not re.fullmatch(r"[0-9a-f]{64}", found) or _public(bytes.fromhex(found)) != root:
        raise Unavailable("the OS keychain did not return the root key", fix="unlock it, then `dispatch login` again")
    return bytes.fromhex(found), "keychain"


def _root_public(path: Path, kept: bytes) -> tuple[bytes, Literal["keychain", "file"]]:
    if len(kept) == 32:
        return _public(kept), "file"
    match = _IN_KEYCHAIN.fullmatch(kept)
    if match is None:
        raise Invalid(f"{path} is damaged", fix="put it back from a backup")
    return bytes.fromhex(match[1].decode()), "keychain"


def _device_keys(path: Path, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    try:
        return _split(path, read_private(path))
    except NotFound:
        keys = random(32) + random(32)
        if not _write_new(path, keys):
            raise Conflict(
                "another sign-in is making this device's identity", fix="run `dispatch login` again"
            ) from None
        return _split(path, keys)


def _split(path: Path, kept: bytes) -> tuple[bytes, bytes]:
    if len(kept) != 64:
        raise Invalid(f"{path} is damaged: it has {len(kept)} bytes, not 64", fix="put it back from a backup")
    return kept[:32], kept[32:]


def _public(seed: bytes) -> bytes:
    return bytes(SigningKey(seed).verify_key)


@contextmanager
def _alone(folder: StateFolder) -> Iterator[None]:
    """Exclude every other sign-in from the folder, in this process or another; a crash releases the lock."""
    try:
        descriptor = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Unavailable(f"can't use {folder.path}: {error.strerror}", fix="check the state folder") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_new(path: Path, data: bytes) -> bool:
    """Create `path` with `data` atomically and durably, 0600; False if it exists. Raises Unavailable (disk full)."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)  # left by a crash: no other process writes here (see _alone)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # link, not rename: it fails if the name exists, so a key is never replaced.
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        return False
    except PermissionError as error:
        raise Forbidden(f"can't write {path}: {error.strerror}", fix="check who owns the state folder") from error
    except OSError as error:
        raise Unavailable(f"can't write {path}: {error.strerror}", fix="free some space, then try again") from error
    return True
