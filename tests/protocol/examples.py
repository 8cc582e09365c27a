"""Fixed people and one full and one bare example of every statement type; the source of vectors.json. No tests here.

`python -m tests.protocol.examples` prints vectors.json. What is in it may only grow; vectors_v1.json never changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nacl.public import PrivateKey

from peer.protocol import brokers, cose, names, signing
from peer.protocol import statements as s
from peer.protocol.content import FIELDS as content_fields
from peer.protocol.content import Content
from peer.protocol.signing import Signed
from peer.protocol.statements import Device, FileRef, Statement


@dataclass(frozen=True)
class Person:
    """Someone with a root key and one device; all keys follow from the name."""

    name: str

    def _seed(self, purpose: str) -> bytes:
        return hashlib.sha256(f"test vector, {purpose} of {self.name}".encode()).digest()

    @property
    def user(self) -> str:
        return f"{self.name}@example.org"

    @property
    def device_seed(self) -> bytes:
        return self._seed("device")

    @property
    def root_seed(self) -> bytes:
        return self._seed("root")

    @property
    def root(self) -> bytes:
        return cose.public_key(self.root_seed)

    @property
    def device(self) -> str:
        return names.peer_id_text(names.peer_id_of(cose.public_key(self.device_seed)))

    @property
    def sealing_key(self) -> bytes:
        return a_digest(f"sealing {self.name}")

    def membership(self, user: str = "", root: bytes = b"", **changes: Any) -> bytes:
        """This device's signed membership, of its own user or of another."""
        statement = s.Membership(
            issuer_user=user or self.user,
            issuer_device=self.device,
            id=an_id(20),
            created=CREATED,
            root=root or self.root,
            counter=CREATED,
            sealing_key=self.sealing_key,
            standing="member",
        )
        return self.sign(dataclasses.replace(statement, **changes)).raw

    def entry(self, user: str = "", root: bytes = b"", **changes: Any) -> Device:
        """This device as a device-set lists it."""
        membership = self.membership(user, root, **changes)
        return Device(self.device, self.sealing_key, f"{self.name}'s desk", membership)

    def sign(self, statement: Statement) -> Signed:
        if isinstance(statement, s.DeviceSet):
            return signing.sign_by_root(statement, self.root_seed)
        assert isinstance(statement, s.DeviceStatement)
        return signing.sign_by_device(statement, self.device_seed)


ALICE, BOB, MALLORY = Person("alice"), Person("bob"), Person("mallory")

CREATED = 1_800_000_000_000
"""2027-01-15T08:00:00Z in milliseconds."""


def an_id(number: int) -> str:
    """A fixed UUIDv7."""
    return names.uuid7(CREATED + number, hashlib.sha256(str(number).encode()).digest()[:10])


def a_digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def listed(who: Any, *, user: str = "", root: bytes = b"", counter: int = CREATED, **changes: Any) -> Device:
    """The device of an identity as a device-set lists it, of its own user or of another."""
    sealing_key = bytes(PrivateKey(who.sealing_key).public_key)
    statement = s.Membership(
        issuer_user=user or who.user_id,
        issuer_device=who.device,
        id=an_id(counter % 1000),
        created=CREATED,
        root=root or who.root,
        counter=counter,
        sealing_key=sealing_key,
        standing="member",
    )
    signed = signing.sign_by_device(dataclasses.replace(statement, **changes), who.seed)
    return Device(who.device, sealing_key, who.name, signed.raw)


def _letter(sender: Person, recipient: Person, number: int) -> dict[str, Any]:
    return {
        "issuer_user": sender.user,
        "issuer_device": sender.device,
        "audience_user": recipient.user,
        "audience_device": recipient.device,
        "id": an_id(number),
        "created": CREATED + number,
    }


def _device_set(person: Person, number: int) -> s.DeviceSet:
    return s.DeviceSet(
        issuer_user=person.user,
        id=an_id(number),
        created=CREATED,
        root=person.root,
        epoch=1,
        devices=(person.entry(),),
    )


