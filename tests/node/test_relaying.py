"""Which relays a node is told of: by its settings, by its broker, and by what the broker said before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from peer.broker.responses import RelayAccess
from peer.machine.broker_list import BrokerSignIn
from peer.machine.settings import Settings
from peer.machine.state_folder import StateFolder
from peer.node.relaying import FIRST_RETRY, SHORTEST, RelayKeeper
from peer.protocol.errors import Unavailable
from peer.protocol.relays.admission import TOKEN_LIFE_MS

BROKER = "https://broker.example"
NOW = 1_800_000_000_000
OWN, NAMED = "https://own.example", "https://named.example"


class Told:
    """Stands for Relays: what it was told last."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}

    def set_relays(self, **given: object) -> None:
        self.last = given


class Scene:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self.state = StateFolder(folder)
        self.state.create()
        self.settings = Settings(broker=BROKER, token="t", **settings)
        self.told = Told()
        self.asked = 0
        self.answer: RelayAccess | Unavailable | None = RelayAccess(b"token", NOW + TOKEN_LIFE_MS, (NAMED,))
        self.now = NOW
        self.keeper = self.again()

    def again(self) -> RelayKeeper:
        relays: Any = self.told
        return RelayKeeper(self.state, lambda: self.settings, self._ask, relays, lambda: self.now)

    async def _ask(self, _broker: str) -> RelayAccess | None:
        self.asked += 1
        if isinstance(self.answer, Unavailable):
            raise self.answer
        return self.answer


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "state")


async def test_the_brokers_relays_and_token(scene: Scene, nursery: trio.Nursery, mock_clock: MockClock) -> None:
    nursery.start_soon(scene.keeper.run)
    await wait_all_tasks_blocked()
    told = {"chosen": [], "named": (NAMED,), "token": b"token", "tokens": {NAMED: (b"token",)}}
    assert scene.told.last == told | {"secret": b"", "none": False}
    mock_clock.jump(TOKEN_LIFE_MS / 2000 - 1)
    await wait_all_tasks_blocked()
    assert scene.asked == 1
    mock_clock.jump(2)
    await wait_all_tasks_blocked()
    assert scene.asked == 2, "half of its life is over"


@pytest.mark.parametrize(
    ("words", "chosen", "named", "none"),
    [
        (("broker", OWN), [OWN], (NAMED,), False),
        ((OWN,), [OWN], (), False),
        (("none",), [], (), True),
    ],
)
async def test_what_the_person_chose(
    tmp_path: Path,
    nursery: trio.Nursery,
    mock_clock: MockClock,
    words: tuple[str, ...],
    chosen: list[str],
    named: tuple[str, ...],
    none: bool,
) -> None:
    scene = Scene(tmp_path / "state", relays=words, relay_token="secret")
    nursery.start_soon(scene.keeper.run)
    await wait_all_tasks_blocked()
    told = scene.told.last
    assert (told["chosen"], told["named"], told["none"], told["secret"]) == (chosen, named, none, b"secret")
    assert told["token"] == b"token", "for relays of contacts too"


