"""The way from this machine to a model's API: its address, who may certify it, an HTTP proxy. proxy.py goes it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import certifi
import httpx

from sandbox.errors import SandboxError

T = TypeVar("T")


def checked_base(base_url: str) -> str:
    """Return an API's address, http or https, with its path, without a slash at the end. Raises SandboxError 422."""
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError) as problem:
        raise SandboxError(f"{base_url!r} is not the address of a model API", code=422) from problem
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment or url.userinfo:
        raise SandboxError(
            "the model's base URL must be http(s)://host, without credentials or query",
            fix="`dispatch config set model.base_url https://api.anthropic.com`",
            code=422,
        )
    return str(url).rstrip("/")


def trust(ca_file: str | None, more_ca_file: str | None = None) -> ssl.SSLContext:
    """Return the TLS context: the authorities in a PEM file, else the system's, else certifi's if there are none.

    Those in `more_ca_file` come on top. Raises SandboxError 422 for a file that cannot be used.
    """
    context = _with_authorities(ca_file, lambda: ssl.create_default_context(cafile=ca_file), "$SSL_CERT_FILE")
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    if more_ca_file is not None:
        _with_authorities(more_ca_file, lambda: context.load_verify_locations(more_ca_file), "model.ca_file")
    return context


def _with_authorities(file: str | None, load: Callable[[], T], setting: str) -> T:
    if file is not None and Path(file).exists() and not Path(file).is_file():  # a pipe would be waited for
        raise SandboxError(f"{file} is not a file", fix=f"set {setting} to a PEM file", code=422)
    try:
        return load()
    except (OSError, ValueError) as error:
        raise SandboxError(
            f"the certificates in {file} cannot be used: {error}", fix=f"set {setting} to a PEM file", code=422
        ) from error


def checked_proxy(address: str, trusted: ssl.SSLContext) -> httpx.Proxy:
    """Return the proxy of that address, which may hold a password and so is in no error. Raises SandboxError 422."""
    try:
        url = httpx.URL(address)
        if url.scheme in ("http", "https") and url.host:
            return httpx.Proxy(url, ssl_context=trusted if url.scheme == "https" else None)
    except (httpx.InvalidURL, ValueError):
        pass
    raise SandboxError(
        "the proxy on the way to the model's API must be http(s)://HOST:PORT",
        fix="`dispatch config set model.proxy -`",
        code=422,
    )


def untrusted(error: BaseException | None) -> str:
    """Return what is wrong with the certificate for which a connection failed, "" if it failed for another reason."""
    for _ in range(10):
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {error.verify_message}"
        error = error.__cause__ or error.__context__ if error is not None else None
    return ""
