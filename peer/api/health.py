"""`whoami` and the daemon's part of `doctor`: the state of each part of this machine. Each check is live."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING

import trio

from peer import VERSION
from peer.api import agent
from peer.machine import model_key, model_route, sandbox_proof
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, Unavailable
from peer.store import invitations
from peer.store.lists import rfc3339
from peer.store.trust_views import broker_documents, path_document
from peer.trust import fingerprints
from sandbox import distribution
from sandbox.runtimes import RUNTIMES

if TYPE_CHECKING:
    from peer.node.node import Node

_NOT_ITSELF = ("check `dispatch whoami`", "check the address with `dispatch config get broker`")
"""A fix that names the command whose answer it is in, and one that helps there."""


class Health:
    """The health checks of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._proof: Document | None = None

    async def whoami(self) -> Document:
        """Return the identity, and the last known state of each part."""
        node, identity = self._node, self._node.context.identity
        brokers = await self._brokers()
        first = brokers[0] if brokers else {"url": None, "signed_in": False, "error": None}
        return {
            "user_id": identity.user_id,
            "device_id": identity.device,
            "device_name": identity.name,
            "fingerprint": str(fingerprints.fingerprint(identity.root)),
            "root_stored": identity.root_stored,
            "broker": first["url"],
            "broker_signed_in": first["signed_in"],
            "broker_error": first["error"],
            "brokers": brokers,
            "daemon": {
                "running": True,
                "pid": os.getpid(),
                "port": node.port,
                "peer_id": node.host.peer_id,
                "addresses": node.host.addresses(),
                "relays": [{"origin": origin, "connected": up} for origin, up in node.relays.state().items()],
                "version": VERSION,
                "refused_connections": node.host.refused,
            },
            "runtime": self._runtime(),
            "sandbox": await self._sandbox(),
        }

    async def _brokers(self) -> list[Document]:
        """Return how it stands with each broker, as broker_documents."""
        waiting = await self._node.journal.read(invitations.waiting_at)
        found = broker_documents(self._node.settings, self._node.context.identity.user_id, waiting)
        states = self._node.brokers.states()
        for document in found:
            if (state := states.get(document["url"])) is None:
                continue
            document["signed_in"] = document["signed_in"] and state.signed_in
            document["answers"] = state.answers
            document["since"] = None if state.since is None else rfc3339(state.since)
            if state.error is not None:
                document["error"] = state.error.to_json() | {"fix": state.error.fix.replace(*_NOT_ITSELF)}
        return found

    async def doctor(self, *, fix: bool, part: str | None = None) -> Document:
        """Return {checks: [{name, ok, detail, fix, proven?}]}; of a `part`, `quick` or `proof`, the checks of that.

        That of reachability also has `paths`: how each contact's device is connected. That of the sandbox also has
        `sandbox_proof.facts`.
        """
        if part == "proof":
            return {"checks": await self._proofs()}
        checks: list[Document] = await self._check_brokers()
        paths = self._paths()
        checks.append(await _checked("reachability", lambda: self._check_reachability(paths)) | {"paths": paths})
        if checks[-1]["ok"] and not paths:
            checks[-1]["proven"] = False
        checks.append(await _checked("agent login", self._check_agent))
        checks.append(await _checked("project roots", self._check_roots))
        if part is None:
            checks += await self._proofs()
        if (problem := self._node.relay_contacts.problem) is not None:
            detail = f"a relay that you run admits none of your contacts: {problem.message}"
            checks.append({"name": "contacts for a relay", "ok": False, "detail": detail, "fix": problem.fix})
        if outlets := self._node.away.outlets:
            found = [{"ok": False, "detail": each.message, "fix": each.fix} for each in self._node.away.problems]
            told = {
                "ok": True,
                "detail": f"by {' and '.join(outlets)}; no delivery problem",
                "fix": "",
            }
            checks += [{"name": "notifications", **each} for each in found or [told]]
        return {"checks": checks}

    # --- the checks: each returns a detail, or raises with the fix

    async def _check_brokers(self) -> list[Document]:
        """Check each broker, all at once: one that hangs holds up no other."""
        urls = self._node.brokers.urls()
        if not urls:
            return [await _checked("broker", self._require_broker)]
        found: dict[str, Document] = {}

        async def check(url: str, name: str) -> None:
            found[url] = await _checked(name, self._node.brokers.at(url).check)

        async with trio.open_nursery() as nursery:
            for url in urls:
                nursery.start_soon(check, url, "broker" if url == urls[0] else f"broker {url}")
        return [found[url] for url in urls]

    async def _require_broker(self) -> str:
        return self._node.settings.require_broker()

    async def _check_reachability(self, connected: list[Document]) -> str:
        addresses = self._node.host.addresses()
        if not addresses:
            raise Unavailable(
                "this machine has no address for the daemon to listen on",
                fix="connect it to a network, or check `dispatch config get listen`",
            )
        families = await trio.to_thread.run_sync(_answering, addresses)
        if not families:
            raise Unavailable(
                f"none of this machine's {len(addresses)} addresses answers",
                fix="check the firewall, then restart the daemon",
            )
        known = self._node.admission.devices
        listening = f"{len(addresses)} address{'' if len(addresses) == 1 else 'es'}"
        way = _WAYS[frozenset(families)]
        relayed = sum(row["path"] == "relay" for row in connected)
        through = f", {relayed} through a relay" if relayed else ""
        at = self._node.relays.state()
        relays = "".join(f"; relay {origin} {'is connected' if up else 'does not answer'}" for origin, up in at.items())
        verified = self._node.port_mapper.verified
        mapped = (
            f"; port {verified.internal} is mapped to {verified.address}:{verified.external}"
            if verified is not None
            else ""
        )
        if connected:
            contacts = f"{len(connected)} of {len(known)} devices connected{through}"
        elif known:
            contacts = "none of your contacts is connected, so it is not known whether they can reach this device"
        else:
            contacts = "you have no contacts yet, so it is not known whether others can reach this device"
        if len(connected) < len(known) and self._node.settings.lan == "off":
            contacts += "; `lan` is off, so those on this machine or network are not found by themselves"
        return f"listening on {listening}, {way}{mapped}; {contacts}{relays}"

    def _paths(self) -> list[Document]:
        """Return how each device of a contact that is connected now is reached, sorted by contact."""
        admission, live = self._node.admission, self._node.queries.live()
        found = [
            {"peer": admission.user_of(device), "device": device, **path_document(path)}
            for device in admission.devices
            if (path := live.path(device)) is not None
        ]
        return sorted(found, key=lambda row: (row["peer"], row["device"]))

    async def _check_agent(self) -> str:
        runtime = self._runtime()
        if not runtime["login"]:
            raise Unavailable("the agent has no model credentials", fix=runtime["login_fix"])
        settings = self._node.settings
        way = "through an HTTP proxy" if model_route.http_proxy(settings) else ""
        price = ""
        if model_key.needed(settings) and model_route.unpriced(settings):
            name = settings.model.name
            price = f"the price of {name} is unknown, so only its tokens are counted: {model_route.PRICE_FIX}"
        return "; ".join(filter(None, (f"{runtime['name']} {runtime['version']}", way, price)))

    async def _check_roots(self) -> str:
        roots = self._node.settings.roots
        missing = [root for root in roots if not await trio.to_thread.run_sync(os.path.isdir, root)]
        if missing:
            raise Unavailable(
                f"project roots that do not exist: {', '.join(missing)}", fix="`dispatch config set roots PATH,PATH`"
            )
        return (
            ", ".join(roots)
            if roots
            else "none set: a run gets an empty workspace, or the folder that you name with --cwd"
        )

    async def _proofs(self) -> list[Document]:
        sandbox = await _checked("sandbox", self._check_sandbox)
        return [sandbox | sandbox_proof.facts(self._proof or {}), await _checked("gate", self._check_gate)]

    async def _check_sandbox(self) -> str:
        return sandbox_proof.sandbox(await self._prove(gate=True))

    async def _check_gate(self) -> str:
        """Return whether the gate saw every call of the real agent program, from the proof that _check_sandbox made."""
        if self._proof is None:
            raise Unavailable("the check of the gate did not finish", fix="see daemon.log")
        return sandbox_proof.gate(self._proof, self._node.settings.runtime)

    # --- parts

    def _runtime(self) -> Document:
        settings = self._node.settings
        info = RUNTIMES[settings.runtime]
        try:
            version = metadata.version(info.distribution) if info.distribution else VERSION
        except metadata.PackageNotFoundError:
            return {
                "name": info.name,
                "version": None,
                "login": False,
                "login_fix": distribution.adding(info.extra),
            }
        ready = not model_key.needed(settings) or model_key.usable(settings)
        return {
            "name": info.name,
            "version": version,
            "login": ready,
            "login_fix": "" if ready else " — ".join(filter(None, (settings.model.key_problem, model_key.FIX))),
        }

    async def _sandbox(self) -> Document:
        proof = self._proof or await self._prove(gate=False)
        error = proof.get("error") or {}
        gate = "not proven yet" if RUNTIMES[self._node.settings.runtime].has_program else "not needed"
        return {
            "tier": proof.get("tier"),
            "reason": error.get("message", ""),
            "fix": error.get("fix", ""),
            "gate": "proven" if self._node.runs.gate.key else gate,
        }

    async def _prove(self, *, gate: bool) -> Document:
        """Run `dp-agent --prove`: the sandbox's canaries, with `gate` also the gate's proof with the real agent."""
        runtime = [self._node.settings.runtime] if gate else []
        try:
            self._proof = await agent.ask("--prove", *runtime)
        except Unavailable as problem:
            self._proof = None
            return {"tier": None, "error": {"message": "the check of the sandbox did not finish", "fix": problem.fix}}
        if proven := self._proof.get("gate"):
            self._node.runs.gate.key = proven["key"]
        return self._proof


