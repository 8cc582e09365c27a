"""Machines on a network of their own: network namespaces joined by a bridge, one with the broker in it.

The broker is as in production: TLS, and signing in by mail. Its certificate is its own, and the mail server a real one
inside the tests' process. Whoever asks a daemon there does it in a thread that has entered that machine's namespace.
"""

from __future__ import annotations

import ctypes
import os
import re
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from peer.client.blocking import Client
from tests.conftest import HANG
from tests.rendezvous.world import MailServer, make_certificate
from tests.system import preloaded
from tests.system.world import Broker, Document, Person, Program, Said, clean_environment, eventually

CLONE_NEWNET = 0x40000000
PORT = 8443
ROUTER = "192.168.77.1"
"""Of each home, on its own network."""


class Machine:
    """A network namespace, which lives as long as a process that does nothing. `enter` is the command into it."""

    def __init__(self, stack: ExitStack) -> None:
        self._holder = stack.enter_context(
            subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", "echo && exec sleep infinity"],
                stdout=subprocess.PIPE,
            )
        )
        stack.callback(self._holder.kill)
        assert self._holder.stdout is not None and self._holder.stdout.readline()
        self.pid = self._holder.pid
        self.enter = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]
        self.ip("link set lo up")

    def ip(self, words: str) -> None:
        subprocess.run([*self.enter, "ip", *words.split()], check=True)

    def nft(self, rules: str) -> None:
        """Add rules of the packet filter."""
        subprocess.run([*self.enter, "nft", "-f", "-"], input=rules, text=True, check=True)

    def without_ipv6(self) -> None:
        """As the sysctl leaves it. It has sockets of IPv6 still, but no address."""
        script = "for each in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $each; done"
        subprocess.run([*self.enter, "sh", "-ec", script], check=True)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in there: the sockets it makes, and threads that it starts."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            if libc.setns(there, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            yield
        finally:
            if libc.setns(back, CLONE_NEWNET):
                os._exit(70)  # everything after would be in the wrong network
            os.close(back)
            os.close(there)


def machine_behind(router: Machine, stack: ExitStack) -> Machine:
    """A machine at home, 192.168.77.2, whose router passes on what comes by IPv4; its rules say what that is."""
    machine = Machine(stack)
    machine.without_ipv6()
    router.ip(f"link add lan type veth peer name eth0 netns {machine.pid}")
    router.ip(f"addr add {ROUTER}/24 dev lan")
    router.ip("link set lan up")
    machine.ip("addr add 192.168.77.2/24 dev eth0")
    machine.ip("link set eth0 up")
    machine.ip(f"route add default via {ROUTER}")
    subprocess.run([*router.enter, "sh", "-ec", "echo 1 > /proc/sys/net/ipv4/ip_forward"], check=True)
    return machine


NO_SOCKETS_OF_IPV6 = (
    sys.executable,
    "-c",
    """\
import os, sys, pyseccomp as s
f = s.SyscallFilter(s.ALLOW)
f.add_rule(s.ERRNO(97), "socket", s.Arg(0, s.EQ, 10))
f.load()
os.execvp(sys.argv[1], sys.argv[1:])
""",
)
"""Stands in for a kernel without IPv6: a system-call filter by which a socket of that family is EAFNOSUPPORT."""


