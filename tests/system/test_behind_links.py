"""A home, a state folder and projects that are reached by symbolic links, as on systems where /home itself is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.world import ALL_TOOLS, Person, World, connect


@pytest.fixture
def linda(world: World) -> Iterator[Person]:
    """Somebody whose home is behind one link, and whose state folder is a link itself."""
    real = world.folder / "var/home"
    real.mkdir(parents=True)
    (world.folder / "linked").symlink_to(real)
    person = Person("linda", world.folder / "linked/linda", world.broker, state=world.folder / "linked/linda/state")
    elsewhere = world.folder / "disk"
    elsewhere.mkdir(mode=0o700)
    (real / "linda/state").symlink_to(elsewhere)
    world.people.append(person)
    person.sign_in()
    person.start()
    yield person


@pytest.mark.long
def test_a_run_works_behind_links_and_everything_is_compared_resolved(world: World, linda: Person) -> None:
    nora = world.person("nora")
    project = linda.projects / "shop"
    project.mkdir()
    real = project.resolve()
    assert real != project
    connect(nora, linda, tools=ALL_TOOLS, approval="auto", paths=[str(project)])
    assert linda.client.trust(nora.email)["scopes"]["paths"] == [str(real)]
    for refused, why in ((linda.state.path, "state folder"), (linda.home, "home folder"), (linda.home / "..", "`..`")):
        error = linda.refused("trust", "edit", nora.email, "--paths", str(refused))
        assert error["code"] == 422 and why in error["message"], error
    # The index knows the project by its real folder, though the root is named by the link.
    linda.cli("config", "set", "roots", str(linda.projects))
    (project / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    linda.will({"tool": "Bash", "input": {"command": "cat pyproject.toml && echo made > made.txt"}})
    for cwd in (str(project), None):
        dispatch_id = str(nora.client.send(linda.email, "Look at shop")["dispatch_id"])
        nora.state_of(dispatch_id, "pending")
        if cwd is None:
            linda.restart()
        suggested = linda.client.dispatch(dispatch_id)["suggestion"]
        assert suggested["cwd"] in (None, str(real)), suggested
        accepted = linda.client.accept(dispatch_id, cwd=cwd)
        assert accepted["cwd"] == str(real), accepted
        document = linda.state_of(dispatch_id, "completed", "failed")
        assert document["status"] == "completed", document
        (result,) = [event for event in linda.client.dispatch(dispatch_id)["events"] if event["kind"] == "tool_result"]
        assert result["ok"] and 'name = "shop"' in result["output"]
        assert not (real / "made.txt").exists(), "what a run makes stays in its view"
    linda.crash()
    assert linda.cli("trust", "revoke", nora.email, "--json").json["status"] == "revoked"
