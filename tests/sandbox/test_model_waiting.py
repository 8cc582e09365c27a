"""A model's API that has no room, breaks off or refuses: what is waited out, what is asked again, and what is said.

Through the proxy's own socket, and with the real claude program; only the API's answers are canned.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from sandbox import frames
from sandbox.model_api import waiting
from sandbox.model_api.connection import ProxyLimits
from sandbox.model_api.interface import Failure
from sandbox.model_api.proxy import NAMES_TOLD, ModelProxy
from sandbox.model_api.waiting import Busy
from tests.conftest import HANG
from tests.sandbox.fake_model import FakeModel, model_proxy, say, serving, stream
from tests.sandbox.node import dp_agent, start
from tests.sandbox.test_model_proxy import BODY, KEY, door

AT_ONCE = ProxyLimits(least_wait_seconds=0.0)
STREAM = {**BODY, "stream": True}
Answer = tuple[int, dict[str, str], bytes]


def error(status: int, kind: str, said: str = "Busy", **headers: str) -> Answer:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": said}}).encode()
    return status, {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}, body


def event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def streamed(events: int, *, then: str = "", stop: str = "end_turn", cut: bool = False) -> Answer:
    """The first so many events of an answer, then an error in the stream, or a connection that breaks."""
    parts = [event(name, data) for name, data in stream(say("hello"), "m")[:events]]
    if then:
        parts.append(event("error", {"type": "error", "error": {"type": then, "message": "Busy"}}))
    body = b"".join(parts).replace(b'"end_turn"', json.dumps(stop).encode())
    more = {"content-length": str(len(body) + 1000)} if cut else {"retry-after": "0"}
    return 200, {"content-type": "text/event-stream", **more, "connection": "close"}, body


OVERLOADED = error(529, "overloaded_error", retry_after="0")
WHOLE = streamed(6)


@asynccontextmanager
async def answering(
    tmp_path: Path, answers: list[Answer], **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, ModelProxy, FakeModel, list[tuple[str, str]]]]:
    """A proxy whose API gives these answers in turn, the last of them again and again; and what it tells."""
    told: list[tuple[str, str]] = []

    async def tell(status: str, detail: str) -> None:
        told.append((status, detail))

    given = {"limits": AT_ONCE, "patience_seconds": 1000, "tell": tell, "max_turns": 3, **options}
    with serving(FakeModel([say("x")], answers)) as model:
        proxy = model_proxy(model.url, KEY, **given)
        async with door(proxy, tmp_path) as client:
            with trio.fail_after(HANG):
                yield client, proxy, model, told


@pytest.mark.parametrize(
    "busy",
    [
        OVERLOADED,
        error(429, "rate_limit_error", retry_after="0"),
        error(503, "api_error", retry_after="0"),
        streamed(0, then="overloaded_error"),
        streamed(1, then="overloaded_error"),
    ],
    ids=["529", "429", "503", "in the stream", "after its head"],
)
async def test_an_api_without_room_is_waited_for_and_that_is_told(tmp_path: Path, busy: Answer) -> None:
    """Passed on, the client would get them, and an error in a stream would even count as a turn."""
    async with answering(tmp_path, [busy, busy, busy, WHOLE]) as (client, proxy, model, told):
        answer = await client.post("/v1/messages", json=STREAM)
        assert answer.status_code == 200 and answer.content == WHOLE[2] and len(model.seen) == 4
        used = proxy.usage
        assert (used.turns, used.broken_off, used.requests, used.input_tokens, used.output_tokens) == (1, 0, 1, 130, 50)
        assert [status for status, _ in told] == ["model_waiting", "model_answered"] and proxy.explanation is None
        # Each waited request is told, not each try.
        model.answers[:] = [busy, WHOLE]
        assert (await client.post("/v1/messages", json=STREAM)).status_code == 200
        assert len(told) == 4


@pytest.mark.parametrize(
    "answer",
    [error(429, "rate_limit_error", x_should_retry="false"), error(500, "api_error"), error(503, "api_error")],
    ids=["a limit of the account", "500", "503 without a time"],
)
async def test_other_failures_are_the_program_s(tmp_path: Path, answer: Answer) -> None:
    async with answering(tmp_path, [answer]) as (client, proxy, model, told):
        assert (await client.post("/v1/messages", json=STREAM)).status_code == answer[0]
        assert len(model.seen) == 1 and told == [] and proxy.usage.turns == proxy.usage.input_tokens == 0


async def test_what_would_take_longer_than_the_run_is_said_at_once(tmp_path: Path) -> None:
    """It is not waited for where the run would not live to see the answer."""
    hours = error(429, "rate_limit_error", retry_after="7200")
    async with answering(tmp_path, [hours]) as (client, proxy, model, told):
        answer = await client.post("/v1/messages", json=STREAM)
        # A status for which the program does not ask again by itself.
        assert (answer.status_code, len(model.seen), told) == (403, 1, [])
        assert proxy.explanation is not None and proxy.explanation.code == 503
        assert "(429); it asks to wait 2 hours" in proxy.explanation.reason


async def test_a_client_that_leaves_ends_the_wait(tmp_path: Path) -> None:
    """Or its answer would be asked and paid for, and read by nobody."""
    told = trio.Event()

    async def tell(_status: str, _detail: str) -> None:
        told.set()

    hour = error(529, "overloaded_error", retry_after="900")
    async with answering(tmp_path, [hour], tell=tell) as (client, proxy, model, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.post("/v1/messages", json=STREAM))
            await told.wait()
            while not proxy.waits_for:
                await trio.sleep(0)
            assert proxy.waits_for == "overloaded (529)"
            nursery.cancel_scope.cancel()
        while proxy.waits_for:
            await trio.sleep(0.01)
        model.answers[:] = [WHOLE]
        assert (await client.post("/v1/messages", json=STREAM)).status_code == 200


@pytest.mark.parametrize(
    ("broken", "counted"),
    [
        (streamed(3, then="overloaded_error"), True),
        (streamed(1, then="api_error"), False),
        (streamed(3), True),
        (streamed(3, cut=True), True),
        (streamed(1, cut=True), True),
        (streamed(1), True),
    ],
    ids=["error after content", "error before", "ends early", "breaks", "breaks before content", "ends before content"],
)
async def test_a_stream_that_breaks_is_no_turn(tmp_path: Path, broken: Answer, counted: bool) -> None:
    """What the API said of its cost counts, but for what it broke off itself before any content. Seen to fail: a stream
    that ended in an error, or early, was a turn.
    """
    async with answering(tmp_path, [broken, WHOLE]) as (client, proxy, model, told):
        with suppress(httpx.RemoteProtocolError):
            await client.post("/v1/messages", json=STREAM)
        assert len(model.seen) == 1 and told == []
        assert (proxy.usage.turns, proxy.usage.broken_off, proxy.usage.input_tokens) == (0, counted, 130 * counted)
        assert (await client.post("/v1/messages", json=STREAM)).content == WHOLE[2]
        assert (proxy.usage.turns, proxy.usage.broken_off) == (1, counted)


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (streamed(6, stop="refusal"), 403, "declined"),
        (streamed(6, stop="model_context_window_exceeded"), 413, "context is full"),
        (
            error(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            413,
            "context is full",
        ),
        (error(413, "request_too_large"), 413, "larger than"),
        (error(404, "not_found_error", f"model: {BODY['model']}"), 404, f"no model {BODY['model']!r}"),
        (error(404, "", "<html>"), 404, "address in model.base_url"),
    ],
)
async def test_failures_that_have_a_sentence(tmp_path: Path, answer: Answer, code: int, said: str) -> None:
    async with answering(tmp_path, [answer, WHOLE]) as (client, proxy, _, _):
        assert (await client.post("/v1/messages", json=STREAM)).status_code == answer[0]
        assert proxy.explanation is not None and said in proxy.explanation.reason
        assert proxy.explanation.code == code and proxy.explanation.fix
        # Later answers make it a thing of the past.
        assert (await client.post("/v1/messages", json=STREAM)).status_code == 200 and proxy.explanation is None


async def test_members_that_are_left_out_are_told_once_each_and_so_many_of_them(tmp_path: Path) -> None:
    """Seen to fail without the bound."""
    async with answering(tmp_path, [WHOLE], max_turns=None) as (client, _, model, told):
        for _ in range(2):
            later = {**STREAM, "later\u202e": {"a": 1}}
            assert (await client.post("/v1/messages", json=later)).status_code == 200
        assert told == [("model_member_left_out", told[0][1])] and told[0][1].startswith("“later\ufffd”: ")
        many = {f"m{number}": 1 for number in range(NAMES_TOLD + 9)}
        assert (await client.post("/v1/messages", json={**STREAM, **many})).status_code == 200
        assert len(told) == NAMES_TOLD and "m1" not in model.seen[-1][2]


async def test_so_many_requests_wait_and_the_others_behind_them(tmp_path: Path) -> None:
    limits = ProxyLimits(concurrent_requests=2)
    hour = error(529, "overloaded_error", retry_after="900")
    async with (
        answering(tmp_path, [hour], limits=limits, max_turns=None) as (client, proxy, model, _),
        trio.open_nursery() as nursery,
    ):
        for _ in range(5):
            nursery.start_soon(lambda: client.post("/v1/messages", json=STREAM, timeout=HANG))
        while len(proxy._waiting) < 2:
            await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert len(proxy._waiting) == len(model.seen) == 2
        nursery.cancel_scope.cancel()


NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "tries", "seconds"),
    [
        ("7", 0, 7),
        ("0.5", 0, 1),
        ("86400", 3, 86400),
        ("Sun, 29 Nov 2026 12:01:30 GMT", 0, 90),
        ("Sun, 29 Nov 2026 11:00:00 GMT", 0, 1),
        ("", 0, 2),
        ("", 3, 16),
        ("", 10_000, 60),
        ("soon", 1, 4),
        ("nan", 0, 2),
        ("-5", 0, 2),
        ("9" * 400, 0, 2),
    ],
)
def test_how_long_a_wait_is(said: str, tries: int, seconds: float) -> None:
    busy = Busy(Failure(529), "overloaded", {"retry-after": said} if said else {})
    assert waiting.seconds(busy, tries, now=NOW, least=1.0, spread=1.0) == seconds
    asked_for = said[:1].isalnum() and said not in ("soon", "nan", "9" * 400)
    least = waiting.seconds(busy, tries, now=NOW, least=1.0, spread=0.0)
    assert least == (seconds if asked_for else 0.75 * seconds)


def test_times_for_people() -> None:
    assert [waiting.words(s) for s in (1, 40, 180, 7200)] == ["1 second", "40 seconds", "3 minutes", "2 hours"]


# --- with the real claude program


async def run(
    tmp_path: Path, answers: list[Answer], **change: Any
) -> tuple[frames.Finished, list[frames.Status], FakeModel]:
    with serving(FakeModel([say("x")], answers)) as model:
        async with dp_agent() as node:
            named = frames.Model(base_url=model.url, api_key="sk-ant-made-up", **change.pop("model", {}))
            finished = await node.run(start(tmp_path, runtime="claude", task="hello", model=named, **change))
        return finished, node.events(frames.Status), model


@pytest.mark.long
async def test_the_program_waits_as_long_as_the_proxy_does(tmp_path: Path) -> None:
    """Six times without room are more than the program itself asks. Seen to fail with the answers passed on."""
    answers = [error(529, "overloaded_error", retry_after="0")] * 6 + [WHOLE]
    finished, statuses, model = await run(tmp_path, answers)
    assert (finished.status, finished.reply) == ("completed", "hello"), finished.reason
    assert (finished.usage.turns, finished.usage.input_tokens, len(model.seen)) == (1, 130, 7)
    assert [each.status for each in statuses] == ["model_waiting", "model_answered"]
    assert "overloaded (529)" in statuses[0].detail


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        pytest.param([streamed(6, stop="refusal")], 403, "declined", id="refusal", marks=pytest.mark.long),
        pytest.param(
            *([error(404, "not_found_error", "model: own/model")], 404, "no model 'own/model'"),
            id="no such model",
            marks=pytest.mark.long,
        ),
        pytest.param([error(529, "overloaded_error", retry_after="7200")], 503, "asks to wait 2 hours", id="hours"),
    ],
)
async def test_a_run_ends_in_a_sentence_with_its_fix(
    tmp_path: Path, answers: list[Answer], code: int, said: str
) -> None:
    """Seen to fail: the sentence was the program's, which speaks of its own settings, with no fix."""
    finished, statuses, _ = await run(tmp_path, answers, model={"name": "own/model"})
    assert (finished.status, finished.code) == ("failed", code) and said in (finished.reason or "") and finished.fix
    # The named model's price is not known: its tokens are counted, and no cost is claimed.
    assert [each.status for each in statuses] == ["model_price_unknown"] and finished.usage.cost_usd == 0
    assert "5.00 USD" in statuses[0].detail and "model.price" in statuses[0].detail


