"""The relay: joins two devices that reach each other no other way, and passes on bytes that it cannot read.

Pure, with the clock as an argument: limits, admission (whose devices it serves), handshakes (which gives way), registry
(who is connected, where it is rung, which pipes there are), frames (how many frames bytes hold). With I/O: requests
(the head of an HTTP request), streams, connection (a WebSocket and how it ends), control and pipes (the two kinds of
connection), serving, main. Nothing is kept on disk.
"""
