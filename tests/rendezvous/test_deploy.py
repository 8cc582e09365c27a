"""What the broker and the relay ship for their hosts: system units and a Containerfile. No container is built here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import click
import pytest

from rendezvous.main import main
from rendezvous.relay.main import main as relay
from tests.user_manager import started, until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "rendezvous/deploy"
UNIT = "dispatch-rendezvous.service"
RELAY_UNIT = "dispatch-relay.service"
EXPOSURE = 15
"""Of 100, in the words of `systemd-analyze security`: OK. It is 12 with systemd 252."""
OF_A_SYSTEM = ("DynamicUser", "EnvironmentFile", "Private", "Protect", "ProcSubset", "RemoveIPC", "After", "Wants")
"""Settings for which a user's manager, in the container of a CI, has no means."""


def settings(unit: str = UNIT) -> dict[str, list[str]]:
    """Of a unit, by name; an assignment may be continued on the next line."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / unit).read_text().replace("\\\n", " ").splitlines():
        if line and line[0] not in "#[":
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


def options(words: list[str]) -> None:
    """Every option is one that the program has."""
    serve = main.commands["serve"]
    known = {text for param in serve.params if isinstance(param, click.Option) for text in param.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_unit_starts_our_program_with_options_that_it_has() -> None:
    program, command, *rest = shlex.split(settings()["ExecStart"][0])
    assert (Path(program).name, command) == ("dispatch-rendezvous", "serve")
    options(rest)
    assert rest[rest.index("--host") + 1] == "127.0.0.1"


def test_the_relays_unit_starts_it_with_options_that_it_has() -> None:
    program, command, *rest = shlex.split(settings(RELAY_UNIT)["ExecStart"][0])
    assert (Path(program).name, command) == ("dispatch-relay", "serve")
    known = {text for param in relay.commands["serve"].params if isinstance(param, click.Option) for text in param.opts}
    assert {word for word in rest if word.startswith("--")} <= known
    assert rest[rest.index("--host") + 1] == "127.0.0.1"
    # What it may write to is not there at all.
    assert not {"StateDirectory", "ReadWritePaths"} & settings(RELAY_UNIT).keys()


@pytest.mark.parametrize("unit", [UNIT, RELAY_UNIT])
def test_the_unit_shuts_the_program_in(unit: str) -> None:
    """The first ones of what keeps a broken broker or relay to itself."""
    found = settings(unit)
    on = (
        "DynamicUser",
        "NoNewPrivileges",
        "RestrictNamespaces",
        "MemoryDenyWriteExecute",
        "PrivateUsers",
        "PrivateTmp",
    )
    assert {name: found[name] for name in on} == {name: ["yes"] for name in on}
    assert found["ProtectSystem"] == ["strict"] and found["CapabilityBoundingSet"] == [""]
    assert "Environment" not in found and "PASSWORD" not in str(found)


@pytest.mark.parametrize("unit", [UNIT, RELAY_UNIT])
def test_systemd_finds_it_shut_in(unit: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", DEPLOY / unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.root
def test_the_broker_works_inside_its_walls(tmp_path: Path) -> None:
    """Under a real manager, with those of the settings that one of a user can do: system calls, memory, namespaces.

    By hand it was seen to be killed with `~@privileged @resources` refused: Python reads its limits.
    """
    with started(tmp_path) as session:
        printed = tmp_path / "printed"
        lines = [line for line in (DEPLOY / UNIT).read_text().splitlines() if not line.startswith(OF_A_SYSTEM)]
        text = "\n".join(lines).replace("/opt/dispatch/bin", str(Path(sys.executable).parent))
        text = text.replace("--port 8800", "--port 0").replace("--public-url ${DISPATCH_PUBLIC_URL} ", "")
        text = text.replace("--trusted-proxies 127.0.0.1", "").replace(
            "[Service]", f"[Service]\nStandardOutput=file:{printed}"
        )
        unit = session.home / ".config/systemd/user" / UNIT
        unit.parent.mkdir(parents=True)
        unit.write_text(text)
        assert session.run("systemctl", "--user", "daemon-reload").returncode == 0
        begun = session.run("systemctl", "--user", "start", UNIT)
        assert begun.returncode == 0, begun.stderr
        until(lambda: printed.exists() and "listening on" in printed.read_text(), session)
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", printed.read_text())
        assert found is not None
        with urllib.request.urlopen(f"{found[1]}/health", timeout=60) as response:
            assert json.load(response)["status"] == "ok"
        assert session.run("systemctl", "--user", "stop", UNIT).returncode == 0
        shown = session.run("systemctl", "--user", "show", UNIT, "--property=Result", "--value")
        assert shown.stdout.strip() == "success"


def test_the_containerfile_is_one_whose_parts_exist() -> None:
    """Read by its grammar alone: instructions that there are, stages that are named, paths and options that we have."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    names = [name for name, _ in steps]
    assert set(names) <= {"FROM", "RUN", "COPY", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT"}
    assert names[0] == "FROM" and names.count("ENTRYPOINT") == 1
    stages = {rest.split(" AS ")[1] for name, rest in steps if name == "FROM" and " AS " in rest}
    copied = {match[1] for name, rest in steps if name == "COPY" and (match := re.search(r"--from=(\S+)", rest))}
    assert copied == stages
    last = max(place for place, name in enumerate(names) if name == "FROM")
    assert ["USER", "10001"] in steps[last:] and "gcc" not in str(steps[last:])
    program, command, *rest = json.loads(dict(steps)["ENTRYPOINT"])
    assert (Path(program).name, command) == ("dispatch-rendezvous", "serve")
    options(rest)
    assert (ROOT / "requirements.txt").is_file() and "/src/requirements.txt" in text
