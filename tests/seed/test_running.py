"""Where an accepted task runs and within which bounds: the recipient's folder, the edge's folders, the sandbox."""

from __future__ import annotations

import pytest

from tests.seed.conftest import Host, People, Scene, bash
from tests.system.world import Document


def outputs(people: People, dispatch_id: str) -> list[Document]:
    return [event for event in people.bob.client.dispatch(dispatch_id)["events"] if event["kind"] == "tool_result"]


def ran(people: People, *steps: Document, cwd: str | None = None, task: str = "Look", **scope: object) -> str:
    """Have the steps run on an auto edge; return the id."""
    people.bob.client.edit_trust(people.alice.email, {"approval": "auto", **scope})
    dispatch_id = people.sent(task, *steps)
    people.bob.client.accept(dispatch_id, cwd=cwd)
    ended = people.alice.state_of(dispatch_id, "completed", "failed")
    assert ended["status"] == "completed", people.bob.client.dispatch(dispatch_id)
    return dispatch_id


@pytest.fixture(scope="module")
def shop(_people: People) -> str:
    """Bob's project `shop`, which his settings know."""
    folder = _people.bob.projects / "shop"
    folder.mkdir(exist_ok=True)
    (folder / "till.py").write_text("total = 1\n")
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1"\n')
    _people.bob.cli("config", "set", "roots", str(_people.bob.projects))
    return str(folder)


def test_without_a_match_it_runs_in_an_empty_workspace(people: People) -> None:
    dispatch_id = ran(people, bash("pwd; ls"), task="zxqv")
    (output,) = outputs(people, dispatch_id)
    assert output["ok"] and "till.py" not in output["output"]


def test_a_project_that_the_task_names_is_suggested_to_the_recipient_alone(people: People, shop: str) -> None:
    dispatch_id = people.sent("Why does the till of shop fail?", project="shop")
    suggestion = people.bob.client.dispatch(dispatch_id)["suggestion"]
    assert suggestion["cwd"] == shop and suggestion["reason"]
    assert shop not in str(people.alice.client.dispatch(dispatch_id))


def test_a_suggestion_outside_the_edges_folders_needs_the_persons_word(people: People, shop: str) -> None:
    dispatch_id = people.sent("Why does the till of shop fail?", project="shop")
    said = people.bob.cli("accept", dispatch_id)
    assert "not run in ~/code/shop" in said.errors and "--cwd" in said.errors
    people.alice.state_of(dispatch_id, "completed")
    assert people.bob.client.dispatch(dispatch_id)["cwd"] is None


def test_inside_the_edges_folders_the_project_is_found_by_itself(people: People, shop: str) -> None:
    people.bob.client.edit_trust(people.alice.email, {"paths": shop})
    dispatch_id = people.sent("Why does the till of shop fail?", project="shop")
    assert people.bob.cli("accept", dispatch_id, "--json").json["cwd"] == shop
    people.alice.state_of(dispatch_id, "completed")


@pytest.mark.long
def test_cwd_overrides_it(people: People, shop: str) -> None:
    dispatch_id = people.sent("zxqv", bash("cat till.py"))
    people.bob.client.edit_trust(people.alice.email, {"approval": "auto"})
    document = people.bob.cli("accept", dispatch_id, "--cwd", shop, "--json").json
    assert document["cwd"] == shop
    people.alice.state_of(dispatch_id, "completed")
    assert "total = 1" in outputs(people, dispatch_id)[0]["output"]


def test_cwd_outside_the_edges_folders_is_a_403(people: People, shop: str) -> None:
    people.bob.client.edit_trust(people.alice.email, {"paths": shop})
    other = people.bob.projects / "other"
    other.mkdir(exist_ok=True)
    dispatch_id = people.sent("zxqv")
    assert people.bob.refused("accept", dispatch_id, "--cwd", str(other))["code"] == 403


def test_the_run_sees_neither_the_home_nor_the_state_folder(people: People) -> None:
    (people.bob.home / "secret").write_text("top secret")
    for path in (people.bob.home / "secret", people.bob.state.config, people.bob.state.local_token):
        dispatch_id = ran(people, bash(f"cat {path}"))
        (output,) = outputs(people, dispatch_id)
        assert not output["ok"] or "No such file" in output["output"]


def test_the_run_has_no_network(people: People) -> None:
    url = people.world.broker.url.removeprefix("http://").replace(":", "/")
    dispatch_id = ran(people, bash(f"echo > /dev/tcp/{url} && echo reached"))
    assert "reached" not in str(outputs(people, dispatch_id)[0]["output"]).splitlines()


def test_the_run_gets_nothing_of_the_environment(people: People) -> None:
    dispatch_id = ran(people, bash("env"))
    said = str(outputs(people, dispatch_id)[0]["output"])
    assert "DISPATCH_HOME" not in said and str(people.bob.home) not in said


def test_a_run_cannot_dispatch_onward(people: People) -> None:
    dispatch_id = ran(people, bash("dispatch send eve@example.org x || python3 -m cli.main inbox"))
    assert not outputs(people, dispatch_id)[0]["ok"] or "error" in outputs(people, dispatch_id)[0]["output"]
    assert people.bob.client.dispatches("sent")["dispatches"] == []


def test_no_tool_of_dispatch_can_be_granted(people: People) -> None:
    tools = "Read,mcp__dispatch__dispatch_send"
    assert people.bob.refused("trust", "edit", people.alice.email, "--tools", tools)["code"] in (403, 422)


def test_the_sandbox_was_proven_for_the_run(done: Scene) -> None:
    sandbox = done.mine["result"]["sandbox"]
    assert sandbox["tier"] == "full" and sandbox["canaries"]["failed"] == []


def test_the_result_names_the_scope_it_ran_under(done: Scene) -> None:
    assert "Bash" in done.mine["result"]["scope"]["tools"]


def test_only_what_the_run_wrote_to_be_returned_goes_back(people: People) -> None:
    dispatch_id = ran(people, bash("echo keep > /dispatch/out/a.txt"))
    assert [file["name"] for file in people.alice.client.dispatch(dispatch_id)["result"]["files"]] == ["a.txt"]


def test_the_session_sees_the_suggestion_before_it_accepts(people: People, bob_host: Host, shop: str) -> None:
    dispatch_id = people.sent("Why does the till of shop fail?", project="shop")
    document = bob_host.ok("dispatch_read", what="status", dispatch_id=dispatch_id)
    assert document["suggestion"]["cwd"] == shop
