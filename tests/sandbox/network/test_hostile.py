"""Hostile registries, hosts and clients at the network proxy: one connection breaks, and the run goes on.

Without a sandbox around the client, which would add nothing here. The hosts are a fake (internet.py).
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import h11
import httpx
import pytest
import trio
import trio.testing

from sandbox import frames
from sandbox.network import dialing, of_run
from sandbox.network.packages import fetcher as fetcher_module
from sandbox.network.packages.fetcher import PackageFetcher, Registry
from sandbox.network.packages.upstream import Upstream
from sandbox.network.proxy import NetworkProxy
from sandbox.network.usage import NetworkUsage
from tests.company_proxy import company_proxy
from tests.conftest import HANG
from tests.sandbox.network.internet import Internet, internet
from tests.sandbox.network.test_packages import HOSTS, REGISTRIES

WANTED = {
    **{"npm": {"left": ["1.0.0"], "@s/b": ["1.0.0"]}, "pip": {"here-it-is": ["1.0"]}},
    **{"cargo": {"Adder": ["1.0.0"]}, "go": {}},
}


def fetcher(there: Internet, most_bytes: int = 50_000_000, upstream: Upstream | None = None) -> PackageFetcher:
    """`upstream`: through a proxy, in place of the fake's own way."""
    given = frames.Network(packages=WANTED)
    return PackageFetcher(
        [Registry(kind, address, by_proxy=upstream is not None) for kind, address in REGISTRIES.items()],
        of_run.wanted(given),
        file_hosts=["files.example.org"],
        upstream=upstream or there.upstream(),
        usage=NetworkUsage(most_bytes),
        tell=there.tell,
    )


