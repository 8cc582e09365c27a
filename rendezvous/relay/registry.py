"""Who is connected, where each is rung, and which pipes there are: all that a relay knows. Pure; times in milliseconds.

A ring makes a pipe whether or not anybody listens at its tag. Until both ends have joined it is pending, for as long as
its tickets live; whether there is a callee, and what it does, changes nothing that the caller could see of it before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from peer.protocol.errors import DispatchError, RateLimited, Unavailable
from peer.protocol.relays.messages import TICKET_BYTES
from rendezvous.ratelimit import Buckets
from rendezvous.relay.limits import RelayLimits

C = TypeVar("C")
"""A control connection."""
E = TypeVar("E")
"""The connection of one end of a pipe."""

CALLER: Final = 0
CALLEE: Final = 1

_WAIT = "wait and try again"


@dataclass(eq=False, slots=True)
class User:
    """What the devices of one user have together."""

    key: bytes
    devices: int = 0
    pipes: int = 0


@dataclass(eq=False, slots=True)
class Device(Generic[C]):
    """A device that is connected, or whose pipes have not ended yet.

    `admitted_until`: when its admission ends, None for never. `pipes`: all of them; `pending` those of them that it
    rang for and `incoming` those that it was rung for, while they are not joined. `probed`: its port is being dialled.
    """

    id: str
    user: User
    admitted_until: int | None
    control: C | None = None
    tags: set[bytes] = field(default_factory=set)
    pipes: int = 0
    pending: int = 0
    incoming: int = 0
    probed: bool = False

    def is_admitted(self, now: int) -> bool:
        """Whether its admission has not ended."""
        return self.admitted_until is None or now <= self.admitted_until


@dataclass(eq=False, slots=True)
class Pipe(Generic[C, E]):
    """Two ends, or one that waits. `callee` is None where nobody is rung."""

    caller: Device[C]
    callee: Device[C] | None
    deadline: int
    tickets: tuple[bytes, ...]
    ends: list[E | None]
    joined: bool = False

    def devices(self) -> list[Device[C]]:
        """Those that it counts for, once each."""
        if self.callee is None or self.callee is self.caller:
            return [self.caller]
        return [self.caller, self.callee]


@dataclass(frozen=True, slots=True)
class Rung(Generic[C]):
    """What a ring led to: the caller's ticket; where somebody is to be told of it, their connection and ticket."""

    ticket: bytes
    callee: C | None
    callee_ticket: bytes


class DailyBytes:
    """Bytes of each user on one day, of as many users as are remembered."""

    def __init__(self, *, most: int, users: int) -> None:
        self._most = most
        self._users = users
        self._day = -1
        self._bytes: OrderedDict[bytes, int] = OrderedDict()

    def add(self, user: bytes, count: int, day: int) -> bool:
        """Count bytes; return whether the user is within the bound of the day. `day`: any number that names it."""
        if day != self._day:
            self._day = day
            self._bytes.clear()
        total = self._bytes.pop(user, 0) + count
        self._bytes[user] = total
        if len(self._bytes) > self._users:
            # As with rates: what is forgotten can only let a user send more, never less.
            self._bytes.popitem(last=False)
        return total <= self._most

    def __len__(self) -> int:
        return len(self._bytes)


