"""`dispatch-relay`: its options, wiring and signals. Serving: serving.py."""

from __future__ import annotations

import gc
import os
import signal
import ssl
import sys
from functools import partial
from pathlib import Path

import click
import trio

from peer.protocol.errors import Invalid
from peer.protocol.relays.addresses import is_loopback, relay_origin
from rendezvous import logs, program
from rendezvous.connections import ConnectionLimits
from rendezvous.listening import listening, port_of
from rendezvous.proxies import Network, proxy_networks
from rendezvous.relay import contacts, serving
from rendezvous.relay.admission import Admission, admission_of
from rendezvous.relay.limits import RelayLimits
from rendezvous.relay.relay import Relay
from rendezvous.tls import tls_context

EXAMPLES = """\b
Examples:
  dispatch-relay serve --allow contacts             # your own contacts: where your dispatch-daemon runs
  dispatch-relay serve --allow token                # the secret: $DISPATCH_RELAY_TOKEN
  dispatch-relay serve --host :: --port 443 \\
      --certificate fullchain.pem --key privkey.pem \\
      --public-url https://relay.example --allow broker=KEY
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@click.version_option(program.version(), prog_name="dispatch-relay")
def main() -> None:
    """A relay of dispatch: joins two devices that reach each other no other way. It cannot read what they say."""


@main.command(epilog=EXAMPLES)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address or name to listen on; :: means all addresses."
)
@click.option(
    "--port", default=8900, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one."
)
@click.option("--public-url", default="", help="The origin that devices use. Default: http://HOST:PORT on loopback.")
@program.tls_options
@click.option(
    "--allow",
    metavar="contacts[=FILE]|broker=KEY|token",
    multiple=True,
    help=(
        "Who may use the relay. contacts: you and your contacts, from the list in your daemon's state folder or in "
        "FILE. broker: the users of a broker, by its relay key (`dispatch-rendezvous relay-key`); repeatable. token: "
        "everybody who has the secret in $DISPATCH_RELAY_TOKEN."
    ),
)
def serve(
    *,
    host: str,
    port: int,
    public_url: str,
    certificate: Path | None,
    key: Path | None,
    trusted_proxies: tuple[str, ...],
    allow: tuple[str, ...],
) -> None:
    """Run the relay until SIGTERM or Ctrl-C. Prints `listening on ORIGIN` once it is up. It keeps nothing on disk."""
    logs.to_stderr()
    with program.refusals_told("dispatch-relay"):
        program.check_pem_files(certificate, key)
        proxies = proxy_networks(trusted_proxies)
        admission = admission_of(allow, os.environ)
        origin = relay_origin(public_url) if public_url else ""
        if not origin and not is_loopback(host):
            raise Invalid(
                "a relay that listens beyond loopback needs its public address, since devices sign for it",
                fix="give --public-url https://…",
            )
        tls = tls_context(certificate, key) if certificate and key else None
        trio.run(partial(_run, origin, admission, proxies, tls, host=host, port=port))


async def _run(
    origin: str,
    admission: Admission,
    proxies: tuple[Network, ...],
    tls: ssl.SSLContext | None,
    *,
    host: str,
    port: int,
) -> None:
    limits = RelayLimits()
    most = ConnectionLimits(total=limits.connections).within_descriptors().total
    async with listening(host, port, backlog=most) as listeners:
        scheme = "http" if tls is None else "https"
        origin = origin or relay_origin(f"{scheme}://{program.authority(host, port_of(listeners))}")
        relay = Relay(origin, admission, limits=limits.with_connections(most), proxies=proxies)
        started, stop = trio.Event(), trio.Event()
        async with trio.open_nursery() as keeping:
            if admission.contacts_file:
                await keeping.start(contacts.keep, relay)
            async with trio.open_nursery() as nursery:
                with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    nursery.start_soon(_announce, relay, started)
                    nursery.start_soon(partial(serving.serve, relay, listeners, tls=tls, started=started, stop=stop))
                    async for _ in signals:
                        stop.set()
                        break
            keeping.cancel_scope.cancel()


async def _announce(relay: Relay, started: trio.Event) -> None:
    await started.wait()
    gc.freeze()  # what is loaded stays: each full collection would look at it, for a tenth of a second
    click.echo(f"listening on {relay.origin}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
