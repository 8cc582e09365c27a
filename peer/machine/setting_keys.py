"""The keys of config.json: what each may be, in words for people, and which are secret. Pure.

`KEYS` is the one list of keys: `dispatch config`, the page, the docs and the checks use it. The values with their
types, and how they are checked, are in settings.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from peer.protocol.errors import Invalid
from peer.protocol.relays.addresses import MAX_RELAYS
from sandbox import runtimes


class Key(NamedTuple):
    """One settable key: a description of its values, and whether it is shown masked."""

    allowed: str
    secret: bool = False
    example: str = ""


_RUNTIMES = " or ".join(f"`{name}`" for name in runtimes.RUNTIMES)

KEYS: dict[str, Key] = {
    "broker": Key("the broker's https:// address (http:// only on this machine)", example="https://broker.example"),
    "token": Key("the token of your sign-in; `dispatch login` sets it", secret=True),
    "brokers": Key("your other brokers; `dispatch broker add` and `dispatch broker remove` change them"),
    "email": Key("your e-mail address: your user id", example="alice@example.org"),
    "device_name": Key("the name of this device, 1 to 64 characters", example="laptop"),
    "port": Key("the loopback port of the daemon, 0 to 65535 (0: any free one)", example="8001"),
    "listen": Key("multiaddrs to listen on, comma-separated", example="/ip4/0.0.0.0/tcp/4001,/ip6/::/tcp/4001"),
    "roots": Key("folders that hold your projects, comma-separated", example="~/code,~/work"),
    "toolchains": Key(
        "what runs may use besides the system's own programs, comma-separated: `auto` (the project's toolchains, as "
        "installed by uv, pyenv, nvm and the like), `none`, folders or programs; an edge's `--toolchains` overrides it",
        example="auto,/opt/tool",
    ),
    "runtime": Key(f"{_RUNTIMES}: what runs accepted dispatches", example=runtimes.DEFAULT),
    "script": Key("a JSON file with the tool calls of the `scripted` runtime", example="~/script.json"),
    "notifications": Key(
        "`on` or `off`: show a desktop notification when something arrives or waits for you", example="off"
    ),
    "notify_url": Key(
        "the address of an ntfy topic, to be notified away from the desk, https:// (http:// only on your own network). "
        "Anybody who knows it can read the notifications",
        secret=True,
        example="https://ntfy.example/TOPIC",
    ),
    "notify_token": Key("the access token for that ntfy server, if it needs one", secret=True),
    "notify_email": Key("an address to mail the same notifications to, through `smtp`", example="me@example.org"),
    "smtp": Key(
        "the mail server for `notify_email`, [NAME@]HOST[:PORT]; always with TLS, on port 587 unless you name another",
        example="me@example.org@smtp.example.org",
    ),
    "smtp_password": Key("the password of NAME at that mail server", secret=True),
    "approval_ui": Key(
        "`picker` or `form`: how an agent's session asks about tool calls; $DISPATCH_APPROVAL_UI overrides it",
        example="form",
    ),
    "session_events": Key(
        "`on` or `off`: tell an open session of Claude Code what arrives; each message starts a turn of its model",
        example="on",
    ),
    "lan": Key(
        "`on` or `off`: find contacts on the local network and let them, and nobody else, find you there. Has no "
        "effect if `listen` has only addresses of this machine itself",
        example="off",
    ),
    "relays": Key(
        "the relays for devices that cannot connect directly, comma-separated: `broker` (those that your brokers "
        f"name), up to {MAX_RELAYS} of your own choice, https:// (http:// only on this machine), or `none`",
        example="broker,https://relay.example",
    ),
    "relay_token": Key(
        "the secret of your own relay, if it needs one. It is sent only to relays that `relays` names by address, "
        "never to a broker's relays",
        secret=True,
    ),
    "map_port": Key(
        "`on` or `off`: ask the router to forward a port to this device. Contacts are told the address once a relay "
        "has reached this device there",
        example="off",
    ),
    "retention_days": Key(
        "1 to 36500: for how many days the events and files of an ended dispatch are kept; its task and result stay",
        example="90",
    ),
    "retention_mb": Key(
        "1 to 100000000: how many megabytes of events and files are kept of all ended dispatches together; above that, "
        "the oldest are removed first",
        example="20000",
    ),
    "model.api_key": Key(
        "the model's API key, or `Bearer TOKEN` for a gateway that wants a token. It is used only outside the sandbox, "
        "and kept in the OS keychain if there is one",
        secret=True,
    ),
    "model.base_url": Key("the address of the model's API or of a gateway, https:// (http:// only on this machine)"),
    "model.name": Key("the model's name; $DISPATCH_EXECUTOR_MODEL overrides it", example="claude-sonnet-4-5"),
    "model.price": Key(
        "the price of the model in `model.name`: USD per million tokens of input, output, cache writes and cache reads",
        example="3,15,3.75,0.3",
    ),
    "model.ca_file": Key(
        "a PEM file with certificate authorities to trust for the model's address, besides the system's; unset, "
        "$NODE_EXTRA_CA_CERTS is used",
        example="/etc/ssl/company.pem",
    ),
    "model.proxy": Key(
        "the HTTP proxy for the model's address, http(s)://[NAME:PASSWORD@]HOST:PORT, or `none`; unset, $HTTPS_PROXY "
        "and $NO_PROXY are used. Without these variables, hosts granted by `--network` are reached through it too",
        secret=True,
    ),
}


def check_known(key: str, where: Path | None = None) -> None:
    """Raise Invalid, naming the nearest known key, unless `key` is one of KEYS. `where`: the file that has it."""
    if key in KEYS:
        return
    import difflib

    near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.6)
    fix = f"did you mean `{near[0]}`?" if near else "known keys: " + ", ".join(KEYS)
    raise Invalid(f"{where}: unknown key {key!r}" if where else f"unknown key {key!r}", fix=fix)


def wrong_value(key: str, value: object) -> Invalid:
    """Return the error for a value that a known key cannot have; a secret is not repeated in it."""
    given = "" if KEYS[key].secret else f" {str(value)!r}"
    return Invalid(f"{key} can't be{given or ' that'}", fix=f"{key} must be {KEYS[key].allowed}")
