"""What `dispatch-rendezvous doctor` looks at: each part of a broker that people meet, now, and what mends it.

Nothing is changed but a file of a moment in the data folder, and no mail is sent.
"""

from __future__ import annotations

import ctypes
import http.client
import ipaddress
import json
import os
import shutil
import smtplib
import socket
import ssl
import stat
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from peer.protocol.errors import DispatchError
from rendezvous import tls_check
from rendezvous.broker import is_loopback
from rendezvous.options import Options
from rendezvous.private_files import MIN_TEXT
from rendezvous.relay_tokens import KEY_FILE
from rendezvous.rotation import began
from rendezvous.storage.opening import look
from rendezvous.tokens import FALLBACK_FILE, SECRET_FILE

HTTP_SECONDS: Final = 10
MAX_ANSWER: Final = 4096
CERTIFICATE_DAYS: Final = 14
CLOCK_SECONDS: Final = 60
"""A signed request is taken within five minutes: at a minute apart there is time to mend a clock."""
FREE_BYTES: Final = 100 * 1024 * 1024
DISTINCT_BYTES: Final = 12
"""A secret of 32 bytes with fewer different ones was typed, not made: `openssl rand -hex 32` has 13 to 16."""
TIME_ERROR: Final = 5
_TRUSTED: Final = (
    "use a certificate for this name from a CA that clients trust, and pass its whole chain to --certificate"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One part. `needed`: without it something is broken; otherwise a fix is advice."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    needed: bool = True


def checks(options: Options, environment: Mapping[str, str]) -> list[Check]:
    """Look at everything, one after the other. `options` have passed their own check. Blocking, below two minutes."""
    reached, clocks = _public_address(options)
    relays, more = _relays(options)
    return [
        _installing(options),
        _mail(options),
        *_secrets(options, environment),
        _data_folder(options),
        _database(options),
        *_certificate(options),
        reached,
        relays,
        _clock({**clocks, **more}),
    ]


def _installing(options: Options) -> Check:
    said = options.settings(options.folder).installing
    if not said:
        return Check(
            "install",
            False,
            "no install instructions are set, so invitations cannot say how to install dispatch",
            "serve with --install-command TEXT (a command that works for your users) or --install-url URL",
        )
    parts = [f"{len(said.commands)} commands"] if said.commands else []
    return Check("install", True, ", ".join([*parts, *([said.url] if said.url else [])]))


def _mail(options: Options) -> Check:
    if options.dev:
        return Check("mail", True, "not needed: a development broker approves sign-ins on its page")
    mailer = options.mailer()
    if mailer is None:
        return Check(
            "mail",
            False,
            "no mail server: nobody can prove their address, so nobody can sign in",
            "serve with --smtp-host and --smtp-from; if the server needs a login, add --smtp-user and set "
            "$DISPATCH_SMTP_PASSWORD",
        )
    where = f"{options.smtp_host}:{options.smtp_port}"
    try:
        mailer.try_connection()
    except smtplib.SMTPAuthenticationError:
        return Check(
            "mail",
            False,
            f"{where} rejects the user {options.smtp_user!r}",
            "check --smtp-user and $DISPATCH_SMTP_PASSWORD",
        )
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or "TLS failed"
        return Check(
            "mail",
            False,
            f"{where}: {why}",
            "give --smtp-host the name on the server's certificate, or trust its CA with --smtp-ca FILE",
        )
    except smtplib.SMTPNotSupportedError as error:
        return Check(
            "mail",
            False,
            f"{where}: {error}",
            "choose a port where the server offers STARTTLS, usually --smtp-port 587",
        )
    except (OSError, smtplib.SMTPException, ValueError) as error:
        why = str(getattr(error, "strerror", None) or type(error).__name__)
        return Check(
            "mail", False, f"{where} does not respond like a mail server: {why}", "check --smtp-host, --smtp-port"
        )
    return Check("mail", True, f"{where} accepts mail over TLS{' from this user' if options.smtp_user else ''}")


def _secrets(options: Options, environment: Mapping[str, str]) -> list[Check]:
    """The secret of sign-in tokens, the one before it, and the key for relays."""
    found = [
        _secret(
            options,
            environment,
            "token secret",
            SECRET_FILE,
            "DISPATCH_JWT_SECRET",
            if_replaced="everybody has to sign in again",
        ),
        _secret(
            options,
            environment,
            "relay key",
            KEY_FILE,
            "DISPATCH_RELAY_KEY",
            if_replaced="every relay then needs the new key, from `dispatch-rendezvous relay-key`",
        ),
    ]
    fallback = options.folder / FALLBACK_FILE
    if environment.get("DISPATCH_JWT_SECRET_FALLBACK"):
        ending = "unset $DISPATCH_JWT_SECRET_FALLBACK 30 days after you set it, and restart the broker"
    elif fallback.exists() and not environment.get("DISPATCH_JWT_SECRET"):
        ending = (
            f"`dispatch-rendezvous rotate-secret --end --data {options.folder}` 30 days later, then restart the broker"
        )
    else:
        return found
    since = f" since {began(options.folder)}" if fallback.exists() and (options.folder / SECRET_FILE).exists() else ""
    return [*found, Check("rotation", False, f"the old secret is still accepted{since}", ending, needed=False)]


def _secret(
    options: Options, environment: Mapping[str, str], name: str, file: str, variable: str, *, if_replaced: str
) -> Check:
    fix = f"set ${variable} to the output of `openssl rand -hex 32`; {if_replaced}"
    if given := environment.get(variable, "").encode():
        if _weak(given):
            return Check(name, False, f"${variable} is too short or easy to guess", fix)
        return Check(name, True, f"${variable}")
    path = options.folder / file
    try:
        mode, text = stat.S_IMODE(path.stat().st_mode), path.read_bytes().strip()
    except FileNotFoundError:
        return Check(name, True, f"none yet: the first `serve` creates {path}")
    except OSError as error:
        return Check(name, False, f"{path}: {error.strerror}", "run doctor as the user that runs the broker")
    if mode & 0o077:
        return Check(name, False, f"other users can read {path} (mode {mode:04o})", f"`chmod 600 {path}`")
    if _weak(text):
        fix = f"`rm {path}`, then restart the broker; {if_replaced}"
        return Check(name, False, f"{path} is too short or easy to guess", fix)
    if options.database:
        fix = f"if other brokers are on this database, give all of them its content as ${variable}"
        return Check(name, False, f"{path}, of this broker alone", fix, needed=False)
    return Check(name, True, f"{path}, private")


def _weak(secret: bytes) -> bool:
    return len(secret) < MIN_TEXT or len(set(secret)) < DISTINCT_BYTES


def _data_folder(options: Options) -> Check:
    folder = options.folder
    try:
        status = folder.stat()
    except FileNotFoundError:
        return Check("data folder", True, f"none yet: the first `serve` creates {folder}")
    except OSError as error:
        return Check("data folder", False, f"{folder}: {error.strerror}", "choose another folder with --data")
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        return Check(
            "data folder",
            False,
            f"{folder} belongs to another user (uid {status.st_uid})",
            "run doctor as the user that runs the broker",
        )
    if mode & 0o077:
        return Check(
            "data folder", False, f"other users can access {folder} (mode {mode:04o})", f"`chmod 700 {folder}`"
        )
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor.") as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return Check(
            "data folder", False, f"{folder} is not writable: {error.strerror}", "choose another folder with --data"
        )
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        return Check(
            "data folder", False, f"only {free // 1024**2} MB are free at {folder}", "free some disk space there"
        )
    return Check("data folder", True, f"{folder}, private, {free // 1024**3} GB free")


