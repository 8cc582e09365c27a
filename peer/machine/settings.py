"""The user's settings: config.json as a typed value, its checks, and flags > variables > file. No network, no store.

Unknown keys are refused and the nearest known one is suggested, so that a typo never silently does nothing. The keys
with their descriptions are in setting_keys.py.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import msgspec

from peer.machine import away_settings, broker_list
from peer.machine.broker_list import BrokerSignIn
from peer.machine.service_urls import proxy_url, service_url
from peer.machine.setting_keys import KEYS, check_known, wrong_value
from peer.machine.state_folder import StateFolder, read_private
from peer.protocol.brokers import MAX_BROKERS
from peer.protocol.errors import Invalid, NotFound, NotSignedIn
from peer.protocol.names import user_id
from peer.protocol.relays.addresses import MAX_RELAYS, relay_origin
from peer.protocol.relays.messages import MAX_TOKEN
from peer.trust import scopes
from sandbox import runtimes

MASK = "•••"

KEY_IN_KEYCHAIN = "keychain"
"""The value of `model.api_key` if the key itself is in the OS keychain (model_key.py)."""

RELAYS_OF_BROKER = "broker"
"""The word in `relays` for those that the broker names."""
NO_RELAYS = "none"

ApprovalUi = Literal["picker", "form"]
"""How an agent's session asks about a tool call: with its own picker, or with a form of the MCP server."""


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How this machine's agent reaches its model. The key is used outside the sandbox and never enters it."""

    api_key: str = ""
    base_url: str = ""
    name: str = ""
    price: str = ""
    ca_file: str = ""
    proxy: str = ""
    key_problem: str = ""
    """Why an expected key is missing. Set in resolved settings only, never saved."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of config.json. An empty text means not set.

    `broker` and `token` are of the first broker, where invitations are posted unless their person names another one;
    `brokers` are those beside it. Without a first one there is no other.
    """

    broker: str = ""
    token: str = ""
    brokers: Annotated[tuple[BrokerSignIn, ...], msgspec.Meta(max_length=MAX_BROKERS - 1)] = ()
    email: str = ""
    device_name: str = ""
    port: int = 8001
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0")
    roots: tuple[str, ...] = ()
    toolchains: tuple[str, ...] = ("auto",)
    runtime: Annotated[str, msgspec.Meta(pattern=rf"\A({'|'.join(runtimes.RUNTIMES)})\Z")] = runtimes.DEFAULT
    script: str = ""
    notifications: Literal["on", "off"] = "on"
    notify_url: str = ""
    notify_token: str = ""
    notify_email: str = ""
    smtp: str = ""
    smtp_password: str = ""
    approval_ui: ApprovalUi = "picker"
    session_events: Literal["on", "off"] = "off"
    lan: Literal["on", "off"] = "on"
    relays: tuple[str, ...] = (RELAYS_OF_BROKER,)
    relay_token: str = ""
    map_port: Literal["on", "off"] = "on"
    retention_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)] = 365
    retention_mb: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = 4_096
    model: ModelSettings = ModelSettings()

    def require_broker(self) -> str:
        """Return the broker's URL. Raises NotSignedIn."""
        if not self.broker:
            raise NotSignedIn("no broker is known", fix="run `dispatch login --broker URL`")
        return self.broker

    def require_token(self) -> str:
        """Return the token of the sign-in. Raises NotSignedIn."""
        if not self.token:
            where = f" for {self.broker}" if self.broker else ""
            raise NotSignedIn(
                f"no token{where}: no saved sign-in, no --token and no $DISPATCH_TOKEN",
                fix=f"run `dispatch login --broker {self.broker or 'URL'}`",
            )
        return self.token

    @property
    def sign_ins(self) -> tuple[BrokerSignIn, ...]:
        """Every broker that is used, the first one first."""
        first = (BrokerSignIn(url=self.broker, token=self.token),) if self.broker else ()
        return (*first, *self.brokers)

    def using(self, brokers: tuple[BrokerSignIn, ...]) -> Settings:
        """Return the settings with these brokers, the first one first."""
        first, *others = brokers or (BrokerSignIn(url=""),)
        return msgspec.structs.replace(self, broker=first.url, token=first.token, brokers=tuple(others))

    def at(self, url: str) -> Settings:
        """Return the settings with this broker alone, and with no token if it is not among those that are used.

        So a token is only ever looked for, and sent, together with the broker that issued it.
        """
        token = next((each.token for each in self.sign_ins if each.url == url), "")
        return msgspec.structs.replace(self, broker=url, token=token, brokers=())


