"""`dispatch-relay` as a process: starting, refusing to start, serving behind its certificate, stopping."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result
from trio_websocket import open_websocket_url

from peer.protocol.relays.messages import CONTROL_PATH, SUBPROTOCOL, Challenge, Ticket, Welcome
from rendezvous.relay.main import main
from tests.conftest import HANG
from tests.rendezvous.relay.world import Client, Keys, proof
from tests.rendezvous.test_main import environment
from tests.rendezvous.world import make_certificate

SECRET = "s" * 40
KEY = "A" * 43


@contextmanager
def process(*options: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `serve`; give the process and its origin once it says that it listens."""
    command = [sys.executable, "-m", "rendezvous.relay.main", "serve", "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**variables)
    ) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            assert line.startswith("listening on "), running.stderr and running.stderr.read()
            yield running, line.removeprefix("listening on ").strip()
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_over_tls_and_tells_whoever_is_connected_when_it_stops(
    tmp_path: Path, number: signal.Signals
) -> None:
    certificate, key = make_certificate(tmp_path)
    trusted = ssl.create_default_context(cafile=str(certificate))
    options = ("--allow", "token", "--certificate", str(certificate), "--key", str(key))
    with process(*options, DISPATCH_RELAY_TOKEN=SECRET) as (running, origin):
        assert origin.startswith("https://127.0.0.1:")
        url = origin.replace("https", "wss") + CONTROL_PATH
        async with open_websocket_url(url, trusted, subprotocols=[SUBPROTOCOL], disconnect_timeout=HANG) as socket:
            client = Client(socket)
            challenge = await client.receive()
            assert isinstance(challenge, Challenge) and challenge.origin == origin
            await client.send(proof(Keys(), challenge, SECRET.encode()))
            assert await client.receive() == Welcome(0)
            assert isinstance(await client.ring(1, b"t" * 16), Ticket)
            half_open = await trio.open_tcp_stream("127.0.0.1", int(origin.rpartition(":")[2]))
            async with half_open:
                running.send_signal(number)
                assert await client.closed() == (1001, "the relay stops")
                with trio.fail_after(HANG):
                    assert await trio.to_thread.run_sync(running.wait) == 0
        assert running.stderr is not None
        said = running.stderr.read()
        assert "Traceback" not in said and SECRET not in said


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the program in this process with arguments that it must not serve with."""

    async def never(*_: object, **__: object) -> None:
        raise AssertionError("it started to serve")

    monkeypatch.setattr("rendezvous.relay.serving.serve", never)

    def run(*arguments: str, **variables: str) -> Result:
        cleared = {name: None for name in os.environ if name.startswith("DISPATCH_")}
        result = CliRunner().invoke(main, arguments, env={**cleared, **variables})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "no --allow"),
        (["--allow", "token"], "DISPATCH_RELAY_TOKEN"),
        (["--allow", "friends"], "fix: give --allow broker=KEY"),
        (["--allow", "contacts=here.json"], "no file at an absolute path"),
        (["--allow", f"broker={KEY}", "--host", "0.0.0.0"], "--public-url"),
        (["--allow", f"broker={KEY}", "--public-url", "http://relay.example"], "not use TLS"),
        (["--allow", f"broker={KEY}", "--public-url", "https://relay.example/x"], "not a relay's address"),
        (["--allow", f"broker={KEY}", "--behind-proxy", "0.0.0.0/0"], "only the addresses of your proxies"),
        (["--allow", f"broker={KEY}", "--trusted-proxies", "10.0.0.0/8,::/0"], "--trusted-proxies ::/0 would trust"),
        (["--allow", f"broker={KEY}", "--certificate", __file__], "--certificate and --key have to be given together"),
        (
            ["--allow", f"broker={KEY}", "--certificate", __file__, "--key", __file__],
            "not a certificate and its private key",
        ),
    ],
)
def test_what_is_refused_at_the_start(options: list[str], says: str, refused: Callable[..., Result]) -> None:
    done = refused("serve", "--port", "0", *options)
    assert done.exit_code == 2 and says in done.stderr and "fix: " in done.stderr, done.stderr


def test_a_port_that_is_taken(refused: Callable[..., Result]) -> None:
    with process("--allow", f"broker={KEY}") as (_, origin):
        done = refused("serve", "--allow", f"broker={KEY}", "--port", origin.rpartition(":")[2])
        assert done.exit_code == 1 and "can't listen" in done.stderr and "--port" in done.stderr


def test_help_and_version(refused: Callable[..., Result]) -> None:
    shown = refused("serve", "-h")
    assert shown.exit_code == 0 and "dispatch-relay serve" in shown.stdout and "DISPATCH_RELAY_TOKEN" in shown.stdout
    assert refused("--version").stdout.startswith("dispatch-relay, version")
