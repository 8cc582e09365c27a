"""Certificates of the services that this machine calls: what is trusted, and what is wrong with one. No network."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import certifi

from peer.protocol.errors import Invalid

FIX: Final = (
    "if your own authority issued it, set $SSL_CERT_FILE to that authority's file; if it has expired, its operator "
    "must renew it; otherwise check this machine's clock"
)


def check_named(env: Mapping[str, str] | None = None) -> None:
    """Raise Invalid where $SSL_CERT_FILE or $SSL_CERT_DIR names a pipe or the like, which OpenSSL would wait for.

    What is not there is as good as empty to it.
    """
    variables = os.environ if env is None else env
    for variable, kind, wanted in (("SSL_CERT_FILE", stat.S_IFREG, "file"), ("SSL_CERT_DIR", stat.S_IFDIR, "folder")):
        named = variables.get(variable, "")
        if not named:
            continue
        for path in named.split(os.pathsep) if variable == "SSL_CERT_DIR" else [named]:
            try:
                found = stat.S_IFMT(Path(path).stat().st_mode)
            except (OSError, ValueError):
                continue
            if found != kind:
                raise Invalid(
                    f"${variable} is {path}, which is not a {wanted}", fix=f"name a {wanted} there, or unset it"
                )


def system_trust() -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, or certifi's if Python finds none of the system's.

    Takes 0.1 s, for some hundred certificates. Raises Invalid as `check_named`.
    """
    check_named()
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


def problem(error: BaseException) -> str | None:
    """Return what is wrong with the certificate for which a connection failed; None if it failed for another reason."""
    seen: BaseException | None = error
    for _ in range(10):
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({seen.verify_message or 'it was refused'})"
        seen = seen.__cause__ or seen.__context__ if seen is not None else None
    return None
