"""Whether a model's API takes a key, asked without a turn: what it says, and what is no answer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from peer.machine.installation import AGENT, ROOT
from sandbox import frames
from sandbox.errors import SandboxError
from sandbox.model_api.anthropic.api import AnthropicMessages
from sandbox.model_api.key_check import check_key
from tests.conftest import HANG
from tests.sandbox.fake_model import FakeModel, say, serving

KEY = "sk-made-up-for-this-test"


async def checked(model: FakeModel, key: str = KEY) -> str:
    return await check_key(AnthropicMessages(), frames.Model(base_url=model.url, api_key=key))


@pytest.mark.parametrize(
    ("status", "said"),
    [(200, "accepts the key"), (404, "only the first run shows"), (429, "only the first run shows"), (529, "(529)")],
)
async def test_what_it_answers_is_said(status: int, said: str) -> None:
    with serving(FakeModel([say("hello")])) as model:
        model.answer_with = (status, {}, b"{}")
        assert said in await checked(model)
    [(path, headers, _)] = model.seen
    assert path == "/v1/models?limit=1" and headers["x-api-key"] == KEY and headers["anthropic-version"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_is_an_error_without_the_key(status: int) -> None:
    with serving(FakeModel([say("hello")])) as model:
        model.answer_with = (status, {}, KEY.encode())
        with pytest.raises(SandboxError, match=f"rejects the key \\({status}\\)") as refused:
            await checked(model)
    assert refused.value.code == 401 and KEY not in str(refused.value.to_json())


async def test_a_token_goes_as_a_bearer_and_no_redirect_is_followed() -> None:
    with serving(FakeModel([say("hello")])) as model:
        model.answer_with = (302, {"location": f"{model.url}/elsewhere"}, b"")
        assert "(302)" in await checked(model, "Bearer made-up")
    [(_, headers, _)] = model.seen
    assert headers["authorization"] == "Bearer made-up" and "x-api-key" not in headers


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://name.invalid"])
async def test_where_nothing_answers_it_says_why(url: str) -> None:
    with pytest.raises(SandboxError, match="can't reach") as refused:
        await check_key(AnthropicMessages(), frames.Model(base_url=url, api_key=KEY))
    assert refused.value.code == 503


def test_the_program_takes_the_key_on_its_input_alone(tmp_path: Path) -> None:
    def ask(given: bytes) -> tuple[int, dict[str, object]]:
        done = subprocess.run(
            [*AGENT, "--model", "claude"], input=given, capture_output=True, cwd=ROOT, timeout=HANG, check=False
        )
        return done.returncode, json.loads(done.stdout)

    with serving(FakeModel([say("hello")])) as model:
        model.answer_with = (401, {}, b"")
        code, document = ask(json.dumps({"base_url": model.url, "api_key": KEY}).encode())
    assert code == 1 and document["error"]["code"] == 401  # type: ignore[index]
    assert ask(b"{}")[1]["error"]["code"] == 401  # type: ignore[index]
    assert ask(b"no model")[1]["error"]["code"] == 422  # type: ignore[index]
