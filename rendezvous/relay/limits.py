"""Every bound of a relay, in one value. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from peer.protocol.relays.messages import MAX_TAGS

OUTBOUND_MESSAGES: Final = 64
"""Messages that wait for a device which does not read them; with one more it is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """Bounds of one relay. What has no other unit is a count.

    A pipe holds at most some messages of MAX_PIECE each way: 3.7 MiB were measured where neither end reads. As much for
    each of `pipes` is the most memory that devices can make a relay use, and only by doing nothing else.
    """

    connections: int = 10_000
    connections_per_network: int = 256
    """By `network_of`: an IPv4 address, which an office may share, or the /64 of an IPv6 address."""
    handshakes: int = 1_024
    """Connections that have proven nothing yet. With one more, one of the network that has most of them gives way."""
    handshakes_per_network: int = 64
    """Fewer than its connections, so that nobody's half-open ones keep out a device behind the same address."""
    handshake_seconds: float = 10
    """From accepting a connection to a device's proof, or to the ticket of a pipe."""
    close_seconds: float = 2
    """How long the other end has to answer a closing handshake."""
    write_seconds: float = 20
    """How long a control message may wait for the other end to read, as STALLED_MS of listening.py."""

    devices: int = 4_096
    devices_per_user: int = 16
    tags: int = 200_000
    tags_per_device: int = MAX_TAGS
    pipes: int = 512
    """Open and pending."""
    pipes_per_user: int = 48
    pipes_per_device: int = 32
    pending_per_device: int = 8
    """Pipes that a device rang for and that are not joined yet."""
    incoming_per_device: int = 16
    """Pipes that a device was rung for and that are not joined yet."""
    rings_per_minute: int = 60
    """By one device."""
    ring_burst: int = 20
    rings_per_minute_at_tag: int = 12
    """At one tag, thus by one contact's device: so few that one caller leaves most of `incoming_per_device`."""
    ring_burst_at_tag: int = 4
    buckets: int = 20_000
    """Devices, tags and users whose rate of rings or probes is remembered."""
    probes: int = 32
    """Ports that are being dialled back. Each takes one of SPARED_DESCRIPTORS."""
    probes_per_minute: int = 4
    """By all devices of one user together: a device asks when its network changes, and twice an hour."""
    bytes_per_day: int = 50 * 1024**3
    """Sent by the devices of one user over pipes, in a day of UTC."""
    users_remembered: int = 20_000
    """Users whose bytes of the day are remembered."""

    probe_seconds: float = 5
    """For a whole dial back. A device closes as soon as it has what the relay sent."""
    ticket_seconds: float = 10
    ping_seconds: float = 30
    silence_seconds: float = 90
    pipe_idle_seconds: float = 600

    first_frames: int = 16
    """WebSocket frames of a connection that has proven nothing."""
    control_frames_per_second: float = 20
    """More than these are not refused but read later, so TCP holds the device back."""
    control_frame_burst: int = 100
    pipe_frames_per_second: float = 4_000
    pipe_frame_burst: int = 4_000
    fragments: int = 64
    """Frames of one message: proxies may split one, a device has no reason to."""

    def with_connections(self, most: int) -> RelayLimits:
        """Return these with fewer connections in all, which this process has descriptors for."""
        return replace(self, connections=most)
