"""What a broker answers: look-ups, announcements and waiting devices, from its file and from PostgreSQL, by one process
and by several, with a thousand accounts and with a million; beside Debian's stdiscosrv, which answers look-ups alone.

The load is Debian's wrk on the same processors, with CONNECTIONS connections; the server's share is what its processes
(and PostgreSQL's) used of the processors' time meanwhile. Announcements are really signed, and each is a commit with
fsync. Look-ups go to random accounts. stdiscosrv and the broker answer with as many bytes of box or addresses.

    python -m tests.bench.bench_broker [--users 1000,1000000] [--workers 1,2,4] [--storages file,postgresql]
        [--waiting 4000]
"""

from __future__ import annotations

import argparse
import base64
import datetime
import hashlib
import json
import os
import re
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from nacl.signing import SigningKey

from peer.protocol import base64url, codec, names
from peer.protocol.signing import sign_by_device
from peer.protocol.statements import BrokerRequest
from rendezvous.broker import wall_clock
from rendezvous.storage.opening import DATABASE, open_storage
from rendezvous.tokens import Tokens, TokenSecrets
from tests.bench._table import Line, show
from tests.rendezvous.postgresql import Server

SECONDS, CONNECTIONS = 8, 16
BOX = 400
"""Bytes of a box: a peer record of three addresses, sealed for a few contacts, has some hundred."""
SIGNERS = 500
"""Accounts with keys, which announce; all others are only there to be looked up."""
ANNOUNCEMENTS = 24_000
HOUR_MS = 3600 * 1000
SECRET = "s" * 32
LIMITS = {
    "connections": 60_000,
    "connections_per_network": 60_000,
    "requests_per_minute": 100_000_000,
    "request_burst": 100_000_000,
    "reads_per_minute": 100_000_000,
    "read_burst": 100_000_000,
    "writes_per_minute": 100_000_000,
    "write_burst": 100_000_000,
}


@dataclass(frozen=True)
class Load:
    """What wrk saw, and what it cost the server: answers a second, of which refused, seconds of processor for each."""

    rate: float
    refused: int
    broker: float
    database: float = 0.0


@dataclass(frozen=True)
class Signer:
    user_id: str
    seed: bytes
    device: str


def signers() -> list[Signer]:
    made = []
    for number in range(SIGNERS):
        key = SigningKey(hashlib.sha256(b"%d" % number).digest())
        device = names.peer_id_text(names.peer_id_of(bytes(key.verify_key)))
        made.append(Signer(f"user{number}@example.org", bytes(key), device))
    return made


def cpu(processes: list[psutil.Process]) -> float:
    """Return the seconds of processor time that these and all below them have used."""
    total = 0.0
    for process in processes:
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                total += times.user + times.system
    return total