class Net:
    """A broker and people, each on a machine of its own. `addresses`: the broker's first, then the people's."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        addresses: Sequence[str],
        *,
        ipv6: bool,
        around: Sequence[str] = (),
    ) -> None:
        """`around`: a command that each program is started by, in its machine."""
        preloaded.begin(clean_environment(folder))
        self.around = list(around)
        self.folder = folder
        self.hub, *self.others = [Machine(stack) for _ in addresses]
        self._stack = stack
        self._wire(addresses, ipv6=ipv6)
        self.mail = MailServer(folder / "mail")
        with self.hub.entered():
            stack.enter_context(self.mail.running())
        self.certificate, self._key = make_certificate(folder / "tls", addresses[0])
        host = f"[{addresses[0]}]" if ipv6 else addresses[0]
        self.broker = Broker.__new__(Broker)  # one that is found elsewhere
        self.broker.url = f"https://{host}:{PORT}"
        self.broker_program = self.start_broker()

    def start_broker(self) -> Program:
        """Start the broker, anew after its end."""
        arguments = [
            *("serve", "--host", "::", "--port", str(PORT), "--public-url", self.broker.url),
            *("--certificate", str(self.certificate), "--key", str(self._key), "--data", str(self.folder / "broker")),
            *("--smtp-host", "127.0.0.1", "--smtp-port", str(self.mail.port), "--smtp-user", self.mail.USER),
            *("--smtp-from", "dispatch <dispatch@broker.example>", "--smtp-ca", str(self.mail.ca)),
        ]
        environment = clean_environment(self.folder) | {"DISPATCH_SMTP_PASSWORD": self.mail.PASSWORD}
        program = self.serve("rendezvous.main", arguments, environment)
        assert program.line(r"listening on (\S+)") == self.broker.url
        return program

    def serve(self, module: str, arguments: Sequence[str], environment: dict[str, str]) -> Program:
        """Start a program on the hub."""
        log = self.folder / f"{module}.errors"
        program = Program(module, arguments, environment, log, [*self.hub.enter, *self.around])
        self._stack.callback(program.end)
        return program

    def _wire(self, addresses: Sequence[str], *, ipv6: bool) -> None:
        """Join all machines by a bridge."""
        bits = 64 if ipv6 else 24
        bridge = [*self.hub.enter, "ip", "link", "add", "name", "lan", "type", "bridge"]
        made = subprocess.run(bridge, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"this kernel makes no bridge: {made.stderr.strip()}")
        self.hub.ip("link set lan up")
        if not ipv6:
            self.hub.without_ipv6()
        self.hub.ip(f"addr add {addresses[0]}/{bits} dev lan {'nodad' if ipv6 else ''}")
        for number, (machine, address) in enumerate(zip(self.others, addresses[1:], strict=True)):
            self.hub.ip(f"link add port{number} type veth peer name eth0 netns {machine.pid}")
            self.hub.ip(f"link set port{number} master lan up")
            if not ipv6:
                machine.without_ipv6()
            machine.ip(f"addr add {address}/{bits} dev eth0 {'nodad' if ipv6 else ''}")
            machine.ip("link set eth0 up")

    def person(self, name: str, folder: Path, machine: Machine, stack: ExitStack, **settings: object) -> Somebody:
        """Somebody on one of the machines, signed in, whose daemon serves with the `listen` that it has by default."""
        person = Somebody(self, name, folder, machine)
        stack.callback(person.stop)
        person.sign_in()
        person.configure(**settings)
        person.start()
        return person


class PartedNet(Net):
    """Machines that reach the hub and none of each other: each has a network of its own, the hub passes nothing on.

    Their addresses are such as the internet has, since others are not dialled from another network.

    Stands for homes behind routers that let nothing in. The hub also runs a relay, whose users are the broker's.
    """

    RELAY_PORT = 9443

    def __init__(self, folder: Path, stack: ExitStack, people: int, *, ipv6: bool = False) -> None:
        self.ipv6 = ipv6
        addresses = ["2600:77:ff::1" if ipv6 else "192.0.2.1", *(self._address(each, 2) for each in range(people))]
        super().__init__(folder, stack, addresses, ipv6=ipv6)
        self.relay_url = f"{self.broker.url.removesuffix(str(PORT))}{self.RELAY_PORT}"
        self.relay = self.start_relay()

    def start_relay(self) -> Program:
        """Start the relay, anew after its end."""
        command = [sys.executable, "-m", "rendezvous.main", "relay-key", "--data", str(self.folder / "broker")]
        environment = clean_environment(self.folder)
        key = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        arguments = [
            *("serve", "--host", "::", "--port", str(self.RELAY_PORT), "--public-url", self.relay_url),
            *("--certificate", str(self.certificate), "--key", str(self._key), "--allow", f"broker={key}"),
        ]
        program = self.serve("rendezvous.relay.main", arguments, environment)
        assert program.line(r"listening on (\S+)") == self.relay_url
        return program

    def _address(self, number: int, end: int) -> str:
        """The address of a machine (2), and of the hub on the network that it has (1)."""
        return f"2600:77:{number}::{end}" if self.ipv6 else f"11.77.{number}.{end}"

    def _wire(self, addresses: Sequence[str], *, ipv6: bool) -> None:
        bits, whole, more = (64, 128, "nodad") if ipv6 else (24, 32, "")
        if not ipv6:
            self.hub.without_ipv6()
        self.hub.ip(f"addr add {addresses[0]}/{whole} dev lo")
        for number, (machine, address) in enumerate(zip(self.others, addresses[1:], strict=True)):
            self._join(number, machine)
            self.hub.ip(f"addr add {self._address(number, 1)}/{bits} dev port{number} {more}")
            self.hub.ip(f"link set port{number} up")
            if not ipv6:
                machine.without_ipv6()
            machine.ip(f"addr add {address}/{bits} dev eth0 {more}")
            machine.ip("link set eth0 up")
            machine.ip(f"route add default via {self._address(number, 1)}")

    def _join(self, number: int, machine: Machine) -> None:
        """Make the wire between the hub and a machine."""
        self.hub.ip(f"link add port{number} type veth peer name eth0 netns {machine.pid}")

    def slow_down(self, number: int, megabits: int) -> None:
        """From now on the hub sends no more than so many megabits a second to this machine."""
        tc = f"tc qdisc replace dev port{number} root tbf rate {megabits}mbit burst 64kb latency 200ms"
        subprocess.run([*self.hub.enter, *tc.split()], check=True)

    def join_others(self) -> None:
        """From now on the first two people's machines are on a network of their own, too."""
        one, other = self.others[:2]
        one.ip(f"link add name home type veth peer name home netns {other.pid}")
        for machine, address in ((one, "10.9.0.1"), (other, "10.9.0.2")):
            machine.ip(f"addr add {address}/24 dev home")
            machine.ip("link set home up")

    def let_through(self) -> None:
        """From now on the hub passes packets on: the machines reach each other."""
        script = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
        subprocess.run([*self.hub.enter, "sh", "-ec", script], check=True)


