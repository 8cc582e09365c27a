"""Every write of a storage, as a program that is killed in the midst of it: `killed.py URL-or-folder WRITE MOMENT`.

The test beside it (test_killed.py) does the same write again afterwards and compares what is kept.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args
from unittest import mock

import psycopg
import trio

from rendezvous.storage.interface import Storage
from rendezvous.storage.opening import open_storage
from rendezvous.storage.rows import InvitationAnswer, InvitationStatus
from rendezvous.storage.sqlite import database as sqlite_database
from tests.rendezvous.storage.values import DAY, HOUR, NOW, author, caller, claim, invitation, sign_in

ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@example.org"
Moment = Literal["before commit", "commit sent", "after commit"]
MOMENTS: Final[tuple[Moment, ...]] = get_args(Moment)
"""The second is PostgreSQL's alone: the statement has left, and no answer has come."""


async def prepare(storage: Storage) -> None:
    """Two accounts, three invitations, and sign-ins under way; everything of it made up and always the same."""
    for user in (ALICE, BOB):
        await _open(storage, user)
        await storage.approve_sign_in(f"code of {user}", claim(user), NOW)
        await storage.announce(author(user, nonce=f"first of {user}"), seq=1, expires=NOW + HOUR, box=b"first")
    for token, other in (("t1", BOB), ("t2", CAROL), ("t3", "dave@example.org")):
        by = author(ALICE, nonce=f"post {token}")
        await storage.post_invitation(by, invitation(ALICE, other, token), NOW)
    await _open(storage, CAROL)
    await storage.reserve_sign_in_mail(f"code of {CAROL}", b"mail token", NOW)


async def _open(storage: Storage, user: str, code: str = "") -> None:
    code = code or f"code of {user}"
    by = author(user, nonce=f"sign-in {code}")
    asked = sign_in(user, code)
    await storage.open_sign_in(by, claim(user), asked, device_code=code.encode(), interval=5000, now=NOW)


async def _answer(storage: Storage) -> None:
    given = InvitationAnswer(
        token="t1", decision=InvitationStatus.ACCEPTED, sealed={caller(ALICE).device: b"box"}, digest=b"digest"
    )
    await storage.answer_invitation(author(BOB, nonce="answer"), given, NOW)


class Write(NamedTuple):
    """One operation. `once`: asked again after it was done, it leaves everything as it is; otherwise it counts, or is
    noted, once more, which nobody is harmed by."""

    operation: str
    run: Callable[[Storage], Awaitable[object]]
    once: bool = True


WRITES: Final[dict[str, Write]] = {
    "open": Write("open_sign_in", lambda storage: _open(storage, ALICE, "another code")),
    "reserve": Write(
        "reserve_sign_in_mail",
        lambda storage: storage.reserve_sign_in_mail(f"code of {CAROL}", b"newer token", NOW),
        once=False,  # a mail may have been sent
    ),
    "forget": Write("forget_mail_token", lambda storage: storage.forget_mail_token(b"mail token")),
    "mistype": Write("count_wrong_code", lambda storage: storage.count_wrong_code(b"mail token"), once=False),
    "approve": Write(
        "approve_sign_in", lambda storage: storage.approve_sign_in(f"code of {CAROL}", claim(CAROL), NOW + 1)
    ),
    "deny": Write("deny_sign_in", lambda storage: storage.deny_sign_in(f"code of {CAROL}", "not mine")),
    "poll": Write(
        "poll_sign_in",
        lambda storage: storage.poll_sign_in(f"code of {CAROL}".encode(), NOW),
        once=False,  # two polls at one moment: the interval grows
    ),
    "collect": Write("poll_sign_in", lambda storage: storage.poll_sign_in(f"code of {ALICE}".encode(), NOW)),
    "authorize": Write("authorize", lambda storage: storage.authorize(author(ALICE, nonce="authorize"))),
    "announce": Write(
        "announce",
        lambda storage: storage.announce(author(ALICE, nonce="announce"), seq=2, expires=NOW + HOUR, box=b"second"),
    ),
    "withdraw presence": Write(
        "announce", lambda storage: storage.announce(author(ALICE, nonce="hide"), seq=2, expires=NOW, box=None)
    ),
    "post": Write(
        "post_invitation",
        lambda storage: storage.post_invitation(author(BOB, nonce="post"), invitation(BOB, ALICE, "t4"), NOW),
    ),
    "answer": Write("answer_invitation", _answer),
    "withdraw": Write(
        "withdraw_invitation",
        lambda storage: storage.withdraw_invitation(author(ALICE, nonce="withdraw"), "t2", NOW),
    ),
    "note a mail": Write(
        "note_invitation_mail", lambda storage: storage.note_invitation_mail("t1", NOW, mailed=True), once=False
    ),
    "note a fetch": Write("note_fetched", lambda storage: storage.note_fetched(caller(BOB), ["t1"], NOW)),
    "count a mail": Write(
        "reserve_invitation_mail",
        lambda storage: storage.reserve_invitation_mail(inviter=ALICE, invitee=BOB, now=NOW),
        once=False,  # a mail may have been sent
    ),
    "remove": Write("remove_account", lambda storage: storage.remove_account(ALICE)),
    "release": Write("release_address", lambda storage: storage.release_address(ALICE, NOW)),
    "purge": Write("purge", lambda storage: storage.purge(NOW + 2 * DAY)),
}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm_postgresql(moment: Moment) -> None:
    commit = psycopg.Connection.commit

    def killed(using: psycopg.Connection[Any]) -> None:
        if using.read_only:  # a look before the write
            commit(using)
            return
        if moment == "commit sent":
            using.pgconn.send_query(b"COMMIT")
            while using.pgconn.flush():
                pass
        elif moment == "after commit":
            commit(using)
        _die()

    mock.patch.object(psycopg.Connection, "commit", killed).start()


class _Armed(sqlite_database.FileConnection):
    moment: Moment | None = None

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        armed = self.moment is not None and statement == "COMMIT"
        if armed and self.moment == "before commit":
            _die()
        done = super().execute(statement, *values)
        if armed:
            _die()
        return done


async def main(where: str, write: str, moment: Moment) -> None:
    mock.patch.object(sqlite_database, "FileConnection", _Armed).start()
    url = where if where.startswith("postgresql:") else ""
    async with open_storage(url, Path(where)) as storage:
        if url:
            _arm_postgresql(moment)
        else:
            _Armed.moment = moment
        await WRITES[write].run(storage)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