def full_examples() -> dict[str, tuple[Person, Statement]]:
    """Type name → who signs it and a statement with every field set."""
    sets = {person: person.sign(_device_set(person, 1)).raw for person in (ALICE, BOB)}
    files = (FileRef("parser.py", 1234, a_digest("parser")), FileRef("ünï côdé.txt", 5, a_digest("text")))
    to_bob, to_alice = (ALICE, BOB), (BOB, ALICE)
    statements: list[tuple[Person, Statement]] = [
        (ALICE, _device_set(ALICE, 1)),
        (
            ALICE,
            s.Membership(
                issuer_user=ALICE.user,
                issuer_device=ALICE.device,
                id=an_id(14),
                created=CREATED + 14,
                root=ALICE.root,
                counter=CREATED + 14,
                sealing_key=ALICE.sealing_key,
                standing="left",
            ),
        ),
        (
            BOB,
            s.Hello(
                issuer_user=BOB.user,
                issuer_device=BOB.device,
                id=an_id(15),
                created=CREATED + 15,
                counter=CREATED + 15,
                features=("a-feature", "another"),
                versions={"dispatch": 1, "result": 2},
                brokers=(brokers.mark(BOB.device, "https://broker.example"),),
            ),
        ),
        (
            ALICE,
            s.Invitation(
                issuer_user=ALICE.user,
                issuer_device=ALICE.device,
                audience_user=BOB.user,
                id=an_id(2),
                created=CREATED + 2,
                expires=CREATED + 7 * 86_400_000,
                device_set=sets[ALICE],
            ),
        ),
        (
            BOB,
            s.Acceptance(
                **_letter(*to_alice, 3),
                invitation_id=an_id(2),
                invitation_digest=a_digest("invitation"),
                edge_id=an_id(30),
                scope='{"tools":["Read"]}',
                device_set=sets[BOB],
                read_version=1,
                proof=a_digest("proof"),
                unread=((200,),),
            ),
        ),
        (
            BOB,
            s.Decline(**_letter(*to_alice, 4), invitation_id=an_id(2), invitation_digest=a_digest("invitation")),
        ),
        (
            ALICE,
            s.Confirmation(
                **_letter(*to_bob, 5),
                edge_id=an_id(30),
                acceptance_digest=a_digest("acceptance"),
                device_set=sets[ALICE],
            ),
        ),
        (
            ALICE,
            s.Dispatch(
                **_letter(*to_bob, 6),
                edge_id=an_id(30),
                expires=CREATED + 3_600_000,
                content=Content(
                    task="Find out why the parser drops the last line, and fix it.\n\t— 直して 🙏",
                    files=files,
                    project="parser",
                    links=("https://example.org/issue/7", "https://example.org/issue/8"),
                    deliverable="a patch",
                    background="It worked last week.",
                    meta={"ticket": "7", "a longer key": "a value", "b": ""},
                    parent=an_id(60),
                ),
            ),
        ),
        (
            BOB,
            s.Decision(
                **_letter(*to_alice, 7),
                dispatch_id=an_id(6),
                dispatch_digest=a_digest("dispatch"),
                attempt=1,
                decision="declined",
                read_version=1,
                expires=CREATED + 3_700_000,
                reason="not today",
                unread=((41, 130), (200,)),
            ),
        ),
        (
            BOB,
            s.Events(
                **_letter(*to_alice, 8),
                dispatch_id=an_id(6),
                attempt=1,
                sequence=2,
                previous=a_digest("batch 1"),
                events=('{"kind":"reasoning","text":"…"}', '{"kind":"status","status":"running"}'),
            ),
        ),
        (
            BOB,
            s.Result(
                **_letter(*to_alice, 9),
                dispatch_id=an_id(6),
                dispatch_digest=a_digest("dispatch"),
                attempt=1,
                status="failed",
                head=a_digest("batch 2"),
                count=2,
                reply="Fixed; the loop stopped one early.",
                files=files,
                usage={"turns": 3, "input_tokens": 1000, "seconds": 12},
                scope='{"tools":["Read"]}',
                sandbox='{"tier":"full"}',
                reason="five denials in a row",
                code=403,
            ),
        ),
        (
            BOB,
            s.LandingReport(
                **_letter(*to_alice, 16),
                dispatch_id=an_id(6),
                dispatch_digest=a_digest("dispatch"),
                attempt=1,
                counter=CREATED + 16,
                landed="part",
                change_set=a_digest("changes"),
                in_place=3,
                in_all=5,
            ),
        ),
        (ALICE, s.Cancel(**_letter(*to_bob, 10), dispatch_id=an_id(6), reason="found it myself")),
        (
            BOB,
            s.EdgeChange(
                **_letter(*to_alice, 11), edge_id=an_id(30), edge_status="paused", scope='{"tools":["Read","Grep"]}'
            ),
        ),
        (BOB, s.Revocation(**_letter(*to_alice, 12), edge_id=an_id(30))),
        (
            ALICE,
            s.BrokerRequest(
                issuer_user=ALICE.user,
                issuer_device=ALICE.device,
                id=an_id(13),
                created=CREATED + 13,
                origin="https://broker.example.org",
                action="presence.put",
                arguments=b"\xa1\x01\x02",
            ),
        ),
    ]
    return {statement.type_name: (signer, statement) for signer, statement in statements}


