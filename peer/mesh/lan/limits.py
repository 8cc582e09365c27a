"""The bounds of the local network, in one place. Those of packets stand with what reads them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LanLimits:
    """Times in seconds, the rest counts."""

    beacon: float = 900.0
    beacon_spread: float = 0.2
    """Part of that by which a beacon lives longer or shorter, so that two links' do not change together."""
    between_beacons: float = 1.0
    """However often contacts change."""
    old_port: float = 60.0
    """How long a port stays open for those who saw its beacon, unless a contact was removed."""
    ports: int = 4
    """Of one link, open at once; one more closes the oldest."""
    between_questions: float = 10.0
    look: float = 10.0
    """How often to look whether this machine is on other networks, or was suspended."""
    preface: float = 5.0
    waiting: int = 64
    """Connections to the ports of one link without their preface; one more ends another, see guards/handshakes.py."""
    prefaces: int = 128
    """Of one device to one beacon: each is remembered, so that none counts twice."""
    connections_per_device: int = 6
    dials_per_minute: int = 12
    """Of each contact's device."""
    after_them: float = 0.7
    """Where both see each other, the device whose id is lower dials first; how long the other one waits."""
    farewell: float = 0.5