@contextlib.asynccontextmanager
async def served(proxy: NetworkProxy) -> AsyncIterator[int]:
    """The port at which a proxy is served."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.serve, listener)
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def asked(proxy: NetworkProxy, port: int, address: str, method: str = "GET") -> bytes:
    """All that comes back for a request of a package, "" for a connection that is just ended."""
    host, _, path = address.partition("/")
    assert proxy.packages is not None
    trusted = ssl.create_default_context(cadata=proxy.packages.authority.certificate.decode())
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 200")
    tls = trio.SSLStream(stream, trusted, server_hostname=host, https_compatible=True)
    back = b""
    with contextlib.suppress(trio.BrokenResourceError):
        await tls.send_all(f"{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        while piece := await tls.receive_some(65536):
            back += piece
    await trio.aclose_forcefully(tls)
    return back


async def still_answers(port: int) -> bool:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return (await stream.receive_some(4096)).startswith(b"HTTP/1.1 403")


def redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n".encode()


def says(content: bytes, kind: bytes = b"application/vnd.pypi.simple.v1+json") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind, len(content), content)


LISTS = ("npm.example.org/left", "pypi.example.org/simple/here-it-is/")


@pytest.mark.parametrize("address", LISTS)
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 099 No\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: \xe9\r\ncontent-length: 2\r\n\r\nok",
        *map(redirect, ("https://files.example.org:99999/", "https://.example.org/", "https://[/", "https://a..b/")),
        *map(redirect, ("https://127.0.0.1/", "https://[::1]/", "http://files.example.org/", "//", "https://a b/")),
        says(b'{"files":[],"a":' + b"[" * 100_000),
        says(b'{"files":[{"url":"\xff"}]}'),
        says(b'<base href="http://["><a href="x">', b"text/html"),
        says('{"files":[{"url":"https://é.example.org:99999/x"}]}'.encode()),
    ],
)
async def test_what_a_registry_answers_breaks_no_run(
    capsys: pytest.CaptureFixture[str], address: str, answer: bytes
) -> None:
    async def hostile(*_: object) -> bytes:
        return answer

    async with internet(HOSTS, hostile) as there:
        proxy = there.proxy(packages=fetcher(there))
        async with served(proxy) as port:
            await asked(proxy, port, address)
            assert await still_answers(port)
            await proxy.finish()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "template",
    [
        *("https://static.example.org/{crate}/{crate}/{version}", "https://static.example.org/{prefix}"),
        "https://static.example.org/" + "{prefix}" * 30 + "{crate}{version}!",
        *("https://static.example.org:99999/", "https://[", "https://"),
    ],
)
async def test_where_a_registry_says_that_crates_are_breaks_no_run(
    capsys: pytest.CaptureFixture[str], template: str
) -> None:
    """A template is no pattern that can be looked for without end."""

    async def hostile(host: str, request: h11.Request) -> bytes:
        return says(b'{"dl":"%s"}' % template.encode())

    async with internet(HOSTS, hostile) as there:
        proxy = there.proxy(packages=fetcher(there))
        async with served(proxy) as port:
            await asked(proxy, port, "index.example.org/crates/config.json")
            if template.startswith("https://static.example.org/"):
                await asked(proxy, port, f"static.example.org/{'x' * 200}")
            assert await still_answers(port)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("target", ["code.example.org:443:443", "[::1]:443:443", "[:443", ":443"])
async def test_the_trace_names_no_granted_host_as_refused(target: str) -> None:
    """What has two ports would read like a granted host with one."""
    async with internet() as there:
        async with served(there.proxy("code.example.org")) as port:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 400 CONNECT wants HOST:PORT")
            await stream.aclose()
        assert there.told == []


async def test_a_refusal_of_a_head_is_said() -> None:
    async with internet() as there, served(there.proxy()) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 403 only HTTPS can leave")
        await stream.aclose()


async def test_the_length_that_counts_is_passed_back() -> None:
    both = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"

    async def ambiguous(*_: object) -> bytes:
        return both

    async with internet(HOSTS, ambiguous) as there:
        proxy = there.proxy(packages=fetcher(there))
        async with served(proxy) as port:
            back = await asked(proxy, port, "npm.example.org/left")
    assert b"abcde" in back and b"content-length" not in back


async def test_a_name_is_sent_in_one_form_alone() -> None:
    """How a run writes the name of a wanted package would be a way to say something."""

    async def static(host: str, request: h11.Request) -> tuple[int, bytes]:
        template = b'{"dl":"https://static.example.org/{sha256-checksum}/{crate}/{version}"}'
        return (200, template) if b"config" in request.target else (200, b"[]")

    async with internet(HOSTS, static) as there:
        proxy = there.proxy(packages=fetcher(there))
        async with served(proxy) as port:
            for path in ("here-it-is/", "HERE_it-_.-is", "Here.It.Is/"):
                await asked(proxy, port, f"pypi.example.org/simple/{path}")
            for path in ("@s%2fb", "@s%2Fb", "@s/b", "@s/b/-/b-1.0.0.tgz", "@s%2fb%2F-%2Fb-1.0.0.tgz"):
                await asked(proxy, port, f"npm.example.org/{path}")
            await asked(proxy, port, "index.example.org/crates/config.json")
            back = await asked(proxy, port, f"static.example.org/{'ab' * 32}/Adder/1.0.0")
    assert {f"{host}{words.partition(' ')[2]}" for host, words in there.seen} == {
        "pypi.example.org/simple/here-it-is/",
        "npm.example.org/@s%2fb",
        "npm.example.org/@s/b/-/b-1.0.0.tgz",
        "index.example.org/crates/config.json",
    }
    assert back.startswith(b"HTTP/1.1 403")


async def test_a_proxy_that_refuses_is_said_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    with company_proxy() as company:
        address = f"http://alice:hunter2@127.0.0.1:{company.server_address[1]}"
        async with internet(HOSTS) as there:
            upstream = Upstream(trusted=ssl.create_default_context(), http_proxy=httpx.Proxy(address))
            proxy = there.proxy(packages=fetcher(there, upstream=upstream))
            async with served(proxy) as port:
                for each in LISTS:
                    back = await asked(proxy, port, each)
                    assert back.startswith(b"HTTP/1.1 502") and b"(ProxyError)" in back and b"hunter2" not in back
    assert len(company.heads) == len(LISTS) and capsys.readouterr().err == ""


async def test_an_error_of_a_registry_is_not_remembered() -> None:
    answers = iter([(503, b""), (200, b'<a href="https://files.example.org/p/here_it_is-1.0-py3-none-any.whl">x</a>')])

    async def once_broken(host: str, request: h11.Request) -> tuple[int, bytes]:
        return next(answers) if host == "pypi.example.org" else (200, b"a wheel")

    async with internet(HOSTS, once_broken) as there:
        packages = fetcher(there)
        proxy = there.proxy(packages=packages)
        async with served(proxy) as port:
            file = "files.example.org/p/here_it_is-1.0-py3-none-any.whl"
            assert (await asked(proxy, port, file)).startswith(b"HTTP/1.1 403")
            assert (await asked(proxy, port, file)).endswith(b"a wheel")
    assert str(packages._usage.hosts["pypi.example.org"]).startswith("2 requests for packages, ")
    assert [detail for status, detail in there.told if status == "network_host"] == [
        "the first request for a package to pypi.example.org",
        "the first request for a package to index.example.org",  # which could have had it too
        "the first request for a package to files.example.org",
    ]


async def test_lists_that_nobody_takes_do_not_pile_up() -> None:
    async def large(host: str, request: h11.Request) -> tuple[int, bytes]:
        return 200, b" " * 16_000_000

    async with internet(HOSTS, large) as there:
        packages = fetcher(there)
        proxy = there.proxy(packages=packages)
        trusted = ssl.create_default_context(cadata=packages.authority.certificate.decode())

        async def ask(port: int, host: str, path: str) -> trio.abc.Stream:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await stream.receive_some(4096)
            tls = trio.SSLStream(stream, trusted, server_hostname=host, https_compatible=True)
            await tls.send_all(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return tls

        async with served(proxy) as port:
            idle = [
                await ask(port, "pypi.example.org", "/simple/here-it-is/") for _ in range(fetcher_module.LISTS_READ)
            ]
            for stream in idle:
                await stream.receive_some(1)
            waits = await ask(port, "pypi.example.org", "/simple/here-it-is/")
            goes_on = await ask(port, "npm.example.org", "/left")  # which is passed on as it comes
            await goes_on.receive_some(1)
            assert [host for host, _ in there.seen].count("pypi.example.org") == fetcher_module.LISTS_READ
            await trio.aclose_forcefully(idle[0])
            await waits.receive_some(1)
            for stream in (*idle, waits, goes_on):
                await trio.aclose_forcefully(stream)


async def test_a_list_without_end_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(*_: object) -> tuple[int, bytes]:
        return 200, b" " * 1_000_000

    monkeypatch.setattr(fetcher_module, "_LIST_BYTES", 200_000)
    async with internet(HOSTS, endless) as there:
        packages = fetcher(there)
        async with served(there.proxy(packages=packages)) as port:
            back = await asked(there.proxy(packages=packages), port, "pypi.example.org/simple/here-it-is/")
    assert back.startswith(b"HTTP/1.1 502") and b"pypi.example.org is too large" in back
    assert packages._usage.total < 1_000_000


async def test_a_list_is_read_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of many megabytes takes seconds, in which the run's model is answered all the same."""
    began, goes_on = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> frozenset[str]:
        began.set()
        assert goes_on.wait(HANG)
        return frozenset()

    async def some(*_: object) -> tuple[int, bytes]:
        return 200, b"[]"

    monkeypatch.setattr("sandbox.network.packages.listing.files", slow)
    async with internet(HOSTS, some) as there:
        proxy = there.proxy(packages=fetcher(there))
        async with served(proxy) as port, trio.open_nursery() as nursery:
            nursery.start_soon(asked, proxy, port, "pypi.example.org/simple/here-it-is/")
            await trio.to_thread.run_sync(began.wait)
            assert await still_answers(port)
            goes_on.set()


