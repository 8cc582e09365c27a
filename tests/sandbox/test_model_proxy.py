"""The model proxy on a real unix socket, with a scripted model on loopback behind it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from sandbox.errors import SandboxError
from sandbox.model_api.connection import ProxyLimits
from sandbox.model_api.interface import Allowance
from sandbox.model_api.proxy import ModelProxy
from tests.conftest import HANG
from tests.sandbox.fake_model import FakeModel, model_proxy, say, serving

KEY = "sk-real-key"
BODY: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
}
COUNTED = {key: value for key, value in BODY.items() if key != "max_tokens"}


@asynccontextmanager
async def door(proxy: ModelProxy, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    path = folder / "model.sock"
    async with (
        proxy.serving(path),
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://model.invalid") as client,
    ):
        yield client


def error_of(answer: httpx.Response) -> str:
    said = answer.json()
    assert said["type"] == "error" and set(said["error"]) == {"type", "message"}
    return str(said["error"]["message"])


async def test_it_passes_on_with_the_key_and_counts(tmp_path: Path) -> None:
    headers = {
        "x-api-key": "placeholder",
        "authorization": "Bearer stolen",
        "cookie": "a=b",
        "anthropic-version": "2023-06-01",
        "x-other": "1",
    }
    with serving(FakeModel([say("hello")])) as model:
        proxy = model_proxy(model.url, KEY, budget_usd=5)
        async with door(proxy, tmp_path) as client:
            assert (tmp_path / "model.sock").stat().st_mode & 0o777 == 0o600
            whole = await client.post("/v1/messages", json=BODY, headers=headers)
            assert whole.status_code == 200 and whole.json()["content"][0]["text"] == "hello"
            assert proxy.usage.input_tokens == 130 and proxy.usage.output_tokens == 50
            # 100 plain, 10 read from and 20 written to the cache, 50 out, at 3 and 15 dollars a million.
            assert proxy.usage.cost_usd == pytest.approx((100 + 1 + 25) * 3e-6 + 50 * 15e-6)
            streamed = await client.post("/v1/messages?beta=true", json={**BODY, "stream": True}, headers=headers)
            assert streamed.headers["content-type"].startswith("text/event-stream")
            assert b'"text": "hello"' in streamed.content and streamed.content.endswith(b"\n\n")
            assert proxy.usage.input_tokens == 260 and proxy.usage.output_tokens == 100 and proxy.usage.requests == 2
            counted = await client.post("/v1/messages/count_tokens", json=COUNTED, headers=headers)
            assert counted.status_code == 200 and proxy.usage.input_tokens == 260 and proxy.usage.requests == 3
        assert not (tmp_path / "model.sock").exists()
    assert [path for path, _, _ in model.seen] == [
        "/v1/messages",
        "/v1/messages?beta=true",
        "/v1/messages/count_tokens",
    ]
    for _, sent, body in model.seen:
        assert sent["x-api-key"] == KEY and sent["anthropic-version"] == "2023-06-01" and body["model"] == BODY["model"]
        assert not {"authorization", "cookie", "x-other"} & set(sent)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/messages"),
        ("POST", "/v1/models"),
        ("POST", "/v1/files"),
        ("POST", "/v1/messages/batches"),
        ("POST", "/v1/messages/"),
        ("POST", "/v1/messages/../files"),
        ("POST", "/v1/messages?beta=true&x=1"),
        ("POST", "/v1/messages%2f..%2ffiles"),
        ("PUT", "/v1/messages"),
        ("POST", "/"),
        ("POST", "http://example.com/v1/messages"),
    ],
)
async def test_everything_else_is_refused(tmp_path: Path, method: str, path: str) -> None:
    with serving(FakeModel([say("x")])) as model:
        proxy = model_proxy(model.url, KEY, budget_usd=5)
        async with door(proxy, tmp_path) as client:
            request = client.build_request(method, "/", json=BODY, extensions={"target": path.encode()})
            answer = await client.send(request)
            assert answer.status_code == 403 and "only the model's messages" in error_of(answer)
            assert (await client.post("/v1/messages", json=BODY)).status_code == 200  # and the door stays usable
    assert len(model.seen) == 1 and proxy.usage.refused == 1


async def test_a_refused_body_goes_nowhere(tmp_path: Path) -> None:
    """Which are refused: test_anthropic_requests.py."""
    with serving(FakeModel([say("x")])) as model:
        proxy = model_proxy(model.url, KEY, budget_usd=5)
        async with door(proxy, tmp_path) as client:
            for sent, status in ((b"not json", 400), (json.dumps({**BODY, "thinking": {"type": "x"}}).encode(), 403)):
                answer = await client.post("/v1/messages", content=sent)
                assert answer.status_code == status and error_of(answer)
            assert "$.thinking" in error_of(answer)
    assert model.seen == [] and proxy.usage.refused == 2


async def test_what_was_checked_is_what_is_sent(tmp_path: Path) -> None:
    # Two readers of one body may take different ones of two equal keys.
    twice = b'{"stream":"c","model":"claude-opus-5","max_tokens":1,"messages":[],"stream":null}'
    with serving(FakeModel([say("x")])) as model:
        async with door(model_proxy(model.url, KEY, budget_usd=5), tmp_path) as client:
            assert (await client.post("/v1/messages", content=twice)).status_code == 200
    assert model.seen[0][2] == {"model": "claude-opus-5", "max_tokens": 1, "messages": [], "stream": None}
    assert model.raw.count(b"stream") == 1


async def test_only_listed_betas_and_models_of_this_run(tmp_path: Path) -> None:
    allowance = Allowance(tools=frozenset({"Read"}), servers=frozenset({"mail"}), model="gateway/model[1m]")
    betas = "claude-code-20250219,web-search-2025-03-05, effort-2025-11-24,mcp-client-2025-11-20"
    with serving(FakeModel([say("x")])) as model:
        async with door(model_proxy(model.url, KEY, budget_usd=5, allowance=allowance), tmp_path) as client:

            async def status(**change: Any) -> int:
                return (await client.post("/v1/messages", json={**BODY, **change})).status_code

            assert [await status(model=name) for name in ("gateway/model", "claude-opus-5-5", "gateway/other")] == [
                200,
                200,
                403,
            ]
            assert [
                await status(tools=[{"name": name, "input_schema": {}}])
                for name in ("Read", "mcp__mail__send", "Bash", "mcp__b__c")
            ] == [
                200,
                200,
                403,
                403,
            ]
            await client.post("/v1/messages", json=BODY, headers={"anthropic-beta": betas})
            await client.post("/v1/messages", json=BODY, headers={"anthropic-beta": "files-api-2025-04-14"})
    assert model.seen[-2][1]["anthropic-beta"] == "claude-code-20250219,effort-2025-11-24"
    assert "anthropic-beta" not in model.seen[-1][1]


async def test_it_opens_for_the_secret_alone(tmp_path: Path) -> None:
    with serving(FakeModel([say("x")])) as model:
        async with door(model_proxy(model.url, KEY, budget_usd=5, secret="of-this-run"), tmp_path) as client:
            for headers in (
                {},
                {"x-api-key": "of-this-ru"},
                {"authorization": "Bearer of-this-run"},
                {"x-api-key": KEY},
            ):
                answer = await client.post("/v1/messages", json=BODY, headers=headers)
                assert answer.status_code == 401 and "agent program" in error_of(answer)
            assert model.seen == []
            assert (
                await client.post("/v1/messages", json=BODY, headers={"x-api-key": "of-this-run"})
            ).status_code == 200
    assert model.seen[0][1]["x-api-key"] == KEY


async def test_encoded_and_oversized_bodies(tmp_path: Path) -> None:
    with serving(FakeModel([say("x")])) as model:
        proxy = model_proxy(model.url, KEY, budget_usd=5, limits=ProxyLimits(request_bytes=10_000))
        async with door(proxy, tmp_path) as client:
            answer = await client.post("/v1/messages", content=b"x", headers={"content-encoding": "gzip"})
            assert answer.status_code == 400
            answer = await client.post("/v1/messages", json={**BODY, "system": "x" * 20_000})
            assert answer.status_code == 413 and "10000 bytes" in error_of(answer)

            async def endless() -> AsyncIterator[bytes]:
                while True:
                    yield b"x" * 1000

            with trio.fail_after(HANG):
                try:
                    answer = await client.post("/v1/messages", content=endless())
                    assert answer.status_code == 413
                except httpx.WriteError:
                    pass  # the proxy has answered and closed while we were still sending
    assert model.seen == []


async def test_without_a_key(tmp_path: Path) -> None:
    with serving(FakeModel([say("x")])) as model:
        for key in (None, "", "  "):
            async with door(model_proxy(model.url, key, budget_usd=5), tmp_path) as client:
                answer = await client.post("/v1/messages", json=BODY)
                assert answer.status_code == 401 and "ANTHROPIC_API_KEY" in error_of(answer)
                assert answer.json()["error"]["type"] == "authentication_error"
    assert model.seen == []


async def test_budget_messages(tmp_path: Path) -> None:
    with serving(FakeModel([say("x")])) as model:
        # One request costs 0.001128 dollars.
        async with door(model_proxy(model.url, KEY, budget_usd=0.002), tmp_path) as client:
            statuses = [(await client.post("/v1/messages", json=BODY)).status_code for _ in range(4)]
            assert statuses == [200, 200, 403, 403]
            answer = await client.post("/v1/messages/count_tokens", json=COUNTED)
            assert answer.status_code == 403 and "budget of 0.00 USD" in error_of(answer)
        async with door(model_proxy(model.url, KEY, budget_usd=5, max_requests=2), tmp_path) as client:
            statuses = [(await client.post("/v1/messages", json=BODY)).status_code for _ in range(3)]
            assert statuses == [200, 200, 403]
        async with door(model_proxy(model.url, KEY, budget_usd=0), tmp_path) as client:
            assert (await client.post("/v1/messages", json=BODY)).status_code == 403


@pytest.mark.parametrize(
    ("budget", "under_way", "statuses"), [(0.2, 2, [200, 200, 200, 200]), (0.01, 1, [200, 200, 403, 403])]
)
async def test_requests_under_way_count_against_the_budget(
    tmp_path: Path, budget: float, under_way: int, statuses: list[int]
) -> None:
    """What is held is given back: each asks for 0.15 dollars or more, and costs 0.00564. Seen to fail with nothing
    held, and with what was held refused instead of waited for.
    """
    big = {**BODY, "model": "claude-opus-4-1", "system": "x" * 30_000}
    with serving(FakeModel([say("x")])) as model:
        model.hold.clear()
        proxy = model_proxy(model.url, KEY, budget_usd=budget)
        async with door(proxy, tmp_path) as client, trio.open_nursery() as nursery:
            seen: list[int] = []

            async def one() -> None:
                seen.append((await client.post("/v1/messages", json=big, timeout=HANG)).status_code)

            for _ in range(4):
                nursery.start_soon(one)
            with trio.fail_after(HANG):
                while len(model.seen) < under_way:
                    await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked(0.2)
            assert (len(model.seen), seen) == (under_way, []), "the others wait to see what these cost"
            assert not proxy.budget_exhausted.is_set()
            model.hold.set()
        assert sorted(seen) == statuses and proxy.budget_exhausted.is_set() == (403 in statuses)


async def test_a_request_beyond_the_budget_is_told_outside(tmp_path: Path) -> None:
    """Seen to fail with the event set by the answer that took the last of it."""
    with serving(FakeModel([say("x")])) as model:
        proxy = model_proxy(model.url, KEY, budget_usd=0.001)
        async with door(proxy, tmp_path) as client:
            assert (await client.post("/v1/messages", json=BODY)).status_code == 200
            assert proxy.usage.cost_usd > 0.001 and not proxy.budget_exhausted.is_set()
            assert (await client.post("/v1/messages", json=BODY)).status_code == 403
        assert proxy.budget_exhausted.is_set() and len(model.seen) == 1


async def test_turns_are_whole_answers(tmp_path: Path) -> None:
    with serving(FakeModel([say("x")])) as model:
        proxy = model_proxy(model.url, KEY, budget_usd=5, max_turns=2)
        async with door(proxy, tmp_path) as client:

            async def ask(**more: Any) -> httpx.Response:
                return await client.post("/v1/messages", json={**BODY, **more})

            async def count() -> httpx.Response:
                return await client.post("/v1/messages/count_tokens", json=COUNTED)

            assert (await ask()).status_code == 200
            model.answer_with = (529, {"content-type": "application/json"}, b"{}")
            assert (await ask()).status_code == 529
            model.answer_with = None
            assert (await count()).status_code == 200
            assert not proxy.turns_exhausted.is_set()
            assert (await ask(stream=True)).status_code == 200
            assert (proxy.usage.turns, proxy.turns_exhausted.is_set()) == (2, False)
            refused = await ask()
            assert refused.status_code == 403 and "budget of 2 turns" in error_of(refused)
            assert (await count()).status_code == 200
        assert proxy.turns_exhausted.is_set() and len(model.seen) == 5


async def test_answers_at_once_are_turns_too(tmp_path: Path) -> None:
    with serving(FakeModel([say("x")])) as model:
        model.hold.clear()
        async with (
            door(model_proxy(model.url, KEY, budget_usd=5, max_turns=2), tmp_path) as client,
            trio.open_nursery() as nursery,
        ):
            statuses: list[int] = []

            async def one() -> None:
                statuses.append((await client.post("/v1/messages", json=BODY, timeout=HANG)).status_code)

            for _ in range(5):
                nursery.start_soon(one)
            with trio.fail_after(HANG):
                while len(model.seen) < 2:
                    await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked(0.2)
            assert (len(model.seen), statuses) == (2, []), "the others wait to see what becomes of these"
            model.hold.set()
        assert sorted(statuses) == [200, 200, 403, 403, 403] and len(model.seen) == 2


async def test_answers_that_break_off_are_not_turns_but_bounded(tmp_path: Path) -> None:
    """As a program would cause them that wants all but an answer's last byte."""
    with serving(FakeModel([say("x")])) as model:
        limits = ProxyLimits(response_bytes=100)
        proxy = model_proxy(model.url, KEY, budget_usd=5, max_turns=1, limits=limits)
        async with door(proxy, tmp_path) as client:
            for _ in range(11):
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.post("/v1/messages", json={**BODY, "stream": True})
            assert (proxy.usage.turns, proxy.usage.broken_off, proxy.turns_exhausted.is_set()) == (0, 11, False)
            assert (await client.post("/v1/messages", json=BODY)).status_code == 403
        assert proxy.turns_exhausted.is_set() and len(model.seen) == 11


