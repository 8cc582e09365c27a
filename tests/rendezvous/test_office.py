"""An office of 500 people behind one address, in virtual time: the default limits never refuse it anything.

What a daemon asks for, and when, is in Device. The limits are the broker's own objects.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

from peer.protocol.errors import RateLimited
from rendezvous.broker import Broker, Settings
from rendezvous.connections import ConnectionLimits, OpenConnections
from rendezvous.limits import Limits
from rendezvous.metrics import REASONS
from rendezvous.storage.rows import SignIn
from rendezvous.storage.rules import invitation_mail_quotas, sign_in_mail_quotas
from rendezvous.tokens import TokenSecrets
from tests.rendezvous.storage.memory import MemoryStorage
from tests.rendezvous.world import RELAY_KEY

OFFICE = "192.0.2.1"
PEOPLE = 500
CONTACTS = 25
"""Of each, on average: what a daemon looks up when it starts."""
INVITED = 10
"""By each, on the first day."""
CONNECTIONS = 3
WAIT, POLL, HOUR = 25.0, 5.0, 3600.0


class Office:
    """The broker's limits, a clock that jumps from one event to the next, and what waits."""

    def __init__(self, limits: Limits) -> None:
        self.now = 0.0
        self.random = Random(500)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.broker = Broker(
            Settings(public_url="https://broker.example", data=Path("/nonexistent"), limits=limits),
            storage=MemoryStorage(limits=limits),
            secrets=TokenSecrets(b"s" * 32),
            relay_key=RELAY_KEY,
            mailer=None,
            clock=lambda: 1_800_000_000_000 + int(self.now * 1000),
        )
        self.limits = limits
        bounds = ConnectionLimits(total=limits.connections, per_network=limits.connections_per_network)
        self.connections = OpenConnections(bounds)
        self.mails: Counter[str] = Counter()

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), what))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = until

    def request(self) -> None:
        self.broker.by_address.take(OFFICE, self.broker.clock())

    def page(self) -> None:
        self.request()
        self.broker.pages_by_address.take(OFFICE, self.broker.clock())

    def count(self, quotas: dict[str, int]) -> None:
        """Count a mail, as a storage does."""
        for name, most in quotas.items():
            self.mails[name] += 1
            assert self.mails[name] <= most, name


class Device:
    """What one person's program does. All of them do it in the same second."""

    def __init__(self, office: Office, number: int) -> None:
        self.office = office
        self.user = f"{number}@example.org"
        self.name = f"device {number}"
        self.signed_in = False
        self.mistypes = 0
        self._held = ExitStack()

    def read(self) -> None:
        self.office.request()
        self.office.broker.by_account.take(self.user, self.office.broker.clock())

    def write(self) -> None:
        self.office.request()
        self.office.broker.writes_by_device.take(self.name, self.office.broker.clock())

    def sign_in(self) -> None:
        """The first code expires unseen, the second one is typed within three minutes."""
        self._ask()
        self.office.after(600, self._ask)
        self.office.after(600 + self.office.random.uniform(30, 180), self._approve)

    def _ask(self) -> None:
        self.write()
        self.office.broker.sign_ins_by_address.take(OFFICE, self.office.broker.clock())
        self._poll(until=self.office.now + 599)

    def _poll(self, until: float) -> None:
        if not self.signed_in and self.office.now < until:
            self.office.request()
            self.office.after(POLL, lambda: self._poll(until))

    def _approve(self) -> None:
        self.mistypes += self.office.random.random() < 0.3
        for _ in range(self.mistypes):
            self.office.page()
            self.office.broker.unknown_codes_by_address.take(OFFICE, self.office.broker.clock())
        for _ in range(6):  # the sign-in's page and form, the mailed page and its form, an invitation's page, a reload
            self.office.page()
        sign_in = SignIn(
            user_code=self.name,
            user_id=self.user,
            device=self.name,
            device_name="laptop",
            device_set=b"",
            address=OFFICE,
            expires=0,
        )
        self.office.count(dict(sign_in_mail_quotas(sign_in, self.office.limits)))
        self.signed_in = True
        self.start()
        for other in self.office.random.sample(range(PEOPLE), INVITED):
            self.write()
            self.office.count(dict(invitation_mail_quotas(self.user, f"{other}@example.org", self.office.limits)))

    def start(self) -> None:
        """Connect, announce, ask for a relay token, look the contacts up, wait for changes; then again each hour."""
        for _ in range(CONNECTIONS):
            assert self._held.enter_context(self.office.connections.place(OFFICE)), "connections"
        self._hourly(CONTACTS)
        self._wait()

    def stop(self) -> None:
        self._held.close()

    def _hourly(self, look_ups: int) -> None:
        self.write()
        self.write()
        for _ in range(look_ups):
            self.read()
        self.office.after(HOUR * self.office.random.uniform(0.9, 1.1), lambda: self._hourly(2))

    def _wait(self) -> None:
        self.read()
        waiting = ExitStack()
        waiting.enter_context(self.office.broker.changes.subscribe(self.user))

        def end() -> None:
            waiting.close()
            self._wait()

        self.office.after(WAIT, end)


@contextmanager
def devices(office: Office) -> Iterator[list[Device]]:
    made = [Device(office, number) for number in range(PEOPLE)]
    try:
        yield made
    finally:
        for device in made:
            device.stop()


def first_day(office: Office) -> None:
    """Everybody signs in, invites ten others, and works for an hour."""
    with devices(office) as those:
        for device in those:
            device.sign_in()
        office.run(HOUR)
        assert all(device.signed_in for device in those)


def any_day(office: Office) -> None:
    """Every machine starts at nine, and once more a quarter of an hour later, after a power cut."""
    for begin in (0.0, 900.0):
        office.run(begin)
        office._events.clear()
        office.broker.changes._waiting.clear()
        with devices(office) as those:
            for device in those:
                device.start()
            office.run(begin + 899)


def refused(office: Office) -> set[str]:
    return {name for name in REASONS if office.broker.metrics.value("dispatch_refused_total", reason=name)}


@pytest.mark.parametrize("day", [first_day, any_day])
def test_an_office_of_500_is_never_refused(day: Callable[[Office], None]) -> None:
    office = Office(Limits())
    day(office)
    assert refused(office) == set()


@pytest.mark.parametrize(
    ("day", "limits", "limit"),
    [
        (first_day, Limits(requests_per_minute=600, request_burst=300), "requests_per_minute"),
        (first_day, Limits(sign_in_burst=PEOPLE - 1), "sign_ins_per_minute"),
        (first_day, Limits(pages_per_minute=30, page_burst=30), "pages_per_minute"),
        (first_day, Limits(unknown_code_burst=50), "unknown_codes_per_minute"),
        (first_day, Limits(invitation_mails_to_one_user=INVITED), "invitation to"),
        (any_day, Limits(request_burst=PEOPLE * CONTACTS), "requests_per_minute"),
        (any_day, Limits(connections_per_network=PEOPLE * CONNECTIONS - 1), "connections"),
        (any_day, Limits(waiting_requests=PEOPLE - 1), "waiting_requests"),
        (any_day, Limits(read_burst=CONTACTS), "reads_per_minute"),
    ],
)
def test_a_lower_limit_would_be_noticed(day: Callable[[Office], None], limits: Limits, limit: str) -> None:
    """So that the test above says something."""
    office = Office(limits)
    with pytest.raises((RateLimited, AssertionError)) as error:
        day(office)
    assert refused(office) == {limit} or str(error.value).startswith(limit)