async def test_the_end_of_the_budget_is_told_once() -> None:
    async def large(host: str, request: h11.Request) -> tuple[int, bytes]:
        return 200, b"x" * 3_000_000

    async with internet(HOSTS, large) as there:
        packages = fetcher(there, most_bytes=1_000_000)
        proxy = there.proxy(packages=packages)
        async with served(proxy) as port, trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(asked, proxy, port, "npm.example.org/left")
                nursery.start_soon(asked, proxy, port, "pypi.example.org/simple/here-it-is/")
    assert [status for status, _ in there.told].count("network_used_up") == 1


async def test_a_defect_in_one_connection_ends_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(host: str, port: int) -> Sequence[str]:
        raise LookupError("a defect")

    async with internet() as there:
        proxy = there.proxy("code.example.org")
        proxy._resolve = broken
        async with served(proxy) as port:
            for _ in range(3):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                await stream.send_all(b"CONNECT code.example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n")
                assert await stream.receive_some(1) == b""
                await stream.aclose()
            assert await still_answers(port)
    assert capsys.readouterr().err.count("LookupError: a defect") == 1


async def test_names_that_nobody_looks_up_keep_no_thread_of_the_runs_other_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forty threads are trio's; a resolver that does not answer would have them all."""
    answered = threading.Event()

    def silent(*_: object, **__: object) -> list[Any]:
        answered.wait(HANG)
        return []

    monkeypatch.setattr("socket.getaddrinfo", silent)
    threads = trio.to_thread.current_default_thread_limiter()
    async with trio.open_nursery() as nursery:
        for _ in range(int(threads.total_tokens)):
            nursery.start_soon(dialing.resolve, "code.example.org", 443)
        await trio.testing.wait_all_tasks_blocked()
        taken = threads.borrowed_tokens
        answered.set()
        nursery.cancel_scope.cancel()
    assert taken == 0
