"""A port of the router at home, mapped to the mesh's, so that contacts reach a device behind it.

datagrams: PCP and NAT-PMP. igd: UPnP's descriptions and calls; both pure. gateway: which address the router has.
pcp, upnp: asking it, one way each. mapper: when it is asked, and what is announced of it: nothing that a relay has not
dialled back.

What a router answers is what somebody on this network wants believed. It is bounded, is asked at its own address alone,
and leads to no more than one question to a relay.
"""

from peer.mesh.port_mapping.mapper import PortMapper, Verified

__all__ = ["PortMapper", "Verified"]
