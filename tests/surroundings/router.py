"""A fake of a home router's NAT-PMP that maps for real, by rules of nftables: `router.py ADDRESS maps|lies`.

With `lies` it says that it maps, and does not.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from ipaddress import IPv4Address

import trio

from tests.mesh.port_mapping.fakes import FakePcp

CLIENT = "192.168.77.2"
RULES = """
table ip nat {
    chain prerouting { type nat hook prerouting priority -100; }
    chain postrouting { type nat hook postrouting priority 100; oifname "eth0" masquerade; }
}
table ip filter {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "lan" accept
        ct status dnat accept
    }
}
"""


def nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


async def main(address: str, lies: bool) -> None:
    nft(RULES)
    router = FakePcp(address=IPv4Address(address), speaks_pcp=False, external=40_001)

    def answer(request: bytes) -> list[bytes]:
        if request[:2] == b"\0\2":
            _, _, _, internal, _, seconds = struct.unpack(">BBHHHI", request)
            nft("flush chain ip nat prerouting")
            if seconds and not lies:
                nft(f'add rule ip nat prerouting iifname "eth0" tcp dport 40001 dnat to {CLIENT}:{internal}')
        return router.answers(request)

    router.answer = answer
    async with router.running():
        sys.stdout.write("up\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2] == "lies")
