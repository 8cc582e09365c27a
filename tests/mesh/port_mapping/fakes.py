"""Stand-ins for routers, on addresses of loopback: a PCP and NAT-PMP gateway, and an Internet Gateway Device of UPnP.

Neither maps anything. What a real one says was read in RFC 6886, RFC 6887 and the documents of the UPnP forum; that the
device is understood by somebody else's client, miniupnpc, is a test of its own.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import h11
import trio

OWN = IPv4Address("127.0.0.1")
"""This machine's address towards all of them."""


def an_address() -> IPv4Address:
    """An address of loopback that no other test has."""
    return IPv4Address(f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}")


@dataclass
class FakePcp:
    """A gateway on port 5351. `answer(request)`: the datagrams that it answers with, for hostile ones."""

    address: IPv4Address = field(default_factory=an_address)
    speaks_pcp: bool = True
    speaks_nat_pmp: bool = True
    result: int = 0
    external: int = 0
    """The port that it maps, 0 for the one that is suggested."""
    seconds: int = 0
    """The lease that it grants, 0 for the one that is asked for."""
    lost: int = 0
    """Requests that get lost before it hears one."""
    answer: Callable[[bytes], list[bytes]] | None = None
    requests: list[bytes] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakePcp]:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
            await listening.bind((str(self.address), 5351))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, listening)
                yield self
                nursery.cancel_scope.cancel()

    async def _serve(self, listening: trio.socket.SocketType) -> None:
        while True:
            request, sender = await listening.recvfrom(2000)
            self.requests.append(request)
            if len(self.requests) > self.lost:
                for datagram in (self.answer or self.answers)(request):
                    await listening.sendto(datagram, sender)

    def answers(self, request: bytes) -> list[bytes]:
        if request[0] == 2 and self.speaks_pcp:
            seconds = struct.unpack(">I", request[4:8])[0]
            nonce, internal, suggested = request[24:36], request[40:42], request[42:44]
            external = struct.pack(">H", self.external) if self.external and seconds else suggested
            granted = min(seconds, self.seconds) if self.seconds else seconds
            head = struct.pack(">BBBBII12x", 2, 0x81, 0, self.result, granted, 77)
            outside = IPv6Address("::ffff:203.0.113.5").packed
            return [head + nonce + b"\x06\0\0\0" + internal + external + outside]
        if self.speaks_nat_pmp and request[0] == 2:
            return [struct.pack(">BBHI", 0, 128, 1, 77)]
        if self.speaks_nat_pmp and request[:2] == b"\0\2":
            port, wanted, lease = struct.unpack(">HHI", request[4:12])
            granted = min(lease, self.seconds) if self.seconds else lease
            given = (self.external or wanted) if lease else 0
            return [struct.pack(">BBHIHHI", 0, 130, self.result, 77, port, given, granted)]
        return []


DESCRIPTION = """<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>{base}
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<friendlyName>a fake router</friendlyName><manufacturer>tests</manufacturer><modelName>1</modelName><UDN>uuid:1</UDN>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType>
<serviceId>urn:upnp-org:serviceId:WANCommonIFC1</serviceId>
<SCPDURL>/common.xml</SCPDURL><controlURL>/common</controlURL><eventSubURL>/events</eventSubURL></service></serviceList>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<serviceList><service><serviceType>{service}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>/wan.xml</SCPDURL><controlURL>{control}</controlURL><eventSubURL>/events</eventSubURL></service></serviceList>
</device></deviceList></device></deviceList></device></root>"""
FAULT = """<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault>
<faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>
<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{error}</errorCode></UPnPError></detail></s:Fault>
</s:Body></s:Envelope>"""
DONE = """<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<u:{name}Response xmlns:u="{service}">{inside}</u:{name}Response></s:Body></s:Envelope>"""

WAN = "urn:schemas-upnp-org:service:WANIPConnection:1"


