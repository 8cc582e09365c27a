"""What people do and what goes wrong, drawn from a seed; and what must be true when it has been calm for a while.

    make simulate ARGS="SEED --people 3 --dispatches 20"

plays one again and prints what happened.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from peer.protocol.content import Content, FileRef
from peer.steps.sending import Draft
from peer.store import dispatches, edges, outbox, rows, trace
from peer.store.receipts import gather
from peer.trust import receipts
from tests.mesh.courier_simulation import World
from tests.simulation.nodes import Node, People, people

HOUR = 3600.0
FINAL = frozenset({"completed", "failed", "declined", "cancelled", "expired", "rejected"})
NEVER_THERE = frozenset({"expired", "cancelled", "rejected"})
"""States of a sender's whose recipient may never have had the dispatch."""
TROUBLES = (*("crash", "cut", "drop", "sleep", "clock", "disk", "silence") * 4, "revoke")


@dataclass
class Play:
    """One scenario. `sent`: dispatch → (sender, recipient) of each that its sender was told was sent."""

    seed: int
    folder: Path
    count: int = 3
    dispatches: int = 20
    hours: float = 2.0
    troubles: int = 25
    sent: dict[str, tuple[Node, Node]] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    lifetimes: tuple[int, ...] = (120, 1800, 7200, 86_400)
    """Seconds until a dispatch expires, one of which its sender chooses."""
    looks_every: float = 300.0
    """Seconds between two looks of a recipient into the inbox, on average."""

    def run(self) -> Counter[str]:
        """Play it to its end; return how often what happened. Raises AssertionError, with the seed."""
        self.world = World(self.seed)
        self.random = self.world.random
        try:
            with people(self.world, self.folder) as everybody:
                self._set_up(everybody)
                self._pass(self.hours * HOUR)
                self._calm(everybody)
                self._check(everybody)
        except AssertionError as error:
            told = "\n".join(self.log[-40:])
            options = f"--people {self.count} --dispatches {self.dispatches} --hours {self.hours:g}"
            again = f"make simulate ARGS='{self.seed} {options} --troubles {self.troubles}'"
            raise AssertionError(f"{error}\n{told}\nto play it again: {again}") from error
        return self.happened

    def _note(self, what: str, about: str) -> None:
        self.happened[what] += 1
        self.log.append(f"{self.world.now:10.3f} {what}: {about}")

    # --- what happens

    def _set_up(self, everybody: People) -> None:
        nodes = [self._add(everybody, f"p{number}") for number in range(self._share(self.count))]
        for number, node in enumerate(nodes):
            # Everybody knows the next few, so that there are not as many pairs as there are people squared.
            for distance in range(1, min(4, len(nodes))):
                everybody.trust(node, nodes[(number + distance) % len(nodes)])
        everybody.start()
        end = self.hours * HOUR
        for _ in range(self._share(self.dispatches)):
            self.world.at(self.random.uniform(0, end * 0.7), lambda: self._send(nodes))
        for _ in range(self._share(self.troubles)):
            self.world.at(self.random.uniform(0, end * 0.9), lambda: self._trouble(everybody))

    def _share(self, of: int) -> int:
        """Return how many of all people, dispatches or troubles this play has."""
        return of

    def _add(self, everybody: People, name: str) -> Node:
        return everybody.add(name)

    def _send(self, nodes: list[Node]) -> None:
        sender = self.random.choice(nodes)
        recipient = self.random.choice(sender.trusted_by)
        files: tuple[FileRef, ...] = ()
        if self.random.random() < 0.3:
            files = (self._file(sender),)
        expires = self.random.choice(self.lifetimes)
        draft = Draft(recipient.person.user, Content(task="say hello", files=files), expires)
        dispatch_id = sender.send(recipient, draft)
        if not dispatch_id:
            return
        self.sent[dispatch_id] = (sender, recipient)
        self._note("sent", f"{dispatch_id} {sender.name} → {recipient.name}")
        if self.random.random() < 0.1:
            self.world.later(self.random.expovariate(1 / 300), lambda: self._cancel(dispatch_id))
        self.world.later(self.random.expovariate(1 / 120), lambda: self._decide(dispatch_id, 8))

    def _file(self, sender: Node) -> FileRef:
        """Make a file to send."""
        return FileRef(name=f"file-{self.random.random()}", size=10, digest=self.random.randbytes(32))

    def _cancel(self, dispatch_id: str) -> None:
        self._note("cancel", dispatch_id)
        self.sent[dispatch_id][0].cancel(dispatch_id)

    def _decide(self, dispatch_id: str, patience: int) -> None:
        """The recipient looks into the inbox now and then."""
        _, recipient = self.sent[dispatch_id]
        row = dispatches.get(recipient.person.db, dispatch_id)
        if row is not None and row.state == "pending" and recipient.up:
            if self.random.random() < 0.1:
                self._note("decline", dispatch_id)
                recipient.decline(dispatch_id)
            else:
                self._note("accept", dispatch_id)
                works = self.random.expovariate(1 / 60)
                recipient.accept(dispatch_id, works, self.random.randrange(6))
                if self.random.random() < 0.05:
                    self.world.later(works / 2, lambda: recipient.decline(dispatch_id))
        if patience:
            self.world.later(
                self.random.expovariate(1 / self.looks_every), lambda: self._decide(dispatch_id, patience - 1)
            )

    def _trouble(self, everybody: People) -> None:
        node = self.random.choice(everybody.nodes)
        other = everybody.node(self.random.choice(sorted(node.sendings)))
        much = self.random.random()
        what = self.random.choice(TROUBLES)
        self._note(what, f"{node.name} {other.name} {much:.3f}")
        match what:
            case "crash":
                node.crash(10 ** (3 * much))
            case "cut":
                everybody.cut(node.name, other.name, 1200 * much)
            case "drop":
                everybody.drop(node.name, other.name)
            case "sleep":
                self._sleep(everybody, node, 1800 * much)
            case "clock":
                node.clock.skew += 600 * (much - 0.5)
            case "disk":
                node.failing_until = self.world.now + 300 * much
                for sending in node.sendings.values():
                    sending.failing_until = node.failing_until
            case "revoke":
                node.revoke(other)
            case "silence":
                node.mute_until = self.world.now + 90 * much

    def _sleep(self, everybody: People, node: Node, seconds: float) -> None:
        """Nobody reaches it, and it does nothing; its connections are found dead when it wakes."""
        node.mute_until = self.world.now + seconds
        for name in node.sendings:
            everybody.cut(node.name, name, seconds)

    def _calm(self, everybody: People) -> None:
        """Clocks are right, everybody is up, networks hold: two days, which is longer than anything lasts."""
        for node in everybody.nodes:
            node.clock.skew = 0.0
            node.failing_until = node.mute_until = 0.0
            for sending in node.sendings.values():
                sending.failing_until = 0.0
        for _ in range(8):
            self._pass(6 * HOUR)
            for node in everybody.nodes:
                node.expire()
        self._pass(HOUR)

    def _pass(self, seconds: float) -> None:
        until = self.world.now + seconds
        self.world.run(until)
        self.world.now = max(self.world.now, until)

    # --- what must be true

    def _check(self, everybody: People) -> None:
        for node in everybody.nodes:
            assert node.up and not node.runs
            left = [item.kind for name in node.sendings for item in node.person.waiting(everybody.node(name).person)]
            assert not left, f"{node.name} still has {left} to send"
            assert outbox.waiting_devices(node.person.db) == []
            assert not [item for _, item in dispatches.awaited_files(node.person.db)], "files never came"
        for dispatch_id, (sender, recipient) in self.sent.items():
            self._check_one(dispatch_id, sender, recipient)
        kept = sum(len(dispatches.in_states(node.person.db, "sent", tuple(FINAL))) for node in everybody.nodes)
        assert kept == len(self.sent), "a dispatch that nobody was told of was sent, or one was lost"

    def _check_one(self, dispatch_id: str, sender: Node, recipient: Node) -> None:
        here = sender.person.row(dispatch_id)
        there = dispatches.get(recipient.person.db, dispatch_id)
        where = f"{dispatch_id}: {here.state} at {sender.name}, {there and there.state} at {recipient.name}"
        self.happened[f"{here.state}/{there.state if there else '-'}"] += 1
        assert here.state in FINAL, f"not ended: {where}"
        assert recipient.finished[dispatch_id] <= 1, f"run twice: {where}"
        if there is None:
            assert here.state in NEVER_THERE, f"lost: {where}"
            return
        assert there.state in FINAL, f"not ended: {where}"
        # A cancel stands where it finds that the dispatch had not run and would not (the sender's table). And of what
        # its recipient had not delivered when they revoked the edge, a sender learns no more than that.
        stands = here.state == "cancelled" and there.state in ("expired", "rejected")
        silent = here.state in ("cancelled", "expired", "rejected") and self._was_revoked(sender, there)
        assert here.state == there.state or stands or silent, f"not the same: {where}"
        if here.state == "completed":
            assert recipient.finished[dispatch_id] == 1 and here.attempt == there.attempt, where
            assert trace.head(sender.person.db, dispatch_id, here.attempt) == trace.head(
                recipient.person.db, dispatch_id, here.attempt
            ), f"another trace: {where}"
            for node in (sender, recipient):
                device_set = node.person.context.identity.device_set
                receipts.verify(receipts.decode(receipts.encode(gather(node.person.db, device_set, dispatch_id))))

    def _was_revoked(self, sender: Node, row: rows.Dispatch) -> bool:
        edge = edges.get(sender.person.db, row.edge_id)
        return edge is not None and edge.status == "revoked"
