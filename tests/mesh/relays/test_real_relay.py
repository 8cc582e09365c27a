"""Devices at the real relay: as it is, and behind the proxies that docs/programs.md shows how to set up."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import cache, partial
from pathlib import Path

import pytest
import trio

from peer.mesh.relays import Route
from peer.protocol.relays.addresses import to_multiaddr
from tests.mesh.harness import until
from tests.mesh.relays.harness import Device, acquainted, device
from tests.mesh.relays.test_relays import ECHO, echo, said_back
from tests.rendezvous.relay.world import SECRET, Running, running_relay
from tests.rendezvous.world import make_certificate

PROGRAMS = (Path(__file__).parents[3] / "docs" / "programs.md").read_text()
DOCUMENTED = "127.0.0.1:8900"
"""Where the relay listens in the examples."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def two_at(relay: Running, origin: str, certificate: Path | None = None) -> AsyncIterator[tuple[Device, Device]]:
    trusted = cache(partial(ssl.create_default_context, cafile=str(certificate) if certificate else None))
    route = Route(proxy=lambda _host, _port: "", trusted=trusted, loopback_alone=True)
    alice, bob = device(route=route), device(route=route)
    bob.host.handle(ECHO, echo)
    acquainted(alice, bob)
    for one in (alice, bob):
        one.relays.set_relays(chosen=[origin], named=[], token=b"", secret=SECRET)
    async with alice.host.running(), bob.host.running():
        await alice.up()
        await bob.up()
        await until(lambda: relay.relay.registry.tags == 2)
        yield alice, bob


async def test_two_devices_are_joined_part_and_are_joined_again() -> None:
    async with running_relay() as relay, two_at(relay, relay.relay.origin) as (alice, bob):
        at = [to_multiaddr(relay.relay.origin)]
        for _ in range(3):
            await alice.host.connect(bob.id, at)
            assert alice.host.path(bob.id) == "relay"
            data = os.urandom(2_000_000)
            assert await said_back(alice.host, bob.id, data) == data
            alice.host.drop(bob.id)
            await until(lambda: not alice.host.connected(bob.id) and not bob.host.connected(alice.id))


async def test_both_dial_at_once() -> None:
    async with running_relay() as relay, two_at(relay, relay.relay.origin) as (alice, bob):
        at = [to_multiaddr(relay.relay.origin)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.host.connect, bob.id, at)
            nursery.start_soon(bob.host.connect, alice.id, at)
        assert await said_back(alice.host, bob.id, b"hello") == b"hello"


@contextmanager
def nginx(folder: Path, port: int, upstream: str, certificate: Path, key: Path) -> Iterator[None]:
    """The real nginx, with the `location` of the document."""
    (location,) = re.findall(r"^    location / \{\n(?:        .*\n)+    \}\n", PROGRAMS, re.M)
    paths = "".join(
        f"{each}_temp_path {folder}/{each};\n" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; user root; events {{}}\n"
        f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port} ssl; server_name localhost;\n"
        f"ssl_certificate {certificate}; ssl_certificate_key {key};\n{location.replace(DOCUMENTED, upstream)} }} }}\n"
    )
    with subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def caddy(folder: Path, port: int, upstream: str, certificate: Path, key: Path) -> Iterator[None]:
    """The real Caddy, with the line of the document."""
    (line,) = re.findall(r"`relay\.example \{ (reverse_proxy [^ ]+) \}`", PROGRAMS)
    (folder / "Caddyfile").write_text(
        "{\n admin off\n auto_https off\n}\n"
        f"https://localhost:{port} {{\n tls {certificate} {key}\n {line.replace(DOCUMENTED, upstream)}\n}}\n"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    command = ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.long
@pytest.mark.parametrize("proxy", [nginx, caddy])
async def test_behind_the_proxies_of_the_documentation(
    tmp_path: Path, proxy: Callable[..., AbstractContextManager[None]]
) -> None:
    if shutil.which(proxy.__name__) is None:
        pytest.skip(f"this machine has no {proxy.__name__}")
    certificate, key = make_certificate(tmp_path)
    origin = f"https://localhost:{(port := free_port())}"
    async with running_relay(origin=origin, proxies=("127.0.0.1",)) as relay:
        with proxy(tmp_path, port, f"127.0.0.1:{relay.port}", certificate, key):
            async with two_at(relay, origin, certificate) as (alice, bob):
                await alice.host.connect(bob.id, [to_multiaddr(origin)])
                assert alice.host.path(bob.id) == "relay"
                data = os.urandom(3_000_000)
                assert await said_back(alice.host, bob.id, data) == data
