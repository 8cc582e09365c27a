"""`dispatch-rendezvous`: options, the data folder, sockets, signals. The broker itself: app.py."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import signal
import socket
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import IO, cast

import click
import structlog
import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from hypercorn.utils import wrap_app

from peer.protocol.errors import Conflict, DispatchError, Invalid, Unavailable
from rendezvous.app import make_app
from rendezvous.broker import Broker, Settings, origin_of
from rendezvous.connections import ConnectionLimits, serve_within
from rendezvous.mail import Mailer, SmtpSettings
from rendezvous.storage import upkeep
from rendezvous.storage.database import Database
from rendezvous.tokens import load_secret

PURGE_SECONDS = 60
STALLED_MS = 20_000

EXAMPLES = """\b
Examples:
  dispatch-rendezvous serve --dev
  dispatch-rendezvous serve --host 0.0.0.0 --port 443 \\
      --certificate fullchain.pem --key privkey.pem \\
      --public-url https://broker.example \\
      --smtp-host smtp.example --smtp-user dispatch \\
      --smtp-from 'dispatch <dispatch@example.org>'   # password: $DISPATCH_SMTP_PASSWORD
"""


def _version() -> str:
    try:
        return metadata.version("dispatch-courier")
    except metadata.PackageNotFoundError:
        return "unpacked source"


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@click.version_option(_version(), prog_name="dispatch-rendezvous")
def main() -> None:
    """The rendezvous broker of dispatch: who is where, and who invites whom. No task ever passes it."""


@main.command(epilog=EXAMPLES)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8800, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: any free one.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("~/.dispatch-rendezvous"),
    show_default=True,
    help="Folder for the database and the token secret.",
)
@click.option("--public-url", default="", help="The address that people use; default: http://HOST:PORT on loopback.")
@click.option("--dev", is_flag=True, help="Approve sign-ins on the page, without mail. Loopback only.")
@click.option("--certificate", type=click.Path(path_type=Path, exists=True), help="TLS certificate chain (PEM).")
@click.option("--key", type=click.Path(path_type=Path, exists=True), help="TLS private key (PEM).")
@click.option("--behind-proxy", is_flag=True, help="Believe the last X-Forwarded-For entry (a proxy of yours sets it).")
@click.option("--install-url", default="", help="A page on installing dispatch, named in invitations.")
@click.option("--smtp-host", default="", envvar="DISPATCH_SMTP_HOST", help="Mail server (STARTTLS).")
@click.option("--smtp-port", default=587, show_default=True, type=click.IntRange(1, 65535), envvar="DISPATCH_SMTP_PORT")
@click.option(
    "--smtp-user",
    default="",
    envvar="DISPATCH_SMTP_USER",
    help="User at the mail server; the password is $DISPATCH_SMTP_PASSWORD.",
)
@click.option("--smtp-from", default="", envvar="DISPATCH_SMTP_FROM", help="Sender: 'Name <address>'.")
@click.option("--smtp-ca", type=click.Path(path_type=Path, exists=True), help="Trust this PEM instead of the system's.")
def serve(
    *,
    host: str,
    port: int,
    data: Path,
    public_url: str,
    dev: bool,
    certificate: Path | None,
    key: Path | None,
    behind_proxy: bool,
    install_url: str,
    smtp_host: str,
    smtp_port: int,
    smtp_user: str,
    smtp_from: str,
    smtp_ca: Path | None,
) -> None:
    """Run the broker until SIGTERM or Ctrl-C. Prints `listening on URL` once it is up.

    $DISPATCH_JWT_SECRET signs the sign-in tokens; without it one is made and kept in the data folder.
    """
    _log_to_stderr()
    try:
        if (certificate is None) != (key is None):
            raise Invalid("--certificate and --key go together", fix="give both, or neither behind a proxy")
        if dev and not _is_loopback(host):
            raise Invalid(
                f"--dev approves anybody's sign-in, so it does not listen on {host}", fix="use --host 127.0.0.1"
            )
        if not public_url and not _is_loopback(host):
            raise Invalid("requests are signed for the broker's public address", fix="give --public-url https://…")
        mailer = None
        if smtp_host:
            password = os.environ.get("DISPATCH_SMTP_PASSWORD", "")
            mailer = Mailer(
                SmtpSettings(
                    host=smtp_host, port=smtp_port, sender=smtp_from, user=smtp_user, password=password, ca=smtp_ca
                )
            )
        folder = data.expanduser()
        with OwnFolder(folder), _listen(host, port) as listener:
            scheme = "https" if certificate else "http"
            origin = origin_of(public_url or f"{scheme}://{_authority(host, listener.getsockname()[1])}")
            settings = Settings(
                public_url=origin, data=folder, dev=dev, behind_proxy=behind_proxy, install_url=install_url
            )
            secret = load_secret(folder, os.environ)
            with closing(Database(folder / "rendezvous.db")) as database:
                config = server_config(certificate=certificate, key=key)
                trio.run(partial(_run, settings, database, secret, mailer, listener, config))
    except DispatchError as error:
        click.echo(f"dispatch-rendezvous: {error.message}", err=True)
        if error.fix:
            click.echo(f"  fix: {error.fix}", err=True)
        sys.exit(2 if isinstance(error, Invalid) else 1)


def server_config(*, certificate: Path | None = None, key: Path | None = None) -> Config:
    """Return Hypercorn's settings for a broker: bounded headers, HTTP/1.1 only, silent log of accesses."""
    config = Config()
    config.alpn_protocols = ["http/1.1"]
    config.h11_max_incomplete_size = 16 * 1024
    # Longer than a client keeps an idle connection (peer.broker.client), so that it is the client who closes first.
    config.keep_alive_timeout = 60
    config.graceful_timeout = 3
    config.include_server_header = False
    config.accesslog = None
    config.loglevel = "WARNING"
    if certificate and key:
        config.certfile, config.keyfile = str(certificate), str(key)
    return config


