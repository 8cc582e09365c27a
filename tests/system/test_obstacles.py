"""What will not work in a folder is said before the accept, by the daemon, on the command line."""

from __future__ import annotations

from tests.system.world import Person


def test_a_person_is_told_before_the_accept(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    project = bob.projects / "worktree"
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".git").write_text("gitdir: ../main/.git/worktrees/worktree\n")
    (project / ".venv/bin/tests").write_text(f"#!{project}/.venv/bin/python\n")
    (project / ".venv/bin/tests").chmod(0o755)
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will({"say": "done"})
    dispatch_id = str(alice.client.send(bob.email, "Look")["dispatch_id"])
    alice.state_of(dispatch_id, "pending")
    looked = bob.client.folder(dispatch_id, str(project))
    assert looked["cwd"] == str(project) and len(looked["obstacles"]) == 2
    assert bob.client.dispatch(dispatch_id)["status"] == "pending"
    assert bob.client.folder(dispatch_id, "") == {"cwd": None, "obstacles": [], "link": None}
    accepted = bob.cli("accept", dispatch_id, "--cwd", str(project), "--no-follow", "--json")
    assert "git will not work" in accepted.errors and ".venv/bin/tests will not start" in accepted.errors
    assert accepted.json["cwd"] == str(project)
    assert bob.state_of(dispatch_id, "completed", "failed")["status"] == "completed"
