"""What a network means for the person who grants it, in sentences for the terminal, sessions and the page. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peer.trust.scopes import ANY_PACKAGES, PACKAGES


def sentences(
    tools: Sequence[str],
    network: Sequence[str],
    registries: Sequence[Mapping[str, str]] = (),
    by_proxy: Sequence[str] = (),
) -> list[str]:
    """Return what to know of a scope's `network`, as the API has these members; none where it is empty."""
    if network and "Bash" not in tools:
        return ["Only shell commands use the network, and without Bash there are none."]
    found = []
    hosts = [word for word in network if word not in (PACKAGES, ANY_PACKAGES)]
    if hosts:
        found.append(
            f"Its commands can reach {', '.join(hosts)} over HTTPS. They can send there whatever the run can read, and "
            "act there as you with any password or key in the folder. A host that shares servers with others can pass "
            "things on to them, and a registry accepts uploads."
        )
    where = ", ".join(f"{registry['address']} ({registry['kind']})" for registry in registries)
    if PACKAGES in network:
        found.append(
            f"Packages that the project's lock files name are fetched for it from {where}, which learn their names."
        )
    if ANY_PACKAGES in network:
        found.append(
            f"Any package is fetched for it from {where}. It chooses the names that it asks for, so what it has read "
            "can leave in them."
        )
    if by_proxy:
        found.append(proxied(by_proxy))
    return found


def proxied(hosts: Sequence[str]) -> str:
    """Return what to know of hosts whose names this machine's HTTP proxy resolves."""
    return (
        f"This machine's HTTP proxy resolves {', '.join(hosts)}, so dispatch cannot check where such a name leads: it "
        "may lead into your own network."
    )
