"""What leaves a machine when a run ends, with real processes: the diff, masked secrets, a redacted edge, a receipt."""

from __future__ import annotations

import json
from pathlib import Path

from tests.system.world import Document, Person

Pair = tuple[Person, Person]
TOKEN = "ghp_" + "a1B2" * 9
MODEL_KEY = "a-key-of-no-known-form"


def ran(alice: Person, bob: Person, task: str, *steps: Document, folder: str) -> str:
    """Send a task, have Bob accept it in a project of his, wait for its end; return its id."""
    bob.will(*steps)
    (bob.projects / folder).mkdir(exist_ok=True)
    dispatch_id = str(alice.client.send(bob.email, task)["dispatch_id"])
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id, cwd=str(bob.projects / folder))
    alice.state_of(dispatch_id, "completed", "failed")
    return dispatch_id


def fetched(alice: Person, dispatch_id: str, folder: Path) -> dict[str, str]:
    alice.cli("fetch", dispatch_id, "--to", str(folder))
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_secrets_are_masked_in_all_that_leaves_and_the_person_is_told(pair: Pair, tmp_path: Path) -> None:
    alice, bob = pair
    bob.configure(model={"api_key": MODEL_KEY})
    bob.restart()
    bob.client.edit_trust(alice.email, {"approval": "auto", "budget": {"turns": 50}})
    project = bob.projects / "leaky"
    project.mkdir(exist_ok=True)
    (project / "env").write_text(f"GITHUB={TOKEN}\n")
    dispatch_id = ran(
        alice,
        bob,
        "Look",
        {"tool": "Bash", "input": {"command": f"cat env; echo {MODEL_KEY} > new.txt"}},
        {"tool": "Write", "input": {"file_path": "/dispatch/out/copy.txt", "content": f"it is {TOKEN}.\n"}},
        {"tool": "Bash", "input": {"command": f"printf '\\377{TOKEN}\\n' > /dispatch/out/binary"}},
        {"say": f"The token is {TOKEN}, the key {MODEL_KEY}."},
        folder="leaky",
    )
    shown = alice.client.dispatch(dispatch_id)
    receipt = alice.cli("receipt", dispatch_id, "--out", str(tmp_path / "x.receipt"))
    files = fetched(alice, dispatch_id, tmp_path / "back")
    for held in (json.dumps(shown), json.dumps(files), (tmp_path / "x.receipt").read_bytes().decode("latin-1")):
        assert TOKEN not in held and MODEL_KEY not in held
    assert shown["result"]["reply"] == "The token is [masked: GitHub token], the key [masked: key of this machine]."
    assert files == {
        "copy.txt": "it is [masked: GitHub token].\n",
        "changes.diff": files["changes.diff"],
    }
    assert files["changes.diff"].endswith("+++ b/leaky/new.txt\n@@ -0,0 +1 @@\n+[masked: key of this machine]\n")
    assert "binary" in shown["result"]["reason"] and "secret" in shown["result"]["reason"]
    assert not [event for event in shown["events"] if event.get("status") == "secrets_masked"]

    own = bob.client.dispatch(dispatch_id)
    told = " ".join(event["detail"] for event in own["events"] if event.get("status") == "secrets_masked")
    assert "GitHub token" in told and "key of this machine" in told and TOKEN not in told
    outputs = [event["output"] for event in own["events"] if event["kind"] == "tool_result"]
    assert outputs[0] == f"GITHUB={TOKEN}\n", "this machine's own trace is whole"

    # Anybody checks the receipt, with nothing but the file.
    assert "signed statements" in receipt
    nobody = Person("nobody", tmp_path / "nobody", alice.broker)
    root = bob.client.whoami()["fingerprint"]
    proven = nobody.cli("verify-receipt", str(tmp_path / "x.receipt"), "--root", root, "--json").json
    assert (proven["recipient"]["root"], proven["sender"]["root"]) == ("matches", "not checked")
    assert {file["name"] for file in proven["returned"]} == set(files)


def test_a_redacted_edge_tells_sizes_and_outcomes_only(pair: Pair) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"results": "redacted", "approval": "auto"})
    dispatch_id = ran(
        alice,
        bob,
        "Look again",
        {"say": "I think of a walrus."},
        {"tool": "Bash", "input": {"command": "echo walrus | tee walrus.txt; mkdir -p walrus/.vscode"}},
        {"tool": "Bash", "input": {"command": "ln -s walrus /dispatch/out/walrus"}},
        {"say": "Done."},
        folder="quiet",
    )
    assert list((bob.projects / "quiet").iterdir()) == []
    shown = alice.client.dispatch(dispatch_id)
    assert shown["result"]["reply"] == "Done." and shown["result"]["files"] == []
    assert "walrus" not in json.dumps(shown)
    kinds = [event["kind"] for event in shown["events"]]
    assert kinds == [event["kind"] for event in bob.client.dispatch(dispatch_id)["events"]]


def test_a_budget_of_the_edge_ends_a_run_and_says_so(pair: Pair) -> None:
    alice, bob = pair
    bob.cli("trust", "edit", alice.email, "--turns", "1", "--output-mb", "2", "--approval", "auto")
    assert bob.client.trust(alice.email)["budgets"]["turns"] == 1
    dispatch_id = ran(alice, bob, "Twice", *[{"tool": "Bash", "input": {"command": "true"}}] * 2, folder="short")
    result = alice.client.dispatch(dispatch_id)["result"]
    told = f"{bob.email}'s machine says: “the run's budget of 1 turns is used up: 1 were used”"
    assert (result["status"], result["reason"]) == ("failed", told)