def _database(options: Options) -> Check:
    try:
        return Check("database", True, look(options.database, options.folder))
    except DispatchError as error:
        return Check("database", False, error.message, error.fix)


def _certificate(options: Options) -> list[Check]:
    """What clients will say of --certificate, also before the broker is started."""
    name, certificate, key = "certificate", options.certificate, options.key
    if certificate is None or key is None:
        return []
    url = options.settings(options.folder).public_url
    host = (urlsplit(url).hostname if url else options.host) or ""
    try:
        left = tls_check.days_left(certificate, key, host)
    except DispatchError as error:
        return [Check(name, False, error.message, error.fix)]
    except ssl.SSLCertVerificationError as error:
        return [Check(name, False, f"{certificate}: clients reject it: {error.verify_message}", _TRUSTED)]
    except ssl.SSLError as error:
        return [Check(name, False, f"{certificate}: {error.reason}", _TRUSTED)]
    if left < CERTIFICATE_DAYS:
        return [Check(name, False, f"{certificate} expires in {left:.0f} days", "renew it")]
    return [Check(name, True, f"{certificate}, for {host}, valid for another {left:.0f} days")]


def _public_address(options: Options) -> tuple[Check, dict[str, float]]:
    name = "public address"
    url = options.settings(options.folder).public_url
    if not url:
        scheme = "https" if options.certificate else "http"
        url = f"{scheme}://{options.host}:{options.port}"
    elif url.startswith("http:") and not is_loopback(urlsplit(url).hostname or ""):
        fix = (
            "serve over HTTPS: give --certificate and --key, or put a TLS proxy in front (--trusted-proxies), and give "
            "an https --public-url"
        )
        return Check(
            name, False, f"{url} is not encrypted: sign-in tokens and addresses could be read on the way", fix
        ), {}
    try:
        answer = _get(url, "/health")
    except ssl.SSLCertVerificationError as error:
        return Check(name, False, f"{url}: clients reject its certificate: {error.verify_message}", _TRUSTED), {}
    except (OSError, ssl.SSLError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        fix = "start the broker; if it is running, check DNS, firewall and proxy from another machine"
        return Check(name, False, f"nothing responds at {url}: {why}", fix), {}
    clocks = {url: answer.apart} if answer.apart is not None else {}
    if answer.document.get("origin") != url:
        said = answer.document.get("origin", f"status {answer.status}")
        fix = f"serve with --public-url {url}, and let the proxy pass requests through unchanged"
        return Check(
            name, False, f"the server at {url} is not the broker with that address ({str(said)[:200]!r})", fix
        ), clocks
    if answer.days_left is not None and answer.days_left < CERTIFICATE_DAYS:
        return Check(
            name, False, f"the certificate of {url} expires in {answer.days_left:.0f} days", "renew it"
        ), clocks
    left = "" if answer.days_left is None else f", certificate valid for another {answer.days_left:.0f} days"
    return Check(name, True, f"{url} is reachable{left}{_seen_from_here(url)}"), clocks


def _seen_from_here(url: str) -> str:
    """Say it where this machine reaches the public address by another way than people elsewhere."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname or ""):
        return ""
    found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)  # it was just reached
    addresses = {str(address[0]).partition("%")[0] for *_, address in found}
    if any(ipaddress.ip_address(address).is_global for address in addresses):
        return ""
    return f"; from here as {', '.join(sorted(addresses))}: outside this network, try `curl -fsS {url}/health`"


def _relays(options: Options) -> tuple[Check, dict[str, float]]:
    name = "relays"
    origins = options.settings(options.folder).relays
    if not origins:
        return Check(
            name,
            False,
            "none: devices behind two different home routers may not reach each other",
            "run `dispatch-relay serve` on a public host, and serve with --relay https://…",
            needed=False,
        ), {}
    clocks: dict[str, float] = {}
    for origin in origins:
        try:
            answer = _get(origin, "/v1/address")
        except (OSError, ssl.SSLError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "verify_message", "") or getattr(error, "strerror", None) or type(error).__name__
            return Check(
                name, False, f"{origin} does not respond: {why}", "start that relay, or remove it from --relay"
            ), clocks
        if answer.apart is not None:
            clocks[origin] = answer.apart
    return Check(name, True, ", ".join(origins)), clocks


def _clock(apart: Mapping[str, float]) -> Check:
    """`apart`: seconds by which others' clocks are ahead of this one."""
    for where, seconds in apart.items():
        if abs(seconds) > CLOCK_SECONDS:
            detail = f"the clocks of this machine and {where} differ by {abs(seconds):.0f} s: sign-ins will be refused"
            return Check("clock", False, detail, "`timedatectl set-ntp true`")
    if _unsynchronised():
        detail = f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}; this machine's clock is not synchronised"
        return Check("clock", False, detail, "`timedatectl set-ntp true`", needed=False)
    return Check("clock", True, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _unsynchronised() -> bool:
    """Whether the kernel says that no time service keeps its clock: adjtimex(2), which changes nothing with modes 0."""
    if not sys.platform.startswith("linux"):
        return False
    timex = ctypes.create_string_buffer(512)
    return int(ctypes.CDLL(None).adjtimex(timex)) == TIME_ERROR


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    document: dict[str, object]
    apart: float | None
    days_left: float | None


def _get(origin: str, path: str) -> _Answer:
    """GET without a proxy, by the system's certificates, as clients do. Raises OSError, HTTPException, ValueError."""
    parts = urlsplit(origin)
    host = parts.hostname or ""
    if parts.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, parts.port, timeout=HTTP_SECONDS, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=HTTP_SECONDS)
    with closing(connection):
        connection.request("GET", parts.path + path, headers={"accept": "application/json"})
        certificate = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
        response = connection.getresponse()
        content = response.read(MAX_ANSWER)
    document = json.loads(content) if response.status == 200 else {}
    dated = response.headers.get("date")
    apart = parsedate_to_datetime(dated).timestamp() - time.time() if dated else None
    days_left = None
    if certificate and isinstance(ends := certificate.get("notAfter"), str):
        days_left = (ssl.cert_time_to_seconds(ends) - time.time()) / 86_400
    return _Answer(response.status, document if isinstance(document, dict) else {}, apart, days_left)
