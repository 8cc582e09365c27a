"""The same story on every machine: invited, a task that reads, runs a shell and returns a file, fetched and applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.system.world import Person, World, connect, eventually

TASK = "Prüfe die Grüße ✓"
STEPS = (
    {"tool": "Read", "input": {"file_path": "a.txt"}},
    {"tool": "Bash", "input": {"command": "echo two >> a.txt; mkdir new; echo three > new/b.txt"}},
    {"tool": "Write", "input": {"file_path": "/dispatch/out/answer.txt", "content": "grün\n"}},
    {"say": "done ✓"},
)


def somebody(
    world: World, name: str, home: Path, *, state: Path | None = None, environment: Mapping[str, str] | None = None
) -> Person:
    """Somebody in the world, signed in, whose daemon is not started yet."""
    person = Person(name, home, world.broker, state=state)
    world.people.append(person)
    person.environment |= environment or {}
    person.sign_in()
    return person


def tell(alice: Person, bob: Person, back: Path, *, meanwhile: Callable[[str], object] = lambda _: None) -> Path:
    """Alice may dispatch to Bob, and does: see that all of it comes about. Return Bob's project.

    `back`: where Alice puts what came back. `meanwhile(dispatch id)` is called once the run waits for Bob's answer
    to its first call; Bob answers it then.
    """
    connect(alice, bob)
    project = bob.projects / "shop"
    project.mkdir()
    (project / "a.txt").write_text("one\n")
    bob.will(*STEPS)
    dispatch_id = str(alice.client.send(bob.email, TASK)["dispatch_id"])
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id, cwd=str(project))
    call = bob.approval_of(dispatch_id)
    meanwhile(dispatch_id)
    assert [each["request_id"] for each in bob.client.approvals()] == [call["request_id"]]
    for following in (True, True, False):
        bob.client.approve(dispatch_id, call["request_id"])
        if following:
            call = bob.approval_of(dispatch_id)
    told = alice.state_of(dispatch_id, "completed", "failed", "declined", "expired")
    assert told["status"] == "completed", (told, bob.client.dispatch(dispatch_id)["events"])
    shown = alice.client.dispatch(dispatch_id)
    assert (shown["task"], shown["result"]["reply"]) == (TASK, "done ✓")
    eventually(lambda: alice.client.dispatch(dispatch_id)["result"]["files"][0]["ready"], what="the returned file")
    alice.cli("fetch", dispatch_id, "--to", str(back))
    assert (back / "answer.txt").read_text("utf-8") == "grün\n"
    assert (project / "a.txt").read_text() == "one\n"
    assert bob.cli("apply", dispatch_id, "--all", "--json").json["landed"] == ["a.txt", "new/b.txt"]
    assert (project / "a.txt").read_text() == "one\ntwo\n" and (project / "new/b.txt").read_text() == "three\n"
    return project
