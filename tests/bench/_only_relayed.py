"""A daemon that dials no address of a peer: what it sends goes through a relay, on a machine where all is reached."""

from __future__ import annotations

from unittest import mock

from peer.mesh.ways import Ways
from peer.programs.daemon import main

if __name__ == "__main__":
    mock.patch.object(Ways, "_usable", lambda *_: []).start()
    main()
