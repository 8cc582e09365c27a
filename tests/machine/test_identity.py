"""This device's keys on disk: made once, never replaced, private, and completed after a crash at any step."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from nacl.public import PrivateKey, SealedBox
from nacl.signing import SigningKey

from peer.machine import identity, keychains
from peer.machine.identity import Identity
from peer.machine.state_folder import StateFolder
from peer.protocol import codec, cose, names
from peer.protocol.errors import Conflict, DispatchError, Forbidden, Invalid, NotSignedIn, Unavailable
from peer.protocol.signing import open_as
from peer.protocol.statements import DeviceSet, Membership
from tests.conftest import HANG

NOW = 1_800_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


def create(folder: StateFolder, email: str = "Alice@Example.org", label: str = "laptop", **more: Any) -> Identity:
    return identity.create(folder, email, label, lambda: NOW, os.urandom, **more)


class FakeKeychain:
    """A keychain in memory, that can lose what it was given or fail."""

    def __init__(self, *, fails: Exception | None = None, forgets: bool = False) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.fails = fails
        self.forgets = forgets

    def get_password(self, service: str, username: str, /) -> str | None:
        if self.fails:
            raise self.fails
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str, /) -> None:
        if self.fails:
            raise self.fails
        if not self.forgets:
            self.kept[service, username] = password

    def delete_password(self, service: str, username: str, /) -> None:
        del self.kept[service, username]


def test_made_and_loaded(folder: StateFolder) -> None:
    made = create(folder)
    assert identity.load(folder) == made
    assert (made.user_id, made.name, made.epoch, made.root_stored) == ("alice@example.org", "laptop", 1, "file")
    statement, _ = open_as(DeviceSet, made.device_set)
    assert (statement.root, statement.issuer_user, statement.created) == (made.root, made.user_id, NOW)
    (device,) = statement.devices
    assert device.device == made.device and made.device.startswith("12D3Koo")
    # What is sealed to the published key opens with the kept one.
    sealed = SealedBox(PrivateKey(made.sealing_key).public_key).encrypt(b"x")
    assert bytes(PrivateKey(made.sealing_key).public_key) == device.sealing_key
    assert SealedBox(PrivateKey(made.sealing_key)).decrypt(sealed) == b"x"


def test_only_its_owner_can_read_it_and_it_is_not_printed(folder: StateFolder) -> None:
    made = create(folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.path.iterdir()}
    assert modes == {"device.key": 0o600, "root.key": 0o600, "device-set": 0o600}
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert repr(made.seed) not in repr(made) and repr(made.sealing_key) not in repr(made)
    assert len({made.seed, made.sealing_key, folder.root_key.read_bytes()}) == 3


def test_there_is_none_at_first(folder: StateFolder) -> None:
    with pytest.raises(NotSignedIn) as none:
        identity.load(folder)
    assert "dispatch login" in none.value.fix and not identity.exists(folder)
    assert not folder.path.exists()


def test_never_replaced(folder: StateFolder) -> None:
    made = create(folder)
    for email in ("alice@example.org", "bob@example.org"):
        with pytest.raises(Conflict):
            create(folder, email)
        with pytest.raises(Conflict):
            identity.prepare(folder, email, "x", lambda: NOW, os.urandom)
    assert identity.load(folder) == made


@pytest.mark.parametrize(
    ("email", "label"), [("no address", "x"), ("a@b.c", ""), ("a@b.c", "x" * 65), ("a@b.c", "a\nb")]
)
def test_bad_words_make_nothing(folder: StateFolder, email: str, label: str) -> None:
    with pytest.raises(Invalid):
        create(folder, email, label)
    assert not folder.path.exists()


@pytest.mark.parametrize("name", ["device.key", "root.key", "device-set"])
def test_what_others_can_read_is_not_used(folder: StateFolder, name: str) -> None:
    create(folder)
    (folder.path / name).chmod(0o640)
    with pytest.raises(Forbidden) as refused:
        identity.load(folder)
    assert name in refused.value.message and "doctor --fix" in refused.value.fix


@pytest.mark.parametrize("name", ["device.key", "root.key", "device-set"])
def test_a_link_is_not_followed(folder: StateFolder, tmp_path: Path, name: str) -> None:
    create(folder)
    moved = (folder.path / name).rename(tmp_path / name)
    (folder.path / name).symlink_to(moved)
    with pytest.raises(Forbidden):
        identity.load(folder)


@pytest.mark.parametrize("name", ["device.key", "root.key"])
def test_a_missing_key_beside_a_device_set_is_said_and_not_made_again(folder: StateFolder, name: str) -> None:
    create(folder)
    (folder.path / name).unlink()
    with pytest.raises(Invalid, match="incomplete") as refused:
        identity.load(folder)
    assert "backup" in refused.value.fix
    with pytest.raises(Conflict):
        create(folder)
    assert not (folder.path / name).exists()


@pytest.mark.parametrize("name", ["device.key", "root.key", "device-set"])
@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 32, b"\0" * 64, b"keychain x\n"])
def test_damaged_files_are_refused(folder: StateFolder, name: str, content: bytes) -> None:
    create(folder)
    (folder.path / name).write_bytes(content)
    with pytest.raises(DispatchError) as refused:
        identity.load(folder)
    assert refused.value.code in (413, 422) and refused.value.fix


def test_files_of_two_identities_do_not_mix(folder: StateFolder, tmp_path: Path) -> None:
    create(folder)
    other = StateFolder(tmp_path / "other")
    create(other)
    for name in ("device.key", "root.key", "device-set"):
        kept = (folder.path / name).read_bytes()
        (folder.path / name).write_bytes((other.path / name).read_bytes())
        with pytest.raises(Invalid, match="do not belong"):
            identity.load(folder)
        (folder.path / name).write_bytes(kept)


class Stopped(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(14))
def test_stopped_anywhere_it_is_completed_with_the_same_keys(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whatever was on disk when it stopped is what the next try uses; nothing is ever half a file."""
    calls = 0

    def stopping(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            if calls == step:
                raise Stopped
            calls += 1
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("open", "fsync", "link"):
            patch.setattr(os, name, stopping(getattr(os, name)))
        try:
            create(folder)
        except Stopped:
            pass
        else:
            assert calls <= step
    found = {path.name: path.read_bytes() for path in folder.path.iterdir()} if folder.path.exists() else {}
    if "device-set" in found:
        assert identity.load(folder).device_set == found["device-set"]
        return
    made = create(folder)
    assert identity.load(folder) == made
    for name in ("root.key", "device.key"):
        if name in found:
            assert (folder.path / name).read_bytes() == found[name]
    if "device-set.offered" in found:  # a broker may have taken it already
        assert made.device_set == found["device-set.offered"]
    assert {path.name for path in folder.path.iterdir()} <= {"root.key", "device.key", "device-set"}


def test_an_offer_is_kept_for_the_same_words_and_made_anew_for_others(folder: StateFolder) -> None:
    def prepare(email: str, label: str = "laptop") -> Identity:
        return identity.prepare(folder, email, label, lambda: NOW, os.urandom)

    mistyped = prepare("alcie@example.org")
    assert not identity.exists(folder)
    first, second = prepare("alice@example.org"), prepare("alice@example.org")
    assert first == second and first.device == mistyped.device and first.root == mistyped.root
    assert prepare("alice@example.org", "desk").name == "desk"
    identity.commit(folder, first)
    identity.commit(folder, first)  # again: done already
    with pytest.raises(Conflict):
        identity.commit(folder, mistyped)
    assert identity.load(folder) == first


def test_two_at_once_make_one(folder: StateFolder) -> None:
    outcomes: list[Identity | DispatchError] = []
    barrier = threading.Barrier(6)

    def run() -> None:
        barrier.wait()
        try:
            outcomes.append(create(folder))
        except DispatchError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [outcome for outcome in outcomes if isinstance(outcome, Identity)]
    assert all(isinstance(outcome, Conflict) for outcome in outcomes if not isinstance(outcome, Identity)), outcomes
    # Two that asked for the same words at the same moment may both have got it: it is one identity.
    assert made and set(made) == {identity.load(folder)}


def test_a_full_disk_leaves_no_half_file(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="No space left") as refused:
            create(folder)
    assert refused.value.fix and list(folder.path.iterdir()) == []
    create(folder)


def test_the_root_key_goes_into_a_keychain_that_takes_it(folder: StateFolder) -> None:
    kept = FakeKeychain()
    made = create(folder, keychain=kept)
    assert made.root_stored == "keychain" and identity.load(folder) == made
    (((service, account), secret),) = kept.kept.items()
    assert (service, account) == ("dispatch-courier", made.root.hex())
    assert bytes.fromhex(secret) not in folder.root_key.read_bytes() and secret not in folder.root_key.read_text()


@pytest.mark.parametrize("failing", [FakeKeychain(fails=RuntimeError("locked")), FakeKeychain(forgets=True)])
def test_a_keychain_that_does_not_take_it_means_a_file(folder: StateFolder, failing: FakeKeychain) -> None:
    assert create(folder, keychain=failing).root_stored == "file"
    assert len(folder.root_key.read_bytes()) == 32


def test_completing_with_a_key_in_the_keychain_needs_the_keychain(folder: StateFolder) -> None:
    kept = FakeKeychain()
    prepared = identity.prepare(folder, "a@b.c", "x", lambda: NOW, os.urandom, keychain=kept)
    (folder.path / "device-set.offered").unlink()
    for other in (None, FakeKeychain()):
        with pytest.raises(Unavailable, match="keychain"):
            create(folder, keychain=other)
    assert create(folder, keychain=kept).root == prepared.root


def test_no_keychain_is_tried_without_a_session_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)  # importing it now would fail
    assert keychains.os_keychain({}) is None


