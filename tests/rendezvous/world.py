"""A broker on a real socket with a clock the test owns, people with real keys, and a real mail server."""

from __future__ import annotations

import datetime
import sqlite3
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import trio
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peer.broker.client import BrokerClient, LoginToken
from peer.machine import identity
from peer.machine.identity import Identity
from peer.machine.state_folder import StateFolder
from peer.protocol import base64url, codec, names
from peer.protocol.signing import sign_by_device
from peer.protocol.statements import BrokerRequest, Invitation
from rendezvous.broker import Broker, Settings, wall_clock
from rendezvous.connections import ConnectionLimits
from rendezvous.installing import Installing
from rendezvous.limits import Limits
from rendezvous.listening import listening, port_of
from rendezvous.mail import Mailer
from rendezvous.proxies import proxy_networks
from rendezvous.relay_tokens import RelayKey
from rendezvous.serving import serve
from rendezvous.storage.interface import Storage
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.opening import DATABASE, open_storage
from rendezvous.tokens import TokenSecrets
from tests.conftest import HANG

DAY_MS = 24 * 3600 * 1000
NOTHING_SAID = Installing()
RELAY_KEY = RelayKey(b"r" * 32)


class Clock:
    """Milliseconds since the epoch: the real ones, plus what the test moved."""

    def __init__(self) -> None:
        self.moved = 0

    def __call__(self) -> int:
        return wall_clock() + self.moved

    def move(self, *, seconds: float = 0, days: float = 0) -> None:
        self.moved += int(seconds * 1000 + days * DAY_MS)


class Running:
    """A running broker: its address, its clock, its inside."""

    def __init__(self, url: str, clock: Clock, broker: Broker) -> None:
        self.url = url
        self.clock = clock
        self.broker = broker

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return everything that is in the broker's database, table by table, seen from outside."""
        if url := USUAL_DATABASE.url(self.broker.settings.data):
            with psycopg.connect(url) as server:
                found = server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
                return {name: server.execute(f"SELECT * FROM {name}").fetchall() for (name,) in found}
        with closing(sqlite3.connect(f"file:{self.broker.settings.data / DATABASE}?mode=ro", uri=True)) as db:
            names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in names}


class UsualDatabase:
    """Where brokers of a test keep what they know: in a file, or each data folder's in a database of its own."""

    def __init__(self) -> None:
        self.new: Callable[[], str] | None = None
        """Makes an empty PostgreSQL database and returns its connection string; None: a file."""
        self._urls: dict[Path, str] = {}

    def url(self, data: Path) -> str:
        """Return the connection string for a data folder, "" for a file."""
        if self.new is None:
            return ""
        if data not in self._urls:
            self._urls[data] = self.new()
        return self._urls[data]


USUAL_DATABASE = UsualDatabase()
"""Set by the fixture `each_database`."""


@asynccontextmanager
async def running_broker(
    data: Path,
    *,
    dev: bool = True,
    clock: Clock | None = None,
    secret: bytes = b"s" * 32,
    fallback: bytes = b"",
    mailer: Mailer | None = None,
    port: int = 0,
    proxies: tuple[str, ...] = (),
    limits: ConnectionLimits = ConnectionLimits(),
    kept: StorageLimits = StorageLimits(),
    requests: Limits = Limits(),
    metrics_token: str = "",
    storage: Storage | None = None,
    relays: tuple[str, ...] = (),
    relay_key: RelayKey = RELAY_KEY,
    installing: Installing = NOTHING_SAID,
    public_url: str = "",
) -> AsyncIterator[Running]:
    """Serve on 127.0.0.1 until the block ends, then stop as SIGTERM would."""
    clock = clock or Clock()
    data.mkdir(parents=True, exist_ok=True)
    async with (
        listening("127.0.0.1", port, backlog=limits.total) as listeners,
        storage or open_storage(USUAL_DATABASE.url(data), data, limits=kept) as storage,
        trio.open_nursery() as nursery,
    ):
        url = f"http://127.0.0.1:{port_of(listeners)}"
        settings = Settings(
            public_url=public_url or url,
            data=data,
            dev=dev,
            trusted_proxies=proxy_networks(proxies),
            relays=relays,
            installing=installing,
            limits=requests,
            metrics_token=metrics_token,
        )
        broker = Broker(
            settings,
            storage=storage,
            secrets=TokenSecrets(secret, fallback),
            relay_key=relay_key,
            mailer=mailer,
            clock=clock,
        )
        started, stop = trio.Event(), trio.Event()
        nursery.start_soon(partial(serve, broker, listeners, started=started, stop=stop, limits=limits))
        await started.wait()
        try:
            yield Running(url, clock, broker)
        finally:
            stop.set()


