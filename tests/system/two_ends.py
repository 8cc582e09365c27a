"""Two nodes' stores joined by a pretend wire, moved by hand step by step, one of which dies at a chosen commit.

Everything that lives only in a daemon's memory is in `End.run`; everything else is read from the stores before each
move, as a daemon does at its start. So what a crash loses is exactly what a daemon would lose.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from peer.machine import identity
from peer.machine.state_folder import StateFolder
from peer.protocol import codec
from peer.protocol.content import Content, FileRef
from peer.protocol.sealing import unseal
from peer.steps import granting, inbound, invitation_answers, inviting, receiving, running, sending
from peer.steps.context import Context
from peer.steps.transaction import Transaction
from peer.store import contacts, dispatches, invitations, outbox, rows
from peer.store.blobs import Blobs
from peer.store.database import Store
from peer.trust import grants

T = TypeVar("T")
NOW = 1_800_000_000_000


class Killed(Exception):
    """The process of an end died."""


@dataclass
class Fault:
    """Where to die: at the n-th commit of an end, before it or after it. `n` -1: nowhere."""

    end: str = ""
    n: int = -1
    when: Literal["before", "after"] = "before"


class End:
    """One node: identity, store, clock."""

    def __init__(self, name: str, folder: Path, clock: Callable[[], int], fault: Fault) -> None:
        self.name = name
        self.commits = 0
        self.fault = fault
        self.lives = 1
        self.run: Run | None = None
        state = StateFolder(folder)
        state.create()
        who = identity.prepare(state, f"{name}@example.org", name, clock, os.urandom)
        self.context = Context(state, who, Store.open(state.store), Blobs(state.blobs), clock, steady=clock)

    async def step(self, work: Callable[[Transaction], T]) -> T:
        """One transaction; dies there if that is the plan. Its effects are forgotten: the stores must be enough."""
        n, self.commits = self.commits, self.commits + 1
        dies = (self.fault.end, self.fault.n) == (self.name, n)

        def whole(db: Any) -> T:
            value = work(Transaction(db, self.context))
            if dies and self.fault.when == "before":
                raise Killed
            return value

        value = await self.context.store.write(whole)
        if dies:
            raise Killed
        return value

    async def read(self, query: Callable[[Any], T]) -> T:
        return await self.context.store.read(query)

    async def come_back(self) -> None:
        """Be the next process over the same files, and do what a node does first."""
        self.run, self.fault, self.lives = None, Fault(), self.lives + 1
        context = self.context
        context.store.close()
        self.context = replace(context, store=Store.open(context.state.store))
        await self.step(running.interrupt_all)

    async def row(self) -> rows.Dispatch | None:
        """The one dispatch of these stories."""
        found = await self.read(lambda db: db.execute("SELECT dispatch_id FROM dispatches").fetchone())
        return await self.read(lambda db: dispatches.get(db, found[0])) if found else None


class Run:
    """A run in the memory of the recipient's daemon: its steps, one at a time."""

    def __init__(self, end: End, row: rows.Dispatch) -> None:
        self._end = end
        self._row = row
        self._plan: list[Callable[[], Awaitable[None]]] = [
            self._started,
            lambda: self._record("reading"),
            self._ask,
            self._answer,
            lambda: self._record("writing"),
            self._finish,
        ]

    async def advance(self) -> None:
        await self._plan[0]()
        self._plan.pop(0)
        if not self._plan:
            self._end.run = None

    async def _started(self) -> None:
        row, end = self._row, self._end
        await end.step(lambda tx: running.start(tx, row.dispatch_id, row.attempt))

    async def _record(self, text: str) -> None:
        row, end = self._row, self._end
        events = [f'{{"kind":"reasoning","text":"{text}"}}']
        await end.step(lambda tx: running.record(tx, row.dispatch_id, row.attempt, events, events))

    async def _ask(self) -> None:
        row, end = self._row, self._end
        asked = rows.Approval(row.dispatch_id, "call", row.attempt, '{"tool":"Read"}', NOW, NOW + 120_000, "", "")
        await end.step(lambda tx: running.ask(tx, asked))

    async def _answer(self) -> None:
        row, end = self._row, self._end
        await end.step(lambda tx: running.answer(tx, row.dispatch_id, "call", allow=True, grant="once", note=""))

    async def _finish(self) -> None:
        row, end = self._row, self._end
        content = f"made by attempt {row.attempt}".encode()
        digest = hashlib.sha256(content).digest()
        end.context.blobs.destination(digest).write_bytes(content)
        files = [FileRef("made.txt", len(content), digest)]
        await end.step(
            lambda tx: running.finish(tx, row.dispatch_id, row.attempt, "completed", files=files, reply="done")
        )


def _confirmed(number: int, tx: Transaction) -> None:
    invitations.drop_broker_write(tx.db, number)