def wrk(url: str, script: Path, broker: list[psutil.Process], database: list[psutil.Process]) -> Load:
    before = cpu(broker), cpu(database)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = cpu(broker), cpu(database)
    answered = re.search(r"(\d+) requests in", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    assert answered and rate, said
    count = int(answered[1])
    return Load(
        float(rate[1]),
        int(refused[1]) if refused else 0,
        (after[0] - before[0]) / count,
        (after[1] - before[1]) / count,
    )


# --- accounts


def fill_file(folder: Path, users: int, devices: list[Signer]) -> None:
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        numbers = f"WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {users - 1})"
        _fill(db, numbers, "printf('12D3KooWdevice%032d', i)", f"randomblob({BOX})", devices)
        db.execute("COMMIT")


def fill_postgresql(url: str, users: int, devices: list[Signer]) -> None:
    with psycopg.connect(url) as db:
        box = f"decode(repeat(md5(i::text), {BOX // 16}), 'hex')"
        numbers = f"WITH n (i) AS (SELECT generate_series(0, {users - 1}))"
        _fill(db, numbers, "'12D3KooWdevice' || lpad(i::text, 32, '0')", box, devices)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("VACUUM ANALYZE")


def _fill(
    db: sqlite3.Connection | psycopg.Connection[Any], numbers: str, device: str, box: str, devices: list[Signer]
) -> None:
    now = wall_clock()
    blob = "zeroblob(300)" if isinstance(db, sqlite3.Connection) else "decode(repeat('00', 300), 'hex')"
    root = blob.replace("300", "32")
    user = "'user' || i || '@example.org'"
    rows = {
        "users (user_id, root, epoch, device_set, created)": f"{user}, {root}, 1, {blob}, {now}",
        "devices (user_id, device)": f"{user}, {device}",
        "presence (user_id, device, seq, expires, box)": f"{user}, {device}, 1, {now + 9 * HOUR_MS}, {box}",
    }
    execute: Callable[..., object] = db.execute
    for table, columns in rows.items():
        execute(f"INSERT INTO {table} {numbers} SELECT {columns} FROM n")
    place = "?" if isinstance(db, sqlite3.Connection) else "%s"
    for each in devices:
        for table in ("devices", "presence"):
            statement = f"UPDATE {table} SET device = {place} WHERE user_id = {place}"
            execute(statement, (each.device, each.user_id))


# --- what wrk sends


def look_up_script(folder: Path, url: str, users: int) -> Path:
    someone = signers()[0]
    token = Tokens(TokenSecrets(SECRET.encode()), origin=url, clock=wall_clock).issue(someone.user_id, someone.device)
    script = folder / "look_up.lua"
    script.write_text(
        f'wrk.headers["authorization"] = "Bearer {token}"\n'
        "request = function()\n"
        f'  return wrk.format("GET", "/v1/presence/user" .. math.random(0, {users - 1}) .. "@example.org")\n'
        "end\n"
    )
    return script


def announcements(url: str, devices: list[Signer], first: int) -> Iterator[str]:
    """Bodies of PUT /v1/presence, of one device after the other, with rising sequence numbers."""
    box, seq = os.urandom(BOX), first
    while True:
        seq += 1
        for each in devices:
            now = wall_clock()
            request = BrokerRequest(
                issuer_user=each.user_id,
                issuer_device=each.device,
                id=names.uuid7(now, os.urandom(10)),
                created=now,
                origin=url,
                action="presence.put",
                arguments=codec.encode({"seq": seq, "expires": now + HOUR_MS, "box": box}),
            )
            yield json.dumps({"statement": base64url.encode(sign_by_device(request, each.seed).raw)})


def announce_script(folder: Path, url: str, devices: list[Signer], first: int) -> Path:
    bodies, script = folder / "bodies", folder / "announce.lua"
    bodies.write_text("\n".join(islice(announcements(url, devices, first), ANNOUNCEMENTS)))
    script.write_text(
        "local bodies, at = {}, 0\n"
        f'for body in io.lines("{bodies}") do bodies[#bodies + 1] = body end\n'
        'wrk.headers["content-type"] = "application/json"\n'
        "request = function()\n"
        "  at = at % #bodies + 1\n"
        '  return wrk.format("PUT", "/v1/presence", nil, bodies[at])\n'
        "end\n"
    )
    return script


# --- servers


@contextmanager
def broker(folder: Path, workers: int, database: str = "") -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-m", "rendezvous.main", "serve", "--port", "0", "--data", str(folder)]
    command += ["--workers", str(workers), *(part for name, n in LIMITS.items() for part in ("--limit", f"{name}={n}"))]
    environment = {**os.environ, "DISPATCH_JWT_SECRET": SECRET, **({"DATABASE_URL": database} if database else {})}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        try:
            assert running.stdout is not None
            yield running.stdout.readline().removeprefix("listening on ").strip(), psutil.Process(running.pid)
        finally:
            running.terminate()


@contextmanager
def stdiscosrv(folder: Path) -> Iterator[tuple[str, psutil.Process, Path]]:
    """Syncthing's discovery server behind a pretended proxy, with as many devices as SIGNERS; and a script for wrk."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = ["stdiscosrv", "-http", "-listen", f"127.0.0.1:{port}", "-db-dir", str(folder / "discovery")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder) as running:
        try:
            while True:
                try:
                    httpx.get(f"{url}/ping", trust_env=False)
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            ids = [_announced(url, number) for number in range(SIGNERS)]
            script = folder / "discover.lua"
            listed = ",".join(f'"{each}"' for each in ids)
            script.write_text(
                f"local ids = {{{listed}}}\n"
                "request = function()\n"
                '  return wrk.format("GET", "/v2/?device=" .. ids[math.random(1, #ids)])\n'
                "end\n"
            )
            yield url, psutil.Process(running.pid), script
        finally:
            running.kill()


def _announced(url: str, number: int) -> str:
    """Announce a device of its own, by its certificate as a proxy would pass it on; return its id."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "syncthing")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number + 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = urllib.parse.quote(certificate.public_bytes(serialization.Encoding.PEM).decode())
    addresses = [f"tcp://192.0.2.{number % 250}:{22000 + each}" for each in range(BOX // 26)]
    done = httpx.post(
        f"{url}/v2/",
        json={"addresses": addresses},
        headers={"x-ssl-cert": pem, "x-forwarded-for": "192.0.2.1"},
        trust_env=False,
    )
    assert done.status_code == 204, done
    text = base64.b32encode(hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()).decode()
    return _with_checks(text.rstrip("="))


def _with_checks(text: str) -> str:
    """Add the check characters of a device id: one behind each 13 (Luhn mod 32)."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    whole = ""
    for start in range(0, 52, 13):
        part, factor, total = text[start : start + 13], 1, 0
        for character in part:
            addend = factor * alphabet.index(character)
            total += addend // 32 + addend % 32
            factor = 3 - factor
        whole += part + alphabet[-total % 32]
    return "-".join(whole[start : start + 7] for start in range(0, 56, 7))


# --- what is measured


def waiting(url: str, running: psutil.Process, count: int, devices: list[Signer]) -> float:
    """Return the bytes of the broker's processes for each of `count` devices that wait for a change."""
    host, port = url.removeprefix("http://").split(":")
    tokens = Tokens(TokenSecrets(SECRET.encode()), origin=url, clock=wall_clock)
    issued = [tokens.issue(each.user_id, each.device) for each in devices]

    def memory() -> int:
        return sum(each.memory_info().rss for each in (running, *running.children()))

    for _ in range(200):  # what the first requests bring in
        httpx.get(f"{url}/health", trust_env=False)
    before, held = memory(), []
    for number in range(count):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(
            b"GET /v1/invitations?version=0&wait=25 HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\n"
            b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\n"
            b"Authorization: Bearer %s\r\n\r\n" % (host.encode(), issued[number % len(issued)].encode())
        )
        held.append(connection)
    while httpx.get(f"{url}/v1/presence/user1@example.org", trust_env=False).status_code != 401:
        pass  # all that came before has been taken in, of a single worker
    each = (memory() - before) / count
    for connection in held:
        connection.close()
    return each


def measure(
    what: str, folder: Path, users: int, workers: int, against: Load, count: int, server: Server | None
) -> list[Line]:
    devices, data = signers(), folder / f"broker-{what.replace(' ', '-')}"
    data.mkdir(mode=0o700)
    url = server.database() if server else ""

    async def make_tables() -> None:
        async with open_storage(url, data):
            pass

    trio.run(make_tables)
    if server:
        fill_postgresql(url, users, devices)
    else:
        fill_file(data, users, devices)
    database = [psutil.Process(server.pid)] if server else []
    with broker(data, workers, url) as (address, running):
        looked = wrk(address, look_up_script(folder, address, users), [running], database)
        announced = wrk(address, announce_script(folder, address, devices, 1), [running], database)
        lines = [
            Line(
                f"{what}: look-ups",
                f"{looked.rate:,.0f}/s, {looked.broker * 1e6:.0f}+{looked.database * 1e6:.0f} us",
                looked.rate / against.rate,
                "stdiscosrv",
                ">= 0.2x",
                looked.rate >= 0.2 * against.rate and not looked.refused,
            ),
            Line(
                f"{what}: announcements",
                f"{announced.rate:,.0f}/s, {announced.broker * 1e6:.0f}+{announced.database * 1e6:.0f} us",
            ),
            Line(
                f"{what}: a million devices",
                f"{300 * (announced.broker + announced.database) + 556 * (looked.broker + looked.database):.2f} s/s",
                goal="<= 1 s/s",
                met=300 * (announced.broker + announced.database) + 556 * (looked.broker + looked.database) <= 1,
            ),
        ]
        if announced.refused or looked.refused:
            lines.append(Line(f"{what}: refused", f"{looked.refused} look-ups, {announced.refused} announcements"))
        if workers == 1 and count:
            size = waiting(address, running, count, devices)
            lines.append(
                Line(f"{what}: {count} waiting", f"{size / 1000:.1f} kB each", goal="<= 20 kB", met=size <= 20_000)
            )
    return lines


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--users", default="1000,1000000")
    arguments.add_argument("--workers", default="1,2,4")
    arguments.add_argument("--storages", default="file,postgresql")
    arguments.add_argument("--waiting", type=int, default=4000)
    given = arguments.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="bench-broker-"))
    server = Server(Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))) if "postgresql" in given.storages else None
    if server:
        server.stop()
        server.start(fsync="on", max_connections="100", shared_buffers="512MB")
    try:
        with stdiscosrv(folder) as (url, running, script):
            beside = wrk(url, script, [running], [])
        lines = [Line("stdiscosrv: look-ups", f"{beside.rate:,.0f}/s, {beside.broker * 1e6:.0f} us")]
        assert not beside.refused
        for storage in given.storages.split(","):
            for users in map(int, given.users.split(",")):
                for workers in map(int, given.workers.split(",")):
                    what = f"{storage}, {users:,} users, {workers} process{'es' if workers > 1 else ''}"
                    measured = server if storage == "postgresql" else None
                    lines += measure(what, folder, users, workers, beside, given.waiting, measured)
        show("broker: answers, processor time of broker + database for each, memory", lines)
    finally:
        if server:
            server.stop("immediate")
        shutil.rmtree(folder)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


if __name__ == "__main__":
    main()
