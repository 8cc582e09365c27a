"""`dispatch doctor`: each part is broken for real, and the row of that part, and no other's, says what mends it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.system.conftest import Pair
from tests.system.world import Document, Person, World, connect, eventually

NAMES = {
    "permissions",
    "settings",
    "sign-in",
    "broker",
    "daemon",
    "reachability",
    "agent login",
    "project roots",
    "sandbox",
    "gate",
    "disk",
    "clock",
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="other surroundings for a program need root")


@pytest.fixture(scope="module")
def _patient(world: World, _pair: Pair) -> Iterator[Person]:
    """Somebody who is well: signed in, up, and with a run behind them, so that every file there ever is is there."""
    _pair.restore()
    sender, patient = _pair.alice, world.person("patient")
    connect(sender, patient, approval="auto")
    attachment = sender.home / "a.txt"
    attachment.write_text("words")
    patient.will({"tool": "Write", "input": {"file_path": "/dispatch/out/b.txt", "content": "more"}})
    dispatch_id = sender.client.send(patient.email, "Copy", files=[str(attachment)])["dispatch_id"]
    sender.state_of(dispatch_id, "pending")
    patient.client.accept(dispatch_id)
    sender.state_of(dispatch_id, "completed")
    yield patient
    patient.stop()


@pytest.fixture
def patient(_patient: Person) -> Person:
    if not _patient.up:
        _patient.start()
    return _patient


def examine(person: Person, *arguments: str, inside: Sequence[str] = (), broken: int = 0) -> dict[str, Document]:
    """Run the command; return its rows by name. `broken` is the exit status: 1 when something is."""
    said = person.cli("doctor", "--json", *arguments, status=broken, inside=inside)
    rows = {row["name"]: row for row in said.json["checks"]}
    for row in rows.values():
        more = {"sandbox": {"mechanisms", "kernel"}, "reachability": {"paths"}}.get(row["name"], set())
        assert set(row) - {"proven"} == {"name", "ok", "detail", "fix"} | more and row["detail"]
        # What nothing has proven yet says so, in place of an "ok" that is a guess.
        assert "proven" not in row or (row["name"], row["ok"], row["proven"]) == ("reachability", True, False), row
        assert bool(row["fix"]) is not row["ok"], row
    return rows


def sick(rows: dict[str, Document]) -> set[str]:
    return {name for name, row in rows.items() if not row["ok"]}


def test_all_is_well(patient: Person) -> None:
    rows = examine(patient)
    assert set(rows) == NAMES and not sick(rows)
    assert "seccomp" in rows["sandbox"]["mechanisms"] and os.uname().release == rows["sandbox"]["kernel"]["release"]
    assert "bubblewrap, seccomp" in rows["sandbox"]["detail"] and os.uname().release in rows["sandbox"]["detail"]
    # Seen to fail with "1 addresses".
    assert "listening on 1 address, on this machine only; " in rows["reachability"]["detail"]
    shown = patient.cli("doctor")
    assert shown.count("ok ") == len(NAMES)


def test_how_contacts_are_reached(patient: Person) -> None:
    (path,) = eventually(lambda: examine(patient)["reachability"]["paths"], what="the sender's connection")
    assert path["path"] == "direct" and path["round_trip_ms"] >= 1 and path["path_since"]
    assert f"{path['peer']}: direct, " in patient.cli("doctor")


def test_permissions(patient: Person) -> None:
    paths = (patient.state.root_key, patient.state.blobs)
    modes = [path.stat().st_mode & 0o777 for path in paths]
    for path in paths:
        path.chmod(0o755)
    rows = examine(patient, broken=1)
    assert "permissions" in sick(rows) and "doctor --fix" in rows["permissions"]["fix"]
    assert all(str(path) in rows["permissions"]["detail"] for path in paths)
    assert not sick(examine(patient, "--fix"))
    assert [path.stat().st_mode & 0o777 for path in paths] == modes == [0o600, 0o700]


@pytest.mark.long
def test_settings_and_sign_in(patient: Person) -> None:
    right = patient.state.config.read_bytes()
    try:
        patient.configure(brokers="typo")
        rows = examine(patient, broken=1)
        assert "settings" in sick(rows) and "brokers" in rows["settings"]["detail"]
        patient.state.write_private(patient.state.config, right)
        patient.configure(token="")
        rows = examine(patient, broken=1)
        assert sick(rows) == {"sign-in"} and "dispatch login" in rows["sign-in"]["fix"]
    finally:
        patient.state.write_private(patient.state.config, right)


@pytest.mark.long
def test_agent_login_and_project_roots(patient: Person) -> None:
    right = patient.state.config.read_bytes()
    try:
        patient.configure(runtime="claude", roots=[str(patient.home / "absent")])
        patient.client.reload()
        rows = examine(patient, broken=1)
        assert sick(rows) == {"agent login", "project roots"}
        assert "model.api_key" in rows["agent login"]["fix"] or "claude" in rows["agent login"]["fix"]
        assert (
            str(patient.home / "absent") in rows["project roots"]["detail"] and "roots" in rows["project roots"]["fix"]
        )
    finally:
        patient.state.write_private(patient.state.config, right)
        patient.client.reload()


def test_broker(patient: Person, world: World) -> None:
    world.broker.stop()
    try:
        rows = examine(patient, broken=1)
        assert sick(rows) == {"broker"} and world.broker.url in rows["broker"]["detail"]
    finally:
        world.broker.start()


@pytest.mark.long
def test_daemon_and_sandbox(patient: Person, tmp_path: Path) -> None:
    patient.stop()
    rows = examine(patient, broken=1)
    assert sick(rows) == {"daemon"} and "dispatch-daemon" in rows["daemon"]["fix"]
    assert rows["sandbox"]["ok"] and rows["gate"]["ok"], "both are proven without a daemon too"
    if os.geteuid() == 0:
        # A machine without a working bubblewrap: the same file system, seen otherwise by this command alone.
        other = tmp_path / "bwrap"
        other.write_text("#!/bin/sh\necho 'bwrap: no permission to create a new namespace' >&2; exit 1\n")
        other.chmod(0o755)
        swap = 'mount --bind "$1" /usr/bin/bwrap && shift && exec "$@"'
        rows = examine(patient, broken=1, inside=["unshare", "-m", "sh", "-c", swap, "sh", str(other)])
        assert sick(rows) == {"daemon", "sandbox", "gate"}, rows


@pytest.mark.long
def test_the_gate_is_proven_with_the_real_agent_program(patient: Person) -> None:
    assert patient.cli("whoami", "--json").json["sandbox"]["gate"] == "not needed"
    patient.configure(runtime="claude")
    patient.client.reload()
    try:
        rows = examine(patient, broken=1)
        assert sick(rows) == {"agent login"} and "ANTHROPIC_API_KEY" in rows["agent login"]["fix"]
        assert "every call of the claude program" in rows["gate"]["detail"]
        assert patient.cli("whoami", "--json").json["sandbox"]["gate"] == "proven"
    finally:
        patient.configure(runtime="scripted")
        patient.client.reload()


@pytest.mark.long
@needs_root
def test_reachability(patient: Person) -> None:
    patient.stop()
    # A network of its own, whose only address but loopback then goes away, as when a cable is pulled.
    build = 'ip link set lo up && ip addr add 10.99.0.1/32 dev lo && exec "$@"'
    try:
        patient.launch(
            *("--port", "0", "--listen", "/ip4/10.99.0.1/tcp/0"), inside=["unshare", "-n", "sh", "-c", build, "sh"]
        )
        patient.ready()
        assert patient.program is not None
        enter = ["nsenter", "-t", str(patient.program.pid), "-n"]
        assert "reachability" not in sick(examine(patient, inside=enter, broken=1))
        subprocess.run([*enter, "ip", "addr", "del", "10.99.0.1/32", "dev", "lo"], check=True)
        rows = examine(patient, inside=enter, broken=1)
        assert "reachability" in sick(rows) and "firewall" in rows["reachability"]["fix"]
    finally:
        patient.stop()
