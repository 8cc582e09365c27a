"""`dispatch-rendezvous` as a process: starting, refusing to start, stopping, keeping what it knew."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trio
from click.testing import CliRunner, Result

from peer.broker.client import BrokerClient, LoginToken
from peer.machine import identity
from peer.machine.state_folder import StateFolder
from peer.protocol import base64url
from peer.protocol.errors import Unauthorized, Unavailable
from peer.protocol.relays.admission import open_token
from rendezvous.broker import Broker, wall_clock
from rendezvous.limits import Limits
from rendezvous.main import main
from rendezvous.relay_tokens import load_relay_key
from rendezvous.tokens import load_secrets
from tests.conftest import HANG
from tests.rendezvous.postgresql import Server
from tests.rendezvous.test_listening import has_ipv6
from tests.rendezvous.world import make_certificate

ROOT = Path(__file__).parents[2]
OURS = ("DISPATCH_", "DATABASE_URL")
PROGRAM = [sys.executable, "-m", "rendezvous.main"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


@contextmanager
def process(data: Path, *options: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `serve`; give the process and its address once it says that it listens."""
    command = [*PROGRAM, "serve", "--data", str(data), *options]
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


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the program in this process with arguments that it must not serve with."""

    async def never(*_: object, **__: object) -> None:
        raise AssertionError("it started to serve")

    monkeypatch.setattr("rendezvous.serving.serve", never)

    def run(*arguments: str, **variables: str) -> Result:
        cleared = {name: None for name in os.environ if name.startswith(OURS)}
        result = CliRunner().invoke(main, arguments, env={**cleared, **variables})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


async def sign_in(client: BrokerClient, device_set: bytes) -> None:
    prompt = await client.login_device(device_set)
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        assert (await http.post(prompt.verification_uri, data={"user_code": prompt.user_code})).status_code == 200
    assert isinstance(await client.wait_for_login(prompt), LoginToken)


@pytest.mark.parametrize("database", ["file", "postgresql"])
async def test_what_it_knew_survives_a_kill_and_a_restart(tmp_path: Path, postgresql: Server, database: str) -> None:
    data = tmp_path / "data"
    more = {"DATABASE_URL": postgresql.database()} if database == "postgresql" else {}
    who = identity.create(StateFolder(tmp_path / "s"), "alice@example.org", "laptop", wall_clock, os.urandom)
    with process(data, "--dev", "--port", "0", **more) as (running, url):
        port = url.rpartition(":")[2]
        async with BrokerClient(url, author=who) as client:
            await sign_in(client, who.device_set)
            await client.put_presence(seq=1, expires=wall_clock() + 600_000, box=b"box")
            token = client.token
        running.kill()
    for name in ("", "jwt.secret", *(("rendezvous.db", "rendezvous.db-wal") if not more else ())):
        assert (data / name).stat().st_mode & 0o077 == 0, name
    with process(data, "--dev", "--port", port, **more) as (_, again):
        assert again == url
        async with BrokerClient(url, author=who, token=token) as client:
            assert [entry.box for entry in await client.get_presence("alice@example.org")] == [b"box"]
    with (
        process(data, "--dev", "--port", port, DISPATCH_JWT_SECRET="x" * 32, **more) as (_, _url),
        pytest.raises(Unauthorized, match="DISPATCH_JWT_SECRET"),
    ):
        async with BrokerClient(url, author=who, token=token) as client:
            await client.invitations()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_gracefully_while_somebody_waits(tmp_path: Path, number: int) -> None:
    who = identity.create(StateFolder(tmp_path / "s"), "alice@example.org", "laptop", wall_clock, os.urandom)
    with process(tmp_path / "data", "--dev", "--port", "0", DISPATCH_METRICS_TOKEN="m" * 32) as (running, url):
        async with BrokerClient(url, author=who) as client:
            await sign_in(client, who.device_set)
            heard: list[int] = []
            authorization = {"authorization": f"Bearer {client.token}"}

            async def wait() -> None:
                async with httpx.AsyncClient(trust_env=False, verify=False, timeout=HANG) as http:
                    page = await http.get(f"{url}/v1/invitations?wait=25", headers=authorization)
                    heard.append(page.json()["version"])

            with trio.fail_after(HANG):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    operator = {"authorization": f"Bearer {'m' * 32}"}
                    async with httpx.AsyncClient(trust_env=False, verify=False, headers=operator) as http:
                        while "dispatch_readers_waiting 1" not in (await http.get(f"{url}/metrics")).text:
                            await trio.sleep(0.02)
                    running.send_signal(number)
                # The waiting reader got its answer, and the process went by itself, without a complaint.
                assert heard == [0]
                assert await trio.to_thread.run_sync(running.wait, 10) == 0
            assert running.stderr is not None
            assert "Traceback" not in running.stderr.read()
            with pytest.raises(Unavailable, match=f"can't reach broker {url}"):
                await client.health()


async def test_tls_by_its_own_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path)
    who = identity.create(StateFolder(tmp_path / "s"), "alice@example.org", "laptop", wall_clock, os.urandom)
    options = ("--dev", "--port", "0", "--certificate", str(certificate), "--key", str(key))
    with process(tmp_path / "data", *options) as (_, url):
        assert url.startswith("https://127.0.0.1:")
        with pytest.raises(Unavailable, match="its certificate is not trusted"):  # nobody vouches for the certificate
            async with BrokerClient(url, author=who) as client:
                await client.health()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with BrokerClient(url, author=who) as client:
            assert (await client.health()).origin == url


def test_dev_is_refused_off_loopback(tmp_path: Path, refused: Callable[..., Result]) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "broker.example"):
        done = refused("serve", "--dev", "--host", host, "--data", str(tmp_path / "d"), "--public-url", "https://x.y")
        assert done.exit_code == 2 and "--dev" in done.stderr and "fix: use --host 127.0.0.1" in done.stderr
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        (["--public-url", "https://broker.example"], "remove --public-url"),
        (["--public-url", "http://192.0.2.1:8800"], "remove --public-url"),
        (["--public-url", "https://127.0.0.1.nip.io"], "remove --public-url"),
        (["--trusted-proxies", "127.0.0.1"], "remove --trusted-proxies"),
        (["--behind-proxy", "127.0.0.1", "--public-url", "http://127.0.0.1:1"], "remove --trusted-proxies"),
    ],
)
def test_dev_is_refused_every_way_off_loopback(
    tmp_path: Path, options: list[str], fix: str, refused: Callable[..., Result]
) -> None:
    done = refused("serve", "--dev", "--port", "0", "--data", str(tmp_path / "d"), *options)
    assert done.exit_code == 2 and "--dev" in done.stderr and f"fix: {fix}" in done.stderr
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("options", "variables", "says"),
    [
        (["--host", "0.0.0.0"], {}, "--public-url"),
        (["--public-url", "ftp://x"], {}, "not the address of a broker"),
        (["--public-url", "https://x?y"], {}, "not the address of a broker"),
        ([], {"DISPATCH_JWT_SECRET": "short"}, "at least 32"),
        (["--smtp-host", "localhost"], {}, "--smtp-from"),
        (["--smtp-host", "localhost", "--smtp-from", "x"], {}, "--smtp-from"),
        (["--port", "65536"], {}, "65536"),
        (["--host", "not a host"], {}, "--public-url"),
        (["--behind-proxy", "proxy.example"], {}, "--trusted-proxies 192.0.2.1"),
        (["--trusted-proxies", "10.0.0.0/8,proxy.example"], {}, "'proxy.example' is not the address of a proxy"),
        (["--trusted-proxies", "10.0.0.0/8,"], {}, "'' is not the address of a proxy"),
        (["--limit", "connections"], {}, "--limit connections_per_network=500"),
        (["--limit", "conections=9"], {}, "did you mean connections?"),
        (["--limit", "connections=few"], {}, "fix: give connections a whole number from 16 to 1,000,000"),
        ([], {"DISPATCH_LIMITS": "connections=100 read_burst=0"}, "the limit read_burst cannot be 0"),
        (["--metrics", "9464"], {}, "fix: write it like --metrics 127.0.0.1:9464"),
        (["--metrics", "http://127.0.0.1:9464"], {}, "no address with a port"),
        (["--metrics", "127.0.0.1:99999"], {}, "no address with a port"),
        ([], {"DISPATCH_METRICS_TOKEN": "short"}, "at least 32"),
        ([], {"DISPATCH_METRICS_TOKEN": "x" * 32 + "\n"}, "without spaces"),
        (["--behind-proxy", "0.0.0.0/0"], {}, "only the addresses of your proxies"),
        (["--behind-proxy"], {}, "requires an argument"),
        (["--database", "mysql://host/dispatch"], {}, "no PostgreSQL address"),
        ([], {"DATABASE_URL": "postgresql://["}, "no PostgreSQL address"),
        (["--database", "postgresql://me:secret@host/dispatch"], {}, "give it as $DATABASE_URL"),
        (["--relay", "relay.example"], {}, "--relay: 'relay.example' is not a relay's address"),
        (["--relay", "http://relay.example"], {}, "write it like https://relay.example"),
        (["--relay", "https://relay.example/x"], {}, "not a relay's address"),
        ([word for n in range(9) for word in ("--relay", f"https://{n}.example")], {}, "the limit is 8"),
        (["--public-url", "https://broker.example", "--relay", "http://127.0.0.1:9"], {}, "from this machine only"),
    ],
)
def test_what_is_refused_at_the_start(
    tmp_path: Path, options: list[str], variables: dict[str, str], says: str, refused: Callable[..., Result]
) -> None:
    done = refused("serve", "--port", "0", "--data", str(tmp_path / "d"), *options, **variables)
    assert done.exit_code == 2 and says in done.stderr, done.stderr


async def test_metrics_have_an_address_of_their_own(tmp_path: Path) -> None:
    with process(tmp_path / "data", "--dev", "--port", "0", DISPATCH_METRICS="127.0.0.1:0") as (running, url):
        assert running.stderr is not None
        there = metrics_at(running)
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=HANG) as http:
            assert "dispatch_users 0.0" in (await http.get(there)).text
            assert (await http.get(there.removesuffix("/metrics") + "/health")).status_code == 404
            assert (await http.get(f"{url}/metrics")).status_code == 403
        running.send_signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(running.wait, 10) == 0
        assert "Traceback" not in running.stderr.read()


def metrics_at(running: subprocess.Popen[str]) -> str:
    assert running.stderr is not None
    line = next(line for line in iter(running.stderr.readline, "") if "metrics at" in line)
    return line.removeprefix("metrics at ").strip()


def test_where_metrics_cannot_be_served_nothing_is(tmp_path: Path, refused: Callable[..., Result]) -> None:
    with process(tmp_path / "data", "--dev", "--port", "0") as (_, url):
        there = url.removeprefix("http://")
        taken = refused("serve", "--dev", "--port", "0", "--data", str(tmp_path / "other"), "--metrics", there)
    assert taken.exit_code == 1 and "can't listen" in taken.stderr and "name another --metrics" in taken.stderr


def test_more_connections_than_descriptors_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the defaults ask for is cut without a word."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200, 200))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    seen: list[Limits] = []

    async def noted(broker: Broker, *_: object, started: trio.Event, stop: trio.Event, **__: object) -> None:
        seen.append(broker.settings.limits)
        started.set()
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()

    monkeypatch.setattr("rendezvous.serving.serve", noted)
    cleared = {name: None for name in os.environ if name.startswith(OURS)}
    said = []
    for given in ({}, {"DISPATCH_LIMITS": "connections=500 read_burst=7"}):
        command = ["serve", "--dev", "--port", "0", "--data", str(tmp_path / "d")]
        done = CliRunner().invoke(main, command, env={**cleared, **given}, catch_exceptions=False)
        assert done.exit_code == 0
        said.append(done.stderr)
    assert "at most" not in said[0] and "at most 136 connections, not 500" in said[1] and "LimitNOFILE" in said[1]
    assert [(each.connections, each.waiting_requests) for each in seen] == [(136, 123), (136, 123)]
    assert [each.read_burst for each in seen] == [Limits().read_burst, 7]


async def test_metrics_of_an_address_of_their_own_can_need_the_token_too(tmp_path: Path) -> None:
    token = "t" * 32
    options = ("--dev", "--port", "0", "--metrics", "[::1]:0" if has_ipv6() else "127.0.0.1:0")
    with process(tmp_path / "data", *options, DISPATCH_METRICS_TOKEN=token) as (running, url):
        there = metrics_at(running)
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=HANG) as http:
            operator = {"authorization": f"Bearer {token}"}
            assert (await http.get(there)).status_code == 401
            assert (await http.get(there, headers=operator)).status_code == 200
            assert (await http.get(f"{url}/metrics", headers=operator)).status_code == 403


def test_one_broker_a_folder_and_one_a_port(tmp_path: Path, refused: Callable[..., Result]) -> None:
    with process(tmp_path / "data", "--dev", "--port", "0") as (_, url):
        second = refused("serve", "--dev", "--port", "0", "--data", str(tmp_path / "data"))
        assert second.exit_code == 1 and "another broker is already running" in second.stderr
        taken = refused("serve", "--dev", "--port", url.rpartition(":")[2], "--data", str(tmp_path / "other"))
        assert taken.exit_code == 1 and "can't listen" in taken.stderr and "--port" in taken.stderr


def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path, refused: Callable[..., Result]) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    assert load_secrets(tmp_path / "data", {}).current == load_secrets(tmp_path / "data", {}).current
    (tmp_path / "data" / "jwt.secret").chmod(0o644)
    done = refused("serve", "--dev", "--port", "0", "--data", str(tmp_path / "data"))
    assert done.exit_code == 2 and "chmod 600" in done.stderr


def test_a_key_for_relays_that_others_can_read_is_not_used(tmp_path: Path, refused: Callable[..., Result]) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    load_relay_key(data, {})
    (data / "relay.key").chmod(0o644)
    for command in (["serve", "--dev", "--port", "0"], ["relay-key"]):
        done = refused(*command, "--data", str(data), DISPATCH_JWT_SECRET="x" * 32)
        assert done.exit_code == 2 and f"`chmod 600 {data}/relay.key`" in done.stderr and not done.stdout


async def test_the_key_for_relays_is_printed_while_the_broker_runs(
    tmp_path: Path, refused: Callable[..., Result]
) -> None:
    who = identity.create(StateFolder(tmp_path / "s"), "alice@example.org", "laptop", wall_clock, os.urandom)
    data = tmp_path / "data"
    before = refused("relay-key", "--data", str(data))  # a relay may be set up before the broker's first start
    options = ("--dev", "--port", "0", "--relay", "https://Relay.example/", "--relay", "http://127.0.0.1:9")
    with process(data, *options, DISPATCH_JWT_SECRET="x" * 32) as (_, url):
        beside = refused("relay-key", "--data", str(data))
        assert (before.exit_code, beside.exit_code) == (0, 0) and before.stdout == beside.stdout, beside.stderr
        async with BrokerClient(url, author=who) as client:
            await sign_in(client, who.device_set)
            access = await client.relays()
    assert access is not None and access.relays == ("https://relay.example", "http://127.0.0.1:9")
    brokers = frozenset({base64url.decode(beside.stdout.strip())})
    assert open_token(access.token, brokers=brokers, device=who.device, now=wall_clock()).device == who.device
    assert (data / "relay.key").stat().st_mode & 0o777 == 0o600


def test_the_key_for_relays_is_not_made_in_a_folder_that_others_reach(
    tmp_path: Path, refused: Callable[..., Result]
) -> None:
    tmp_path.chmod(0o755)
    done = refused("relay-key", "--data", str(tmp_path))
    assert done.exit_code == 2 and f"`chmod 700 {tmp_path}`" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
def test_a_data_folder_that_others_reach_is_not_used(tmp_path: Path, refused: Callable[..., Result], mode: int) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(mode)
    done = refused("serve", "--dev", "--port", "0", "--data", str(data))
    assert done.exit_code == 2 and f"`chmod 700 {data}`" in done.stderr and not list(data.iterdir())


@pytest.mark.root
def test_a_database_that_another_user_put_there_is_not_used(tmp_path: Path, refused: Callable[..., Result]) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a file away needs root")
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "rendezvous.db").touch(0o600)
    os.chown(data / "rendezvous.db", 65534, 65534)
    done = refused("serve", "--dev", "--port", "0", "--data", str(data))
    assert done.exit_code == 2 and "rendezvous.db belongs to another user (uid 65534)" in done.stderr


def test_help_and_version(refused: Callable[..., Result]) -> None:
    shown = refused("serve", "-h")
    assert shown.exit_code == 0 and "dispatch-rendezvous serve --dev" in shown.stdout
    assert "--public-url" in shown.stdout and "DISPATCH_SMTP_PASSWORD" in shown.stdout
    assert refused("--version").stdout.startswith("dispatch-rendezvous, version")