async def test_a_broken_answer_is_counted_high(tmp_path: Path) -> None:
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
    start += b"event: content_block_start\n"
    with serving(FakeModel([say("x")])) as model:
        model.answer_with = (
            200,
            {"content-type": "text/event-stream", "content-length": "100000"},
            start + b"data: x" * 100,
        )
        proxy = model_proxy(model.url, KEY, budget_usd=5, limits=ProxyLimits(silence_seconds=0.5))
        async with door(proxy, tmp_path) as client:
            with pytest.raises(httpx.HTTPError):
                await client.post("/v1/messages", json={**BODY, "stream": True})
        assert proxy.usage.input_tokens == 7 and proxy.usage.output_tokens > 200


async def test_redirects_errors_and_silence_upstream(tmp_path: Path) -> None:
    with serving(FakeModel([say("x")])) as model:
        proxy = model_proxy(
            model.url, KEY, budget_usd=5, limits=ProxyLimits(response_bytes=10_000, silence_seconds=0.5)
        )
        async with door(proxy, tmp_path) as client:
            model.answer_with = (307, {"location": "http://127.0.0.1:1/"}, b"")
            answer = await client.post("/v1/messages", json=BODY)
            assert answer.status_code == 502 and "redirect" in error_of(answer)
            model.answer_with = (
                429,
                {"retry-after": "7", "set-cookie": "a=b"},
                b'{"type":"error","key":"' + KEY.encode() + b'"}',
            )
            answer = await client.post("/v1/messages", json=BODY)
            assert (
                answer.status_code == 429
                and answer.headers["retry-after"] == "7"
                and "set-cookie" not in answer.headers
            )
            assert KEY not in answer.text and "[key]" in answer.text
            assert len(model.seen) == 2  # neither followed nor tried again
            model.answer_with = (200, {"content-type": "application/json"}, b"x" * 50_000)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("/v1/messages", json=BODY)
            model.answer_with = None
            model.hold.clear()
            answer = await client.post("/v1/messages", json=BODY)
            assert answer.status_code == 502 and "ReadTimeout" in error_of(answer)
            model.hold.set()
        unreachable = model_proxy("http://127.0.0.1:1", KEY, budget_usd=5)
        async with door(unreachable, tmp_path) as client:
            assert (await client.post("/v1/messages", json=BODY)).status_code == 502


