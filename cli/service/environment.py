"""What of a shell's environment a service gets: what it needs to find things by, and nothing secret. Pure.

A service manager starts programs with an environment of its own, so what the person has set in their shell is missing
there. What is written into a unit can be read by every program of this machine: keys and tokens stay out, and so does
an address that holds a password.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

PLAIN: Final = ("DISPATCH_HOME", "DISPATCH_EXECUTOR_MODEL", "NODE_EXTRA_CA_CERTS", "NO_PROXY", "PATH", "SSL_CERT_FILE")
ADDRESSES: Final = ("ANTHROPIC_BASE_URL", "DISPATCH_BROKER", "HTTPS_PROXY")
SECRETS: Final = {
    "ANTHROPIC_API_KEY": "`dispatch config set model.api_key -`",
    "ANTHROPIC_AUTH_TOKEN": "`dispatch config set model.api_key -`, as `Bearer TOKEN`",
    "DISPATCH_TOKEN": "`dispatch login`",
}
"""What the daemon would read from the environment, and where to keep it instead."""


def kept(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that a service gets, by name."""
    names = [*(name for name in PLAIN if env.get(name)), *(name for name in ADDRESSES if _is_plain(env.get(name, "")))]
    return {name: env[name] for name in sorted(names) if env[name].isprintable()}


def left_out(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that are set, that the daemon reads, and that a service does not get: why, and what helps."""
    found = {name: f"it is secret; save it with {fix}" for name, fix in SECRETS.items() if env.get(name)}
    for name in ADDRESSES:
        if env.get(name) and not _is_plain(env[name]):
            found[name] = "the address holds a password; set it in config.json instead (see `dispatch config list`)"
    return found


def _is_plain(address: str) -> bool:
    """Whether it is the address of a host and a path: no user, no password, no query that may be a key."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return bool(parts.scheme and parts.hostname) and "@" not in address and not parts.query and not parts.fragment
