"""What devices, brokers and relays say to each other so that a relay can join two devices. Pure.

messages: what travels on a connection to a relay. admission: who may use it. rings: whom one device calls, and the
proof that it may. addresses: where a relay is. contacts: the list by which a relay knows its owner's contacts.
"""