_SECTIONS = {"model"}
_NOT_SPOKEN = {
    f"CLAUDE_CODE_USE_{name}": f"this machine's Claude uses {service} ($CLAUDE_CODE_USE_{name}), and a run cannot use"
    " that: it needs Anthropic's Messages API, for example from a gateway in front of it"
    for name, service in (
        ("BEDROCK", "Amazon Bedrock"),
        ("VERTEX", "Google Vertex AI"),
        ("FOUNDRY", "Microsoft Foundry"),
    )
}
"""Why there is no key, by the variable that says which other service the person's own Claude uses."""
_PRICE = re.compile(r"([0-9]{1,6}(\.[0-9]{1,9})?)(,[0-9]{1,6}(\.[0-9]{1,9})?){3}")
_LISTEN = re.compile(r"/(ip4|ip6)/([0-9a-fA-F.:]+)/tcp/([0-9]{1,5})")


def load(folder: StateFolder) -> Settings:
    """Return config.json as it is on disk (the defaults if there is none).

    Raises Invalid (unknown key, wrong value, broken JSON) and Forbidden (others can read the file).
    """
    try:
        raw = read_private(folder.config)
    except NotFound:
        return Settings()
    try:
        document = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:  # msgspec refuses lone surrogates, too
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Invalid(f"{folder.config} is not JSON: {why}", fix=f"correct or remove {folder.config}") from error
    if not isinstance(document, dict):
        raise Invalid(f"{folder.config} must hold one JSON object", fix=f"correct or remove {folder.config}")
    for key, value in document.items():
        if key in _SECTIONS and isinstance(value, dict):
            for inner in value:
                check_known(f"{key}.{inner}", folder.config)
        elif key not in _SECTIONS:
            check_known(key, folder.config)
    try:
        return _checked(msgspec.convert(document, Settings))
    except msgspec.ValidationError as error:
        text, _, at = str(error).partition(" - at `$")
        key = at.rstrip("`").lstrip(".").split("[")[0]
        allowed = KEYS[key].allowed if key in KEYS else "an object"
        raise Invalid(
            f"{folder.config}: {key or 'the document'} is not right ({text})", fix=f"{key} must be {allowed}"
        ) from error


