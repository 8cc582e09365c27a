"""A hostile daemon (`python -m tests.hostile`): dispatch's own, which believes any device-set, also a forged one."""

from __future__ import annotations

from peer.programs import daemon
from peer.protocol import signing, statements


def _unchecked(device_set: statements.DeviceSet) -> None:
    """Whose the devices are does not matter to this daemon."""


if __name__ == "__main__":
    signing._check_memberships = _unchecked
    daemon.main()
