"""Locales without UTF-8: files and texts are named in UTF-8 all the same, and what a terminal lacks is escaped.

Seen before: the daemon failed at the name of such a folder, or asked for `BÃ¼cher`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import HANG, more
from tests.surroundings.story import TASK, somebody, tell
from tests.system.world import Person, World, connect

STRICT = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""ASCII. Without the last two Python takes UTF-8 in this locale."""


def printed(person: Person, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        input=stdin,
        capture_output=True,
        env=person.environment | dict(environment or {}),
        cwd=person.home,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def latin_1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A locale as western Europe had it, made for the tests: machines rarely have one today."""
    folder = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / "de_DE.ISO-8859-1")]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("localedef, or what it makes locales of, is missing (Debian: locales)")
    return {"LC_ALL": "de_DE.ISO-8859-1", "LOCPATH": str(folder)}


@pytest.mark.long
@pytest.mark.parametrize("locale", ["latin-1", *more("strict")])
def test_files_and_texts_are_utf_8_in_any_locale(
    alice: Person, world: World, tmp_path: Path, latin_1: dict[str, str], locale: str
) -> None:
    environment = latin_1 if locale == "latin-1" else STRICT
    bob = somebody(world, f"locale-{locale}", tmp_path / "Bücher ✓", environment=environment)
    bob.launch(as_usual=True)
    bob.ready()
    tell(alice, bob, tmp_path / "back")
    connect(bob, alice)
    note = bob.home / "Grüße ✓.txt"
    note.write_text("x")
    printed(bob, "send", alice.email, TASK, "--file", str(note))
    printed(bob, "send", alice.email, "-", stdin=TASK.encode())
    for row in bob.client.dispatches("sent")["dispatches"]:
        assert row["task"] == TASK
    # What the terminal lacks is escaped, and the rest is in its encoding.
    shown = "Prüfe die Grüße".encode("latin-1") if locale == "latin-1" else rb"Pr\xfcfe die Gr\xfc\xdfe"
    assert shown + rb" \u2713" in printed(bob, "sent")


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C"}, *more({"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "no_SUCH.locale"})],
    ids=lambda each: "-".join(each.values()),
)
def test_a_command_takes_and_names_utf_8(alice: Person, tmp_path: Path, environment: dict[str, str]) -> None:
    state = tmp_path / "Zuhause ✓"
    environment = {**environment, "DISPATCH_HOME": str(state)}
    (tmp_path / "Bücher ✓").mkdir()
    printed(alice, "config", "set", "roots", str(tmp_path / "Bücher ✓"), environment=environment)
    assert state.is_dir()
    assert rb"B\u00fccher \u2713" in printed(alice, "config", "get", "roots", "--json", environment=environment)
