"""The pinned claude program inside the full profile, its model scripted on loopback behind the proxy."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest

from sandbox.confinement import Profile, Root
from sandbox.confinement.bubblewrap import spawn
from sandbox.confinement.places import MODEL_SOCKET, SHELL_LAUNCHER
from sandbox.model_api.proxy import ModelProxy
from tests.conftest import HANG
from tests.sandbox.conftest import Done, Person, finish
from tests.sandbox.fake_model import FakeModel, Turn, call, model_proxy, say, serving

CLAUDE = Path(claude_agent_sdk.__file__).resolve().parent / "_bundled/claude"
INSIDE = Path("/opt/claude")
SETTINGS = {
    "ANTHROPIC_UNIX_SOCKET": str(MODEL_SOCKET),
    "ANTHROPIC_BASE_URL": "http://model.invalid",
    "ANTHROPIC_API_KEY": "sk-ant-placeholder",
    "CLAUDE_CODE_SHELL_PREFIX": str(SHELL_LAUNCHER),
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_MAX_RETRIES": "0",
    "DISABLE_AUTOUPDATER": "1",
}
WORDS = ["-p", "hi", "--output-format", "json", "--dangerously-skip-permissions", "--tools", "Bash,Read,Write"]


async def claude(person: Person, turns: list[Turn], **changes: Any) -> tuple[Done, FakeModel, ModelProxy]:
    profile: Profile = replace(
        person.profile,
        runtime=(Root(CLAUDE, at=INSIDE),),
        model_socket=person.workspace.parent / "model.sock",
        **changes,
    )
    with serving(FakeModel(turns)) as model:
        proxy = model_proxy(model.url, "sk-real", budget_usd=5)
        assert profile.model_socket is not None
        async with proxy.serving(profile.model_socket):
            env = {**profile.environment(), **SETTINGS}
            done = await finish(await spawn(profile, [str(INSIDE), *WORDS], env, stdin=subprocess.DEVNULL), HANG)
    return done, model, proxy


def written(person: Person) -> Path:
    """Where on this machine lies what the last run wrote in the project."""
    (view,) = person.workspace.parent.glob("views-*/views/1")
    upper = view / "upper"
    return upper if upper.exists() else view / "copy"


def results(model: FakeModel) -> str:
    """What the last request says the tools returned."""
    out = []
    for message in model.seen[-1][2]["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_result":
                out.append(json.dumps(block["content"]))
    return "\n".join(out)


async def test_claude_answers_and_reads_and_writes(person: Person) -> None:
    turns = [
        call("Read", file_path=f"{person.reading}/notes.txt"),
        call("Write", file_path=f"{person.project}/new.txt", content="written"),
        call("Read", file_path=f"{person.ssh}/id_ed25519"),
        call("Write", file_path=f"{person.reading}/planted", content="x"),
        say("all done"),
    ]
    done, model, proxy = await claude(person, turns)
    assert done.code == 0, done.err
    assert json.loads(done.out)["result"] == "all done"
    assert (written(person) / "new.txt").read_text() == "written"
    assert not (person.reading / "planted").exists()
    said = results(model)
    assert "notes" in said and "ssh secret" not in said and "not exist" in said
    assert proxy.usage.requests == 5 and proxy.usage.refused == 0 and proxy.usage.cost_usd > 0
    assert {headers["x-api-key"] for _, headers, _ in model.seen} == {"sk-real"}


@pytest.mark.parametrize("home", [False, True])
async def test_claudes_shell_is_nested(person: Person, home: bool) -> None:
    if home:
        (person.workspace.parent / "home").mkdir()
    command = (
        "echo filters $(grep -c . /proc/self/status) $(grep Seccomp_filters /proc/self/status | tr -dc 0-9);"
        f"cat {person.ssh}/id_ed25519; cat {person.state}/device.key;"
        f"echo x > {person.reading}/planted; echo x > /usr/planted;"
        # Found by its command line: its process id is somebody else's in another namespace.
        "CLAUDE_PID=$(cd /proc; grep -ls '^/opt/[c]laude' [0-9]*/cmdline | head -1 | cut -d/ -f1);"
        "cat /proc/${CLAUDE_PID:-none}/environ && echo reached environ;"
        "echo > /proc/${CLAUDE_PID:-none}/fd/1 && echo reached stdout;"
        "kill -0 ${CLAUDE_PID:-none} && echo reached signal; echo x > /run/home/agent/.bashrc && echo reached home;"
        "python3 -c \"import socket as s; s.socket(s.AF_UNIX).connect('/run/dispatch/model.sock')\" "
        "&& echo reached model;"
        "python3 -c \"import socket as s; s.create_connection(('127.0.0.1', 8001), 1)\" && echo reached port;"
        f"echo fine > {person.project}/mine; echo home $HOME; sleep 300 & echo started"
    )
    changes = {"home": person.workspace.parent / "home"} if home else {}
    done, model, _ = await claude(person, [call("Bash", command=command, description="x"), say("ok")], **changes)
    assert done.code == 0, done.err
    said = results(model)
    assert "started" in said and "home /run/home/shell" in said, said
    assert "3;" in said.replace("\\n", ";") and "reached" not in said and "secret" not in said, said
    assert (written(person) / "mine").read_text() == "fine\n"
    assert not (person.reading / "planted").exists()
    if home:
        assert (person.workspace.parent / "home/.claude").is_dir()
