"""Clocks that jump by hours and days while daemons run, and between two of their lives. Dates are the wall clock's; no
wait is. The clock is a fake (clocks.py); what is decided by time alone is tested by values, in the rooms of the rules.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.protocol.errors import Forbidden
from peer.runs.start_frame import ANSWER_SECONDS
from tests.conftest import more
from tests.surroundings.clocks import Clock, library
from tests.surroundings.story import somebody, tell
from tests.system.world import Person, World, connect


@pytest.fixture(scope="session")
def _library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("clock"))


@pytest.fixture
def clock(_library: Path, tmp_path: Path) -> Clock:
    return Clock(_library, tmp_path / "moved")


def with_clock(world: World, name: str, home: Path, clock: Clock) -> Person:
    """Somebody with a clock of their own, which is right at first."""
    person = somebody(world, name, home, environment=clock.environment)
    person.start()
    return person


def check(person: Person, name: str) -> dict[str, object]:
    """One row of the daemon's part of `doctor`."""
    (row,) = [row for row in person.client.doctor()["checks"] if row["name"] == name]
    return dict(row)


@pytest.mark.long
@pytest.mark.parametrize("days", [3, -3])
def test_a_run_that_waits_goes_on(alice: Person, world: World, tmp_path: Path, clock: Clock, days: int) -> None:
    """The call that waits can be answered, what the run changed lands, and the result reaches Alice.

    Seen to fail with three days ahead: the call had vanished, since its time was reckoned by the wall clock.
    """
    bob = with_clock(world, f"jump{days}", tmp_path / "bob", clock)

    def jump(_dispatch_id: str) -> None:
        clock.move(days=days)
        (call,) = bob.client.approvals()
        assert 0 < call["expires_in"] <= ANSWER_SECONDS

    tell(alice, bob, tmp_path / "back", meanwhile=jump)


@pytest.mark.parametrize(
    ("hours", "refused"), [(-48, "expired"), pytest.param(0.5, "rejected", marks=pytest.mark.long)]
)
def test_what_waits_for_its_recipient_is_tried_on(
    alice: Person, world: World, tmp_path: Path, clock: Clock, hours: float, refused: str
) -> None:
    """The pause between two attempts is counted by a clock that nobody sets. What was signed with a wrong date the
    recipient refuses; once the clock is right, nothing is left of it."""
    bob = with_clock(world, f"queue{hours}", tmp_path / "bob", clock)
    connect(bob, alice)
    alice.stop()
    try:
        waiting = bob.client.send(alice.email, "Wait")["dispatch_id"]
        clock.move(hours=hours)
        misdated = bob.client.send(alice.email, "Misdated")["dispatch_id"]
    finally:
        alice.start()
    bob.state_of(waiting, "pending")
    bob.state_of(misdated, refused)
    clock.move(hours=0)
    after = bob.client.send(alice.email, "After")["dispatch_id"]
    bob.state_of(after, "pending")
    for each in (waiting, after):
        alice.client.decline(each)
        bob.state_of(each, "declined")


@pytest.mark.long
@pytest.mark.parametrize("days", [-400, *more(5)])
def test_a_machine_that_starts_with_a_wrong_date(
    alice: Person, world: World, tmp_path: Path, clock: Clock, days: int
) -> None:
    """As one without a battery does, until it has asked somebody for the time: the broker refuses what it writes, with
    the fix; the clock is set while the daemon runs, and everything goes on without another start."""
    bob = with_clock(world, f"battery{days}", tmp_path / "bob", clock)
    connect(alice, bob)
    bob.stop()
    clock.move(days=days)
    bob.launch(as_usual=True)
    bob.ready()
    assert "set this machine's clock" in bob.cli("doctor", inside=["env"], status=1)
    with pytest.raises(Forbidden, match="the broker's clock"):
        bob.client.invite("carol@example.org")
    early = alice.client.send(bob.email, "Early")["dispatch_id"]
    assert alice.state_of(early, "pending", "rejected", "expired")["status"] != "pending"
    clock.move(days=0)
    connect(bob, alice)
    later = alice.client.send(bob.email, "Later")["dispatch_id"]
    alice.state_of(later, "pending")
    bob.client.decline(later)


def test_an_edge_ends_and_holds_again_by_the_clock(alice: Person, world: World, tmp_path: Path, clock: Clock) -> None:
    """What a wrong clock let end is not lost: an edge's end is compared, not carried out."""
    bob = with_clock(world, "edges", tmp_path / "bob", clock)
    connect(alice, bob, expires="1d")
    clock.move(days=2)
    refused = alice.client.send(bob.email, "After its end")["dispatch_id"]
    assert alice.state_of(refused, "pending", "rejected", "expired")["status"] != "pending"
    clock.move(days=0)
    again = alice.client.send(bob.email, "Before its end")["dispatch_id"]
    alice.state_of(again, "pending")
    bob.client.decline(again)


@pytest.mark.long
@pytest.mark.parametrize("days", [20, *more(40)])
def test_a_broker_whose_clock_was_ahead_ends_no_sign_in(tmp_path: Path, clock: Clock, days: int) -> None:
    """Within a month all sign-ins are renewed meanwhile, beyond it they are refused. Both are as before afterwards.

    Seen to fail with 20 days: everybody had to sign in again.
    """
    world = World(tmp_path)
    try:
        world.broker.stop()
        world.broker.start(environment=clock.environment)
        alice = world.person("alice")
        clock.move(days=days)
        if days < 30:
            assert alice.cli("doctor", "--json", status=None)
        else:
            assert not check(alice, "broker")["ok"]
        clock.move(days=0)
        assert check(alice, "broker")["ok"]
        assert alice.client.invite("bob@example.org")["link"]
    finally:
        world.close()
