"""The bounds of Yamux connections: times and sizes, and what all connections of one device hold together. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from peer.mesh.guards.yamux_header import MAX_FRAME_PAYLOAD


@dataclass(frozen=True, kw_only=True)
class YamuxLimits:
    """Times in seconds, sizes in bytes. What is marked so holds for all connections of one device together."""

    ping_every: float = 30.0
    """Of silence, before one of the two sides asks whether the other is there; half as long again before both do."""
    dead_after: float = 75.0
    """Without a byte received for this long, the connection ends: the peer is gone, stopped or asleep. So two pings
    were not answered. Whoever has a reason to doubt does not wait for that: `SafeYamux.prove`."""
    write_stall: float = 30.0
    """If the socket does not take a frame for this long, the connection ends: the peer stopped reading."""
    close_grace: float = 1.0
    """How long close() waits for queued frames to be written."""
    inbound_streams: int = 32
    """Per device: streams it may have open. The protocols here use up to ten each way, for a short time twice that."""
    outbound_streams: int = 32
    """Per device: streams open to it. Its replies may fill their windows too."""
    control_frames: int = 1024
    """Queued replies (pings, resets) beyond which the peer counts as flooding and the connection ends."""
    queued_data: int = 4 * MAX_FRAME_PAYLOAD
    """Data waiting for the socket, or on its way into it. Small, so that a statement queues behind four bulk frames at
    most."""
    max_window: int = 4 * 1024 * 1024
    window_budget: int = 8 * 1024 * 1024
    """Per device: receive window beyond the initial 256 KiB of each stream, for all streams together."""


class DeviceShare:
    """What all connections of one device hold together, in streams and in bytes of receive window.

    At most (`inbound_streams` + `outbound_streams`) x 256 KiB + `window_budget` bytes of received data are ever held
    of a device: 24 MiB by default.
    """

    def __init__(self, limits: YamuxLimits) -> None:
        self.inbound = 0
        self.outbound = 0
        self.spare_window = limits.window_budget
