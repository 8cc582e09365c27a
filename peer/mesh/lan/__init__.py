"""Finding contacts on the local network (docs/protocol.md, "On the local network").

links: the addresses of this machine that it announces itself from. packets: beacons and questions as mDNS packets.
multicast: the sockets these go through. sightings: which contacts' beacons were seen where. site: one address, with
what is announced from it and who is let in there. lan: all of it, and dialling.
"""

from peer.mesh.lan.lan import Host, Lan, LanLimits, Way
from peer.mesh.lan.masked import MaskedStream

__all__ = ["Host", "Lan", "LanLimits", "MaskedStream", "Way"]
