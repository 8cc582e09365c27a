"""A fake of a company's HTTP proxy: it wants a name and a password, and every name leads to this machine."""

from __future__ import annotations

import base64
import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

PASSWORD = "alice:p@ss"
IN_ADDRESS = "alice:p%40ss"


class _Proxy(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server: Any = self.server
        head = []
        while (line := self.rfile.readline().strip()) != b"":
            head.append(line.decode())
        server.heads.append(head)
        credentials = base64.b64encode(PASSWORD.encode()).decode()
        if f"proxy-authorization: basic {credentials}".lower() not in [line.lower() for line in head]:
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            return
        target = head[0].split()[1].rpartition(":")
        with socket.create_connection(("127.0.0.1", int(target[2]))) as upstream:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_copy, args=(upstream, self.connection))
            back.start()
            _copy(self.connection, upstream)
            back.join()


def _copy(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def company_proxy() -> Iterator[Any]:
    """The server; `heads`: lines of each request's head, `server_address`: where it listens."""
    proxy: Any = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Proxy)
    proxy.daemon_threads, proxy.heads = True, []
    threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
