"""What the programs of this package share: their version, checks of files, and how they leave with an error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import click

from peer.protocol.errors import DispatchError, Invalid

Command = TypeVar("Command", bound=Callable[..., Any])


def version() -> str:
    """Return the version of this installation."""
    try:
        return metadata.version("dispatch-courier")
    except metadata.PackageNotFoundError:
        return "unpacked source"


def tls_options(command: Command) -> Command:
    """Add the options by which a program serves over TLS: by itself, or behind a proxy."""
    pem = click.Path(path_type=Path, exists=True)
    options = (
        click.option("--certificate", type=pem, help="TLS certificate chain (PEM)."),
        click.option("--key", type=pem, help="TLS private key (PEM)."),
        click.option(
            "--trusted-proxies",
            "--behind-proxy",  # its name before there could be several at once
            "trusted_proxies",
            metavar="CIDR,…",
            multiple=True,
            help=(
                "Addresses and networks of your own proxies, whose X-Forwarded-For is believed, also through several "
                "in a row. Repeatable."
            ),
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def check_pem_files(certificate: Path | None, key: Path | None, *more: Path | None) -> None:
    """Raise Invalid unless these are plain files, and certificate and key come together."""
    for file in (certificate, key, *more):
        if file is not None and not file.is_file():  # a pipe would be waited for
            raise Invalid(f"{file} is not a plain file", fix="give a PEM file")
    if (certificate is None) != (key is None):
        raise Invalid(
            "--certificate and --key have to be given together", fix="give both; behind a TLS proxy, give neither"
        )


def authority(host: str, port: int) -> str:
    """Return host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def refusals_told(program: str) -> Iterator[None]:
    """Print an error that ends the block with its fix, and exit: 2 for what was typed, 1 for anything else."""
    try:
        yield
    except DispatchError as error:
        click.echo(f"{program}: {error.message}", err=True)
        if error.fix:
            click.echo(f"  fix: {error.fix}", err=True)
        sys.exit(2 if isinstance(error, Invalid) else 1)