def made(kind: type[Statement], values: Mapping[str, Any]) -> Any:
    """A statement of these fields, named as in FIELDS: those of a content by their own names."""
    if kind is not s.Dispatch:
        return kind(**values)
    content = {name: value for name, value in values.items() if name in content_fields}
    rest = {name: value for name, value in values.items() if name not in content_fields}
    return s.Dispatch(**rest, content=Content(**content))


def altered(statement: Statement, **changes: Any) -> Any:
    """The same statement with other values of some fields."""
    return made(type(statement), s.values_of(statement) | changes)


def bare(statement: Statement) -> Statement:
    """The same statement with every optional field at its default."""
    values = s.values_of(statement)
    kept = {part.name: values[part.name] for part in s.parts_of(type(statement)) if part.required}
    return made(type(statement), kept)


def all_examples() -> dict[str, tuple[Person, Statement]]:
    """The full examples by type name, and as `NAME bare` those that can leave something out."""
    examples = full_examples()
    for name, (signer, statement) in list(examples.items()):
        if not all(part.required for part in s.parts_of(type(statement))):
            examples[f"{name} bare"] = (signer, bare(statement))
    return examples


def to_json(value: Any) -> Any:
    """A statement or a part of it as JSON: bytes in hex, tuples as lists."""
    match value:
        case bytes():
            return value.hex()
        case tuple():
            return [to_json(item) for item in value]
        case dict() | str() | int():
            return value
        case Statement():
            return {name: to_json(inner) for name, inner in s.values_of(value).items()}
        case _:
            return {spec.name: to_json(getattr(value, spec.name)) for spec in dataclasses.fields(value)}


def from_json(kind: Any, value: Any) -> Any:
    """Back from `to_json`, by the annotations of the dataclass."""
    if isinstance(value, list) and isinstance(kind, str):  # an alias inside an annotation
        kind = typing.get_type_hints(s.Decision)["unread"]
    if kind is bytes:
        return bytes.fromhex(value)
    if typing.get_origin(kind) is tuple:
        return tuple(from_json(typing.get_args(kind)[0], item) for item in value)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        hints = typing.get_type_hints(kind) | (typing.get_type_hints(Content) if kind is s.Dispatch else {})
        hints["files"] = tuple[FileRef, ...]
        values = {name: from_json(hints[name], item) for name, item in value.items()}
        return made(kind, values) if issubclass(kind, Statement) else kind(**values)
    return value


def vectors() -> list[dict[str, Any]]:
    """What vectors.json must hold."""
    rows = []
    for name, (signer, statement) in all_examples().items():
        signed = signer.sign(statement)
        rows.append(
            {
                "name": name,
                "type": statement.type_name,
                "seed": (signer.root_seed if isinstance(statement, s.DeviceSet) else signer.device_seed).hex(),
                "statement": to_json(statement),
                "payload": signing.encode_payload(statement).hex(),
                "cose": signed.raw.hex(),
                "digest": signed.digest.hex(),
            }
        )
    return rows


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1, ensure_ascii=False))