@pytest.mark.parametrize("error", [FileNotFoundError("no bus"), ModuleNotFoundError("no.such")])
def test_a_keychain_that_cannot_even_be_found_fails_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Seen to fail with what a backend raises passed on: it ended the node."""
    import keyring

    def fails() -> None:
        raise error

    monkeypatch.setattr(keyring, "get_keyring", fails)
    with pytest.raises(Unavailable, match=type(error).__name__) as refused:
        keychains.os_keychain({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"})
    assert "PYTHON_KEYRING_BACKEND" in refused.value.fix


def test_a_keychain_that_never_answers_is_given_up(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keychains, "SECONDS", 0.05)
    release = threading.Event()

    class Silent(FakeKeychain):
        def set_password(self, service: str, username: str, password: str, /) -> None:
            release.wait(HANG)

    try:
        assert create(folder, keychain=Silent()).root_stored == "file"
    finally:
        release.set()


def test_the_device_is_named_by_its_key(folder: StateFolder) -> None:
    made = create(folder)
    assert names.peer_id_bytes(made.device)[-32:] != made.root


# -- device-sets of version 0.1.0 ---------------------------------------------------------------------------------


def make_older(folder: StateFolder, keychain: FakeKeychain | None = None, epoch: int = 3) -> tuple[Identity, bytes]:
    """Give a folder the device-set that version 0.1.0 would have made; return the identity as it was, and the set."""
    made = create(folder, keychain=keychain)
    envelope = cose.parse(made.device_set)
    content: Any = codec.decode(envelope.payload)
    content[17] = epoch
    content[18] = [{key: value for key, value in entry.items() if key != 4} for entry in content[18]]
    seed = folder.root_key.read_bytes() if keychain is None else bytes.fromhex(next(iter(keychain.kept.values())))
    older = cose.sign(codec.encode(content), key=SigningKey(seed), kid=envelope.kid, typ=envelope.typ)
    (folder.path / "device-set").write_bytes(older)
    return made, older


def test_a_device_set_without_memberships_is_made_anew_with_the_same_keys(folder: StateFolder) -> None:
    """Seen to fail without it: the identity could not be loaded."""
    was, older = make_older(folder)
    with pytest.raises(DispatchError):
        open_as(DeviceSet, older)
    found = identity.load(folder)
    assert (found.user_id, found.device, found.name, found.root) == (was.user_id, was.device, was.name, was.root)
    statement, _ = open_as(DeviceSet, found.device_set)
    assert (statement.epoch, found.epoch) == (4, 4), "above what a broker may have of it"
    membership, _ = open_as(Membership, statement.devices[0].membership)
    assert (membership.issuer_device, membership.root, membership.standing) == (was.device, was.root, "member")
    assert identity.load(folder) == found, "once"


def test_an_older_device_set_of_other_keys_is_not_made_anew(folder: StateFolder, tmp_path: Path) -> None:
    make_older(folder)
    _, foreign = make_older(StateFolder(tmp_path / "other"))
    (folder.path / "device-set").write_bytes(foreign)
    with pytest.raises(Invalid):
        identity.load(folder)
    assert (folder.path / "device-set").read_bytes() == foreign


def test_making_it_anew_needs_the_keychain_that_has_the_root(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = FakeKeychain()
    _, older = make_older(folder, kept)
    monkeypatch.setattr(keychains, "os_keychain", lambda: None)
    with pytest.raises(Unavailable, match="keychain"):
        identity.load(folder)
    assert (folder.path / "device-set").read_bytes() == older
    monkeypatch.setattr(keychains, "os_keychain", lambda: kept)
    assert identity.load(folder).epoch == 4
