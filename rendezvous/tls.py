"""TLS as the programs of this package serve it."""

from __future__ import annotations

import ssl
from pathlib import Path

from peer.protocol.errors import Invalid


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return TLS 1.2 or newer with this certificate chain and key, for HTTP/1.1 alone. Raises Invalid."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"{certificate} and {key} are not a certificate and its private key",
            fix="give a certificate and the private key that belongs to it",
        ) from error
    return context


def _no_password() -> str:
    raise ssl.SSLError("a key with a password")  # or OpenSSL would ask the terminal
