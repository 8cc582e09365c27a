"""Simulated devices with real keys at a broker that is killed meanwhile, and the account of what each was told.

A request whose outcome is not known (the connection was lost, 503) is asked again: the very same signed statement, or
the same arguments in a new one, as the daemon does.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Literal, TypeVar

import httpx
import trio
from nacl.public import PrivateKey

from peer.broker.client import BrokerClient, BrokerInvitation, LoginPrompt, LoginToken
from peer.broker.transport import BrokerTransport
from peer.protocol import cose, names
from peer.protocol.documents import Document
from peer.protocol.errors import (
    Conflict,
    DispatchError,
    Forbidden,
    Gone,
    NotFound,
    RateLimited,
    Unavailable,
)
from peer.protocol.signing import open_as, sign_by_device, sign_by_root
from peer.protocol.statements import Device as Listed
from peer.protocol.statements import DeviceSet, Invitation, Membership
from tests.conftest import HANG

T = TypeVar("T")

PAUSE: Final = (1.0, 4.0)
"""Seconds between two things that one device does, beside waiting."""
AGAIN: Final = (0.5, 2.5)
"""Seconds before a request is asked again."""
WAIT: Final = 10
"""Seconds that a reader waits: short enough that a broker often lives as long."""
UNTOLD: Final = 7.0
"""Seconds between a change and the end of a wait that began before it and took all its time: nobody told that reader. A
broker that lost its server looks for it every five seconds, at most, and then wakes everybody."""
SAME_STATEMENT: Final = 60.0
"""Seconds for which the same statement is asked again: brokers take it for five minutes."""
MOST_OPEN: Final = 30
LIFE_MS: Final = 3_600_000
PENDING: Final = "pending"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Change:
    """An acknowledged change of an invitation: its status then, and when (trio's clock) its author was told."""

    token: str
    status: str
    users: tuple[str, str]
    at: float


@dataclass
class Ledger:
    """What the broker acknowledged to anybody. `wrong`: what must not have happened."""

    wrong: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)
    posted: dict[str, tuple[str, str]] = field(default_factory=dict)
    answers: defaultdict[str, set[tuple[str, bytes]]] = field(default_factory=lambda: defaultdict(set))
    withdrawn: set[str] = field(default_factory=set)
    attempted: dict[str, int] = field(default_factory=dict)
    announced: dict[str, tuple[int, bool]] = field(default_factory=dict)
    """By device, the newest sequence that was acknowledged, and whether it was no withdrawal."""
    leaving: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    """Devices that their user is about to take out of the device-set, and that are out of it."""

    def changed(self, token: str, status: str, users: tuple[str, str]) -> None:
        self.changes.append(Change(token, status, users, trio.current_time()))


@dataclass
class User:
    """A person with a root key and one or two devices."""

    user_id: str
    root_seed: bytes
    device_set: bytes = b""
    devices: list[Device] = field(default_factory=list)

    def sign_set(self, epoch: int, devices: list[Device]) -> bytes:
        """Return the device-set of these devices."""
        now = now_ms()
        statement = DeviceSet(
            issuer_user=self.user_id,
            id=names.uuid7(now, os.urandom(10)),
            created=now,
            root=cose.public_key(self.root_seed),
            epoch=epoch,
            devices=tuple(each.listed for each in devices),
        )
        return sign_by_root(statement, self.root_seed).raw


