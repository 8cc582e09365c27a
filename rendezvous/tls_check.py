"""What a client would say of a certificate, without a server: a TLS handshake in memory. For `doctor`."""

from __future__ import annotations

import ssl
import time
from contextlib import suppress
from pathlib import Path

from rendezvous.tls import tls_context


def days_left(certificate: Path, key: Path, host: str) -> float:
    """Return for how many days clients will accept this chain from `host`, by the authorities that they trust here.

    Raises Invalid as tls_context, and ssl.SSLCertVerificationError for what they reject.
    """
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(back, there, server_hostname=host)
    served = tls_context(certificate, key).wrap_bio(there, back, server_side=True)
    for end in (client, served, client):  # hello; its answer with the certificate; the client's verdict
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    found = client.getpeercert() or {}
    return (ssl.cert_time_to_seconds(str(found["notAfter"])) - time.time()) / 86_400
