"""The way to the model's API, out of settings and variables: HTTP proxy, authorities, price. No network.

The sandbox's model proxy goes it; what it is told comes from here, since its own environment is empty.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from peer.machine.service_urls import proxy_url
from peer.machine.settings import Settings
from peer.protocol.errors import Invalid
from sandbox import frames, runtimes

_PROXY_FIX = (
    "set one with `dispatch config set model.proxy URL`, or connect without: `dispatch config set model.proxy none`"
)
PRICE_FIX = (
    "set it with `dispatch config set model.price INPUT,OUTPUT,CACHE_WRITE,CACHE_READ`, in USD per million tokens"
)


def model(settings: Settings, env: Mapping[str, str] | None = None) -> frames.Model:
    """Return what a run is told of its model, the key and the proxy's password among it. Raises Invalid."""
    variables = os.environ if env is None else env
    said = settings.model
    return frames.Model(
        base_url=said.base_url or None,
        api_key=said.api_key or None,
        name=said.name or None,
        price=price(settings),
        ca_file=variables.get("SSL_CERT_FILE") or None,
        more_ca_file=said.ca_file or variables.get("NODE_EXTRA_CA_CERTS") or None,
        http_proxy=http_proxy(settings, variables) or None,
    )


def price(settings: Settings) -> frames.ModelPrice | None:
    """Return the price that the person set; None if there is none, or no name of the model that it is for."""
    if not (settings.model.price and settings.model.name):
        return None
    amounts = (float(amount) for amount in settings.model.price.split(","))
    return frames.ModelPrice(**dict(zip(("input", "output", "cache_write", "cache_read"), amounts, strict=True)))


def unpriced(settings: Settings) -> bool:
    """Whether the model that the person named has no known price. Loads the runtime: not for every start."""
    if not settings.model.name or price(settings) is not None:
        return False
    api = runtimes.load(settings.runtime).model_api
    return api is not None and api.price(settings.model.name) is None


def secrets(settings: Settings) -> tuple[str, ...]:
    """Return the secrets of the way to the model, for masking: the key, and the proxy's password."""
    try:
        password = urlsplit(http_proxy(settings)).password or ""
    except (Invalid, ValueError):
        password = ""
    return (settings.model.api_key.removeprefix("Bearer "), unquote(password), password)


def http_proxy(settings: Settings, env: Mapping[str, str] | None = None) -> str:
    """Return the HTTP proxy on the way to the model's API, "" for none.

    `model.proxy`, else $HTTPS_PROXY for a host that $NO_PROXY does not name (in lower case first, as curl has them). An
    API on this machine, the only one that may be plain http, is never reached through one. Raises Invalid.
    """
    variables = os.environ if env is None else env
    url = urlsplit(settings.model.base_url or "https://api.anthropic.com")
    if url.scheme != "https" or settings.model.proxy == "none":
        return ""
    return settings.model.proxy or proxy_of_variables(url.netloc, variables, _PROXY_FIX)


def proxy_of_variables(host: str, variables: Mapping[str, str], fix: str) -> str:
    """Return $HTTPS_PROXY for a HOST[:PORT] that $NO_PROXY does not name, "" for none.

    Raises Invalid with `fix` for a variable that names no HTTP proxy; its value may hold a password and is not in it.
    """
    named = variables.get("https_proxy") or variables.get("HTTPS_PROXY") or ""
    if not named:
        return ""
    exceptions = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    if exceptions:
        import urllib.request  # takes 30 ms or more to load

        # typeshed does not list it; `requests` uses it in the same way.
        bypass: Callable[[str, Mapping[str, str]], object] = vars(urllib.request)["proxy_bypass_environment"]
        if bypass(host, {"no": exceptions}):
            return ""
    if known := proxy_url(named if "://" in named else f"http://{named}"):
        return known
    raise Invalid("$HTTPS_PROXY is not the URL of an HTTP proxy", fix=fix)