class Device:
    """One device of a user, which signs what it writes. An `Author` of the broker's client."""

    def __init__(self, url: str, user: User, ledger: Ledger, chance: random.Random) -> None:
        self.user, self.url, self._ledger, self._chance = user, url, ledger, chance
        self.seed = os.urandom(32)
        self.device = names.peer_id_text(names.peer_id_of(cose.public_key(self.seed)))
        now, sealing_key = now_ms(), bytes(PrivateKey.generate().public_key)
        membership = Membership(
            issuer_user=user.user_id,
            issuer_device=self.device,
            id=names.uuid7(now, os.urandom(10)),
            created=now,
            root=cose.public_key(user.root_seed),
            counter=now,
            sealing_key=sealing_key,
            standing="member",
        )
        self.listed = Listed(self.device, sealing_key, "laptop", sign_by_device(membership, self.seed).raw)
        self.client = BrokerClient(url, author=self)
        self._writes = BrokerTransport(
            url, author=self, token="", proxy="", on_token=None, clock=now_ms, random=os.urandom
        )
        self.known: dict[str, BrokerInvitation] = {}
        self.learned: dict[tuple[str, str], tuple[float, float]] = {}
        """By token and status, when the read began and ended that told of it."""
        self.version = 0
        self.gone = False

    @property
    def user_id(self) -> str:
        return self.user.user_id

    async def __aenter__(self) -> Device:
        await self.client.__aenter__()
        await self._writes.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.__aexit__()
        await self._writes.close()

    # -- asking

    async def _pause(self) -> None:
        await trio.sleep(self._chance.uniform(*AGAIN))

    async def _certain(self, method: str, path: str, action: str, arguments: Mapping[str, object]) -> Document | None:
        """Ask until the outcome is known. None: it was taken when it was asked before, and its answer was lost.

        A refusal is raised. One that says that it was done already, where nobody asked before, is wrong.
        """
        body, signed, before = None, 0.0, False
        while True:
            if body is None or trio.current_time() - signed > SAME_STATEMENT:
                body, signed = self._writes.signed(action, arguments), trio.current_time()
            try:
                return (await self._writes.send(method, path, body, action=action)).document() or {}
            except (Unavailable, RateLimited):
                self._ledger.done["asked again"] += 1
            except Conflict as error:
                if before and ("used once" in error.message or "newer announcement" in error.message):
                    return None
                raise
            before = True
            await self._pause()
            if self._chance.random() < 0.5:
                body = None

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except (Unavailable, RateLimited):
                await self._pause()

    # -- signing in

    async def sign_in(self, device_set: bytes) -> None:
        """Sign in as a person would, from the beginning if the token is lost on the way."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as browser:
            while True:
                prompt = await self._until_answered(partial(self.client.login_device, device_set))
                await self._approve(browser, prompt)
                with suppress(Gone):
                    while not isinstance(
                        await self._until_answered(partial(self.client.login_token, prompt.device_code)), LoginToken
                    ):
                        await trio.sleep(prompt.interval)
                    self._ledger.done["signed in"] += 1
                    return
                self._ledger.done["tokens lost on their way"] += 1

    async def _approve(self, browser: httpx.AsyncClient, prompt: LoginPrompt) -> None:
        asked = False
        while True:
            try:
                answer = await browser.post(f"{self.url}/login", data={"user_code": prompt.user_code})
            except httpx.TransportError:
                asked = True
            else:
                if answer.status_code == 200 or (asked and answer.status_code == 409):
                    return
                if answer.status_code not in (429, 503):
                    self._ledger.wrong.append(f"{self.user_id}: {answer.status_code} for the page of a sign-in")
                asked = True
            await self._pause()

    # -- what a device does

    async def announce(self, *, present: bool = True) -> None:
        """Announce this device, or withdraw its announcement."""
        ledger = self._ledger
        seq = max(now_ms(), ledger.attempted.get(self.device, 0) + 1)
        ledger.attempted[self.device] = seq
        if present:
            arguments = {"seq": seq, "expires": now_ms() + LIFE_MS, "box": f"{self.device} {seq}".encode()}
            await self._certain("PUT", "/v1/presence", "presence.put", arguments)
        else:
            await self._certain("DELETE", "/v1/presence", "presence.withdraw", {"seq": seq})
        ledger.announced[self.device] = seq, present
        ledger.done["announced" if present else "withdrew its presence"] += 1

    async def look_up(self, other: User) -> None:
        """Look another user up, and compare what comes with what was acknowledged before the question."""
        ledger = self._ledger
        removed, before = (
            set(ledger.removed),
            {each.device: ledger.announced.get(each.device) for each in other.devices},
        )
        with suppress(Unavailable, RateLimited):
            found = {row.device: row for row in await self.client.get_presence(other.user_id)}
            ledger.done["looked up"] += 1
            for device, row in found.items():
                if device in removed:
                    ledger.wrong.append(f"{device} is shown, which is no device of {other.user_id} any more")
                if row.box != f"{device} {row.seq}".encode():
                    ledger.wrong.append(f"{device}: the box of sequence {row.seq} is another's")
            for device, newest in before.items():
                if newest is not None and device not in ledger.leaving:
                    self._compare(device, newest, found[device].seq if device in found else None)

    def _compare(self, device: str, newest: tuple[int, bool], found: int | None) -> None:
        seq, present = newest
        if found is None:
            if present and self._ledger.attempted[device] == seq:
                self._ledger.wrong.append(f"{device}: sequence {seq} was acknowledged, and nothing is shown")
        elif found < seq or (found == seq and not present):
            what = f"sequence {seq} was acknowledged" if present else f"it withdrew with sequence {seq}"
            self._ledger.wrong.append(f"{device}: {what}, and then {found} is shown")

    async def invite(self, other: User) -> None:
        """Invite another user, unless an invitation to them is open."""
        now = now_ms()
        invitation = Invitation(
            issuer_user=self.user_id,
            issuer_device=self.device,
            id=names.uuid7(now, os.urandom(10)),
            created=now,
            audience_user=other.user_id,
            expires=now + 24 * LIFE_MS,
            device_set=self.user.device_set,
        )
        raw = sign_by_device(invitation, self.seed).raw
        said = await self._certain("POST", "/v1/invitations", "invitations.post", {"invitation": raw})
        if said is None:  # it was taken: is it this one that is open, or an earlier one?
            try:
                await self._until_answered(partial(self.client.get_invitation, invitation.id))
            except NotFound:
                return
        elif said["token"] != invitation.id:
            return
        users = self.user_id, other.user_id
        self._ledger.posted[invitation.id] = users
        self._ledger.changed(invitation.id, PENDING, users)
        self._ledger.done["invited"] += 1

    async def answer(self, asked: BrokerInvitation, kind: Literal["accepted", "declined"]) -> None:
        """Answer an invitation that others of this user may be answering as well."""
        invitation, _ = open_as(Invitation, asked.statement)
        listed = open_as(DeviceSet, invitation.device_set)[0].devices
        box = f"{kind} {os.urandom(8).hex()}".encode()
        arguments = {"token": asked.token, "kind": kind, "sealed": {each.device: box for each in listed}}
        try:
            await self._certain("POST", f"/v1/invitations/{asked.token}/answer", "invitations.answer", arguments)
        except Gone:
            return  # withdrawn meanwhile
        except Conflict as error:
            if "already answered" not in error.message:
                raise
            self._ledger.done["answered by another"] += 1
            return
        ledger = self._ledger
        ledger.answers[asked.token].add((kind, box))
        if len(ledger.answers[asked.token]) > 1:
            ledger.wrong.append(f"invitation {asked.token}: two answers were acknowledged")
        ledger.changed(asked.token, kind, (asked.inviter, self.user_id))
        ledger.done["answered"] += 1

    async def withdraw(self, asked: BrokerInvitation) -> None:
        """Take an invitation back, unless it is answered meanwhile."""
        path = f"/v1/invitations/{asked.token}"
        try:
            await self._certain("DELETE", path, "invitations.withdraw", {"token": asked.token})
        except Conflict as error:
            if "already answered" not in error.message:
                raise
            return
        self._ledger.withdrawn.add(asked.token)
        self._ledger.changed(asked.token, "withdrawn", (self.user_id, asked.invitee))
        self._ledger.done["withdrew"] += 1

    async def take_out(self, other: Device) -> None:
        """Sign in with a device-set that has this device alone."""
        self._ledger.leaving.add(other.device)
        alone = self.user.sign_set(2, [self])
        await self.sign_in(alone)
        self.user.device_set = alone
        self._ledger.removed.add(other.device)
        self._ledger.done["devices taken out"] += 1

    async def live(self, others: list[User]) -> None:
        """Do one thing after the other until cancelled, or until this device is none of its user's any more."""
        try:
            while not self.gone:
                await trio.sleep(self._chance.uniform(*PAUSE))
                with trio.fail_after(HANG) as whole:
                    whole.shield = True  # what was begun is brought to its end
                    await self._one_thing(self._chance.choice(others))
        except (Forbidden, Conflict) as error:
            self._refused(error)

    def _refused(self, error: DispatchError) -> None:
        if self.device not in self._ledger.leaving:
            self._ledger.wrong.append(f"{self.user_id}: {error.message}")
        self.gone = True

    async def _one_thing(self, other: User) -> None:
        received = [each for each in self.known.values() if each.invitee == self.user_id and each.status == PENDING]
        sent = [each for each in self.known.values() if each.inviter == self.user_id and each.status == PENDING]
        draw = self._chance.random()
        if draw < 0.30:
            await self.announce(present=self._chance.random() < 0.8)
        elif draw < 0.60:
            await self.look_up(other)
        elif draw < 0.75:
            if other is not self.user and len(sent) < MOST_OPEN:
                await self.invite(other)
        elif draw < 0.90:
            if received:
                await self._answer_one(self._chance.choice(received))
        elif draw < 0.96:
            if sent:
                await self.withdraw(self._chance.choice(sent))
        elif draw < 0.98:
            await self.sign_in(self.user.device_set)
        else:
            first, *more = self.user.devices
            if self is first and more and more[0].device not in self._ledger.leaving:
                await self.take_out(more[0])

    async def _answer_one(self, asked: BrokerInvitation) -> None:
        if self._chance.random() < 0.5:
            await self.answer(asked, "accepted" if self._chance.random() < 0.5 else "declined")
            return
        other = self._chance.choice([each for each in self.user.devices if not each.gone])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer_beside, asked, "accepted")
            nursery.start_soon(other._answer_beside, asked, "declined")

    async def _answer_beside(self, asked: BrokerInvitation, kind: Literal["accepted", "declined"]) -> None:
        try:
            await self.answer(asked, kind)
        except Forbidden as error:
            self._refused(error)

    # -- reading

    async def listen(self) -> None:
        """Wait for changes until cancelled."""
        try:
            while True:
                await self._read(wait=WAIT)
        except Forbidden as error:
            self._refused(error)

    async def read_everything(self) -> dict[str, BrokerInvitation]:
        """Read what is left to hear of, and then all from the beginning; return the latter."""
        while await self._read(wait=0):
            pass
        found: dict[str, BrokerInvitation] = {}
        version, more = 0, True
        while more:
            page = await self._until_answered(partial(self.client.invitations, version=version))
            found |= {each.token: each for each in (*page.sent, *page.received)}
            version, more = page.version, page.more
        return found

    async def _read(self, *, wait: int) -> bool:
        """Read the next changes; whether there are more."""
        began = trio.current_time()
        try:
            page = await self.client.invitations(version=self.version, wait=wait)
        except (Unavailable, RateLimited):
            await self._pause()
            return True
        ended = trio.current_time()
        if page.version < self.version:
            self._ledger.wrong.append(f"{self.user_id}: version {page.version} after {self.version}")
        self.version = page.version
        for each in (*page.sent, *page.received):
            earlier = self.known.get(each.token)
            if earlier is not None and earlier.status not in (PENDING, each.status):
                self._ledger.wrong.append(f"invitation {each.token}: {earlier.status}, and then {each.status}")
            self.known[each.token] = each
            self.learned.setdefault((each.token, each.status), (began, ended))
        return page.more


