"""`dispatch-rendezvous`: its commands. Options: options.py; wiring and processes: running.py; routes: app.py."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click
import trio

from peer.protocol import base64url
from peer.protocol.errors import Invalid
from rendezvous import backup, doctor_checks, logs, program, rotation, running, users
from rendezvous.data_folder import DataFolder, private_folder
from rendezvous.options import Options, broker_options, data_option, without_password
from rendezvous.relay_tokens import load_relay_key
from rendezvous.storage.opening import move

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
@click.option("--worker", default="", hidden=True)  # given by the process that starts the workers
def serve(**given: object) -> None:
    """Run the broker until SIGTERM or Ctrl-C. Prints `listening on URL` once it is up.

    $DISPATCH_JWT_SECRET signs the sign-in tokens, and $DISPATCH_RELAY_KEY those for relays; without them they are made
    and kept in the data folder.
    """
    with program.refusals_told("dispatch-rendezvous"):
        options = Options(**given)  # type: ignore[arg-type]  # click gives what its options say
        options.check()
        running.run(options, sys.argv[1:])


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


if __name__ == "__main__":
    main()
