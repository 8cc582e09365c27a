"""What makes py-libp2p 0.8.1 safe for a daemon: one module per subject, each guard with a test that fails without it.

noise_gate: who may connect. handshakes: whose handshake gives way to another. swarm: slots, handlers.
noise_messages: many messages by one read or write. yamux, yamux_stream, yamux_header: our own multiplexer.
Each module describes the stock behaviour that it replaces; re-run tests/mesh on every change of the pin. The tests'
docstrings refer to the faults by these numbers; test_stock.py shows them in the library itself.

 1 other handshakes than Noise are offered           noise_gate         test_host
 2 what a stream handler raises ends the host        swarm              test_host
 3 slots of ended connections stay taken             swarm              test_host
 4 a cancelled read or write tears the connection    yamux              test_host
 5 bulk both ways stands still                       yamux              test_yamux, test_host
 6 a cancelled opening leaks its stream              host, yamux        test_host
 7 a reader that pauses ends its writer              yamux_stream       test_yamux
 8 finished, reset and lost look the same            streams, blobs     test_streams, test_blobs, test_courier
 9 connecting has a fixed delay and no deadline      dialing            test_host
10 one address of a peer is tried                    dialing            test_host
11 a failed dial is remembered for a minute          dialing            test_host
12 a silent peer lives for ever                      yamux              test_yamux
13 a second program has the same port                host               test_host
14 windows and numbers of streams are not enforced   yamux              test_yamux
15 a stopping host leaves sockets open               host               test_host
16 it dials on its own, shuts out all, gates by IP   swarm, noise_gate  test_host
17 whose a stream is; parts of reads; half-closing   noise_gate, yamux  test_host, test_streams
"""
