"""Every bound of the courier in one place, and how long it waits after failures. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CourierLimits:
    """Times in seconds."""

    in_flight: int = 16
    """Statements sent to one peer and not yet acknowledged, or acknowledged and not yet recorded here."""
    in_flight_bytes: int = 1024 * 1024
    """Bytes of these, so that a cancel waits behind a mebibyte at most; a larger statement goes alone."""
    retries_waiting: int = 64
    """Statements of one peer that wait for another try. With so many of them, nothing new is sent until one is due."""
    first_retry: float = 1.0
    retry_factor: float = 1.5
    longest_retry: float = 60.0
    send: float = 60.0
    """For the peer to take one frame."""
    silence: float = 30.0
    """Without an acknowledgement while one is due. Then the peer is taken for half dead and the stream is reset."""
    receive: float = 20.0
    """For the node to verify and store one statement. Less than `silence`, so that a slow node can reply 503 itself."""
    dials: int = 16
    """Dials under way, to all peers together."""

    def delay(self, failures: int, jitter: float) -> float:
        """Return the wait after so many failures in a row (from 1), spread over 75-125 % by `jitter` in 0 … 1."""
        # The exponent is capped because 1.5 ** 2000 overflows a float, and 60 s is reached at 12.
        wait = self.first_retry * self.retry_factor ** min(failures - 1, 32)
        return min(wait, self.longest_retry) * (0.75 + jitter / 2)