class Person:
    """One user with one device: keys in a folder of their own and an open client of the broker."""

    def __init__(self, running: Running, who: Identity, client: BrokerClient, http: httpx.AsyncClient) -> None:
        self.running = running
        self.who = who
        self.client = client
        self.http = http
        self.renewed: list[str] = []

    async def sign_in(self) -> LoginToken:
        """Sign in at a development broker as a person would: by the form."""
        prompt = await self.client.login_device(self.who.device_set)
        response = await self.http.post(f"{self.running.url}/login", data={"user_code": prompt.user_code})
        assert response.status_code == 200, response.text
        token = await self.client.login_token(prompt.device_code)
        assert isinstance(token, LoginToken)
        return token

    def invitation(self, to: str, **changes: Any) -> Invitation:
        """Make an invitation to `to`."""
        now = self.running.clock()
        fields = {
            "issuer_user": self.who.user_id,
            "issuer_device": self.who.device,
            "id": names.uuid7(now, random_bytes(10)),
            "created": now,
            "audience_user": to,
            "expires": now + 7 * DAY_MS,
            "device_set": self.who.device_set,
        }
        return Invitation(**{**fields, **changes})

    def signed_invitation(self, to: str, **changes: Any) -> bytes:
        return sign_by_device(self.invitation(to, **changes), self.who.seed).raw

    def statement(self, action: str, arguments: Mapping[str, object], **changes: Any) -> dict[str, str]:
        """Return the body of a write, with any field of the statement replaced."""
        seed = changes.pop("seed", self.who.seed)
        now = self.running.clock()
        fields = {
            "issuer_user": self.who.user_id,
            "issuer_device": self.who.device,
            "id": names.uuid7(now, random_bytes(10)),
            "created": now,
            "origin": self.running.url,
            "action": action,
            "arguments": codec.encode(arguments),
        }
        return {"statement": base64url.encode(sign_by_device(BrokerRequest(**{**fields, **changes}), seed).raw)}

    async def raw(self, method: str, path: str, body: object = None, *, token: str | None = None) -> httpx.Response:
        """Send a request past the client. `token` None: no Authorization header."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return await self.http.request(method, self.running.url + path, json=body, headers=headers)


def random_bytes(count: int) -> bytes:
    import os

    return os.urandom(count)


class People:
    """Makes people at one broker; closes their clients at the end."""

    def __init__(self, running: Running, folder: Path, stack: AsyncExitStack) -> None:
        self._running = running
        self._folder = folder
        self._stack = stack
        self._count = 0

    async def new(self, email: str, *, running: Running | None = None, who: Identity | None = None) -> Person:
        """Return somebody who has keys and has not signed in."""
        running = running or self._running
        self._count += 1
        folder = StateFolder(self._folder / f"{self._count}")
        who = who or identity.create(folder, email, f"laptop of {email}", running.clock, random_bytes)
        renewed: list[str] = []
        client = await self._stack.enter_async_context(
            BrokerClient(running.url, author=who, clock=running.clock, on_token=renewed.append)
        )
        http = await self._stack.enter_async_context(httpx.AsyncClient(trust_env=False, verify=False, timeout=HANG))
        person = Person(running, who, client, http)
        person.renewed = renewed
        return person

    async def signed_in(self, email: str) -> Person:
        """Return somebody who has signed in."""
        person = await self.new(email)
        await person.sign_in()
        return person


@asynccontextmanager
async def people_at(running: Running, folder: Path) -> AsyncIterator[People]:
    async with AsyncExitStack() as stack:
        yield People(running, folder, stack)


class FreePortController(Controller):
    """aiosmtpd's own connects to the port it was given to see that it runs, which must then not be 0."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        super()._trigger_server()  # type: ignore[no-untyped-call]


class MailServer:
    """aiosmtpd with STARTTLS required and authentication required; keeps what it took."""

    USER, PASSWORD = "dispatch", "correct horse"

    def __init__(self, folder: Path) -> None:
        self.taken: list[tuple[list[str], EmailMessage]] = []
        self.refuse = False
        self._certificate, key = make_certificate(folder)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self._certificate, key)
        self._controller = FreePortController(
            self,
            hostname="127.0.0.1",
            port=0,
            tls_context=tls,
            require_starttls=True,
            auth_required=True,
            authenticator=self._authenticate,
        )

    @property
    def ca(self) -> Path:
        return self._certificate

    @property
    def port(self) -> int:
        return int(self._controller.port)

    def _authenticate(
        self, _server: object, _session: Session, _envelope: Envelope, _how: str, data: Any
    ) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (
            self.USER.encode(),
            self.PASSWORD.encode(),
        )
        return AuthResult(success=good, handled=False)  # not handled: aiosmtpd says 535 itself

    async def handle_DATA(self, _server: object, _session: Session, envelope: Envelope) -> str:
        if self.refuse:
            return "554 5.7.1 not today"
        content = envelope.original_content
        assert content is not None
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.taken.append((list(envelope.rcpt_tos), message))
        return "250 OK"

    @contextmanager
    def running(self) -> Iterator[MailServer]:
        self._controller.start()
        try:
            yield self
        finally:
            self._controller.stop()


def make_certificate(folder: Path, *more: str) -> tuple[Path, Path]:
    """Return the files of a fresh self-signed certificate for 127.0.0.1, localhost and `more`, and of its key."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    addresses = [
        x509.DNSName("localhost"),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", *more)),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