def crowd(url: str, count: int, ledger: Ledger, chance: random.Random) -> list[User]:
    """Make users with `count` devices in all; of twelve users one has two."""
    users: list[User] = []
    left = count
    while left:
        number = len(users)
        user = User(f"user{number}@example.org", os.urandom(32))
        mine = min(left, 2 if number % 12 == 0 else 1)
        user.devices = [Device(url, user, ledger, random.Random(chance.random())) for _ in range(mine)]
        user.device_set = user.sign_set(1, user.devices)
        users.append(user)
        left -= mine
    return users


async def account(users: list[User], ledger: Ledger) -> list[str]:
    """Read everything from the broker, which is well again; return what differs from what was acknowledged."""
    seen: dict[Device, dict[str, BrokerInvitation]] = {}
    wrong = []
    for user in users:
        for device in user.devices:
            if device.device in ledger.removed:
                with suppress(Forbidden):
                    await device._until_answered(device.client.invitations)
                    wrong.append(f"{device.device} may still read, which is no device of {user.user_id} any more")
                continue
            seen[device] = await device.read_everything()
            if {token: _plain(each) for token, each in seen[device].items()} != {
                token: _plain(each) for token, each in device.known.items()
            }:
                wrong.append(f"{user.user_id}: what it heard is not what the broker has")
    for user in users:
        await next(iter(seen)).look_up(user)
    of_user = {device.user_id: found for device, found in seen.items()}
    every = {token: each for found in seen.values() for token, each in found.items()}
    for token in ledger.posted.keys() - every.keys():
        wrong.append(f"invitation {token}: acknowledged, and nobody has it")
    for token, each in every.items():
        sides = [of_user[who].get(token) for who in (each.inviter, each.invitee)]
        statuses = {side and side.status for side in sides}
        if len(statuses) != 1:
            wrong.append(f"invitation {token}: {statuses} at its two sides")
        acknowledged = {kind for kind, _ in ledger.answers.get(token, ())}
        acknowledged |= {"withdrawn"} if token in ledger.withdrawn else set()
        if len(acknowledged) > 1 or (acknowledged and acknowledged != statuses):
            wrong.append(f"invitation {token}: {acknowledged} was acknowledged, and it is {statuses}")
        boxes = {side.sealed for side in sides if side is not None and side.sealed is not None}
        if given := {box for _, box in ledger.answers.get(token, ())}:
            if boxes - given or len(given) > 1:
                wrong.append(f"invitation {token}: another answer came than was acknowledged")
        elif any(not box.startswith(str(each.status).encode()) for box in boxes):
            wrong.append(f"invitation {token}: is {each.status} with another answer")
    wrong += _untold(ledger, list(seen))
    return wrong


def _plain(one: BrokerInvitation) -> BrokerInvitation:
    return replace(one, statement=b"")


def _untold(ledger: Ledger, devices: list[Device]) -> list[str]:
    """Return the changes that a device waited for in vain: until its wait was over."""
    wrong, by_user = [], defaultdict(list)
    for device in devices:
        by_user[device.user_id].append(device)
    delays = []
    for change in ledger.changes:
        for device in (each for user in change.users for each in by_user[user]):
            statuses = (change.status,) if change.status != PENDING else (PENDING, "accepted", "declined", "withdrawn")
            told = [device.learned[change.token, each] for each in statuses if (change.token, each) in device.learned]
            if not told:
                wrong.append(f"{device.user_id} never heard that {change.token} is {change.status}")
                continue
            began, ended = min(told, key=lambda each: each[1])
            delays.append(max(0.0, ended - change.at))
            if began < change.at < ended - UNTOLD and ended - began >= WAIT:
                wrong.append(
                    f"{device.user_id} was not told within {ended - change.at:.1f} s that {change.token} changed"
                )
    delays.sort()
    if delays:
        middle, most = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
        print(f"heard of {len(delays)} changes: half within {middle:.2f} s, 99 % within {most:.2f} s", flush=True)
    return wrong
