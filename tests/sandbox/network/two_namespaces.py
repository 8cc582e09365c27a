"""Dials hosts by name from one network namespace into another, and prints how each ended.

Runs as root of a user, mount and network namespace of its own: `two_namespaces.py HOSTS`, a file like /etc/hosts.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio

from sandbox.network import dialing

THERE = """
import socket, subprocess
print("made", flush=True)
input()
for words in ("link set far up", "addr add 93.184.216.34/24 dev far"):
    subprocess.run(["ip", *words.split()], check=True)
server = socket.create_server(("93.184.216.34", 443))
print("listening", flush=True)
server.accept()[0].sendall(b"over there")
"""


async def dial(names: list[str]) -> None:
    for name in names:
        try:
            stream = await dialing.direct(name, 443, resolve=dialing.resolve, connect=dialing.connect)
            print(name, (await stream.receive_some(99)).decode())
        except dialing.Unreachable as why:
            print(why)


def main() -> None:
    hosts = Path(sys.argv[1])
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
    command = ["unshare", "--net", sys.executable, "-c", THERE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as there:
        assert there.stdin is not None and there.stdout is not None
        there.stdout.readline()
        links = (
            "link set lo up",
            f"link add near type veth peer name far netns {there.pid}",
            "link set near up",
            "addr add 93.184.216.1/24 dev near",
        )
        for words in links:
            subprocess.run(["ip", *words.split()], check=True)
        there.stdin.write("go\n")
        there.stdin.flush()
        there.stdout.readline()
        trio.run(dial, [*(line.split()[1] for line in hosts.read_text().splitlines()), "nowhere.example.org"])
        there.kill()


if __name__ == "__main__":
    main()