async def test_bad_clients_disturb_nobody(tmp_path: Path) -> None:
    with serving(FakeModel([say("x")])) as model:
        limits = ProxyLimits(header_seconds=0.2, body_seconds=0.2, connections=4)
        async with door(model_proxy(model.url, KEY, budget_usd=5, limits=limits), tmp_path) as client:
            path = str(tmp_path / "model.sock")
            for sent in (
                b"\x16\x03\x01garbage\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"A" * 100_000,
                b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx",
                b"",
            ):
                for _ in range(4):
                    stream = await trio.open_unix_socket(path)
                    try:
                        await stream.send_all(sent)
                        with trio.fail_after(HANG):
                            while await stream.receive_some():
                                pass
                    except trio.BrokenResourceError:
                        pass
                    await stream.aclose()
            # More silent connections than there are places: the next one waits for a place and gets it.
            silent = [await trio.open_unix_socket(path) for _ in range(8)]
            with trio.fail_after(HANG):
                assert (await client.post("/v1/messages", json=BODY)).status_code == 200
            for stream in silent:
                await stream.aclose()


async def test_no_proxy_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(FakeModel([say("x")])) as model:
        async with door(model_proxy(model.url, KEY, budget_usd=5), tmp_path) as client:
            assert (await client.post("/v1/messages", json=BODY)).status_code == 200


