"""Telling a person away from the desk, by a real HTTP server that speaks ntfy's publish, and a real SMTP server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest
import trio

from peer.machine import away_settings, settings
from peer.machine.settings import Settings
from peer.machine.state_folder import StateFolder
from peer.node import away
from peer.node.away import MAX_LINES, MAX_PENDING, AwayNotifier, message
from peer.node.changes import ChangeLog, ChangeSignal, OpenPages
from peer.node.notifications import SUMMARIES, Notification, Notifier
from peer.protocol.errors import Invalid
from tests.conftest import HANG
from tests.rendezvous.world import MailServer

ALICE, BOB = "alice@example.org", "bob@example.org"


class Published(NamedTuple):
    path: str
    body: str
    title: str | None
    authorization: str | None


class Ntfy:
    """What ntfy is to a publisher: a POST to a topic is a message. `answers`: statuses to give first, in turn."""

    def __init__(self) -> None:
        self.taken: list[Published] = []
        self.answers: list[int] = []
        self.came = threading.Semaphore(0)
        ntfy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status = ntfy.answers.pop(0) if ntfy.answers else 200
                if status == 200:
                    named = (self.headers["Title"], self.headers["Authorization"])
                    ntfy.taken.append(Published(self.path, body, *named))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(b"{}")
                ntfy.came.release()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/a-topic"

    async def wait(self, count: int = 1) -> None:
        """Wait for so many requests."""
        for _ in range(count):
            assert await trio.to_thread.run_sync(lambda: self.came.acquire(timeout=HANG)), "nothing came"


@pytest.fixture
def ntfy() -> Iterator[Ntfy]:
    made = Ntfy()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SETTLE_SECONDS", 0.0), ("PAUSE_SECONDS", 0.0), ("RETRIES", (0.0, 0.0, 0.0))):
        monkeypatch.setattr(away, name, value)


def says(told: AwayNotifier, words: str) -> bool:
    return any(words in each.message for each in told.problems)


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(HANG):
        while not holds():
            await trio.sleep(0.01)


async def test_a_topic_is_told_who_and_what_kind(ntfy: Ntfy, nursery: trio.Nursery) -> None:
    """What comes at once is one message; a token goes along."""
    told = AwayNotifier(lambda: Settings(notify_url=ntfy.url, notify_token="tk_secret"))
    for key, what, peer in (("1 a", "arrived", ALICE), ("2 a", "arrived", ALICE), ("3 c", "completed", BOB)):
        told.note(what, peer, key)
    nursery.start_soon(told.run)
    await ntfy.wait()
    body = f"{ALICE}: a task waits for you (×2)\n{BOB}: a result has arrived"
    assert ntfy.taken == [Published("/a-topic", body, "dispatch", "Bearer tk_secret")]
    told.note("asks", "x\ny\u202e@example.org", "4 a")
    await ntfy.wait()
    assert ntfy.taken[1].body == "x␊y<U+202E>@example.org: a call waits for your answer"
    assert told.problems == []


async def test_a_failure_is_tried_again_then_said_once(
    ntfy: Ntfy, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And over with the next that arrives. One warning for all of it, and redirects are not followed."""
    warned: list[dict[str, Any]] = []
    monkeypatch.setattr(away, "log", SimpleNamespace(warning=lambda _event, **more: warned.append(more)))
    at = Settings(notify_url=ntfy.url)
    told = AwayNotifier(lambda: at)
    nursery.start_soon(told.run)
    for answers in ([503, 500, 302], [404]):
        ntfy.answers = list(answers)
        told.note("arrived", ALICE, f"{answers} a")
        await ntfy.wait(len(answers))
        last = f"answered {answers[-1]}"
        await until(partial(says, told, last))
    (problem,) = told.problems
    assert "notify_url" in problem.message and "a-topic" not in problem.message and "dispatch config" in problem.fix
    assert [(each["by"], "302" in each["why"]) for each in warned] == [("notify_url", True)]
    told.note("arrived", BOB, "9 a")
    await ntfy.wait()
    await until(lambda: not told.problems)
    assert [each.body for each in ntfy.taken] == [f"{BOB}: a task waits for you"]
    at = Settings()
    assert told.outlets == [] and told.problems == []