class Story:
    """Alice asks Bob, who grants; she sends; he accepts and runs. `move` makes the next move that the stores call for.

    `ending` is what happens while the run is under way: nothing, or a cancel by either side, or a revocation.
    """

    def __init__(self, folder: Path, fault: Fault, ending: str) -> None:
        self.now = NOW
        self.alice = End("alice", folder / "alice", self.clock, fault)
        self.bob = End("bob", folder / "bob", self.clock, fault)
        self.ending = ending
        self.posted: set[str] = set()
        self.sealed: dict[str, bytes] = {}
        self.content = b"attached"
        """Of the file that is sent along; none if empty."""
        self.parted: dict[str, int] = {}
        """Each end's commits before the ending began."""

    def clock(self) -> int:
        self.now += 1
        return self.now

    def close(self) -> None:
        for end in (self.alice, self.bob):
            end.context.store.close()

    async def tell(self) -> None:
        """Move until nothing is left to do; whoever dies on the way comes back."""
        for _ in range(300):
            try:
                if not await self.move():
                    return
            except Killed:
                dead = self.alice if self.alice.fault.end == "alice" else self.bob
                await dead.come_back()
        raise AssertionError("the story does not come to an end")

    async def move(self) -> bool:
        return (
            await self._first_contact()
            or await self._broker()
            or await self.carry(self.alice, self.bob)
            or await self.carry(self.bob, self.alice)
            or await self._files(self.alice, self.bob)
            or await self._files(self.bob, self.alice)
            or await self._people()
        )

    # --- what people do

    async def _first_contact(self) -> bool:
        alice, bob = self.alice, self.bob
        if not await alice.read(invitations.every):
            await alice.step(lambda tx: inviting.invite(tx, "bob@example.org"))
            return True
        (sent,) = await alice.read(invitations.every)
        if not await bob.read(invitations.every):
            await bob.step(lambda tx: inviting.on_invitation(tx, sent.raw))
            return True
        (got,) = await bob.read(invitations.every)
        if got.status == "open":
            scope = grants.grant(grants.ScopeInput(tools="Read"), installed=(), now=self.now)
            await bob.step(lambda tx: invitation_answers.accept(tx, got.token, scope))
            return True
        return False

    async def _people(self) -> bool:
        alice, bob = self.alice, self.bob
        sent, got = await alice.row(), await bob.row()
        if sent is None:
            await self._send()
            return True
        if got is not None and got.state == "pending":
            row, _ = await bob.step(lambda tx: receiving.accept(tx, got.dispatch_id, cwd=""))
            bob.run = Run(bob, row)
            return True
        if got is not None and got.state == "running" and self.ending != "none":
            await self._end(sent, got)
            return True
        if bob.run is not None:
            await bob.run.advance()
            return True
        return False

    async def _send(self) -> None:
        alice = self.alice
        files: tuple[FileRef, ...] = ()
        if self.content:
            digest = hashlib.sha256(self.content).digest()
            alice.context.blobs.destination(digest).write_bytes(self.content)
            files = (FileRef("a.txt", len(self.content), digest),)
        draft = sending.Draft("bob@example.org", Content(task="a task", files=files), 600)
        await alice.step(lambda tx: sending.compose(tx, draft))

    async def _end(self, sent: rows.Dispatch, got: rows.Dispatch) -> None:
        alice, bob = self.alice, self.bob
        if not self.parted:
            self.parted = {end.name: end.commits for end in (alice, bob)}
        if self.ending == "sender" and sent.state != "cancelled":
            await alice.step(lambda tx: sending.cancel(tx, sent.dispatch_id, reason="enough"))
        elif self.ending == "recipient":
            await bob.step(lambda tx: receiving.cancel(tx, got, reason="enough"))
            bob.run = None
        elif self.ending == "revocation":
            await bob.step(lambda tx: granting.revoke(tx, "alice@example.org"))
            bob.run = None

    # --- what carries

    async def _broker(self) -> bool:
        """Bob's answer goes to the broker, which keeps it; Alice reads it there until she has an edge."""
        for item in await self.bob.read(lambda db: invitations.broker_writes(db, "")):
            boxes: Any = codec.decode(item.body)
            self.sealed = boxes
            await self.bob.step(partial(_confirmed, item.n))
            return True
        alice = self.alice
        if self.sealed and not await alice.read(contacts.every):
            raw = unseal(self.sealed[alice.context.identity.device], alice.context.identity.sealing_key)
            await alice.step(lambda tx: invitation_answers.on_answer(tx, raw))
            return True
        return False

    async def carry(self, giver: End, taker: End) -> bool:
        """One statement across and its answer back. Each is brought twice: the answer must be the same."""
        device = taker.context.identity.device
        item = await giver.read(lambda db: outbox.next_for(db, device))
        admitted = await taker.read(contacts.devices)
        if item is None or giver.context.identity.device not in {each.device for each in admitted}:
            return False
        me = giver.context.identity.device
        first = await taker.step(lambda tx: inbound.take(tx, me, item.raw))
        again = await taker.step(lambda tx: inbound.take(tx, me, item.raw))
        assert first == again, (item.kind, first, again)
        assert first.taken, (item.kind, first)
        if taker is self.bob and item.kind == "cancel":
            taker.run = None  # what `Effects.stop_runs` does
        await giver.step(lambda tx: sending.on_acknowledged(tx, item, first))
        return True

    async def _files(self, giver: End, taker: End) -> bool:
        for device, item in await taker.read(dispatches.awaited_files):
            assert device == giver.context.identity.device
            reader = taker.context.identity.device
            if not await giver.read(
                partial(dispatches.may_pull, device=reader, statement=item.statement, digest=item.digest)
            ):
                continue
            content = giver.context.blobs.path(item.digest).read_bytes()
            taker.context.blobs.destination(item.digest).write_bytes(content)
            await taker.step(partial(receiving.on_file_arrived, item=item))
            return True
        return False