async def serve_on(
    broker: Broker,
    listener: socket.socket,
    config: Config,
    *,
    started: trio.Event,
    stop: trio.Event,
    limits: ConnectionLimits = ConnectionLimits(),  # noqa: B008 - frozen
) -> None:
    """Answer requests on a bound socket until `stop`, then let the running ones end."""
    if broker.settings.behind_proxy:
        limits = replace(limits, per_network=limits.total)  # all of them come from the proxy, which counts its own
    listener.listen(config.backlog)

    async def stopping() -> None:
        await stop.wait()
        broker.bells.close()

    async def purging() -> None:
        while True:
            await broker.db(upkeep.purge, broker.clock())
            await trio.sleep(PURGE_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(purging)
        # Starlette and Hypercorn describe the same ASGI with different types.
        app = wrap_app(cast(ASGIFramework, make_app(broker)), config.wsgi_max_body_size, "asgi")
        async with trio.open_nursery() as server:
            await server.start(partial(serve_within, app, config, listener, limits=limits, until=stopping))
            started.set()
        nursery.cancel_scope.cancel()


async def _run(
    settings: Settings,
    database: Database,
    secret: bytes,
    mailer: Mailer | None,
    listener: socket.socket,
    config: Config,
) -> None:
    broker = Broker(settings, database=database, secret=secret, mailer=mailer)
    started, stop = trio.Event(), trio.Event()

    async def announce() -> None:
        await started.wait()
        if settings.dev:
            click.echo("DEVELOPMENT BROKER: anybody who reaches it signs in as anybody", err=True)
        elif mailer is None:
            click.echo("no --smtp-host: nobody can sign in, since no mail can prove an address", err=True)
        click.echo(f"listening on {settings.public_url}")
        sys.stdout.flush()

    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            nursery.start_soon(announce)
            limits = ConnectionLimits().within_descriptors()
            nursery.start_soon(partial(serve_on, broker, listener, config, started=started, stop=stop, limits=limits))
            async for _ in signals:
                stop.set()
                break


class OwnFolder:
    """The data folder, 0700, held by one broker: waiting readers of a second one would never be woken."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self._folder / "lock").open("ab")
        except OSError as error:
            raise Unavailable(f"can't use {self._folder}: {error.strerror}", fix="name another --data") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise Conflict(f"another broker runs on {self._folder}", fix="stop it, or name another --data") from None
        self._lock = lock

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()


def _log_to_stderr() -> None:
    """Log one JSON object a line. Not structlog's own format: it shows the variables of a traceback, tokens too."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Accepted sockets inherit it: a client that stops reading is dropped instead of holding a response.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
        listener.bind(address)
        listener.setblocking(False)
    except OSError as error:
        raise Unavailable(f"can't listen on {host} port {port}: {error.strerror}", fix="name another --port") from error
    return listener


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    main()
