"""What a run is told of the network that it was granted. Pure; the proxy that gives it is sandbox.network's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sandbox import frames
from sandbox.confinement.places import AUTHORITIES, PROXY_PORT
from sandbox.network.packages.wanted import CRATES_IO

_PROXY: Final = f"http://127.0.0.1:{PROXY_PORT}"
_HERE: Final = "localhost,127.0.0.1,::1"

OFFLINE: Final[Mapping[str, str]] = {
    **{"UV_OFFLINE": "1", "PIP_RETRIES": "0", "npm_config_offline": "true", "CARGO_NET_OFFLINE": "true"},
    "GOPROXY": "off",
}
"""Without a network a tool that asks for one waits through its retries. With these it says at once what is missing."""

ONLINE: Final[Mapping[str, str]] = {
    # Plain HTTP goes there too: the proxy says why it is refused, where a tool would only wait.
    **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), _PROXY),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), _HERE),
    # A host that was not granted will not be at the next attempt.
    **{"PIP_RETRIES": "1", "npm_config_fetch_retries": "1", "CARGO_NET_RETRY": "1", "UV_HTTP_RETRIES": "1"},
    # What these ask for besides is not what anybody wants from a run.
    **{"npm_config_audit": "false", "npm_config_fund": "false", "GOSUMDB": "off"},
}


_REGISTRY: Final[Mapping[str, tuple[str, ...]]] = {
    "pip": ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    "npm": ("npm_config_registry",),
    "go": ("GOPROXY",),
    "cargo": (),  # it takes another registry from a file alone
}
_AUTHORITIES: Final = (
    *("SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "REQUESTS_CA_BUNDLE"),
    *("CARGO_HTTP_CAINFO", "NODE_EXTRA_CA_CERTS", "npm_config_cafile"),
)
CARGO_SETTINGS: Final = Path(".cache/cargo/config.toml")
"""In the run's own folder: what $CARGO_HOME names is there."""


def granted(start: frames.Start) -> bool:
    """Whether the run's shell commands reach anything. Without shells nothing would use it."""
    return bool(start.network.hosts or start.network.registries) and "Bash" in start.tools


def variables(start: frames.Start) -> Mapping[str, str]:
    """What the run's shell commands are told."""
    if not granted(start):
        return OFFLINE
    registries = {
        name: registry.address
        for registry in reversed(start.network.registries)  # of two, the first
        for name in _REGISTRY[registry.kind]
    }
    authorities = dict.fromkeys(_AUTHORITIES, str(AUTHORITIES)) if start.network.has_authorities else {}
    return {**ONLINE, **registries, **authorities}


def cargo_settings(start: frames.Start) -> str:
    """Settings by which cargo uses the registry that was granted, "" where there is none."""
    for registry in start.network.registries:
        if registry.kind == "cargo" and registry.address != CRATES_IO:  # which it would not take twice
            return (
                '[source.crates-io]\nreplace-with = "granted"\n'
                f'[source.granted]\nregistry = "sparse+{registry.address}/"\n'
            )
    return ""


def sentence(start: frames.Start) -> str:
    """Where the agent is, as the end of a sentence."""
    if not granted(start):
        return "without any network"
    names = [host.name if host.port == 443 else f"{host.name}:{host.port}" for host in start.network.hosts]
    if start.network.registries:
        which = "any package" if start.network.any_package else "the packages that the project's lock files name"
        kinds = ", ".join(dict.fromkeys(registry.kind for registry in start.network.registries))
        names.append(f"a registry for {which} ({kinds})")
    return f"whose commands can reach {', '.join(names)} over HTTPS through the proxy in $HTTPS_PROXY, and nothing else"
