"""The courier: delivers the statements in the durable outbox to their peers, and receives statements from peers.

One long-lived stream for each peer and direction of opening: the opener sends statements, the other side acknowledges
each with a code. What statements mean is decided by the node. Decisions are separate from I/O:

    wire.py        frames: typed values to CBOR and back                                    pure
    events.py      events and commands: what goes into the machines and comes out            pure
    limits.py      every bound, and the waits after failures                                 pure
    window.py      what is out to one peer and what waits, so what may go next               pure
    sender.py      PeerSender: when to dial, fetch, send, store and try again, for one peer  pure
    receiver.py    InboundStream: what a stream that a peer opened may do                    pure
    driver.py      carries out what a PeerSender asks for, on trio and a MeshHost
    courier.py     Courier: a driver for each peer, and the inbound streams
"""

from peer.mesh.courier.courier import Courier
from peer.mesh.courier.driver import Outbox
from peer.mesh.courier.events import Fetched, OutboxItem
from peer.mesh.courier.limits import CourierLimits

__all__ = ["Courier", "CourierLimits", "Fetched", "Outbox", "OutboxItem"]
