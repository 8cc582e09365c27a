"""The network proxy with real clients in a real shell zone; the hosts are a fake (internet.py)."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace

import h11
import pytest
import trio

from sandbox.confinement.bubblewrap import spawn
from sandbox.confinement.places import PROXY_PORT
from sandbox.network import proxy as proxy_module
from sandbox.network.proxy import NetworkProxy
from sandbox.run import network
from tests.sandbox.conftest import Done, Person, finish, viewed
from tests.sandbox.network.internet import ADDRESS, Internet, internet

CA = "/dispatch/ca.pem"


async def shell(person: Person, proxy: NetworkProxy, there: Internet, command: str) -> Done:
    """Run a command in a shell zone whose proxy is served."""
    (person.workspace / "ca.pem").write_bytes(there.authority.certificate)
    variables = {**network.ONLINE, "CURL_CA_BUNDLE": CA, "GIT_SSL_CAINFO": CA, "SSL_CERT_FILE": CA}
    profile = replace(person.plain, network=True, shell_variables=variables)
    with viewed(profile) as shown:
        words = ["/run/dispatch/shell", command]
        process = await spawn(shown, words, shown.environment(), stdin=subprocess.DEVNULL)
        async with trio.open_nursery() as nursery:
            await proxy.serve_in(nursery, process)
            done = await finish(process)
            nursery.cancel_scope.cancel()
    return done


async def test_curl_reaches_a_granted_host_by_tls(person: Person) -> None:
    async with internet() as there:
        proxy = there.proxy("code.example.org")
        done = await shell(person, proxy, there, "curl -sS https://code.example.org/a https://code.example.org/b")
        await proxy.finish()
    assert done.out == "hello from there\n" * 2, done
    assert there.seen == [("code.example.org", "GET /a"), ("code.example.org", "GET /b")]
    assert there.dialled == [(ADDRESS, 443)]
    (first, total) = there.told
    assert first == ("network_host", "the first connection to code.example.org")
    assert total[0] == "network_used" and total[1].startswith("code.example.org: 1 connection, ")
    use = proxy.usage.hosts["code.example.org"]
    assert use.sent > 300 and use.received > 500 and proxy.usage.total == use.sent + use.received


@pytest.mark.parametrize(
    ("command", "said", "told"),
    [
        ("curl -sS https://other.example.org/", "403", "“other.example.org” is not granted to this run"),
        ("curl -sS https://code.example.org:8443/", "403", "“code.example.org:8443” is not granted to this run"),
        ("curl -sS http://code.example.org/", "only HTTPS can leave this sandbox", None),
        ("curl -sS https://93.184.216.34/", "403", "“93.184.216.34” is not granted to this run"),
        # Another name inside the tunnel that was granted: a host that shares servers with it, say.
        (
            "curl -sS --connect-to other.example.org:443:code.example.org:443 https://other.example.org/",
            "",
            "a connection to code.example.org was ended: it is meant for “other.example.org”",
        ),
    ],
)
async def test_nothing_else_is_reached(person: Person, command: str, said: str, told: str | None) -> None:
    async with internet({"code.example.org": [ADDRESS], "other.example.org": [ADDRESS]}) as there:
        done = await shell(person, there.proxy("code.example.org"), there, command)
    assert there.seen == [], done
    assert said in done.out + done.err and "hello" not in done.out
    assert told is None or told in [detail for _, detail in there.told], there.told


async def test_what_is_no_tls_does_not_pass(person: Person) -> None:
    """A script that speaks to the granted host in the clear, in its own tunnel."""
    script = (
        f"import socket; s = socket.create_connection(('127.0.0.1', {PROXY_PORT})); "
        "s.sendall(b'CONNECT code.example.org:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(4096)[:12]); "
        "s.sendall(b'PUT /secret HTTP/1.1\\r\\n\\r\\n'); print(s.recv(4096))"
    )
    async with internet() as there:
        proxy = there.proxy("code.example.org")
        done = await shell(person, proxy, there, f"/usr/bin/python3 -c {shlex.quote(script)}")
    assert done.out == "b'HTTP/1.1 200'\nb''\n", done
    assert proxy.usage.hosts["code.example.org"].sent == 0
    assert there.told[-1] == (
        "network_refused",
        "a connection to code.example.org was ended: it does not begin with TLS",
    )


@pytest.mark.parametrize(
    ("addresses", "why"),
    [
        (["10.0.0.7"], "no public internet address"),
        (["127.0.0.1", "::1", "169.254.169.254", "::ffff:93.184.216.34"], "no public internet address"),
        (["93.184.216.99"], "does not answer"),
        ([], "no public internet address"),
    ],
)
async def test_only_public_addresses_are_dialled(person: Person, addresses: list[str], why: str) -> None:
    async with internet({"code.example.org": addresses}) as there:
        done = await shell(person, there.proxy("code.example.org"), there, "curl -sSv https://code.example.org/")
    assert "502" in done.err and why in done.err, done.err
    ((status, detail),) = there.told
    assert status == "network_failed" and why in detail
    assert all(address == "93.184.216.99" for address, _ in there.dialled)


async def test_the_private_among_the_addresses_are_passed_over(person: Person) -> None:
    async with internet({"code.example.org": ["10.0.0.7", "93.184.216.99", ADDRESS]}) as there:
        done = await shell(person, there.proxy("code.example.org"), there, "curl -sS https://code.example.org/")
    assert done.out == "hello from there\n"
    assert [address for address, _ in there.dialled] == ["93.184.216.99", ADDRESS]


async def test_a_name_that_is_none_is_said(person: Person) -> None:
    async with internet({}) as there:
        done = await shell(person, there.proxy("gone.example.org"), there, "curl -sSv https://gone.example.org/")
    assert "gone.example.org cannot be resolved" in done.err


async def test_the_budget_of_bytes_ends_what_goes_on_and_what_comes_after(person: Person) -> None:
    async def large(*_: object) -> tuple[int, bytes]:
        return 200, b"x" * 3_000_000

    async with internet(answer=large) as there:
        proxy = there.proxy("code.example.org", most_bytes=1_000_000)
        command = "curl -sS https://code.example.org/ | wc -c; curl -sSv https://code.example.org/ 2>&1 | tail -n 3"
        done = await shell(person, proxy, there, command)
        await proxy.finish()
    received = int(done.out.split()[0])
    assert 0 < received < 1_000_000 and "403" in done.out, done
    assert [status for status, _ in there.told] == ["network_host", "network_used_up", "network_used"]
    assert len(there.seen) == 1


async def test_git_clones_over_https(person: Person) -> None:
    """By git's dumb protocol, which any server of files speaks."""
    origin = person.base / "origin"
    subprocess.run(
        f"git init -q -b main {origin} && cd {origin} && echo one > a && git add a && "
        "git -c user.name=x -c user.email=x@example.org commit -qm one && git update-server-info",
        shell=True,
        check=True,
    )

    async def files(host: str, request: h11.Request) -> tuple[int, bytes]:
        target = request.target.decode().partition("?")[0]
        path = origin / ".git" / target.removeprefix("/origin.git/")
        return (200, path.read_bytes()) if path.is_file() else (404, b"")

    async with internet(answer=files) as there:
        command = "cd /dispatch && git clone -q https://code.example.org/origin.git && cat origin/a"
        done = await shell(person, there.proxy("code.example.org"), there, command)
    assert done.out == "one\n", done


