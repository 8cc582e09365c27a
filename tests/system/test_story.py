"""The whole story with real processes: the broker, two daemons, two command lines, one confined run."""

from __future__ import annotations

from pathlib import Path

from tests.system.world import World, connected


def test_from_invitation_to_fetched_result(world: World, tmp_path: Path) -> None:
    carol, dave = world.person("carol"), world.person("dave")
    project = dave.projects / "shop"
    project.mkdir()
    (project / "cart.py").write_text("total = price * count - 1\n")
    dave.will(
        {"say": "Looking at the cart."},
        {"tool": "Read", "input": {"file_path": "cart.py"}},
        {"tool": "Bash", "input": {"command": "rm -rf ."}},
        {"tool": "Write", "input": {"file_path": "/dispatch/out/answer.txt", "content": "off by one\n"}},
        {"say": "It is off by one."},
    )

    # Nobody may dispatch yet: said at once, nothing queued.
    error = carol.refused("send", dave.email, "Find the bug")
    assert error["code"] == 403 and error["fix"] == f"dispatch invite {dave.email}"
    assert carol.cli("sent", "--json").json == {"dispatches": []}

    invited = carol.cli("invite", dave.email, "--json").json
    assert invited["to"] == dave.email and invited["emailed"] is False
    # Without tools: the menu, and nothing happens.
    menu = dave.cli("accept-invitation", invited["link"], "--json", status=2).json
    assert menu["status"] == "scope_choice_required" and menu["inviter"] == carol.email
    assert dave.cli("contacts", "--json").json == {"trust": []}
    granted = dave.cli(
        "accept-invitation",
        "-",
        "--tools",
        "Read,Glob,Grep,Write",
        "--paths",
        str(dave.projects),
        "--json",
        stdin=invited["link"],
    ).json
    assert granted["scopes"]["approval"] == "manual"
    edge = connected(carol, dave)
    assert edge["trust_link_id"] == granted["trust_link_id"] and edge["verified"] is True
    for person, direction in ((carol, "outgoing"), (dave, "incoming")):
        (row,) = person.cli("contacts", "--json").json["trust"]
        assert (row["direction"], row["status"], row["peer_online"]) == (direction, "active", True)
        assert sorted(row["scopes"]["tools"]) == ["Glob", "Grep", "Read", "Write"]

    notes = tmp_path / "notes.txt"
    notes.write_text("customers complain\n")
    sent = carol.cli(
        "send", dave.email, "Find the bug in the cart", "--file", str(notes), "--meta", "ticket=7", "--json"
    ).json
    assert sent["status"] == "queued" and sent["peer_online"] is True
    dispatch_id = sent["dispatch_id"]
    carol.state_of(dispatch_id, "pending")
    (row,) = dave.cli("inbox", "--json").json["dispatches"]
    assert (row["dispatch_id"], row["status"], row["sender_id"]) == (dispatch_id, "pending", carol.email)
    accepted = dave.cli("--json", "accept", dispatch_id[-8:], "--cwd", str(project)).json
    assert accepted["ok"] and accepted["approval"] == "manual" and accepted["cwd"] == str(project)

    call = dave.approval_of(dispatch_id)
    assert call["tool"] == "Read" and call["sender_id"] == carol.email
    assert [row["request_id"] for row in dave.cli("approvals", "--json").json] == [call["request_id"]]
    assert dave.cli("approve", dispatch_id[-8:], call["request_id"], "--json").json["ok"] is True
    # Bash is out of scope: denied without asking anybody; the next question is the write.
    call = dave.approval_of(dispatch_id)
    assert call["tool"] == "Write"
    dave.cli("approve", dispatch_id, call["request_id"])

    carol.state_of(dispatch_id, "completed")
    shown = carol.cli("status", dispatch_id[-8:], "--json").json
    assert shown["result"]["reply"] == "It is off by one."
    assert [item["name"] for item in shown["result"]["files"]] == ["answer.txt"]
    denied = [event for event in shown["events"] if event["kind"] == "approval" and event["outcome"] == "denied"]
    assert [event["by"] for event in denied] == ["scope"]
    kinds = [event["kind"] for event in shown["events"]]
    assert kinds == [event["kind"] for event in dave.client.dispatch(dispatch_id)["events"]]
    carol.cli("fetch", dispatch_id, "--to", str(tmp_path / "back"))
    assert (tmp_path / "back" / "answer.txt").read_text() == "off by one\n"
    # Nothing of the run is left, and what was attached was only ever in its own workspace.
    assert dave.run_folders() == []
    assert sorted(path.name for path in project.iterdir()) == ["cart.py"]
