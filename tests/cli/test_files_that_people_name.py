"""Files that a person names or writes: pipes, devices, endless and broken ones. Nothing hangs, all is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from peer.machine import plain_file, settings
from peer.machine.plain_file import read_plain
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import DispatchError, Invalid, NotFound, TooLarge
from tests.cli.conftest import Cli


def _pipe_behind_a_link(path: Path) -> None:
    os.mkfifo(f"{path}.real")
    path.symlink_to(f"{path.name}.real")


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe behind a link": _pipe_behind_a_link,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "command", [("verify-receipt", "FILE"), ("send", "bob@example.org", "hi", "--background", "@FILE")]
)
def test_what_is_no_plain_file_is_refused(cli: Cli, tmp_path: Path, odd: str, command: tuple[str, ...]) -> None:
    """Seen to hang on a pipe. Each case was seen to fail: pipes without O_NONBLOCK, those and folders without the look
    at the kind, a device without that and the limit, and what cannot be opened (the terminal where there is none)
    without its error."""
    named = tmp_path / "named"
    ODD[odd](named)
    cli.configure(email="alice@example.org", broker="https://broker.example", token="x")
    outcome = cli(*(word.replace("FILE", str(named)) for word in command))
    assert outcome.code in (1, 2) and "fix: " in outcome.err and str(named) in outcome.err, outcome.err
    assert "bug in dispatch" not in outcome.err


def test_names_that_no_file_can_have_and_files_that_are_too_large(tmp_path: Path) -> None:
    """Seen to fail without the ValueError of open(2), and without the limit."""
    for name in ("a\0b", "\ud800"):
        with pytest.raises((Invalid, NotFound)):
            read_plain(tmp_path / name, limit=9)
    (tmp_path / "large").write_bytes(bytes(10))
    assert read_plain(tmp_path / "large", limit=10) == bytes(10)
    with pytest.raises(TooLarge, match="more than 9 bytes"):
        read_plain(tmp_path / "large", limit=9)
    assert plain_file.open_plain(tmp_path / "large").close() is None


BROKEN = {
    "nul": b"\0",
    "nul in a value": b'{"roots": ["/a\\u0000b"]}',
    "nul in a script": b'{"script": "a\\u0000"}',
    "deep": b"[" * 200_000,
    "deep object": b'{"model": ' * 50_000,
    "surrogate": b'{"roots": ["\\ud800"]}',
    "surrogate in a name": b'{"device_name": "\\ud800"}',
    "surrogate in an address": b'{"broker": "https://\\ud800"}',
    "not UTF-8": b'{"email": "\xff"}',
    "UTF-16": '{"port": 1}'.encode("utf-16"),
    "infinite": b'{"port": 1e400}',
    "huge": b'{"port": 99999999999999999999999}',
    "large": b"{}" + b" " * (1 << 20),
    "another type": b'{"port": "8800"}',
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("command", [("whoami",), ("config", "set", "port", "1"), ("inbox",)])
def test_a_broken_config_is_called_that(cli: Cli, broken: str, command: tuple[str, ...]) -> None:
    """Seen as "a bug in dispatch" for what is nested deeply and for a lone surrogate. Each case was seen to fail: what
    is no JSON without its error (the deep ones also without RecursionError), the three of allowed types but wrong
    values without that check, another type without the error of the conversion, the large one without the bound."""
    cli.folder.write_private(cli.folder.config, BROKEN[broken])
    outcome = cli(*command, "--json")
    said = outcome.out + outcome.err
    assert outcome.code == 2, said[-500:]
    assert any(word in said for word in ("config.json", "has control characters", "port can't be")), said[-500:]
    assert "bug in dispatch" not in said
    assert cli.folder.config.read_bytes() == BROKEN[broken]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_config_is_a_person_s_error(tmp_path: Path, broken: str) -> None:
    """Each case was seen to fail as above."""
    folder = StateFolder(tmp_path / "state")
    folder.write_private(folder.config, BROKEN[broken])
    with pytest.raises(DispatchError) as caught:
        settings.resolve(folder, env={})
    assert caught.value.code == 422 and caught.value.fix
