"""The control connection of a device: who it is, where it is rung, its rings."""

from __future__ import annotations

import math
import os
from typing import Final

import trio
from trio_websocket import ConnectionClosed

from peer.protocol.errors import DispatchError, Forbidden, Unauthorized
from peer.protocol.relays import messages
from peer.protocol.relays.admission import check_proof
from peer.protocol.relays.messages import (
    CHALLENGE_BYTES,
    PROBE_BYTES,
    PROBE_LINE,
    Challenge,
    Incoming,
    Listen,
    Probe,
    Probed,
    Proof,
    Refusal,
    Renewal,
    Ring,
    Ticket,
    Unknown,
    Welcome,
)
from rendezvous.relay.admission import Admitted
from rendezvous.relay.connection import (
    FULL,
    LEFT,
    NO_MESSAGE,
    NOT_ALLOWED,
    NOT_PROVEN,
    REPLACED,
    TOO_LATE,
    TOO_MANY,
    Connection,
    ControlConnection,
)
from rendezvous.relay.dialing_back import dial_back, may_dial_back, plain
from rendezvous.relay.registry import Device
from rendezvous.relay.relay import Relay

_LAST_SECONDS: Final = (1 << 32) - 1


async def serve_control(relay: Relay, connection: Connection) -> None:
    """Serve a control connection until it ends."""
    nonce = os.urandom(CHALLENGE_BYTES)
    await connection.send(messages.encode(Challenge(nonce, relay.origin)))
    proof = await _proof(connection)
    try:
        check_proof(proof.device, proof.signature, nonce=nonce, origin=relay.origin)
    except (DispatchError, ValueError):
        relay.refused["not_proven"] += 1
        await connection.fail(NOT_PROVEN, "the device named here is not the one that opened this connection")
    admitted = await _admit(relay, connection, proof.device, proof.token)
    control = ControlConnection(connection)
    try:
        device, older = relay.registry.connect(
            proof.device, admitted.user, until=_until(relay, admitted), control=control
        )
    except DispatchError as error:
        relay.refused["too_many_devices"] += 1
        await connection.fail(FULL if error.code == 503 else TOO_MANY, error.message)
    try:
        if older is not None:
            older.connection.end(REPLACED, "a newer connection of this device has replaced this one")
        limits = relay.limits
        relay.admit(connection, frames_per_second=limits.control_frames_per_second, burst=limits.control_frame_burst)
        _set_end(connection, admitted)
        seconds = 0 if admitted.seconds is None else min(max(1, math.ceil(admitted.seconds)), _LAST_SECONDS)
        control.tell(Welcome(seconds))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write, relay, control)
            nursery.start_soon(_keep_alive, relay, connection)
            while True:
                message = await connection.receive_message()
                await _on_message(relay, device, control, nursery, message)
    finally:
        relay.registry.disconnect(device, control)


async def _proof(connection: Connection) -> Proof:
    while True:
        match await connection.receive_message():
            case Proof() as proof:
                return proof
            case Unknown():
                continue
            case _:
                await connection.fail(NO_MESSAGE, "the first message has to be a proof")


async def _admit(relay: Relay, connection: Connection, device: str, token: bytes) -> Admitted:
    try:
        return relay.admission.admit(device, token, relay.clock())
    except Unauthorized as error:
        relay.refused["no_token"] += 1
        await connection.fail(NOT_PROVEN, error.message)
    except Forbidden as error:
        relay.refused["not_allowed"] += 1
        await connection.fail(NOT_ALLOWED, error.message)


def _until(relay: Relay, admitted: Admitted) -> int | None:
    return None if admitted.seconds is None else relay.now() + int(admitted.seconds * 1000)


def _set_end(connection: Connection, admitted: Admitted) -> None:
    """Have a connection end with the admission of its device."""
    if admitted.seconds is not None:
        connection.late = (NOT_PROVEN, "this device may no longer use the relay")
        connection.scope.deadline = trio.current_time() + admitted.seconds


async def _on_message(
    relay: Relay,
    device: Device[ControlConnection],
    control: ControlConnection,
    nursery: trio.Nursery,
    message: messages.Message,
) -> None:
    match message:
        case Listen(tags):
            try:
                relay.registry.listen(device, tags)
            except DispatchError as error:
                relay.refused["too_many_tags"] += 1
                await control.connection.fail(TOO_MANY, error.message)
        case Ring(number, tag, sealed):
            try:
                rung = relay.registry.ring(device, tag, now=relay.now(), day=relay.day())
            except DispatchError as error:
                relay.refused["rings"] += 1
                control.tell(Refusal(number, error.code))
                return
            control.tell(Ticket(number, rung.ticket))
            if rung.callee is not None:
                rung.callee.tell(Incoming(tag, sealed, rung.callee_ticket))
        case Probe():
            try:
                relay.registry.start_probe(device, now=relay.now())
            except DispatchError as error:
                relay.refused["probes"] += 1
                control.tell(Refusal(message.number, error.code))
                return
            nursery.start_soon(_probe, relay, device, control, message)
        case Renewal(token):
            admitted = await _admit(relay, control.connection, device.id, token)
            if admitted.user != device.user.key:
                # It counts as somebody else's from now on, which it may as a new connection.
                await control.connection.fail(NOT_PROVEN, "that token belongs to another user: connect again")
            device.admitted_until = _until(relay, admitted)
            _set_end(control.connection, admitted)
        case Unknown():
            pass
        case _:
            await control.connection.fail(NO_MESSAGE, "a device cannot send that message, or not now")


async def _probe(relay: Relay, device: Device[ControlConnection], control: ControlConnection, probe: Probe) -> None:
    """Dial back the address that this connection comes from, and say what was sent there."""
    try:
        address, sent = plain(control.connection.client), os.urandom(PROBE_BYTES)
        if may_dial_back(address, relay.origin):
            await dial_back(address, probe.port, PROBE_LINE + sent, within=relay.limits.probe_seconds)
        # The same answer whether or not anything is there: no device learns of the ports of others at its address.
        control.tell(Probed(probe.number, address, sent))
    finally:
        relay.registry.end_probe(device)


async def _write(relay: Relay, control: ControlConnection) -> None:
    async for raw in control.outbound:
        with trio.move_on_after(relay.limits.write_seconds) as writing:
            await control.connection.send(raw)
        if writing.cancelled_caught:
            await control.connection.fail(TOO_LATE, "the device does not read what is sent to it")


async def _keep_alive(relay: Relay, connection: Connection) -> None:
    """Ping, and end the connection of whoever says nothing for long."""
    assert connection.socket is not None and connection.stream is not None
    while True:
        with trio.move_on_after(relay.limits.ping_seconds):
            try:
                await connection.socket.ping()
            except ConnectionClosed:
                await connection.fail(LEFT, "")
            await trio.sleep(relay.limits.ping_seconds)  # what is left of it
        if trio.current_time() - connection.stream.heard >= relay.limits.silence_seconds:
            await connection.fail(TOO_LATE, "nothing was received from this device for too long")
