"""The options of the broker's program: what they mean together and what is refused. Acting on them: main.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from peer.protocol.errors import Invalid
from peer.protocol.relays.addresses import MAX_RELAYS
from rendezvous import program
from rendezvous.broker import Settings, is_loopback, origin_of
from rendezvous.installing import CommandLine, read_installing
from rendezvous.mail import Mailer, SmtpSettings
from rendezvous.proxies import Network, proxy_networks
from rendezvous.relay_access import named_relays

MAX_WORKERS = 64
MAX_DRAIN_SECONDS = 600
Command = TypeVar("Command", bound=Callable[..., Any])

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("~/.dispatch-rendezvous"),
    show_default=True,
    help="Folder for the database, the token secret and the relay key.",
)


def without_password(context: click.Context, parameter: click.Parameter, url: str) -> str:
    """Refuse a password among the arguments, which everybody on the machine can read."""
    given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    if given and urlsplit(url).password:
        raise click.BadParameter("a password in it can be read by everybody on this machine; give it as $DATABASE_URL")
    return url


database_option = click.option(
    "--database",
    metavar="URL",
    default="",
    envvar="DATABASE_URL",
    callback=without_password,
    help="A PostgreSQL database, postgresql://USER@HOST/NAME, for several brokers. Default: a file in the data folder.",
)


def broker_options(command: Command) -> Command:
    """Add the options that say what a broker is like."""
    options = (
        click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Address or name to listen on; :: means all addresses.",
        ),
        click.option(
            "--port", default=8800, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one."
        ),
        data_option,
        database_option,
        click.option(
            "--public-url", default="", help="The address that people use. Default: http://HOST:PORT on loopback."
        ),
        click.option("--dev", is_flag=True, help="Approve every sign-in on the page, without mail. Loopback only."),
        click.option(
            "--workers",
            default=1,
            show_default=True,
            type=click.IntRange(1, MAX_WORKERS),
            help="How many processes serve, on one machine. One for each core is enough.",
        ),
        click.option(
            "--drain",
            default=0.0,
            show_default=True,
            type=click.FloatRange(0, MAX_DRAIN_SECONDS),
            metavar="SECONDS",
            help="How long it goes on when it is to stop, while /health tells a load balancer that it will.",
        ),
        program.tls_options,
        click.option(
            "--relay",
            metavar="ORIGIN",
            multiple=True,
            help=(
                "A relay for devices that cannot reach each other directly. All users are told of it. Repeatable, up "
                f"to {MAX_RELAYS}."
            ),
        ),
        click.option(
            "--install-command",
            type=CommandLine(),
            multiple=True,
            envvar="DISPATCH_INSTALL_COMMAND",
            help=(
                "A command that installs dispatch, shown to people who are invited. Repeatable; shown in the order "
                "given."
            ),
        ),
        click.option(
            "--install-url",
            default="",
            envvar="DISPATCH_INSTALL_URL",
            help="A page about installing dispatch, linked for people who are invited.",
        ),
        click.option("--smtp-host", default="", envvar="DISPATCH_SMTP_HOST", help="Mail server (STARTTLS)."),
        click.option(
            "--smtp-port",
            default=587,
            show_default=True,
            type=click.IntRange(1, 65535),
            envvar="DISPATCH_SMTP_PORT",
        ),
        click.option(
            "--smtp-user",
            default="",
            envvar="DISPATCH_SMTP_USER",
            help="User name at the mail server; the password is $DISPATCH_SMTP_PASSWORD.",
        ),
        click.option("--smtp-from", default="", envvar="DISPATCH_SMTP_FROM", help="Sender: 'Name <address>'."),
        click.option(
            "--smtp-ca",
            type=click.Path(path_type=Path, exists=True),
            help="PEM file of CAs to trust instead of the system's.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was given. Names and values are click's."""

    host: str
    port: int
    data: Path
    database: str
    public_url: str
    dev: bool
    workers: int
    drain: float
    certificate: Path | None
    key: Path | None
    behind_proxy: tuple[str, ...]
    relay: tuple[str, ...]
    install_command: tuple[str, ...]
    install_url: str
    smtp_host: str
    smtp_port: int
    smtp_user: str
    smtp_from: str
    smtp_ca: Path | None
    worker: str = ""
    """Of one of several processes: what it inherits (workers.worker)."""

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self.data.expanduser()

    def check(self) -> None:
        """Raise Invalid for what cannot be meant, alone or together."""
        program.check_pem_files(self.certificate, self.key, self.smtp_ca)
        settings = self.settings(self.folder)
        if self.dev:
            _refuse_dev_off_loopback(self.host, settings.public_url, settings.trusted_proxies)
        if not self.public_url and not is_loopback(self.host):
            raise Invalid(
                "a broker that listens beyond loopback needs its public address, since requests are signed for it",
                fix="give --public-url https://…",
            )

    def settings(self, folder: Path) -> Settings:
        """Return the settings of a broker; `public_url` is "" where the port it gets is to be in it. Raises Invalid."""
        origin = origin_of(self.public_url) if self.public_url else ""
        return Settings(
            public_url=origin,
            data=folder,
            dev=self.dev,
            trusted_proxies=proxy_networks(self.behind_proxy),
            installing=read_installing(self.install_command, self.install_url),
            relays=named_relays(self.relay, public_url=origin),
        )

    def mailer(self) -> Mailer | None:
        """Return what sends mail, or None where no server was named. Raises Invalid."""
        if not self.smtp_host:
            return None
        return Mailer(
            SmtpSettings(
                host=self.smtp_host,
                port=self.smtp_port,
                sender=self.smtp_from,
                user=self.smtp_user,
                password=os.environ.get("DISPATCH_SMTP_PASSWORD", ""),
                ca=self.smtp_ca,
            )
        )


def _refuse_dev_off_loopback(host: str, origin: str, proxies: Sequence[Network]) -> None:
    if not is_loopback(host):
        raise Invalid(f"--dev approves every sign-in, so it cannot listen on {host}", fix="use --host 127.0.0.1")
    if origin and not is_loopback(urlsplit(origin).hostname or ""):
        raise Invalid(
            f"--dev approves every sign-in, so it cannot be served at {origin}",
            fix="remove --public-url; or remove --dev, and set --smtp-host and --smtp-from",
        )
    if proxies:
        raise Invalid(
            "--dev approves every sign-in, so it cannot be used behind a proxy",
            fix="remove --behind-proxy; or remove --dev, and set --smtp-host and --smtp-from",
        )