async def test_a_broker_that_does_not_answer_is_asked_less_and_less_often(
    scene: Scene, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    scene.answer = Unavailable("gone", fix="")
    nursery.start_soon(scene.keeper.run)
    await wait_all_tasks_blocked()
    for pause in (FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY):
        before = scene.asked
        mock_clock.jump(pause - 0.5)
        await wait_all_tasks_blocked()
        assert scene.asked == before
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        assert scene.asked == before + 1
    scene.keeper.reload()
    await wait_all_tasks_blocked()
    assert scene.asked == before + 2


async def test_a_broker_whose_tokens_are_old_is_not_asked_without_end(
    scene: Scene, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    scene.answer = RelayAccess(b"token", NOW - 1, ())
    nursery.start_soon(scene.keeper.run)
    await wait_all_tasks_blocked()
    assert scene.asked == 1
    mock_clock.jump(SHORTEST + 1)
    await wait_all_tasks_blocked()
    assert scene.asked == 2


async def test_an_older_broker_knows_nothing_of_relays(
    scene: Scene, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    scene.answer = None
    nursery.start_soon(scene.keeper.run)
    await wait_all_tasks_blocked()
    assert scene.told.last["named"] == () and scene.told.last["token"] == b"" and scene.asked == 1


async def test_what_the_broker_said_is_remembered(scene: Scene, mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.keeper.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert scene.state.relays.stat().st_mode & 0o777 == 0o600
    scene.answer = Unavailable("gone", fix="")
    scene.told.last = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.again().run)
        await wait_all_tasks_blocked()
        assert scene.told.last["named"] == (NAMED,) and scene.told.last["token"] == b"token"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("damage", ["another broker", "too old", "garbage", "readable", "a number"])
async def test_what_is_remembered_and_not_good_is_left_alone(scene: Scene, mock_clock: MockClock, damage: str) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.keeper.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (document,) = json.loads(scene.state.relays.read_bytes())
    match damage:
        case "another broker":
            document["broker"] = "https://other.example"
        case "too old":
            document["expires"] = NOW - 1
        case "a number":
            document = 7
    text = "{" if damage == "garbage" else json.dumps(document)
    scene.state.write_private(scene.state.relays, text.encode())
    if damage == "readable":
        scene.state.relays.chmod(0o644)
    scene.answer = Unavailable("gone", fix="")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.again().run)
        await wait_all_tasks_blocked()
        assert scene.told.last["token"] == b"" and scene.told.last["named"] == ()
        nursery.cancel_scope.cancel()


async def test_another_brokers_token_goes_with_it(scene: Scene, nursery: trio.Nursery, mock_clock: MockClock) -> None:
    nursery.start_soon(scene.keeper.run)
    await wait_all_tasks_blocked()
    scene.settings = Settings(broker="https://other.example", token="t")
    scene.answer = Unavailable("gone", fix="")
    scene.keeper.reload()
    await wait_all_tasks_blocked()
    assert scene.told.last["token"] == b"" and scene.told.last["named"] == ()


async def test_each_brokers_relays_in_turns_with_its_own_token(
    scene: Scene, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """One that names many, or does not answer, crowds out no other. Seen to fail with one token for all."""
    other = "https://other.example"
    scene.settings = Settings(broker=BROKER, token="t", brokers=(BrokerSignIn(url=other, token="u"),))
    answers = {
        BROKER: RelayAccess(b"first", NOW + TOKEN_LIFE_MS, tuple(f"https://{n}.example" for n in "abc")),
        other: RelayAccess(b"second", NOW + TOKEN_LIFE_MS, ("https://x.example", "https://a.example")),
    }
    gone = trio.Event()

    async def ask(broker: str) -> RelayAccess:
        if broker == BROKER:
            await gone.wait()
        return answers[broker]

    relays: Any = scene.told
    keeper = RelayKeeper(scene.state, lambda: scene.settings, ask, relays, lambda: scene.now)
    nursery.start_soon(keeper.run)
    await wait_all_tasks_blocked()
    assert scene.told.last["named"] == ("https://x.example", "https://a.example") and scene.told.last["token"] == b""
    gone.set()
    await wait_all_tasks_blocked()
    named = scene.told.last["named"]
    assert set(named[:2]) == {"https://a.example", "https://x.example"} and len(named) == 4
    tokens = scene.told.last["tokens"]
    assert tokens["https://x.example"] == (b"second",) and set(tokens["https://a.example"]) == {b"first", b"second"}
    assert tokens["https://b.example"] == (b"first",) and scene.told.last["token"] == b"first"
    scene.settings = Settings(broker=BROKER, token="t")
    keeper.reload()
    await wait_all_tasks_blocked()
    assert scene.told.last["named"] == answers[BROKER].relays and "https://x.example" not in scene.told.last["tokens"]
    assert b"second" not in {token for each in scene.told.last["tokens"].values() for token in each}