async def test_long_socket_paths_and_the_callers_own_errors(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 150)
    folder.mkdir()
    proxy = model_proxy(None, KEY, budget_usd=5)
    assert proxy.base_url == "https://api.anthropic.com"
    with pytest.raises(KeyError):  # as it was raised, not in a group
        async with proxy.serving(folder / "model.sock"):
            assert (folder / "model.sock").is_socket()
            raise KeyError
    assert not list(folder.iterdir())
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "s"))
        with pytest.raises(OSError):
            async with proxy.serving(tmp_path / "s"):
                pass
    assert (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "base",
    [
        "ftp://x",
        "api.anthropic.com",
        "https://user:pw@x",
        "https://x/?a=b",
        "http://",
        "https://x/#f",
        "http://[::1",
    ],
)
def test_addresses_that_are_none(base: str) -> None:
    with pytest.raises(SandboxError) as refused:
        model_proxy(base, KEY, budget_usd=5)
    assert refused.value.code == 422 and "pw" not in refused.value.message


def test_certificates_in_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    """Seen to hang."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SandboxError, match="is not a file") as refused:
        model_proxy(None, KEY, budget_usd=5, ca_file=str(tmp_path / "pipe"))
    assert "$SSL_CERT_FILE" in refused.value.fix


def test_keys_that_are_none() -> None:
    for key in ("a\nb", "ключ", "a\x00"):
        with pytest.raises(SandboxError) as refused:
            model_proxy(None, key, budget_usd=5)
        assert key not in str(refused.value)


async def test_nothing_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    with serving(FakeModel([say("x")])) as model:
        async with door(model_proxy(model.url, KEY, budget_usd=5), tmp_path) as client:
            await client.post("/v1/messages", json={**BODY, "system": "a private matter"})
    said = caplog.text + "".join(capfd.readouterr())
    assert KEY not in said and "private matter" not in said
