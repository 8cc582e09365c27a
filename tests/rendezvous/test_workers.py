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
from prometheus_client.parser import text_string_to_metric_families

from rendezvous.workers import worker
from rendezvous.workers.notices import ASK, CHANGED, MAX_LINE, MAX_MESSAGES, MAX_WAITING, READY, Outbox, line, messages
from rendezvous.workers.worker import Others
from tests.conftest import HANG
from tests.rendezvous.postgresql import Server
from tests.rendezvous.test_main import PROGRAM, environment, metrics_at, process
from tests.rendezvous.world import Clock, People, Running, people_at

TOKEN = "t" * 32


@asynccontextmanager
async def people_of(url: str, folder: Path) -> AsyncIterator[People]:
    """People at a broker that is other processes."""
    async with people_at(Running(url, Clock(), None), folder) as people:  # type: ignore[arg-type]  # its inside is there
        yield people


async def samples(url: str, name: str) -> dict[str, float]:
    """The values of a metric without other labels, by worker."""
    async with httpx.AsyncClient(trust_env=False, timeout=HANG) as http:
        response = await http.get(url, headers={"authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200, response.text
    families = text_string_to_metric_families(response.text)
    found = [sample for family in families for sample in family.samples if sample.name == name]
    return {sample.labels["worker"]: sample.value for sample in found}


async def waiting_at(url: str) -> float:
    return sum((await samples(f"{url}/metrics", "dispatch_readers_waiting")).values())


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
    more |= {"DISPATCH_METRICS_TOKEN": TOKEN}
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
                        while await waiting_at(url) != number:
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


@pytest.mark.parametrize("apart", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_one_scrape_has_the_metrics_of_all(tmp_path: Path, apart: bool) -> None:
    """Also while one of them stands still, and after one was started anew. Seen to fail where each answers alone."""
    options = ("--dev", "--port", "0", "--workers", "2", *(("--metrics", "127.0.0.1:0") if apart else ()))
    started = "process_start_time_seconds"
    with process(tmp_path / "data", *options, DISPATCH_METRICS_TOKEN=TOKEN) as (running, url):
        there = metrics_at(running) if apart else f"{url}/metrics"
        first = await samples(there, started)
        assert sorted(first) == ["0", "1"]
        assert len(await samples(there, "dispatch_readers_waiting")) == 2
        one = workers_of(running)[0]
        with stopped(one):
            (other,) = await samples(there, started)
        (number,) = first.keys() - {other}  # whichever has the lower process id
        one.kill()
        with trio.fail_after(HANG):
            while (await samples(there, started)).get(number, first[number]) == first[number]:
                await trio.sleep(0.05)
        assert (await samples(there, started))[other] == first[other]


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


async def test_messages_that_wait_are_bounded(pair: tuple[trio.abc.Stream, trio.abc.Stream]) -> None:
    """The newest are kept, in their order, and what changed is told before them."""
    here, there = pair
    outbox = Outbox()
    for number in range(MAX_MESSAGES + 2):
        outbox.post({"number": number})
    outbox.tell(["alice"])
    told = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.send, here)
        async for message in messages(there):
            told.append(message)
            if message == {"number": MAX_MESSAGES + 1}:
                break
        nursery.cancel_scope.cancel()
    assert told == [{CHANGED: ["alice"]}, *({"number": number} for number in range(2, MAX_MESSAGES + 2))]


async def test_an_answer_that_comes_too_late_is_of_no_other_question(
    pair: tuple[trio.abc.Stream, trio.abc.Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = pair
    others = Others(here)  # type: ignore[arg-type]  # a stream as good as a socket's
    others.snapshot = lambda: {"counted": "here"}
    others.ready()
    heard = messages(there)

    async def say(**message: object) -> None:
        await there.send_all(line(message))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others.run)
        assert await anext(heard) == {READY: True}
        with monkeypatch.context() as impatient:
            impatient.setattr(worker, "ANSWER_SECONDS", 0)
            assert await others.metrics() == {"": {"counted": "here"}}
        asked = await anext(heard)
        found: list[dict[str, object]] = []

        async def ask() -> None:
            found.append(await others.metrics())

        nursery.start_soon(ask)
        again = await anext(heard)
        assert again != asked
        for question, says in ((asked, "late"), (again, "there")):
            await say(answered=question[ASK], worker=0, others=[1])
            await say(answered=question[ASK], worker=1, metrics={"counted": says})
        with trio.fail_after(HANG):
            while not found:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert found == [{"0": {"counted": "here"}, "1": {"counted": "there"}}]


@pytest.mark.parametrize("sent", [b"nonsense\n", b"[]\n", b"x" * (MAX_LINE + 1)])
async def test_what_is_no_message_is_refused(pair: tuple[trio.abc.Stream, trio.abc.Stream], sent: bytes) -> None:
    here, there = pair
    await here.send_all(line({"a": 1}) + sent)
    with pytest.raises(ValueError):
        async for message in messages(there):
            assert message == {"a": 1}