async def test_a_stream_that_breaks_costs_no_turn_twice(tmp_path: Path) -> None:
    """The program asks again, or for an answer in one piece. Seen to fail: 2 turns."""
    whole = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [say("hello")]}
    counts = {"stop_reason": "end_turn", "usage": {"input_tokens": 100, "output_tokens": 50}}
    piece = 200, {"content-type": "application/json"}, json.dumps({**whole, **counts}).encode()
    finished, _, model = await run(tmp_path, [streamed(3, then="overloaded_error"), piece])
    assert (finished.status, finished.reply, finished.usage.turns) == ("completed", "hello", 1), finished.reason
    assert len(model.seen) == 2


@pytest.mark.long
@pytest.mark.parametrize("usd", [5.0, 0.001])
async def test_an_own_price_is_what_counts(tmp_path: Path, usd: float) -> None:
    """130 of input at 7, 50 of output at 11 USD a million."""
    price = frames.ModelPrice(input=7, output=11, cache_write=7, cache_read=7)
    finished, statuses, _ = await run(
        tmp_path, [WHOLE], model={"name": "own/model", "price": price}, budget=frames.Budget(usd=usd)
    )
    assert finished.usage.cost_usd == pytest.approx((130 * 7 + 50 * 11) / 1e6) and statuses == []
    assert finished.status == ("completed" if usd == 5.0 else "failed"), finished.reason