class Registry(Generic[C, E]):
    """The state of one relay. `random`: bytes that nobody can guess, as os.urandom."""

    def __init__(self, limits: RelayLimits, *, random: Callable[[int], bytes]) -> None:
        self._limits = limits
        self._random = random
        self._users: dict[bytes, User] = {}
        self._devices: dict[str, Device[C]] = {}
        self._listening: dict[bytes, Device[C]] = {}
        self._tickets: dict[bytes, tuple[Pipe[C, E], int]] = {}
        self._pending: dict[Pipe[C, E], None] = {}  # oldest first, so soonest to expire first
        self._open: set[Pipe[C, E]] = set()
        self._rings = Buckets(per_minute=limits.rings_per_minute, burst=limits.ring_burst, max_keys=limits.buckets)
        self._rings_at_tag = Buckets(
            per_minute=limits.rings_per_minute_at_tag, burst=limits.ring_burst_at_tag, max_keys=limits.buckets
        )
        self._probes = Buckets(
            per_minute=limits.probes_per_minute, burst=limits.probes_per_minute, max_keys=limits.buckets
        )
        self._probes_under_way = 0
        self._bytes = DailyBytes(most=limits.bytes_per_day, users=limits.users_remembered)
        self.bytes_relayed = 0

    # --- devices

    def connect(self, device_id: str, user_key: bytes, *, until: int | None, control: C) -> tuple[Device[C], C | None]:
        """Take in the control connection of an admitted device; return the device, and its older one, which is over.

        Raises RateLimited, Unavailable over a bound.
        """
        known = self._devices.get(device_id)
        if known is not None and known.user.key == user_key:
            older, known.control, known.admitted_until = known.control, control, until
            self._forget_tags(known)
            return known, older
        user = self._users.get(user_key) or User(user_key)
        if user.devices >= self._limits.devices_per_user:
            raise RateLimited("this user already has too many devices connected", fix="disconnect another device")
        if len(self._devices) >= self._limits.devices and known is None:
            raise Unavailable("this relay is full", fix="use another relay, or try again later")
        older = None
        if known is not None:  # another broker vouches for it now
            older, known.control = known.control, None
            self._forget_tags(known)
            self._forget_unused(known)
        device = Device(device_id, user, until, control)
        self._users[user_key] = user
        user.devices += 1
        self._devices[device_id] = device
        return device, older

    def disconnect(self, device: Device[C], control: C) -> None:
        """Note that a control connection is over. Idempotent; nothing where a newer one has taken its place."""
        if device.control is control:
            device.control = None
            self._forget_tags(device)
            self._forget_unused(device)

    def listen(self, device: Device[C], tags: tuple[bytes, ...]) -> None:
        """Have a device rung at these tags alone; not at those where another one listens. Raises RateLimited.

        Whoever knows a tag is one of two devices, so the other one takes nobody's place but its own contact's.
        """
        if len(tags) > self._limits.tags_per_device:
            raise RateLimited(f"a device can listen at {self._limits.tags_per_device} tags at most", fix="name fewer")
        self._forget_tags(device)
        for tag in tags:
            if len(self._listening) >= self._limits.tags:
                raise RateLimited("this relay is full", fix="use another relay, or try again later")
            if self._listening.setdefault(tag, device) is device:
                device.tags.add(tag)

    def _forget_tags(self, device: Device[C]) -> None:
        for tag in device.tags:
            del self._listening[tag]
        device.tags.clear()

    def _forget_unused(self, device: Device[C]) -> None:
        """Forget a device that has neither a connection nor a pipe, and its user with the last of its devices."""
        if device.control is not None or device.pipes:
            return
        if self._devices.get(device.id) is device:
            del self._devices[device.id]
        device.user.devices -= 1
        if not device.user.devices:
            del self._users[device.user.key]

    def devices(self) -> set[Device[C]]:
        """Return all that are connected or have a pipe."""
        pipes = (*self._open, *self._pending)
        return {*self._devices.values(), *(device for pipe in pipes for device in pipe.devices())}

    def dismiss(self, device: Device[C]) -> list[E]:
        """End the admission of a device and all of its pipes; return the ends that it has of them, to be closed.

        Whoever waits at another end sees what it sees when nobody comes.
        """
        device.admitted_until = -1
        found: list[E] = []
        for pipe in [pipe for pipe in (*self._open, *self._pending) if device in pipe.devices()]:
            whose = (pipe.caller, pipe.callee)
            found += [end for side, end in enumerate(pipe.ends) if end is not None and whose[side] is device]
            self._end(pipe)
        return found

    # --- ports

    def start_probe(self, device: Device[C], *, now: int) -> None:
        """Note that a port of a device is being dialled. Raises RateLimited, Unavailable over a bound."""
        if self._probes_under_way >= self._limits.probes:
            raise Unavailable("this relay is full", fix=_WAIT)
        if device.probed:
            raise RateLimited("a port of this device is already being tested", fix=_WAIT)
        self._probes.take(device.user.key.hex(), now)
        device.probed = True
        self._probes_under_way += 1

    def end_probe(self, device: Device[C]) -> None:
        """Note that it is over."""
        device.probed = False
        self._probes_under_way -= 1

    # --- pipes

    def ring(self, device: Device[C], tag: bytes, *, now: int, day: int) -> Rung[C]:
        """Make a pipe from a device to whoever listens at a tag. `day`: the number of the day in UTC.

        Raises RateLimited over a bound of the caller, Unavailable over one of the relay. Over one of the callee nobody
        is rung, and the caller sees what it sees when nobody listens.
        """
        self.expire(now)
        limits = self._limits
        self._rings.take(device.id, now)
        if device.pending >= limits.pending_per_device or not self._has_room(device):
            raise RateLimited("this device or user has too many open pipes", fix=_WAIT)
        if not self._bytes.add(device.user.key, 0, day):
            raise RateLimited("this user's data limit for today is used up", fix=_WAIT)
        if len(self._pending) + len(self._open) >= limits.pipes:
            raise Unavailable("this relay is full", fix="use another relay, or try again later")
        callee = self._callee(tag, now, caller=device)
        tickets = self._random(TICKET_BYTES), self._random(TICKET_BYTES)
        pipe = Pipe[C, E](device, callee, now + int(limits.ticket_seconds * 1000), tickets, [None, None])
        self._tickets[tickets[CALLER]] = pipe, CALLER
        self._pending[pipe] = None
        device.pending += 1
        if callee is not None:
            self._tickets[tickets[CALLEE]] = pipe, CALLEE
            callee.incoming += 1
        for each in pipe.devices():
            each.pipes += 1
            each.user.pipes += 1
        return Rung(tickets[CALLER], callee.control if callee is not None else None, tickets[CALLEE])

    def _callee(self, tag: bytes, now: int, *, caller: Device[C]) -> Device[C] | None:
        callee = self._listening.get(tag)
        if callee is None or callee.incoming >= self._limits.incoming_per_device:
            return None
        # Of two devices of one user, the caller's place is taken already.
        taken = int(callee is not caller and callee.user is caller.user)
        if not self._has_room(callee, taken=taken):
            return None
        try:
            self._rings_at_tag.take(tag.hex(), now)
        except DispatchError:
            return None
        return callee

    def _has_room(self, device: Device[C], *, taken: int = 0) -> bool:
        limits = self._limits
        return device.pipes < limits.pipes_per_device and device.user.pipes + taken < limits.pipes_per_user

    def join(self, ticket: bytes, end: E, *, now: int) -> tuple[Pipe[C, E], int] | None:
        """Take a ticket for one end of its pipe; return both, None for a ticket that is not, or no longer, one."""
        self.expire(now)
        found = self._tickets.pop(ticket, None)
        if found is None:
            return None
        pipe, side = found
        pipe.ends[side] = end
        if all(each is not None for each in pipe.ends):
            pipe.joined = True
            self._end_pending(pipe)
            self._open.add(pipe)
        return found

    def leave(self, pipe: Pipe[C, E], side: int) -> E | None:
        """Note that one end has gone; return the other one, which is to be closed, if it is there. Idempotent.

        A callee that goes before the pipe is joined ends nothing: its caller is to see no difference.
        """
        pipe.ends[side] = None
        if not pipe.joined and side == CALLEE:
            return None
        self._end(pipe)
        return pipe.ends[1 - side]

    def expire(self, now: int) -> None:
        """Forget the pipes that were not joined in time. Whoever waits at one end knows the deadline itself."""
        while self._pending and (pipe := next(iter(self._pending))).deadline <= now:
            self._end(pipe)

    def _end(self, pipe: Pipe[C, E]) -> None:
        if pipe in self._pending:
            self._end_pending(pipe)
        elif pipe in self._open:
            self._open.remove(pipe)
        else:
            return
        for ticket in pipe.tickets:
            self._tickets.pop(ticket, None)
        for device in pipe.devices():
            device.pipes -= 1
            device.user.pipes -= 1
            self._forget_unused(device)

    def _end_pending(self, pipe: Pipe[C, E]) -> None:
        del self._pending[pipe]
        pipe.caller.pending -= 1
        if pipe.callee is not None:
            pipe.callee.incoming -= 1

    def count(self, device: Device[C], size: int, *, day: int) -> bool:
        """Count bytes that a device sends over a pipe; return whether its user may send them today.

        They count for whoever sends alone, or a contact could use up somebody else's.
        """
        self.bytes_relayed += size
        return self._bytes.add(device.user.key, size, day)

    # --- numbers

    @property
    def devices_connected(self) -> int:
        """Devices with a control connection."""
        return sum(device.control is not None for device in self._devices.values())

    @property
    def pipes_open(self) -> int:
        """Pipes that both ends have joined."""
        return len(self._open)

    @property
    def pipes_pending(self) -> int:
        """Pipes that wait for an end."""
        return len(self._pending)

    @property
    def tags(self) -> int:
        """Tags at which somebody listens."""
        return len(self._listening)

    def is_empty(self) -> bool:
        """Whether nothing is left of any device or pipe; rates and the bytes of the day are kept."""
        left = self._users or self._devices or self._listening or self._tickets or self._pending or self._open
        return not left and not self._probes_under_way
