"""Signing this device in at a broker, and out: identity, device flow, config.json. The terminal part: cli.login.

Keys are created before the request to the broker, and the identity is committed only after it approved the address, so
a sign-in that fails or is interrupted at any point can be repeated.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
import trio

from peer.broker.client import BrokerClient
from peer.client import blocking
from peer.machine import broker_list, identity, settings
from peer.machine.identity import Identity
from peer.machine.keychains import Keychain, os_keychain
from peer.machine.network_route import proxy_to_url
from peer.machine.settings import Settings
from peer.machine.state_folder import StateFolder
from peer.protocol import names
from peer.protocol.errors import Conflict, DispatchError, Invalid, NotSignedIn, Unavailable


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a person opens and compares: the page's address with the code, the code, and the seconds left."""

    address: str
    code: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An approved and saved sign-in."""

    user_id: str
    broker: str
    device_id: str
    device_name: str
    token: str = field(repr=False)


def sign_in(
    folder: StateFolder,
    broker_url: str,
    email: str | None,
    label: str | None,
    on_prompt: Callable[[Prompt], None],
    *,
    beside: bool = False,
) -> SignedIn:
    """Sign this device in and save broker, token and address; blocks until the sign-in is approved. See `signing_in`.

    Must not be called on a running trio loop.
    """
    return trio.run(partial(signing_in, folder, broker_url, email, label, on_prompt, beside=beside))


async def signing_in(
    folder: StateFolder,
    broker_url: str,
    email: str | None,
    label: str | None,
    on_prompt: Callable[[Prompt], None],
    *,
    beside: bool = False,
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    random: Callable[[int], bytes] = os.urandom,
    keychain: Callable[[], Keychain | None] = os_keychain,
) -> SignedIn:
    """Make or load this device's identity, run RFC 8628's flow with the broker, save the result, reload the daemon.

    `email` and `label` (the device's name) count at the first sign-in only; the default label is the host's name, and a
    signed name stays. At a broker that is used already it is signed in anew; a new one takes the first one's place,
    or with `beside` comes after those that are used.

    Raises Invalid (no address, bad URL), Conflict (the identity has another address, the address another root key, or
    there are too many brokers), Forbidden (denied), Gone (not approved in time), Unavailable.
    """
    url = settings.broker_url(broker_url)
    # What would fail afterwards fails before the person is sent to the page.
    saved = _using(settings.load(folder), url, beside=beside)
    proxy = proxy_to_url(url, saved)
    who, new = await trio.to_thread.run_sync(partial(_identity, folder, url, email, label, clock, random, keychain))
    await trio.to_thread.run_sync(folder.require_writable)
    async with BrokerClient(url, author=who, proxy=proxy, clock=clock, random=random) as broker:
        prompt = await broker.login_device(who.device_set)
        on_prompt(Prompt(prompt.verification_uri_complete, prompt.user_code, prompt.expires_in))
        token = await broker.wait_for_login(prompt)
    if token.user_id != who.user_id:
        raise Unavailable(f"the broker signed in {token.user_id!r} instead of {who.user_id}", fix="use another broker")
    if new:
        identity.commit(folder, who)
    # Loaded again: config.json may have changed while the person was at the page.
    saved = _using(settings.load(folder), url, beside=beside)
    saved = saved.using(broker_list.with_token(saved.sign_ins, url, token.access_token))
    settings.save(folder, msgspec.structs.replace(saved, email=who.user_id, device_name=saved.device_name or who.name))
    await trio.to_thread.run_sync(_reload_daemon, folder)
    return SignedIn(who.user_id, url, who.device, who.name, token.access_token)


def _using(saved: Settings, url: str, *, beside: bool) -> Settings:
    """Return the settings with this broker among those that are used."""
    if url in {each.url for each in saved.sign_ins}:
        return saved
    return saved.using((broker_list.with_broker if beside else broker_list.with_first)(saved.sign_ins, url))


def sign_out(folder: StateFolder, urls: Sequence[str]) -> dict[str, DispatchError | None]:
    """Delete the tokens of these brokers and withdraw this device's announcements there; keys and contacts stay.

    Return for each what kept it from being withdrawn, if anything did: the token is deleted all the same, and the
    announcement expires within two hours. Raises NotSignedIn if there is no token of any.
    """
    saved = settings.load(folder)
    signed_in = [url for url in urls if saved.at(url).token]
    if not signed_in:
        saved.at(urls[0] if urls else "").require_token()
    left = saved.sign_ins
    for url in signed_in:
        left = broker_list.with_token(left, url, "")
    settings.save(folder, saved.using(left))
    _reload_daemon(folder)
    who = identity.load(folder)
    outcomes: dict[str, DispatchError | None] = {}

    async def withdraw(url: str) -> None:
        try:
            async with BrokerClient(url, author=who, proxy=proxy_to_url(url, saved)) as broker:
                await broker.withdraw_presence(seq=time.time_ns() // 1_000_000)
            outcomes[url] = None
        except DispatchError as error:
            outcomes[url] = error

    async def withdraw_all() -> None:
        async with trio.open_nursery() as nursery:
            for url in signed_in:
                nursery.start_soon(withdraw, url)

    trio.run(withdraw_all)
    return {url: outcomes[url] for url in signed_in}


def _identity(
    folder: StateFolder,
    url: str,
    email: str | None,
    label: str | None,
    clock: Callable[[], int],
    random: Callable[[int], bytes],
    keychain: Callable[[], Keychain | None],
) -> tuple[Identity, bool]:
    """Return the identity, and whether it is new and still to be committed."""
    try:
        who = identity.load(folder)
    except NotSignedIn:
        if email is None:
            raise Invalid(
                "which address is yours?", fix=f"`dispatch login --broker {url} --email you@example.org`"
            ) from None
        return identity.prepare(folder, email, label or _host_name(), clock, random, keychain=keychain()), True
    if email is not None and names.user_id(email) != who.user_id:
        raise Conflict(
            f"this device already belongs to {who.user_id}, and its address cannot change",
            fix="leave out --email, or set $DISPATCH_HOME to a new folder for another person",
        )
    return who, False


def _host_name() -> str:
    name = "".join(c for c in socket.gethostname().partition(".")[0] if c.isprintable())
    return name[:64] or "device"


def _reload_daemon(folder: StateFolder) -> None:
    """Make a running daemon read config.json again. A daemon that is absent or busy is no error."""
    try:
        blocking.Client(folder).reload()
    except DispatchError:
        return