def resolve(
    folder: StateFolder,
    *,
    broker: str | None = None,
    token: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings in force: flags, then variables, then config.json. Do not save the result.

    Variables: $DISPATCH_BROKER, $DISPATCH_TOKEN, $DISPATCH_EXECUTOR_MODEL (over model.name), $ANTHROPIC_API_KEY,
    $ANTHROPIC_AUTH_TOKEN (a gateway's, sent as `Authorization: Bearer`), $ANTHROPIC_BASE_URL. Those of the way to the
    model are model_route.py's.
    A broker that a flag or a variable names is the only one in force. A saved token is only ever sent to the broker
    that issued it: of one that was named, its own saved token counts, and no other.
    """
    variables = os.environ if env is None else env
    saved = load(folder)
    if named := broker or variables.get("DISPATCH_BROKER", ""):
        saved = saved.at(broker_url(named))
    document = msgspec.to_builtins(saved)
    if given := (token or variables.get("DISPATCH_TOKEN", "")):
        document["token"] = given
    model = dict(document.get("model", {}))
    if key := variables.get("ANTHROPIC_API_KEY", ""):
        model["api_key"] = key
    if bearer := variables.get("ANTHROPIC_AUTH_TOKEN", ""):
        model["api_key"] = f"Bearer {bearer}"
    if url := variables.get("ANTHROPIC_BASE_URL", ""):
        model["base_url"] = url
    if name := variables.get("DISPATCH_EXECUTOR_MODEL", "").strip():
        if name != model.get("name"):
            model.pop("price", None)  # it is the other one's
        model["name"] = name
    if not model.get("api_key"):
        model["key_problem"] = next((why for name, why in _NOT_SPOKEN.items() if variables.get(name)), "")
    document["model"] = model
    return _checked(msgspec.convert(document, Settings))


def approval_ui(folder: StateFolder, env: Mapping[str, str] | None = None) -> ApprovalUi:
    """Return how a session asks about tool calls: $DISPATCH_APPROVAL_UI, else config.json. Raises as `load`."""
    variables = os.environ if env is None else env
    named = variables.get("DISPATCH_APPROVAL_UI", "").strip().lower()
    if not named:
        return load(folder).approval_ui
    if named not in get_args(ApprovalUi):
        raise Invalid(f"DISPATCH_APPROVAL_UI is {named[:40]!r}", fix="set it to picker or form, or unset it")
    return cast(ApprovalUi, named)


def save(folder: StateFolder, settings: Settings) -> None:
    """Write config.json atomically, 0600."""
    document = msgspec.to_builtins(_checked(settings))
    folder.write_private(folder.config, json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")


def get_value(settings: Settings, key: str) -> object:
    """Return the value of a key as in config.json. Raises Invalid for an unknown key."""
    check_known(key)
    section, _, name = key.rpartition(".")
    holder = getattr(settings, section) if section else settings
    value = getattr(holder, name)
    if key == "brokers":
        return [each.url for each in settings.brokers]
    return list(value) if isinstance(value, tuple) else value


def set_value(settings: Settings, key: str, text: str) -> Settings:
    """Return the settings with `key` set to the typed text; an empty text resets it to its default.

    Lists are comma-separated. Of `broker` see `broker_list.with_first`. Raises Invalid.
    """
    check_known(key)
    if key == "brokers":
        raise Invalid("brokers cannot be set here", fix="use `dispatch broker add URL` or `dispatch broker remove URL`")
    if key == "broker":
        return settings.using(broker_list.with_first(settings.sign_ins, broker_url(text) if text else ""))
    section, _, name = key.rpartition(".")
    holder: Settings | ModelSettings = getattr(settings, section) if section else settings
    default = getattr(type(holder)(), name)
    if not text:
        value = default
    elif isinstance(default, tuple):
        value = tuple(part.strip() for part in text.split(",") if part.strip())
        if key == "roots":
            value = tuple(_absolute(part) for part in value)
        if key == "toolchains":
            from peer.machine.toolchains.installed import Machine
            from peer.machine.toolchains.named import check_named

            machine = Machine.here(())
            value = tuple(part if part in ("auto", "none") else check_named(_absolute(part), machine) for part in value)
    elif isinstance(default, int):
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise wrong_value(key, text)
        value = int(text)
    else:
        value = text
    if key in ("script", "model.ca_file") and value:
        value = _absolute(value)  # the daemon, which reads it, has another working directory
    changed = msgspec.structs.replace(holder, **{name: value})
    new = msgspec.structs.replace(settings, **{section: changed}) if section else changed
    try:
        new = _checked(msgspec.convert(msgspec.to_builtins(new), Settings))
    except msgspec.ValidationError as error:
        raise wrong_value(key, text) from error
    if key == "roots":
        for root in new.roots:
            if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir() raises for a name that is too long
                raise Invalid(f"there is no folder {root}", fix="name folders that exist")
    return new


def shown(settings: Settings) -> dict[str, object]:
    """Return every key with its value, secrets masked, as `dispatch config list` prints them."""
    values: dict[str, object] = {}
    for key, about in KEYS.items():
        value = get_value(settings, key)
        values[key] = MASK if about.secret and value else value
    return values


def broker_url(text: str) -> str:
    """Return a broker's URL in normal form (no trailing slash). Raises Invalid."""
    return service_url(text, "the broker's address")


def _absolute(folder: str) -> str:
    try:
        return str(Path(folder).expanduser().resolve())
    except (ValueError, RuntimeError, OSError) as error:  # NUL in it, `~nobody`, a loop of links
        raise Invalid(f"{folder!r} is not a folder: {error}", fix="name folders that exist") from error


def _checked(settings: Settings) -> Settings:
    """Return the settings with every value in normal form. Raises Invalid for bad values that the types permit."""
    changes: dict[str, object] = {}
    for key in KEYS:
        value = get_value(settings, key)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and re.search(r"[\x00-\x1f\x7f]", text):
                raise Invalid(f"{key} has control characters in it", fix=f"{key} must be {KEYS[key].allowed}")
    if settings.brokers:
        settings = settings.using(broker_list.in_normal_form(settings.sign_ins, broker_url))
    if settings.broker:
        changes["broker"] = broker_url(settings.broker)
    if settings.token and not re.fullmatch(r"[\x21-\x7e]{1,8192}", settings.token):
        raise wrong_value("token", settings.token)
    if settings.email:
        changes["email"] = user_id(settings.email)
    if settings.device_name and (len(settings.device_name) > 64 or not settings.device_name.isprintable()):
        raise wrong_value("device_name", settings.device_name)
    if not 0 <= settings.port <= 65535:
        raise wrong_value("port", settings.port)
    for address in settings.listen:
        match = _LISTEN.fullmatch(address)
        if match is None or int(match[3]) > 65535 or not _is_address(match[2], match[1]):
            raise Invalid(f"can't listen on {address!r}", fix="write it like /ip4/0.0.0.0/tcp/4001 or /ip6/::/tcp/4001")
    for root in settings.roots:
        if not Path(root).is_absolute():
            raise Invalid(f"the project root {root!r} is not an absolute path", fix=f"use {Path(root).resolve()}")
    try:
        scopes.check_toolchains(settings.toolchains)
    except Invalid as error:
        raise wrong_value("toolchains", ",".join(settings.toolchains)) from error
    changes["relays"] = _relays(settings.relays)
    if settings.notify_url:
        changes["notify_url"] = away_settings.topic_url(settings.notify_url)
    if settings.notify_email:
        changes["notify_email"] = user_id(settings.notify_email)
    if settings.smtp:
        away_settings.smtp_server(settings.smtp)
    for name in ("notify_token", "smtp_password"):
        if (value := getattr(settings, name)) and not re.fullmatch(r"[\x20-\x7e]{1,1024}", value):
            raise wrong_value(name, value)
    if settings.relay_token and not re.fullmatch(rf"[\x21-\x7e]{{1,{MAX_TOKEN}}}", settings.relay_token):
        raise wrong_value("relay_token", settings.relay_token)
    if settings.model.api_key and not re.fullmatch(r"(Bearer )?[\x21-\x7e]{1,8192}", settings.model.api_key):
        raise wrong_value("model.api_key", settings.model.api_key)
    if settings.model.name and not re.fullmatch(r"[\x21-\x7e]{1,200}", settings.model.name):
        raise wrong_value("model.name", settings.model.name)
    if settings.model.price and not _PRICE.fullmatch(settings.model.price):
        raise wrong_value("model.price", settings.model.price)
    if settings.model.ca_file and not Path(settings.model.ca_file).is_absolute():
        raise wrong_value("model.ca_file", settings.model.ca_file)
    if settings.model.proxy not in ("", "none") and not proxy_url(settings.model.proxy):
        raise wrong_value("model.proxy", settings.model.proxy)
    if settings.model.base_url:
        url = service_url(settings.model.base_url, "the model's address")
        changes["model"] = msgspec.structs.replace(settings.model, base_url=url)
    return msgspec.structs.replace(settings, **changes)


def _relays(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words with every origin in its one form, each once. Raises Invalid."""
    if words == (NO_RELAYS,):
        return words
    if NO_RELAYS in words:
        raise Invalid(
            f"relays can't be {','.join(words)!r}",
            fix="run `dispatch config set relays none`, or remove none from the list",
        )
    found = tuple(dict.fromkeys(word if word == RELAYS_OF_BROKER else relay_origin(word) for word in words))
    if not found or len([word for word in found if word != RELAYS_OF_BROKER]) > MAX_RELAYS:
        raise wrong_value("relays", ",".join(words))
    return found


def _is_address(text: str, family: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == (4 if family == "ip4" else 6)
    except ValueError:
        return False
