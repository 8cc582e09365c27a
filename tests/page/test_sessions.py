"""One-time codes and the sessions they open: spent once, bounded, ended in time, kept as digests only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peer.api.page.sessions import CODE_SECONDS, MAX_CODES, MAX_SESSIONS, SESSION_SECONDS, Sessions
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Unauthorized


class Clock:
    now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


def sessions(folder: StateFolder, clock: Clock) -> Sessions:
    return Sessions(lambda: folder, clock)


def test_a_code_signs_in_once(folder: StateFolder, clock: Clock) -> None:
    mine = sessions(folder, clock)
    code = mine.new_code()
    opened = mine.sign_in(code)
    assert mine.find(opened.cookie, opened.key) is not None
    for wrong in (code, "", "x" * 43, "é", "\ud800"):
        with pytest.raises(Unauthorized, match="used already"):
            mine.sign_in(wrong)


def test_a_code_is_short_lived_and_the_oldest_of_many_stops_working(folder: StateFolder, clock: Clock) -> None:
    mine = sessions(folder, clock)
    late = mine.new_code()
    clock.now += CODE_SECONDS * 1000 + 1
    with pytest.raises(Unauthorized):
        mine.sign_in(late)
    codes = [mine.new_code() for _ in range(MAX_CODES + 1)]
    with pytest.raises(Unauthorized):
        mine.sign_in(codes[0])
    clock.now += CODE_SECONDS * 1000
    mine.sign_in(codes[1])


def test_both_secrets_are_needed_and_of_one_session(folder: StateFolder, clock: Clock) -> None:
    mine = sessions(folder, clock)
    one, other = mine.sign_in(mine.new_code()), mine.sign_in(mine.new_code())
    assert mine.find(one.cookie, one.key) != mine.find(other.cookie, other.key)
    for cookie, key in [(one.cookie, other.key), (one.key, one.cookie), (one.cookie, ""), ("", one.key), ("", "")]:
        assert mine.find(cookie, key) is None


def test_a_session_ends_in_time_and_when_told(folder: StateFolder, clock: Clock) -> None:
    mine = sessions(folder, clock)
    opened = mine.sign_in(mine.new_code())
    session = mine.find(opened.cookie, opened.key)
    assert session is not None and mine.holds(session)
    clock.now += SESSION_SECONDS * 1000
    assert mine.holds(session)
    clock.now += 1
    assert mine.find(opened.cookie, opened.key) is None and not mine.holds(session)

    again = mine.sign_in(mine.new_code())
    ended = mine.find(again.cookie, again.key)
    assert ended is not None
    mine.end(ended)
    assert not mine.holds(ended) and mine.find(again.cookie, again.key) is None
    assert sessions(folder, clock).find(again.cookie, again.key) is None, "not after a restart either"


def test_one_more_browser_ends_the_oldest_session(folder: StateFolder, clock: Clock) -> None:
    mine = sessions(folder, clock)
    opened = [mine.sign_in(mine.new_code()) for _ in range(MAX_SESSIONS + 1)]
    assert mine.find(opened[0].cookie, opened[0].key) is None
    assert all(mine.find(each.cookie, each.key) for each in opened[1:])


def test_sessions_outlive_the_daemon_as_digests_that_only_their_owner_reads(folder: StateFolder, clock: Clock) -> None:
    mine = sessions(folder, clock)
    code = mine.new_code()
    opened = mine.sign_in(code)
    kept = folder.page_sessions.read_text()
    assert opened.cookie not in kept and opened.key not in kept and code not in kept
    assert folder.page_sessions.stat().st_mode & 0o777 == 0o600
    assert sessions(folder, clock).find(opened.cookie, opened.key) is not None
    with pytest.raises(Unauthorized):
        sessions(folder, clock).sign_in(mine.new_code())  # a code ends with the daemon that gave it


@pytest.mark.parametrize("broken", ["readable", "nonsense", "far off", "link"])
def test_a_file_that_is_not_to_be_trusted_opens_nothing(folder: StateFolder, clock: Clock, broken: str) -> None:
    mine = sessions(folder, clock)
    opened = mine.sign_in(mine.new_code())
    path = folder.page_sessions
    document = json.loads(path.read_bytes())
    if broken == "readable":
        path.chmod(0o644)
    elif broken == "nonsense":
        folder.write_private(path, b'{"sessions": [1]}')
    elif broken == "far off":
        document["sessions"][0]["expires"] += 1
        folder.write_private(path, json.dumps(document).encode())
    else:
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    assert sessions(folder, clock).find(opened.cookie, opened.key) is None
