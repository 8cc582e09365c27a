"""`dispatch-rendezvous`: its options, wiring and signals. Serving: serving.py; what is served: app.py."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import click
import trio
from hypercorn.config import Config

from peer.protocol import base64url
from peer.protocol.errors import Invalid
from peer.protocol.relays.addresses import MAX_RELAYS
from rendezvous import program, serving
from rendezvous.broker import Broker, Settings, is_loopback, origin_of
from rendezvous.connections import ConnectionLimits
from rendezvous.data_folder import DataFolder, private_folder
from rendezvous.listening import listening, port_of
from rendezvous.mail import Mailer, SmtpSettings
from rendezvous.proxies import Network, proxy_networks
from rendezvous.relay_access import named_relays
from rendezvous.relay_tokens import RelayKey, load_relay_key
from rendezvous.storage.sqlite import SqliteStorage
from rendezvous.tokens import load_secret

DATABASE = "rendezvous.db"

EXAMPLES = """\b
Examples:
  dispatch-rendezvous serve --dev
  dispatch-rendezvous serve --host :: --port 443 \\
      --certificate fullchain.pem --key privkey.pem \\
      --public-url https://broker.example \\
      --smtp-host smtp.example --smtp-user dispatch \\
      --smtp-from 'dispatch <dispatch@example.org>'   # password: $DISPATCH_SMTP_PASSWORD
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@click.version_option(program.version(), prog_name="dispatch-rendezvous")
def main() -> None:
    """The rendezvous broker of dispatch: who is where, and who invites whom. No task ever passes it."""


_data = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("~/.dispatch-rendezvous"),
    show_default=True,
    help="Folder for the database, the token secret and the key for relays.",
)


@main.command(epilog=EXAMPLES)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address or name to listen on; ::, all of them.")
@click.option("--port", default=8800, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: any free one.")
@_data
@click.option("--public-url", default="", help="The address that people use; default: http://HOST:PORT on loopback.")
@click.option("--dev", is_flag=True, help="Approve sign-ins on the page, without mail. Loopback only.")
@program.tls_options
@click.option(
    "--relay",
    metavar="ORIGIN",
    multiple=True,
    help=f"A relay for devices that reach each other no other way, named to all users; up to {MAX_RELAYS}.",
)
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
    behind_proxy: tuple[str, ...],
    relay: tuple[str, ...],
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
    program.log_to_stderr()
    with program.refusals_told("dispatch-rendezvous"):
        program.check_pem_files(certificate, key, smtp_ca)
        proxies = proxy_networks(behind_proxy)
        origin = origin_of(public_url) if public_url else ""
        relays = named_relays(relay, public_url=origin)
        if dev:
            _refuse_dev_off_loopback(host, origin, proxies)
        if not public_url and not is_loopback(host):
            raise Invalid("requests are signed for the broker's public address", fix="give --public-url https://…")
        mailer = None
        if smtp_host:
            password = os.environ.get("DISPATCH_SMTP_PASSWORD", "")
            mailer = Mailer(
                SmtpSettings(
                    host=smtp_host, port=smtp_port, sender=smtp_from, user=smtp_user, password=password, ca=smtp_ca
                )
            )
        config = serving.server_config(certificate=certificate, key=key)
        with DataFolder(data.expanduser()) as folder:
            settings = Settings(
                public_url=origin,
                data=folder,
                dev=dev,
                trusted_proxies=proxies,
                install_url=install_url,
                relays=relays,
            )
            secret, relay_key = load_secret(folder, os.environ), load_relay_key(folder)
            trio.run(partial(_run, settings, secret, relay_key, mailer, config, host=host, port=port))


@main.command("relay-key")
@_data
def relay_key(*, data: Path) -> None:
    """Print the public key that `dispatch-relay serve --allow broker=KEY` takes to serve this broker's users.

    It may be called while the broker runs. Where the data folder has no key for relays yet, one is made.
    """
    with program.refusals_told("dispatch-rendezvous"):
        folder = data.expanduser()
        private_folder(folder)
        click.echo(base64url.encode(load_relay_key(folder).public))


async def _run(
    settings: Settings,
    secret: bytes,
    relay_key: RelayKey,
    mailer: Mailer | None,
    config: Config,
    *,
    host: str,
    port: int,
) -> None:
    limits = ConnectionLimits().within_descriptors()
    async with (
        listening(host, port, backlog=limits.total) as listeners,
        SqliteStorage(settings.data / DATABASE) as storage,
    ):
        if not settings.public_url:
            scheme = "https" if config.ssl_enabled else "http"
            settings = replace(
                settings, public_url=origin_of(f"{scheme}://{program.authority(host, port_of(listeners))}")
            )
        broker = Broker(settings, storage=storage, secret=secret, relay_key=relay_key, mailer=mailer)
        started, stop = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                nursery.start_soon(_announce, broker, started)
                nursery.start_soon(
                    partial(serving.serve, broker, listeners, config, started=started, stop=stop, limits=limits)
                )
                async for _ in signals:
                    stop.set()
                    break


async def _announce(broker: Broker, started: trio.Event) -> None:
    await started.wait()
    if broker.settings.dev:
        click.echo("DEVELOPMENT BROKER: anybody who reaches it signs in as anybody", err=True)
    elif broker.mailer is None:
        click.echo("no --smtp-host: nobody can sign in, since no mail can prove an address", err=True)
    click.echo(f"listening on {broker.settings.public_url}")
    sys.stdout.flush()


def _refuse_dev_off_loopback(host: str, origin: str, proxies: Sequence[Network]) -> None:
    if not is_loopback(host):
        raise Invalid(f"--dev approves anybody's sign-in, so it does not listen on {host}", fix="use --host 127.0.0.1")
    if origin and not is_loopback(urlsplit(origin).hostname or ""):
        raise Invalid(
            f"--dev approves anybody's sign-in, so it can't be reached at {origin}",
            fix="leave out --public-url; or leave out --dev, and set --smtp-host and the rest",
        )
    if proxies:
        raise Invalid(
            "--dev approves anybody's sign-in, so it does not work behind a proxy",
            fix="leave out --behind-proxy; or leave out --dev, and set --smtp-host and the rest",
        )


if __name__ == "__main__":
    main()
