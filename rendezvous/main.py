"""`dispatch-rendezvous`: its commands, wiring and signals. Options: options.py; serving: serving.py; routes: app.py."""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import click
import structlog
import trio

from peer.protocol import base64url
from peer.protocol.errors import Invalid
from rendezvous import backup, doctor_checks, logs, program, rotation, serving, users
from rendezvous.broker import Broker, Settings, origin_of
from rendezvous.connections import ConnectionLimits
from rendezvous.data_folder import DataFolder, private_folder
from rendezvous.listening import listening, port_of
from rendezvous.mail import Mailer
from rendezvous.options import Options, broker_options, data_option, without_password
from rendezvous.relay_tokens import RelayKey, load_relay_key
from rendezvous.storage.opening import move, open_storage
from rendezvous.tls import tls_context
from rendezvous.tokens import TokenSecrets, load_secrets

log = structlog.get_logger(__name__)

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
    """The broker of dispatch: tells devices where to find each other and carries invitations.

    No task passes through it.
    """
    logs.to_stderr()


@main.command(epilog=EXAMPLES)
@broker_options
def serve(**given: object) -> None:
    """Run the broker until SIGTERM or Ctrl-C. Prints `listening on URL` once it is up.

    $DISPATCH_JWT_SECRET signs the sign-in tokens, and $DISPATCH_RELAY_KEY those for relays; without them they are made
    and kept in the data folder.
    """
    with program.refusals_told("dispatch-rendezvous"):
        options = Options(**given)  # type: ignore[arg-type]  # click gives what its options say
        options.check()
        tls = tls_context(options.certificate, options.key) if options.certificate and options.key else None
        mailer = options.mailer()
        with DataFolder(options.folder) as folder:
            settings = options.settings(folder)
            secrets, relay_key = load_secrets(folder, os.environ), load_relay_key(folder, os.environ)
            run = partial(_run, options, settings, secrets, relay_key, mailer, tls)
            trio.run(run)


@main.command(
    epilog="\b\nExample:\n  dispatch-rendezvous doctor --public-url https://broker.example --smtp-host smtp.example"
)
@broker_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON: {checks: [{name, ok, needed, detail, fix}]}.")
def doctor(*, as_json: bool, **given: object) -> None:
    """Look at all that people need of this broker, given the options that `serve` gets. It may run meanwhile.

    Checks what users are told about installing, the mail server (without a mail), the secret, the data folder, the
    public address and its TLS as clients see it, relays and the clock. Exit 1 if something is broken.
    """
    with program.refusals_told("dispatch-rendezvous"):
        options = Options(**given)  # type: ignore[arg-type]  # click gives what its options say
        options.check()
        found = doctor_checks.checks(options, os.environ)
    if as_json:
        click.echo(json.dumps({"checks": [asdict(each) for each in found]}))
    else:
        for each in found:
            mark = "ok    " if each.ok else "broken" if each.needed else "advice"
            click.echo(f"{mark}  {each.name}: {each.detail}{f'; fix: {each.fix}' if each.fix else ''}")
    sys.exit(int(any(each.needed and not each.ok for each in found)))


@main.command(
    epilog="\b\nExample:\n  dispatch-rendezvous migrate --from sqlite:/srv/dispatch/rendezvous.db "
    "--to postgresql://dispatch@db.example/dispatch"
)
@click.option("--from", "source", required=True, metavar="sqlite:FILE", help="The file of a broker that is stopped.")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="postgresql://…",
    envvar="DATABASE_URL",
    callback=without_password,
    help="An empty database.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: {rows: {table: number}}.")
def migrate(*, source: str, target: str, as_json: bool) -> None:
    """Move a broker from its file to PostgreSQL: all or nothing, each row compared afterwards.

    The file stays as it is. Then serve with --database, and with the same --data, which has the secrets.
    """
    with program.refusals_told("dispatch-rendezvous"):
        scheme, _, name = source.partition(":")
        if scheme != "sqlite" or not name:
            raise Invalid("--from is no file of a broker", fix="write it like sqlite:/srv/dispatch/rendezvous.db")
        file = Path(name).expanduser().absolute()
        if not file.is_file():
            raise Invalid(
                f"there is no file {file}", fix="name the broker's database, rendezvous.db in its data folder"
            )
        with DataFolder(file.parent):
            rows = trio.run(move, file, target)
    if as_json:
        click.echo(json.dumps({"rows": rows}))
    else:
        click.echo(f"moved and compared: {', '.join(f'{number} {table}' for table, number in rows.items())}")


@main.command("relay-key")
@data_option
def relay_key(*, data: Path) -> None:
    """Print the public key that `dispatch-relay serve --allow broker=KEY` takes to serve this broker's users.

    The key is $DISPATCH_RELAY_KEY, or relay.key in the data folder, where one is made if there is none yet. It may be
    called while the broker runs.
    """
    with program.refusals_told("dispatch-rendezvous"):
        folder = data.expanduser()
        if not os.environ.get("DISPATCH_RELAY_KEY"):
            private_folder(folder)
        click.echo(base64url.encode(load_relay_key(folder, os.environ).public))


for each in (backup.backup, backup.restore, users.user, rotation.rotate_secret):
    main.add_command(each)


async def _run(
    options: Options,
    settings: Settings,
    secrets: TokenSecrets,
    relay_key: RelayKey,
    mailer: Mailer | None,
    tls: ssl.SSLContext | None,
) -> None:
    limits = ConnectionLimits().within_descriptors()
    async with (
        listening(options.host, options.port, backlog=limits.total) as listeners,
        open_storage(options.database, settings.data) as storage,
    ):
        if not settings.public_url:
            scheme = "http" if tls is None else "https"
            settings = replace(
                settings, public_url=origin_of(f"{scheme}://{program.authority(options.host, port_of(listeners))}")
            )
        broker = Broker(settings, storage=storage, secrets=secrets, relay_key=relay_key, mailer=mailer)
        started, stop = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                nursery.start_soon(_announce, broker, started)
                nursery.start_soon(
                    partial(serving.serve, broker, listeners, tls=tls, started=started, stop=stop, limits=limits)
                )
                async for _ in signals:
                    stop.set()
                    break


async def _announce(broker: Broker, started: trio.Event) -> None:
    await started.wait()
    if broker.settings.dev:
        click.echo("DEVELOPMENT BROKER: it approves every sign-in without checking who asks", err=True)
    elif broker.mailer is None:
        click.echo(
            "no --smtp-host: nobody can sign in, because this broker cannot send the mail that proves an address",
            err=True,
        )
    settings = broker.settings
    log.info(
        "broker.started",
        version=program.version(),
        dev=settings.dev,
        mail=broker.mailer is not None,
        relays=len(settings.relays),
        proxies=len(settings.trusted_proxies),
    )
    click.echo(f"listening on {settings.public_url}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
