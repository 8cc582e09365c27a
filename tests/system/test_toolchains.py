"""A project's toolchain, from its version manager's folder to a command of a run: told before the accept, seen in the
run, chosen by the edge and the settings. By the daemon, and by the command line.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.world import Person


def outputs(document: dict[str, object]) -> list[str]:
    events = document["events"]
    assert isinstance(events, list)
    return [str(event["output"]) for event in events if event["kind"] == "tool_result"]


@pytest.fixture
def root(pair: tuple[Person, Person]) -> Iterator[Path]:
    """A program that is laid out as a node of nvm: what it does is not what this is about.

    Not in /tmp, of which a run has its own: no home folder lies there.
    """
    _, bob = pair
    with tempfile.TemporaryDirectory(prefix="dispatch-test-", dir="/var/tmp") as folder:
        root = Path(folder).resolve() / "versions/node/v99.1.0"
        (root / "bin").mkdir(parents=True)
        (root / "etc").mkdir()
        (root / "etc/npmrc").write_text("_authToken=hunter2")
        shutil.copy2("/bin/echo", root / "bin/node")
        shutil.copytree(root / "bin", Path(folder) / "tool/bin")
        project = bob.projects / "with-node"
        project.mkdir()
        (project / ".nvmrc").write_text("99\n")
        (project / ".python-version").write_text("3.1.4\n")
        bob.environment["NVM_DIR"] = str(Path(folder).resolve())
        bob.restart()
        yield root
        del bob.environment["NVM_DIR"]
        bob.restart()


def test_a_run_sees_what_its_person_was_told(pair: tuple[Person, Person], root: Path) -> None:
    alice, bob = pair
    project = str(bob.projects / "with-node")
    bob.client.edit_trust(alice.email, {"tools": "Bash", "approval": "auto"}, confirm_unverified=True)
    commands = ("node it runs", f"cat {root}/etc/npmrc", "echo $npm_config_cache")

    def run() -> list[str]:
        bob.will(*({"tool": "Bash", "input": {"command": command}} for command in commands))
        dispatch_id = str(alice.client.send(bob.email, "Look")["dispatch_id"])
        alice.state_of(dispatch_id, "pending")
        looked.append(bob.client.folder(dispatch_id, project))
        accepted = bob.cli("accept", dispatch_id, "--cwd", project, "--no-follow")
        said.append(" ".join(f"{accepted}{accepted.errors}".split()))
        assert bob.state_of(dispatch_id, "completed", "failed")["status"] == "completed"
        return outputs(bob.client.dispatch(dispatch_id))

    looked: list[dict[str, object]] = []
    said: list[str] = []
    found = run()
    assert found[0] == "it runs\n" and "hunter2" not in found[1] and found[2] == "/dispatch/.cache/npm\n"
    labels = looked[0]["toolchains"]
    assert isinstance(labels, list) and "node 99.1.0 (nvm)" in labels
    sentence = "Python 3.1.4, which .python-version asks for, is not installed by any version manager here"
    assert looked[0]["obstacles"] == [sentence] and f"in a run, {sentence}" in said[0]
    assert f", sees {', '.join(labels)};" in said[0]
    changed = bob.cli("trust", "edit", alice.email, "--toolchains", "none", "--json").json
    assert changed["scopes"]["toolchains"] == ["none"]
    assert "it runs" not in run()[0] and looked[1]["toolchains"] == [] and looked[1]["obstacles"] == []
    refused = bob.refused("trust", "edit", alice.email, "--toolchains", f"{bob.home}/.config")
    assert "does not exist" in str(refused["message"])
    tool = root.parents[2] / "tool"
    changed = bob.cli("trust", "edit", alice.email, "--toolchains", str(tool), "--yes-unverified", "--json").json
    assert changed["scopes"]["toolchains"] == [str(tool)]
    assert run()[0] == "it runs\n" and looked[2]["toolchains"] == [str(tool)]
    bob.cli("trust", "edit", alice.email, "--toolchains", "default", "--yes-unverified")
    bob.cli("config", "set", "toolchains", "none")
    assert "it runs" not in run()[0]
    bob.client.edit_trust(alice.email, {"tools": "Read"})
    assert bob.cli("config", "get", "toolchains", "--json").json["value"] == ["none"]
    mine = alice.client.contacts()["trust"][0]["scopes"]
    assert "toolchains" not in mine
