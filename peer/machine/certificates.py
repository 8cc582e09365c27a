"""Certificates of the services that this machine calls: what is trusted, and what is wrong with one. No network."""

from __future__ import annotations

import ssl
from typing import Final

FIX: Final = (
    "if it is of your own authority, name the authority's file in $SSL_CERT_FILE; an expired one its operator renews;"
    " check this machine's clock"
)


def problem(error: BaseException) -> str | None:
    """Return what is wrong with the certificate for which a connection failed; None if it failed for another reason."""
    seen: BaseException | None = error
    for _ in range(10):
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({seen.verify_message or 'it was refused'})"
        seen = seen.__cause__ or seen.__context__ if seen is not None else None
    return None