async def _checked(name: str, check: Callable[[], Awaitable[str]]) -> Document:
    try:
        return {"name": name, "ok": True, "detail": await check(), "fix": ""}
    except DispatchError as error:
        return {"name": name, "ok": False, "detail": error.message, "fix": error.fix}


_WAYS = {
    frozenset(("ip4", "ip6")): "over IPv4 and IPv6",
    frozenset(("ip4",)): "over IPv4 only: a device that has only IPv6 cannot connect to this one",
    frozenset(("ip6",)): "over IPv6 only: a device that has only IPv4 cannot connect to this one",
    frozenset(("loopback",)): "on this machine only",
}
"""What the addresses that answer mean for other devices; a firewall or router in between may still be in the way."""


def _answering(addresses: list[str]) -> set[str]:
    """Return the families (`ip4`, `ip6`) of which one of these multiaddrs accepts a TCP connection; `loopback` alone
    if it is only one that no other machine has. Blocking."""
    found: set[str] = set()
    for address in addresses:
        parts = address.split("/")
        if len(parts) < 5 or parts[1] not in ("ip4", "ip6") or parts[3] != "tcp":
            continue
        kind = "loopback" if ipaddress.ip_address(parts[2]).is_loopback else parts[1]
        if kind not in found:
            with suppress(OSError), socket.create_connection((parts[2], int(parts[4])), timeout=2):
                found.add(kind)
    return found - {"loopback"} or found