class _There:
    """The client of a daemon on another machine: each call is made in there."""

    def __init__(self, client: object, machine: Machine) -> None:
        self._client, self._machine = client, machine

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            with self._machine.entered():
                return getattr(self._client, name)(*arguments, **options)

        return call


class Somebody(Person):
    def __init__(self, net: Net, name: str, folder: Path, machine: Machine) -> None:
        super().__init__(name, folder, net.broker)
        self._net, self.machine = net, machine
        self.inside = [*machine.enter, *net.around]
        self.client = self.another_client()
        self.environment["SSL_CERT_FILE"] = str(net.certificate)

    def another_client(self) -> Client:
        return _There(super().another_client(), self.machine)  # type: ignore[return-value]

    def launch(self, *arguments: str, **more: Any) -> None:
        super().launch(*(arguments or ("--port", "0")), **{"inside": self.inside, **more})

    def cli(self, *arguments: str, status: int | None = 0, stdin: str = "", inside: Sequence[str] = ()) -> Said:
        return super().cli(*arguments, status=status, stdin=stdin, inside=inside or self.inside)

    def path_to(self, other: Person) -> Document:
        """The row of `contacts` that says how somebody is connected."""
        (row,) = [row for row in self.client.contacts()["trust"] if row["peer"] == other.email]
        return dict(row)

    def relays(self) -> dict[str, bool]:
        """Its relays, and whether it can be rung there."""
        return {each["origin"]: each["connected"] for each in self.client.whoami()["daemon"]["relays"]}

    def _until(self, *arguments: Any) -> Document:
        with self.machine.entered():
            return super()._until(*arguments)

    def sign_in(self) -> None:
        """By the command, the broker's page, and the mail that it sends."""
        log = self.home / "login.errors"
        words = ["login", "--broker", self.broker.url, "--email", self.email, "--no-browser", "--json"]
        program = Program("cli.main", words, self.environment, log, self.inside)
        code = eventually(lambda: re.search(r"code=([A-Z0-9-]+)", program.errors()), what=f"{self.name}'s code")[1]
        before = len(self._net.mail.taken)
        self._post(f"{self.broker.url}/login", user_code=code)
        eventually(lambda: len(self._net.mail.taken) > before, what="the mail")
        text = self._net.mail.taken[-1][1].get_content().replace("\r\n", "\n")
        found = re.search(r"^ +(https://\S+/login/mail)\?t=(\S+)$", text, re.M)
        assert found, text
        self._post(found[1], t=found[2], user_code=code)
        assert program.process.wait(HANG) == 0, program.errors()
        assert program.process.stdout is not None
        program.process.stdout.close()
        self.configure(runtime="scripted", script=str(self._script))
        self.will()

    def _post(self, url: str, **fields: str) -> None:
        trusted = ssl.create_default_context(cafile=str(self._net.certificate))
        body = urllib.parse.urlencode(fields).encode()
        with self.machine.entered(), urllib.request.urlopen(url, body, HANG, context=trusted) as answer:
            assert answer.status == 200