async def test_a_mail_says_the_same(tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer(tmp_path).running() as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
        place = f"{server.USER}@127.0.0.1:{server.port}"
        at = Settings(notify_email="me@example.org", smtp=place, smtp_password=server.PASSWORD)
        told = AwayNotifier(lambda: at)
        await away.mail(at, f"{ALICE}: a call waits for your answer")
        ((recipients, letter),) = server.taken
        assert recipients == ["me@example.org"] == [letter["to"]]
        assert letter["subject"] == f"dispatch: {ALICE}: a call waits for your answer"
        assert letter.get_content().strip() == f"{ALICE}: a call waits for your answer"
        assert letter["auto-submitted"] == "auto-generated"
        at = msgspec.structs.replace(at, smtp_password="another")
        told.note("arrived", ALICE, "1 a")
        nursery.start_soon(told.run)
        await until(lambda: bool(told.problems))
        assert "535" in told.problems[0].message and "another" not in told.problems[0].message
    assert len(server.taken) == 1


async def test_one_place_decides_and_what_is_over_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same occasions as on the desktop, whether that shows them or not."""
    assert away.TEXTS.keys() == SUMMARIES.keys()
    now: list[Notification] = []
    monkeypatch.setattr("peer.node.notifications.notifications_for", lambda *_, since: now)

    async def read(_query: object) -> tuple[object, list[object], list[object]]:
        return object(), [], []

    context: Any = SimpleNamespace(clock=lambda: 0, store=SimpleNamespace(read=read))
    told = AwayNotifier(lambda: Settings(notify_url="https://ntfy.example/t"))
    notifier = Notifier(context=context, changes=ChangeLog("life"), signal=ChangeSignal(), pages=OpenPages(), away=told)
    now[:] = [Notification("arrived", ALICE, "d1 arrived 0"), Notification("asks", ALICE, "d1 asks 1 t")]
    await notifier._look_at("d1", quiet=True)
    assert list(told._pending) == ["d1 arrived 0", "d1 asks 1 t"]
    now[:] = [Notification("asks", ALICE, "d1 asks 1 t")]
    await notifier._look_at("d1", quiet=True)
    assert list(told._pending.values()) == [f"{ALICE}: a call waits for your answer"], "it was accepted meanwhile"
    for number in range(MAX_PENDING + 5):
        told.note("arrived", ALICE, f"d{number} x")
    assert len(told._pending) == MAX_PENDING and told._more == 6


def test_a_message_is_short() -> None:
    many = [f"a{number}@example.org: a task waits for you" for number in range(40)]
    lines = message(many, 3).splitlines()
    assert len(lines) == MAX_LINES + 1 and lines[-1] == f"and {43 - MAX_LINES} more"
    assert message([], 0) == ""


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("https://ntfy.example/topic/", "https://ntfy.example/topic"),
        *((url, url) for url in ("http://127.0.0.1:8080/t", "http://192.168.1.5/t", "http://[fd00::1]/t")),
        *((url, None) for url in ("http://ntfy.example/t", "http://8.8.8.8/t", "https://ntfy.example", "ftp://a/t")),
        *((url, None) for url in ("https://u:p@ntfy.example/t", "https://ntfy.example/t?auth=x", "https://a/b c")),
    ],
)
def test_which_topics_are_taken(text: str, taken: str | None, tmp_path: Path) -> None:
    """Nothing crosses the internet in the clear; and no error repeats the topic, which is as good as a password."""
    folder = StateFolder(tmp_path)
    if taken is None:
        with pytest.raises(Invalid) as caught:
            settings.set_value(Settings(), "notify_url", text)
        assert text not in caught.value.message
    else:
        settings.save(folder, settings.set_value(Settings(), "notify_url", text))
        assert settings.load(folder).notify_url == taken
        assert settings.shown(settings.load(folder))["notify_url"] == settings.MASK


def test_which_mail_servers_are_taken() -> None:
    read = away_settings.smtp_server
    assert read("me@example.org@smtp.example.org") == ("me@example.org", "smtp.example.org", 587)
    assert read("smtp.example.org:465") == ("", "smtp.example.org", 465)
    assert read("me@[::1]:25") == ("me", "::1", 25)
    for wrong in ("", "me@", "a b@host", "host:0", "host:99999", "host:x", "me@ho/st"):
        with pytest.raises(Invalid):
            read(wrong)
