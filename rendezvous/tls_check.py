"""What a client would say of a certificate, without a server: a TLS handshake in memory. For `doctor`."""

from __future__ import annotations

import ssl
import time
from pathlib import Path


class NotAPair(Exception):
    """Certificate and key cannot be served together."""


def days_left(certificate: Path, key: Path, host: str) -> float:
    """Return for how many days clients will accept this chain from `host`, by the authorities that they trust here.

    Raises NotAPair, and ssl.SSLCertVerificationError for what they reject.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A passphrase would be asked for on the terminal; nobody could type it where the broker starts.
        server.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise NotAPair(str(getattr(error, "reason", None) or error)) from error
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(back, there, server_hostname=host)
    served = server.wrap_bio(there, back, server_side=True)
    for end in (client, served, client):  # hello; its answer with the certificate; the client's verdict
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = client.getpeercert() or {}
    return (ssl.cert_time_to_seconds(str(found["notAfter"])) - time.time()) / 86_400