@dataclass
class FakeIgd:
    """A router of UPnP. What it says can be set, for hostile ones."""

    address: IPv4Address = field(default_factory=an_address)
    multicast: bool = False
    """It hears searches to the group alone."""
    location: str = "http://{address}:{port}/desc.xml"
    base: str = ""
    service: str = WAN
    control: str = "/ctl"
    description: bytes | None = None
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    """External ports that are mapped to somebody else."""
    error: int = 0
    """What every call to map a port is refused with."""
    raw: Callable[[trio.SocketStream], Awaitable[None]] | None = None
    """Serves HTTP connections in place of it."""
    spoken: list[tuple[str, str, bytes]] = field(default_factory=list)
    """(method, target, body) of each HTTP request."""
    mapped: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    """External port → (client, internal port, lease)."""
    searched: int = 0
    deaf: int = 0
    """Searches that it does not hear."""
    port: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeIgd]:
        async with trio.open_nursery() as nursery:
            serving = partial(trio.serve_tcp, self._serve, 0, host=str(self.address))
            (listener,) = await nursery.start(serving)
            self.port = listener.socket.getsockname()[1]
            await nursery.start(self._answer_searches)
            yield self
            nursery.cancel_scope.cancel()

    async def _answer_searches(self, task_status: Any) -> None:  # trio-stubs lack trio.TaskStatus
        with (
            trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hearing,
            trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering,
        ):
            hearing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.multicast:
                await hearing.bind(("239.255.255.250", 1900))
                joined = socket.inet_aton("239.255.255.250") + OWN.packed
                hearing.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
            else:
                await hearing.bind((str(self.address), 1900))
            await answering.bind((str(self.address), 0))
            task_status.started()
            while True:
                request, sender = await hearing.recvfrom(2000)
                if request.startswith(b"M-SEARCH") and b"InternetGatewayDevice:1" in request:
                    self.searched += 1
                    if self.searched <= self.deaf:
                        continue
                    await answering.sendto(self.found(), sender)

    def found(self) -> bytes:
        lines = (
            "HTTP/1.1 200 OK",
            "CACHE-CONTROL: max-age=120",
            "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1",
            "EXT:",
            f"LOCATION: {self.location.format(address=self.address, port=self.port)}",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    async def _serve(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, h11.ProtocolError):
            if self.raw is not None:
                await self.raw(stream)
                return
            connection = h11.Connection(h11.SERVER)
            method = target = ""
            body = b""
            while True:
                match connection.next_event():
                    case h11.NEED_DATA:
                        connection.receive_data(await stream.receive_some())
                    case h11.Request(method=raw_method, target=raw_target):
                        method, target = raw_method.decode(), raw_target.decode()
                    case h11.Data(data=data):
                        body += bytes(data)
                    case h11.EndOfMessage():
                        break
                    case _:
                        return
            self.spoken.append((method, target, body))
            status, answer = self._said(method, body)
            headers = [*self.headers, ("Content-Length", str(len(answer))), ("Connection", "close")]
            for part in (h11.Response(status_code=status, headers=headers), h11.Data(answer), h11.EndOfMessage()):
                await stream.send_all(connection.send(part) or b"")

    def _said(self, method: str, body: bytes) -> tuple[int, bytes]:
        if method == "GET":
            filled = DESCRIPTION.format(base=self.base, service=self.service, control=self.control)
            return self.status, self.description if self.description is not None else filled.encode()
        text = body.decode()
        name = text.partition("<u:")[2].partition(" ")[0]
        if name == "AddPortMapping":
            external = int(argument(text, "NewExternalPort"))
            if self.error or external in self.taken:
                return 500, FAULT.format(error=self.error or 718).encode()
            self.mapped[external] = (
                argument(text, "NewInternalClient"),
                int(argument(text, "NewInternalPort")),
                int(argument(text, "NewLeaseDuration")),
            )
        elif name == "DeletePortMapping":
            self.mapped.pop(int(argument(text, "NewExternalPort")), None)
        inside = {
            "GetStatusInfo": "<NewConnectionStatus>Connected</NewConnectionStatus>"
            "<NewLastConnectionError>ERROR_NONE</NewLastConnectionError><NewUptime>1</NewUptime>",
            "GetExternalIPAddress": "<NewExternalIPAddress>8.8.4.4</NewExternalIPAddress>",
        }.get(name, "")
        return 200, DONE.format(name=name, service=self.service, inside=inside).encode()


def argument(text: str, name: str) -> str:
    """The value of one argument of a call."""
    return text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]
