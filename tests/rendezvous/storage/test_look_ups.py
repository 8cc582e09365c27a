"""Look-ups that go to a server together."""

from __future__ import annotations

from collections.abc import Sequence

import outcome
import pytest
import trio
import trio.testing

from peer.protocol.errors import Unavailable
from rendezvous.storage.postgresql import PostgresqlStorage, look_ups
from rendezvous.storage.postgresql.look_ups import LookUp, LookUps
from tests.conftest import HANG
from tests.rendezvous.postgresql import Server
from tests.rendezvous.storage.values import NOW, approved, caller

ALICE = "alice@example.org"


class Lines:
    """What goes together; each line waits until it is let go, and echoes the values."""

    def __init__(self) -> None:
        self.lines: list[list[object]] = []
        self.go = trio.Semaphore(0)

    async def run(self, asked: Sequence[LookUp]) -> None:
        self.lines.append([each.values[0] for each in asked])
        await self.go.acquire()
        if any(each.values[0] == "fails" for each in asked):
            raise Unavailable("away", fix="wait")
        for each in asked:
            each.found = outcome.Value([each.values])  # type: ignore[list-item]  # as rows are


async def test_what_comes_meanwhile_goes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail where each goes alone, and where more than MOST go."""
    monkeypatch.setattr(look_ups, "MOST", 3)
    server = Lines()
    found: dict[str, object] = {}
    together = LookUps(server.run, wait_seconds=HANG)

    async def ask(value: str) -> None:
        found[value] = await together.look_up("?", (value,))

    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            for value in "abcde":
                nursery.start_soon(ask, value)
                await trio.testing.wait_all_tasks_blocked()
            for _ in range(3):
                server.go.release()
                await trio.testing.wait_all_tasks_blocked()
    assert server.lines == [["a"], ["b", "c", "d"], ["e"]]
    assert found == {value: [(value,)] for value in "abcde"}


async def test_who_leaves_takes_nobody_along_and_an_error_is_told_to_all_that_went(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen to fail where the one who came first runs them: the others waited for ever."""
    server = Lines()
    told: list[tuple[str, object]] = []
    together = LookUps(server.run, wait_seconds=HANG)

    async def ask(value: str) -> None:
        try:
            told.append((value, await together.look_up("?", (value,))))
        except Unavailable as error:
            told.append((value, error.message))

    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as first:
                async with trio.open_nursery() as leaving:
                    leaving.start_soon(ask, "first")
                    await trio.testing.wait_all_tasks_blocked()
                    for value in ("fails", "beside"):
                        nursery.start_soon(ask, value)
                    await trio.testing.wait_all_tasks_blocked()
                    first.cancel()
            for _ in range(2):
                server.go.release()
                await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, "later")
            server.go.release()
    assert sorted(told[:2]) == [("beside", "away"), ("fails", "away")] and told[2:] == [("later", [("later",)])]


async def test_a_turn_is_waited_for_only_so_long() -> None:
    server = Lines()
    together = LookUps(server.run, wait_seconds=0.05)
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(together.look_up, "?", ("runs",))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Unavailable, match="too busy"):
                await together.look_up("?", ("waits",))
            server.go.release()
    assert server.lines == [["runs"]]


async def test_of_those_that_go_together_a_wrong_one_fails_alone(postgresql: Server) -> None:
    """A text with a NUL, which PostgreSQL has no place for; routes refuse it before. Seen to fail all of them."""
    answers: dict[str, object] = {}
    async with PostgresqlStorage(postgresql.database()) as storage:
        await approved(storage, ALICE)

        async def ask(name: str, user_id: str) -> None:
            try:
                answers[name] = await storage.announcements(caller(ALICE), user_id, NOW)
            except Unavailable:
                answers[name] = "refused"

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, f"{number}", "a\0b" if number == 7 else ALICE)
    assert answers.pop("7") == "refused" and list(answers.values()) == [()] * 19
