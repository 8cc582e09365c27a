"""A broker of several processes on one machine: what one takes the others tell of, and each may be killed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.workers.notices import CHANGED, MAX_LINE, MAX_WAITING, Outbox, line, messages
from tests.conftest import HANG
from tests.rendezvous.postgresql import Server
from tests.rendezvous.test_main import PROGRAM, environment, process
from tests.rendezvous.world import Clock, People, Running, people_at


@asynccontextmanager
async def people_of(url: str, folder: Path) -> AsyncIterator[People]:
    """People at a broker that is other processes."""
    async with people_at(Running(url, Clock(), None), folder) as people:  # type: ignore[arg-type]  # its inside is there
        yield people


def workers_of(running: subprocess.Popen[str]) -> list[psutil.Process]:
    return sorted(psutil.Process(running.pid).children(), key=lambda each: each.pid)


@contextmanager
def stopped(worker: psutil.Process) -> Iterator[None]:
    """Keep a process from running while the block does, so that another one takes what comes."""
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()


@pytest.mark.parametrize("database", ["file", "postgresql"])
async def test_who_waits_at_one_hears_of_what_another_takes(tmp_path: Path, postgresql: Server, database: str) -> None:
    """Seen to fail without notices: Bob waited for his whole time."""
    more = {"DATABASE_URL": postgresql.database()} if database == "postgresql" else {}
    with process(tmp_path / "data", "--dev", "--port", "0", "--workers", "2", **more) as (running, url):
        one, other = workers_of(running)
        async with people_of(url, tmp_path / "people") as people:
            with stopped(other):
                carol, bob = await people.signed_in("carol@example.org"), await people.signed_in("bob@example.org")
                answered: dict[str, httpx.Response] = {}
                async with httpx.AsyncClient(trust_env=False, timeout=60) as waits, trio.open_nursery() as nursery:

                    async def wait(name: str, token: str) -> None:
                        headers = {"authorization": f"Bearer {token}"}
                        answered[name] = await waits.get(f"{url}/v1/invitations?wait=25&version=0", headers=headers)

                    for number, person in enumerate((carol, bob), start=1):
                        nursery.start_soon(wait, person.who.user_id, person.client.token)
                        while f"dispatch_readers_waiting {number}" not in (await bob.http.get(f"{url}/metrics")).text:
                            await trio.sleep(0.02)
                    other.resume()
                    with stopped(one), trio.fail_after(HANG):
                        # Over connections of their own: those that there are were taken by the one.
                        async with people_of(url, tmp_path / "more people") as more_people:
                            alice = await more_people.signed_in("alice@example.org")
                            await alice.client.post_invitation(alice.signed_invitation("bob@example.org"))
                    with trio.fail_after(HANG):
                        while "bob@example.org" not in answered:
                            await trio.sleep(0.02)
                    # Carol's wait began before his: his would not have ended by itself before hers.
                    assert "carol@example.org" not in answered
                    nursery.cancel_scope.cancel()
        assert [each["from"] for each in answered["bob@example.org"].json()["received"]] == ["alice@example.org"]


async def test_a_worker_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with process(tmp_path / "data", "--dev", "--port", "0", "--workers", "2") as (running, url):
        async with people_of(url, tmp_path / "people") as people:
            alice = await people.signed_in("alice@example.org")
            for worker in workers_of(running):
                worker.kill()
                with trio.fail_after(HANG):
                    while len(workers_of(running)) < 2 or worker in workers_of(running):
                        await trio.sleep(0.02)
                    await until_answered(url)
                assert (await alice.client.invitations()).sent == []
        running.send_signal(signal.SIGTERM)
        assert running.wait(HANG) == 0
        assert running.stderr is not None
        said = [json.loads(each) for each in running.stderr.read().splitlines() if each.startswith("{")]
        assert [each["event"] for each in said] == ["broker.started", "worker.ended", "worker.ended"]
        assert [each["code"] for each in said[1:]] == [-signal.SIGKILL] * 2


async def until_answered(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            try:
                assert (await http.get(f"{url}/health")).status_code == 200
            except httpx.TransportError:
                await trio.sleep(0.02)
            else:
                return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_workers_end_with_the_process_that_started_them(tmp_path: Path, number: int) -> None:
    with process(tmp_path / "data", "--dev", "--port", "0", "--workers", "3") as (running, url):
        workers = workers_of(running)
        assert len(workers) == 3
        running.send_signal(number)
        assert running.wait(HANG) == (0 if number == signal.SIGTERM else -number)
        # After a signal that it can act on, it goes last.
        gone, alive = psutil.wait_procs(workers, 0 if number == signal.SIGTERM else HANG)
        assert len(gone) == 3 and alive == []
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health", trust_env=False)


def test_what_a_worker_cannot_start_with_is_said_once(tmp_path: Path) -> None:
    """A file that another program wrote."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "rendezvous.db").write_bytes(b"no database" * 1000)
    command = [*PROGRAM, "serve", "--data", str(data), "--dev", "--port", "0", "--workers", "4"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=HANG, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("file is not a database") == 1, done.stderr
    assert "a worker of the broker ended as it started" in done.stderr and "Traceback" not in done.stderr


async def test_a_broker_that_drains_says_so_and_goes_on(tmp_path: Path) -> None:
    """Seen to fail where it stops at once, and where /health says nothing."""
    with process(tmp_path / "data", "--dev", "--port", "0", "--drain", "600") as (running, url):
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{url}/health")).status_code == 200
            running.send_signal(signal.SIGTERM)
            with trio.fail_after(HANG):
                while (await http.get(f"{url}/health")).status_code == 200:
                    await trio.sleep(0.02)
            health = await http.get(f"{url}/health")
            assert health.status_code == 503 and int(health.headers["retry-after"]) > 0
            assert (await http.get(f"{url}/health/live")).status_code == 204
            assert (await http.get(f"{url}/login")).status_code == 200
        assert running.poll() is None


@pytest.fixture
def pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.memory_stream_pair()


@given(st.lists(st.one_of(st.none(), st.lists(st.text(max_size=3), max_size=5)), max_size=6))
async def test_of_every_user_is_told_whatever_is_left_out(told: list[list[str] | None]) -> None:
    here, there = trio.testing.memory_stream_pair()
    outbox = Outbox()
    async with trio.open_nursery() as nursery:
        for each in told:
            outbox.tell(each)
        nursery.start_soon(outbox.send, here)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await here.aclose()
    heard = [message[CHANGED] async for message in messages(there)]
    users = {user for each in told for user in each or []}
    if None in told:
        assert heard == [None]
    else:
        assert heard == ([list(dict.fromkeys(user for each in told for user in each or []))] if users else [])


async def test_above_the_bound_everybody_is_told_of(pair: tuple[trio.abc.Stream, trio.abc.Stream]) -> None:
    here, there = pair
    outbox = Outbox()
    for number in range(MAX_WAITING + 1):
        outbox.tell([f"user{number}"])
    outbox.tell(["alice"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send, here)
        async for message in messages(there):
            assert message == {CHANGED: None}
            break
        outbox.tell(["bob"])
        async for message in messages(there):
            assert message == {CHANGED: ["bob"]}
            break
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("sent", [b"nonsense\n", b"[]\n", b"x" * (MAX_LINE + 1)])
async def test_what_is_no_message_is_refused(pair: tuple[trio.abc.Stream, trio.abc.Stream], sent: bytes) -> None:
    here, there = pair
    await here.send_all(line({"a": 1}) + sent)
    with pytest.raises(ValueError):
        async for message in messages(there):
            assert message == {"a": 1}
