"""`make record-model`: record what the pinned claude program sends to its model, and name what the door does not know.

Every session is a run of the real program in the real sandbox, with a scripted model. Bodies are recorded in front of
the door, long texts cut, one for each session and each further form, into claude_requests.jsonl. Members that
`sandbox/model_api/anthropic/body.py` lacks are printed: they are left out of what reaches the API until somebody has
read what they do there and adds them. Look at the difference before you commit it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

from sandbox import frames
from sandbox.model_api.anthropic import scripted_model
from sandbox.model_api.anthropic.requests import check_body
from sandbox.model_api.anthropic.scripted_model import ScriptedModel
from sandbox.model_api.interface import Allowance, Refused
from sandbox.policy.decision import GRANTABLE_TOOLS
from tests.sandbox.node import dp_agent, start
from tests.sandbox.test_mcp_bridge import server
from tests.sandbox.test_runtime_claude import DOCUMENT, KEY, PICTURE, tool

RECORDED = Path(__file__).with_name("claude_requests.jsonl")
SECONDS = 300.0
_CUT = 24
"""Characters of a text that are kept: it is the form that counts."""
_FULL = 400_000
"""Tokens that a scripted model claims to have read, so that the program compacts its conversation."""
_PATCH = """
from sandbox.model_api.anthropic import requests
check = requests.check_body
def recording(target, body, allowance):
    if "Agent" not in allowance.tools:  # that is the gate's proof, which has a door of its own
        with open({file!r}, "ab") as out:
            out.write(body.replace(b"\\n", b" ") + b"\\n")
    return check(target, body, allowance)
requests.check_body = recording
"""
READS = {"tools": [tool("Read", file_path="p.png"), tool("Read", file_path="p.pdf")]}
SHELL = {"text": "A shell.", "tools": [tool("Bash", command="echo hello")]}
THOUGHT = {"thinking": "I want to know.", **SHELL}
NOTE = {"tools": [tool("mcp__notes__say", text="hello")]}
FAILS = {"tools": [tool("Read", file_path="absent"), tool("Glob", pattern="*")]}
DONE = {"text": "Done."}
Turns = list[dict[str, Any]]
SESSIONS: list[tuple[str | None, Turns, bool]] = [
    (None, [READS, THOUGHT, FAILS, DONE], False),
    (None, [NOTE, DONE], False),
    ("claude-haiku-4-5", [READS, THOUGHT, DONE], False),
    ("claude-sonnet-4-5", [READS, THOUGHT, DONE], False),
    ("claude-sonnet-5", [READS, THOUGHT, DONE], False),
    ("claude-opus-4-8", [THOUGHT, DONE], False),
    ("claude-haiku-5-5", [SHELL, FAILS, SHELL, DONE], True),
    (None, [SHELL, FAILS, SHELL, DONE], True),
]
"""(model, turns, whether the context is soon full)."""


async def _session(name: str | None, turns: Turns, *, full: bool) -> list[dict[str, Any]]:
    tokens = scripted_model._tokens
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "bodies")
        if full:
            scripted_model._tokens = lambda text: _FULL
        try:
            model = ScriptedModel(turns, key=KEY)
            async with model.running(), dp_agent(patch=_PATCH.format(file=str(file)), within=SECONDS) as node:
                named = frames.Model(base_url=model.url, api_key=KEY, name=name)
                begin = start(
                    Path(folder),
                    runtime="claude",
                    approval="auto",
                    model=named,
                    mcp_servers=[server("say")],
                    budget=frames.Budget(usd=100_000),
                )
                Path(folder, "shop", "p.png").write_bytes(PICTURE)
                Path(folder, "shop", "p.pdf").write_bytes(DOCUMENT)
                finished = await node.run(begin)
        finally:
            scripted_model._tokens = tokens
        sys.stderr.write(f"{name or 'the default model'}: {finished.status} {finished.reason or ''}\n")
        # The run's folder has another name each time.
        return [json.loads(line) for line in file.read_text().replace(folder, "/run").splitlines()]


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _CUT + 1 else f"{value[:_CUT]}…"
    if isinstance(value, list):
        return [_cut(item) for item in value]
    return {key: _cut(item) for key, item in value.items()} if isinstance(value, dict) else value


def _forms(value: Any, path: str = "") -> Iterator[str]:
    """Every member in a body, with the kinds of the objects around it."""
    if isinstance(value, dict):
        path += f"<{value.get('type', value.get('role', ''))}>"
        for key, item in value.items():
            yield f"{path}.{key}"
            if key not in ("input", "input_schema"):
                yield from _forms(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _forms(item, f"{path}[]")


def _all_forms(body: dict[str, Any]) -> set[str]:
    counts = [] if "max_tokens" in body else ["a count of tokens"]
    return {*_forms(body), *counts}


async def record() -> tuple[list[dict[str, Any]], list[str]]:
    """Return the bodies to keep, and what the door says of them that somebody has to look at."""
    kept: list[dict[str, Any]] = []
    findings: list[str] = []
    seen: set[str] = set()
    allowance = Allowance(GRANTABLE_TOOLS, servers=frozenset({"notes"}))
    for name, turns, full in SESSIONS:
        bodies = [_cut(body) for body in await _session(name, turns, full=full)]
        for body in bodies:
            new = _all_forms(body) - seen
            seen |= new
            if new or body is bodies[-1]:
                kept.append(body)
            target = "/v1/messages" if "max_tokens" in body else "/v1/messages/count_tokens"
            try:
                left_out = check_body(target, json.dumps(body).encode(), allowance).left_out
            except Refused as refused:
                findings.append(f"refused: {refused.message}")
                continue
            findings += [f"left out: {member}" for member in left_out]
    # A body of an earlier recording stays for as long as nothing new has its form: whether a program compacts, say, is
    # its own choice.
    earlier = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    kept += [body for body in earlier if not _all_forms(body) <= seen]
    return kept, sorted(set(findings))


def main() -> None:
    kept, findings = trio.run(record)
    RECORDED.write_text("".join(json.dumps(body, ensure_ascii=False) + "\n" for body in kept))
    sys.stdout.write(f"{len(kept)} requests in {RECORDED.name}\n")
    sys.stdout.write("".join(f"{finding}\n" for finding in findings) or "nothing in them is new to the door\n")


if __name__ == "__main__":
    main()
