"""What will not work in a folder is said before the accept, by the daemon, on the command line."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.system.world import Person


def test_a_person_is_told_before_the_accept(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    project = bob.projects / "worktree"
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".git").write_text("gitdir: ../main/.git/worktrees/worktree\n")
    (project / ".venv/bin/tests").write_text(f"#!{project}-2/.venv/bin/python\n")
    (project / ".venv/bin/tests").chmod(0o755)
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will({"say": "done"})
    dispatch_id = str(alice.client.send(bob.email, "Look")["dispatch_id"])
    alice.state_of(dispatch_id, "pending")
    looked = bob.client.folder(dispatch_id, str(project))
    assert looked["cwd"] == str(project) and len(looked["obstacles"]) == 2
    assert bob.client.dispatch(dispatch_id)["status"] == "pending"
    (python,) = looked["toolchains"]
    assert looked["runs"] == f"runs in ~/code/worktree, sees {python}; {alice.email} gets the result"
    runs = f"runs in an empty workspace; {alice.email} gets the result"
    expected: dict[str, object] = {"cwd": None, "obstacles": [], "toolchains": [], "link": None, "runs": runs}
    assert bob.client.folder(dispatch_id, "") == expected
    suggestion = bob.client.dispatch(dispatch_id)["suggestion"]
    assert (suggestion["runs"], suggestion["runs_in"][""]) == (runs, runs)
    accepted = bob.cli("accept", dispatch_id, "--cwd", str(project), "--no-follow", "--json")
    assert "git will not work" in accepted.errors and ".venv/bin/tests will not start" in accepted.errors
    assert (accepted.json["cwd"], accepted.json["runs"]) == (str(project), looked["runs"])
    assert bob.state_of(dispatch_id, "completed", "failed")["status"] == "completed"


@pytest.mark.root
def test_what_a_copy_leaves_out_is_said_before_the_accept(pair: tuple[Person, Person]) -> None:
    """Another file system inside: then the view is a copy, without pipes. Who may only read sees the folder itself."""
    alice, bob = pair
    project = bob.projects / f"mounted-{os.urandom(4).hex()}"
    (project / "inner").mkdir(parents=True)
    os.mkfifo(project / "pipe")
    dispatch_id = str(alice.client.send(bob.email, "Look")["dispatch_id"])
    alice.state_of(dispatch_id, "pending")
    assert bob.client.folder(dispatch_id, str(project))["obstacles"] == []
    mount = ["mount", "-t", "tmpfs", "none", str(project / "inner")]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (sentence,) = bob.client.folder(dispatch_id, str(project))["obstacles"]
        assert sentence == (
            "not all of the folder is there, because it is copied (another file system is mounted inside): "
            "pipe (neither a file, a folder nor a link)"
        )
        bob.client.edit_trust(alice.email, {"tools": "Read"}, confirm_unverified=True)
        assert bob.client.folder(dispatch_id, str(project))["obstacles"] == []
    finally:
        subprocess.run(["umount", project / "inner"], check=True)
