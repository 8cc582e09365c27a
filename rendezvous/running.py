"""A broker from its options to its end: in this process, in several of them, or as one of several."""

from __future__ import annotations

import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import click
import structlog
import trio

from peer.protocol.errors import DispatchError, root_of
from rendezvous import program, serving
from rendezvous.broker import Broker, origin_of
from rendezvous.connections import GRACE_SECONDS, ConnectionLimits
from rendezvous.data_folder import DataFolder
from rendezvous.limits import Limits
from rendezvous.listening import listening, port_of
from rendezvous.metrics_page import CONNECTIONS, serve_apart
from rendezvous.options import Options
from rendezvous.relay_tokens import load_relay_key
from rendezvous.storage.opening import open_storage
from rendezvous.tls import tls_context
from rendezvous.tokens import load_secrets
from rendezvous.workers.supervisor import Supervisor
from rendezvous.workers.worker import Inherited, Others

log = structlog.get_logger(__name__)


def run(options: Options, arguments: Sequence[str]) -> None:
    """Serve until SIGTERM or Ctrl-C. `arguments`: this process's, for more of them. Raises DispatchError.

    A worker leaves the lock of the data folder to the process that started it.
    """
    # What is wrong with these is found before any process is started or socket opened.
    options.mailer()
    _tls(options)
    if options.worker:
        _run_to_its_end(partial(_work, options, Inherited.read(options.worker)))
        return
    with DataFolder(options.folder):
        load_secrets(options.folder, os.environ)
        load_relay_key(options.folder, os.environ)
        several = options.workers > 1
        _run_to_its_end(partial(_supervise, options, arguments) if several else partial(_serve, options))


def _run_to_its_end(serving: Callable[[], Awaitable[None]]) -> None:
    try:
        trio.run(serving)
    except BaseExceptionGroup as group:
        if isinstance(root := root_of(group), DispatchError):
            raise root from None
        raise


async def _serve(options: Options) -> None:
    async with _listening(options) as (listeners, apart), _signalled() as stop:
        await _run(options, listeners, apart, stop, lambda url: _announce(options, url, apart))


async def _supervise(options: Options, arguments: Sequence[str]) -> None:
    async with _listening(options) as (listeners, apart), _signalled() as stop:
        supervisor = Supervisor(
            options.workers,
            arguments,
            [each.socket.fileno() for each in listeners],
            metrics=[each.socket.fileno() for each in apart],
            stop_seconds=options.drain + GRACE_SECONDS + 2,
        )
        url = _public_url(options, listeners)
        await supervisor.run(started=lambda: _announce(options, url, apart), stop=stop.wait)


async def _work(options: Options, inherited: Inherited) -> None:
    others = inherited.others()
    async with _signalled() as stop, trio.open_nursery() as nursery:

        async def until_alone() -> None:
            await others.gone.wait()
            stop.set()

        nursery.start_soon(others.run)
        nursery.start_soon(until_alone)
        listeners, apart = inherited.listeners(), inherited.metrics_listeners()
        await _run(options, listeners, apart, stop, lambda _url: others.ready(), others=others)
        nursery.cancel_scope.cancel()


async def _run(
    options: Options,
    listeners: Sequence[trio.SocketListener],
    apart: Sequence[trio.SocketListener],
    stop: trio.Event,
    accepting: Callable[[str], None],
    *,
    others: Others | None = None,
) -> None:
    """Serve until `stop`, and /metrics at `apart`; `accepting` is called with the public address once connections are
    accepted."""
    tls = _tls(options)
    settings = options.settings(options.folder)
    limits = _connection_limits(settings.limits)
    settings = replace(
        settings,
        public_url=settings.public_url or _public_url(options, listeners),
        limits=settings.limits.with_connections(limits.total),
    )
    async with open_storage(options.database, options.folder, limits=settings.limits, notices=others) as storage:
        broker = Broker(
            settings,
            storage=storage,
            secrets=load_secrets(options.folder, os.environ),
            relay_key=load_relay_key(options.folder, os.environ),
            mailer=options.mailer(),
        )
        if others is not None:
            others.snapshot, broker.metrics_of_all = broker.metrics.snapshot, others.metrics
        started = trio.Event()
        async with trio.open_nursery() as nursery:
            if apart:
                nursery.start_soon(partial(serve_apart, broker, apart, until=stop.wait))
            nursery.start_soon(
                partial(
                    serving.serve,
                    broker,
                    listeners,
                    tls=tls,
                    started=started,
                    stop=stop,
                    limits=limits,
                    drain_seconds=options.drain,
                )
            )
            await started.wait()
            accepting(settings.public_url)


def _connection_limits(limits: Limits) -> ConnectionLimits:
    return ConnectionLimits(total=limits.connections, per_network=limits.connections_per_network).within_descriptors()


@asynccontextmanager
async def _listening(
    options: Options,
) -> AsyncIterator[tuple[Sequence[trio.SocketListener], Sequence[trio.SocketListener]]]:
    """Listen for everybody, and for whoever reads metrics if that has an address of its own."""
    wanted = options.settings(options.folder).limits
    limits = _connection_limits(wanted)
    if limits.total < wanted.connections != Limits().connections:
        click.echo(
            f"at most {limits.total:,} connections, not {wanted.connections:,}: that is what a process has file "
            "descriptors for (`ulimit -n`, or LimitNOFILE of its unit)",
            err=True,
        )
    async with AsyncExitStack() as stack:
        listeners = await stack.enter_async_context(listening(options.host, options.port, backlog=limits.total))
        apart: Sequence[trio.SocketListener] = ()
        if address := options.metrics_address():
            own = listening(*address, backlog=CONNECTIONS, option="--metrics")
            apart = await stack.enter_async_context(own)
        yield listeners, apart


def _tls(options: Options) -> ssl.SSLContext | None:
    return tls_context(options.certificate, options.key) if options.certificate and options.key else None


def _public_url(options: Options, listeners: Sequence[trio.SocketListener]) -> str:
    if options.public_url:
        return origin_of(options.public_url)
    scheme = "https" if options.certificate else "http"
    return origin_of(f"{scheme}://{program.authority(options.host, port_of(listeners))}")


@asynccontextmanager
async def _signalled() -> AsyncIterator[trio.Event]:
    """Give an event that SIGTERM and SIGINT set."""
    stop = trio.Event()

    async def wait() -> None:
        async for _ in signals:
            stop.set()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            yield stop
            nursery.cancel_scope.cancel()


def _announce(options: Options, url: str, apart: Sequence[trio.SocketListener]) -> None:
    if address := options.metrics_address():
        click.echo(f"metrics at http://{program.authority(address[0], port_of(apart))}/metrics", err=True)
    if options.dev:
        click.echo("DEVELOPMENT BROKER: it approves every sign-in without checking who asks", err=True)
    elif not options.smtp_host:
        click.echo(
            "no --smtp-host: nobody can sign in, because this broker cannot send the mail that proves an address",
            err=True,
        )
    log.info(
        "broker.started",
        version=program.version(),
        database="postgresql" if options.database else "file",
        workers=options.workers,
        dev=options.dev,
        mail=bool(options.smtp_host),
    )
    click.echo(f"listening on {url}")
    sys.stdout.flush()