async def test_servers_of_the_runs_own_are_reached_without_the_proxy(person: Person) -> None:
    command = (
        "cd /dispatch && echo mine > page && (/usr/bin/python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 &) "
        "; until curl -sSf http://localhost:8000/page 2>/dev/null; do :; done"
    )
    async with internet() as there:
        done = await shell(person, there.proxy("code.example.org"), there, command)
    assert done.out == "mine\n" and there.told == []


async def test_refusals_in_the_trace_are_bounded(person: Person) -> None:
    command = f"for n in $(seq {proxy_module.NAMES_TOLD + 5}); do curl -s https://h$n.example.org; done"
    async with internet() as there:
        await shell(person, there.proxy("code.example.org"), there, command)
    assert len(there.told) == proxy_module.NAMES_TOLD


async def test_connections_are_bounded(person: Person) -> None:
    """Those beyond the bound wait, and are served when others have ended."""
    bound = proxy_module.CONNECTIONS
    script = (
        f"import socket; s = [socket.create_connection(('127.0.0.1', {PROXY_PORT})) for _ in range({bound + 1})]; "
        "s[0].close(); s[-1].sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s[-1].recv(12))"
    )
    async with internet() as there:
        done = await shell(person, there.proxy(), there, f"/usr/bin/python3 -c {shlex.quote(script)}")
    assert done.out == "b'HTTP/1.1 403'\n", done
