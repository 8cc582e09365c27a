"""Using a broker no more: what would be lost is said first; then token, announcement and queued writes go."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from peer.broker.client import BrokerClient
from peer.machine import broker_list, settings
from peer.machine.network_route import proxy_to_url
from peer.machine.settings import Settings
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, NotFound
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import counters, invitations

FAREWELL_SECONDS = 5.0
"""How long it is tried to withdraw the announcement; without that it expires within two hours."""


async def remove_broker(
    journal: Journal, text: str, *, confirmed: bool, reload: Callable[[], Awaitable[None]]
) -> Document:
    """Take a broker out of config.json: {status: "removed", url, broker_told, first}.

    Unless `confirmed`, nothing changes while something waits for it: {status: "confirmation_required", url, waiting}.
    `reload` makes a node take the settings. Raises NotFound, Invalid.
    """
    context, url = journal.context, settings.broker_url(text)
    before = settings.load(context.state)
    if url not in (used := [each.url for each in before.sign_ins]):
        raise NotFound(
            f"you do not use {url}; you use {', '.join(used) or 'no broker'}", fix="see `dispatch broker list`"
        )
    waiting = await journal.read(lambda db: what_waits(db, url, context.clock()))
    if any(waiting.values()) and not confirmed:
        return {"status": "confirmation_required", "url": url, "waiting": waiting}
    after = before.using(broker_list.without_broker(before.sign_ins, url))
    settings.save(context.state, after)

    def forget(tx: Transaction) -> int:
        invitations.drop_writes_to(tx.db, url)
        return counters.next_after(tx.db, counters.PRESENCE, tx.now)

    seq = await journal.step(forget)
    await reload()
    return {
        "status": "removed",
        "url": url,
        "broker_told": await _withdraw(journal, before, url, seq),
        "first": after.broker or None,
    }


def what_waits(db: sqlite3.Connection, url: str, now: int) -> Document:
    """Return {answers, withdrawals, sent, received}: e-mail addresses of the people concerned.

    `answers` and `withdrawals` have not reached the broker yet. `sent`: invitations whose answers would not arrive;
    `received`: those that could not be answered.
    """
    waiting: dict[str, list[str]] = {"answers": [], "withdrawals": [], "sent": [], "received": []}
    for item in invitations.broker_writes(db, url):
        row = invitations.get(db, item.token)
        waiting["withdrawals" if item.action == "withdraw" else "answers"].append(row.peer if row else item.token)
    for row in invitations.open_at(db, url, now):
        waiting[row.direction].append(row.peer)
    return waiting


async def _withdraw(journal: Journal, before: Settings, url: str, seq: int) -> bool:
    """Withdraw this device's announcement; return whether the broker took it."""
    done = False
    # Nothing is logged: on a command line the log would be its output.
    with trio.move_on_after(FAREWELL_SECONDS), suppress(DispatchError):
        proxy = proxy_to_url(url, before)
        async with BrokerClient(url, author=journal.context.identity, proxy=proxy) as broker:
            await broker.withdraw_presence(seq=seq)
            done = True
    return done
