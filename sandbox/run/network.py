"""What a run is told of the network that it was granted. Pure; the proxy that gives it is sandbox.network's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sandbox import frames
from sandbox.confinement.places import PROXY_PORT

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


def granted(start: frames.Start) -> bool:
    """Whether the run's shell commands reach anything. Without shells nothing would use it."""
    return bool(start.network.hosts) and "Bash" in start.tools


def variables(start: frames.Start) -> Mapping[str, str]:
    """What the run's programs are told."""
    return ONLINE if granted(start) else OFFLINE


def sentence(start: frames.Start) -> str:
    """Where the agent is, as the end of a sentence."""
    if not granted(start):
        return "without any network"
    names = [host.name if host.port == 443 else f"{host.name}:{host.port}" for host in start.network.hosts]
    return f"whose commands reach {', '.join(names)} over HTTPS by the proxy in $HTTPS_PROXY, and nothing else"
